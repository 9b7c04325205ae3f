//! The lines of this process: what `model::line` decides, kept and counted.
//!
//! Guarantee: whoever has a [`Slot`] may make one call, and gives it back by being dropped at the latest. Nobody waits
//! here for longer than a moment. The limits are those of one process: two notifiers call a receiver twice as often at
//! most.
//! Not for: deliveries. What is sent away waits in RabbitMQ.

use crate::remembered::{Known, Share, rests};
use photofinish_broker::topology::Tier;
use photofinish_model::Tenant;
use photofinish_model::breaker::BreakerState;
use photofinish_model::line::{
    AT_HAND_MAX, AWAY_MIN, Ctx, Held, LinePolicy, Outcome, Shares, Verdict, Why, crowded,
};
use photofinish_runtime::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Who waits at hand looks again so often: a rate frees a call without anybody's doing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Who wants to call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// Tells one receiver from another.
    pub(crate) line: &'a str,
    pub(crate) tenant: &'a Tenant,
    /// The receiver's rate, if it has one.
    pub(crate) calls_per_s: Option<u32>,
    /// How often this message was sent away before.
    pub(crate) sent_away: u32,
}

/// No slot: come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away {
    /// When, in whole tiers.
    pub(crate) wait: Duration,
    pub(crate) why: Why,
}

/// The lines.
#[derive(Debug)]
pub(crate) struct Lines {
    policy: LinePolicy,
    shares: Shares,
    clock: Clock,
    known: Mutex<Known>,
}

enum Asked {
    Granted(Share, u64),
    AtHand(Share, Arc<Notify>),
    Away(Away),
}

/// The right to make one call.
#[derive(Debug)]
pub(crate) struct Slot {
    lines: Arc<Lines>,
    line: String,
    tenant: Tenant,
    share: Share,
    epoch: u64,
    went: Option<(Outcome, Duration)>,
}

impl Slot {
    /// The call is over.
    pub(crate) fn over(mut self, outcome: Outcome, took: Duration) {
        self.went = Some((outcome, took));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (outcome, took) = self.went.unwrap_or((Outcome::Unknown, Duration::ZERO));
        self.lines.give_back(self, outcome, took);
    }
}

