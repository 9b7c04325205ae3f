//! The jobs of the demo: what is asked for, through which door, and how they are followed.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use photofinish_contract::job::Job;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::samples;
use crate::wiring::Wiring;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const PERSISTENT: u8 = 2;
const OUTPUT_SIZE: (u32, u32) = (640, 360);
const FRAME_RATE: u32 = 12;

/// The way into the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `POST /v1/jobs`.
    Http,
    /// A message to `photofinish.jobs`.
    Amqp,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Amqp => "AMQP",
        })
    }
}

/// What each output of a job must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The items' ids in the order of the request.
    pub items: Vec<String>,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Frames.
    pub frames: u64,
    /// Length of the pictures in seconds.
    pub video_s: f64,
    /// Length of the sound in seconds; none: no sound.
    pub audio_s: Option<f64>,
    /// How far lengths may be off, in seconds: one frame.
    pub tolerance_s: f64,
}

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// For tables, and the name of its directory and its receiver's path.
    pub name: &'static str,
    /// The way in.
    pub door: Door,
    /// The request.
    pub request: Value,
    /// What must come out.
    pub expected: Expected,
}

/// A job that was taken.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// What was asked for.
    pub ask: Ask,
    /// Its id.
    pub id: String,
    /// When it was submitted.
    pub at: Instant,
}

/// A job that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was asked for.
    pub ask: Ask,
    /// The job as it ended.
    pub job: Job,
    /// From submission to end, as the client saw it.
    pub took: Duration,
}

/// So many pictures, made of so many painted ones, as clips of one second.
pub fn img2vid(
    name: &'static str,
    door: Door,
    (pictures, painted): (u32, u32),
    files: &str,
    hook: &str,
) -> Ask {
    let items: Vec<_> = (0..pictures)
        .map(|number| format!("picture-{number:02}"))
        .collect();
    let motions = [
        "zoom_in",
        "pan_left",
        "zoom_out",
        "pan_right",
        "pan_up",
        "pan_down",
    ];
    let images: Vec<_> = (0..pictures)
        .zip(&items)
        .map(|(number, id)| {
            let picture = samples::picture_name(number % painted);
            let motion = motions[number as usize % motions.len()];
            json!({"id": id, "image_url": format!("{files}/pictures/{picture}"),
                   "duracao": 1.0, "motion": motion})
        })
        .collect();
    let (width, height) = OUTPUT_SIZE;
    let request = json!({
        "operation": "img2vid", "frame_rate": FRAME_RATE, "width": width, "height": height,
        "images": images, "webhook_url": format!("{hook}/{name}"), "metadata": {"demo": name},
    });
    let expected = Expected {
        items,
        size: OUTPUT_SIZE,
        frames: u64::from(FRAME_RATE),
        video_s: 1.0,
        audio_s: None,
        tolerance_s: 1.0 / f64::from(FRAME_RATE),
    };
    Ask {
        name,
        door,
        request,
        expected,
    }
}

/// The sample video with captions burnt in.
pub fn caption(door: Door, files: &str, hook: &str) -> Ask {
    let name = "caption";
    let request = json!({
        "operation": "caption", "url_video": format!("{files}/video.mp4"),
        "url_srt": format!("{files}/captions.srt"), "webhook_url": format!("{hook}/{name}"),
        "metadata": {"demo": name},
    });
    let expected = Expected {
        items: vec!["video".to_owned()],
        size: samples::VIDEO_SIZE,
        frames: samples::VIDEO_FRAMES,
        video_s: samples::VIDEO_SECONDS,
        audio_s: Some(samples::VIDEO_SECONDS),
        tolerance_s: samples::VIDEO_SECONDS / samples::VIDEO_FRAMES as f64,
    };
    Ask {
        name,
        door,
        request,
        expected,
    }
}

/// The sample video fitted to the sample audio track, which is `audio_s` long.
pub fn addaudio(door: Door, audio_s: f64, files: &str, hook: &str) -> Ask {
    let name = "addaudio";
    let request = json!({
        "operation": "addaudio", "url_video": format!("{files}/video.mp4"),
        "url_audio": format!("{files}/audio.m4a"), "webhook_url": format!("{hook}/{name}"),
        "metadata": {"demo": name},
    });
    let expected = Expected {
        items: vec!["video".to_owned()],
        size: samples::VIDEO_SIZE,
        frames: samples::VIDEO_FRAMES,
        video_s: audio_s,
        audio_s: Some(audio_s),
        tolerance_s: audio_s / samples::VIDEO_FRAMES as f64,
    };
    Ask {
        name,
        door,
        request,
        expected,
    }
}

