//! Publishing: every message persistent, every confirm awaited, every return an error.
//!
//! Nouns: a [`Publisher`] is the handle; the *driver* owns the publish channel and the in-flight window.
//!
//! Guarantee: `Ok` means that the broker has taken the message and, where it must arrive, that a queue has it. An error
//! means that it may or may not be there. What was unconfirmed when its channel died is sent again with the same id on
//! the next one, so duplicates are normal. A queue of a client's that refuses holds nobody up: its author is told at once.
//! Not for: deciding what happens to a failed message; the caller has the error.

use std::sync::Arc;
use std::time::Duration;

use photofinish_runtime::{backoff, clock, trace};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::PublishError;
use crate::outgoing::{Outgoing, Parcel};
use crate::telemetry;

/// First and longest wait after the broker refused a message (a queue over a limit of the operator's).
const NACK_WAIT_MIN: Duration = Duration::from_millis(50);
const NACK_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the driver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Confirmed,
    Returned,
    Nacked,
}

/// A message on its way through the driver.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) parcel: Arc<Parcel>,
    pub(crate) answer: oneshot::Sender<Fate>,
}

/// Publishes messages. Clones share the connection and the in-flight window.
#[derive(Debug, Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    timeout: Duration,
    user: Arc<str>,
}

impl Publisher {
    pub(crate) fn new(requests: mpsc::Sender<Request>, timeout: Duration, user: Arc<str>) -> Self {
        Self {
            requests,
            timeout,
            user,
        }
    }

    /// Publishes one message and waits for its confirm, for at most `publish_timeout_s`; waits as well while the
    /// connection is rebuilt or blocked.
    pub async fn publish(&self, outgoing: Outgoing) -> Result<(), PublishError> {
        let span = outgoing.span();
        let sent = async {
            let parcel = outgoing.into_parcel(&self.user)?;
            self.send(Arc::new(parcel)).await
        };
        let sent = sent.instrument(span.clone()).await;
        if let Err(error) = &sent {
            trace::failed(&span, error.label());
        }
        sent
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) async fn send(&self, parcel: Arc<Parcel>) -> Result<(), PublishError> {
        let deadline = Instant::now() + self.timeout;
        let target = parcel.address.target;
        let mut nacks = 0;
        telemetry::published(target);
        loop {
            let (answer, fate) = oneshot::channel();
            let request = Request {
                parcel: parcel.clone(),
                answer,
            };
            let asked = async {
                self.requests.send(request).await.ok()?;
                fate.await.ok()
            };
            let Ok(fate) = tokio::time::timeout_at(deadline, asked).await else {
                telemetry::unconfirmed(target, "timeout");
                let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
                return Err(PublishError::Timeout { target, timeout_ms });
            };
            match fate {
                None => return Err(PublishError::Closed { target }),
                Some(Fate::Confirmed) => {
                    telemetry::confirmed(target);
                    return Ok(());
                }
                Some(Fate::Returned) => {
                    telemetry::unconfirmed(target, "returned");
                    return Err(PublishError::Unroutable { target });
                }
                Some(Fate::Nacked) => {
                    telemetry::unconfirmed(target, "nacked");
                    if parcel.address.is_of_clients() {
                        return Err(PublishError::Refused { target });
                    }
                    let wait = backoff::delay(nacks, NACK_WAIT_MIN, NACK_WAIT_MAX, clock::jitter());
                    nacks += 1;
                    tokio::time::sleep_until(deadline.min(Instant::now() + wait)).await;
                }
            }
        }
    }
}
