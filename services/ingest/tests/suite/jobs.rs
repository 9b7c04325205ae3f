//! Jobs over HTTP: admitted once, shown, listed, stopped, done again.

use crate::house::{House, SOON, ask, job};
use bytes::Bytes;
use photofinish_broker::WorkQueue;
use photofinish_contract::messages::{Command, JobAccepted, PlanMessage, RequestRef};
use photofinish_contract::request::parse;
use photofinish_jobstore::Created;
use photofinish_kit::{Method, RedisServer, wait_until};
use photofinish_model::estimate::Forecast;
use photofinish_model::plan::PartPlan;
use photofinish_model::{
    Code, Fault, ItemState, JobId, JobSnapshot, JobStatus, OutputSource, StoredOutput,
};
use photofinish_objects::{OutputMeta, RunDoc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) fn accepted(message: PlanMessage) -> JobAccepted {
    match message {
        PlanMessage::JobAccepted(accepted) => accepted,
        PlanMessage::JobCommand(command) => unreachable!("{command:?}"),
    }
}

#[tokio::test]
async fn a_job_is_admitted_announced_and_shown() {
    let house = House::open().await;
    let (status, shown) = house.submit(None, &job(60)).await;
    assert_eq!(status, 202, "{shown}");
    let id = shown["id"].as_str().unwrap().to_owned();
    assert_eq!(shown["status"], "accepted");
    assert_eq!(shown["progress"]["items_total"], 60);
    assert_eq!(shown["usage"]["parts"], 3, "sixty pictures are split");
    assert_eq!(shown["metadata"]["order"], "A-17");
    assert_eq!(
        shown["links"]["self"],
        format!("https://photofinish.example/v1/jobs/{id}")
    );
    assert_eq!(shown["outputs"][59]["item"], "image60");

    let (message, message_id) = house.planned().await;
    let told = accepted(message);
    assert_eq!(
        (told.job.as_str(), &told.tenant),
        (id.as_str(), &house.tenant)
    );
    assert_eq!(message_id, format!("{id}/accepted"));
    assert_eq!(
        told.request,
        RequestRef::Inline(Box::new(parse(&job(60)).unwrap()))
    );
    assert_eq!(told.accepted_at.to_string(), shown["created_at"]);

    assert_eq!(
        house.get(&format!("/v1/jobs/{id}")).await,
        (200, shown.clone())
    );
    let (_, list) = house
        .get("/v1/jobs?status=accepted&metadata.order=A-17")
        .await;
    assert_eq!(list["data"][0]["id"], id);
    assert_eq!(list["data"][0]["progress"]["items_total"], 60);
    assert!(list["data"][0].get("outputs").is_none());
    let (_, none) = house.get("/v1/jobs?operation=caption").await;
    assert_eq!(none, json!({"data": [], "next_cursor": null}));
    let (_, page) = house
        .get(&format!("/v1/jobs/{id}/outputs?limit=25&cursor=NTA"))
        .await;
    assert_eq!(page["data"].as_array().unwrap().len(), 10);
    assert_eq!(
        (&page["data"][0]["index"], &page["next_cursor"]),
        (&json!(50), &Value::Null)
    );
}

