//! Quotas and pauses: over them, HTTP answers 429; over AMQP a rate delays and a hard quota rejects.

use crate::house::{House, ask, job};
use photofinish_contract::messages::PlanMessage;
use photofinish_kit::Method;
use photofinish_model::quota::day;
use photofinish_objects::{DayUsage, PausesRecord};
use photofinish_runtime::Clock;
use serde_json::{Value, json};

#[tokio::test]
async fn a_rate_refuses_with_headers_and_other_tenants_do_not_feel_it() {
    let house = House::open().await;
    let (_, other) = house.make_tenant("calm").await;
    house.limit(json!({"quotas": {"requests_per_s": 2}})).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = house.mine(Method::GET, "/v1/jobs").send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("more than twice in a second");
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("retry-after"), header("ratelimit-limit")),
        ("1".to_owned(), "2".to_owned())
    );
    assert_eq!(
        (header("ratelimit-remaining"), header("ratelimit-reset")),
        ("0".to_owned(), "1".to_owned())
    );
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "rate_limited");
    for _ in 0..5 {
        let call = house.call(Method::GET, "/v1/jobs").bearer_auth(&other);
        assert_eq!(ask(call).await.0, 200);
    }
    house
        .limit(json!({"quotas": {"requests_per_s": null}}))
        .await;
    for _ in 0..5 {
        assert_eq!(house.get("/v1/jobs").await.0, 200);
    }
}

#[tokio::test]
async fn hard_quotas_refuse_over_both_doors_and_a_known_key_never() {
    let house = House::open().await;
    house
        .limit(json!({"quotas": {"jobs_waiting_max": 2, "items_per_job_max": 2}}))
        .await;
    for key in ["a", "b"] {
        assert_eq!(house.submit(Some(key), &job(1)).await.0, 202);
    }
    let code = |answer: (u16, Value)| (answer.0, answer.1["code"].clone());
    assert_eq!(
        code(house.submit(Some("c"), &job(1)).await),
        (429, json!("quota_exceeded"))
    );
    assert_eq!(
        house.submit(Some("a"), &job(1)).await.0,
        200,
        "the same job is no further one"
    );
    let usage = format!("/tenants/{}/usage", house.tenant);
    let (_, shown) = house.operate(Method::GET, &usage, None).await;
    assert_eq!(
        (&shown["jobs_waiting"], &shown["quotas"]["jobs_waiting_max"]),
        (&json!(2), &json!(2))
    );

    house.amqp_user(house.tenant.as_str()).await;
    house.make_queue("my.replies").await;
    let properties = json!({"user_id": house.tenant, "message_id": "d", "reply_to": "my.replies"});
    house
        .publish("job.submit", properties, &job(1).to_string())
        .await;
    let refused = house.next_in("photofinish.rejected").await;
    assert_eq!(
        refused["properties"]["headers"]["x-rejected-code"],
        "quota_exceeded"
    );

    house
        .limit(json!({"quotas": {"jobs_waiting_max": 3}}))
        .await;
    assert_eq!(house.submit(None, &job(2)).await.0, 202);
    house
        .limit(json!({"quotas": {"jobs_waiting_max": null}}))
        .await;
    assert_eq!(
        code(house.submit(None, &job(3)).await),
        (429, json!("quota_exceeded"))
    );
    house
        .limit(json!({"quotas": {"items_per_job_max": 3}}))
        .await;
    assert_eq!(house.submit(None, &job(3)).await.0, 202);
}

#[tokio::test]
async fn a_days_quota_survives_that_redis_forgets_it() {
    let house = House::open().await;
    let today = day(Clock::system().now());
    let used = DayUsage {
        gpu_seconds: 100.0,
        cost_usd: 2.0,
    };
    house
        .objects
        .put_usage_of_day(&house.tenant, &today, &used)
        .await
        .unwrap();
    house
        .limit(json!({"quotas": {"gpu_seconds_per_day": 101.0}}))
        .await;
    assert_eq!(house.submit(None, &job(1)).await.0, 202);
    let added = house
        .jobstore
        .add_to_day(&house.tenant, &today, "n", (1.0, 0.5))
        .await;
    let added = added.unwrap();
    assert_eq!((added.gpu_seconds, added.cost_usd), (101.0, 2.5));
    let answer = house
        .mine(Method::POST, "/v1/jobs")
        .json(&job(1))
        .send()
        .await
        .unwrap();
    let wait: u64 = answer.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        answer.status() == 429 && (1..=86_400).contains(&wait),
        "{wait}"
    );
    let problem: Value = answer.json().await.unwrap();
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("gpu_seconds_per_day"),
        "{problem}"
    );
    house
        .limit(json!({"quotas": {"gpu_seconds_per_day": null, "cost_per_day_usd": 2.5}}))
        .await;
    assert_eq!(house.submit(None, &job(1)).await.0, 429);
    let (_, shown) = house
        .operate(
            Method::GET,
            &format!("/tenants/{}/usage", house.tenant),
            None,
        )
        .await;
    assert_eq!(
        (&shown["gpu_seconds"], &shown["cost"]["amount"]),
        (&json!(101.0), &json!(2.5))
    );
}

