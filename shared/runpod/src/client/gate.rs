//! What a call passes before it goes out: the breaker and the rate limit of its RunPod endpoint.
//!
//! RunPod counts calls per user and endpoint, so each endpoint has limits of its own. It has two
//! breakers: `/run` may fail while `/status` works, and a submit that fails is dear (its outcome
//! is unknown) while a question that fails costs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use photofinish_model::breaker::{Admission, Breaker, BreakerContext, BreakerEvent, BreakerState};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::limiter::Limiter;
use super::{BreakerPolicy, ClientSettings};

/// Endpoints that are remembered; idle ones are forgotten above it.
const ENDPOINTS_MAX: usize = 256;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Run,
    Status,
    Cancel,
    Health,
    PurgeQueue,
}

impl Operation {
    /// Its path segment, which is its name in metrics, too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Status => "status",
            Self::Cancel => "cancel",
            Self::Health => "health",
            Self::PurgeQueue => "purge-queue",
        }
    }
}

/// How a call went, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// RunPod answered, be it with a refusal.
    Answered,
    /// No answer, a fault of its own, or a 429.
    Failed { retry_after: Option<Duration> },
}

/// The gates of all endpoints.
#[derive(Debug)]
pub(super) struct Gates {
    settings: ClientSettings,
    known: Mutex<HashMap<String, Arc<Gate>>>,
    began: Instant,
}

impl Gates {
    pub(super) fn new(settings: ClientSettings) -> Self {
        Self {
            settings,
            known: Mutex::default(),
            began: Instant::now(),
        }
    }

    /// Waits for a turn. `Err`: the breaker is open for so long, nothing was waited for.
    pub(super) async fn admit(
        &self,
        endpoint_id: &str,
        operation: Operation,
    ) -> Result<Turn, Duration> {
        let gate = self.of(endpoint_id);
        let fuse = gate.fuse(operation);
        if let Some(wait) = fuse.refused_for() {
            return Err(wait);
        }
        let permit = gate.limiter(operation).admit().await;
        // It may have opened while this waited for its turn.
        let epoch = fuse.ask()?;
        Ok(Turn {
            gate: Arc::clone(&gate),
            operation,
            epoch: Some(epoch),
            _permit: permit,
        })
    }

    /// For how long submits to an endpoint are refused; `None` if one would go out.
    pub(super) fn submits_refused_for(&self, endpoint_id: &str) -> Option<Duration> {
        self.of(endpoint_id).submits.refused_for()
    }

    fn of(&self, endpoint_id: &str) -> Arc<Gate> {
        let mut gates = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(endpoint_id) {
            return Arc::clone(gate);
        }
        if gates.len() >= ENDPOINTS_MAX {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let gate = Arc::new(Gate::new(endpoint_id, &self.settings, self.began));
        gates.insert(endpoint_id.to_owned(), Arc::clone(&gate));
        gate
    }
}

/// One endpoint's.
#[derive(Debug)]
struct Gate {
    submits: Fuse,
    questions: Fuse,
    run: Limiter,
    status: Limiter,
    cancel: Limiter,
    health: Limiter,
    purge: Limiter,
}

impl Gate {
    fn new(endpoint_id: &str, settings: &ClientSettings, began: Instant) -> Self {
        let fuse = |calls, policy| Fuse {
            breaker: Mutex::default(),
            policy,
            began,
            endpoint_id: endpoint_id.to_owned(),
            calls,
        };
        for calls in ["submits", "questions"] {
            // A breaker that never opened is closed, not absent.
            state_gauge(endpoint_id, calls).set(0.0);
        }
        Self {
            submits: fuse("submits", settings.submit_breaker),
            questions: fuse("questions", settings.question_breaker),
            run: Limiter::new(settings.run_limit),
            status: Limiter::new(settings.status_limit),
            cancel: Limiter::new(settings.cancel_limit),
            health: Limiter::new(settings.health_limit),
            purge: Limiter::new(settings.purge_limit),
        }
    }

    fn limiter(&self, operation: Operation) -> &Limiter {
        match operation {
            Operation::Run => &self.run,
            Operation::Status => &self.status,
            Operation::Cancel => &self.cancel,
            Operation::Health => &self.health,
            Operation::PurgeQueue => &self.purge,
        }
    }

    fn fuse(&self, operation: Operation) -> &Fuse {
        match operation {
            Operation::Run => &self.submits,
            Operation::Status | Operation::Cancel | Operation::Health | Operation::PurgeQueue => {
                &self.questions
            }
        }
    }
}

/// A call that may go out. Dropped without [`went`](Self::went) it counts as given up.
#[derive(Debug)]
pub(super) struct Turn {
    gate: Arc<Gate>,
    operation: Operation,
    epoch: Option<u64>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Tells how the call went.
    pub(super) fn went(mut self, went: Went) {
        let Some(epoch) = self.epoch.take() else {
            return;
        };
        self.gate.fuse(self.operation).tell(match went {
            Went::Answered => BreakerEvent::Answered { epoch },
            Went::Failed { retry_after } => BreakerEvent::Failed { epoch, retry_after },
        });
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(epoch) = self.epoch.take() {
            let event = BreakerEvent::Abandoned { epoch };
            self.gate.fuse(self.operation).tell(event);
        }
    }
}

/// A breaker with its clock, its dice and its voice.
#[derive(Debug)]
struct Fuse {
    breaker: Mutex<Breaker>,
    policy: BreakerPolicy,
    began: Instant,
    endpoint_id: String,
    calls: &'static str,
}

impl Fuse {
    fn refused_for(&self) -> Option<Duration> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.refused_for(self.began.elapsed())
    }

