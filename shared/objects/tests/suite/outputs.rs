//! Outputs on their way, swept, rescued.

use super::*;
use bytes::Bytes;
use futures_util::TryStreamExt;
use photofinish_contract::announcement::{Announcement, AnnouncementKind, Spent};
use photofinish_model::{AttemptRef, ItemState, JobId, OutputSource};
use photofinish_objects::{Class, ObjectsError, PART_BYTES, RescueListing, WHOLE_BYTES_MAX};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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
    let sizes = [0, 1, 300_000, 300_001, 24 * 1024 * 1024];
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

/// Writes so many bytes of a body that repeats.
async fn write(upload: &mut OutputUpload, body: &Bytes, bytes: u64) -> Result<(), ObjectsError> {
    let mut left = bytes;
    while left > 0 {
        let at = usize::try_from(upload.written() % body.len() as u64).unwrap();
        let most = usize::try_from(left.min(300_000)).unwrap();
        let piece = body.slice(at..body.len().min(at + most));
        left -= piece.len() as u64;
        upload.write(piece).await?;
    }
    Ok(())
}

fn meta_of(job: &JobId, index: u16, body: &Bytes, bytes: u64) -> OutputMeta {
    let mut hash = Sha256::new();
    let (whole, rest) = (bytes / body.len() as u64, bytes % body.len() as u64);
    for _ in 0..whole {
        hash.update(body);
    }
    hash.update(&body[..usize::try_from(rest).unwrap()]);
    OutputMeta {
        sha256: hex::encode(hash.finalize()),
        bytes,
        ..meta(job, 1, index, b"")
    }
}

/// Passes on to a server all but the first call that ends an upload in parts: its connection is closed.
#[expect(
    clippy::disallowed_methods,
    reason = "a test has no runtime of ours around it"
)]
async fn without_the_first_end(server: SocketAddr) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let closed = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, server, Arc::clone(&closed)));
        }
    });
    Ok(endpoint)
}

async fn pass_on(
    client: TcpStream,
    server: SocketAddr,
    closed: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let (mut from, mut back) = client.into_split();
    let (mut answers, mut to) = TcpStream::connect(server).await?.into_split();
    let calls = async {
        let mut block = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut block).await?;
            let block = &block[..count];
            let ends =
                block.starts_with(b"POST ") && block.windows(9).any(|bytes| bytes == b"uploadId=");
            if count == 0 || ends && !closed.swap(true, Ordering::Relaxed) {
                return std::io::Result::Ok(());
            }
            to.write_all(block).await?;
        }
    };
    tokio::select! {
        ended = calls => ended,
        ended = tokio::io::copy(&mut answers, &mut back) => ended.map(|_| ()),
    }
}

#[tokio::test]
async fn a_large_output_goes_in_parts_and_goes_on_where_a_part_broke() -> Outcome {
    let server = S3::start().await?;
    let objects = objects_behind(&server, without_the_first_end(server.addr()).await?);
    let job = JobId::from_random(8);
    let body = Bytes::from(noise(1_000_003));
    let bytes = WHOLE_BYTES_MAX + 12_345;
    let meta = meta_of(&job, 0, &body, bytes);
    let mut upload = objects.begin_output(meta.clone());
    assert!(upload.in_parts());
    assert!(!upload.begin_parts().await?.is_empty());
    write(&mut upload, &body, PART_BYTES + 777).await?;
    upload.rewind().await;
    assert_eq!(upload.written() % PART_BYTES, 0, "a part's beginning");
    let left = bytes - upload.written();
    write(&mut upload, &body, left).await?;
    let broken = upload.finish().await.unwrap_err();
    assert_eq!(broken.class(), Class::Transient, "{broken:?}");
    upload.rewind().await;
    assert_eq!(upload.written(), bytes, "every part is there");
    let stored = upload.finish().await?;
    assert_eq!((stored.bytes, &stored.sha256), (bytes, &meta.sha256));
    let file = std::fs::read(server.root().join(server.bucket()).join(&stored.key))?;
    assert_eq!(hex::encode(Sha256::digest(&file)), meta.sha256);
    let listed = objects.stored_outputs(&tenant(), &job).await?;
    assert_eq!(listed[0].1.sha256, meta.sha256, "its metadata, too");
    Ok(())
}

/// A small one goes on from its beginning.
#[tokio::test]
async fn a_put_that_broke_is_sent_again() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(9);
    let body = Bytes::from(noise(1_000_003));
    let mut upload = objects.begin_output(meta_of(&job, 0, &body, 3_000_000));
    assert!(!upload.in_parts());
    write(&mut upload, &body, 2_000_000).await?;
    upload.rewind().await;
    assert_eq!(upload.written(), 0);
    write(&mut upload, &body, 3_000_000).await?;
    let stored = upload.finish().await?;
    assert!(objects.output_exists(&stored.key).await?);
    Ok(())
}

