//! A line: the way to one receiver of webhooks, and who may call over it when.
//!
//! The nouns: a *slot* of a line is the right to have one call under way; a line *earns* slots by calls that are
//! answered and loses half of them by one that is not. A message that finds no slot waits *at hand* for a moment, or
//! is *sent away* and comes back later. A line is *well* when its newest call was answered soon. [`Shares`] are what lines
//! may hold together.
//!
//! The guarantee: never are more calls under way than the line has slots, never more in a second than its rate (and
//! a second's worth at once); while its breaker rests nothing goes out, then one call tries it. What was sent away
//! finds a quarter of the slots kept for it, so that what is new does not starve it; and slots that nobody else wants
//! are anybody's. No wait is shorter than [`AWAY_MIN`] or longer than [`AWAY_MAX`].
//!
//! Not for: what becomes of a delivery after a call (`delivery`); being sent away spends none of its tries.

use crate::breaker::{
    Admission, Breaker, BreakerContext, BreakerEvent, BreakerPolicy, BreakerState,
};
use std::time::Duration;

/// The longest wait at hand: beyond it a message is sent away.
pub const AT_HAND_MAX: Duration = Duration::from_secs(1);
/// The shortest time for which a message is sent away.
pub const AWAY_MIN: Duration = Duration::from_secs(1);
/// And the longest.
pub const AWAY_MAX: Duration = Duration::from_mins(10);
/// Who is sent away by a resting breaker stays away for so long at least, and twice as long each time.
const RESTING_MIN: Duration = Duration::from_secs(5);
/// Slots of a line of which nothing is known.
const EARNED_FIRST: u16 = 8;
/// How long a call of such a line is expected to take.
const PACE_FIRST: Duration = Duration::from_millis(100);
/// A newer call counts for one part in so many of the pace.
const PACE_PARTS: u32 = 8;
/// A line whose newest call took longer is not well, even if it was answered: it keeps others waiting.
pub const SWIFT_MAX: Duration = Duration::from_secs(2);
/// So much may be called at once that a rate spreads over a longer time.
const BURST: Duration = Duration::from_secs(1);
/// The highest rate; the lowest is one call a second.
pub const CALLS_PER_S_MAX: u32 = 10_000;

/// What holds for every line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinePolicy {
    /// Calls of one receiver under way at once, at most.
    pub slots_max: u16,
    /// When calls that fail bring all of a line's to rest.
    pub breaker: BreakerPolicy,
}

/// What a decision is made from, beside the line.
#[derive(Debug, Clone, Copy)]
pub struct Ctx<'a> {
    /// Now, counted from the same begin always, by a clock that nobody sets back.
    pub now: Duration,
    /// The policy.
    pub policy: &'a LinePolicy,
    /// The receiver's rate, if it has one.
    pub calls_per_s: Option<u32>,
    /// Drawn from 0..1.
    pub jitter: f64,
}

/// The answer to who asks for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Call, and tell how it went with this epoch ([`Line::over`]).
    Go {
        /// Of the breaker.
        epoch: u64,
    },
    /// A slot is free within [`AT_HAND_MAX`], as far as one can tell: wait for it at hand.
    Soon,
    /// Come back later.
    Away {
        /// When.
        wait: Duration,
        /// Why.
        why: Why,
    },
}

/// Why a message was sent away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The receiver keeps failing, and is left alone for a while.
    Resting,
    /// As many calls are under way as the receiver gets, or it has a rate.
    Busy,
    /// Its tenant, or all receivers that are not known to be well, hold as much as they may.
    Crowded,
}

impl Why {
    /// A word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Resting => "resting",
            Self::Busy => "busy",
            Self::Crowded => "crowded",
        }
    }
}

