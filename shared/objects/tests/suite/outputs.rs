//! Outputs on their way, swept, rescued.

use super::*;
use bytes::Bytes;
use futures_util::TryStreamExt;
use photofinish_contract::announcement::{Announcement, AnnouncementKind, Spent};
use photofinish_model::{ItemState, JobId, OutputSource};
use photofinish_objects::{ObjectsError, PART_BYTES};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Every file below a directory.
fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

async fn get(url: &str) -> anyhow::Result<Vec<u8>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).send().await?.error_for_status()?;
    assert_eq!(answer.headers()["content-type"], "video/mp4");
    Ok(answer.bytes().await?.to_vec())
}

#[tokio::test]
async fn outputs_of_every_size_arrive_whole_with_what_is_known_of_them() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(4);
    let sizes = [0, 1, PART_BYTES, PART_BYTES + 1, 64 * 1024 * 1024];
    for (index, size) in sizes.into_iter().enumerate() {
        let body = noise(size);
        let meta = meta(&job, 1, index as u16, &body);
        let stored = upload(&objects, meta.clone(), &body).await?;
        assert!(
            stored
                .key
                .starts_with(&format!("media/acme/{job}/{index:04}-image"))
        );
        assert!(objects.output_exists(&stored.key).await?);
        let now = time("2026-11-22T10:00:00Z");
        let (url, until) = objects
            .presign_get(&stored.key, Duration::from_mins(1), now)
            .await?;
        assert_eq!(until, time("2026-11-22T10:01:00Z"));
        let got = get(&url).await?;
        assert_eq!(
            hex::encode(Sha256::digest(&got)),
            meta.sha256,
            "{size} bytes"
        );
    }
    let listed = objects.stored_outputs(&tenant(), &job).await?;
    assert_eq!(listed.len(), sizes.len());
    for ((index, output), size) in listed.iter().zip(sizes) {
        assert_eq!(output.bytes, size as u64);
        assert_eq!(
            output.sha256,
            hex::encode(Sha256::digest(noise(size))),
            "{index}"
        );
        assert_eq!((output.run, output.attempt), (1, 2));
        assert!((output.duration_s - 2.5).abs() < 1e-9);
        assert_eq!(output.source, OutputSource::PulledInProgress);
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_that_ends_early_leaves_nothing() -> Outcome {
    let (server, objects) = start().await?;
    let job = JobId::from_random(5);
    let body = noise(3 * PART_BYTES);
    let half = Bytes::from(body[..2 * PART_BYTES + 7].to_vec());

    let mut aborted = objects.begin_output(meta(&job, 1, 0, &body));
    aborted.write(half.clone()).await?;
    aborted.abort().await;

    let mut short = objects.begin_output(meta(&job, 1, 1, &body));
    short.write(half.clone()).await?;
    let short = short.finish().await.unwrap_err();
    assert!(matches!(short, ObjectsError::Length { .. }), "{short:?}");

    let mut long = objects.begin_output(meta(&job, 1, 2, &body[..10]));
    assert!(long.write(half.clone()).await.is_err());

    let mut dropped = objects.begin_output(meta(&job, 1, 3, &body));
    dropped.write(half).await?;
    drop(dropped);

    assert!(objects.stored_outputs(&tenant(), &job).await?.is_empty());
    let root = server.root().to_path_buf();
    photofinish_kit::wait_until(Duration::from_secs(10), "the parts are gone", || {
        let left = files_below(&root);
        async move {
            left.iter()
                .all(|file| file.metadata().is_ok_and(|meta| meta.len() < 4096))
        }
    })
    .await
}

#[tokio::test]
async fn a_sweep_touches_only_its_own_run() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(6);
    let (a, b) = (noise(100), noise(101));
    let old = upload(&objects, meta(&job, 1, 0, &a), &a).await?;
    let kept = upload(&objects, meta(&job, 2, 1, &a), &a).await?;
    let lost = upload(&objects, meta(&job, 2, 1, &b), &b).await?;
    let newer = upload(&objects, meta(&job, 3, 1, &b), &b).await?;
    let attempt = attempt(&job, 2);
    put_rescued(&objects, &attempt, 1, b"left over").await?;

    let mut end = run_doc(&job, 2, 2).initial_snapshot();
    end.items[1].state = ItemState::Stored(kept.clone());
    objects.sweep(&end).await?;
    objects.sweep(&end).await?;

    for (output, there) in [(&old, true), (&kept, true), (&lost, false), (&newer, true)] {
        assert_eq!(
            objects.output_exists(&output.key).await?,
            there,
            "{}",
            output.key
        );
    }
    assert!(objects.list_rescued(&attempt).await?.is_empty());
    objects.delete_output(&old.key).await?;
    objects.delete_output(&old.key).await?;
    assert!(!objects.output_exists(&old.key).await?);
    Ok(())
}

#[tokio::test]
async fn a_worker_rescues_with_nothing_but_urls() -> Outcome {
    let (_server, objects) = start().await?;
    let attempt = attempt(&JobId::from_random(7), 1);
    assert!(objects.list_rescued(&attempt).await?.is_empty());
    assert!(objects.rescued_stream(&attempt, 3).await?.is_none());
    assert!(objects.rescue_report(&attempt).await?.is_none());
    put_rescued(&objects, &attempt, 12, b"twelve").await?;
    put_rescued(&objects, &attempt, 3, b"three!!").await?;
    let report = Announcement {
        kind: AnnouncementKind::Rescued,
        run_id: "r".to_owned(),
        nonce: attempt.nonce.clone(),
        worker_id: "w".to_owned(),
        boot: "b".to_owned(),
        addresses: Vec::new(),
        outputs: Vec::new(),
        rescued: vec![3, 12],
        errors: Vec::new(),
        spent: Spent::default(),
    };
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = objects
        .presign_report_put(&attempt, Duration::from_mins(1))
        .await?;
    let body = serde_json::to_vec(&report)?;
    client
        .put(url)
        .body(body)
        .send()
        .await?
        .error_for_status()?;

    assert_eq!(objects.list_rescued(&attempt).await?, vec![(3, 7), (12, 6)]);
    assert_eq!(objects.rescue_report(&attempt).await?, Some(report));
    let rescued = objects.rescued_stream(&attempt, 3).await?.unwrap();
    assert_eq!(rescued.bytes, 7);
    let chunks: Vec<Bytes> = rescued.stream.try_collect().await?;
    assert_eq!(chunks.concat(), b"three!!");

    let target = objects
        .presign_upload_put(
            &tenant(),
            "abc",
            Duration::from_mins(1),
            Duration::from_mins(1),
        )
        .await?;
    client
        .put(target.put_url)
        .body("mine")
        .send()
        .await?
        .error_for_status()?;
    let mine = client
        .get(target.get_url)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?;
    assert_eq!(mine, "mine");
    Ok(())
}
