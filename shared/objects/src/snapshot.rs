//! A run's snapshot, rebuilt from what lies in the bucket.

use crate::docs::{PartRecord, RunDoc};
use crate::{Objects, ObjectsError};
use jiff::Timestamp;
use photofinish_contract::messages::Receiver;
use photofinish_model::{
    ItemIndex, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, StoredOutput, Tenant, Usage,
};

impl Objects {
    /// The snapshot of a run: its end if it has one, else its plan with what is known of its
    /// items. What it cost is not known before the end. Nothing for an unknown run.
    pub async fn snapshot(
        &self,
        tenant: &Tenant,
        job: &JobId,
        run: u32,
    ) -> Result<Option<JobSnapshot>, ObjectsError> {
        if let Some(end) = self.end(tenant, job, run).await? {
            let outputs_deleted_at = self.outputs_deleted_at(tenant, job).await?;
            return Ok(Some(JobSnapshot {
                outputs_deleted_at,
                ..end
            }));
        }
        let Some(doc) = self.run(tenant, job, run).await? else {
            return Ok(None);
        };
        let records = self.part_records(tenant, job, run).await?;
        let outputs = self.stored_outputs(tenant, job).await?;
        Ok(Some(rebuild(&doc, &records, outputs)))
    }

    /// Notes that a job's outputs are deleted from now on; gives the instant that counts, which is the first.
    pub async fn mark_outputs_deleted(
        &self,
        tenant: &Tenant,
        job: &JobId,
        at: Timestamp,
    ) -> Result<Timestamp, ObjectsError> {
        let key = self.keys.outputs_deleted(tenant, job);
        let (at, _mine) = self.create_document(&key, &at).await?;
        Ok(at)
    }

    /// When a job's outputs were deleted.
    pub async fn outputs_deleted_at(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Option<Timestamp>, ObjectsError> {
        self.document(&self.keys.outputs_deleted(tenant, job)).await
    }
}

/// Of several outputs of an item in this run the first counts; a stored output counts more than a
/// fault, because the client is better off with it.
fn rebuild(
    doc: &RunDoc,
    records: &[PartRecord],
    outputs: Vec<(ItemIndex, StoredOutput)>,
) -> JobSnapshot {
    let mut snapshot = doc.initial_snapshot();
    let mut begun = !records.is_empty();
    for fault in records.iter().flat_map(|record| &record.errors) {
        settle(
            &mut snapshot.items,
            fault.index,
            ItemState::Failed(fault.fault.clone()),
        );
    }
    for (index, output) in outputs
        .into_iter()
        .filter(|(_, output)| output.run == doc.run)
    {
        begun = true;
        settle(&mut snapshot.items, index, ItemState::Stored(output));
    }
    if begun {
        snapshot.status = JobStatus::Running;
    }
    snapshot
}

fn settle(items: &mut [ItemRow], index: ItemIndex, state: ItemState) {
    if let Some(row) = items.get_mut(usize::from(index)) {
        match (&row.state, &state) {
            (ItemState::Stored(_), _) | (ItemState::Failed(_), ItemState::Failed(_)) => {}
            (
                ItemState::Pending | ItemState::Rendering | ItemState::Ready | ItemState::Failed(_),
                _,
            ) => row.state = state,
        }
    }
}

impl RunDoc {
    /// The addresses that the job itself names; nothing when others are among its receivers.
    fn own_receivers(&self) -> Option<Vec<String>> {
        let own = self.receivers.iter().map(|receiver| match receiver {
            Receiver::JobUrl { url } => Some(url.clone()),
            Receiver::Endpoint { .. } => None,
        });
        own.collect()
    }

    /// The run as it is before anything has happened: every item pending but those carried over.
    pub fn initial_snapshot(&self) -> JobSnapshot {
        let items = self
            .request
            .item_ids()
            .into_iter()
            .enumerate()
            .map(|(index, item)| ItemRow {
                index: index as ItemIndex,
                item,
                state: ItemState::Pending,
            });
        let mut snapshot = JobSnapshot {
            job: self.job.clone(),
            tenant: self.tenant.clone(),
            run: self.run,
            operation: self.request.operation(),
            priority: self.request.priority,
            status: JobStatus::Accepted,
            created_at: self.created_at,
            started_at: None,
            finished_at: None,
            deadline_at: self.deadline_at,
            on_item_error: self.request.on_item_error(),
            items: items.collect(),
            parts: self.plan.len() as u16,
            forecast: self.forecast,
            error: None,
            usage: Usage::default(),
            metadata: self.request.metadata.clone(),
            receivers: self.own_receivers(),
            outputs_deleted_at: None,
            body_sha256: self.body_sha256.clone(),
        };
        for row in &self.carried {
            settle(&mut snapshot.items, row.index, row.state.clone());
        }
        snapshot
    }
}