#[tokio::test]
async fn one_key_is_one_job() {
    let house = House::open().await;
    let (status, first) = house.submit(Some("k-1"), &job(1)).await;
    assert_eq!(status, 202);
    house.planned().await;
    let mut spelled_otherwise = job(1);
    spelled_otherwise["images"][0]["duracao"] = json!(2);
    let (status, again) = house.submit(Some("k-1"), &spelled_otherwise).await;
    assert_eq!((status, &again["id"]), (200, &first["id"]));
    let (status, other) = house.submit(Some("k-1"), &job(2)).await;
    assert_eq!(
        (status, &other["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    house.nothing_planned().await;
    let (status, second) = house.submit(Some("k-2"), &job(1)).await;
    assert_eq!(status, 202);
    assert_ne!(second["id"], first["id"]);
    let (status, long) = house.submit(Some(&"k".repeat(256)), &job(1)).await;
    assert_eq!(
        (status, &long["code"]),
        (422, &json!("invalid_idempotency_key"))
    );
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let house = House::open().await;
    let (status, plan) = house.post("/v1/jobs?dry_run=true", &job(60)).await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["parts"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&plan["frames"], &plan["items"]),
        (&json!(3600), &json!(60))
    );
    // 3,600 frames at 120 a second, and a quarter of a second for each picture.
    let about = |value: &Value, seconds: f64| (value.as_f64().unwrap() - seconds).abs() < 0.01;
    assert!(about(&plan["estimated_s"], 45.0), "{plan}");
    assert!(about(&plan["parts"][0]["estimated_s"], 15.0), "{plan}");
    assert!(about(&plan["wall_s"], 15.0), "three parts at once: {plan}");
    house.nothing_planned().await;
}

#[tokio::test]
async fn a_large_request_lies_in_the_bucket_under_its_hash() {
    let house = House::open().await;
    let (status, shown) = house.submit(None, &job(1000)).await;
    assert_eq!(status, 202, "{shown}");
    let told = accepted(house.planned().await.0);
    let RequestRef::Stored { sha256 } = told.request else {
        unreachable!("{told:?}")
    };
    let stored = house
        .objects
        .request(&house.tenant, &told.job, &sha256)
        .await
        .unwrap();
    assert_eq!(stored, Some(parse(&job(1000)).unwrap()));
}

pub(crate) fn run_doc(house: &House, told: &JobAccepted, body: &Value) -> RunDoc {
    let request = parse(body).unwrap();
    let items = (0..request.item_ids().len() as u16).collect();
    RunDoc {
        job: told.job.clone(),
        tenant: house.tenant.clone(),
        run: 1,
        plan: vec![PartPlan { part: 0, items }],
        forecast: Forecast::default(),
        request,
        receivers: Vec::new(),
        accepted_at: told.accepted_at,
        deadline_at: told.accepted_at,
        created_at: told.accepted_at,
        body_sha256: told.body_sha256.clone(),
        carried: Vec::new(),
    }
}

async fn stored(house: &House, job: &JobId, index: u16) -> StoredOutput {
    let meta = OutputMeta {
        tenant: house.tenant.clone(),
        job: job.clone(),
        run: 1,
        index,
        item: format!("image{}", index + 1),
        attempt: 1,
        sha256: hex::encode(Sha256::digest(b"video")),
        bytes: 5,
        duration_s: 2.0,
        source: OutputSource::PulledInProgress,
    };
    let mut upload = house.objects.begin_output(meta);
    upload.write(Bytes::from_static(b"video")).await.unwrap();
    upload.finish().await.unwrap()
}

/// A job that has ended with its first item stored and its second failed.
pub(crate) async fn half_done(house: &House) -> JobSnapshot {
    house.submit(None, &job(2)).await;
    let told = accepted(house.planned().await.0);
    let doc = house
        .objects
        .put_run(&run_doc(house, &told, &job(2)))
        .await
        .unwrap();
    let mut end = doc.initial_snapshot();
    end.status = JobStatus::Failed;
    end.started_at = Some(told.accepted_at);
    end.finished_at = Some(told.accepted_at);
    end.items[0].state = ItemState::Stored(stored(house, &told.job, 0).await);
    end.items[1].state = ItemState::Failed(Fault::new(Code::NotAnImage, "send a picture"));
    house.objects.put_end(&end).await.unwrap();
    let _recorded = house.jobstore.finish(&end).await.unwrap();
    end
}

#[tokio::test]
async fn stored_outputs_have_urls_that_work() {
    let house = House::open().await;
    let end = half_done(&house).await;
    let (status, shown) = house.get(&format!("/v1/jobs/{}", end.job)).await;
    assert_eq!((status, &shown["status"]), (200, &json!("failed")));
    assert_eq!(shown["outputs"][1]["error"]["code"], "not_an_image");
    let url = shown["outputs"][0]["url"].as_str().unwrap();
    let file = house.http.get(url).send().await.unwrap();
    assert_eq!(
        file.headers()["x-amz-meta-photofinish-source"],
        "pulled_in_progress"
    );
    assert_eq!(file.bytes().await.unwrap().as_ref(), b"video");

    let path = format!("/v1/jobs/{}/outputs/image1", end.job);
    let answer = house.mine(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 302);
    let location = answer.headers()["location"].to_str().unwrap();
    assert_eq!(house.http.get(location).send().await.unwrap().status(), 200);
    for missing in ["image2", "image3"] {
        let (status, _) = house
            .get(&format!("/v1/jobs/{}/outputs/{missing}", end.job))
            .await;
        assert_eq!(status, 404, "{missing}");
    }
}

#[tokio::test]
async fn a_run_is_stopped_before_its_end_and_done_again_after_it() {
    let house = House::open().await;
    let (_, running) = house.submit(None, &job(1)).await;
    house.planned().await;
    let running = format!("/v1/jobs/{}", running["id"].as_str().unwrap());
    let (status, early) = house.post(&format!("{running}/retry"), &json!({})).await;
    assert_eq!((status, &early["code"]), (409, &json!("job_not_finished")));
    let (status, _) = ask(house.mine(Method::DELETE, &running)).await;
    assert_eq!(status, 202);
    let (PlanMessage::JobCommand(command), _) = house.planned().await else {
        unreachable!("no command")
    };
    assert_eq!((command.run, command.command), (1, Command::Cancel));

    let end = half_done(&house).await;
    let ended = format!("/v1/jobs/{}", end.job);
    let (status, late) = ask(house.mine(Method::DELETE, &ended)).await;
    assert_eq!((status, &late["code"]), (409, &json!("job_finished")));
    let (status, again) = house.post(&format!("{ended}/retry"), &json!({})).await;
    assert_eq!((status, &again["run"]), (202, &json!(2)), "{again}");
    assert_eq!(again["status"], "accepted");
    assert!(again["error"].is_null() && again["finished_at"].is_null());
    assert_eq!(
        again["outputs"][0]["status"], "stored",
        "what succeeded stays"
    );
    assert_eq!(again["outputs"][1]["status"], "pending");
    let (PlanMessage::JobCommand(command), _) = house.planned().await else {
        unreachable!("no command")
    };
    assert_eq!((command.job, command.run), (end.job.clone(), 1));
    assert!(matches!(command.command, Command::Retry { .. }));

    let mut whole = end.clone();
    whole.items[1].state = whole.items[0].state.clone();
    let _recorded = house.jobstore.finish(&whole).await.unwrap();
    let (status, done) = house.post(&format!("{ended}/retry"), &json!({})).await;
    assert_eq!((status, &done["code"]), (409, &json!("nothing_to_retry")));
}

#[tokio::test]
async fn a_runs_plan_is_told_to_its_tenant_once_it_is_there() {
    let house = House::open().await;
    let (_, stranger) = house.make_tenant("plan-less").await;
    house.submit(None, &job(3)).await;
    let told = accepted(house.planned().await.0);
    let path = format!("/v1/jobs/{}/plan", told.job);
    let (status, early) = house.get(&path).await;
    assert_eq!((status, &early["code"]), (404, &json!("not_found")));
    let part = |part, items: &[u16]| PartPlan {
        part,
        items: items.to_vec(),
    };
    let doc = RunDoc {
        plan: vec![part(0, &[0, 2]), part(1, &[1])],
        ..run_doc(&house, &told, &job(3))
    };
    house.objects.put_run(&doc).await.unwrap();
    let plan = json!({"run": 1,
        "parts": [{"part": 0, "items": [0, 2]}, {"part": 1, "items": [1]}]});
    assert_eq!(house.get(&path).await, (200, plan));
    let foreign = house.call(Method::GET, &path).bearer_auth(stranger);
    assert_eq!(ask(foreign).await.0, 404);
}

#[tokio::test]
async fn jobs_are_admitted_and_found_without_redis() {
    let mut redis = RedisServer::start().await.unwrap();
    let house = House::with(&redis.url(), "x:", &[]).await;
    let (_, known) = house.submit(Some("before"), &job(2)).await;
    let told = accepted(house.planned().await.0);
    house
        .objects
        .put_run(&run_doc(&house, &told, &job(2)))
        .await
        .unwrap();
    redis.kill();

    let (status, shown) = house.submit(Some("while away"), &job(1)).await;
    assert_eq!(status, 202, "{shown}");
    house.planned().await;
    let (status, again) = house.submit(Some("before"), &job(2)).await;
    assert_eq!(
        (status, &again["id"]),
        (200, &known["id"]),
        "found in the bucket"
    );
    let (status, other) = house.submit(Some("before"), &job(1)).await;
    assert_eq!(
        (status, &other["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    let path = format!("/v1/jobs/{}", known["id"].as_str().unwrap());
    assert_eq!(house.get(&path).await.0, 200);
    house.nothing_planned().await;

    redis.restart().await.unwrap();
    house.jobstore.ping().await.unwrap();
    assert_eq!(house.get(&path).await.0, 200);
}

#[tokio::test]
async fn an_emptied_redis_is_filled_again_by_reading() {
    let redis = RedisServer::start().await.unwrap();
    let house = House::with(&redis.url(), "x:", &[]).await;
    let end = half_done(&house).await;
    let mut flush = redis_flush(&redis.url()).await;
    assert!(flush.take().is_some());
    assert_eq!(house.jobstore.job(&end.job).await.unwrap(), None);
    let (status, shown) = house.get(&format!("/v1/jobs/{}", end.job)).await;
    assert_eq!((status, &shown["status"]), (200, &json!("failed")));
    assert_eq!(
        house.jobstore.job(&end.job).await.unwrap(),
        Some(end.clone())
    );
    assert_eq!(house.jobstore.restore(&end).await.unwrap(), Created::Exists);
}

/// FLUSHALL over a plain socket: only the job store may use a client of Redis.
pub(crate) async fn redis_flush(url: &str) -> Option<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = url.trim_start_matches("redis://");
    let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
    socket.write_all(b"FLUSHALL\r\n").await.ok()?;
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).await.ok()?;
    (&answer == b"+OK\r\n").then_some(())
}

#[tokio::test]
async fn above_the_limit_jobs_wait_outside() {
    let redis = photofinish_kit::Redis::fresh().unwrap();
    let limit = [("admission.jobs_in_flight_max", "1")];
    let house = House::with(&redis.url, &redis.prefix, &limit).await;
    assert_eq!(house.submit(None, &job(1)).await.0, 202);
    let (message, _) = house.planned().await;
    let (status, refused) = house.submit(None, &job(1)).await;
    assert_eq!((status, &refused["code"]), (503, &json!("too_many_jobs")));
    house.amqp_user(house.tenant.as_str()).await;
    let user = json!({"user_id": house.tenant, "message_id": "m-1"});
    house.publish("job.submit", user, &job(1).to_string()).await;

    let first = accepted(message).job;
    let mut end = house.jobstore.job(&first).await.unwrap().unwrap();
    end.status = JobStatus::Cancelled;
    let _recorded = house.jobstore.finish(&end).await.unwrap();
    let (message, _) = house.planned().await;
    assert_eq!(
        accepted(message).job,
        JobId::derived(&house.tenant, "m-1"),
        "it only waited"
    );
    let empty = || async {
        house
            .broker
            .depth(WorkQueue::Submissions)
            .await
            .is_ok_and(|n| n == 0)
    };
    wait_until(SOON, "the submission is acknowledged", empty)
        .await
        .unwrap();
}
