//! From an admitted request to a planned run: the documents.

use crate::core::Core;
use crate::error::Error;
use jiff::{SignedDuration, Timestamp};
use photofinish_contract::messages::{JobAccepted, Receiver, RequestRef};
use photofinish_contract::request::JobRequest;
use photofinish_model::estimate::{Forecast, Rate};
use photofinish_model::plan::{ItemWork, PartPlan, outlook, plan};
use photofinish_model::{ItemRow, JobSnapshot, run};
use photofinish_objects::RunDoc;

impl Core {
    /// Plans run 1 of an admitted job, once: of a redelivery's plan and the stored one, the stored one counts.
    /// True: it is this call's.
    pub async fn plan_first_run(&self, accepted: &JobAccepted) -> Result<(RunDoc, bool), Error> {
        let request = match &accepted.request {
            RequestRef::Inline(request) => (**request).clone(),
            RequestRef::Stored { sha256 } => self
                .objects
                .request(&accepted.tenant, &accepted.job, sha256)
                .await?
                .ok_or_else(|| Error::Missing {
                    what: "the request",
                    job: accepted.job.clone(),
                })?,
        };
        let receivers = request
            .webhook_url
            .iter()
            .map(|url| Receiver::JobUrl { url: url.clone() })
            .collect();
        let deadline = SignedDuration::from_secs(i64::from(request.deadline_s));
        let rate = match accepted.rate {
            Some(rate) => rate,
            None => self.rate(request.operation()).await,
        };
        let (plan, forecast) = self.split(&request, &[], rate);
        let doc = RunDoc {
            job: accepted.job.clone(),
            tenant: accepted.tenant.clone(),
            run: 1,
            plan,
            forecast,
            request,
            receivers,
            accepted_at: accepted.accepted_at,
            deadline_at: accepted.accepted_at + deadline,
            created_at: accepted.accepted_at,
            body_sha256: accepted.body_sha256.clone(),
            carried: Vec::new(),
        };
        Ok(self.objects.put_first_run(&doc).await?)
    }

    /// Plans the run after an ended one, for what did not succeed. `None`: nothing to do.
    pub async fn plan_retry(
        &self,
        end: &JobSnapshot,
        accepted_at: Timestamp,
    ) -> Result<Option<RunDoc>, Error> {
        let next = end.run + 1;
        if let Some(doc) = self.objects.run(&end.tenant, &end.job, next).await? {
            return Ok(Some(doc));
        }
        let deleted = self.objects.outputs_deleted_at(&end.tenant, &end.job);
        if deleted.await?.is_some() {
            // Since the retry was asked for: a new run would promise again what is gone.
            return Ok(None);
        }
        let missing = || Error::Missing {
            what: "the last run",
            job: end.job.clone(),
        };
        let last = self
            .objects
            .run(&end.tenant, &end.job, end.run)
            .await?
            .ok_or_else(missing)?;
        let deadline = SignedDuration::from_secs(i64::from(last.request.deadline_s));
        let Some(snapshot) = run::retried(end, accepted_at, accepted_at + deadline) else {
            return Ok(None);
        };
        let carried: Vec<ItemRow> = snapshot
            .items
            .into_iter()
            .filter(|row| row.state.is_settled())
            .collect();
        let rate = self.rate(last.request.operation()).await;
        let (plan, forecast) = self.split(&last.request, &carried, rate);
        let doc = RunDoc {
            run: next,
            plan,
            forecast,
            accepted_at,
            deadline_at: accepted_at + deadline,
            carried,
            ..last
        };
        Ok(Some(self.objects.put_run(&doc).await?))
    }

    /// The parts for the items that are not carried over from an earlier run, and what they are
    /// expected to take.
    fn split(
        &self,
        request: &JobRequest,
        carried: &[ItemRow],
        rate: Rate,
    ) -> (Vec<PartPlan>, Forecast) {
        let mut works = request.works();
        works.retain(|item: &ItemWork| !carried.iter().any(|row| row.index == item.index));
        let policy = &self.config.plan;
        let parts = plan(&works, policy, rate);
        let forecast = outlook(&works, &parts, policy, rate).forecast();
        (parts, forecast)
    }
}
