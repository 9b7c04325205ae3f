//! A circuit breaker as a decision: what happened and when → whether the next call may go out.
//!
//! A [`Breaker`] is closed (calls go out), open (none does until an instant), or half open (one
//! probe is under way, all else is refused). It opens after so many failures in a row, stays open
//! for a back-off with jitter that doubles with each failed probe, and closes with the first
//! answer that a probe gets.
//!
//! Guarantees, tested as laws: never two probes at once; the result of a call that was let out
//! before the last change changes nothing; an open breaker lets a probe out after a bounded time.
//! Pure: time and dice are parameters. Not for deciding what a failure is: the caller does.

use std::time::Duration;

/// A wait that the other side asks for is believed up to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// What is told to those who are refused while a probe is under way: look again soon.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// When a breaker opens and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it. 0: it never opens.
    pub failures_max: u32,
    /// How long it is open the first time, before jitter.
    pub open_min: Duration,
    /// How long it is open at most, unless the other side asks for more.
    pub open_max: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures_max: 5,
            open_min: Duration::from_secs(5),
            open_max: Duration::from_mins(1),
        }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go out.
    Closed {
        /// Failures since the last answer.
        failures: u32,
    },
    /// No call goes out.
    Open {
        /// Until this instant, counted from a begin of the caller's choice.
        until: Duration,
        /// How often it has opened without closing in between, from 1.
        times: u32,
    },
    /// One probe is under way.
    HalfOpen {
        /// How often it has opened without closing in between, from 1.
        times: u32,
    },
}

impl BreakerState {
    /// A word for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
        }
    }
}

/// What a breaker is told. `epoch` is that of the admission that the call was let out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerEvent {
    /// Somebody wants to call.
    Asked,
    /// The other side answered, be it with a refusal of its own.
    Answered {
        /// The call's epoch.
        epoch: u64,
    },
    /// The other side did not answer, or with a fault, or that it is asked too often.
    Failed {
        /// The call's epoch.
        epoch: u64,
        /// The wait that it asked for.
        retry_after: Option<Duration>,
    },
    /// The call was given up by its caller: nothing is known.
    Abandoned {
        /// The call's epoch.
        epoch: u64,
    },
}

/// The answer to [`BreakerEvent::Asked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go, and tell how it went with this epoch.
    Granted {
        /// For the result's event.
        epoch: u64,
    },
    /// Do not call.
    Refused {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// What a decision is made from, beside state and event.
#[derive(Debug, Clone, Copy)]
pub struct BreakerContext<'a> {
    /// Now, counted from the same begin always.
    pub now: Duration,
    /// The policy.
    pub policy: &'a BreakerPolicy,
    /// Drawn from 0..1.
    pub jitter: f64,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStep {
    /// The state from now on.
    pub next: Breaker,
    /// Set for [`BreakerEvent::Asked`], else not.
    pub admission: Option<Admission>,
}

/// A breaker: its state, and a number that is one higher after each change of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    epoch: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: BreakerState::Closed { failures: 0 },
            epoch: 0,
        }
    }
}

impl Breaker {
    /// Where it stands.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// For how long a call would be refused now; `None` if it would go out.
    pub fn refused_for(&self, now: Duration) -> Option<Duration> {
        match self.state {
            BreakerState::Closed { .. } => None,
            BreakerState::Open { until, .. } => {
                Some(until.saturating_sub(now)).filter(|wait| !wait.is_zero())
            }
            BreakerState::HalfOpen { .. } => Some(PROBE_PAUSE),
        }
    }

    /// The decision.
    pub fn step(&self, event: BreakerEvent, context: &BreakerContext<'_>) -> BreakerStep {
        match event {
            BreakerEvent::Asked => self.asked(context.now),
            BreakerEvent::Answered { epoch }
            | BreakerEvent::Failed { epoch, .. }
            | BreakerEvent::Abandoned { epoch }
                if epoch != self.epoch =>
            {
                told(*self)
            }
            BreakerEvent::Answered { .. } => told(self.answered()),
            BreakerEvent::Failed { retry_after, .. } => told(self.failed(retry_after, context)),
            BreakerEvent::Abandoned { .. } => told(self.abandoned(context.now)),
        }
    }

    fn asked(&self, now: Duration) -> BreakerStep {
        if let Some(retry_after) = self.refused_for(now) {
            return BreakerStep {
                next: *self,
                admission: Some(Admission::Refused { retry_after }),
            };
        }
        let next = match self.state {
            BreakerState::Open { times, .. } => self.change(BreakerState::HalfOpen { times }),
            BreakerState::Closed { .. } | BreakerState::HalfOpen { .. } => *self,
        };
        BreakerStep {
            next,
            admission: Some(Admission::Granted { epoch: next.epoch }),
        }
    }

