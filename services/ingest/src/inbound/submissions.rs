//! The queue `ingest.submissions`: `job.submit` and `job.cancel` by AMQP.
//!
//! Guarantee: a message is acknowledged when its job is admitted and its sender was answered, or when it lies in
//! `photofinish.rejected` with the reason. When a dependency is away, too many jobs are in flight, or the tenant sends
//! faster than it may, it waits in a retry tier and takes nobody's place meanwhile.

use super::jobs::count;
use crate::admission::Admitted;
use crate::core::Ingest;
use crate::error::{Error, Refusal};
use crate::problems::{decode, is_json};
use crate::quotas::Door;
use photofinish_broker::{
    Disposition, FIRST_KEY, Incoming, Outgoing, REJECTED_CODE, REJECTED_DETAIL, TENANT, Target,
    is_ours,
};
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
/// On a submission that has waited for its place in the tenant's rate.
const PACED: &str = "x-photofinish-paced";
/// Bytes of `x-rejected-detail` at most.
const DETAIL_BYTES_MAX: usize = 1000;

/// Encodings that leave the bytes as they are.
const PLAIN_ENCODINGS: [&str; 5] = ["", "identity", "utf-8", "utf8", "us-ascii"];

/// What a message came to.
enum Answer {
    Accepted(JobSnapshot),
    Cancelling(JobSnapshot),
}

impl Answer {
    /// The property `type` of the reply, and the job.
    fn parts(&self) -> (&'static str, &JobSnapshot) {
        match self {
            Self::Accepted(job) => ("job.accepted", job),
            Self::Cancelling(job) => ("job.cancelling", job),
        }
    }
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
            Ok(answer) => self.tell(&incoming, &answer).await,
            Err(Refusal::Problem(problem)) if is_for_later(&problem) => return again,
            Err(Refusal::Over(over)) if over.code == Code::RateLimited => {
                return snoozed(over.retry_after);
            }
            Err(Refusal::Problem(problem)) => self.reject(&incoming, &problem).await,
            Err(Refusal::Fault(error)) if error.is_transient() => Err(error),
            Err(refusal @ (Refusal::Over(_) | Refusal::Fault(_))) => {
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
        if self.answers_another(incoming).await? {
            let detail = "reply_to names another tenant's queue; name one of your own";
            return Err(Refusal::new(422, Code::InvalidReplyTo, detail));
        }
        match incoming.routing_key.as_str() {
            "job.submit" => {
                if incoming.header(PACED).is_none() {
                    self.pace(&tenant, Door::Amqp).await?;
                }
                let body = body_of(incoming)?;
                let key = key_of(incoming)?;
                let admitted = self.admit(&tenant, key, &body).await;
                count("amqp", &admitted);
                let (Admitted::New(job) | Admitted::Before(job)) = admitted?;
                Ok(Answer::Accepted(job))
            }
            "job.cancel" => {
                let id = cancelled_id(&body_of(incoming)?)?;
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
        if self.is_tenant(&tenant).await? {
            return Ok(tenant);
        }
        Err(unknown(format!(
            "there is no tenant {tenant}; an operator makes it"
        )))
    }

    /// Whether `reply_to` is named as a queue of another tenant (`{tenant}.…`): an answer goes out with our rights, and
    /// must not reach what its submitter could not.
    async fn answers_another(&self, incoming: &Incoming) -> Result<bool, Error> {
        let default = self.config.default_tenant.as_ref().map(Tenant::as_str);
        let own = incoming.submitter().or(default);
        let owner = incoming.reply_to.as_deref().unwrap_or_default();
        let owner = owner.split_once('.').map(|(owner, _)| owner);
        // `amq.…` is named by RabbitMQ.
        let other = owner.filter(|owner| *owner != "amq" && Some(*owner) != own);
        match other.and_then(|other| other.parse::<Tenant>().ok()) {
            Some(other) => self.is_tenant(&other).await,
            None => Ok(false),
        }
    }

    /// Tells whoever waits for it what the message came to: the job, as HTTP answers it.
    async fn tell(&self, incoming: &Incoming, answer: &Answer) -> Result<(), Error> {
        if incoming.reply_to.is_none() {
            return Ok(());
        }
        let (kind, job) = answer.parts();
        self.reply(incoming, kind, &self.view(job).await?).await
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
            .header(FIRST_KEY, &incoming.routing_key)
            .correlation_id(incoming.correlation_id.clone());
        if let Some(user) = incoming.submitter() {
            outgoing = outgoing.header(TENANT, user);
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
        // Unknown is no reason to write into a queue that may be another's.
        if self.answers_another(incoming).await.unwrap_or(true) {
            return Ok(());
        }
        self.reply(incoming, "job.rejected", problem).await
    }
}

/// Over a rate a submission takes its place in time, and is taken when it comes up again: it spends no attempt, and
/// none that came later passes it by.
fn snoozed(wait: Duration) -> Disposition {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Disposition::Snooze {
        wait: Duration::from_secs(whole),
        mark: Some(PACED),
    }
}

/// What is away or too much at the moment may be there later.
fn is_for_later(problem: &Problem) -> bool {
    [Code::TooManyJobs, Code::Unavailable].contains(&problem.code)
}

/// The body as a JSON value, as HTTP takes it: a type or an encoding that is named must be the right one.
fn body_of(incoming: &Incoming) -> Result<Value, Refusal> {
    let wrong = |detail: &str| Err(Refusal::new(415, Code::WrongType, detail));
    let content_type = incoming.content_type.as_deref();
    if content_type.is_some_and(|kind| !kind.is_empty() && !is_json(kind)) {
        return wrong("send the body with content_type application/json");
    }
    let encoding = incoming.content_encoding.as_deref().unwrap_or_default();
    if !PLAIN_ENCODINGS.contains(&encoding.to_ascii_lowercase().as_str()) {
        return wrong("send the body as it is, without a content_encoding");
    }
    decode(&incoming.body)
}

/// The idempotency key.
fn key_of(incoming: &Incoming) -> Result<Option<&str>, Refusal> {
    match incoming.message_id.as_deref() {
        Some(id) if Incoming::is_garbled(id) => {
            let detail = "message_id is the idempotency key: send UTF-8 text";
            Err(Refusal::new(422, Code::InvalidIdempotencyKey, detail))
        }
        id => Ok(id),
    }
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