#[tokio::test]
async fn submissions_over_a_rate_wait_their_turn_and_all_are_taken() {
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    house.limit(json!({"quotas": {"requests_per_s": 3}})).await;
    for n in 0..9 {
        let properties = json!({"user_id": house.tenant, "message_id": format!("m{n}")});
        house
            .publish("job.submit", properties, &job(1).to_string())
            .await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..9 {
        let (PlanMessage::JobAccepted(told), _) = house.planned().await else {
            unreachable!("no job")
        };
        seen.insert(told.job);
    }
    assert_eq!(seen.len(), 9);
}

async fn pauses_of(house: &House) -> PausesRecord {
    let (kind, id) = (PausesRecord::KIND, PausesRecord::ID);
    let found = house.objects.system_get(kind, id).await.unwrap();
    found.map_or_else(PausesRecord::default, |(_, pauses): (u64, PausesRecord)| {
        pauses
    })
}

#[tokio::test]
async fn a_tenant_is_paused_with_its_lane_unless_somebody_shares_it() {
    let house = House::open().await;
    let pauses = || pauses_of(&house);
    let shown = house.limit(json!({"paused": true})).await;
    let lane: u16 = shown["lane"].as_u64().unwrap().try_into().unwrap();
    assert_eq!(shown["paused"], true);
    assert_eq!(pauses().await.lanes, [lane].into());
    assert_eq!(
        house.submit(None, &job(1)).await.0,
        202,
        "its jobs are taken, and wait"
    );
    // Two lanes: the third tenant shares one.
    house.make_tenant("second").await;
    house.make_tenant("third").await;
    let (_, second) = house.operate(Method::GET, "/tenants/second", None).await;
    let (_, third) = house.operate(Method::GET, "/tenants/third", None).await;
    assert_ne!(second["lane"], json!(lane));
    let shares = third["lane"] == json!(lane);
    assert_eq!(
        pauses().await.lanes.is_empty(),
        shares,
        "nobody else is held up"
    );
    let shown = house.limit(json!({"paused": false})).await;
    assert_eq!(
        (&shown["paused"], pauses().await),
        (&json!(false), PausesRecord::default())
    );
}

#[tokio::test]
async fn an_endpoint_is_paused_that_a_dispatcher_has_told_of() {
    let house = House::open().await;
    let unknown = house
        .operate(
            Method::PATCH,
            "/endpoints/ep-1",
            Some(json!({"paused": true})),
        )
        .await;
    assert_eq!(unknown.0, 404);
    let note = json!({"at": Clock::system().now(), "capacity": 5, "in_flight": 1, "short": false, "resting": false});
    house
        .jobstore
        .note_endpoint("ep-1", &note.to_string())
        .await
        .unwrap();
    let (status, shown) = house
        .operate(
            Method::PATCH,
            "/endpoints/ep-1",
            Some(json!({"paused": true})),
        )
        .await;
    assert_eq!((status, &shown["paused"]), (200, &json!(true)));
    assert_eq!(
        pauses_of(&house).await.endpoints,
        ["ep-1".to_owned()].into()
    );
    let (_, list) = house.operate(Method::GET, "/endpoints", None).await;
    assert_eq!(
        (
            &list["data"][0]["paused"],
            &list["data"][0]["standing"]["capacity"]
        ),
        (&json!(true), &json!(5))
    );
    let (status, problem) = house
        .operate(Method::PATCH, "/endpoints/ep-1", Some(json!({"x": 1})))
        .await;
    assert_eq!(
        (status, problem["errors"].as_array().unwrap().len()),
        (422, 2)
    );
}