impl Lines {
    pub(crate) fn new(policy: LinePolicy, shares: Shares, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            policy,
            shares,
            clock,
            known: Mutex::default(),
        })
    }

    /// Takes a slot, or tells when to come back.
    pub(crate) async fn take(self: &Arc<Self>, caller: Caller<'_>) -> Result<Slot, Away> {
        let until = Instant::now() + AT_HAND_MAX;
        let mut at_hand = None;
        loop {
            let (share, freed) = match self.ask(caller, at_hand.take()) {
                Asked::Granted(share, epoch) => return Ok(self.slot(caller, share, epoch)),
                Asked::Away(away) => {
                    sent_away(away.why);
                    return Err(away);
                }
                Asked::AtHand(share, freed) => (share, freed),
            };
            if Instant::now() >= until {
                self.leave(caller, share);
                let (why, times) = (Why::Busy, caller.sent_away.saturating_sub(2));
                sent_away(why);
                let wait = in_whole_tiers(crowded(times, self.clock.jitter()));
                return Err(Away { wait, why });
            }
            let look = until.min(Instant::now() + LOOK_EVERY);
            // Freed or not: it asks again.
            let _freed = tokio::time::timeout_at(look, freed.notified()).await;
            at_hand = Some(share);
        }
    }

    /// A slot that is free now, of a receiver whose newest call was answered; else nothing, and nothing is kept of the
    /// question.
    pub(crate) fn at_once(self: &Arc<Self>, caller: Caller<'_>) -> Option<Slot> {
        let now = self.clock.ticks();
        let ctx = self.ctx(now, caller.calls_per_s, 0.0);
        let known = self.lock();
        let free = known
            .lines
            .get(caller.line)
            .is_some_and(|entry| entry.line.is_well() && entry.line.may_go(caller.sent_away, &ctx));
        drop(known);
        if !free {
            return None;
        }
        match self.ask(caller, None) {
            Asked::Granted(share, epoch) => Some(self.slot(caller, share, epoch)),
            Asked::AtHand(share, _freed) => {
                self.leave(caller, share);
                None
            }
            Asked::Away(_) => None,
        }
    }

    fn slot(self: &Arc<Self>, caller: Caller<'_>, share: Share, epoch: u64) -> Slot {
        Slot {
            lines: self.clone(),
            line: caller.line.to_owned(),
            tenant: caller.tenant.clone(),
            share,
            epoch,
            went: None,
        }
    }

    fn ask(&self, caller: Caller<'_>, at_hand: Option<Share>) -> Asked {
        let (now, jitter) = (self.clock.ticks(), self.clock.jitter());
        let mut known = self.lock();
        if let Some(share) = at_hand {
            known.entry(caller.line, caller.tenant).line.leave();
            known.release(caller.tenant, share);
        }
        known.make_room(caller.line, now);
        let tenant = known.by_tenant.get(caller.tenant).copied();
        let tenant = tenant.unwrap_or_default();
        let held = Held {
            by_tenant: tenant.all,
            doubtful_of_tenant: tenant.doubtful,
            doubtful: known.doubtful,
        };
        let entry = known.entry(caller.line, caller.tenant);
        let (well, before) = (entry.line.is_well(), entry.line.breaker());
        let verdict = if self.shares.has_room(held, well) {
            let ctx = self.ctx(now, caller.calls_per_s, jitter);
            entry.line.ask(caller.sent_away, &ctx)
        } else {
            Verdict::Away {
                wait: crowded(caller.sent_away, jitter),
                why: Why::Crowded,
            }
        };
        say(caller.line, before, entry.line.breaker());
        let share = Share { doubtful: !well };
        match verdict {
            Verdict::Go { epoch } => {
                known.hold(caller.tenant, share);
                metrics::gauge!("photofinish_notifier_calls_under_way").increment(1);
                Asked::Granted(share, epoch)
            }
            Verdict::Soon => {
                entry.line.stay();
                let freed = entry.freed.clone();
                known.hold(caller.tenant, share);
                Asked::AtHand(share, freed)
            }
            Verdict::Away { wait, why } => {
                let wait = match why {
                    Why::Resting => in_one_tier(wait),
                    Why::Busy | Why::Crowded => in_whole_tiers(wait),
                };
                Asked::Away(Away { wait, why })
            }
        }
    }

    fn leave(&self, caller: Caller<'_>, share: Share) {
        let mut known = self.lock();
        known.entry(caller.line, caller.tenant).line.leave();
        known.release(caller.tenant, share);
    }

    fn give_back(&self, slot: &Slot, outcome: Outcome, took: Duration) {
        let (now, jitter) = (self.clock.ticks(), self.clock.jitter());
        let mut known = self.lock();
        known.release(&slot.tenant, slot.share);
        let entry = known.entry(&slot.line, &slot.tenant);
        let before = entry.line.breaker();
        let ctx = self.ctx(now, None, jitter);
        entry.line.over(slot.epoch, outcome, took, &ctx);
        say(&slot.line, before, entry.line.breaker());
        entry.freed.notify_one();
        metrics::gauge!("photofinish_notifier_calls_under_way").decrement(1);
    }

    fn ctx(&self, now: Duration, calls_per_s: Option<u32>, jitter: f64) -> Ctx<'_> {
        Ctx {
            now,
            policy: &self.policy,
            calls_per_s,
            jitter,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic between lock and unlock cannot leave half a line behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait of one hop, for what nobody computed to the second: the shortest tier that is half of it at least. Each hop
/// is a message more, and for a receiver that hangs there are many of them.
fn in_one_tier(wait: Duration) -> Duration {
    let tier = Tier::ALL.into_iter().find(|tier| tier.wait * 2 >= wait);
    tier.map_or(wait, |tier| tier.wait)
}

/// A wait of few hops: a multiple of the longest tier that is not longer.
fn in_whole_tiers(wait: Duration) -> Duration {
    let tier = Tier::within(wait).map_or(AWAY_MIN, |tier| tier.wait);
    let times = wait.as_millis().div_ceil(tier.as_millis().max(1));
    tier.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
}

fn sent_away(why: Why) {
    metrics::counter!("photofinish_notifier_sent_away_total", "why" => why.label()).increment(1);
}

/// Tells a breaker's change to logs and metrics.
fn say(line: &str, before: BreakerState, now: BreakerState) {
    if before.label() == now.label() {
        return;
    }
    let to = now.label();
    metrics::counter!("photofinish_notifier_breaker_transitions_total", "to" => to).increment(1);
    match (rests(before), rests(now)) {
        (false, true) => {
            metrics::gauge!("photofinish_notifier_receivers_resting").increment(1);
            tracing::info!(
                receiver = line,
                "a receiver keeps failing and is left alone for a while"
            );
        }
        (true, false) => {
            metrics::gauge!("photofinish_notifier_receivers_resting").decrement(1);
            tracing::info!(receiver = line, "a receiver answers again");
        }
        (true, true) | (false, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use photofinish_model::breaker::BreakerPolicy;

    const SECOND: Duration = Duration::from_secs(1);

    fn lines(clock: &Clock, shares: Shares) -> Arc<Lines> {
        let policy = LinePolicy {
            slots_max: 16,
            breaker: BreakerPolicy::default(),
        };
        Lines::new(policy, shares, clock.clone())
    }

    fn clock() -> Clock {
        Clock::standing_at(jiff::Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1))
    }

    const WIDE: Shares = Shares {
        tenant_max: 1000,
        doubtful_max: 1000,
    };

    fn caller<'a>(line: &'a str, tenant: &'a Tenant) -> Caller<'a> {
        Caller {
            line,
            tenant,
            calls_per_s: None,
            sent_away: 0,
        }
    }

    fn granted(lines: &Arc<Lines>, caller: Caller<'_>) -> bool {
        matches!(lines.ask(caller, None), Asked::Granted(..))
    }

    #[tokio::test]
    async fn who_waits_at_hand_gets_the_next_slot_and_what_is_dropped_is_given_back() {
        let (lines, acme) = (lines(&clock(), WIDE), "acme".parse().unwrap());
        let mut slots = Vec::new();
        for _ in 0..6 {
            slots.push(lines.take(caller("whe_1", &acme)).await.unwrap());
        }
        let mut waiting = std::pin::pin!(lines.take(caller("whe_1", &acme)));
        let soon = tokio::time::timeout(Duration::from_millis(150), &mut waiting).await;
        assert!(soon.is_err(), "six of its eight slots are for what is new");
        slots.pop().unwrap().over(Outcome::Answered, SECOND / 100);
        let slot = tokio::time::timeout(SECOND, waiting).await.unwrap();
        slots.push(slot.unwrap());
        drop(slots);
        let known = lines.lock();
        assert!(known.by_tenant.is_empty() && known.doubtful == 0);
        assert!(known.lines["whe_1"].line.is_quiet());
    }

    #[tokio::test]
    async fn who_waits_in_vain_is_sent_away_and_holds_nothing() {
        let (lines, acme) = (lines(&clock(), WIDE), "acme".parse().unwrap());
        let mut slots = Vec::new();
        for _ in 0..6 {
            slots.push(lines.take(caller("whe_1", &acme)).await.unwrap());
        }
        let away = lines.take(caller("whe_1", &acme)).await.unwrap_err();
        assert_eq!((away.wait, away.why), (AWAY_MIN, Why::Busy));
        assert_eq!(lines.lock().by_tenant[&acme].all, 6);
    }

    #[test]
    fn neither_a_tenant_nor_the_doubtful_hold_more_than_their_share() {
        let shares = Shares {
            tenant_max: 4,
            doubtful_max: 6,
        };
        let lines = lines(&clock(), shares);
        let [a, b, c]: [Tenant; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let crowded = |line: &str, tenant: &Tenant| match lines.ask(caller(line, tenant), None) {
            Asked::Away(away) => away.why == Why::Crowded,
            Asked::Granted(..) | Asked::AtHand(..) => false,
        };
        let mend = |line: &str| {
            let now = lines.ctx(SECOND, None, 0.5);
            let mut known = lines.lock();
            let line = &mut known.entry(line, &a).line;
            line.over(0, Outcome::Answered, SECOND, &now);
        };
        for line in ["a1", "a2", "a3"] {
            assert!(granted(&lines, caller(line, &a)));
        }
        assert!(crowded("a4", &a), "three doubtful ones of a tenant");
        mend("a4");
        assert!(granted(&lines, caller("a4", &a)), "one that has answered");
        assert!(crowded("a4", &a), "four of a tenant");
        for line in ["b1", "b2", "b3"] {
            assert!(granted(&lines, caller(line, &b)));
        }
        assert!(crowded("c1", &c), "six doubtful ones");
        mend("c1");
        assert!(granted(&lines, caller("c1", &c)));
    }

    #[test]
    fn who_is_left_alone_waits_for_one_hop() {
        for (wait_ms, whole_s) in [
            (1000, 1),
            (2000, 1),
            (3750, 5),
            (10_000, 5),
            (11_000, 30),
            (50_000, 30),
            (61_000, 120),
            (600_000, 600),
        ] {
            let whole = in_one_tier(Duration::from_millis(wait_ms));
            assert_eq!(whole.as_secs(), whole_s, "{wait_ms}");
        }
    }

    #[test]
    fn waits_take_few_hops() {
        for (wait_ms, whole_s) in [
            (1000, 1),
            (1001, 2),
            (4500, 5),
            (5001, 10),
            (29_000, 30),
            (31_000, 60),
            (130_000, 240),
            (600_000, 600),
        ] {
            let whole = in_whole_tiers(Duration::from_millis(wait_ms));
            assert_eq!(whole.as_secs(), whole_s, "{wait_ms}");
        }
    }
}
