//! Webhook endpoints and deliveries: secrets that are replaced, tests, gaps and replays.

use crate::house::{House, KEY, SOON, ask};
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use photofinish_broker::{Disposition, WorkQueue};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{
    AnyEvent, DeliveryDue, EndpointEvent, JobEvent, NotifierMessage, Receiver, ReplayWanted,
    WebhookCommand,
};
use photofinish_jobstore::{AttemptLog, DeliveryRecord};
use photofinish_kit::{Method, wait_for};
use photofinish_model::JobId;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_objects::{Sealer, TenantRecord, WebhookEndpointRecord};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Makes an endpoint; gives its path and its secret.
async fn endpoint(house: &House) -> (String, String) {
    let wish = json!({"url": "https://example.com/hook", "description": "mine"});
    let (status, made) = house.post("/v1/webhook-endpoints", &wish).await;
    assert_eq!(status, 201, "{made}");
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (
        format!("/v1/webhook-endpoints/{}", text("id")),
        text("secret"),
    )
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn record(house: &House, path: &str) -> WebhookEndpointRecord {
    let id = WebhookEndpointRecord::record_id(&house.tenant, id_of(path));
    let found = house.objects.system_get(WebhookEndpointRecord::KIND, &id);
    found.await.unwrap().expect("it is there").1
}

async fn patch(house: &House, path: &str, body: Value) -> (u16, Value) {
    ask(house.mine(Method::PATCH, path).json(&body)).await
}

/// The next message to the notifier.
async fn told<T: DeserializeOwned>(house: &House, queue: WorkQueue) -> T {
    let held = wait_for(SOON, "a message to the notifier", || async {
        house.broker.get(queue).await.ok().flatten()
    });
    let held = held.await.unwrap();
    let message = held.incoming().json().unwrap();
    held.settle(Disposition::Ack).await;
    message
}

fn unsealed(sealed: &str) -> String {
    Sealer::new(KEY).unwrap().open(sealed).unwrap()
}

#[tokio::test]
async fn a_secret_is_replaced_with_an_overlap_and_shown_once() {
    let house = House::open().await;
    let (path, first) = endpoint(&house).await;
    let rotate = format!("{path}/rotate-secret");
    // Without a body: a day.
    let (status, made) = ask(house.mine(Method::POST, &rotate)).await;
    assert_eq!(status, 200, "{made}");
    let second = made["secret"].as_str().unwrap();
    let until: Timestamp = made["old_secret_until"].as_str().unwrap().parse().unwrap();
    let kept = record(&house, &path).await;
    assert_eq!(unsealed(&kept.secret_sealed), second);
    assert_eq!(unsealed(&kept.former_secrets[0].sealed), first);
    assert_eq!(kept.former_secrets[0].until, until);
    let (_, shown) = house.get(&path).await;
    assert!(shown.get("secret").is_none() && shown.get("old_secret_until").is_none());
    assert!(!shown.to_string().contains("whsec_"));
    let (status, _) = house.post(&rotate, &json!({"overlap_s": 604_800})).await;
    assert_eq!(status, 200);
    assert_eq!(record(&house, &path).await.former_secrets.len(), 2);
    for (body, code) in [
        (json!({"overlap_s": 604_801}), "out_of_range"),
        (json!({"overlap_s": -1}), "out_of_range"),
        (json!({"overlap_s": "1"}), "wrong_type"),
        (json!({"overlap": 1}), "unknown_field"),
    ] {
        let (status, problem) = house.post(&rotate, &body).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!(code)));
    }
    for _ in 0..7 {
        assert_eq!(house.post(&rotate, &json!({})).await.0, 200);
    }
    let (status, problem) = house.post(&rotate, &json!({})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("quota_exceeded")));
    // One that got out: no earlier one signs any more.
    let (status, made) = house.post(&rotate, &json!({"overlap_s": 0})).await;
    assert_eq!((status, made.get("old_secret_until")), (200, None));
    assert_eq!(record(&house, &path).await.former_secrets, []);
    let stranger = house.make_tenant("stranger").await.1;
    let theirs = house.call(Method::POST, &rotate).bearer_auth(stranger);
    assert_eq!(ask(theirs).await.0, 404);
}

#[tokio::test]
async fn the_tenants_own_secret_is_replaced_likewise() {
    let house = House::open().await;
    let (status, made) = ask(house.mine(Method::POST, "/v1/webhook-secret/rotate")).await;
    assert_eq!(status, 200, "{made}");
    let kind = TenantRecord::KIND;
    let kept = house.objects.system_get(kind, house.tenant.as_str()).await;
    let (_, kept): (u64, TenantRecord) = kept.unwrap().unwrap();
    assert_eq!(unsealed(&kept.secret_sealed), made["secret"]);
    let former = &kept.former_secrets[0];
    assert_eq!(unsealed(&former.sealed), house.webhook_secret);
}

