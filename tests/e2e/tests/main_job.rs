//! The main job end to end: real processes, real servers, real ffmpeg, an emulated RunPod.

use photofinish_contract::job::OutputStatus;
use photofinish_demo::checks::{Report, check_job};
use photofinish_demo::jobs::{self, Ask, Door};
use photofinish_e2e::{PAINTED, Site};
use photofinish_model::{Code, JobStatus};
use serde_json::{Value, json};

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
    let site = Site::start("split", Vec::new()).await.unwrap();
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
    site.end().await.unwrap();
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
