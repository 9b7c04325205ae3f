//! Pinning a new image, and waiting until every worker runs it.
//!
//! Guarantee: it ends well only when no worker runs an older version, none is still starting or unhealthy, and there
//! are as many as workers.min says. During the wait old and new workers take from the same queue.

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
        "workers": up(&workers)});
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
                let left = left(&workers, &args.image, above, endpoint.spec.workers.min);
                if left == Some(Left::default()) {
                    return Ok(workers);
                }
                progress(&workers, left.as_ref())
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

/// Workers that do not run it yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// Run something older.
    old: usize,
    /// Have it and start.
    starting: usize,
    /// Have it and crash: the image may be broken.
    unhealthy: usize,
    /// Are not there at all, though workers.min calls for them.
    missing: u64,
}

/// What is left to wait for; `None` while the list may be the one from before the change. For a throttled worker
/// nothing is waited: there is no machine for it, nor anything older on it.
fn left(workers: &Workers, image: &str, above: Option<u64>, min: u64) -> Option<Left> {
    if let (Some(now), Some(above)) = (workers.endpoint_version, above)
        && now <= above
    {
        return None;
    }
    let mut left = Left {
        missing: min.saturating_sub(workers.rows.len() as u64),
        ..Left::default()
    };
    for row in &workers.rows {
        let other_image = row.image.as_deref().is_some_and(|theirs| theirs != image);
        if row.is_stale || other_image {
            left.old += 1;
            continue;
        }
        match row.stage {
            WorkerStage::Initializing => left.starting += 1,
            WorkerStage::Unhealthy => left.unhealthy += 1,
            WorkerStage::Running
            | WorkerStage::Idle
            | WorkerStage::Throttled
            | WorkerStage::Other(_) => {}
        }
    }
    Some(left)
}

/// Workers that are there.
fn up(workers: &Workers) -> usize {
    workers.rows.len() - workers.count(&WorkerStage::Throttled)
}

fn progress(workers: &Workers, left: Option<&Left>) -> String {
    let Some(left) = left else {
        return "waiting for RunPod to make the new version".to_owned();
    };
    let stale = workers.rows.iter().filter(|row| row.is_stale);
    let busy = stale
        .filter(|row| row.stage == WorkerStage::Running)
        .count();
    let total = up(workers);
    let run = total.saturating_sub(left.old + left.starting + left.unhealthy);
    let notes = [
        (busy as u64, "older one(s) end after their job"),
        (left.starting as u64, "start"),
        (
            left.unhealthy as u64,
            "unhealthy: they crash or never become ready",
        ),
        (left.missing, "not there yet, which workers.min calls for"),
    ];
    let notes = notes.iter().filter(|(count, _)| *count > 0);
    notes.fold(
        format!("{run} of {total} worker(s) run it"),
        |text, (count, what)| format!("{text}; {count} {what}"),
    )
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
        let left = |workers: &Workers, above| left(workers, "new:1", above, 0);
        let nothing = Some(Left::default());
        assert_eq!(left(&workers(1, &fresh), Some(1)), None);
        assert_eq!(left(&workers(2, &fresh), Some(1)), nothing);
        assert_eq!(left(&workers(1, &fresh), None), nothing);
        let mixed = json!([{"id": "a", "status": "RUNNING", "isStale": true},
                           {"id": "b", "status": "IDLE", "isStale": false, "image": "old:1"},
                           {"id": "c", "status": "IDLE", "isStale": false, "image": "new:1"}]);
        let mixed = workers(2, &mixed);
        let left = left(&mixed, Some(1)).unwrap();
        assert_eq!(left.old, 2);
        assert_eq!(
            progress(&mixed, Some(&left)),
            "1 of 3 worker(s) run it; 1 older one(s) end after their job"
        );
    }

    #[test]
    fn workers_that_start_crash_or_lack_do_not_run_it() {
        let rows = json!([{"id": "a", "status": "INITIALIZING"}, {"id": "b", "status": "UNHEALTHY"},
                          {"id": "c", "status": "THROTTLED"}]);
        let rows = workers(2, &rows);
        let found = left(&rows, "new:1", Some(1), 4).unwrap();
        let expected = Left {
            old: 0,
            starting: 1,
            unhealthy: 1,
            missing: 1,
        };
        assert_eq!(found, expected);
        let told = progress(&rows, Some(&found));
        assert!(
            told.starts_with("0 of 2 worker(s) run it; 1 start; 1 unhealthy"),
            "{told}"
        );
        let throttled = workers(2, &json!([{"id": "c", "status": "THROTTLED"}]));
        assert_eq!(left(&throttled, "new:1", Some(1), 1), Some(Left::default()));
    }
}