#[tokio::test]
async fn a_test_is_one_message_and_none_to_a_disabled_endpoint() {
    let house = House::open().await;
    let (path, _) = endpoint(&house).await;
    let test = format!("{path}/test");
    let (status, sent) = ask(house.mine(Method::POST, &test)).await;
    assert_eq!(status, 202, "{sent}");
    let told: NotifierMessage = told(&house, WorkQueue::Events).await;
    let NotifierMessage::Webhook(WebhookCommand::Test {
        tenant,
        endpoint,
        at,
    }) = told
    else {
        panic!("{told:?}")
    };
    assert_eq!(endpoint, id_of(&path));
    let event = AnyEvent::Endpoint(EndpointEvent {
        tenant,
        endpoint,
        event: EventType::EndpointTest,
        at,
        cause: None,
    });
    assert_eq!(sent["event"], event.id());
    assert!(sent["delivery"].as_str().unwrap().starts_with("dlv_"));
    assert_eq!(patch(&house, &path, json!({"enabled": false})).await.0, 200);
    let (status, problem) = ask(house.mine(Method::POST, &test)).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("endpoint_disabled"))
    );
    assert!(house.broker.get(WorkQueue::Events).await.unwrap().is_none());
}

/// Notes a delivery to an endpoint, tried once.
pub(crate) async fn delivery(
    house: &House,
    endpoint: &str,
    id: &str,
    at: Timestamp,
    status: DeliveryStatus,
) {
    let record = DeliveryRecord {
        id: id.to_owned(),
        event_id: format!("evt_{id}"),
        event: AnyEvent::Job(JobEvent {
            job: JobId::from_random(7),
            tenant: house.tenant.clone(),
            run: 1,
            event: EventType::JobCompleted,
            sequence: 19_999_999,
            at,
            changed: Vec::new(),
        }),
        receiver: Receiver::Endpoint {
            id: endpoint.to_owned(),
        },
        created_at: at,
    };
    let attempt = AttemptLog {
        number: 1,
        at,
        status_code: Some(500),
        error: None,
        duration_ms: 7,
        timing: None,
        response: Some("no".to_owned()),
    };
    let store = &house.jobstore;
    let noted = store.delivery_tried(id, &record, status, &attempt);
    noted.await.unwrap();
}

#[tokio::test]
async fn enabling_again_replays_the_gap() {
    let house = House::open().await;
    let (path, _) = endpoint(&house).await;
    let (_, shown) = patch(&house, &path, json!({"description": null})).await;
    assert_eq!(shown["description"], Value::Null);
    let (_, shown) = patch(&house, &path, json!({"description": "d"})).await;
    let (_, same) = patch(&house, &path, json!({"enabled": false})).await;
    assert_eq!(
        (&shown["description"], &same["description"]),
        (&json!("d"), &json!("d"))
    );
    let since = "2026-11-22T10:00:00Z";
    let (status, problem) = patch(&house, &path, json!({"replay_since": since})).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("endpoint_disabled"))
    );
    let wrong = patch(
        &house,
        &path,
        json!({"enabled": true, "replay_since": "yesterday"}),
    )
    .await;
    assert_eq!(
        (wrong.0, &wrong.1["errors"][0]["pointer"]),
        (422, &json!("/replay_since"))
    );

    let from: Timestamp = since.parse().unwrap();
    let minute = SignedDuration::from_mins(1);
    let endpoint = id_of(&path);
    for (id, at, status) in [
        ("dlv_before", from - minute, DeliveryStatus::Failed),
        ("dlv_failed", from, DeliveryStatus::Failed),
        ("dlv_later", from + minute, DeliveryStatus::Failed),
        ("dlv_good", from + minute, DeliveryStatus::Delivered),
    ] {
        delivery(&house, endpoint, id, at, status).await;
    }
    delivery(
        &house,
        "whe_other",
        "dlv_other",
        from,
        DeliveryStatus::Failed,
    )
    .await;
    let wish = json!({"enabled": true, "replay_since": since});
    let (status, shown) = patch(&house, &path, wish).await;
    assert_eq!((status, &shown["replayed"]), (200, &json!(2)), "{shown}");
    let kept = record(&house, &path).await;
    assert!(kept.enabled && kept.enabled_at.is_some());
    let NotifierMessage::Webhook(WebhookCommand::Replay(wanted)) =
        told(&house, WorkQueue::Events).await
    else {
        panic!("no replay")
    };
    let expected = ReplayWanted {
        tenant: house.tenant.clone(),
        endpoint: endpoint.to_owned(),
        since: from,
        until: wanted.at,
        status: DeliveryStatus::Failed,
        at: wanted.at,
        cursor: None,
    };
    assert_eq!(wanted, expected);
}

