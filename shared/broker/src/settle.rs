//! Dispositions and how they are settled: what follows is published and confirmed first, the ack is last.
//!
//! Guarantee: a message is acknowledged only after its successor, if it has one, is confirmed. While the broker
//! cannot take the successor the message is kept; when its channel dies it is let go, and RabbitMQ delivers it again.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use lapin::Acker;
use lapin::options::BasicAckOptions;
use photofinish_runtime::{Shutdown, backoff, clock};
use tokio::time::Instant;

use crate::connection::LOOK_EVERY;
use crate::incoming::Incoming;
use crate::names::WorkQueue;
use crate::outgoing::{Again, Parcel};
use crate::publisher::Publisher;
use crate::settings::{DELIVERIES_MAX, PANIC_WAIT, PANICS_MAX};
use crate::telemetry;
use crate::waiting::{Waiting, label, now_ms};

/// First and longest wait before a successor is published again.
const KEEP_MIN: Duration = Duration::from_millis(200);
const KEEP_MAX: Duration = Duration::from_secs(10);

/// Longest wait until an acknowledgement is written: beyond, the connection is as good as dead.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// What becomes of a message that was handled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a message is settled by its disposition only"]
pub enum Disposition {
    /// Done: all that follows from it is persisted and published.
    Ack,
    /// Again after this wait, as another attempt (`attempt` + 1).
    RetryLater(Duration),
    /// Again after this wait, without spending an attempt: nothing failed, its time has not come.
    Snooze {
        /// How long.
        wait: Duration,
        /// A header, beginning with `x-photofinish-`, that it carries from now on.
        mark: Option<&'static str>,
    },
    /// Again at once, without spending an attempt: the next turn of something that lasts.
    Turn {
        /// The new body, if it has changed.
        body: Option<Bytes>,
    },
    /// Given up: to parking, where its job is ended and people look at it.
    DeadLetter {
        /// Stable word, `snake_case`.
        code: &'static str,
        /// A sentence that says what was tried.
        reason: String,
    },
}

impl Disposition {
    const fn label(&self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::RetryLater(_) => "retry",
            Self::Snooze { .. } => "snooze",
            Self::Turn { .. } => "turn",
            Self::DeadLetter { .. } => "dead_letter",
        }
    }
}

/// What the loop does with a message before a handler sees it.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Its wait is longer than one tier: on to the next.
    Forward,
    /// Delivered too often.
    Park,
    /// For the handler, after what is left of its wait (under a second).
    Handle(Duration),
}

/// What the loop did with a message before a handler saw it.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are for the handler, and a box would be one more allocation for each"
)]
pub(crate) enum Received {
    /// It is for the handler.
    Handle(Incoming),
    /// It is none of the handler's business: see [`Settler::settle`].
    Settled(Option<&'static str>),
}

/// Settles the messages of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Settler {
    pub(crate) queue: WorkQueue,
    pub(crate) publisher: Publisher,
    pub(crate) shutdown: Shutdown,
    pub(crate) waiting: Arc<Waiting>,
}

impl Settler {
    pub(crate) fn arrival(incoming: &Incoming) -> Arrival {
        if incoming.delivery_count >= DELIVERIES_MAX {
            Arrival::Park
        } else if incoming.remaining_ms >= 1000 {
            Arrival::Forward
        } else {
            Arrival::Handle(Duration::from_millis(incoming.remaining_ms))
        }
    }

    /// Forwards or parks what is not for a handler; gives back what is.
    pub(crate) async fn receive(&self, incoming: Incoming, acker: &Acker) -> Received {
        let (again, label) = match Self::arrival(&incoming) {
            Arrival::Handle(wait) => {
                self.note_wait(&incoming);
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                return Received::Handle(incoming);
            }
            Arrival::Forward => (Again::Forward, "forward"),
            Arrival::Park => {
                let count = incoming.delivery_count;
                let reason = format!("delivered {count} times without an acknowledgement");
                let code = "delivered_too_often".to_owned();
                (Again::Park { code, reason }, "dead_letter")
            }
        };
        let replaced = Box::pin(self.replace(&incoming, acker, again)).await;
        Received::Settled(replaced.then_some(label))
    }

    /// How long it lay in its queue, by the clocks of two machines: for numbers alone.
    fn note_wait(&self, incoming: &Incoming) {
        let Some(ready_ms) = incoming.ready_ms else {
            return;
        };
        let now_ms = now_ms();
        self.waiting.taken(self.queue, ready_ms, now_ms);
        let wait = Duration::from_millis(now_ms.saturating_sub(ready_ms));
        telemetry::waited(label(self.queue), wait);
    }

