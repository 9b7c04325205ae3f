//! What the dispatcher tells of tenants and endpoints: what a tenant has used in a day, which of its
//! jobs have ended, how an endpoint stands.

use crate::core::Core;
use crate::endpoints::Endpoint;
use crate::error::Error;
use photofinish_contract::endpoint::EndpointNote;
use photofinish_model::quota::day;
use photofinish_model::{AttemptRef, JobSnapshot, Tenant, Usage};
use photofinish_objects::{DayUsage, TenantRecord};
use photofinish_runtime::error_chain;

impl Core {
    /// A tenant's record, if it has one.
    pub async fn tenant_record(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, Error> {
        let (kind, id) = (TenantRecord::KIND, tenant.as_str());
        self.jobstore
            .system_through_copy(kind, id, async || {
                Ok::<_, Error>(self.objects.system_get(kind, id).await?)
            })
            .await
    }

    /// Counts what an attempt cost for its tenant's day, once. Best effort: a quota that cannot be
    /// counted must not keep a job from its end.
    pub async fn count_for_tenant(&self, attempt: &AttemptRef, usage: Usage) {
        if usage.gpu_seconds <= 0.0 {
            return;
        }
        if let Err(error) = self.count_day(attempt, usage).await {
            tracing::warn!(%attempt, error = error_chain(&error), "not counted for its tenant");
        }
    }

    async fn count_day(&self, attempt: &AttemptRef, usage: Usage) -> Result<(), Error> {
        let (tenant, today) = (&attempt.tenant, day(self.clock.now()));
        let nonce = attempt.nonce.as_str();
        let add = (usage.gpu_seconds, usage.cost_usd);
        let mut sum = self.jobstore.add_to_day(tenant, &today, nonce, add).await?;
        if !sum.based {
            let written = self.objects.usage_of_day(tenant, &today).await?;
            let written = written.unwrap_or_default();
            let base = (written.gpu_seconds, written.cost_usd);
            self.jobstore.base_day(tenant, &today, base).await?;
            sum = self.jobstore.add_to_day(tenant, &today, nonce, add).await?;
        }
        if sum.save {
            let usage = DayUsage {
                gpu_seconds: sum.gpu_seconds,
                cost_usd: sum.cost_usd,
            };
            self.objects
                .put_usage_of_day(tenant, &today, &usage)
                .await?;
        }
        Ok(())
    }

    /// Notes the end of a job whose files are not kept for ever.
    pub async fn note_end(&self, end: &JobSnapshot) -> Result<(), Error> {
        let record = self.tenant_record(&end.tenant).await?;
        if record.is_none_or(|record| !record.retention.is_limited()) {
            return Ok(());
        }
        let at = end.finished_at.unwrap_or_else(|| self.clock.now());
        Ok(self.jobstore.note_ended(&end.tenant, &end.job, at).await?)
    }

    /// Tells operators how an endpoint stands. Best effort: it is told again in a moment.
    pub async fn note_endpoint(&self, endpoint: &Endpoint) {
        let standing = self.reported.of(&endpoint.id);
        let note = EndpointNote {
            at: self.clock.now(),
            capacity: endpoint.capacity,
            in_flight: standing.in_flight,
            short: standing.short,
            resting: self.runpod.submits_refused_for(&endpoint.id).is_some(),
        };
        let Ok(json) = serde_json::to_string(&note) else {
            return;
        };
        if let Err(error) = self.jobstore.note_endpoint(&endpoint.id, &json).await {
            tracing::debug!(endpoint = endpoint.id, %error, "tell how an endpoint stands");
        }
    }
}
