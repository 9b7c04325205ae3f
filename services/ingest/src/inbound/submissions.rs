//! The queue `ingest.submissions`: `job.submit` and `job.cancel` by AMQP.
//!
//! A message is acknowledged when its job is admitted, or when it lies in `photofinish.rejected` with the reason.
//! When a dependency is away, or too many jobs are in flight, it waits in a retry tier.

use super::jobs::count;
use crate::admission::Admitted;
use crate::core::Ingest;
use crate::error::{Error, Refusal};
use crate::problems::decode;
use photofinish_broker::{
    Disposition, Incoming, Outgoing, REJECTED_CODE, REJECTED_DETAIL, Target, is_ours,
};
use photofinish_contract::job::Job;
use photofinish_contract::problem::Problem;
use photofinish_model::{Code, JobSnapshot, Tenant};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// Waits before a submission is taken up again, by its attempt.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// Bytes of `x-rejected-detail` at most.
const DETAIL_BYTES_MAX: usize = 1000;

/// What a message came to.
enum Answer {
    Accepted(JobSnapshot),
    Cancelling(JobSnapshot),
}

impl Ingest {
    /// Handles one message.
    pub(crate) async fn on_submission(&self, incoming: Incoming) -> Disposition {
        let again = Disposition::RetryLater(
            WAITS[usize::try_from(incoming.attempt)
                .unwrap_or(0)
                .min(WAITS.len() - 1)],
        );
        let told = match self.handle(&incoming).await {
            Ok(Answer::Accepted(job)) => {
                self.reply(&incoming, "job.accepted", &self.short(&job))
                    .await
            }
            Ok(Answer::Cancelling(job)) => {
                self.reply(&incoming, "job.cancelling", &self.short(&job))
                    .await
            }
            Err(Refusal::Problem(problem)) if is_for_later(&problem) => return again,
            Err(Refusal::Problem(problem)) => self.reject(&incoming, &problem).await,
            Err(Refusal::Fault(error)) if error.is_transient() => Err(error),
            Err(refusal @ Refusal::Fault(_)) => {
                self.reject(&incoming, &refusal.into_problem()).await
            }
        };
        match told {
            Ok(()) => Disposition::Ack,
            Err(error) => {
                tracing::warn!(
                    error = photofinish_runtime::error_chain(&error),
                    "a submission waits"
                );
                again
            }
        }
    }

    async fn handle(&self, incoming: &Incoming) -> Result<Answer, Refusal> {
        let tenant = self.tenant_of(incoming).await?;
        if incoming.reply_to.as_deref().is_some_and(is_ours) {
            let detail = "reply_to names a queue of ours; name one of your own";
            return Err(Refusal::new(422, Code::InvalidReplyTo, detail));
        }
        match incoming.routing_key.as_str() {
            "job.submit" => {
                let body = decode(&incoming.body)?;
                let key = incoming.message_id.as_deref();
                let admitted = self.admit(&tenant, key, &body).await;
                count("amqp", &admitted);
                let (Admitted::New(job) | Admitted::Before(job)) = admitted?;
                Ok(Answer::Accepted(job))
            }
            "job.cancel" => {
                let id = cancelled_id(&decode(&incoming.body)?)?;
                Ok(Answer::Cancelling(self.cancel(&tenant, &id).await?))
            }
            other => {
                let detail = format!("{other:?} is neither job.submit nor job.cancel");
                Err(Refusal::new(422, Code::UnknownRoutingKey, detail))
            }
        }
    }

    /// The tenant is the AMQP user that published.
    async fn tenant_of(&self, incoming: &Incoming) -> Result<Tenant, Refusal> {
        let unknown = |detail: String| Refusal::new(403, Code::UnknownTenant, detail);
        let tenant = match (incoming.submitter(), &self.config.default_tenant) {
            (Some(user), _) => user.parse().map_err(|_| {
                unknown(format!(
                    "the AMQP user {user:?} is no tenant: 1 to 63 of a-z, 0-9 and -"
                ))
            })?,
            (None, Some(tenant)) => tenant.clone(),
            (None, None) => {
                let detail = "set the property user_id to your AMQP user: it names the tenant";
                return Err(unknown(detail.to_owned()));
            }
        };
        match self.tenant_record(&tenant).await? {
            Some(_) => Ok(tenant),
            None => Err(unknown(format!(
                "there is no tenant {tenant}; an operator makes it"
            ))),
        }
    }

    fn short(&self, job: &JobSnapshot) -> Job {
        Job::without_outputs(job, self.view_settings())
    }

    /// Answers, if somebody waits for it. That his queue is gone is no fault.
    async fn reply<T: Serialize>(
        &self,
        incoming: &Incoming,
        kind: &str,
        body: &T,
    ) -> Result<(), Error> {
        let Some(queue) = incoming.reply_to.clone().filter(|queue| !is_ours(queue)) else {
            return Ok(());
        };
        let outgoing = Outgoing::json(Target::Reply { queue }, body)?
            .kind(kind)
            .correlation_id(incoming.correlation_id.clone());
        match self.publisher.publish(outgoing).await {
            // Handled again, a message without an id would be another job.
            Err(error) if error.is_transient() && incoming.message_id.is_some() => {
                Err(error.into())
            }
            Err(error) => {
                tracing::warn!(
                    error = photofinish_runtime::error_chain(&error),
                    kind,
                    "not answered"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// A refused message is never lost: it lies in `photofinish.rejected`, and its sender is told.
    async fn reject(&self, incoming: &Incoming, problem: &Problem) -> Result<(), Error> {
        tracing::info!(code = %problem.code, "submission refused");
        let mut outgoing = Outgoing::new(Target::Rejected, incoming.body.clone())
            .header(REJECTED_CODE, problem.code.as_str())
            .header(REJECTED_DETAIL, &detail(problem))
            .correlation_id(incoming.correlation_id.clone());
        if let Some(user) = incoming.submitter() {
            outgoing = outgoing.header("x-photofinish-tenant", user);
        }
        if let Some(id) = &incoming.message_id {
            outgoing = outgoing.message_id(id);
        }
        if let Some(content_type) = &incoming.content_type {
            outgoing = outgoing.content_type(content_type);
        }
        self.publisher.publish(outgoing).await?;
        let labels = [("code", problem.code.as_str())];
        metrics::counter!("photofinish_ingest_rejected_total", &labels).increment(1);
        self.reply(incoming, "job.rejected", problem).await
    }
}

/// Over a rate a submission is delayed, not refused.
fn is_for_later(problem: &Problem) -> bool {
    problem.code == Code::TooManyJobs || problem.code == Code::Unavailable
}

fn cancelled_id(body: &Value) -> Result<String, Refusal> {
    let only_id = |body: &Value| {
        let fields = body.as_object().filter(|fields| fields.len() == 1)?;
        fields.get("id")?.as_str().map(str::to_owned)
    };
    only_id(body).ok_or_else(|| {
        Refusal::new(
            422,
            Code::InvalidRequest,
            "the body must be {\"id\": \"job_…\"}, no more",
        )
    })
}

/// The problem's sentence, and the first faults.
fn detail(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    for error in &problem.errors {
        // Writing to a String cannot fail.
        let _written = write!(text, "; {} {}: {}", error.pointer, error.code, error.detail);
    }
    let mut end = text.len().min(DETAIL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
