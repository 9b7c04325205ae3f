//! One POST: to whom, with what, and what came of it.

use crate::core::Notifier;
use crate::destination::Destination;
use crate::error::Error;
use crate::lines::Slot;
use crate::{sign, telemetry};
use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use photofinish_contract::messages::{AnyEvent, EndpointEvent};
use photofinish_contract::webhook::{DeliveryTiming, EndpointEventBody};
use photofinish_jobstore::AttemptLog;
use photofinish_model::delivery::Answer;
use photofinish_model::line::Outcome;
use photofinish_objects::{Disabled, WebhookEndpointRecord};
use photofinish_outbound::{Limits, OutboundError, PostOutcome, Posted};
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// Bytes of a receiver's answer that are kept.
const RESPONSE_BYTES_MAX: usize = 1024;

/// A try and what is noted of it; its number is filled in later.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) answer: Answer,
    pub(crate) log: AttemptLog,
    /// The webhook endpoint that was called, if one was.
    pub(crate) called: Option<Box<WebhookEndpointRecord>>,
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
            called: None,
        }
    }

    fn of(at: Timestamp, took: Duration, posted: Posted) -> Self {
        let mut tried = Self::refused(at, String::new());
        tried.log.duration_ms = millis(took);
        let opening = posted.opening;
        let mut timing = DeliveryTiming {
            dns_ms: opening.dns.map(millis),
            connect_ms: opening.connect.map(millis),
            tls_ms: opening.tls.map(millis),
            first_byte_ms: None,
        };
        match posted.outcome {
            Ok(outcome) => {
                let PostOutcome {
                    status,
                    retry_after,
                    body_prefix,
                    timing: answered,
                } = outcome;
                tried.answer = Answer::Status {
                    status,
                    retry_after,
                };
                tried.log.status_code = Some(status);
                tried.log.error = None;
                tried.log.response = (!body_prefix.is_empty()).then(|| readable(&body_prefix));
                timing.first_byte_ms = Some(millis(answered.first_byte));
            }
            Err(error) => {
                if !matches!(error, OutboundError::Refused(_)) {
                    tried.answer = Answer::NoAnswer;
                }
                tried.log.error = Some(photofinish_runtime::error_chain(&error));
            }
        }
        tried.log.timing = (timing != DeliveryTiming::default()).then_some(timing);
        tried
    }
}

impl Notifier {
    /// Makes one try with a slot for it. An error means that it could not even be made.
    pub(crate) async fn attempt(
        &self,
        event: &AnyEvent,
        number: u16,
        destination: Destination,
        slot: Slot,
    ) -> Result<Tried, Error> {
        match self.body(event).await? {
            Ok(body) => {
                let body = body.into();
                self.post(event, number, destination, slot, body).await
            }
            Err(why) => Ok(Tried::refused(self.clock.now(), why)),
        }
    }

    /// The same with a body that was made a moment ago.
    pub(crate) async fn post(
        &self,
        event: &AnyEvent,
        number: u16,
        destination: Destination,
        slot: Slot,
        body: Bytes,
    ) -> Result<Tried, Error> {
        let now = self.clock.now();
        let mut headers = sign::headers(&destination.secrets, &event.id(), now, &body)?;
        let span = telemetry::post_span(&destination.origin, event.kind().as_str());
        let trace = photofinish_runtime::trace::traceparent_of(&span);
        if let Some(trace) = trace.and_then(|trace| HeaderValue::try_from(trace).ok()) {
            headers.insert("traceparent", trace);
        }
        let state = photofinish_runtime::trace::current_tracestate();
        if let Some(state) = state.and_then(|state| HeaderValue::try_from(state).ok()) {
            headers.insert("tracestate", state);
        }
        let limits = Limits {
            first_byte: self.config.delivery_timeout,
            idle: self.config.delivery_timeout,
            total: self.config.delivery_timeout,
            ..Limits::default()
        };
        let begun = Instant::now();
        let posted = self
            .outbound
            .post(&destination.url, headers, body, &limits)
            .instrument(span.clone())
            .await;
        let took = begun.elapsed();
        metrics::histogram!("photofinish_notifier_post_seconds").record(took.as_secs_f64());
        if number == 1 {
            telemetry::first_try(event.at(), now);
        }
        let tried = Tried {
            called: destination.endpoint,
            ..Tried::of(now, took, posted)
        };
        telemetry::answered(&span, tried.log.status_code);
        slot.over(outcome(tried.answer), took);
        Ok(tried)
    }

    /// The body as it is now; the inner error says why there is none any more.
    async fn body(&self, event: &AnyEvent) -> Result<Result<Vec<u8>, String>, Error> {
        let event = match event {
            AnyEvent::Endpoint(event) => {
                return Ok(match self.endpoint_body(event).await? {
                    Some(body) => Ok(serde_json::to_vec(&body)?),
                    None => Err("the webhook endpoint that it is about was deleted".to_owned()),
                });
            }
            AnyEvent::Job(event) => event,
        };
        let Some(snapshot) = self.snapshot(event).await? else {
            return Err(Error::Missing {
                what: "the job",
                id: event.job.to_string(),
            });
        };
        let body = self.webhook_body(event, snapshot).await?;
        Ok(Ok(serde_json::to_vec(&body)?))
    }

    /// The body of an endpoint's own event; nothing when the endpoint was deleted.
    pub(crate) async fn endpoint_body(
        &self,
        event: &EndpointEvent,
    ) -> Result<Option<EndpointEventBody>, Error> {
        let Some(record) = self.endpoint(&event.tenant, &event.endpoint).await? else {
            return Ok(None);
        };
        let mut data = record.shown();
        if let Some(cause) = event.cause {
            // As it was then, whatever its owner did since.
            let at = event.at;
            data.enabled = false;
            data.disabled = Some(Disabled { at, cause }.shown());
        }
        Ok(Some(EndpointEventBody {
            event: event.event,
            timestamp: event.at,
            sequence: event.at.as_millisecond().unsigned_abs(),
            data,
        }))
    }
}

/// What a try says about its receiver's line.
fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Status {
            status: 429 | 500..,
            retry_after,
        } => Outcome::Failed { retry_after },
        Answer::Status { .. } => Outcome::Answered,
        Answer::NoAnswer => Outcome::Failed { retry_after: None },
        Answer::Refused => Outcome::Unknown,
    }
}

/// What a receiver answered, as a text that is kept: a stranger's bytes, so their number in Redis is bounded as well.
fn readable(body: &[u8]) -> String {
    let shown = |letter: char| match letter {
        '\n' | '\r' | '\t' => letter,
        // As JSON it would be six bytes.
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    let mut text: String = String::from_utf8_lossy(body).chars().map(shown).collect();
    text.truncate(text.floor_char_boundary(RESPONSE_BYTES_MAX));
    text
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_answer_is_bounded_whatever_its_bytes() {
        assert_eq!(readable("no, nâo\n".as_bytes()), "no, nâo\n");
        for byte in [0, 0x1b, b'"', 0xff] {
            let kept = readable(&[byte; RESPONSE_BYTES_MAX]);
            let json = serde_json::to_string(&kept).unwrap();
            assert!(kept.len() <= RESPONSE_BYTES_MAX, "{byte}");
            assert!(json.len() <= 2 * RESPONSE_BYTES_MAX + 2, "{byte}");
        }
    }
}
