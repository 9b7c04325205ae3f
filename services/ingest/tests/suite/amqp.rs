//! Submissions over AMQP.

use crate::house::{House, job};
use crate::table::REPLIES;
use photofinish_contract::messages::{Command, PlanMessage};
use photofinish_kit::stranger::{Properties, Stranger};
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
        let outputs = body_of(&reply)["outputs"].as_array().map(Vec::len);
        assert_eq!(outputs, Some(2), "the whole job, as over HTTP");
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
async fn no_answer_goes_to_another_tenants_queue() {
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    let good = job(1).to_string();
    let other = format!("o-{}", uuid::Uuid::new_v4().simple());
    house.make_tenant(&other).await;
    let theirs = format!("{other}.replies");
    house.make_queue(&theirs).await;
    // With a user and without: neither reaches a queue that is another tenant's.
    for (user, code) in [
        (Some(&house.tenant), "invalid_reply_to"),
        (None, "unknown_tenant"),
    ] {
        let mut foreign = json!({"reply_to": theirs});
        if let Some(user) = user {
            foreign["user_id"] = json!(user);
        }
        house.publish("job.submit", foreign, &good).await;
        let refused = house.next_in("photofinish.rejected").await;
        assert_eq!(refused["properties"]["headers"]["x-rejected-code"], code);
    }
    house.amqp_user(&other).await;
    let own = json!({"user_id": other, "reply_to": theirs, "correlation_id": "own"});
    house.publish_as(&other, "job.submit", own, &good).await;
    let first = house.next_in(&theirs).await;
    assert_eq!(first["properties"]["correlation_id"], "own");
    house.planned().await;
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

/// content_type, content_encoding, message_id, and what it comes to (no code: a job).
type Case<'a> = (&'a [u8], &'a [u8], &'a [u8], Option<&'a str>);

#[tokio::test]
async fn properties_are_read_as_the_contract_says() {
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    house.make_queue(REPLIES).await;
    house.broker.wait_ready().await;
    let url = house.rabbit.url_as(house.tenant.as_str(), "secret");
    let mut stranger = Stranger::connect(&url).await.unwrap();
    let (wrong, invalid) = (Some("wrong_type"), Some("invalid_idempotency_key"));
    let long = [b'k'; 255];
    let cases: [Case<'_>; 12] = [
        (b"application/json", b"", b"k-1", None),
        (b"", b"", b"k-2", None),
        (b"Application/JSON; charset=utf-8", b"utf-8", b"k-3", None),
        (b"application/vnd.acme+json", b"identity", b"k-4", None),
        (b"text/plain", b"", b"k-5", wrong),
        (b"application/octet-stream", b"", b"k-6", wrong),
        (b"\xff", b"", b"k-7", wrong),
        (b"application/json", b"gzip", b"k-8", wrong),
        (b"application/json", b"", &long, None),
        (b"application/json", b"", b"", invalid),
        (b"application/json", b"", b"\xff\xfe", invalid),
        (b"application/json", b"", "schlüssel 17".as_bytes(), None),
    ];
    for (number, (content_type, encoding, id, _)) in cases.iter().enumerate() {
        let properties = Properties {
            content_type: Some(content_type.to_vec()),
            content_encoding: Some(encoding.to_vec()),
            message_id: Some(id.to_vec()),
            correlation_id: Some(number.to_string().into_bytes()),
            reply_to: Some(REPLIES.into()),
            user_id: Some(house.tenant.as_str().into()),
            ..Properties::default()
        };
        let body = job(1).to_string();
        stranger
            .publish(
                "photofinish.jobs",
                b"job.submit",
                &properties,
                body.as_bytes(),
            )
            .await
            .unwrap();
    }
    stranger.flush().await.unwrap();
    let replies = house.all_in(REPLIES, cases.len()).await;
    for (number, (content_type, _, id, code)) in cases.iter().enumerate() {
        let reply = body_of(&replies[&number.to_string()]);
        let told = reply["code"].as_str();
        assert_eq!(told, *code, "{} {reply}", content_type.escape_ascii());
        if code.is_none() {
            let job = JobId::derived(&house.tenant, std::str::from_utf8(id).unwrap());
            assert_eq!(reply["id"], job.as_str());
        }
    }
    // Whoever takes one up again must know what it was.
    let refused = house.next_in("photofinish.rejected").await;
    let headers = &refused["properties"]["headers"];
    assert_eq!(headers["x-first-routing-key"], "job.submit");
    assert_eq!(headers["x-photofinish-tenant"], house.tenant.as_str());
}
