//! `ingest.submissions`: the AMQP door.

use crate::admit::Admitted;
use crate::core::Core;
use crate::error::{Error, Fault, chain};
use crate::refusal::Refusal;
use photofinish_broker::{Disposition, Incoming, Outgoing, Target};
use photofinish_contract::request::BODY_BYTES_MAX;
use photofinish_model::{Code, JobId, JobSnapshot, Tenant};
use serde_json::Value;
use std::time::Duration;

/// The pause before a submission is looked at again after a fault of ours.
const AGAIN: Duration = Duration::from_secs(2);
/// The longest pause.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What a message asks for.
enum Asked {
    Submit,
    Cancel,
}

impl Core {
    /// Handles one message: admitted or refused, answered, and only then settled.
    pub async fn on_submission(&self, incoming: Incoming) -> Disposition {
        let outcome = self.handle(&incoming).await;
        let settled = match outcome {
            Ok((kind, snapshot)) => self.answer(&incoming, kind, &snapshot).await,
            Err(Fault::Theirs(refusal)) => self.refuse(&incoming, &refusal).await,
            Err(Fault::Ours(error)) => Err(error),
        };
        match settled {
            Ok(()) => Disposition::Ack,
            Err(error) => {
                tracing::warn!(error = chain(&error), "a submission waits");
                let pause = AGAIN.saturating_mul(1 << incoming.attempt.min(5));
                Disposition::RetryLater(pause.min(AGAIN_MAX))
            }
        }
    }

    async fn handle(&self, incoming: &Incoming) -> Result<(&'static str, JobSnapshot), Fault> {
        let asked = match incoming.routing_key.as_str() {
            "job.submit" => Asked::Submit,
            "job.cancel" => Asked::Cancel,
            other => {
                let detail = format!("{other:?} is no routing key; use job.submit or job.cancel");
                return Err(Refusal::new(404, Code::UnknownRoutingKey, detail).into());
            }
        };
        let tenant = self.publisher_of(incoming)?;
        if incoming.body.len() > BODY_BYTES_MAX {
            let detail = format!("a request body is at most {BODY_BYTES_MAX} bytes");
            return Err(Refusal::new(413, Code::BodyTooLarge, detail).into());
        }
        let body: Value = serde_json::from_slice(&incoming.body).map_err(|error| {
            Refusal::new(400, Code::Malformed, format!("the body is not JSON: {error}"))
        })?;
        match asked {
            Asked::Submit => {
                let key = incoming.message_id.as_deref();
                let (Admitted::New(job) | Admitted::Known(job)) =
                    self.admit(&tenant, key, &body).await?;
                Ok(("job.accepted", *job))
            }
            Asked::Cancel => {
                let id = body.get("id").and_then(Value::as_str);
                let job: JobId = id.and_then(|id| id.parse().ok()).ok_or_else(|| {
                    Refusal::new(422, Code::InvalidRequest, "`id` is the id of a job")
                })?;
                Ok(("job.cancelling", self.cancel(&tenant, &job).await?))
            }
        }
    }

    /// The tenant is the AMQP user, which RabbitMQ itself has checked.
    fn publisher_of(&self, incoming: &Incoming) -> Result<Tenant, Refusal> {
        let user = incoming.submitter().or(self.config.default_tenant.as_deref());
        let Some(user) = user else {
            return Err(Refusal::new(
                401,
                Code::UnknownTenant,
                "set the property `user_id` to the AMQP user that you publish as",
            ));
        };
        user.parse().map_err(|_| {
            Refusal::new(
                401,
                Code::UnknownTenant,
                "the AMQP user is no tenant: a tenant is [a-z0-9-]{1,63}",
            )
        })
    }

    async fn answer(
        &self,
        incoming: &Incoming,
        kind: &'static str,
        job: &JobSnapshot,
    ) -> Result<(), Error> {
        let Some(queue) = &incoming.reply_to else { return Ok(()) };
        let view = self.view(job).await?;
        self.reply(incoming, queue, Outgoing::json(reply_target(queue), &view)?.kind(kind)).await
    }

    /// A refused message is never lost: it lies in the operator's queue with the reason.
    async fn refuse(&self, incoming: &Incoming, refusal: &Refusal) -> Result<(), Error> {
        let problem = &refusal.problem;
        if problem.status >= 500 {
            // Not the client's fault, and it may pass: the message waits.
            return Err(Error::Busy);
        }
        metrics::counter!("photofinish_submissions_refused_total",
            "code" => problem.code.as_str())
        .increment(1);
        let mut rejected = Outgoing::new(Target::Rejected, incoming.body.clone())
            .header("x-rejected-code", problem.code.as_str())
            .header("x-rejected-detail", &detail(refusal))
            .correlation_id(incoming.correlation_id.clone());
        if let Some(id) = &incoming.message_id {
            rejected = rejected.message_id(id);
        }
        if let Some(content_type) = &incoming.content_type {
            rejected = rejected.content_type(content_type);
        }
        self.publisher.publish(rejected).await?;
        if let Some(queue) = &incoming.reply_to {
            let answer = Outgoing::json(reply_target(queue), problem)?.kind("job.rejected");
            self.reply(incoming, queue, answer).await?;
        }
        Ok(())
    }

    /// A reply queue of ours is refused, or a client could inject work.
    async fn reply(
        &self,
        incoming: &Incoming,
        queue: &str,
        outgoing: Outgoing,
    ) -> Result<(), Error> {
        if photofinish_broker::is_ours(queue) {
            tracing::warn!(queue, "a reply_to that names a queue of ours");
            return Ok(());
        }
        let outgoing = outgoing.correlation_id(incoming.correlation_id.clone());
        Ok(self.publisher.publish(outgoing).await?)
    }
}

fn reply_target(queue: &str) -> Target {
    Target::Reply { queue: queue.to_owned() }
}

fn detail(refusal: &Refusal) -> String {
    let mut text = refusal.problem.detail.clone();
    for error in refusal.problem.errors.iter().take(20) {
        text.push_str(&format!("; {}: {}", error.pointer, error.detail));
    }
    text.chars().take(2000).collect()
}