    fn ask(&self) -> Result<u64, Duration> {
        match self.tell(BreakerEvent::Asked) {
            Some(Admission::Granted { epoch }) => Ok(epoch),
            Some(Admission::Refused { retry_after }) => Err(retry_after),
            // Whoever asks is answered; if not, refusing harms nobody.
            None => Err(self.policy.open_min),
        }
    }

    fn tell(&self, event: BreakerEvent) -> Option<Admission> {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let context = BreakerContext {
            now: self.began.elapsed(),
            policy: &self.policy,
            jitter: rand::random(),
        };
        let before = breaker.state();
        let step = breaker.step(event, &context);
        *breaker = step.next;
        drop(breaker);
        if before.label() != step.next.state().label() {
            self.say(before, step.next.state(), context.now);
        }
        step.admission
    }

    fn say(&self, before: BreakerState, now: BreakerState, at: Duration) {
        let (endpoint, calls, state) = (&self.endpoint_id, self.calls, now.label());
        let level = match now {
            BreakerState::Closed { .. } => {
                tracing::info!(endpoint, calls, "runpod answers again, breaker closed");
                0.0
            }
            BreakerState::HalfOpen { .. } => {
                tracing::info!(endpoint, calls, "breaker half open, one call tries runpod");
                1.0
            }
            BreakerState::Open { until, times } => {
                let (open_ms, was) = ((until.saturating_sub(at)).as_millis(), before.label());
                tracing::warn!(
                    endpoint,
                    calls,
                    was,
                    times,
                    open_ms = u64::try_from(open_ms).unwrap_or(u64::MAX),
                    "runpod keeps failing, breaker open"
                );
                2.0
            }
        };
        state_gauge(endpoint, calls).set(level);
        metrics::counter!(
            "photofinish_runpod_breaker_transitions_total",
            "endpoint" => endpoint.clone(), "calls" => calls, "to" => state
        )
        .increment(1);
    }
}

/// 0 closed, 1 half open, 2 open.
fn state_gauge(endpoint: &str, calls: &'static str) -> metrics::Gauge {
    metrics::gauge!(
        "photofinish_runpod_breaker_state", "endpoint" => endpoint.to_owned(), "calls" => calls
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(breaker: BreakerPolicy) -> Gates {
        let mut settings = ClientSettings::new("http://127.0.0.1:1", "key".into());
        settings.submit_breaker = breaker;
        settings.question_breaker = breaker;
        settings.status_limit.per_10s = 10;
        settings.status_limit.concurrent = 1;
        Gates::new(settings)
    }

    async fn fails(gates: &Gates, operation: Operation) {
        let turn = gates.admit("a", operation).await.unwrap();
        turn.went(Went::Failed { retry_after: None });
    }

    #[tokio::test]
    async fn each_endpoint_has_limits_and_breakers_of_its_own() {
        let gates = gates(BreakerPolicy::default());
        for _ in 0..5 {
            fails(&gates, Operation::Run).await;
        }
        let refused = gates.admit("a", Operation::Run).await;
        assert!(refused.is_err_and(|wait| wait <= Duration::from_secs(5)));
        assert!(gates.submits_refused_for("a").is_some());
        assert!(gates.submits_refused_for("b").is_none());
        assert!(gates.admit("b", Operation::Run).await.is_ok());
        assert!(
            gates.admit("a", Operation::Status).await.is_ok(),
            "questions go on"
        );
        let began = Instant::now();
        drop(gates.admit("b", Operation::Status).await);
        assert!(began.elapsed() < Duration::from_millis(400), "b's first");
        drop(gates.admit("a", Operation::Status).await);
        assert!(began.elapsed() > Duration::from_millis(400), "a's second");
    }

    #[tokio::test]
    async fn a_probe_that_is_given_up_makes_room_for_the_next() {
        let gates = gates(BreakerPolicy {
            open_min: Duration::from_millis(100),
            ..BreakerPolicy::default()
        });
        for _ in 0..5 {
            fails(&gates, Operation::Run).await;
        }
        tokio::time::sleep(Duration::from_millis(110)).await; // paced: the breaker's own time
        let probe = gates.admit("a", Operation::Run).await.unwrap();
        assert!(gates.admit("a", Operation::Run).await.is_err());
        drop(probe);
        let probe = gates.admit("a", Operation::Run).await.unwrap();
        probe.went(Went::Answered);
        assert!(gates.admit("a", Operation::Run).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_when_it_opens_is_refused_after_all() {
        let gates = Arc::new(gates(BreakerPolicy {
            failures_max: 1,
            ..BreakerPolicy::default()
        }));
        let first = gates.admit("a", Operation::Status).await.unwrap();
        let waiting = gates.admit("a", Operation::Status);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        first.went(Went::Failed { retry_after: None });
        assert!(waiting.await.is_err());
    }

    #[tokio::test]
    async fn idle_endpoints_are_forgotten_above_the_limit() {
        let gates = gates(BreakerPolicy::default());
        let kept = gates.admit("kept", Operation::Run).await.unwrap();
        for n in 0..1000 {
            drop(gates.admit(&format!("e{n}"), Operation::Run).await);
        }
        let known = gates.known.lock().unwrap();
        assert!(known.len() <= ENDPOINTS_MAX && known.contains_key("kept"));
        drop(kept);
    }
}
