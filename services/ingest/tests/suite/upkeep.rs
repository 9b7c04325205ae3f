//! `POST /v1/admin/rebuild`, `/v1/admin/bucket/lifecycle`.

use crate::house::{House, OPERATOR, ask, job};
use crate::jobs::{accepted, half_done, run_doc};
use jiff::SignedDuration;
use photofinish_contract::doctor::{Diagnosis, State};
use photofinish_contract::upkeep::{BucketLifecycle, LifecycleState, Rebuilt};
use photofinish_jobstore::Created;
use photofinish_kit::{Method, RedisServer};
use photofinish_model::{JobSnapshot, JobStatus};
use serde_json::Value;

async fn operate(house: &House, method: Method, path: &str) -> Value {
    let call = house.call(method, path).bearer_auth(OPERATOR);
    let (status, answer) = ask(call).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

/// Calls until there is nothing more to do.
async fn rebuild(house: &House) -> Rebuilt {
    let mut sum = Rebuilt::default();
    loop {
        let cursor = sum.next_cursor.as_deref().unwrap_or_default();
        let path = format!("/v1/admin/rebuild?cursor={cursor}");
        let answer = operate(house, Method::POST, &path).await;
        sum = sum.and(serde_json::from_value(answer).unwrap());
        if sum.next_cursor.is_none() {
            return sum;
        }
    }
}

/// A job that is planned and has not ended.
async fn open_job(house: &House) -> JobSnapshot {
    house.submit(None, &job(2)).await;
    let told = accepted(house.planned().await.0);
    let doc = run_doc(house, &told, &job(2));
    house.objects.put_run(&doc).await.unwrap();
    doc.initial_snapshot()
}

async fn listed(house: &House) -> Vec<Value> {
    let (status, list) = house.get("/v1/jobs").await;
    assert_eq!(status, 200, "{list}");
    list["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_emptied_redis_knows_every_job_again_and_an_older_one_is_put_right() {
    let server = RedisServer::start().await.unwrap();
    let house = House::with(&server.url(), "photofinish:", &[]).await;
    let ended = half_done(&house).await;
    let open = open_job(&house).await;
    let long_ago = open_job(&house).await;
    let months = SignedDuration::from_hours(24 * 90);
    let long_ago = JobSnapshot {
        status: JobStatus::Cancelled,
        finished_at: Some(long_ago.created_at.checked_sub(months).unwrap()),
        ..long_ago
    };
    house.objects.put_end(&long_ago).await.unwrap();
    server.flush().unwrap();
    assert!(listed(&house).await.is_empty(), "nobody has asked for them");

    let found = rebuild(&house).await;
    let counted = (found.jobs, found.restored, found.expired, found.open);
    assert_eq!(counted, (3, 2, 1, 1), "{found:?}");
    assert_eq!(found.unreadable, [""; 0]);
    assert!(found.tenants >= 1);
    assert_eq!(listed(&house).await.len(), 2);
    let due = house.jobstore.deadlines_due(10).await.unwrap();
    assert_eq!(due, [(open.tenant.clone(), open.job.clone(), 1)]);
    let again = rebuild(&house).await;
    assert_eq!((again.known, again.restored), (2, 0), "{again:?}");

    // A copy of Redis from before the job's end.
    server.flush().unwrap();
    let before = house.objects.run(&ended.tenant, &ended.job, 1).await;
    let before = before.unwrap().unwrap().initial_snapshot();
    let made = house.jobstore.create(&before).await.unwrap();
    assert_eq!(made, Created::Created);
    let found = rebuild(&house).await;
    assert_eq!((found.corrected, found.restored), (1, 1), "{found:?}");
    let known = house.jobstore.job(&ended.job).await.unwrap().unwrap();
    assert_eq!(known, ended);

    let audit = operate(&house, Method::GET, "/v1/admin/audit").await;
    let acts = audit["data"].as_array().unwrap().iter();
    let rebuilds = acts.filter(|act| act["act"] == "redis.rebuild").count();
    assert_eq!(rebuilds, 3, "{audit}");
}

#[tokio::test]
async fn a_rebuild_names_what_it_cannot_read_and_refuses_a_strange_cursor() {
    let house = House::open().await;
    let good = half_done(&house).await;
    let bad = open_job(&house).await;
    let path = format!("{}/{}/_job/end-1.json", bad.tenant, bad.job);
    std::fs::write(house.bucket_file(&path), "not a job").unwrap();
    let found = rebuild(&house).await;
    assert_eq!(found.unreadable, [bad.job.to_string()]);
    assert_eq!((found.jobs, found.known), (2, 1), "{found:?}");
    assert!(house.jobstore.job(&good.job).await.unwrap().is_some());

    let strange = house.call(Method::POST, "/v1/admin/rebuild?cursor=YWNtZQ");
    let (status, problem) = ask(strange.bearer_auth(OPERATOR)).await;
    assert_eq!(status, 422, "{problem}");
    let tenant = house.mine(Method::POST, "/v1/admin/rebuild");
    assert_eq!(ask(tenant).await.0, 403, "not for tenants");
}

#[tokio::test]
async fn the_buckets_rules_are_put_on_an_operators_word_and_the_doctor_sees_them() {
    let house = House::open().await;
    house.broker.wait_ready().await;
    let stands = || async {
        let answer = operate(&house, Method::GET, "/v1/admin/doctor").await;
        let diagnosis: Diagnosis = serde_json::from_value(answer).unwrap();
        let rules = diagnosis.checks.into_iter();
        let rules = rules.filter(|check| check.name.starts_with("lifecycle_"));
        rules.map(|check| check.state).collect::<Vec<_>>()
    };
    assert_eq!(stands().await, [State::Warning; 3]);
    let path = "/v1/admin/bucket/lifecycle";
    let before = operate(&house, Method::GET, path).await;
    let before: BucketLifecycle = serde_json::from_value(before).unwrap();
    assert_eq!(before.state, LifecycleState::Missing);
    assert_eq!((before.found.len(), before.wanted.len()), (0, 3));
    for _ in 0..2 {
        let after = operate(&house, Method::PUT, path).await;
        let after: BucketLifecycle = serde_json::from_value(after).unwrap();
        assert_eq!(after.state, LifecycleState::InForce, "{after:?}");
        assert_eq!(after.found, before.wanted);
    }
    assert_eq!(stands().await, [State::Ok; 3]);
}