/// How a call went, as far as the line cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered, be it with a refusal.
    Answered,
    /// It did not, or with a fault of its own, or that it is called too often.
    Failed {
        /// The wait that it asked for.
        retry_after: Option<Duration>,
    },
    /// No call was made after all.
    Unknown,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    breaker: Breaker,
    well: bool,
    earned: u16,
    under_way: u16,
    at_hand: u16,
    /// How long a call takes, smoothed.
    pace: Duration,
    /// By then the calls that were made are within the rate.
    paid_until: Duration,
    /// By then those who were sent away will have been served.
    promised_until: Duration,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            breaker: Breaker::default(),
            well: false,
            earned: EARNED_FIRST,
            under_way: 0,
            at_hand: 0,
            pace: PACE_FIRST,
            paid_until: Duration::ZERO,
            promised_until: Duration::ZERO,
        }
    }
}

impl Line {
    /// Whether its newest call was answered within [`SWIFT_MAX`].
    pub fn is_well(&self) -> bool {
        self.well
    }

    /// Calls under way.
    pub fn under_way(&self) -> u16 {
        self.under_way
    }

    /// Where its breaker stands.
    pub fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// Nobody holds anything of it.
    pub fn is_quiet(&self) -> bool {
        self.under_way == 0 && self.at_hand == 0
    }

    /// And nothing of it is worth remembering, but the slots that it has earned.
    pub fn is_forgettable(&self, now: Duration) -> bool {
        let closed = self.breaker.state() == BreakerState::Closed { failures: 0 };
        self.is_quiet() && closed && self.paid_until <= now && self.promised_until <= now
    }

    /// Whether who asks now would be told [`Verdict::Go`].
    pub fn may_go(&self, sent_away: u32, ctx: &Ctx<'_>) -> bool {
        self.breaker.refused_for(ctx.now).is_none()
            && self.unpaid(sent_away, ctx).is_zero()
            && self.under_way < self.slots_for(sent_away, ctx.policy)
    }

    /// Somebody asks for a slot who was sent away so often before.
    pub fn ask(&mut self, sent_away: u32, ctx: &Ctx<'_>) -> Verdict {
        if let Some(rest) = self.breaker.refused_for(ctx.now) {
            return Verdict::Away {
                wait: backed_off(rest, sent_away, ctx.jitter),
                why: Why::Resting,
            };
        }
        let one = ctx.calls_per_s.map(time_of_one);
        let unpaid = self.unpaid(sent_away, ctx);
        if unpaid.is_zero() && self.under_way < self.slots_for(sent_away, ctx.policy) {
            return self.go(one, ctx);
        }
        let each = (self.pace / u32::from(self.earned.max(1))).max(one.unwrap_or_default());
        let before = if sent_away == 0 {
            self.promised_until.saturating_sub(ctx.now)
        } else {
            Duration::ZERO
        };
        let wait = (before + each * (u32::from(self.at_hand) + 1)).max(unpaid);
        if wait <= AT_HAND_MAX {
            return Verdict::Soon;
        }
        let wait = if sent_away == 0 {
            self.promised_until = (ctx.now + before + each).min(ctx.now + AWAY_MAX);
            wait
        } else {
            // Its turn has come: it looks again as soon as a call may be over, then less and less often.
            crowded(sent_away.saturating_sub(2), ctx.jitter)
                .max(each)
                .max(unpaid)
        };
        Verdict::Away {
            wait: wait.clamp(AWAY_MIN, AWAY_MAX),
            why: Why::Busy,
        }
    }

    /// Somebody who was told [`Verdict::Soon`] waits at hand.
    pub fn stay(&mut self) {
        self.at_hand = self.at_hand.saturating_add(1);
    }

    /// And waits no more: it asks again, or gives up.
    pub fn leave(&mut self) {
        self.at_hand = self.at_hand.saturating_sub(1);
    }

    /// A call is over, after so long.
    pub fn over(&mut self, epoch: u64, outcome: Outcome, took: Duration, ctx: &Ctx<'_>) {
        self.under_way = self.under_way.saturating_sub(1);
        let event = match outcome {
            Outcome::Answered => {
                self.well = took <= SWIFT_MAX;
                self.earned = self.earned.saturating_add(1).min(ctx.policy.slots_max);
                BreakerEvent::Answered { epoch }
            }
            Outcome::Failed { retry_after } => {
                self.well = false;
                self.earned = (self.earned / 2).max(1);
                BreakerEvent::Failed { epoch, retry_after }
            }
            Outcome::Unknown => BreakerEvent::Abandoned { epoch },
        };
        if outcome != Outcome::Unknown {
            self.pace = (self.pace * (PACE_PARTS - 1) + took) / PACE_PARTS;
        }
        self.step(event, ctx);
    }

