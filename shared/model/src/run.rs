//! How a run ends. The dispatcher alone ends runs; the arbiter between its reasons is the
//! put-if-absent of `end-{run}`, so what is decided here is only ever a proposal.

use crate::{Code, Fault, ItemRow, ItemState, JobSnapshot, JobStatus, OnItemError};
use jiff::Timestamp;

/// A reason from outside the items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// A person wants it.
    Cancel,
    /// The deadline has passed.
    Deadline,
    /// A message of it was parked.
    Abandon(Fault),
}

/// What a run would end with, or that it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Items are still open.
    GoesOn,
    /// It has ended already: what is owed for its end is done again.
    AlreadyFinal,
    /// It ends so.
    Ends {
        /// With this status.
        status: JobStatus,
        /// For this reason.
        error: Option<Fault>,
    },
}

/// Decides whether a run ends: by what its items say, else by a reason from outside.
pub fn verdict(job: &JobSnapshot, stop: Option<&Stop>) -> Verdict {
    if job.status.is_final() {
        return Verdict::AlreadyFinal;
    }
    let counts = job.counts();
    let failed = first_failed(&job.items);
    if let (OnItemError::Fail, Some((row, fault))) = (job.on_item_error, failed) {
        return failed_by(row, fault);
    }
    if counts.pending() == 0 {
        return match failed {
            Some((row, fault)) if counts.stored == 0 => failed_by(row, fault),
            Some(_) | None => Verdict::Ends {
                status: JobStatus::Completed,
                error: None,
            },
        };
    }
    match stop {
        None => Verdict::GoesOn,
        Some(Stop::Cancel) => Verdict::Ends {
            status: JobStatus::Cancelled,
            error: None,
        },
        Some(Stop::Deadline) => Verdict::Ends {
            status: JobStatus::Failed,
            error: Some(Fault::new(
                Code::DeadlineExceeded,
                format!(
                    "{} of {} items were not done by {}; retry the job, or give it a longer \
                     deadline_s",
                    counts.pending(),
                    counts.total,
                    job.deadline_at
                ),
            )),
        },
        Some(Stop::Abandon(fault)) => Verdict::Ends {
            status: JobStatus::Failed,
            error: Some(fault.clone()),
        },
    }
}

fn first_failed(items: &[ItemRow]) -> Option<(&ItemRow, &Fault)> {
    items.iter().find_map(|row| match &row.state {
        ItemState::Failed(fault) => Some((row, fault)),
        ItemState::Pending | ItemState::Rendering | ItemState::Ready | ItemState::Stored(_) => None,
    })
}

fn failed_by(row: &ItemRow, fault: &Fault) -> Verdict {
    Verdict::Ends {
        status: JobStatus::Failed,
        error: Some(Fault::new(
            Code::ItemFailed,
            format!(
                "item {:?} failed with {}: {}; mend it and retry the job, or submit with \
                 on_item_error \"skip\"",
                row.item, fault.code, fault.detail
            ),
        )),
    }
}

/// The whole final job: what `end-{run}` holds. Items that were under way are open again, so that
/// a retry takes them up.
pub fn ended(
    job: &JobSnapshot,
    status: JobStatus,
    error: Option<Fault>,
    at: Timestamp,
) -> JobSnapshot {
    let mut end = job.clone();
    end.status = status;
    end.error = error;
    end.finished_at = Some(at);
    for row in &mut end.items {
        if !row.state.is_settled() {
            row.state = ItemState::Pending;
        }
    }
    end
}

/// The next run of an ended job: what is stored stays, the rest is open again. `None` when there
/// is nothing to do or the run has not ended.
pub fn retried(
    end: &JobSnapshot,
    accepted_at: Timestamp,
    deadline_at: Timestamp,
) -> Option<JobSnapshot> {
    let counts = end.counts();
    if !end.status.is_final() || counts.stored == counts.total {
        return None;
    }
    let mut next = end.clone();
    next.run = end.run + 1;
    next.status = JobStatus::Accepted;
    next.started_at = None;
    next.finished_at = None;
    next.error = None;
    next.deadline_at = deadline_at.max(accepted_at);
    for row in &mut next.items {
        if !matches!(row.state, ItemState::Stored(_)) {
            row.state = ItemState::Pending;
        }
    }
    Some(next)
}