#[tokio::test]
async fn deliveries_are_shown_and_sent_again_one_by_one() {
    let house = House::open().await;
    let (path, _) = endpoint(&house).await;
    let at: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let id = id_of(&path);
    for (name, status) in [
        ("dlv_1", DeliveryStatus::Failed),
        ("dlv_2", DeliveryStatus::Delivered),
    ] {
        delivery(&house, id, name, at, status).await;
    }
    let (status, shown) = house.get("/v1/deliveries/dlv_1").await;
    assert_eq!((status, &shown["status"]), (200, &json!("failed")));
    let attempt = json!({"at": "2026-11-22T10:00:00Z", "status_code": 500, "error": null,
        "duration_ms": 7, "timing": null, "response": "no"});
    assert_eq!(shown["attempts"], json!([attempt]));
    assert_eq!(
        (&shown["endpoint"], &shown["event"]),
        (&json!(id), &json!("evt_dlv_1"))
    );
    let stranger = house.make_tenant("stranger").await.1;
    for path in [
        "/v1/deliveries/dlv_1",
        "/v1/deliveries/dlv_9",
        "/v1/deliveries/x",
    ] {
        let theirs = house.call(Method::GET, path).bearer_auth(&stranger);
        assert_eq!(ask(theirs).await.0, 404, "{path}");
    }
    // One, whatever became of it.
    for name in ["dlv_1", "dlv_2"] {
        let replay = format!("/v1/deliveries/{name}/replay");
        let (status, shown) = ask(house.mine(Method::POST, &replay)).await;
        assert_eq!(
            (status, &shown["status"]),
            (202, &json!("pending")),
            "{shown}"
        );
        let due: DeliveryDue = told(&house, WorkQueue::Deliver).await;
        assert_eq!((due.delivery.as_str(), due.tries), (name, 0));
        let replayed: Timestamp = shown["replayed_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(due.replay, Some(replayed));
        let theirs = house.call(Method::POST, &replay).bearer_auth(&stranger);
        assert_eq!(ask(theirs).await.0, 404);
    }
}

#[tokio::test]
async fn many_deliveries_are_sent_again_at_once_and_listed_by_time() {
    let house = House::open().await;
    let (path, _) = endpoint(&house).await;
    let at: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let id = id_of(&path);
    for (name, status) in [
        ("dlv_1", DeliveryStatus::Failed),
        ("dlv_2", DeliveryStatus::Delivered),
    ] {
        delivery(&house, id, name, at, status).await;
    }
    let many = "/v1/deliveries/replay";
    let mut wish = json!({"endpoint": id, "since": "2026-11-22T10:00:00Z"});
    for (status, expected) in [(None, "failed"), (Some("delivered"), "delivered")] {
        wish["status"] = json!(status);
        let (code, answer) = house.post(many, &wish).await;
        assert_eq!((code, &answer), (202, &json!({"replayed": 1})));
        let told: NotifierMessage = told(&house, WorkQueue::Events).await;
        let NotifierMessage::Webhook(WebhookCommand::Replay(wanted)) = told else {
            panic!("no replay")
        };
        assert_eq!(json!(wanted.status), expected);
    }
    wish["until"] = json!("2026-11-22T10:00:00Z");
    assert_eq!(house.post(many, &wish).await.1, json!({"replayed": 0}));
    let (status, problem) = house
        .post(many, &json!({"status": "odd", "since": 1}))
        .await;
    assert_eq!(
        (status, problem["errors"].as_array().unwrap().len()),
        (422, 3),
        "{problem}"
    );
    let (status, _) = patch(&house, &path, json!({"enabled": false})).await;
    assert_eq!(status, 200);
    for (path, body) in [(many, &wish), ("/v1/deliveries/dlv_1/replay", &json!({}))] {
        let (status, problem) = house.post(path, body).await;
        assert_eq!(
            (status, &problem["code"]),
            (409, &json!("endpoint_disabled")),
            "{path}"
        );
    }
    // Filters by time, to the moment.
    let list = async |query: &str| house.get(&format!("/v1/deliveries?{query}")).await;
    let (_, all) = list("created_after=2026-11-22T10:00:00Z").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    let (_, none) = list("created_before=2026-11-22T10:00:00Z").await;
    assert_eq!(none["data"], json!([]));
    assert_eq!(list("status=odd").await.0, 422);
}

/// More than are counted for an answer.
const MANY: usize = 5_001;

#[tokio::test]
async fn of_very_many_deliveries_that_are_sent_again_the_answer_says_that_there_are_more() {
    let house = House::open().await;
    let (path, _) = endpoint(&house).await;
    let at: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let names: Vec<String> = (0..MANY).map(|number| format!("dlv_{number:04}")).collect();
    let failed = DeliveryStatus::Failed;
    let made = names
        .iter()
        .map(|name| delivery(&house, id_of(&path), name, at, failed));
    futures_util::stream::iter(made)
        .buffer_unordered(100)
        .collect::<Vec<()>>()
        .await;
    let wish = json!({"endpoint": id_of(&path), "since": "2026-11-22T10:00:00Z"});
    let (status, answer) = house.post("/v1/deliveries/replay", &wish).await;
    assert_eq!((status, &answer["more"]), (202, &json!(true)), "{answer}");
    let counted = answer["replayed"].as_u64().unwrap();
    assert!((5_000..=MANY as u64).contains(&counted), "{counted}");
    // All of them, however many were counted: the wish names a time and no deliveries.
    let told: NotifierMessage = told(&house, WorkQueue::Events).await;
    assert!(matches!(
        told,
        NotifierMessage::Webhook(WebhookCommand::Replay(wanted)) if wanted.since == at
    ));
}

#[tokio::test]
async fn an_endpoints_rate_is_set_shown_and_cleared() {
    let house = House::open().await;
    let wish = json!({"url": "https://example.com/hook", "calls_per_s": 7});
    let (status, made) = house.post("/v1/webhook-endpoints", &wish).await;
    assert_eq!((status, &made["calls_per_s"]), (201, &json!(7)), "{made}");
    let path = format!("/v1/webhook-endpoints/{}", made["id"].as_str().unwrap());
    let (_, same) = patch(&house, &path, json!({"description": "d"})).await;
    assert_eq!(same["calls_per_s"], 7);
    let (_, changed) = patch(&house, &path, json!({"calls_per_s": 8})).await;
    assert_eq!(changed["calls_per_s"], 8);
    assert_eq!(record(&house, &path).await.calls_per_s, Some(8));
    let (_, cleared) = patch(&house, &path, json!({"calls_per_s": null})).await;
    assert_eq!(cleared["calls_per_s"], Value::Null);
    for (wrong, code) in [
        (json!(0), "out_of_range"),
        (json!(10_001), "out_of_range"),
        (json!(1.5), "out_of_range"),
        (json!("7"), "wrong_type"),
    ] {
        let (status, problem) = patch(&house, &path, json!({"calls_per_s": wrong})).await;
        assert_eq!((status, &problem["errors"][0]["code"]), (422, &json!(code)));
    }
}

#[tokio::test]
async fn of_an_endpoint_that_was_deleted_long_ago_nothing_is_left() {
    let house = House::open().await;
    let (kind, tenant) = (WebhookEndpointRecord::KIND, house.tenant.clone());
    let mut deleted = Vec::new();
    for _ in 0..2 {
        let (path, _) = endpoint(&house).await;
        assert_eq!(ask(house.mine(Method::DELETE, &path)).await.0, 204);
        deleted.push(path);
    }
    // The first one was deleted the day before yesterday.
    let id = WebhookEndpointRecord::record_id(&tenant, id_of(&deleted[0]));
    let found = house.objects.system_get(kind, &id).await.unwrap();
    let (version, record): (u64, WebhookEndpointRecord) = found.unwrap();
    assert!(record.deleted && record.deleted_at.is_some());
    let long_ago = WebhookEndpointRecord {
        deleted_at: record
            .deleted_at
            .map(|at| at - SignedDuration::from_hours(48)),
        ..record
    };
    let put = house
        .objects
        .system_put(kind, &id, Some(version), &long_ago);
    put.await.unwrap();
    let (path, _) = endpoint(&house).await;
    let left: Vec<(String, u64, WebhookEndpointRecord)> = house
        .objects
        .system_list(kind, tenant.as_str())
        .await
        .unwrap();
    let mut ids: Vec<&str> = left.iter().map(|(_, _, one)| one.id.as_str()).collect();
    let mut expected = [id_of(&deleted[1]), id_of(&path)];
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(
        ids, expected,
        "what was just deleted is remembered for a day"
    );
    // What the notifier sees has the new one, though the versions add up to less than before.
    let copy = house
        .jobstore
        .cached_system("webhook_endpoints", tenant.as_str());
    let json = copy.await.unwrap().unwrap().json.unwrap();
    let seen: Vec<WebhookEndpointRecord> = serde_json::from_str(&json).unwrap();
    let seen: Vec<&str> = seen.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(seen, [id_of(&path)]);
    for gone in deleted {
        assert_eq!(house.get(&gone).await.0, 404);
    }
}
