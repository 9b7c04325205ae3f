//! One POST: to whom, with what, and what came of it.

use crate::core::Notifier;
use crate::error::Error;
use crate::sign;
use crate::views::event_id;
use http::HeaderValue;
use jiff::Timestamp;
use photofinish_contract::messages::{DeliveryDue, Receiver};
use photofinish_jobstore::{AttemptLog, AttemptTiming};
use photofinish_model::delivery::Answer;
use photofinish_outbound::{Limits, OutboundError, PostOutcome};
use std::time::{Duration, Instant};

/// A try and what is noted of it; its number is filled in later.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) answer: Answer,
    pub(crate) log: AttemptLog,
}

/// To whom, and signed with what.
struct Destination {
    url: String,
    /// One or more `whsec_…`.
    secrets: String,
}

impl Tried {
    /// One that was not made, because it may not be.
    pub(crate) fn refused(at: Timestamp, why: String) -> Self {
        Self {
            answer: Answer::Refused,
            log: AttemptLog {
                number: 0,
                at,
                status_code: None,
                error: Some(why),
                duration_ms: 0,
                timing: None,
                response: None,
            },
        }
    }

    fn of(at: Timestamp, took: Duration, outcome: Result<PostOutcome, OutboundError>) -> Self {
        let mut tried = Self::refused(at, String::new());
        tried.log.duration_ms = millis(took);
        match outcome {
            Ok(outcome) => {
                let PostOutcome {
                    status,
                    retry_after,
                    body_prefix,
                    timing,
                } = outcome;
                tried.answer = Answer::Status {
                    status,
                    retry_after,
                };
                tried.log.status_code = Some(status);
                tried.log.error = None;
                tried.log.response = (!body_prefix.is_empty())
                    .then(|| String::from_utf8_lossy(&body_prefix).into_owned());
                tried.log.timing = Some(AttemptTiming {
                    resolved_ms: None,
                    connected_ms: None,
                    first_byte_ms: Some(millis(timing.first_byte)),
                });
            }
            Err(error) => {
                if !matches!(error, OutboundError::Refused(_)) {
                    tried.answer = Answer::NoAnswer;
                }
                tried.log.error = Some(photofinish_runtime::error_chain(&error));
            }
        }
        tried
    }
}

impl Notifier {
    /// Makes one try. An error means that it could not even be made.
    pub(crate) async fn attempt(&self, due: &DeliveryDue, number: u16) -> Result<Tried, Error> {
        let event = &due.event;
        let destination = match self.destination(due).await? {
            Ok(destination) => destination,
            Err(why) => return Ok(Tried::refused(self.clock.now(), why)),
        };
        let Some(snapshot) = self.snapshot(event).await? else {
            return Err(Error::Missing {
                what: "the job",
                id: event.job.to_string(),
            });
        };
        let body = serde_json::to_vec(&self.webhook_body(event, snapshot).await?)?;
        let now = self.clock.now();
        let mut headers = sign::headers(&destination.secrets, &event_id(event), now, &body)?;
        let trace = photofinish_runtime::trace::current_traceparent();
        if let Some(trace) = trace.and_then(|trace| HeaderValue::try_from(trace).ok()) {
            headers.insert("traceparent", trace);
        }
        let limits = Limits {
            first_byte: self.config.delivery_timeout,
            idle: self.config.delivery_timeout,
            total: self.config.delivery_timeout,
            ..Limits::default()
        };
        let begun = Instant::now();
        let outcome = self
            .outbound
            .post(&destination.url, headers, body.into(), &limits)
            .await;
        let took = begun.elapsed();
        metrics::histogram!("photofinish_notifier_post_seconds").record(took.as_secs_f64());
        if number == 1 {
            let since = now.as_second().saturating_sub(event.at.as_second()).max(0);
            metrics::histogram!("photofinish_notifier_first_try_lag_seconds").record(since as f64);
        }
        Ok(Tried::of(now, took, outcome))
    }

    /// Where it goes; the inner error says why it goes nowhere.
    async fn destination(&self, due: &DeliveryDue) -> Result<Result<Destination, String>, Error> {
        let tenant = &due.event.tenant;
        let (url, sealed, whose) = match &due.receiver {
            Receiver::Endpoint { id } => match self.endpoint(tenant, id).await? {
                None => return Ok(Err("the webhook endpoint was deleted".to_owned())),
                Some(endpoint) if !endpoint.enabled => {
                    return Ok(Err("the webhook endpoint is disabled".to_owned()));
                }
                Some(endpoint) => (endpoint.url, endpoint.secret_sealed, endpoint.id),
            },
            Receiver::JobUrl { url } => match self.tenant(tenant).await? {
                None => return Ok(Err("the tenant has no signing secret".to_owned())),
                Some(record) => (url.clone(), record.secret_sealed, tenant.to_string()),
            },
        };
        let secrets = self.config.sealer.open(&sealed);
        let secrets = secrets.map_err(|source| Error::Secret { whose, source })?;
        Ok(Ok(Destination { url, secrets }))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