    fn answered(&self) -> Self {
        match self.state {
            // Not a change: calls that are under way still count.
            BreakerState::Closed { .. } => Self {
                state: BreakerState::Closed { failures: 0 },
                epoch: self.epoch,
            },
            BreakerState::HalfOpen { .. } => self.change(BreakerState::Closed { failures: 0 }),
            BreakerState::Open { .. } => *self,
        }
    }

    fn failed(&self, retry_after: Option<Duration>, context: &BreakerContext<'_>) -> Self {
        let opened = |times: u32| {
            let pause = pause(times, retry_after, context);
            self.change(BreakerState::Open {
                until: context.now + pause,
                times,
            })
        };
        match self.state {
            BreakerState::Closed { failures } => {
                let failures = failures.saturating_add(1);
                let max = context.policy.failures_max;
                if max > 0 && failures >= max {
                    return opened(1);
                }
                Self {
                    state: BreakerState::Closed { failures },
                    epoch: self.epoch,
                }
            }
            BreakerState::HalfOpen { times } => opened(times.saturating_add(1)),
            BreakerState::Open { .. } => *self,
        }
    }

    /// The next who asks may probe in its stead.
    fn abandoned(&self, now: Duration) -> Self {
        match self.state {
            BreakerState::HalfOpen { times } => {
                self.change(BreakerState::Open { until: now, times })
            }
            BreakerState::Closed { .. } | BreakerState::Open { .. } => *self,
        }
    }

    fn change(&self, state: BreakerState) -> Self {
        Self {
            state,
            epoch: self.epoch + 1,
        }
    }
}

fn told(next: Breaker) -> BreakerStep {
    BreakerStep {
        next,
        admission: None,
    }
}

