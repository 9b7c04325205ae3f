//! The main job end to end: real processes, real servers, real ffmpeg, an emulated RunPod.

#![expect(
    clippy::unwrap_used,
    reason = "a test that is not answered fails with what it was told"
)]

use photofinish_contract::job::OutputStatus;
use photofinish_demo::checks::{Report, check_job};
use photofinish_demo::jobs::{self, Ask, Door};
use photofinish_demo::progress;
use photofinish_demo::receiver::event_type;
use photofinish_demo::wiring::{RunPod, SERVICES, Setting};
use photofinish_e2e::{PAINTED, Site};
use photofinish_kit::otlp::{SentSpan, spans};
use photofinish_kit::{Receiver, wait_for};
use photofinish_model::{Code, JobStatus};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// Small and short: the tests are about the way, not about the pixels.
fn small(site: &Site, name: &'static str, door: Door, pictures: u32) -> Ask {
    let (files, hook) = (site.files.url(), site.ear.url());
    let mut ask = jobs::img2vid(name, door, (pictures, PAINTED), &files, &hook);
    ask.request["width"] = json!(128);
    ask.request["height"] = json!(72);
    for image in 0..pictures as usize {
        ask.request["images"][image]["duracao"] = json!(0.5);
    }
    ask.expected.size = (128, 72);
    ask.expected.frames = 6;
    ask.expected.video_s = 0.5;
    ask
}

#[tokio::test(flavor = "multi_thread")]
async fn split_jobs_come_whole_and_in_order_through_both_doors() {
    let sink = Receiver::start().await.unwrap();
    let collector = sink.url("");
    let settings = SERVICES.map(|service| Setting::new(service, "otlp.endpoint", &collector));
    let runpod = RunPod::default().env("PHOTOFINISH__OTLP__ENDPOINT", &collector);
    let site = Site::start_with("split", settings.into(), runpod)
        .await
        .unwrap();
    let traced = submit_traced(&site).await;
    let asks = vec![
        small(&site, "by-http", Door::Http, 60),
        small(&site, "by-amqp", Door::Amqp, 60),
    ];
    let finished = site.run(asks).await.unwrap();
    let mut report = Report::default();
    for job in &finished {
        let sources = check_job(&site.stack, &site.ear, job, &mut report)
            .await
            .unwrap();
        assert_eq!(sources.unknown, 0);
        assert_eq!(job.job.usage.parts, 3, "60 items are split into 3 parts");
        assert_eq!(job.job.progress.items_done, 60);
    }
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    one_trace_goes_from_the_client_to_the_webhook(&site, &sink, traced).await;
    site.end().await.unwrap();
}

/// A small job of a client who traces.
async fn submit_traced(site: &Site) -> jobs::Submitted {
    let wiring = site.stack.wiring().unwrap();
    let ask = small(site, "traced", Door::Http, 2);
    let call = site.stack.http().post(format!("{}/v1/jobs", wiring.ingest));
    let answer = call
        .bearer_auth(&wiring.client.api_key)
        .header("traceparent", format!("00-{TRACE}-{CLIENT}-01"))
        .json(&ask.request)
        .send()
        .await
        .unwrap();
    let job: Value = answer.json().await.unwrap();
    jobs::Submitted {
        ask,
        id: job["id"].as_str().unwrap().to_owned(),
        at: Instant::now(),
    }
}

