//! Tenants, keys, webhook endpoints, uploads, deliveries.

use crate::house::{House, KEY, OPERATOR, ask};
use jiff::Timestamp;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{AnyEvent, JobEvent, Receiver};
use photofinish_jobstore::DeliveryRecord;
use photofinish_kit::Method;
use photofinish_model::JobId;
use photofinish_objects::{Sealer, TenantRecord, WebhookEndpointRecord};
use serde_json::{Value, json};

#[tokio::test]
async fn tenants_take_the_least_used_lane_and_show_their_secret_once() {
    let house = House::open().await;
    house.make_tenant("b").await;
    let tenants = house
        .call(Method::GET, "/v1/admin/tenants")
        .bearer_auth(OPERATOR);
    let (_, list) = ask(tenants).await;
    let rows = list["data"].as_array().unwrap();
    let mut lanes: Vec<u64> = rows
        .iter()
        .map(|row| row["lane"].as_u64().unwrap())
        .collect();
    lanes.sort_unstable();
    assert_eq!(lanes, [0, 1]);
    let again = house
        .call(Method::POST, "/v1/admin/tenants")
        .bearer_auth(OPERATOR);
    let (status, shown) = ask(again.json(&json!({"id": "b"}))).await;
    assert_eq!((status, shown.get("webhook_secret")), (200, None));
    let bad = house
        .call(Method::POST, "/v1/admin/tenants")
        .bearer_auth(OPERATOR);
    assert_eq!(ask(bad.json(&json!({"id": "B_"}))).await.0, 422);
    let kept: Option<(u64, TenantRecord)> = house
        .objects
        .system_get(TenantRecord::KIND, house.tenant.as_str())
        .await
        .unwrap();
    let sealed = kept.unwrap().1.secret_sealed;
    assert_eq!(
        Sealer::new(KEY).unwrap().open(&sealed).unwrap(),
        house.webhook_secret
    );
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let house = House::open().await;
    assert_eq!(house.get("/v1/jobs").await.0, 200);
    let path = format!("/v1/admin/tenants/{}/keys", house.tenant);
    let (_, keys) = ask(house.call(Method::GET, &path).bearer_auth(OPERATOR)).await;
    assert_eq!(keys["data"].as_array().unwrap().len(), 1);
    assert!(
        !keys.to_string().contains(&house.key),
        "the key itself is kept nowhere"
    );
    let id = keys["data"][0]["id"].as_str().unwrap();
    let stranger = format!("/v1/admin/tenants/stranger/keys/{id}");
    assert_eq!(
        ask(house.call(Method::DELETE, &stranger).bearer_auth(OPERATOR))
            .await
            .0,
        404
    );
    let own = format!("{path}/{id}");
    for _ in 0..2 {
        assert_eq!(
            ask(house.call(Method::DELETE, &own).bearer_auth(OPERATOR))
                .await
                .0,
            204
        );
    }
    assert_eq!(house.get("/v1/jobs").await.0, 401);
}

#[tokio::test]
async fn webhook_endpoints_are_made_changed_and_removed() {
    let house = House::open().await;
    let wish = json!({"url": "https://example.com/hook", "event_types": ["job.completed"]});
    let (status, made) = house.post("/v1/webhook-endpoints", &wish).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    let path = format!("/v1/webhook-endpoints/{}", made["id"].as_str().unwrap());
    let (_, shown) = house.get(&path).await;
    assert_eq!(
        (shown.get("secret"), &shown["enabled"]),
        (None, &json!(true))
    );
    let copy = house
        .jobstore
        .cached_system("webhook_endpoints", house.tenant.as_str());
    let copy = copy.await.unwrap().unwrap();
    let copied: Vec<WebhookEndpointRecord> = serde_json::from_str(&copy.json.unwrap()).unwrap();
    assert_eq!(
        Sealer::new(KEY)
            .unwrap()
            .open(&copied[0].secret_sealed)
            .unwrap(),
        secret
    );

    let change = json!({"enabled": false, "description": "night"});
    let (status, changed) = ask(house.mine(Method::PATCH, &path).json(&change)).await;
    assert_eq!((status, &changed["enabled"]), (200, &json!(false)));
    assert_eq!(
        changed["url"], "https://example.com/hook",
        "what is not given stays"
    );
    let (_, list) = house.get("/v1/webhook-endpoints").await;
    assert_eq!(list["data"], json!([changed]));

    let bad = json!({"url": 7, "event_types": ["job.done"], "colour": 1});
    let (status, problem) = house.post("/v1/webhook-endpoints", &bad).await;
    assert_eq!(
        (status, problem["errors"].as_array().unwrap().len()),
        (422, 3),
        "{problem}"
    );

    assert_eq!(ask(house.mine(Method::DELETE, &path)).await.0, 204);
    assert_eq!(house.get(&path).await.0, 404);
    assert_eq!(
        ask(house.mine(Method::PATCH, &path).json(&json!({})))
            .await
            .0,
        404
    );
    assert_eq!(
        house.get("/v1/webhook-endpoints").await.1["data"],
        json!([])
    );
    assert_eq!(house.get("/v1/webhook-endpoints/whe_x").await.0, 404);
}

#[tokio::test]
async fn an_input_of_ones_own_is_uploaded_by_url() {
    let house = House::open().await;
    let (status, place) = house.post("/v1/uploads", &Value::Null).await;
    assert_eq!(status, 201, "{place}");
    let put = house
        .http
        .put(place["put_url"].as_str().unwrap())
        .body("picture");
    assert_eq!(put.send().await.unwrap().status(), 200);
    let got = house
        .http
        .get(place["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(got.text().await.unwrap(), "picture");
}

#[tokio::test]
async fn deliveries_are_listed_to_their_tenant_alone() {
    let house = House::open().await;
    let (_, stranger) = house.make_tenant("stranger").await;
    let at: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let record = DeliveryRecord {
        id: "dlv_1".to_owned(),
        event_id: "evt_1".to_owned(),
        event: AnyEvent::Job(JobEvent {
            job: JobId::from_random(1),
            tenant: house.tenant.clone(),
            run: 1,
            event: EventType::JobCompleted,
            sequence: 1,
            at,
            changed: Vec::new(),
        }),
        receiver: Receiver::Endpoint {
            id: "whe_1".to_owned(),
        },
        created_at: at,
    };
    assert!(
        house
            .jobstore
            .delivery_create("dlv_1", &record)
            .await
            .unwrap()
    );
    let (_, list) = house
        .get("/v1/deliveries?endpoint=whe_1&status=pending")
        .await;
    let row = &list["data"][0];
    assert_eq!(
        (&row["id"], &row["type"]),
        (&json!("dlv_1"), &json!("job.completed"))
    );
    assert_eq!(
        (&row["endpoint"], &row["event"]),
        (&json!("whe_1"), &json!("evt_1"))
    );
    assert_eq!(
        house.get("/v1/deliveries?status=failed").await.1["data"],
        json!([])
    );
    let theirs = house
        .call(Method::GET, "/v1/deliveries")
        .bearer_auth(stranger);
    assert_eq!(ask(theirs).await.1["data"], json!([]));
}
