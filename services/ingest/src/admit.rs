//! Admission: one function for both doors.

use crate::core::Core;
use crate::error::{Error, Fault, chain};
use crate::refusal::Refusal;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::messages::{
    Command, JobAccepted, JobCommand, PlanMessage, RequestRef,
};
use photofinish_contract::problem::ProblemError;
use photofinish_contract::request::{JobRequest, Task, body_sha256, frame_count, parse};
use photofinish_jobstore::Created;
use photofinish_model::plan::{ItemWork, PartPlan, plan};
use photofinish_model::{
    Code, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, Tenant, Usage,
};
use photofinish_outbound::Guard;
use serde_json::Value;

/// An idempotency key is at most this long.
pub const KEY_CHARS_MAX: usize = 255;
/// A request larger than this as JSON goes by way of the bucket; messages stay under 64 KiB.
const INLINE_BYTES_MAX: usize = 48 * 1024;

/// What admission says.
#[derive(Debug)]
pub enum Admitted {
    /// A new job.
    New(Box<JobSnapshot>),
    /// The job that the same key and body made before.
    Known(Box<JobSnapshot>),
}

impl Core {
    /// Checks a body without admitting it: the canonical request and the plan it would get.
    pub fn check(&self, body: &Value) -> Result<(JobRequest, Vec<PartPlan>), Fault> {
        let request = parse(body).map_err(|fault| Refusal::invalid(fault.errors))?;
        let errors = self.refused_addresses(&request);
        if !errors.is_empty() {
            return Err(Refusal::invalid(errors).into());
        }
        let parts = plan(&works(&request), &self.config.plan);
        Ok((request, parts))
    }

    /// Admits a job of a tenant, under an idempotency key if there is one.
    pub async fn admit(
        &self,
        tenant: &Tenant,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Admitted, Fault> {
        if key.is_some_and(|key| key.is_empty() || key.chars().count() > KEY_CHARS_MAX) {
            return Err(Refusal::new(
                422,
                Code::InvalidIdempotencyKey,
                format!("an idempotency key has 1 to {KEY_CHARS_MAX} characters"),
            )
            .into());
        }
        let (request, parts) = self.check(body)?;
        let body_sha256 = body_sha256(body);
        let job = match key {
            Some(key) => JobId::derived(tenant, key),
            None => JobId::from_random(uuid::Uuid::new_v4().as_u128()),
        };
        if key.is_some()
            && let Some(known) = self.job(tenant, &job).await?
        {
            return same_body(known, &body_sha256);
        }
        self.room().await?;
        let accepted_at = self.clock.now();
        let snapshot = fresh(tenant, &job, &request, parts.len(), accepted_at, &body_sha256);
        let accepted = JobAccepted {
            job: job.clone(),
            tenant: tenant.clone(),
            accepted_at,
            body_sha256,
            request: self.request_ref(tenant, &job, request).await?,
        };
        self.send(Route::JobAccepted, &PlanMessage::JobAccepted(accepted), format!("{job}.1"))
            .await?;
        // The confirmed message is the acceptance; the record is made again by the dispatcher.
        match self.jobstore.create(&snapshot).await {
            Ok(Created::Created | Created::Exists) => {}
            Err(error) => tracing::warn!(%job, error = chain(&error), "record an accepted job"),
        }
        metrics::counter!("photofinish_jobs_accepted_total",
            "operation" => snapshot.operation.as_str())
        .increment(1);
        tracing::info!(%job, %tenant, operation = %snapshot.operation,
            items = snapshot.items.len(), "accepted");
        Ok(Admitted::New(Box::new(snapshot)))
    }

    /// Asks for a job to be cancelled.
    pub async fn cancel(&self, tenant: &Tenant, job: &JobId) -> Result<JobSnapshot, Fault> {
        let found = self.job(tenant, job).await?.ok_or_else(|| Refusal::not_found("job"))?;
        if found.status.is_final() {
            let status = found.status.as_str();
            let detail = format!("the job is {status} already");
            return Err(Refusal::new(409, Code::JobFinished, detail).into());
        }
        self.command(&found, Command::Cancel, "cancel").await?;
        Ok(found)
    }

    /// Asks for a new run of what did not succeed.
    pub async fn retry(&self, tenant: &Tenant, job: &JobId) -> Result<JobSnapshot, Fault> {
        let found = self.job(tenant, job).await?.ok_or_else(|| Refusal::not_found("job"))?;
        let counts = found.counts();
        if !found.status.is_final() {
            let detail = "the job is still running; cancel it first or wait for its end";
            return Err(Refusal::new(409, Code::JobNotFinished, detail).into());
        }
        if counts.stored == counts.total {
            let detail = "every item of the job has succeeded";
            return Err(Refusal::new(409, Code::NothingToRetry, detail).into());
        }
        let accepted_at = self.clock.now();
        self.command(&found, Command::Retry { accepted_at }, "retry").await?;
        Ok(found)
    }

    async fn command(&self, job: &JobSnapshot, command: Command, word: &str) -> Result<(), Error> {
        let message = PlanMessage::JobCommand(JobCommand {
            job: job.job.clone(),
            tenant: job.tenant.clone(),
            run: job.run,
            command,
        });
        self.send(Route::JobCommand, &message, format!("{}.{}.{word}", job.job, job.run)).await
    }

    async fn send(&self, route: Route, message: &PlanMessage, id: String) -> Result<(), Error> {
        let outgoing = Outgoing::json(Target::Pipeline(route), message)?.message_id(id);
        Ok(self.publisher.publish(outgoing).await?)
    }

    async fn room(&self) -> Result<(), Fault> {
        let in_flight = match self.jobstore.jobs_in_flight().await {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(error = chain(&error), "count jobs in flight");
                return Ok(());
            }
        };
        if in_flight < self.config.jobs_in_flight_max {
            return Ok(());
        }
        let mut refusal = Refusal::unavailable();
        refusal.problem.code = Code::TooManyJobs;
        refusal.problem.detail =
            "too many jobs are in flight; send the same request again later".to_owned();
        Err(refusal.into())
    }

