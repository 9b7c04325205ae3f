//! Submissions over AMQP.

use crate::house::{House, job};
use photofinish_contract::messages::{Command, PlanMessage};
use photofinish_model::JobId;
use serde_json::{Value, json};

fn body_of(message: &Value) -> Value {
    serde_json::from_str(message["payload"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_submission_is_admitted_once_and_answered() {
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    house.make_queue("my.replies").await;
    let properties = json!({"user_id": house.tenant, "message_id": "order-17",
        "reply_to": "my.replies", "correlation_id": "c-1", "delivery_mode": 2});
    let mut ids = Vec::new();
    for _ in 0..2 {
        house
            .publish("job.submit", properties.clone(), &job(2).to_string())
            .await;
        let reply = house.next_in("my.replies").await;
        assert_eq!(reply["properties"]["type"], "job.accepted");
        assert_eq!(reply["properties"]["correlation_id"], "c-1");
        ids.push(body_of(&reply)["id"].clone());
    }
    let expected = JobId::derived(&house.tenant, "order-17");
    assert_eq!(ids, [expected.as_str(), expected.as_str()]);
    let (PlanMessage::JobAccepted(told), _) = house.planned().await else {
        unreachable!("no job")
    };
    assert_eq!((&told.job, &told.tenant), (&expected, &house.tenant));
    house.nothing_planned().await;
    // The key is the tenant's, shared by both doors.
    let (status, shown) = house.submit(Some("order-17"), &job(2)).await;
    assert_eq!((status, &shown["id"]), (200, &ids[0]));

    let cancel = json!({"id": expected}).to_string();
    let properties = json!({"user_id": house.tenant, "reply_to": "my.replies"});
    house.publish("job.cancel", properties, &cancel).await;
    assert_eq!(
        house.next_in("my.replies").await["properties"]["type"],
        "job.cancelling"
    );
    let (PlanMessage::JobCommand(command), _) = house.planned().await else {
        unreachable!("no command")
    };
    assert_eq!((command.job, command.command), (expected, Command::Cancel));
}

#[tokio::test]
async fn what_is_refused_lies_in_rejected_with_the_reason() {
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    house.make_queue("my.replies").await;
    let user = json!({"user_id": house.tenant, "reply_to": "my.replies", "correlation_id": "c-9"});
    let good = job(1).to_string();
    let cases = [
        ("job.submit", "{\"operation\":", "malformed"),
        (
            "job.submit",
            "{\"operation\": \"resize\"}",
            "invalid_request",
        ),
        ("job.resubmit", good.as_str(), "unknown_routing_key"),
        (
            "job.cancel",
            "{\"id\": \"job_1\", \"force\": true}",
            "invalid_request",
        ),
        ("job.cancel", "{\"id\": \"job_1\"}", "not_found"),
    ];
    for (routing_key, body, code) in cases {
        house.publish(routing_key, user.clone(), body).await;
        let refused = house.next_in("photofinish.rejected").await;
        let headers = &refused["properties"]["headers"];
        assert_eq!(headers["x-rejected-code"], code, "{body}");
        assert!(
            headers["x-rejected-detail"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
        assert_eq!(refused["payload"], body);
        let reply = house.next_in("my.replies").await;
        assert_eq!(reply["properties"]["type"], "job.rejected");
        assert_eq!(reply["properties"]["correlation_id"], "c-9");
        assert_eq!(body_of(&reply)["code"], code);
    }
    let ours = json!({"user_id": house.tenant, "reply_to": "dispatcher.plan"});
    house.publish("job.submit", ours, &good).await;
    let refused = house.next_in("photofinish.rejected").await;
    assert_eq!(
        refused["properties"]["headers"]["x-rejected-code"],
        "invalid_reply_to"
    );
    house.publish("job.submit", json!({}), &good).await;
    let refused = house.next_in("photofinish.rejected").await;
    assert_eq!(
        refused["properties"]["headers"]["x-rejected-code"],
        "unknown_tenant"
    );
    house.nothing_planned().await;
}

#[tokio::test]
async fn a_user_without_a_tenant_is_refused_and_the_default_tenant_is_made() {
    let redis = photofinish_kit::Redis::fresh().unwrap();
    let default = [("auth.default_tenant", "house")];
    let house = House::with(&redis.url, &redis.prefix, &default).await;
    let nobody = format!("n-{}", uuid::Uuid::new_v4().simple());
    house.amqp_user(&nobody).await;
    let good = job(1).to_string();
    let claims = json!({"user_id": nobody, "headers": {"x-photofinish-tenant": house.tenant}});
    house.publish_as(&nobody, "job.submit", claims, &good).await;
    let refused = house.next_in("photofinish.rejected").await;
    assert_eq!(
        refused["properties"]["headers"]["x-rejected-code"],
        "unknown_tenant"
    );

    let made = || async {
        let record = house.objects.system_get::<Value>("tenant", "house").await;
        record.is_ok_and(|record| record.is_some())
    };
    photofinish_kit::wait_until(crate::house::SOON, "the default tenant", made)
        .await
        .unwrap();
    house
        .publish_as(&nobody, "job.submit", json!({"message_id": "m"}), &good)
        .await;
    let (PlanMessage::JobAccepted(told), _) = house.planned().await else {
        unreachable!("no job")
    };
    assert_eq!(told.tenant.as_str(), "house");
}
