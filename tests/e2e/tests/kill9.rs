//! kill -9 of each service, and an emptied Redis, in the middle of a job: when at least one output is stored and at
//! least one is pending. Afterwards every output is there once and every webhook came.

use std::time::Duration;

use photofinish_demo::checks::{Report, check_job};
use photofinish_demo::jobs::{self, Ask, Door, Submitted};
use photofinish_demo::progress;
use photofinish_demo::wiring::Setting;
use photofinish_e2e::{PAINTED, Site};
use photofinish_kit::wait_for;
use serde_json::json;

const PICTURES: u32 = 10;
const SECONDS: f64 = 4.0;
const MIDDLE_DEADLINE: Duration = Duration::from_secs(60);
const END_DEADLINE: Duration = Duration::from_secs(120);

/// Long enough that its middle can be met.
fn slow(site: &Site) -> Ask {
    let (files, hook) = (site.files.url(), site.ear.url());
    let mut ask = jobs::img2vid("slow", Door::Amqp, (PICTURES, PAINTED), &files, &hook);
    for image in 0..PICTURES as usize {
        ask.request["images"][image]["duracao"] = json!(SECONDS);
    }
    ask.expected.frames *= SECONDS as u64;
    ask.expected.video_s = SECONDS;
    ask
}

async fn in_the_middle(site: &Site, job: &Submitted) {
    let (http, wiring) = (site.stack.http(), site.stack.wiring().unwrap());
    let what = "one output is stored and one pending";
    let met = wait_for(MIDDLE_DEADLINE, what, || async {
        let job = jobs::get(http, wiring, &job.id).await.ok()?;
        let done = job.progress.items_done;
        (done >= 1).then_some(done)
    });
    let done = met.await.unwrap();
    assert!(
        done < PICTURES,
        "the job was over before its middle was met"
    );
}

async fn ends_well(site: Site, job: Submitted) {
    let (http, wiring) = (site.stack.http(), site.stack.wiring().unwrap());
    let finished = progress::follow(http, wiring, vec![job], END_DEADLINE)
        .await
        .unwrap();
    let mut report = Report::default();
    check_job(&site.stack, &site.ear, &finished[0], &mut report)
        .await
        .unwrap();
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    let stored = site.output_keys(finished[0].job.id.as_str()).await.unwrap();
    assert_eq!(
        stored.len(),
        PICTURES as usize,
        "each output lies there once: {stored:#?}"
    );
    site.end().await.unwrap();
}

async fn killed(service: &'static str) {
    // Long enough for a service to come back while a worker waits.
    let mut site = Site::start(
        service,
        vec![Setting::new("dispatcher", "race.linger_s", "20")],
    )
    .await
    .unwrap();
    let ask = slow(&site);
    let job = jobs::submit(site.stack.http(), site.stack.wiring().unwrap(), ask)
        .await
        .unwrap();
    in_the_middle(&site, &job).await;
    site.stack.kill_service(service).await.unwrap();
    site.stack.restart_service(service).await.unwrap();
    ends_well(site, job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_is_killed() {
    killed("ingest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_is_killed() {
    killed("dispatcher").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fetcher_is_killed() {
    killed("fetcher").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_notifier_is_killed() {
    killed("notifier").await;
}
