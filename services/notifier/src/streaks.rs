//! What calls say about webhook endpoints: streaks of failed ones, and when one is disabled.
//!
//! Guarantee: a good call costs nothing while the endpoint is known to be well, a failed one two commands of Redis.
//! A streak of an hour stands in the endpoint's record, so that an emptied Redis forgets an hour at most. That an
//! endpoint is to be disabled is a confirmed message before the call that showed it is settled.

use crate::core::Notifier;
use crate::error::Error;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::messages::{NotifierMessage, WebhookCommand};
use photofinish_jobstore::JobStoreError;
use photofinish_model::webhook::{Call, Cause, Failing, judge, owed};
use photofinish_objects::WebhookEndpointRecord;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long an endpoint that was well is not looked at again: another process may have seen it fail.
const WELL_FOR: Duration = Duration::from_secs(30);
/// Endpoints that are known to be well, at most.
const WELL_MAX: usize = 10_000;

/// The endpoints that were well a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Well {
    since: Mutex<HashMap<String, Instant>>,
}

impl Well {
    fn is(&self, endpoint: &str, now: Instant) -> bool {
        let seen = self.lock().get(endpoint).copied();
        seen.is_some_and(|seen| now.saturating_duration_since(seen) < WELL_FOR)
    }

    fn note(&self, endpoint: &str, now: Instant) {
        let mut since = self.lock();
        if since.len() >= WELL_MAX {
            since.clear();
        }
        since.insert(endpoint.to_owned(), now);
    }

    fn forget(&self, endpoint: &str) {
        self.lock().remove(endpoint);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        // A panic between lock and unlock cannot leave half an entry behind.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier {
    /// Notes what a call says about its endpoint; an error means that it is to be made again.
    pub(crate) async fn note_call(
        &self,
        endpoint: &WebhookEndpointRecord,
        call: Call,
    ) -> Result<(), Error> {
        let id = endpoint.id.as_str();
        let now = Instant::now();
        match call {
            Call::Good if endpoint.failing.is_none() && self.well.is(id, now) => return Ok(()),
            Call::Good => self.well.note(id, now),
            Call::Bad | Call::Gone => self.well.forget(id),
        }
        // A streak from before its owner enabled it counts no more.
        let counts = |streak: &Failing| endpoint.enabled_at.is_none_or(|at| streak.since >= at);
        let known = self.streak(id).await.or(endpoint.failing).filter(counts);
        let judgement = judge(known, call, self.clock.now());
        if let Some(cause) = judgement.disable {
            self.wish_disabled(endpoint, cause).await?;
        }
        if owed(endpoint.failing, judgement.failing)
            && let Err(error) = self.keep_streak(endpoint, judgement.failing).await
        {
            // The next call owes it still.
            self.well.forget(id);
            tracing::warn!(
                endpoint = id,
                error = photofinish_runtime::error_chain(&error),
                "keep a streak in an endpoint's record"
            );
            return Ok(());
        }
        if known != judgement.failing {
            let kept = self.jobstore.keep_endpoint_failing(id, judgement.failing);
            self.told(id, kept.await);
        }
        Ok(())
    }

    async fn wish_disabled(
        &self,
        endpoint: &WebhookEndpointRecord,
        cause: Cause,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        // As precise as it is kept, so that the wish and what it did are the same moment.
        let at = jiff::Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        let command = NotifierMessage::Webhook(WebhookCommand::Disable {
            tenant: endpoint.tenant.clone(),
            endpoint: endpoint.id.clone(),
            at,
            cause,
        });
        let outgoing = Outgoing::json(Target::Pipeline(Route::JobEvent), &command)?
            .message_id(format!("{}:{}", endpoint.id, at.as_millisecond()));
        Ok(self.publisher.publish(outgoing).await?)
    }

    async fn streak(&self, endpoint: &str) -> Option<Failing> {
        let read = self.jobstore.endpoint_failing(endpoint).await;
        self.told(endpoint, read).flatten()
    }

    /// Redis is away: the streak is as the record has it, and goes on with the next call.
    fn told<T>(&self, endpoint: &str, answer: Result<T, JobStoreError>) -> Option<T> {
        answer
            .map_err(|error| {
                self.well.forget(endpoint);
                tracing::debug!(
                    endpoint,
                    error = photofinish_runtime::error_chain(&error),
                    "the streak of an endpoint"
                );
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_well_for_a_while_and_until_it_fails() {
        let (well, now) = (Well::default(), Instant::now());
        assert!(!well.is("whe_1", now));
        well.note("whe_1", now);
        assert!(well.is("whe_1", now + WELL_FOR / 2));
        assert!(!well.is("whe_1", now + WELL_FOR));
        well.forget("whe_1");
        assert!(!well.is("whe_1", now));
        for number in 0..=WELL_MAX {
            well.note(&number.to_string(), now);
        }
        assert!(well.lock().len() <= WELL_MAX);
    }
}
