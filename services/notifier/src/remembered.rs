//! What is remembered of lines, and who holds how much of them.
//!
//! Guarantee: a line that somebody holds is remembered; so are all others, up to [`LINES_MAX`]. Beyond that whose lines
//! are most pays for it first: no tenant makes us forget another's receivers, resting ones least of all, by naming
//! many hosts.
//! Not for: deciding who may call (`model::line`).

use photofinish_model::Tenant;
use photofinish_model::breaker::BreakerState;
use photofinish_model::line::Line;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Receivers that are remembered at most.
const LINES_MAX: usize = 10_000;
/// When some are forgotten, so many places are made at least.
const PLACES_MIN: usize = LINES_MAX / 8;

/// The lines, and what is held of them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) lines: HashMap<String, Entry>,
    pub(crate) by_tenant: HashMap<Tenant, OfTenant>,
    /// Held on doubtful lines.
    pub(crate) doubtful: u16,
}

/// A line.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) line: Line,
    /// Somebody's slot is free.
    pub(crate) freed: Arc<Notify>,
    tenant: Tenant,
}

/// What a tenant holds, and how much of it on doubtful lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct OfTenant {
    pub(crate) all: u16,
    pub(crate) doubtful: u16,
}

/// One share of a tenant's and, if its line was doubtful, of those.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) doubtful: bool,
}

impl Known {
    /// A line; a new one of this tenant if it is not known.
    pub(crate) fn entry(&mut self, line: &str, tenant: &Tenant) -> &mut Entry {
        if !self.lines.contains_key(line) {
            let entry = Entry {
                line: Line::default(),
                freed: Arc::default(),
                tenant: tenant.clone(),
            };
            self.lines.insert(line.to_owned(), entry);
        }
        self.lines
            .get_mut(line)
            .expect("it was there or was put there")
    }

    /// Forgets lines when one more would be too many: of the tenant that has most, those that nobody would miss, then
    /// all that nobody holds; then the same of everybody.
    pub(crate) fn make_room(&mut self, line: &str, now: Duration) {
        if self.lines.len() < LINES_MAX || self.lines.contains_key(line) {
            return;
        }
        let greedy = self.greediest();
        let of_greedy = |entry: &Entry| Some(&entry.tenant) == greedy.as_ref();
        self.forget(|entry| of_greedy(entry) && entry.line.is_forgettable(now));
        self.forget(of_greedy);
        self.forget(|entry| entry.line.is_forgettable(now));
        self.forget(|_| true);
    }

    fn greediest(&self) -> Option<Tenant> {
        let mut counts: HashMap<&Tenant, usize> = HashMap::new();
        for entry in self.lines.values() {
            *counts.entry(&entry.tenant).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(tenant, _)| tenant.clone())
    }

    /// Forgets such lines, of those that nobody holds, unless there is room enough.
    fn forget(&mut self, such: impl Fn(&Entry) -> bool) {
        if self.lines.len() + PLACES_MIN <= LINES_MAX {
            return;
        }
        self.lines.retain(|_, entry| {
            let kept = !entry.line.is_quiet() || !such(entry);
            if !kept && rests(entry.line.breaker()) {
                metrics::gauge!("photofinish_notifier_receivers_resting").decrement(1);
            }
            kept
        });
    }

    /// One more is held.
    pub(crate) fn hold(&mut self, tenant: &Tenant, share: Share) {
        let held = self.by_tenant.entry(tenant.clone()).or_default();
        held.all += 1;
        held.doubtful += u16::from(share.doubtful);
        self.doubtful += u16::from(share.doubtful);
    }

    /// One less.
    pub(crate) fn release(&mut self, tenant: &Tenant, share: Share) {
        self.doubtful = self.doubtful.saturating_sub(u16::from(share.doubtful));
        if let Some(held) = self.by_tenant.get_mut(tenant) {
            held.all = held.all.saturating_sub(1);
            held.doubtful = held.doubtful.saturating_sub(u16::from(share.doubtful));
            if held.all == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }
}

/// Whether a line with such a breaker is left alone.
pub(crate) fn rests(state: BreakerState) -> bool {
    match state {
        BreakerState::Closed { .. } => false,
        BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_model::breaker::BreakerPolicy;
    use photofinish_model::line::{Ctx, LinePolicy, Outcome, Verdict};

    const POLICY: LinePolicy = LinePolicy {
        slots_max: 16,
        breaker: BreakerPolicy {
            failures_max: 1,
            open_min: Duration::from_mins(1),
            open_max: Duration::from_mins(1),
        },
    };

    fn ctx() -> Ctx<'static> {
        Ctx {
            now: Duration::ZERO,
            policy: &POLICY,
            calls_per_s: None,
            jitter: 0.5,
        }
    }

    /// A call is under way.
    fn called(known: &mut Known, line: &str, tenant: &Tenant) -> u64 {
        known.make_room(line, Duration::ZERO);
        match known.entry(line, tenant).line.ask(0, &ctx()) {
            Verdict::Go { epoch } => epoch,
            Verdict::Soon | Verdict::Away { .. } => panic!("no slot of {line}"),
        }
    }

    fn failed(known: &mut Known, line: &str, tenant: &Tenant) {
        let epoch = called(known, line, tenant);
        let outcome = Outcome::Failed { retry_after: None };
        let entry = known.entry(line, tenant);
        entry.line.over(epoch, outcome, Duration::ZERO, &ctx());
    }

    #[test]
    fn who_names_many_hosts_makes_us_forget_no_others() {
        let [acme, other]: [Tenant; 2] = ["acme", "other"].map(|name| name.parse().unwrap());
        let mut known = Known::default();
        failed(&mut known, "other rests", &other);
        known.entry("other is quiet", &other);
        called(&mut known, "acme is called", &acme);
        for number in 0..2 * LINES_MAX {
            let name = format!("acme {number}");
            // Resting ones: none of them is forgettable.
            failed(&mut known, &name, &acme);
            assert!(known.lines.len() <= LINES_MAX);
        }
        for kept in ["other rests", "other is quiet", "acme is called"] {
            assert!(known.lines.contains_key(kept), "{kept}");
        }
        assert!(rests(known.lines["other rests"].line.breaker()));
    }

    #[test]
    fn many_tenants_with_a_line_each_find_room() {
        let mut known = Known::default();
        for number in 0..LINES_MAX + 10 {
            let tenant: Tenant = format!("t{number}").parse().unwrap();
            known.make_room(tenant.as_str(), Duration::ZERO);
            known.entry(tenant.as_str(), &tenant);
            assert!(known.lines.len() <= LINES_MAX);
        }
    }
}
