//! Jobs as clients read them, with URLs signed now.

use crate::core::Ingest;
use crate::error::Error;
use jiff::Timestamp;
use photofinish_contract::job::{Job, OutputRow, Progress, ViewSettings};
use photofinish_jobstore::Header;
use photofinish_model::{ItemRow, ItemState, JobSnapshot};
use std::collections::HashMap;

impl Ingest {
    pub(crate) fn view_settings(&self) -> ViewSettings<'_> {
        ViewSettings {
            public_url: &self.config.public_url,
            usd_per_gpu_second: self.config.usd_per_gpu_second,
            now: Some(self.now()),
        }
    }

    /// The job with a row for each item.
    pub(crate) async fn view(&self, snapshot: &JobSnapshot) -> Result<Job, Error> {
        let signed = self.signed(snapshot, &snapshot.items).await?;
        Ok(Job::with_outputs(snapshot, self.view_settings(), |key| {
            signed.get(key).cloned()
        }))
    }

    /// The job without its items, counted by Redis.
    pub(crate) fn view_of_header(&self, header: &Header) -> Job {
        let mut job = Job::without_outputs(&header.job, self.view_settings());
        job.progress = Progress::of(&header.job, header.counts, Some(self.now()));
        job
    }

    /// Rows of some of a job's items.
    pub(crate) async fn rows(
        &self,
        snapshot: &JobSnapshot,
        items: &[ItemRow],
    ) -> Result<Vec<OutputRow>, Error> {
        let signed = self.signed(snapshot, items).await?;
        Ok(items
            .iter()
            .map(|row| OutputRow::of(row, |key| signed.get(key).cloned()))
            .collect())
    }

    /// A URL and its end for each stored item, by key; none for outputs that were deleted. Signing asks nobody.
    pub(crate) async fn signed<'a>(
        &self,
        snapshot: &JobSnapshot,
        items: impl IntoIterator<Item = &'a ItemRow>,
    ) -> Result<HashMap<String, (String, Timestamp)>, Error> {
        let now = self.now();
        let mut signed = HashMap::new();
        let there = snapshot.outputs_deleted_at.is_none();
        for row in items.into_iter().filter(|_| there) {
            match &row.state {
                ItemState::Stored(output) => {
                    let ttl = self.config.output_ttl;
                    let url = self.objects.presign_get(&output.key, ttl, now).await?;
                    signed.insert(output.key.clone(), url);
                }
                ItemState::Pending
                | ItemState::Rendering
                | ItemState::Ready
                | ItemState::Failed(_) => {}
            }
        }
        Ok(signed)
    }
}