/// Between half and all of `open_min * 2^(times - 1)`, and never less than the other side asks for.
fn pause(times: u32, retry_after: Option<Duration>, context: &BreakerContext<'_>) -> Duration {
    let policy = context.policy;
    let factor = 2_u32
        .checked_pow(times.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let full = policy.open_min.saturating_mul(factor).min(policy.open_max);
    let drawn = full.mul_f64(0.5 + 0.5 * context.jitter.clamp(0.0, 1.0));
    let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    drawn.max(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures_max: 3,
        open_min: Duration::from_secs(4),
        open_max: Duration::from_secs(20),
    };

    fn at(seconds: u64) -> BreakerContext<'static> {
        BreakerContext {
            now: Duration::from_secs(seconds),
            policy: &POLICY,
            jitter: 1.0,
        }
    }

    /// Asks; the epoch if it may go.
    fn ask(breaker: &mut Breaker, context: &BreakerContext<'_>) -> Result<u64, Duration> {
        let step = breaker.step(BreakerEvent::Asked, context);
        *breaker = step.next;
        match step.admission {
            Some(Admission::Granted { epoch }) => Ok(epoch),
            Some(Admission::Refused { retry_after }) => Err(retry_after),
            None => panic!("asked and not answered"),
        }
    }

    fn fail(breaker: &mut Breaker, epoch: u64, context: &BreakerContext<'_>) {
        let event = BreakerEvent::Failed {
            epoch,
            retry_after: None,
        };
        *breaker = breaker.step(event, context).next;
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            let epoch = ask(&mut breaker, &at(0)).unwrap();
            fail(&mut breaker, epoch, &at(0));
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        assert_eq!(opened().state().label(), "open");
        let mut breaker = Breaker::default();
        for _ in 0..50 {
            for _ in 0..2 {
                let epoch = ask(&mut breaker, &at(0)).unwrap();
                fail(&mut breaker, epoch, &at(0));
            }
            let epoch = ask(&mut breaker, &at(0)).unwrap();
            breaker = breaker.step(BreakerEvent::Answered { epoch }, &at(0)).next;
        }
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
    }

    #[test]
    fn one_probe_goes_out_when_the_time_is_over_and_decides() {
        let mut breaker = opened();
        assert_eq!(ask(&mut breaker, &at(3)), Err(Duration::from_secs(1)));
        let probe = ask(&mut breaker, &at(4)).unwrap();
        assert_eq!(breaker.state().label(), "half_open");
        assert_eq!(ask(&mut breaker, &at(4)), Err(PROBE_PAUSE));
        fail(&mut breaker, probe, &at(5));
        let until = Duration::from_secs(13);
        assert_eq!(breaker.state(), BreakerState::Open { until, times: 2 });
        let probe = ask(&mut breaker, &at(13)).unwrap();
        let event = BreakerEvent::Answered { epoch: probe };
        breaker = breaker.step(event, &at(13)).next;
        assert_eq!(breaker.state().label(), "closed");
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept_up_to_ten_minutes() {
        for (asked, until) in [(1, 4), (90, 90), (86_400, 600)] {
            let mut breaker = Breaker::default();
            for _ in 0..3 {
                let epoch = ask(&mut breaker, &at(0)).unwrap();
                let event = BreakerEvent::Failed {
                    epoch,
                    retry_after: Some(Duration::from_secs(asked)),
                };
                breaker = breaker.step(event, &at(0)).next;
            }
            let refused = breaker.refused_for(Duration::ZERO);
            assert_eq!(refused, Some(Duration::from_secs(until)));
        }
    }

    #[test]
    fn a_policy_of_zero_never_opens() {
        let policy = BreakerPolicy {
            failures_max: 0,
            ..POLICY
        };
        let context = BreakerContext {
            policy: &policy,
            ..at(0)
        };
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            let epoch = ask(&mut breaker, &context).unwrap();
            fail(&mut breaker, epoch, &context);
        }
        assert!(ask(&mut breaker, &context).is_ok());
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Ask,
        Answer(usize),
        Fail(usize, Option<u64>),
        Abandon(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Ask),
            1 => (0..8_usize).prop_map(Act::Answer),
            3 => (0..8_usize, proptest::option::of(0..100_000_u64)).prop_map(|(n, s)| Act::Fail(n, s)),
            1 => (0..8_usize).prop_map(Act::Abandon),
        ]
    }

    /// Checks the laws of one step.
    fn lawful(before: Breaker, event: BreakerEvent, step: &BreakerStep, now: Duration) {
        let refused = before.refused_for(now);
        match (event, step.admission) {
            (BreakerEvent::Asked, Some(Admission::Granted { epoch })) => {
                assert!(refused.is_none() && epoch == step.next.epoch);
            }
            (BreakerEvent::Asked, Some(Admission::Refused { retry_after })) => {
                assert_eq!((Some(retry_after), step.next), (refused, before));
                assert!(retry_after <= RETRY_AFTER_MAX && !retry_after.is_zero());
            }
            (BreakerEvent::Asked, None) => panic!("asked and not answered"),
            (
                BreakerEvent::Answered { epoch }
                | BreakerEvent::Failed { epoch, .. }
                | BreakerEvent::Abandoned { epoch },
                admission,
            ) => {
                assert!(admission.is_none());
                assert!(epoch == before.epoch || step.next == before, "stale");
            }
        }
        if let BreakerState::Open { until, .. } = step.next.state {
            assert!(until <= now + RETRY_AFTER_MAX, "bounded");
        }
        let changed = before.state.label() != step.next.state.label();
        assert_eq!(step.next.epoch, before.epoch + u64::from(changed));
    }

    proptest! {
        #[test]
        fn the_laws_hold(acts in proptest::collection::vec((act(), 0..5_000_u64, 0.0..1.0_f64), 0..200)) {
            let mut breaker = Breaker::default();
            let mut under_way: Vec<u64> = Vec::new();
            let mut now = Duration::ZERO;
            for (act, passed, jitter) in acts {
                now += Duration::from_millis(passed);
                let mut end = |at: usize| match under_way.len() {
                    0 => None,
                    len => Some(under_way.swap_remove(at % len)),
                };
                let event = match act {
                    Act::Ask => Some(BreakerEvent::Asked),
                    Act::Answer(at) => end(at).map(|epoch| BreakerEvent::Answered { epoch }),
                    Act::Fail(at, seconds) => end(at).map(|epoch| BreakerEvent::Failed {
                        epoch,
                        retry_after: seconds.map(Duration::from_secs),
                    }),
                    Act::Abandon(at) => end(at).map(|epoch| BreakerEvent::Abandoned { epoch }),
                };
                let Some(event) = event else { continue };
                let context = BreakerContext { now, policy: &POLICY, jitter };
                let step = breaker.step(event, &context);
                lawful(breaker, event, &step, now);
                breaker = step.next;
                if let Some(Admission::Granted { epoch }) = step.admission {
                    under_way.push(epoch);
                }
                let probes = under_way.iter().filter(|epoch| **epoch == breaker.epoch).count();
                if let BreakerState::HalfOpen { .. } = breaker.state {
                    prop_assert_eq!(probes, 1, "exactly one probe");
                }
            }
            // Alive: once all that is under way has ended and the longest wait is over, a call goes out.
            for epoch in under_way {
                let context = BreakerContext { now, policy: &POLICY, jitter: 0.5 };
                breaker = breaker.step(BreakerEvent::Failed { epoch, retry_after: None }, &context).next;
            }
            prop_assert!(breaker.refused_for(now + RETRY_AFTER_MAX).is_none());
        }
    }
}
