//! The one admission of both doors.
//!
//! Order: check → id → what is there already → large request to the bucket → message (confirmed) → record. A crash
//! after the message leaves a job that is admitted and not answered; with an idempotency key the client's second try
//! is the same job.

use crate::canonical::body_sha256;
use crate::core::Ingest;
use crate::error::{Error, Refusal};
use jiff::{SignedDuration, Timestamp};
use photofinish_contract::messages::{JobAccepted, PlanMessage, RequestRef};
use photofinish_contract::problem::{Problem, ProblemError};
use photofinish_contract::request::{JobRequest, Task, parse};
use photofinish_jobstore::Created;
use photofinish_model::estimate::Rate;
use photofinish_model::plan::{outlook, plan};
use photofinish_model::{Code, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, Tenant, Usage};
use photofinish_runtime::trace;
use serde_json::Value;

/// A request above this, as JSON, lies in the bucket: messages stay under 64 KiB.
const INLINE_BYTES_MAX: usize = 48 * 1024;
/// Bytes of a webhook's URL at most: it travels in every message of its deliveries.
const WEBHOOK_URL_BYTES_MAX: usize = 8 * 1024;
/// Characters of an idempotency key at most.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// A job that is admitted.
#[derive(Debug, Clone)]
pub(crate) enum Admitted {
    /// Just now.
    New(JobSnapshot),
    /// Before, under the same key with the same body.
    Before(JobSnapshot),
}

