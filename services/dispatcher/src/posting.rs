//! The one POST of a nonce, what its outcome means, and the commands of a part.

use crate::core::Core;
use crate::endpoints::Endpoint;
use crate::error::Error;
use crate::parts::Seen;
use crate::telemetry;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::messages::{PartReady, PartSubmitted, WatchState};
use photofinish_model::part::{Command, Event, Part};
use photofinish_model::{
    AttemptRef, ItemIndex, JobSnapshot, Nonce, OnItemError, RunPodId, SlotName,
};
use photofinish_objects::RunDoc;
use photofinish_runpod::client::{RunRequest, StatusError};
use photofinish_runtime::{backoff, clock, error_chain};
use std::time::Duration;
use tracing::Instrument as _;

/// A slot of an attempt is asked after when nobody has renewed it for this long.
const SLOT_TTL: Duration = Duration::from_secs(60);
/// The pause after a refused submit; doubled up to the longest.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest pause that RunPod may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// A slot that is held for a part.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// Of which endpoint.
    pub endpoint: &'a Endpoint,
    /// The attempt's fencing token.
    pub nonce: &'a Nonce,
    /// The attempt holds it by its own name already; else a grant does, by the token.
    pub bound: bool,
}

/// An attempt that is to be posted.
#[derive(Debug)]
pub struct Posting<'a> {
    /// The plan of its run.
    pub doc: &'a RunDoc,
    /// Its job.
    pub job: &'a JobSnapshot,
    /// Its part's message.
    pub ready: &'a PartReady,
    /// Its part, as it was just stored.
    pub part: &'a Part,
    /// The attempt.
    pub attempt: AttemptRef,
    /// RunPod's endpoint.
    pub endpoint: &'a str,
    /// See [`Slot`].
    pub bound: bool,
    /// What it is given.
    pub items: &'a [ItemIndex],
}

/// What came of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// The attempt is RunPod's, for all we know.
    Taken,
    /// RunPod has certainly not taken it. The part waits again, not to be tried before this is over.
    Refused(Duration),
}

/// An attempt that is RunPod's, for all we know.
#[derive(Debug)]
pub struct Submitted<'a> {
    /// The attempt.
    pub attempt: AttemptRef,
    /// RunPod's endpoint.
    pub endpoint: &'a str,
    /// RunPod's id, if known.
    pub runpod_id: Option<RunPodId>,
    /// What it was given.
    pub items: &'a [ItemIndex],
    /// Its part.
    pub state: Option<Box<Part>>,
}

/// The message of a part as the part stands.
pub fn ready_in(ready: &PartReady, part: &Part) -> PartReady {
    PartReady {
        state: Some(Box::new(part.carried())),
        ..ready.clone()
    }
}

impl Core {
    /// The one POST of a nonce, and what its outcome means.
    pub async fn post(&self, posting: &Posting<'_>, tries: u32) -> Result<Posted, Error> {
        // RunPod queues it: what the worker does is this span's child.
        let span = tracing::info_span!(
            "submit",
            otel.name = "send runpod",
            otel.kind = "producer",
            "messaging.system" = "runpod",
            "messaging.operation.type" = "send",
            "messaging.operation.name" = "send",
            "messaging.destination.name" = posting.endpoint,
            "messaging.message.id" = posting.attempt.nonce.as_str(),
            "messaging.batch.message_count" = posting.items.len(),
        );
        self.post_once(posting, tries).instrument(span).await
    }

    async fn post_once(&self, posting: &Posting<'_>, tries: u32) -> Result<Posted, Error> {
        let (attempt, items) = (&posting.attempt, posting.items);
        let (nonce, endpoint) = (&attempt.nonce, posting.endpoint);
        let refused = Event::Refused {
            nonce: nonce.clone(),
            endpoint: endpoint.to_owned(),
        };
        let request = match self.prepare(posting).await {
            Ok(request) => request,
            Err(error) => {
                // Nothing was sent. Should this fail, too, the watch of the next receipt finds out.
                if let Err(error) = self.step_posted(posting, &refused).await {
                    tracing::warn!(%attempt, error = error_chain(&error), "take a submit back");
                }
                return Err(error);
            }
        };
        let runpod_id = match self.runpod.run(endpoint, &request).await {
            Ok(accepted) => {
                tracing::info!(%attempt, endpoint, runpod_id = accepted.id, items = items.len(),
                    "submitted");
                RunPodId::try_from(accepted.id).ok()
            }
            Err(error) if error.is_refused() => {
                tracing::warn!(%attempt, endpoint, error = error_chain(&error), "RunPod refused");
                telemetry::submit_retried();
                let asked = error.retry_after().map(|pause| pause.min(RETRY_AFTER_MAX));
                self.step_posted(posting, &refused).await?;
                let pause = asked.unwrap_or_else(|| refused_pause(tries));
                return Ok(Posted::Refused(pause));
            }
            Err(error) => {
                tracing::warn!(%attempt, endpoint, error = error_chain(&error),
                    "what came of the submit is not known");
                None
            }
        };
        metrics::counter!("photofinish_attempts_submitted_total").increment(1);
        let event = Event::Submitted {
            nonce: nonce.clone(),
            endpoint: endpoint.to_owned(),
            runpod_id: runpod_id.clone(),
        };
        if let Err(error) = self.step_posted(posting, &event).await {
            // The attempt is RunPod's now. A watch needs only the broker, and it writes into the
            // record what could not be written here.
            tracing::warn!(%attempt, error = error_chain(&error), "record a submit");
            let submitted = Submitted {
                attempt: attempt.clone(),
                endpoint,
                runpod_id,
                items,
                state: posting.ready.state.clone(),
            };
            self.watch(posting.doc, submitted).await?;
        }
        Ok(Posted::Taken)
    }

