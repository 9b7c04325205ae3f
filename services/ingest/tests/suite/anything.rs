//! Any JSON and any bytes: answered with 2xx or 4xx, and no message is lost.

use crate::house::{House, ask, job};
use crate::table::REPLIES;
use photofinish_broker::WorkQueue;
use photofinish_kit::stranger::{Properties, Stranger, header};
use photofinish_kit::{Method, wait_until};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Bodies for each route over HTTP, and messages.
const BODIES: usize = 15;
const MESSAGES: usize = 400;

/// Names and values that mean something here, and others.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "operation", "images", "id", "image_url", "duracao", "duration", "motion", "style", "metadata", "url",
            "url_video", "url_srt", "url_audio", "webhook_url", "deadline_s", "width", "quotas", "retention", "enabled",
            "event_types", "description", "endpoint", "since", "overlap_s", "paused", "content_type", "filename",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "img2vid",
            "caption",
            "addaudio",
            "https://example.com/a",
            "http://127.0.0.1/",
            "2026-11-22T10:00:00Z",
            "-999999-01-01T00:00:00Z",
            "zoom_in",
            "high",
            "job.completed",
            "\u{0}",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            btree_map(name(), inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A good job with some of its fields replaced by anything.
fn almost_a_job() -> impl Strategy<Value = Value> {
    (btree_map(name(), any_json(), 0..3), 1..4_usize).prop_map(|(fields, items)| {
        let mut body = job(items);
        body.as_object_mut().unwrap().extend(fields);
        body
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => vec(any::<u8>(), 0..300),
        2 => any_json().prop_map(|value| value.to_string().into_bytes()),
        3 => almost_a_job().prop_map(|value| value.to_string().into_bytes()),
        1 => (almost_a_job(), 0..200_usize).prop_map(|(value, cut)| {
            let mut bytes = value.to_string().into_bytes();
            bytes.truncate(cut);
            bytes
        }),
    ]
}

fn maybe(good: &'static [u8]) -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        3 => Just(None),
        3 => Just(Some(good.to_vec())),
        1 => vec(any::<u8>(), 0..255).prop_map(Some),
    ]
}

/// Properties that say whose it is and who waits for the answer, and else anything.
fn any_properties() -> impl Strategy<Value = Properties> {
    let row = (vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..50));
    let rows = vec(row.prop_map(|(name, value)| header(&name, &value)), 0..4);
    let parts = (
        maybe(b"application/json"),
        maybe(b"utf-8"),
        maybe(b"a key"),
        maybe(b"job"),
        rows,
    );
    parts.prop_map(
        |(content_type, content_encoding, message_id, kind, rows)| Properties {
            content_type,
            content_encoding,
            message_id,
            kind,
            headers: Some(rows.concat()),
            persistent: true,
            reply_to: Some(REPLIES.into()),
            ..Properties::default()
        },
    )
}

fn good_properties() -> Properties {
    Properties {
        content_type: Some(b"application/json".to_vec()),
        reply_to: Some(REPLIES.into()),
        ..Properties::default()
    }
}

fn drawn<T: std::fmt::Debug>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).unwrap().current()
}

/// The calls of the document that take a body, as they are called here, and with whose key.
fn calls(document: &Value) -> Vec<(Method, String, bool)> {
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("requestBody").is_some() {
                let operator = operation["security"][0].get("operator").is_some();
                let path = path
                    .replace("{operation}", "img2vid")
                    .replace(['{', '}'], "");
                calls.push((method.to_uppercase().parse().unwrap(), path, operator));
            }
        }
    }
    calls.push((Method::POST, "/v1/jobs?dry_run=true".to_owned(), false));
    calls
}

#[tokio::test]
async fn any_body_is_taken_or_refused_by_every_route() {
    let house = House::open().await;
    let mut runner = TestRunner::default();
    let (document, any_bytes) = (photofinish_ingest::openapi(), any_bytes());
    let calls = calls(&document);
    assert!(calls.len() > 8, "{calls:?}");
    for (method, path, operator) in calls {
        for _ in 0..BODIES {
            let body = drawn(&mut runner, &any_bytes);
            let key = if operator {
                crate::house::OPERATOR
            } else {
                house.key.as_str()
            };
            let call = house.call(method.clone(), &path).bearer_auth(key);
            let call = call
                .header("content-type", "application/json")
                .body(body.clone());
            let (status, answer) = ask(call).await;
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(
                (200..500).contains(&status),
                "{method} {path} {body}: {status} {answer}"
            );
        }
    }
}

#[tokio::test]
async fn no_message_is_lost_whatever_it_is() {
    let house = House::open().await;
    let tenant = house.tenant.as_str();
    house.amqp_user(tenant).await;
    house.make_queue(REPLIES).await;
    house.broker.wait_ready().await;
    let mut stranger = Stranger::connect(&house.rabbit.url_as(tenant, "secret"))
        .await
        .unwrap();
    let mut runner = TestRunner::default();
    let keys = ["job.submit", "job.submit", "job.cancel", "job.other", ""];
    let (any_bytes, any_properties) = (any_bytes(), any_properties());
    let mut wanted = BTreeSet::new();
    for number in 0..MESSAGES {
        // Every tenth is good, and every tenth is from nobody, which is refused and answered as well.
        let (drawn_properties, body) = if number % 10 == 1 {
            (good_properties(), job(1).to_string().into_bytes())
        } else {
            (
                drawn(&mut runner, &any_properties),
                drawn(&mut runner, &any_bytes),
            )
        };
        let properties = Properties {
            correlation_id: Some(number.to_string().into_bytes()),
            user_id: (!number.is_multiple_of(10)).then(|| tenant.into()),
            ..drawn_properties
        };
        let key = keys[number % keys.len()].as_bytes();
        stranger
            .publish("photofinish.jobs", key, &properties, &body)
            .await
            .unwrap();
        wanted.insert(number.to_string());
    }
    stranger.flush().await.unwrap();
    let replies = house.all_in(REPLIES, MESSAGES).await;
    let of_kind = |kind: &str| -> BTreeSet<String> {
        let of_kind = replies
            .iter()
            .filter(|(_, reply)| reply["properties"]["type"] == kind);
        of_kind.map(|(number, _)| number.clone()).collect()
    };
    let (taken, refused) = (of_kind("job.accepted"), of_kind("job.rejected"));
    assert!(
        taken.len() >= MESSAGES / 10 && refused.len() >= MESSAGES / 10,
        "{} and {}",
        taken.len(),
        refused.len()
    );
    assert_eq!(
        taken.union(&refused).cloned().collect::<BTreeSet<_>>(),
        wanted
    );
    let kept = house.all_in("photofinish.rejected", refused.len()).await;
    assert_eq!(kept.into_keys().collect::<BTreeSet<_>>(), refused);
    let empty = || async {
        house
            .broker
            .depth(WorkQueue::Submissions)
            .await
            .is_ok_and(|n| n == 0)
    };
    wait_until(crate::house::SOON, "every message is settled", empty)
        .await
        .unwrap();
    let parked = house.broker.depth(WorkQueue::Parked).await.unwrap();
    assert_eq!(parked, 0, "nothing was given up");
    // And what is good is still taken.
    assert_eq!(house.submit(None, &json!(job(1))).await.0, 202);
}