impl Ingest {
    /// Admits a job. `key` is the idempotency key.
    pub(crate) async fn admit(
        &self,
        tenant: &Tenant,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Admitted, Refusal> {
        let request = self.check(body)?;
        if key.is_some_and(|key| !(1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.chars().count())) {
            let detail =
                format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters");
            return Err(Refusal::new(422, Code::InvalidIdempotencyKey, detail));
        }
        let body_sha256 = body_sha256(body);
        let job = match key {
            Some(key) => JobId::derived(tenant, key),
            None => JobId::from_random(uuid::Uuid::new_v4().as_u128()),
        };
        trace::about(tenant, &job);
        if key.is_some()
            && let Some(there) = self.existing(tenant, &job).await?
        {
            return same_body(there, &body_sha256);
        }
        self.refuse_above_limit().await?;
        if key.is_some() {
            self.refuse_gone(&job).await?;
        }
        let placed = self
            .take_place(tenant, &job, request.item_ids().len())
            .await?;
        let admitted = self.admit_new(tenant, key, job.clone(), request, body_sha256);
        let admitted = admitted.await;
        if placed && admitted.is_err() {
            self.give_up_place(tenant, &job).await;
        }
        admitted
    }

    async fn admit_new(
        &self,
        tenant: &Tenant,
        key: Option<&str>,
        job: JobId,
        request: JobRequest,
        body_sha256: String,
    ) -> Result<Admitted, Refusal> {
        let rate = self.rate(request.operation()).await;
        let snapshot = self.fresh(tenant, job, &request, body_sha256, rate);
        self.announce(&snapshot, request, rate).await?;
        self.record(snapshot, key.is_some()).await
    }

    /// Makes a body canonical and checks its addresses; names every fault.
    pub(crate) fn check(&self, body: &Value) -> Result<JobRequest, Refusal> {
        let (request, mut errors) = match parse(body) {
            Ok(request) => (Some(request), Vec::new()),
            Err(fault) => (None, fault.errors),
        };
        if let Some(request) = &request {
            errors.extend(self.refused_addresses(request));
        }
        match request {
            Some(request) if errors.is_empty() => Ok(request),
            Some(_) | None => {
                let detail = "the request breaks rules; `errors` names each with its place";
                let problem = Problem::new(422, Code::InvalidRequest, detail);
                Err(problem.with_errors(errors).into())
            }
        }
    }

    fn refused_addresses(&self, request: &JobRequest) -> Vec<ProblemError> {
        let urls: Vec<(String, &str)> = match &request.task {
            Task::Img2vid(task) => {
                let places = task.images.iter().enumerate();
                let row = |(place, image)| (format!("/images/{place}/image_url"), image);
                places
                    .map(row)
                    .map(|(at, image)| (at, image.image_url.as_str()))
                    .collect()
            }
            Task::Caption(task) => vec![
                ("/url_video".to_owned(), &task.url_video),
                ("/url_srt".to_owned(), &task.url_srt),
            ],
            Task::Addaudio(task) => vec![
                ("/url_video".to_owned(), &task.url_video),
                ("/url_audio".to_owned(), &task.url_audio),
            ],
        };
        let mut errors: Vec<ProblemError> = urls
            .into_iter()
            .filter_map(|(pointer, url)| {
                let refused = self.config.inputs.check_text(url).err()?;
                Some(ProblemError {
                    pointer,
                    code: Code::AddressRefused,
                    detail: refused.to_string(),
                })
            })
            .collect();
        let webhook = request.webhook_url.as_ref();
        if let Some((code, detail)) = webhook.and_then(|url| self.refused_receiver(url)) {
            errors.push(ProblemError {
                pointer: "/webhook_url".to_owned(),
                code,
                detail,
            });
        }
        errors
    }

    /// Why a webhook's URL is not taken, of a job or of an endpoint.
    pub(crate) fn refused_receiver(&self, url: &str) -> Option<(Code, String)> {
        if url.len() > WEBHOOK_URL_BYTES_MAX {
            let detail = format!("a webhook's URL has at most {WEBHOOK_URL_BYTES_MAX} bytes");
            return Some((Code::OutOfRange, detail));
        }
        let refused = self.config.receivers.check_text(url).err()?;
        Some((Code::AddressRefused, refused.to_string()))
    }

    /// The job that an idempotency key has made before.
    async fn existing(&self, tenant: &Tenant, job: &JobId) -> Result<Option<JobSnapshot>, Error> {
        match self.jobstore.job(job).await {
            Ok(Some(there)) => return Ok(Some(there)),
            Ok(None) => {}
            Err(error) => tracing::warn!(
                error = photofinish_runtime::error_chain(&error),
                "Redis is away: asking the bucket"
            ),
        }
        self.rebuilt(tenant, job).await
    }

    /// The id of a deleted job is not used again at once: processes trust the plan that they have read for a while.
    async fn refuse_gone(&self, job: &JobId) -> Result<(), Refusal> {
        if !self.jobstore.is_gone(job).await.unwrap_or(false) {
            return Ok(());
        }
        let detail =
            "the job of this idempotency key was deleted just now; try again in some minutes";
        Err(Refusal::new(503, Code::Unavailable, detail))
    }

    async fn refuse_above_limit(&self) -> Result<(), Refusal> {
        if !self.is_full().await {
            return Ok(());
        }
        metrics::counter!("photofinish_ingest_above_limit_total").increment(1);
        let detail = "more jobs are in flight than are taken at the moment; try again in a while";
        Err(Refusal::new(503, Code::TooManyJobs, detail))
    }

    fn fresh(
        &self,
        tenant: &Tenant,
        job: JobId,
        request: &JobRequest,
        body_sha256: String,
        rate: Rate,
    ) -> JobSnapshot {
        let (works, policy) = (request.works(), &self.config.plan);
        let parts = plan(&works, policy, rate);
        let created_at = self.now();
        let row = |(index, item)| ItemRow {
            index,
            item,
            state: ItemState::Pending,
        };
        JobSnapshot {
            job,
            tenant: tenant.clone(),
            run: 1,
            operation: request.operation(),
            priority: request.priority,
            status: JobStatus::Accepted,
            created_at,
            started_at: None,
            finished_at: None,
            deadline_at: later(created_at, request.deadline_s),
            on_item_error: request.on_item_error(),
            items: (0..).zip(request.item_ids()).map(row).collect(),
            parts: parts.len() as u16,
            forecast: outlook(&works, &parts, policy, rate).forecast(),
            error: None,
            usage: Usage::default(),
            metadata: request.metadata.clone(),
            receivers: Some(request.webhook_url.iter().cloned().collect()),
            outputs_deleted_at: None,
            body_sha256,
        }
    }

    /// The one durable effect.
    async fn announce(
        &self,
        job: &JobSnapshot,
        request: JobRequest,
        rate: Rate,
    ) -> Result<(), Error> {
        let request = if serde_json::to_vec(&request)?.len() > INLINE_BYTES_MAX {
            let sha256 = self
                .objects
                .put_request(&job.tenant, &job.job, &request)
                .await?;
            RequestRef::Stored { sha256 }
        } else {
            RequestRef::Inline(Box::new(request))
        };
        let message = PlanMessage::JobAccepted(JobAccepted {
            job: job.job.clone(),
            tenant: job.tenant.clone(),
            accepted_at: job.created_at,
            body_sha256: job.body_sha256.clone(),
            request,
            rate: Some(rate),
        });
        self.tell_dispatcher(&message, format!("{}/accepted", job.job))
            .await
    }

    /// The record, as far as Redis is there: the dispatcher makes it otherwise.
    async fn record(&self, job: JobSnapshot, keyed: bool) -> Result<Admitted, Refusal> {
        match self.jobstore.create(&job).await {
            // Another call with the same key was faster, or the dispatcher was.
            Ok(Created::Exists) if keyed => match self.jobstore.job(&job.job).await {
                Ok(Some(there)) if there.created_at != job.created_at => {
                    same_body(there, &job.body_sha256)
                }
                Ok(_) | Err(_) => Ok(Admitted::New(job)),
            },
            Ok(Created::Created | Created::Exists) => Ok(Admitted::New(job)),
            Err(error) => {
                tracing::warn!(job = %job.job, error = photofinish_runtime::error_chain(&error), "admitted without a record");
                Ok(Admitted::New(job))
            }
        }
    }
}

fn same_body(there: JobSnapshot, body_sha256: &str) -> Result<Admitted, Refusal> {
    if there.body_sha256 == body_sha256 {
        return Ok(Admitted::Before(there));
    }
    let detail = format!(
        "the key was used for {} with another body; send a new key for a new job",
        there.job
    );
    Err(Refusal::new(422, Code::IdempotencyKeyReused, detail))
}

fn later(at: Timestamp, seconds: u32) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(i64::from(seconds)))
        .unwrap_or(Timestamp::MAX)
}
