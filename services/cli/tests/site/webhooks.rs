//! Webhook endpoints and deliveries, with a receiver that answers.

use crate::bench::Bench;
use serde_json::Value;

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

async fn done(bench: &Bench, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    bench.run(&words).await.well().json()
}

pub(crate) async fn they_are_made_tested_and_changed(bench: &Bench) {
    let url = bench.site.ear.url();
    let words = [
        "webhooks",
        "create",
        &url,
        "--event",
        "job.completed",
        "--calls-per-s",
        "20",
    ];
    let made = done(bench, &words).await;
    assert_eq!(made["calls_per_s"], 20);
    let (id, secret) = (text(&made, "id"), text(&made, "secret"));
    assert!(secret.starts_with("whsec_"), "{made}");
    let words = [
        "webhooks",
        "update",
        &id,
        "--description",
        "ours",
        "--all-events",
        "--calls-per-s",
        "default",
    ];
    let changed = done(bench, &words).await;
    assert_eq!(text(&changed, "description"), "ours");
    assert_eq!(changed["event_types"], serde_json::json!([]));
    assert!(changed["calls_per_s"].is_null(), "{changed}");
    delivered_and_again(bench, &id).await;
    let words = ["webhooks", "rotate-secret", &id, "--overlap", "1h"];
    assert_ne!(text(&done(bench, &words).await, "secret"), secret);
    let off = done(bench, &["webhooks", "disable", &id]).await;
    assert_eq!(off["enabled"], false);
    let since = "2026-01-01T00:00:00Z";
    let words = ["webhooks", "enable", &id, "--replay-since", since];
    assert_eq!(done(bench, &words).await["enabled"], true);
    let words = ["deliveries", "replay", "--endpoint", &id, "--since", since];
    let many = done(bench, &words).await;
    assert!(many["replayed"].is_u64(), "{many}");
    let deleted = done(bench, &["webhooks", "delete", &id]).await;
    assert_eq!(deleted["deleted"], true);
}

async fn delivered_and_again(bench: &Bench, id: &str) {
    bench.run(&["webhooks", "test", id]).await.well();
    let list = ["deliveries", "--endpoint", id, "--json"];
    let delivered = |page: &Value| page["data"][0]["status"] == "delivered";
    let page = bench.until(&list, delivered).await;
    let delivery = text(&page["data"][0], "id");
    let one = bench.run(&["deliveries", "show", &delivery]).await.well();
    assert!(one.out.contains("endpoint.test"), "{one:?}");
    assert!(one.out.contains(" ms"), "{one:?}");
    let again = bench.run(&["deliveries", "replay", &delivery]).await.well();
    assert!(again.out.contains("delivered again"), "{again:?}");
    let twice = |delivery: &Value| {
        delivery["attempts"]
            .as_array()
            .is_some_and(|tries| tries.len() > 1)
    };
    let show = ["deliveries", "show", &delivery, "--json"];
    bench.until(&show, twice).await;
}
