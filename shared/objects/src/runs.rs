//! The documents of a run: plan, request, part records, end, manifest, open marker, sweep.

use crate::docs::{PartRecord, RunDoc};
use crate::keys::{parse_open_marker, parse_output_name};
use crate::store::{PARALLEL_MAX, decode, encode};
use crate::{Objects, ObjectsError};
use futures_util::{StreamExt, TryStreamExt};
use photofinish_contract::job::Job;
use photofinish_contract::request::JobRequest;
use photofinish_model::{ItemState, JobId, JobSnapshot, Tenant};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

impl Objects {
    /// Puts a run's plan unless one is there; gives the one that counts. A run that is new gets
    /// its open marker first, so every run that is there had one until it was closed.
    pub async fn put_run(&self, doc: &RunDoc) -> Result<RunDoc, ObjectsError> {
        let (tenant, job, run) = (&doc.tenant, &doc.job, doc.run);
        if let Some(there) = self.run(tenant, job, run).await? {
            return Ok(there);
        }
        self.open(tenant, job, run).await?;
        let key = self.keys.run(tenant, job, run);
        let (winner, _mine) = self.create_document(&key, doc).await?;
        let bytes = encode(&key, &winner)?.len();
        self.known_runs.keep(key.as_ref(), &winner, bytes);
        Ok(winner)
    }

    /// Puts the plan of a job's first run unless one is there, and its open marker: the message that
    /// is planned for is kept until both are there. Gives the plan that counts, and whether it is the
    /// caller's. Of a run that has ended already the marker is there again, and nobody else's to
    /// take away: so the caller asks for its end next, unless he knows that it has none.
    pub async fn put_first_run(&self, doc: &RunDoc) -> Result<(RunDoc, bool), ObjectsError> {
        let (tenant, job, run) = (&doc.tenant, &doc.job, doc.run);
        let key = self.keys.run(tenant, job, run);
        let planned = self.create_document(&key, doc);
        let ((winner, mine), ()) = tokio::try_join!(planned, self.open(tenant, job, run))?;
        let bytes = encode(&key, &winner)?.len();
        self.known_runs.keep(key.as_ref(), &winner, bytes);
        Ok((winner, mine))
    }

    /// Puts a run's open marker, for a run that ends before it was planned; a plan brings its own.
    pub async fn open(&self, tenant: &Tenant, job: &JobId, run: u32) -> Result<(), ObjectsError> {
        let marker = self.keys.open_marker(tenant, job, run);
        self.put_bytes(&marker, Vec::new()).await
    }

    /// The plan of a run.
    pub async fn run(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
    ) -> Result<Option<RunDoc>, ObjectsError> {
        let key = self.keys.run(tenant, job, run);
        if let Some(known) = self.known_runs.get(key.as_ref()) {
            return Ok(Some(known));
        }
        let Some(body) = self.bytes(&key).await? else {
            return Ok(None);
        };
        let doc = decode(&key, &body)?;
        self.known_runs.keep(key.as_ref(), &doc, body.len());
        Ok(Some(doc))
    }

