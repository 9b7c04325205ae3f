//! The bucket, on a real S3 server (s3s-fs in this process).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod documents;
mod outputs;
mod settings;

use bytes::Bytes;
use jiff::Timestamp;
use photofinish_contract::request::{Fit, Image, Img2vid, JobRequest, Motion, Task};
use photofinish_kit::{S3, install_crypto};
use photofinish_model::estimate::Forecast;
use photofinish_model::plan::PartPlan;
use photofinish_model::{
    AttemptRef, JobId, Nonce, OnItemError, OutputSource, Priority, StoredOutput, Tenant,
};
use photofinish_objects::{Objects, OutputMeta, OutputUpload, RunDoc, Settings};
use sha2::{Digest, Sha256};
use std::time::Duration;

type Outcome = anyhow::Result<()>;

fn objects_at(server: &S3, secret: &str) -> Objects {
    connected(server, server.endpoint(), secret)
}

/// Where the server is reached at another address.
fn objects_behind(server: &S3, endpoint: String) -> Objects {
    connected(server, endpoint, &server.credentials().secret_key)
}

fn connected(server: &S3, endpoint: String, secret: &str) -> Objects {
    install_crypto();
    let credentials = server.credentials().clone();
    Objects::connect(&Settings {
        endpoint,
        public_endpoint: String::new(),
        bucket: server.bucket().to_owned(),
        region: credentials.region,
        access_key_id: credentials.access_key,
        secret_access_key: secret.to_owned(),
        prefix: "media".to_owned(),
        path_style: true,
        ..Settings::default()
    })
    .unwrap()
}

async fn start() -> anyhow::Result<(S3, Objects)> {
    let server = S3::start().await?;
    let objects = objects_at(&server, &server.credentials().secret_key);
    Ok((server, objects))
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn request(items: usize) -> JobRequest {
    let images = (1..=items).map(|n| Image {
        id: format!("image{n}"),
        image_url: format!("https://example.com/{n}.jpg"),
        duration_s: 2.0,
        motion: Motion::ZoomIn,
    });
    JobRequest {
        task: Task::Img2vid(Img2vid {
            frame_rate: 30.0,
            width: 640,
            height: 360,
            fit: Fit::Cover,
            on_item_error: OnItemError::Skip,
            images: images.collect(),
        }),
        webhook_url: None,
        priority: Priority::Normal,
        deadline_s: 3600,
        metadata: None,
    }
}

fn run_doc(job: &JobId, run: u32, items: u16) -> RunDoc {
    RunDoc {
        job: job.clone(),
        tenant: tenant(),
        run,
        plan: vec![PartPlan {
            part: 0,
            items: (0..items).collect(),
        }],
        forecast: Forecast::default(),
        request: request(usize::from(items)),
        receivers: Vec::new(),
        accepted_at: time("2026-11-22T10:00:00Z"),
        deadline_at: time("2026-11-22T11:00:00Z"),
        created_at: time("2026-11-22T10:00:00Z"),
        body_sha256: "00".repeat(32),
        carried: Vec::new(),
    }
}

fn meta(job: &JobId, run: u32, index: u16, body: &[u8]) -> OutputMeta {
    OutputMeta {
        tenant: tenant(),
        job: job.clone(),
        run,
        index,
        item: format!("image{}", index + 1),
        attempt: 2,
        sha256: hex::encode(Sha256::digest(body)),
        bytes: body.len() as u64,
        duration_s: 2.5,
        source: OutputSource::PulledInProgress,
    }
}

async fn upload(objects: &Objects, meta: OutputMeta, body: &[u8]) -> anyhow::Result<StoredOutput> {
    let mut upload = objects.begin_output(meta);
    for chunk in body.chunks(300_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await?;
    }
    Ok(upload.finish().await?)
}

/// Bytes without a short period; the block's length is prime to every part's.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let block: Vec<u8> = (0..65_537)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let mut noise = block.repeat(bytes / block.len() + 1);
    noise.truncate(bytes);
    noise
}

fn attempt(job: &JobId, run: u32) -> AttemptRef {
    AttemptRef {
        tenant: tenant(),
        job: job.clone(),
        run,
        part: 0,
        attempt: 1,
        nonce: Nonce::from_random(1),
    }
}

async fn put_rescued(
    objects: &Objects,
    attempt: &AttemptRef,
    index: u16,
    body: &'static [u8],
) -> Outcome {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = objects
        .presign_rescue_put(attempt, index, Duration::from_mins(1))
        .await?;
    client
        .put(url)
        .body(body)
        .send()
        .await?
        .error_for_status()?;
    Ok(())
}
