//! What an endpoint is doing, what is wrong with it, and what to do. The judgement is pure.

use photofinish_runpod::client::Health;
use photofinish_runpod::management::{Endpoint, Releases, WorkerStage, Workers};
use serde_json::{Value, json};

use super::health_text;
use super::site::Site;
use crate::error::CliError;
use crate::output::{Output, chain};
use crate::verdict::Verdict;

/// What could be learnt, and why the rest could not.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// What it is.
    pub(crate) endpoint: Endpoint,
    /// Who works there.
    pub(crate) workers: Workers,
    /// Whether RunPod told who works there.
    pub(crate) knows_workers: bool,
    /// How far the last version has got.
    pub(crate) releases: Releases,
    /// Jobs, as the data plane counts them.
    pub(crate) jobs: Option<Health>,
    /// What could not be asked, and why.
    pub(crate) unknown: Vec<String>,
}

/// Something to know.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// For programs.
    pub(crate) code: &'static str,
    /// Whether someone must act.
    pub(crate) is_fault: bool,
    /// What is so.
    pub(crate) text: String,
    /// What to do.
    pub(crate) advice: &'static str,
}

/// Shows it; ends unwell if something is wrong.
pub(crate) async fn health(site: &Site, output: &mut Output) -> Result<Verdict, CliError> {
    let snapshot = look(site).await?;
    let findings = findings(&snapshot);
    let answer = to_json(&snapshot, &findings);
    output.answer(&answer, |_| health_text::text(&snapshot, &findings))?;
    Ok(if is_well(&snapshot, &findings) {
        Verdict::Well
    } else {
        Verdict::Unwell
    })
}

async fn look(site: &Site) -> Result<Snapshot, CliError> {
    let endpoint = site.endpoint().await?;
    let mut unknown = Vec::new();
    let id = &endpoint.id;
    let workers = match site.management.workers(id).await {
        Ok(workers) => Some(workers),
        Err(error) => {
            unknown.push(format!("workers: {}", chain(&error)));
            None
        }
    };
    let releases = site.management.releases(id).await.unwrap_or_else(|error| {
        unknown.push(format!("releases: {}", chain(&error)));
        Releases::default()
    });
    let jobs = match site.data.health(id).await {
        Ok(health) => Some(health),
        Err(error) => {
            unknown.push(format!("jobs: {}", chain(&error)));
            None
        }
    };
    Ok(Snapshot {
        endpoint,
        knows_workers: workers.is_some(),
        workers: workers.unwrap_or_default(),
        releases,
        jobs,
        unknown,
    })
}

/// What could not be learnt is not well: whoever asks by exit code must not take it for that.
fn is_well(snapshot: &Snapshot, findings: &[Finding]) -> bool {
    snapshot.unknown.is_empty() && findings.iter().all(|finding| !finding.is_fault)
}

/// What is to be said of a snapshot, faults first.
pub(crate) fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    about_queue(snapshot, &mut found);
    about_workers(snapshot, &mut found);
    about_rollout(snapshot, &mut found);
    found.sort_by_key(|finding| !finding.is_fault);
    found
}

fn about_queue(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let Some(health) = &snapshot.jobs else { return };
    let jobs = &health.jobs;
    let bounds = &snapshot.endpoint.spec.workers;
    let count = |stage: &WorkerStage| snapshot.workers.count(stage) as u64;
    let up = count(&WorkerStage::Running) + count(&WorkerStage::Idle);
    let starting = count(&WorkerStage::Initializing);
    let queued = jobs.in_queue;
    let mut add = |code, is_fault, text, advice| {
        found.push(Finding {
            code,
            is_fault,
            text,
            advice,
        });
    };
    if queued > 0 && bounds.max == 0 {
        add(
            "no_workers_allowed",
            true,
            format!("{queued} job(s) wait, and workers.max is 0"),
            "RunPod lowers it after days without jobs and after crash loops: `photofinish endpoint apply` restores it.",
        );
    } else if !snapshot.knows_workers {
        // Whether anybody is at it cannot be judged.
    } else if queued > 0 && up == 0 && starting == 0 {
        add(
            "queue_without_worker",
            true,
            format!("{queued} job(s) wait, and no worker is up or starting"),
            "One is due after the queue delay. If none comes: throttled and unhealthy workers above, the account's \
             balance, and the pools in endpoint.toml.",
        );
    } else if queued > 0 && up == 0 {
        add(
            "cold_start",
            false,
            format!("{queued} job(s) wait for {starting} worker(s) that start"),
            "A cold start takes seconds, with a new image minutes; after 7 minutes RunPod calls the worker unhealthy.",
        );
    } else if queued > bounds.max && count(&WorkerStage::Running) >= bounds.max {
        add(
            "queue_behind_workers",
            false,
            format!(
                "{queued} job(s) wait behind {up} busy worker(s), which is all that workers.max allows"
            ),
            "Raise workers.max in endpoint.toml, and `runpod.workers_max` of the dispatcher with it, if that is too slow.",
        );
    }
    if jobs.failed > jobs.completed {
        add(
            "most_jobs_fail",
            true,
            format!(
                "{} job(s) failed, {} succeeded",
                jobs.failed, jobs.completed
            ),
            "`photofinish endpoint jobs ID…` shows the error of a job.",
        );
    }
    if jobs.retried > 0 {
        add(
            "jobs_run_again",
            false,
            format!(
                "RunPod ran {} job(s) again after losing their worker",
                jobs.retried
            ),
            "A few are normal. Many: workers crash, or their host does; RunPod's console has their logs.",
        );
    }
}

