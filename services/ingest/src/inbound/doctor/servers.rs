//! The servers that everything stands on: RabbitMQ, Redis, RunPod as the dispatcher sees it, the clocks.

use crate::core::Ingest;
use jiff::SignedDuration;
use photofinish_contract::doctor::{Check, State as Stands};
use photofinish_contract::endpoint::EndpointNote;
use photofinish_jobstore::RedisHealth;
use photofinish_runtime::error_chain;

/// The oldest RabbitMQ that can do it.
const BROKER_MIN: (u32, u32) = (3, 10);
/// The oldest Redis whose commands we use.
const REDIS_MIN: (u32, u32) = (6, 2);
/// A share of Redis' memory above which somebody should look.
const MEMORY_WARN: f64 = 0.8;
/// Clocks that differ by more sign URLs that are not good yet, or no longer.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(30);
/// An endpoint of which nobody has told for so long is not watched.
const NOTE_AGE_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Major and minor of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// RabbitMQ: the connections with the topology, and what its management API tells.
pub(super) async fn broker(ingest: &Ingest) -> Vec<Check> {
    const NAME: &str = "broker";
    let failing = ingest.health.failing();
    let why: Vec<String> = failing
        .into_iter()
        .filter(|(name, _)| name.starts_with("broker"))
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    let mut checks = vec![if ingest.broker.ready() && why.is_empty() {
        Check::ok(
            NAME,
            "connected, and every exchange and queue is as it must be",
        )
    } else {
        Check::not(
            NAME,
            Stands::Wrong,
            format!("not ready: {}", why.join("; ")),
            "Check broker.url. A 403 is a missing right: the user needs configure, write and read on everything of \
             the virtual host, or broker.declare = false and the definitions imported. A 406 is a queue that was \
             declared otherwise: delete it when it is empty.",
        )
    }];
    let Some(management) = &ingest.management else {
        checks.push(Check::not(
            "broker_server",
            Stands::Unknown,
            "version and alarms cannot be asked for",
            "Set broker.management_url, or look at `rabbitmq-diagnostics alarms` by hand.",
        ));
        return checks;
    };
    match management.health().await {
        Ok(health) => checks.extend(broker_server(&health.version, &health.alarms)),
        Err(error) => checks.push(Check::not(
            "broker_server",
            Stands::Warning,
            error_chain(&error),
            "Check broker.management_url: its user needs the tag administrator to make tenants' AMQP users.",
        )),
    }
    checks
}

fn broker_server(found: &str, alarms: &[String]) -> [Check; 2] {
    let good = version(found).is_some_and(|version| version >= BROKER_MIN);
    let version = if good {
        Check::ok("broker_version", format!("RabbitMQ {found}"))
    } else {
        Check::not(
            "broker_version",
            Stands::Wrong,
            format!("RabbitMQ {found}"),
            "Use RabbitMQ 3.10 or newer, best a current 4.x: older ones lose messages between quorum queues.",
        )
    };
    let alarms = if alarms.is_empty() {
        Check::ok(
            "broker_alarms",
            "every node runs, with memory and disk to spare",
        )
    } else {
        Check::not(
            "broker_alarms",
            Stands::Wrong,
            alarms.join("; "),
            "Nothing can be published while an alarm lasts: give the node memory or disk, or bring it back.",
        )
    };
    [version, alarms]
}

/// Redis, and how far its clock is from ours.
pub(super) async fn redis(ingest: &Ingest) -> Vec<Check> {
    match ingest.jobstore.health().await {
        Ok(health) => {
            let mut checks = redis_checks(&health).to_vec();
            checks.push(clock(health.now.duration_until(ingest.now())));
            checks
        }
        Err(error) => vec![Check::not(
            "redis",
            Stands::Wrong,
            error_chain(&error),
            "Check redis.url from where ingest runs. Jobs are taken meanwhile; nothing is granted a worker.",
        )],
    }
}

fn redis_checks(health: &RedisHealth) -> [Check; 4] {
    let found = format!("Redis {}", health.version);
    let good = version(&health.version).is_some_and(|version| version >= REDIS_MIN);
    let server = if good {
        Check::ok("redis", found)
    } else {
        let advice = "Use Redis 6.2 or newer.";
        Check::not("redis", Stands::Wrong, found, advice)
    };
    let eviction = if health.eviction == "noeviction" {
        Check::ok("redis_eviction", "noeviction")
    } else {
        Check::not(
            "redis_eviction",
            Stands::Wrong,
            format!("maxmemory-policy is {:?}", health.eviction),
            "Set maxmemory-policy noeviction: what is evicted are slots and records of jobs in flight.",
        )
    };
    let persistence = if health.append_only || health.snapshots {
        let how = if health.append_only {
            "an append-only file"
        } else {
            "snapshots"
        };
        Check::ok("redis_persistence", how)
    } else {
        Check::not(
            "redis_persistence",
            Stands::Warning,
            "nothing is written to disk",
            "Set appendonly yes: after a restart without it every job is rebuilt from the bucket, and no worker is \
             granted for a minute.",
        )
    };
    let share = health.memory_used as f64 / health.memory_max.max(1) as f64;
    let used = format!("{} MiB used", health.memory_used / (1 << 20));
    let memory = if health.memory_max == 0 {
        Check::ok("redis_memory", format!("{used}, no limit"))
    } else if share < MEMORY_WARN {
        Check::ok(
            "redis_memory",
            format!("{used}, {:.0} % of its limit", share * 100.0),
        )
    } else {
        Check::not(
            "redis_memory",
            Stands::Warning,
            format!("{used}, {:.0} % of its limit", share * 100.0),
            "Give Redis more memory, or keep records for a shorter time (redis.job_days): when it is full it refuses.",
        )
    };
    [server, eviction, persistence, memory]
}

