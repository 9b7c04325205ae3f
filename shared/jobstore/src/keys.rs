//! Every key in Redis, in one enum, with its value and its lifetime.

use photofinish_model::{JobId, Tenant};

/// A key; its name is the deployment's prefix and what [`Key::name`] adds. Keys that one script
/// touches together share the hash tag in braces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// Hash: `run`, `final` (0 or 1), `total`, `doc` (the snapshot without items), `names` (the
    /// items' ids), `started_at`.
    Head(&'a JobId),
    /// Hash: item → `r` (rendering), `y` (ready) or the settled state as JSON; pending: no field.
    Items(&'a JobId),
    /// Set: items that are stored.
    Stored(&'a JobId),
    /// Set: items that failed.
    Failed(&'a JobId),
    /// Hash: attempt → what it cost, as JSON; summed on reading.
    Usage(&'a JobId),
    /// Hash: `{run}.{part}` → the part's state as JSON, made by the caller.
    Parts(&'a JobId),
    /// Hash: id of an upload in parts → what it is, as JSON.
    Uploads(&'a JobId),
    /// Sorted set: what happened to a job, each event as JSON by its sequence.
    Events(&'a JobId),
    /// String: progress of the job was told a moment ago.
    Pace(&'a JobId),
    /// Sorted set: jobs of a tenant by the milliseconds of their creation.
    JobsOf(&'a Tenant),
    /// Set: `{job}/{run}` of every run in flight.
    InFlight,
    /// Sorted set: `{tenant}/{job}/{run}` by the milliseconds of its deadline.
    Deadlines,
    /// String: milliseconds at which this Redis first granted a slot of the endpoint.
    Epoch(&'a str),
    /// Sorted set: attempt → milliseconds until which somebody vouches for it.
    Slots(&'a str),
    /// Sorted set: holder → milliseconds until which its grant lasts.
    Grants(&'a str),
    /// Number: grants so far, for ageing.
    GrantCount(&'a str),
    /// Sorted set: `{priority}.{lane}` → milliseconds since which it waits unserved.
    Waiting(&'a str),
    /// Hash: `{priority}.{lane}` → the number of its newest mark; `next`: the last number.
    Marks(&'a str),
    /// Hash: priority → the lane that was served last.
    Served(&'a str),
    /// Hash: holder or attempt in a slot → the lane that it was granted for.
    SlotLanes(&'a str),
    /// Hash: operation → what its work takes and the samples behind it, as JSON.
    Estimates,
    /// String: `{turn}:{turn id}`, the newest that was received.
    Turn(&'a str),
    /// Hash: `doc`, `status`, `turn` (the newest that was received), `round` (milliseconds of the last replay), `base`
    /// (the number of the last attempt before it), and `a{n}` → the nth attempt as JSON.
    Delivery(&'a str),
    /// Sorted set: deliveries of a tenant by the milliseconds of their creation.
    DeliveriesOf(&'a Tenant),
    /// String: a webhook endpoint's streak of failed calls as JSON.
    Failing(&'a str),
    /// Hash: `v` (version, 0: known to be missing), `j` (JSON), `at` (milliseconds of the read).
    System(&'a str, &'a str),
    /// Sorted set: jobs of a tenant that have not ended, by the milliseconds until which
    /// they count.
    OpenJobs(&'a Tenant),
    /// String: microseconds at which a tenant's requests through one door are paid for.
    Rate(&'a Tenant, &'a str),
    /// Hash, of a tenant's day: `g` (GPU seconds), `c` (US dollars), `base` (what the bucket knew is
    /// in), `saved` (milliseconds of the last write to the bucket).
    Day(&'a Tenant, &'a str),
    /// Set: attempts that are counted in a tenant's day.
    DayCounted(&'a Tenant, &'a str),
    /// Sorted set: ended jobs of a tenant whose outputs are kept for a while, by the milliseconds of
    /// their end.
    EndedOutputs(&'a Tenant),
    /// Sorted set: ended jobs of a tenant that are kept for a while, by the milliseconds of their end.
    EndedJobs(&'a Tenant),
    /// String: the two sets hold all that the bucket holds.
    EndedWalked(&'a Tenant),
    /// String: a job's data is being deleted or was a moment ago; its id is not to be used again yet.
    Gone(&'a JobId),
    /// Hash: hash of an API key → milliseconds of its last use.
    KeysUsed,
    /// Hash: RunPod's endpoint → how it stands by the dispatcher's word, as JSON.
    Endpoints,
    /// String: somebody looks for what is kept too long.
    SweepTurn,
}

/// How long a kind of key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// `Settings::job_ttl` after the last change.
    Job,
    /// `Settings::delivery_ttl` after the last change.
    Delivery,
    /// Two days after the last receipt.
    Turn,
    /// Ten minutes after the read; trusted for 30 s of them.
    Copy,
    /// Three days after the last change.
    Day,
    /// As long as it says itself: a moment.
    Moment,
    /// For ever; its members go one by one.
    Endless,
}

/// Example keys with their lifetimes, for documents and tests.
pub const LIFETIMES: &[(&str, Lifetime)] = &[
    (
        "{job}:head, items, stored, failed, usage, parts, uploads, events",
        Lifetime::Job,
    ),
    ("{tenant:…}:jobs", Lifetime::Job),
    ("{flight}, {deadlines}, {estimates}", Lifetime::Endless),
    (
        "{endpoint:…}:epoch, slots, grants, count, waiting, marks, served, lanes",
        Lifetime::Endless,
    ),
    ("{turn:…}", Lifetime::Turn),
    (
        "{dlv_…}, {tenant:…}:deliveries, {whe_…}:failing",
        Lifetime::Delivery,
    ),
    ("{sys:…}", Lifetime::Copy),
    (
        "{tenant:…}:open, ended:outputs, ended:jobs, ended:walked; {keys}, {endpoints}",
        Lifetime::Endless,
    ),
    ("{tenant:…}:day:…, day:…:counted", Lifetime::Day),
    (
        "{tenant:…}:rate:…, {job}:gone, {job}:pace, {sweep}",
        Lifetime::Moment,
    ),
];

impl Key<'_> {
    /// The name under a prefix.
    pub fn name(&self, prefix: &str) -> String {
        match self {
            Self::Head(job) => format!("{prefix}{{{job}}}:head"),
            Self::Items(job) => format!("{prefix}{{{job}}}:items"),
            Self::Stored(job) => format!("{prefix}{{{job}}}:stored"),
            Self::Failed(job) => format!("{prefix}{{{job}}}:failed"),
            Self::Usage(job) => format!("{prefix}{{{job}}}:usage"),
            Self::Parts(job) => format!("{prefix}{{{job}}}:parts"),
            Self::Uploads(job) => format!("{prefix}{{{job}}}:uploads"),
            Self::Events(job) => format!("{prefix}{{{job}}}:events"),
            Self::Pace(job) => format!("{prefix}{{{job}}}:pace"),
            Self::JobsOf(tenant) => format!("{prefix}{{tenant:{tenant}}}:jobs"),
            Self::InFlight => format!("{prefix}{{flight}}"),
            Self::Deadlines => format!("{prefix}{{deadlines}}"),
            Self::Epoch(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:epoch"),
            Self::Slots(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:slots"),
            Self::Grants(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:grants"),
            Self::GrantCount(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:count"),
            Self::Waiting(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:waiting"),
            Self::Marks(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:marks"),
            Self::Served(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:served"),
            Self::SlotLanes(endpoint) => format!("{prefix}{{endpoint:{endpoint}}}:lanes"),
            Self::Estimates => format!("{prefix}{{estimates}}"),
            Self::Turn(key) => format!("{prefix}{{turn:{key}}}"),
            Self::Delivery(id) => format!("{prefix}{{{id}}}"),
            Self::DeliveriesOf(tenant) => format!("{prefix}{{tenant:{tenant}}}:deliveries"),
            Self::Failing(endpoint) => format!("{prefix}{{{endpoint}}}:failing"),
            Self::System(kind, id) => format!("{prefix}{{sys:{kind}:{id}}}"),
            Self::OpenJobs(tenant) => format!("{prefix}{{tenant:{tenant}}}:open"),
            Self::Rate(tenant, door) => format!("{prefix}{{tenant:{tenant}}}:rate:{door}"),
            Self::Day(tenant, day) => format!("{prefix}{{tenant:{tenant}}}:day:{day}"),
            Self::DayCounted(tenant, day) => {
                format!("{prefix}{{tenant:{tenant}}}:day:{day}:counted")
            }
            Self::EndedOutputs(tenant) => format!("{prefix}{{tenant:{tenant}}}:ended:outputs"),
            Self::EndedJobs(tenant) => format!("{prefix}{{tenant:{tenant}}}:ended:jobs"),
            Self::EndedWalked(tenant) => format!("{prefix}{{tenant:{tenant}}}:ended:walked"),
            Self::Gone(job) => format!("{prefix}{{{job}}}:gone"),
            Self::KeysUsed => format!("{prefix}{{keys}}"),
            Self::Endpoints => format!("{prefix}{{endpoints}}"),
            Self::SweepTurn => format!("{prefix}{{sweep}}"),
        }
    }

    /// How long it lives.
    pub fn lifetime(&self) -> Lifetime {
        match self {
            Self::Head(_)
            | Self::Items(_)
            | Self::Stored(_)
            | Self::Failed(_)
            | Self::Usage(_)
            | Self::Parts(_)
            | Self::Uploads(_)
            | Self::Events(_)
            | Self::JobsOf(_) => Lifetime::Job,
            Self::InFlight
            | Self::Deadlines
            | Self::Epoch(_)
            | Self::Slots(_)
            | Self::Grants(_)
            | Self::GrantCount(_)
            | Self::Waiting(_)
            | Self::Marks(_)
            | Self::Served(_)
            | Self::SlotLanes(_)
            | Self::OpenJobs(_)
            | Self::EndedOutputs(_)
            | Self::EndedJobs(_)
            | Self::EndedWalked(_)
            | Self::KeysUsed
            | Self::Endpoints
            | Self::Estimates => Lifetime::Endless,
            Self::Day(..) | Self::DayCounted(..) => Lifetime::Day,
            Self::Rate(..) | Self::Pace(_) | Self::Gone(_) | Self::SweepTurn => Lifetime::Moment,
            Self::Turn(_) => Lifetime::Turn,
            Self::Delivery(_) | Self::DeliveriesOf(_) | Self::Failing(_) => Lifetime::Delivery,
            Self::System(..) => Lifetime::Copy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_job_share_their_tag() {
        let job = JobId::from_random(1);
        let keys = [
            Key::Head(&job),
            Key::Items(&job),
            Key::Stored(&job),
            Key::Failed(&job),
            Key::Usage(&job),
            Key::Parts(&job),
            Key::Uploads(&job),
            Key::Events(&job),
        ];
        for key in keys {
            assert!(
                key.name("pf:").starts_with(&format!("pf:{{{job}}}:")),
                "{key:?}"
            );
            assert_eq!(key.lifetime(), Lifetime::Job);
        }
        assert_eq!(Key::Epoch("e").name(""), "{endpoint:e}:epoch");
    }
}