fn about_workers(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let count = |stage: &WorkerStage| snapshot.workers.count(stage);
    let throttled = count(&WorkerStage::Throttled);
    if throttled > 0 {
        let none_up = count(&WorkerStage::Running) + count(&WorkerStage::Idle) == 0;
        found.push(Finding {
            code: "throttled",
            is_fault: none_up,
            text: format!("{throttled} worker(s) are throttled: RunPod has no free GPU for them"),
            advice: "Add pools or take away data_centers in endpoint.toml, then `photofinish endpoint apply`.",
        });
    }
    let unhealthy = count(&WorkerStage::Unhealthy);
    if unhealthy > 0 {
        found.push(Finding {
            code: "unhealthy",
            is_fault: true,
            text: format!("{unhealthy} worker(s) crashed or never became ready"),
            advice: "RunPod's console has their logs. Most often: an image that cannot be pulled, or a worker that \
                     ends at once; `photofinish endpoint rollout --image` goes back to the one before.",
        });
    }
}

fn about_rollout(snapshot: &Snapshot, found: &mut Vec<Finding>) {
    let rows = &snapshot.workers.rows;
    let stale = rows.iter().filter(|row| row.is_stale).count();
    if stale > 0 {
        found.push(Finding {
            code: "stale_workers",
            is_fault: false,
            text: format!("{stale} of {} worker(s) run an older version", rows.len()),
            advice: "They are replaced after their job. `photofinish endpoint rollout --image` waits for it.",
        });
    }
    let image = &snapshot.endpoint.spec.image;
    if image.ends_with(":latest")
        || !image
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains([':', '@']))
    {
        found.push(Finding {
            code: "moving_image",
            is_fault: false,
            text: format!("the image {image} has no tag of its own"),
            advice: "Hosts go on using the copy they have: pin a tag or digest with `photofinish endpoint rollout`.",
        });
    }
}

fn to_json(snapshot: &Snapshot, findings: &[Finding]) -> Value {
    let endpoint = &snapshot.endpoint;
    let workers: Vec<Value> = snapshot
        .workers
        .rows
        .iter()
        .map(|row| {
            json!({"id": row.id, "state": row.stage.as_str(), "stale": row.is_stale,
                   "version": row.version, "image": row.image, "gpu": row.gpu_type,
                   "data_center": row.data_center, "uptime_s": row.uptime_s})
        })
        .collect();
    let rows: Vec<Value> = findings
        .iter()
        .map(|one| {
            json!({"code": one.code, "fault": one.is_fault, "text": one.text, "advice": one.advice})
        })
        .collect();
    json!({
        "endpoint": {"id": endpoint.id, "name": endpoint.spec.name, "image": endpoint.spec.image,
                     "workers_min": endpoint.spec.workers.min,
                     "workers_max": endpoint.spec.workers.max,
                     "version": snapshot.workers.endpoint_version},
        "jobs": snapshot.jobs.as_ref().map(|health| &health.jobs),
        "worker_counts": snapshot.jobs.as_ref().map(|health| &health.workers),
        "workers": workers, "findings": rows, "unknown": snapshot.unknown,
        "healthy": is_well(snapshot, findings),
    })
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