/// Each span: its process, its name, its kind, and the name of the span around it. What was queued links to it, too.
const WAY: [(&str, &str, &str, &str); 17] = [
    ("ingest", "POST /v1/jobs", "server", ""),
    (
        "ingest",
        "send photofinish.pipeline:job.accepted",
        "producer",
        "POST /v1/jobs",
    ),
    (
        "dispatcher",
        "process dispatcher.plan",
        "consumer",
        "send photofinish.pipeline:job.accepted",
    ),
    (
        "dispatcher",
        "send runpod",
        "producer",
        "process dispatcher.plan",
    ),
    (
        "dispatcher",
        "POST /{endpoint}/run",
        "client",
        "send runpod",
    ),
    ("worker", "process runpod", "consumer", "send runpod"),
    ("worker", "render item", "internal", "process runpod"),
    (
        "ingest",
        "POST /hooks/runpod/{token}",
        "server",
        "process runpod",
    ),
    (
        "fetcher",
        "process fetcher.watch",
        "consumer",
        "send photofinish.pipeline:part.submitted",
    ),
    (
        "fetcher",
        "pull output",
        "internal",
        "process fetcher.watch",
    ),
    (
        "fetcher",
        "GET /attempts/{nonce}/outputs/{name}",
        "client",
        "pull output",
    ),
    (
        "worker",
        "GET /attempts/{nonce}/outputs/{name}",
        "server",
        "GET /attempts/{nonce}/outputs/{name}",
    ),
    (
        "fetcher",
        "S3.PutObject",
        "client",
        "GET /attempts/{nonce}/outputs/{name}",
    ),
    (
        "dispatcher",
        "process dispatcher.outcome",
        "consumer",
        "send photofinish.pipeline:part.finished",
    ),
    (
        "notifier",
        "process notifier.events",
        "consumer",
        "send photofinish.pipeline:job.event",
    ),
    (
        "notifier",
        "process notifier.deliver",
        "consumer",
        "send photofinish.pipeline:delivery.due",
    ),
    ("notifier", "POST", "client", "process notifier.deliver"),
];