fn clock(ahead: SignedDuration) -> Check {
    const NAME: &str = "clock";
    let apart = ahead.abs();
    let found = format!("{:.1} s from Redis' clock", apart.as_secs_f64());
    if apart <= SKEW_MAX {
        return Check::ok(NAME, found);
    }
    Check::not(
        NAME,
        Stands::Warning,
        found,
        "Run a time service on every machine: URLs that are signed by a wrong clock are refused.",
    )
}

/// RunPod's endpoints, by the dispatcher's word.
pub(super) async fn runpod(ingest: &Ingest) -> Vec<Check> {
    const NAME: &str = "runpod";
    let unknown = |found: String| {
        Check::not(
            NAME,
            Stands::Unknown,
            found,
            "Look whether the dispatcher runs and is ready: it alone speaks to RunPod.",
        )
    };
    let (Ok(notes), Ok(pauses)) = (ingest.endpoint_notes().await, ingest.pauses().await) else {
        return vec![unknown(
            "what the dispatcher tells cannot be read".to_owned(),
        )];
    };
    let now = ingest.now();
    let fresh = |note: &EndpointNote| note.at.duration_until(now) < NOTE_AGE_MAX;
    let checks: Vec<Check> = notes
        .iter()
        .filter(|(_, note)| fresh(note))
        .map(|(id, note)| endpoint(id, note, pauses.endpoints.contains(id)))
        .collect();
    if checks.is_empty() {
        return vec![unknown(
            "no dispatcher has told of an endpoint within a minute".to_owned(),
        )];
    }
    checks
}

fn endpoint(id: &str, note: &EndpointNote, paused: bool) -> Check {
    let name = format!("runpod_{id}");
    let found = format!("{} of {} attempts in flight", note.in_flight, note.capacity);
    let (found, advice) = if note.resting {
        let advice = "RunPod refuses or fails: see the dispatcher's log, the API key, and `photofinish endpoint health`.";
        (format!("{found}; it is left alone for a while"), advice)
    } else if note.short {
        let advice = "Jobs wait there and no worker is up: see `photofinish endpoint health`.";
        (format!("{found}; no worker is up"), advice)
    } else if paused {
        let advice = "Let it go on by PATCH /v1/admin/endpoints/{id} {\"paused\": false}.";
        (format!("{found}; paused by an operator"), advice)
    } else {
        return Check::ok(&name, found);
    };
    Check::not(&name, Stands::Warning, found, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_amiss_with_a_server_is_told_with_what_to_do() {
        let good = RedisHealth {
            version: "7.0.15".to_owned(),
            eviction: "noeviction".to_owned(),
            append_only: true,
            memory_used: 10,
            memory_max: 100,
            ..RedisHealth::default()
        };
        assert!(
            redis_checks(&good)
                .iter()
                .all(|check| check.state == Stands::Ok)
        );
        let bad = RedisHealth {
            version: "5.0.7".to_owned(),
            eviction: "allkeys-lru".to_owned(),
            append_only: false,
            memory_used: 90,
            ..good
        };
        let stands = redis_checks(&bad).map(|check| check.state);
        let (wrong, warning) = (Stands::Wrong, Stands::Warning);
        assert_eq!(stands, [wrong, wrong, warning, warning]);
        assert!(
            redis_checks(&bad)
                .iter()
                .all(|check| check.advice.is_some())
        );

        assert_eq!(broker_server("3.10.8", &[])[0].state, Stands::Ok);
        assert_eq!(broker_server("4.3.6", &[])[0].state, Stands::Ok);
        assert_eq!(broker_server("3.9.29", &[])[0].state, wrong);
        assert_eq!(
            broker_server("", &["rabbit@a is short of disk".to_owned()])[1].state,
            wrong
        );

        assert_eq!(clock(SignedDuration::from_secs(-5)).state, Stands::Ok);
        assert_eq!(clock(SignedDuration::from_secs(-31)).state, warning);

        let note = EndpointNote {
            at: jiff::Timestamp::UNIX_EPOCH,
            capacity: 5,
            in_flight: 1,
            short: false,
            resting: false,
        };
        assert_eq!(endpoint("e", &note, false).state, Stands::Ok);
        assert_eq!(endpoint("e", &note, true).state, warning);
        let resting = EndpointNote {
            resting: true,
            ..note
        };
        assert_eq!(endpoint("e", &resting, false).state, warning);
    }
}
