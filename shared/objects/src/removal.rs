//! All of a job, gone: on request, or when its time is over.
//!
//! The guarantee: may be cut short and repeated; what tells that the job was there goes last, so
//! that its idempotency key lives as long as anything of it lies in the bucket.

use crate::keys::parse_output_name;
use crate::{Objects, ObjectsError};
use jiff::Timestamp;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use photofinish_model::{JobId, Tenant};

/// Jobs of a page.
const JOBS_PAGE: usize = 200;

impl Objects {
    /// Deletes everything of a job. Only of one whose runs are all closed: what runs would write
    /// on.
    pub async fn delete_job(&self, tenant: &Tenant, job: &JobId) -> Result<(), ObjectsError> {
        let all = |prefix: Path| async move {
            let found = self.list_below(&prefix).await?;
            Ok::<_, ObjectsError>(
                found
                    .into_iter()
                    .map(|meta| meta.location)
                    .collect::<Vec<_>>(),
            )
        };
        self.delete_all(all(self.keys.rescue_job(tenant, job)).await?)
            .await?;
        let documents = self.keys.documents(tenant, job);
        let (ours, files): (Vec<Path>, Vec<Path>) = all(self.keys.job(tenant, job))
            .await?
            .into_iter()
            .partition(|key| key.prefix_matches(&documents));
        self.delete_all(files).await?;
        let is_run = |key: &Path| {
            key.filename()
                .is_some_and(|name| name.starts_with("run-") || name.starts_with("end-"))
        };
        let (runs, others): (Vec<Path>, Vec<Path>) = ours.into_iter().partition(is_run);
        self.delete_all(others).await?;
        self.delete_all(runs).await
    }

    /// Every job of a tenant of which anything lies in the bucket.
    pub async fn jobs_of(&self, tenant: &Tenant) -> Result<Vec<JobId>, ObjectsError> {
        let here = self.list_here(&self.keys.tenant(tenant)).await?;
        let job = |prefix: &Path| prefix.filename()?.parse().ok();
        Ok(here.common_prefixes.iter().filter_map(job).collect())
    }

    /// A page of a tenant's jobs from where `token` says (nothing: the first), in the order of the bucket, and where
    /// the next page begins.
    pub async fn jobs_page(
        &self,
        tenant: &Tenant,
        token: Option<String>,
    ) -> Result<(Vec<JobId>, Option<String>), ObjectsError> {
        let prefix = self.keys.tenant(tenant);
        let below = format!("{prefix}/");
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            max_keys: Some(JOBS_PAGE),
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let store = self.store();
        let page = store.list_paginated(Some(&below), options);
        let page = self.call("list", &prefix, page).await?;
        let job = |prefix: &Path| prefix.filename()?.parse().ok();
        let jobs = page.result.common_prefixes.iter().filter_map(job).collect();
        Ok((jobs, page.page_token))
    }

    /// When a job ended, by the age of its manifest; nothing for one that has none.
    pub async fn ended_at(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Option<Timestamp>, ObjectsError> {
        let manifest = self.keys.manifest(tenant, job);
        let found = self.head(&manifest).await?;
        Ok(found.and_then(|found| {
            Timestamp::from_millisecond(found.meta.last_modified.timestamp_millis()).ok()
        }))
    }

    /// Deletes every output of a job, of all its runs; its documents stay.
    pub async fn delete_outputs(&self, tenant: &Tenant, job: &JobId) -> Result<(), ObjectsError> {
        let here = self.list_here(&self.keys.job(tenant, job)).await?;
        let keys = here.objects.into_iter().map(|meta| meta.location);
        let output = |key: &Path| {
            key.filename()
                .is_some_and(|name| parse_output_name(name).is_some())
        };
        self.delete_all(keys.filter(output).collect()).await
    }
}