/// Waits for the spans, and reads them and the log lines of the job back.
async fn one_trace_goes_from_the_client_to_the_webhook(
    site: &Site,
    sink: &Receiver,
    traced: jobs::Submitted,
) {
    let id = traced.id.clone();
    let (http, wiring) = (site.stack.http(), site.stack.wiring().unwrap());
    let within = Duration::from_secs(40);
    progress::follow(http, wiring, vec![traced], within)
        .await
        .unwrap();
    site.ear.wait("traced", &["job.completed"], within).await;
    // The receiver is told which span called it.
    let heard = site.ear.heard("traced");
    let last = heard
        .iter()
        .find(|call| event_type(call) == "job.completed");
    let told = last.unwrap().header("traceparent").to_owned();
    let whole = || async {
        let all = spans(&sink.received()).unwrap();
        let all: Vec<SentSpan> = all.into_iter().filter(|span| span.trace == TRACE).collect();
        let missing = WAY
            .iter()
            .find(|way| !all.iter().any(|span| is(&all, span, way)));
        let called = all.iter().any(|span| is_told(span, &told));
        let complete = missing.is_none() && called && is_one_tree(&all);
        if !complete {
            *LAST.lock().unwrap() = format!("{missing:?}, {told} in {:#?}", names(&all));
        }
        complete.then_some(all)
    };
    let all = wait_for(within, "the whole trace", whole).await;
    assert!(all.is_ok(), "{}", LAST.lock().unwrap());
    let all = all.unwrap();

    let called = all.iter().find(|span| is_told(span, &told)).unwrap();
    assert_eq!(
        (called.name.as_str(), called.service.as_str()),
        ("POST", "photofinish-notifier")
    );
    let ours = |span: &&SentSpan| ["producer", "consumer"].contains(&span.kind);
    let failed: Vec<_> = all.iter().filter(ours).filter(|span| span.failed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    lines_carry_the_ids(site, &id);
}

fn is_told(span: &SentSpan, traceparent: &str) -> bool {
    traceparent == format!("00-{TRACE}-{}-01", span.id)
}

/// Whatever a service logs of the job names its tenant and its trace.
fn lines_carry_the_ids(site: &Site, id: &str) {
    let tenant = site.stack.wiring().unwrap().client.tenant.as_str();
    for service in SERVICES {
        let log = site
            .stack
            .dir()
            .join(format!("logs/photofinish-{service}.log"));
        let log = std::fs::read_to_string(log).unwrap();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<Value> = lines.filter(|line| line["job"] == id).collect();
        // The two at the doors say nothing of what goes well.
        let at_a_door = ["ingest", "notifier"].contains(&service);
        assert!(
            at_a_door || !lines.is_empty(),
            "{service} says nothing of {id}"
        );
        for line in lines {
            // RunPod's own call of a hook is of no trace of ours.
            let traced = line["trace_id"] == TRACE || service == "ingest";
            let ids = traced && line["tenant"] == tenant;
            assert!(ids, "{service}: {line}");
        }
    }
}

/// What the last look at the spans lacked.
static LAST: std::sync::Mutex<String> = std::sync::Mutex::new(String::new());

fn names(all: &[SentSpan]) -> Vec<String> {
    let line = |span: &SentSpan| {
        format!(
            "{} {} {} < {}",
            span.service, span.kind, span.name, span.parent
        )
    };
    all.iter().map(line).collect()
}

fn is(all: &[SentSpan], span: &SentSpan, way: &(&str, &str, &str, &str)) -> bool {
    let (service, name, kind, around) = *way;
    let parent = all.iter().find(|other| other.id == span.parent);
    let placed = match around {
        "" => span.parent == CLIENT,
        around => parent.is_some_and(|parent| parent.name == around),
    };
    let linked = kind != "consumer" || span.links.contains(&span.parent);
    let of = span.service.strip_prefix("photofinish-") == Some(service);
    of && span.name == name && span.kind == kind && placed && linked
}

/// Every span is in another one of the trace, but the first, which is in the client's.
fn is_one_tree(all: &[SentSpan]) -> bool {
    let known = |span: &SentSpan| all.iter().any(|other| other.id == span.parent);
    all.iter().all(|span| span.parent == CLIENT || known(span))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_picture_fails_alone_and_says_why() {
    let site = Site::start("bad", Vec::new()).await.unwrap();
    let mut skip = small(&site, "skip", Door::Http, 5);
    let files = site.files.url();
    skip.request["images"][1]["image_url"] = json!(format!("{files}/pictures/none.jpg"));
    skip.request["images"][3]["image_url"] = json!(format!("{files}/captions.srt"));
    let mut fail = skip.clone();
    skip.request["on_item_error"] = json!("skip");
    fail.name = "fail";
    let finished = site.run(vec![skip, fail]).await.unwrap();

    let skipped = &finished[0].job;
    assert_eq!(skipped.status, JobStatus::Completed, "{skipped:?}");
    let rows = skipped.outputs.as_ref().unwrap();
    let codes: Vec<_> = rows
        .iter()
        .map(|row| row.error.as_ref().map(|error| error.code))
        .collect();
    let (gone, odd) = (Some(Code::InputNotFound), Some(Code::NotAnImage));
    assert_eq!(codes, [None, gone, None, odd, None], "{rows:#?}");
    for row in rows {
        let stored = row.status == OutputStatus::Stored && row.url.is_some();
        assert_eq!(stored, row.error.is_none(), "{row:?}");
    }
    let failed = &finished[1].job;
    assert_eq!(failed.status, JobStatus::Failed, "{failed:?}");
    assert_eq!(
        failed.error.as_ref().map(|error| error.code),
        Some(Code::ItemFailed)
    );
    site.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_kept_and_named() {
    let site = Site::start("refused", Vec::new()).await.unwrap();
    let wrong = json!({"operation": "img2vid", "images": [], "frame_rat": 30}).to_string();
    for (key, body, code) in [
        ("job.submit", "{not json", "malformed"),
        ("job.submit", wrong.as_str(), "invalid_request"),
        ("job.sumbit", "{}", "unknown_routing_key"),
    ] {
        site.publish(key, body.as_bytes(), code).await.unwrap();
        let kept = site.take("photofinish.rejected").await.unwrap();
        assert_eq!(kept.body, body.as_bytes());
        assert_eq!(kept.header("x-rejected-code"), code);
        assert!(!kept.header("x-rejected-detail").is_empty());
    }
    // The same at the other door: one document that names every fault.
    let wiring = site.stack.wiring().unwrap();
    let http = site.stack.http();
    let call = http
        .post(format!("{}/v1/jobs", wiring.ingest))
        .bearer_auth(&wiring.client.api_key);
    let answer = call
        .header("content-type", "application/json")
        .body(wrong)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    let pointers: Vec<_> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["pointer"])
        .collect();
    assert!(
        pointers.contains(&&json!("/images")) && pointers.contains(&&json!("/frame_rat")),
        "{problem:#}"
    );
    site.end().await.unwrap();
}