    async fn step_posted(&self, posting: &Posting<'_>, event: &Event) -> Result<(), Error> {
        let seen = Seen::Stored(Box::new(posting.part.clone()));
        self.step_and_perform(posting.doc, posting.job, posting.ready, event, seen)
            .await
    }

    /// All that can fail before the POST: the slot and the input.
    async fn prepare(&self, posting: &Posting<'_>) -> Result<RunRequest, Error> {
        let (config, attempt) = (&self.config, &posting.attempt);
        if !posting.bound {
            let slot = SlotName::from(attempt).to_string();
            self.jobstore
                .bind(posting.endpoint, attempt.nonce.as_str(), &slot, SLOT_TTL)
                .await?;
        }
        let input = self
            .attempt_input(posting.doc, attempt, posting.items)
            .await?;
        Ok(RunRequest {
            input: serde_json::to_value(&input)?,
            webhook: self.hook_url(attempt),
            execution_timeout: config.execution_timeout,
            ttl: crate::config::ttl(config.execution_timeout, config.queue_wait_max),
        })
    }

    /// Steps a part and does what follows.
    pub async fn step_and_perform(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        event: &Event,
        seen: Seen,
    ) -> Result<(), Error> {
        let step = self.step_part(doc, job, ready, event, seen).await?;
        let ready = ready_in(ready, &step.next);
        for command in step.commands {
            self.perform(doc, job, &ready, command).await?;
        }
        Ok(())
    }

    /// Carries out one command of a part; every one may be repeated.
    pub async fn perform(
        &self,
        doc: &RunDoc,
        job: &JobSnapshot,
        ready: &PartReady,
        command: Command,
    ) -> Result<(), Error> {
        match command {
            Command::Watch {
                nonce,
                endpoint,
                runpod_id,
                items,
            } => {
                let submitted = Submitted {
                    attempt: ready.with_nonce(nonce),
                    endpoint: self.endpoint_or_first(endpoint.as_deref()),
                    runpod_id,
                    items: &items,
                    state: ready.state.clone(),
                };
                self.watch(doc, submitted).await
            }
            Command::Queue { attempt, after } => {
                if attempt > 1 {
                    telemetry::attempt_retried();
                }
                let next = PartReady {
                    attempt,
                    ..ready.clone()
                };
                self.queue_part_after(&next, after).await
            }
            Command::FreeSlot { nonce, endpoint } => {
                let slot = SlotName::from(&ready.with_nonce(nonce));
                let endpoint = self.endpoint_or_first(endpoint.as_deref());
                self.free_slot(endpoint, &slot).await
            }
            Command::CancelAttempt {
                runpod_id,
                endpoint,
            } => {
                // Best effort: an attempt's own watch cancels what this does not reach.
                let endpoint = self.endpoint_or_first(endpoint.as_deref());
                let _stopped = self.cancel_attempt(endpoint, &runpod_id).await;
                Ok(())
            }
            Command::FailItem { index, fault } => self.fail_item(job, index, fault).await,
            // A post needs its slot, and a grant its loop: both are the submit loop's alone.
            Command::Post { .. } | Command::ReturnGrant => Ok(()),
        }
    }

    /// Hands an attempt to the fetcher; again is harmless.
    pub async fn watch(&self, doc: &RunDoc, submitted: Submitted<'_>) -> Result<(), Error> {
        let nonce = submitted.attempt.nonce.to_string();
        let message = PartSubmitted {
            attempt: submitted.attempt,
            endpoint: submitted.endpoint.to_owned(),
            runpod_id: submitted.runpod_id,
            operation: doc.request.operation(),
            items: submitted.items.to_vec(),
            submitted_at: self.clock.now(),
            budget_s: self.config.execution_timeout.as_secs_f64(),
            fails_at_once: doc.request.on_item_error() == OnItemError::Fail,
            state: submitted.state,
            watch: WatchState::default(),
        };
        let outgoing =
            Outgoing::json(Target::Pipeline(Route::PartSubmitted), &message)?.message_id(nonce);
        Ok(self.publisher.publish(outgoing).await?)
    }

    /// Best effort, the watch cancels what this does not reach. True: nothing of it runs on.
    pub async fn cancel_attempt(&self, endpoint: &str, runpod_id: &RunPodId) -> bool {
        match self.runpod.cancel(endpoint, runpod_id.as_str()).await {
            Ok(_) | Err(StatusError::NotFound { .. }) => true,
            Err(error) => {
                tracing::warn!(%runpod_id, endpoint, error = error_chain(&error), "cancel");
                false
            }
        }
    }
}

fn refused_pause(tries: u32) -> Duration {
    backoff::delay(tries, REFUSED_PAUSE, REFUSED_PAUSE_MAX, clock::jitter())
}