    async fn request_ref(
        &self,
        tenant: &Tenant,
        job: &JobId,
        request: JobRequest,
    ) -> Result<RequestRef, Error> {
        if serde_json::to_vec(&request)?.len() <= INLINE_BYTES_MAX {
            return Ok(RequestRef::Inline(Box::new(request)));
        }
        let sha256 = self.objects.put_request(tenant, job, &request).await?;
        Ok(RequestRef::Stored { sha256 })
    }

    /// Addresses that may never be called, as far as they can be known without asking DNS.
    fn refused_addresses(&self, request: &JobRequest) -> Vec<ProblemError> {
        let mut errors = Vec::new();
        let mut check = |guard: &Guard, pointer: String, url: &str| {
            if let Err(refused) = guard.check_text(url) {
                let detail = format!("{refused}; name a public address");
                errors.push(ProblemError { pointer, code: Code::AddressRefused, detail });
            }
        };
        match &request.task {
            Task::Img2vid(task) => {
                for (at, image) in task.images.iter().enumerate() {
                    check(&self.inputs, format!("/images/{at}/image_url"), &image.image_url);
                }
            }
            Task::Caption(task) => {
                check(&self.inputs, "/url_video".to_owned(), &task.url_video);
                check(&self.inputs, "/url_srt".to_owned(), &task.url_srt);
            }
            Task::Addaudio(task) => {
                check(&self.inputs, "/url_video".to_owned(), &task.url_video);
                check(&self.inputs, "/url_audio".to_owned(), &task.url_audio);
            }
        }
        if let Some(url) = &request.webhook_url {
            check(&self.receivers, "/webhook_url".to_owned(), url);
        }
        errors
    }
}

fn same_body(known: JobSnapshot, body_sha256: &str) -> Result<Admitted, Fault> {
    if known.body_sha256 == body_sha256 {
        return Ok(Admitted::Known(Box::new(known)));
    }
    Err(Refusal::new(
        422,
        Code::IdempotencyKeyReused,
        format!("the key was used with another body, for {}; use a new key", known.job),
    )
    .into())
}

fn fresh(
    tenant: &Tenant,
    job: &JobId,
    request: &JobRequest,
    parts: usize,
    accepted_at: jiff::Timestamp,
    body_sha256: &str,
) -> JobSnapshot {
    let row = |(at, item)| ItemRow { index: at as u16, item, state: ItemState::Pending };
    JobSnapshot {
        job: job.clone(),
        tenant: tenant.clone(),
        run: 1,
        operation: request.operation(),
        priority: request.priority,
        status: JobStatus::Accepted,
        created_at: accepted_at,
        started_at: None,
        finished_at: None,
        deadline_at: accepted_at + jiff::SignedDuration::from_secs(request.deadline_s.into()),
        on_item_error: request.on_item_error(),
        items: request.item_ids().into_iter().enumerate().map(row).collect(),
        parts: parts as u16,
        error: None,
        usage: Usage::default(),
        metadata: request.metadata.clone(),
        body_sha256: body_sha256.to_owned(),
    }
}

/// The work in each item, in frames.
pub fn works(request: &JobRequest) -> Vec<ItemWork> {
    match &request.task {
        Task::Img2vid(task) => task
            .images
            .iter()
            .enumerate()
            .map(|(at, image)| ItemWork {
                index: at as u16,
                frames: frame_count(image.duration_s, task.frame_rate),
            })
            .collect(),
        Task::Caption(_) | Task::Addaudio(_) => vec![ItemWork { index: 0, frames: 0 }],
    }
}