    fn go(&mut self, one: Option<Duration>, ctx: &Ctx<'_>) -> Verdict {
        match self.step(BreakerEvent::Asked, ctx) {
            Some(Admission::Granted { epoch }) => {
                self.under_way += 1;
                if let Some(one) = one {
                    self.paid_until = self.paid_until.max(ctx.now) + one;
                }
                Verdict::Go { epoch }
            }
            // Not so a moment ago, so it cannot be; and if it were, waiting is harmless.
            Some(Admission::Refused { .. }) | None => Verdict::Soon,
        }
    }

    fn step(&mut self, event: BreakerEvent, ctx: &Ctx<'_>) -> Option<Admission> {
        let context = BreakerContext {
            now: ctx.now,
            policy: &ctx.policy.breaker,
            jitter: ctx.jitter,
        };
        let step = self.breaker.step(event, &context);
        self.breaker = step.next;
        step.admission
    }

    fn slots_for(&self, sent_away: u32, policy: &LinePolicy) -> u16 {
        let all = match self.breaker.state() {
            BreakerState::Closed { .. } => self.earned.min(policy.slots_max),
            // The breaker lets one call out; those from before it rested may still be under way.
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => policy.slots_max,
        };
        if sent_away == 0 { all - all / 4 } else { all }
    }

    /// How long until one more call is within the rate. What is new leaves half of a burst to those who come back.
    fn unpaid(&self, sent_away: u32, ctx: &Ctx<'_>) -> Duration {
        let Some(one) = ctx.calls_per_s.map(time_of_one) else {
            return Duration::ZERO;
        };
        let burst = BURST.saturating_sub(one);
        let burst = if sent_away == 0 { burst / 2 } else { burst };
        self.paid_until
            .saturating_sub(ctx.now)
            .saturating_sub(burst)
    }
}

/// What the lines of one process may hold together, at hand or under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// All lines of one tenant.
    pub tenant_max: u16,
    /// All lines that are not known to be well, half of it for those of one tenant: the rest is for those that are.
    pub doubtful_max: u16,
}

/// What is held of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// By the tenant that asks.
    pub by_tenant: u16,
    /// By its doubtful lines.
    pub doubtful_of_tenant: u16,
    /// By all doubtful lines.
    pub doubtful: u16,
}

impl Shares {
    /// Whether one more may be held, by a line that is well or not.
    pub fn has_room(&self, held: Held, well: bool) -> bool {
        let doubtful = held.doubtful < self.doubtful_max
            && held.doubtful_of_tenant < self.doubtful_max.div_ceil(2);
        held.by_tenant < self.tenant_max && (well || doubtful)
    }
}

/// For how long somebody is sent away whose share is used up.
pub fn crowded(sent_away: u32, jitter: f64) -> Duration {
    doubled(AWAY_MIN, sent_away.min(5), jitter)
}

fn backed_off(rest: Duration, sent_away: u32, jitter: f64) -> Duration {
    doubled(RESTING_MIN, sent_away, jitter).max(rest.clamp(AWAY_MIN, AWAY_MAX))
}

/// Twice as long each time, a quarter shorter or longer.
fn doubled(least: Duration, times: u32, jitter: f64) -> Duration {
    let factor = 2_u32.checked_pow(times).unwrap_or(u32::MAX);
    let full = least.saturating_mul(factor).min(AWAY_MAX);
    full.mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
        .clamp(AWAY_MIN, AWAY_MAX)
}

fn time_of_one(calls_per_s: u32) -> Duration {
    Duration::from_secs(1) / calls_per_s.max(1)
}
