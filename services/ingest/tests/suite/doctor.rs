//! `GET /v1/admin/doctor`.

use crate::house::{House, OPERATOR, ask};
use photofinish_contract::doctor::{Diagnosis, State};
use reqwest::Method;

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_how_everything_stands() {
    let house = House::open().await;
    house.broker.wait_ready().await;
    let path = "/v1/admin/doctor";
    let (status, _) = house.get(path).await;
    assert_eq!(status, 403, "not for tenants");
    let call = house.call(Method::GET, path).bearer_auth(OPERATOR);
    let (status, answer) = ask(call).await;
    assert_eq!(status, 200, "{answer}");
    let diagnosis: Diagnosis = serde_json::from_value(answer).unwrap();
    let stands: Vec<_> = diagnosis
        .checks
        .iter()
        .map(|check| (check.name.as_str(), check.state))
        .collect();
    // The tests' bucket has no rules: that is said, and is no fault.
    let expected = [
        ("bucket", State::Ok),
        ("presigned_urls", State::Ok),
        ("lifecycle_uploads", State::Warning),
        ("lifecycle_rescue", State::Warning),
        ("lifecycle_inputs", State::Warning),
    ];
    assert_eq!(stands[..5], expected, "{diagnosis:?}");
    let servers = [
        "broker",
        "broker_version",
        "broker_alarms",
        "redis",
        "redis_eviction",
    ];
    for name in servers {
        assert!(stands.contains(&(name, State::Ok)), "{name}: {diagnosis:?}");
    }
    // No dispatcher runs here.
    assert_eq!(stands.last(), Some(&("runpod", State::Unknown)));
    assert!(!diagnosis.is_wrong());
    let advised = diagnosis.checks.iter().all(|check| {
        let well = check.state == State::Ok;
        well == check.advice.is_none()
    });
    assert!(advised, "{diagnosis:?}");
}
