//! Pinning a new image, and waiting until every worker runs it.
//!
//! Guarantee: it ends well only when no worker runs an older version. During the wait old and new workers take from
//! the same queue.

use std::time::{Duration, Instant};

use photofinish_runpod::management::{Endpoint, WorkerStage, Workers};
use serde_json::{Value, json};

use super::site::Site;
use crate::args::RolloutArgs;
use crate::endpoint_error::EndpointError;
use crate::error::CliError;
use crate::output::Output;
use crate::verdict::Verdict;

/// Pins the image, then waits.
pub(crate) async fn rollout(
    site: &Site,
    args: &RolloutArgs,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    if !args.allow_latest {
        refuse_moving_tag(&args.image)?;
    }
    let endpoint = site.endpoint().await?;
    let before = site.management.workers(&endpoint.id).await?;
    let is_new = endpoint.spec.image != args.image;
    if is_new {
        pin(site, &endpoint, &args.image).await?;
        output.note(&format!(
            "{} ({}): {} → {}",
            endpoint.spec.name, endpoint.id, endpoint.spec.image, args.image
        ));
    } else {
        output.note(&format!("{} is pinned already", args.image));
    }
    // Until the version has risen, the list of workers is the one from before.
    let above = before.endpoint_version.filter(|_| is_new);
    let workers = wait(site, &endpoint, args, above, output).await?;
    let answer = json!({"endpoint": {"id": endpoint.id, "name": endpoint.spec.name},
        "image": args.image, "changed": is_new, "version": workers.endpoint_version,
        "workers": workers.rows.len()});
    output.answer(&answer, |answer| done(answer, &args.image))?;
    Ok(Verdict::Well)
}

async fn pin(site: &Site, endpoint: &Endpoint, image: &str) -> Result<(), CliError> {
    let body = json!({"image": image});
    match site.management.patch_endpoint(&endpoint.id, &body).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_unknown() => {
            let now = site.management.get_endpoint(&endpoint.id).await?;
            if now.spec.image == image {
                Ok(())
            } else {
                Err(error.into())
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn wait(
    site: &Site,
    endpoint: &Endpoint,
    args: &RolloutArgs,
    above: Option<u64>,
    output: &Output,
) -> Result<Workers, CliError> {
    let until = Instant::now() + Duration::from_secs(args.timeout_s);
    let mut last = String::new();
    loop {
        let told = match site.management.workers(&endpoint.id).await {
            Ok(workers) => {
                let left = old_workers(&workers, &args.image, above);
                if left == Some(0) {
                    return Ok(workers);
                }
                progress(&workers, left)
            }
            Err(error) if error.is_transient() => format!("{error}; asking again"),
            Err(error) => return Err(error.into()),
        };
        if told != last {
            output.note(&told);
            last = told;
        }
        if Instant::now() >= until {
            return Err(EndpointError::NotRolledOut {
                seconds: args.timeout_s,
                state: last,
            }
            .into());
        }
        // A quota of 60 calls a minute leaves room for others.
        tokio::time::sleep(Duration::from_millis(args.poll_ms)).await;
    }
}

/// Workers that run something older; `None` while the list may be the one from before the change.
fn old_workers(workers: &Workers, image: &str, above: Option<u64>) -> Option<usize> {
    if let (Some(now), Some(above)) = (workers.endpoint_version, above)
        && now <= above
    {
        return None;
    }
    let rows = workers.rows.iter();
    let old = rows.filter(|row| {
        let other_image = row.image.as_deref().is_some_and(|theirs| theirs != image);
        row.is_stale || other_image
    });
    Some(old.count())
}

fn progress(workers: &Workers, left: Option<usize>) -> String {
    let Some(left) = left else {
        return "waiting for RunPod to make the new version".to_owned();
    };
    let total = workers.rows.len();
    let busy = workers
        .rows
        .iter()
        .filter(|row| row.is_stale && row.stage == WorkerStage::Running);
    let busy = match busy.count() {
        0 => String::new(),
        busy => format!("; {busy} older one(s) end after their job"),
    };
    format!("{} of {total} worker(s) run it{busy}", total - left)
}

fn done(answer: &Value, image: &str) -> String {
    match answer["workers"].as_u64() {
        Some(0) | None => format!("no worker is up; the next ones run {image}\n"),
        Some(count) => format!("all {count} worker(s) run {image}\n"),
    }
}

/// A tag that is pushed again says nothing about what a host has in its cache.
fn refuse_moving_tag(image: &str) -> Result<(), CliError> {
    if image.contains('@') {
        return Ok(());
    }
    let tag = image
        .rsplit('/')
        .next()
        .and_then(|last| last.split_once(':'));
    match tag {
        Some((_, tag)) if tag != "latest" => Ok(()),
        Some(_) | None => Err(EndpointError::MovingTag {
            image: image.to_owned(),
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_pushed_once_is_pinned() {
        for image in [
            "o/w:1",
            "host:5000/o/w:1.2",
            "o/w@sha256:ab",
            "o/w:latest@sha256:ab",
        ] {
            assert!(refuse_moving_tag(image).is_ok(), "{image}");
        }
        for image in ["o/w", "o/w:latest", "host:5000/o/w"] {
            assert!(refuse_moving_tag(image).is_err(), "{image}");
        }
    }

    fn workers(version: u64, rows: &Value) -> Workers {
        Workers::from_value(&json!({"endpointVersion": version, "workers": rows})).unwrap()
    }

    #[test]
    fn a_list_from_before_the_change_is_not_the_end() {
        let fresh = json!([{"id": "a", "status": "IDLE", "isStale": false}]);
        assert_eq!(old_workers(&workers(1, &fresh), "new:1", Some(1)), None);
        assert_eq!(old_workers(&workers(2, &fresh), "new:1", Some(1)), Some(0));
        assert_eq!(old_workers(&workers(1, &fresh), "new:1", None), Some(0));
        let mixed = json!([{"id": "a", "status": "RUNNING", "isStale": true},
                           {"id": "b", "status": "IDLE", "isStale": false, "image": "old:1"},
                           {"id": "c", "status": "IDLE", "isStale": false, "image": "new:1"}]);
        let mixed = workers(2, &mixed);
        assert_eq!(old_workers(&mixed, "new:1", Some(1)), Some(2));
        let told = progress(&mixed, Some(2));
        assert_eq!(
            told,
            "1 of 3 worker(s) run it; 1 older one(s) end after their job"
        );
    }
}