#[tokio::test]
async fn what_is_not_as_announced_never_appears() -> Outcome {
    let (server, objects) = start().await?;
    let job = JobId::from_random(5);
    let body = noise(20_000_000);
    let half = Bytes::from(body[..10_000_007].to_vec());

    let mut aborted = objects.begin_output(meta(&job, 1, 0, &body));
    aborted.write(half.clone()).await?;
    aborted.abort().await?;

    let mut short = objects.begin_output(meta(&job, 1, 1, &body));
    short.write(half.clone()).await?;
    let error = short.finish().await.unwrap_err();
    assert!(matches!(error, ObjectsError::Length { .. }), "{error:?}");
    short.abort().await?;

    let mut long = objects.begin_output(meta(&job, 1, 2, &body[..10]));
    assert!(long.write(half.clone()).await.is_err());
    long.abort().await?;

    let mut dropped = objects.begin_output(meta(&job, 1, 3, &body));
    dropped.write(half).await?;
    drop(dropped);

    // The whole length, and one bit of it wrong: the last piece is held back.
    let mut wrong = body.clone();
    wrong[7] ^= 1;
    let mut other = objects.begin_output(meta(&job, 1, 4, &body));
    other.write(Bytes::from(wrong)).await?;
    let other = other.finish().await.unwrap_err();
    assert!(
        matches!(other, ObjectsError::OutputHash { .. }),
        "{other:?}"
    );

    // One in parts whose process died: whoever has its id aborts it.
    let block = Bytes::from(noise(1_000_003));
    let mut left = objects.begin_output(meta_of(&job, 5, &block, WHOLE_BYTES_MAX + 1));
    let (key, id) = (left.key().to_owned(), left.begin_parts().await?);
    write(&mut left, &block, PART_BYTES).await?;
    photofinish_kit::wait_until(Duration::from_secs(10), "its first part lies there", || {
        let files = files_below(server.root());
        async move {
            let whole = |file: &std::path::PathBuf| {
                file.metadata().is_ok_and(|meta| meta.len() == PART_BYTES)
            };
            files.iter().any(whole)
        }
    })
    .await?;
    std::mem::forget(left);
    objects.abort_upload(&key, &id).await?;

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
    assert!(objects.rescued_stream(&attempt, 3, 0).await?.is_none());
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
        rendering: Vec::new(),
        spent: Spent::default(),
        nothing_pushed: false,
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

    let listed = objects.list_rescued(&attempt).await?;
    assert_eq!(listed[&1], listing(&[(3, 7), (12, 6)], true));
    assert_eq!(objects.rescue_report(&attempt).await?, Some(report));
    let rescued = objects.rescued_stream(&attempt, 3, 0).await?.unwrap();
    assert_eq!(rescued.bytes, 7);
    let chunks: Vec<Bytes> = rescued.stream.try_collect().await?;
    assert_eq!(chunks.concat(), b"three!!");
    let rescued = objects.rescued_stream(&attempt, 3, 5).await?.unwrap();
    let chunks: Vec<Bytes> = rescued.stream.try_collect().await?;
    assert_eq!((rescued.bytes, chunks.concat()), (7, b"!!".to_vec()));

    Ok(())
}

fn listing(files: &[(u16, u64)], report: bool) -> RescueListing {
    RescueListing {
        files: files.iter().copied().collect(),
        report,
    }
}

#[tokio::test]
async fn what_the_workers_of_all_attempts_pushed_is_listed_at_once() -> Outcome {
    let (_server, objects) = start().await?;
    let attempt = attempt(&JobId::from_random(10), 1);
    put_rescued(&objects, &attempt, 3, b"three!!").await?;
    let older = AttemptRef {
        attempt: 2,
        ..attempt.clone()
    };
    put_rescued(&objects, &older, 4, b"four").await?;
    let stranger = AttemptRef {
        part: 10,
        ..attempt.clone()
    };
    put_rescued(&objects, &stranger, 5, b"five").await?;
    let listed = objects.list_rescued(&attempt).await?;
    let expected = BTreeMap::from([
        (1, listing(&[(3, 7)], false)),
        (2, listing(&[(4, 4)], false)),
    ]);
    assert_eq!(
        listed, expected,
        "every attempt of the part, and no other part"
    );
    objects.delete_rescued(&older, 4).await?;
    objects.delete_rescued(&older, 4).await?;
    assert_eq!(objects.list_rescued(&attempt).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_tenant_uploads_with_nothing_but_urls() -> Outcome {
    let (_server, objects) = start().await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
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