    /// Carries a handler's disposition out. Nothing: the message is not ours any more, and will come again. Else it is to
    /// be acknowledged, and this is the word for how it was settled.
    pub(crate) async fn settle(
        &self,
        incoming: &Incoming,
        acker: &Acker,
        disposition: Disposition,
    ) -> Option<&'static str> {
        let label = disposition.label();
        let again = match disposition {
            Disposition::Ack => return Some(label),
            Disposition::RetryLater(wait) => Again::Retry {
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            },
            Disposition::Snooze { wait, mark } => Again::Snooze {
                wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                mark,
            },
            Disposition::Turn { body } => Again::Turn { body },
            Disposition::DeadLetter { code, reason } => {
                let id = incoming.message_id.as_deref().unwrap_or("");
                tracing::warn!(queue = %self.queue, id, code, reason, "message given up");
                Again::Park {
                    code: code.to_owned(),
                    reason,
                }
            }
        };
        // Apart, since most messages have no successor and need not carry the room for publishing one.
        let replaced = Box::pin(self.replace(incoming, acker, again)).await;
        replaced.then_some(label)
    }

    /// Publishes its successor; false: it is not ours any more.
    async fn replace(&self, incoming: &Incoming, acker: &Acker, again: Again) -> bool {
        let parcel = Parcel::again(incoming, self.queue, self.publisher.user(), again);
        self.publish_for(acker, parcel).await
    }

    /// Publishes for as long as the message is ours to acknowledge.
    async fn publish_for(&self, acker: &Acker, parcel: Parcel) -> bool {
        let parcel = Arc::new(parcel);
        let mut failures = 0;
        loop {
            // A channel that died has given the message to someone else: its successor is theirs to publish.
            if acker.poisoned() {
                telemetry::ack_false(self.queue.family().as_str());
                return false;
            }
            match self.publisher.send(parcel.clone()).await {
                Ok(()) => return true,
                Err(error) => {
                    let wait = backoff::delay(failures, KEEP_MIN, KEEP_MAX, clock::jitter());
                    failures += 1;
                    tracing::warn!(queue = %self.queue, %error, failures, "keeping a message");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.shutdown.cut_off() => return false,
                    }
                }
            }
        }
    }

    /// Acknowledges one message; false: it will come again.
    pub(crate) async fn ack(&self, acker: &Acker, label: &'static str) -> bool {
        let family = self.queue.family().as_str();
        let acknowledged = written(acker, BasicAckOptions::default()).await;
        if acknowledged {
            telemetry::consumed(family, label);
        } else {
            telemetry::ack_false(family);
            tracing::info!(queue = %self.queue, label, "an acknowledgement was lost: it comes again");
        }
        acknowledged
    }
}

/// Whether the acknowledgement went out. One that was under way when its channel died may never be answered, and it
/// must not keep its permit; `Ok(false)` says that the broker never hears of it.
pub(crate) async fn written(acker: &Acker, options: BasicAckOptions) -> bool {
    let mut ack = pin!(acker.ack(options));
    let began = Instant::now();
    while began.elapsed() < ACK_TIMEOUT {
        match tokio::time::timeout(LOOK_EVERY, &mut ack).await {
            Ok(answer) => return matches!(answer, Ok(true)),
            Err(_elapsed) if acker.poisoned() => return false,
            Err(_elapsed) => {}
        }
    }
    false
}

/// Runs a handler; its panic is one more way to fail.
pub(crate) async fn guard(
    queue: WorkQueue,
    attempt: u32,
    handling: impl Future<Output = Disposition>,
) -> Disposition {
    match AssertUnwindSafe(handling).catch_unwind().await {
        Ok(disposition) => disposition,
        Err(panic) => {
            telemetry::handler_panicked(queue.family().as_str());
            let message = panic_message(panic.as_ref());
            tracing::error!(%queue, attempt, panic = message, "a handler panicked");
            if attempt < PANICS_MAX {
                Disposition::RetryLater(PANIC_WAIT)
            } else {
                let reason = format!("its handler panicked {} times: {message}", attempt + 1);
                Disposition::DeadLetter {
                    code: "handler_panicked",
                    reason,
                }
            }
        }
    }
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_is_forwarded_parked_or_handled() {
        let message = |delivery_count, remaining_ms| Incoming {
            delivery_count,
            remaining_ms,
            ..Incoming::default()
        };
        let arrival = |count, remaining| Settler::arrival(&message(count, remaining));
        assert!(matches!(arrival(0, 0), Arrival::Handle(Duration::ZERO)));
        assert!(matches!(arrival(9, 999), Arrival::Handle(wait) if wait.as_millis() == 999));
        assert!(matches!(arrival(0, 1000), Arrival::Forward));
        assert!(matches!(arrival(10, 5000), Arrival::Park));
    }

    #[tokio::test]
    async fn a_panic_is_retried_and_in_the_end_parked() {
        let run = |attempt| guard(WorkQueue::Plan, attempt, async { panic!("on purpose") });
        assert_eq!(run(0).await, Disposition::RetryLater(PANIC_WAIT));
        let Disposition::DeadLetter { code, reason } = run(PANICS_MAX).await else {
            panic!("not parked");
        };
        assert_eq!(code, "handler_panicked");
        assert!(reason.contains("on purpose"));
    }
}