    /// The highest run of which there is a plan or an end; nothing for an unknown job.
    pub async fn latest_run(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Option<u32>, ObjectsError> {
        let names = self.document_names(tenant, job).await?;
        let run_of = |name: &String| {
            let stem = name.strip_suffix(".json")?;
            let run = stem
                .strip_prefix("run-")
                .or_else(|| stem.strip_prefix("end-"))?;
            run.parse::<u32>().ok()
        };
        Ok(names.iter().filter_map(run_of).max())
    }

    async fn document_names(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Vec<String>, ObjectsError> {
        let list = self.list_here(&self.keys.documents(tenant, job)).await?;
        let name = |meta: object_store::ObjectMeta| meta.location.filename().map(str::to_owned);
        Ok(list.objects.into_iter().filter_map(name).collect())
    }

    /// Puts a large request under its SHA-256, which it returns (64 hexadecimal digits).
    pub async fn put_request(
        &self,
        tenant: &Tenant,
        job: &JobId,
        request: &JobRequest,
    ) -> Result<String, ObjectsError> {
        let body = serde_json::to_vec(request).map_err(|source| ObjectsError::Document {
            key: "request".to_owned(),
            source,
        })?;
        let sha256 = hex::encode(Sha256::digest(&body));
        self.put_bytes(&self.keys.request(tenant, job, &sha256), body)
            .await?;
        Ok(sha256)
    }

    /// A large request, checked against its hash.
    pub async fn request(
        &self,
        tenant: &Tenant,
        job: &JobId,
        sha256: &str,
    ) -> Result<Option<JobRequest>, ObjectsError> {
        let key = self.keys.request(tenant, job, sha256);
        let Some(body) = self.bytes(&key).await? else {
            return Ok(None);
        };
        if hex::encode(Sha256::digest(&body)) != sha256 {
            return Err(ObjectsError::Hash {
                key: key.to_string(),
            });
        }
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|source| ObjectsError::Document {
                key: key.to_string(),
                source,
            })
    }

    /// Puts what failed in a finished part.
    pub async fn put_part_record(
        &self,
        tenant: &Tenant,
        job: &JobId,
        record: &PartRecord,
    ) -> Result<(), ObjectsError> {
        let key = self.keys.part(tenant, job, record.run, record.part);
        self.put_document(&key, record).await
    }

    /// What failed in the finished parts of a run, by part.
    pub async fn part_records(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
    ) -> Result<Vec<PartRecord>, ObjectsError> {
        let prefix = format!("part-{run}-");
        let part_of = |name: &String| {
            name.strip_prefix(&prefix)?
                .strip_suffix(".json")?
                .parse::<u16>()
                .ok()
        };
        let names = self.document_names(tenant, job).await?;
        let mut parts: Vec<u16> = names.iter().filter_map(part_of).collect();
        parts.sort_unstable();
        futures_util::stream::iter(parts)
            .map(|part| async move { self.document(&self.keys.part(tenant, job, run, part)).await })
            .buffered(PARALLEL_MAX)
            .try_filter_map(|record| async move { Ok(record) })
            .try_collect()
            .await
    }

    /// The arbiter of a run's end: puts the whole final job unless one is there. Gives the one
    /// that counts, and whether it is the caller's.
    pub async fn put_end(&self, end: &JobSnapshot) -> Result<(JobSnapshot, bool), ObjectsError> {
        self.create_document(&self.keys.end(&end.tenant, &end.job, end.run), end)
            .await
    }

    /// The end of a run.
    pub async fn end(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
    ) -> Result<Option<JobSnapshot>, ObjectsError> {
        self.document(&self.keys.end(tenant, job, run)).await
    }

    /// Puts the manifest of a job unless the one there is of a higher run.
    pub async fn put_manifest(&self, tenant: &Tenant, manifest: &Job) -> Result<(), ObjectsError> {
        let key = self.keys.manifest(tenant, &manifest.id);
        // The usual first run has none before it, and one call is enough.
        if manifest.run == 1 && self.try_create(&key, encode(&key, manifest)?).await? {
            return Ok(());
        }
        let there = self.manifest(tenant, &manifest.id).await?;
        if there.is_some_and(|there| there.run > manifest.run) {
            return Ok(());
        }
        self.put_document(&key, manifest).await
    }

    /// The manifest of a job.
    pub async fn manifest(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Option<Job>, ObjectsError> {
        self.document(&self.keys.manifest(tenant, job)).await
    }

    /// Deletes the outputs of the end's run that the end does not list, and what that run's
    /// workers have rescued. Outputs of other runs are not touched.
    pub async fn sweep(&self, end: &JobSnapshot) -> Result<(), ObjectsError> {
        let listed: HashSet<&str> = end
            .items
            .iter()
            .filter_map(|row| match &row.state {
                ItemState::Stored(output) => Some(output.key.as_str()),
                ItemState::Pending
                | ItemState::Rendering
                | ItemState::Ready
                | ItemState::Failed(_) => None,
            })
            .collect();
        let here = self
            .list_here(&self.keys.job(&end.tenant, &end.job))
            .await?;
        let of_this_run = |name: &str| parse_output_name(name).is_some_and(|o| o.run == end.run);
        let unlisted = here
            .objects
            .into_iter()
            .map(|meta| meta.location)
            .filter(|key| {
                key.filename().is_some_and(of_this_run) && !listed.contains(key.as_ref())
            });
        self.delete_all(unlisted.collect()).await?;
        let rescued = self.keys.rescue_run(&end.tenant, &end.job, end.run);
        let rescued = self.list_below(&rescued).await?;
        self.delete_all(rescued.into_iter().map(|meta| meta.location).collect())
            .await
    }

    /// Closes a run: deletes its open marker.
    pub async fn close(&self, tenant: &Tenant, job: &JobId, run: u32) -> Result<(), ObjectsError> {
        self.delete(&self.keys.open_marker(tenant, job, run)).await
    }

    /// True until a run is closed.
    pub async fn is_open(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
    ) -> Result<bool, ObjectsError> {
        Ok(self
            .head(&self.keys.open_marker(tenant, job, run))
            .await?
            .is_some())
    }

    /// Every run that is not closed; in a crash between marker and plan also one without a plan.
    pub async fn open_runs(&self) -> Result<Vec<(Tenant, JobId, u32)>, ObjectsError> {
        let markers = self.list_below(&self.keys.open_markers()).await?;
        Ok(markers
            .iter()
            .filter_map(|meta| parse_open_marker(&meta.location))
            .collect())
    }
}