/// Submits a job through its door; the answer must be that it was taken.
pub async fn submit(
    http: &reqwest::Client,
    wiring: &Wiring,
    ask: Ask,
) -> anyhow::Result<Submitted> {
    let at = Instant::now();
    let key = Uuid::new_v4().to_string();
    let answer = match ask.door {
        Door::Http => submit_http(http, wiring, &ask.request, &key).await,
        Door::Amqp => {
            let submitting = submit_amqp(
                &wiring.client.amqp_url,
                &wiring.client.tenant,
                &ask.request,
                &key,
            );
            tokio::time::timeout(ANSWER_TIMEOUT, submitting)
                .await
                .unwrap_or_else(|_elapsed| {
                    Err(anyhow::anyhow!("no answer within {ANSWER_TIMEOUT:?}"))
                })
        }
    };
    let job = answer.with_context(|| format!("submit {} over {}", ask.name, ask.door))?;
    let id = job["id"]
        .as_str()
        .context("the answer has no job id")?
        .to_owned();
    Ok(Submitted { ask, id, at })
}

async fn submit_http(
    http: &reqwest::Client,
    wiring: &Wiring,
    request: &Value,
    key: &str,
) -> anyhow::Result<Value> {
    let answer = http
        .post(format!("{}/v1/jobs", wiring.ingest))
        .bearer_auth(&wiring.client.api_key)
        .header("Idempotency-Key", key)
        .json(request)
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    anyhow::ensure!(status.as_u16() == 202, "{status}: {text}");
    serde_json::from_str(&text).context("read the job")
}

/// Publishes as the tenant's own user: persistent, confirmed, answered to a queue of our own.
async fn submit_amqp(url: &str, user: &str, request: &Value, key: &str) -> anyhow::Result<Value> {
    let connection = Connection::connect(url, ConnectionProperties::default())
        .await
        .context("connect to the broker as the tenant's user")?;
    let channel = connection.create_channel().await?;
    let (kind, body) = ask_channel(&channel, user, request, key).await?;
    // It is closed with the connection in any case.
    let _closed = connection.close(200, "done".into()).await;
    anyhow::ensure!(kind == "job.accepted", "{kind}: {body}");
    Ok(body)
}

async fn ask_channel(
    channel: &Channel,
    user: &str,
    request: &Value,
    key: &str,
) -> anyhow::Result<(String, Value)> {
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let replies = channel
        .queue_declare("".into(), own, FieldTable::default())
        .await?;
    let reply_to = replies.name().clone();
    let taking = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let mut answers = channel
        .basic_consume(reply_to.clone(), "".into(), taking, FieldTable::default())
        .await?;
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_user_id(user.into())
        .with_message_id(key.into())
        .with_correlation_id(key.into())
        .with_reply_to(reply_to);
    publish(
        channel,
        "job.submit",
        serde_json::to_vec(request)?,
        properties,
    )
    .await?;
    while let Some(answer) = answers.next().await {
        let answer = answer.context("read the answer")?;
        let text = |value: &Option<lapin::types::ShortString>| {
            value.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        if text(answer.properties.correlation_id()) == key {
            let body = serde_json::from_slice(&answer.data).context("read the answer's body")?;
            return Ok((text(answer.properties.kind()), body));
        }
    }
    anyhow::bail!("the broker closed the channel before the answer came")
}

/// Publishes to `photofinish.jobs` and waits for the confirm.
#[expect(
    clippy::disallowed_methods,
    reason = "a client of the product has only bare lapin"
)]
pub async fn publish(
    channel: &Channel,
    routing_key: &str,
    body: Vec<u8>,
    properties: BasicProperties,
) -> anyhow::Result<()> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let exchange = "photofinish.jobs".into();
    let sent = channel
        .basic_publish(exchange, routing_key.into(), options, &body, properties)
        .await?
        .await?;
    anyhow::ensure!(
        matches!(sent, Confirmation::Ack(None)),
        "not confirmed: {sent:?}"
    );
    Ok(())
}

/// The job as it is now.
pub async fn get(http: &reqwest::Client, wiring: &Wiring, id: &str) -> anyhow::Result<Job> {
    let answer = http
        .get(format!("{}/v1/jobs/{id}", wiring.ingest))
        .bearer_auth(&wiring.client.api_key)
        .send()
        .await
        .with_context(|| format!("GET job {id}"))?;
    let status = answer.status();
    let text = answer.text().await?;
    anyhow::ensure!(status.is_success(), "GET job {id}: {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("read job {id}: {text}"))
}
