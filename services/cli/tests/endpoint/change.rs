//! Comparing, making, changing, deleting.

use axum::http::Method;
use serde_json::{Value, json};

use crate::bench::Bench;
use crate::lossy::Lossy;

#[tokio::test]
async fn an_endpoint_is_made_once_and_then_is_as_the_file_says() {
    let bench = Bench::start().await;
    let told = bench.run(&["diff"]).await;
    assert_eq!(told.code, 2, "{told:?}");
    assert!(
        told.out.contains("no endpoint named worker"),
        "{}",
        told.out
    );
    assert!(told.out.contains("TOKEN=(hidden)"), "{}", told.out);
    let told = bench.run(&["apply"]).await;
    assert_eq!(told.code, 64, "nobody agreed: {told:?}");
    assert!(told.err.contains("--yes"), "{}", told.err);
    let ours = |all: &Value| {
        let all = all["endpoints"].as_array().unwrap().iter();
        all.filter(|one| one["name"] == "worker").count()
    };
    assert_eq!(
        ours(&bench.get("v2/serverless").await),
        0,
        "diff and apply changed nothing"
    );
    let id = bench.apply().await;
    let told = bench.run(&["diff"]).await;
    assert_eq!((told.code, told.out.contains(&id)), (0, true), "{told:?}");
    let again = bench.run(&["apply", "--json"]).await;
    assert_eq!(again.code, 0, "there is nothing to agree to: {again:?}");
    assert_eq!(again.json()["applied"], false);
    let all = bench.get("v2/serverless").await;
    assert_eq!(ours(&all), 1);
    let made = bench.get(&format!("v2/serverless/{id}")).await;
    assert_eq!(made["disk"], 15);
    assert_eq!(
        made["env"]["TOKEN"], "hunter2",
        "the worker gets it all the same"
    );
    let releases = bench.get(&format!("v2/serverless/{id}/releases")).await;
    assert_eq!(
        releases["endpointVersion"], 1,
        "applying twice made no version"
    );
}

#[tokio::test]
async fn each_change_is_told_with_its_effect_and_then_made() {
    let bench = Bench::start().await;
    let id = bench.apply().await;
    bench.write(&[
        ("max = 3", "max = 2"),
        ("worker:1", "worker:2"),
        ("\"5\"", "\"8\""),
        ("queue_delay_s = 0.5", "queue_delay_s = 3"),
        (
            "\"AMPERE_16\", \"ADA_24\"]",
            "\"AMPERE_16\"]\nmin_cuda_version = \"12.1\"",
        ),
        ("disk_gb = 15", "disk_gb = 20\nflashboot = \"FLASHBOOT\""),
        ("execution_timeout_s = 600", "execution_timeout_s = 900"),
    ]);
    let told = bench.run(&["diff", "--json", "--id", &id]).await;
    assert_eq!(told.code, 2, "{told:?}");
    let effects: Vec<(String, String)> = told.json()["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            (text("field"), text("effect"))
        })
        .collect();
    let expected = [
        ("image", "release"),
        ("disk_gb", "release"),
        ("env.BATCH_SIZE", "release"),
        ("gpu.pools", "release"),
        ("gpu.min_cuda_version", "release"),
        ("workers.max", "immediate"),
        ("scaling", "immediate"),
        ("execution_timeout_s", "immediate"),
        ("flashboot", "release"),
    ];
    let expected = expected.map(|(field, effect)| (field.to_owned(), effect.to_owned()));
    assert_eq!(effects, expected);
    let text = bench.run(&["diff"]).await.out;
    for part in [
        "9 settings differ",
        "docker.io/acme/worker:2",
        "running workers",
    ] {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
    let told = bench.run(&["apply", "--yes"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(bench.run(&["diff"]).await.code, 0);
    let releases = bench.get(&format!("v2/serverless/{id}/releases")).await;
    assert_eq!(releases["endpointVersion"], 2, "one PATCH, one version");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_looked_up_and_nothing_is_made_twice() {
    let mut bench = Bench::start().await;
    let lossy = Lossy::start(&bench.base, &[Method::POST, Method::PATCH]).await;
    bench.rest = Some(lossy.base.clone());
    let told = bench.run(&["apply", "--yes"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("was made once"), "{}", told.err);
    assert_eq!(
        lossy.count(&Method::POST),
        1,
        "a create is never sent twice"
    );
    let all = bench.get("v2/serverless").await;
    let all = all["endpoints"].as_array().unwrap().iter();
    assert_eq!(all.filter(|one| one["name"] == "worker").count(), 1);
    bench.write(&[("max = 3", "max = 1")]);
    let told = bench.run(&["apply", "--yes"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("looking whether"), "{}", told.err);
    assert_eq!(lossy.count(&Method::PATCH), 1);
    assert_eq!(bench.run(&["apply"]).await.code, 0);
    assert_eq!(
        lossy.count(&Method::PATCH),
        1,
        "a second apply changes nothing"
    );
}

#[tokio::test]
async fn questions_are_asked_again_and_limits_are_waited_for() {
    let bench = Bench::start().await;
    let fault =
        json!({"operation": "management", "status": 502, "body": "<html></html>", "count": 2});
    bench.post("_sim/faults", fault).await;
    assert_eq!(
        bench.run(&["diff"]).await.code,
        2,
        "two bad gateways are nothing"
    );
    let limit = json!({"operation": "management", "status": 429, "retry_after": 1, "count": 1});
    bench.post("_sim/faults", limit).await;
    let began = std::time::Instant::now();
    assert_eq!(bench.run(&["diff"]).await.code, 2);
    assert!(began.elapsed().as_millis() >= 1000, "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_runpod_refuses_is_told_fault_by_fault() {
    let bench = Bench::start().await;
    bench.write(&[(
        "\"AMPERE_16\", \"ADA_24\"]",
        "\"NO_SUCH\"]\nexcluded_types = [\"NVIDIA A40\"]",
    )]);
    let told = bench.run(&["apply", "--yes"]).await;
    assert_eq!(told.code, 1, "{told:?}");
    for part in [
        "gpu.pools: has no pool NO_SUCH",
        "gpu.excludedTypes: has NVIDIA A40",
    ] {
        assert!(told.err.contains(part), "{part}\nin\n{}", told.err);
    }
    bench.write(&[
        ("max = 3", "max = 3\ncolour = 1"),
        ("disk_gb = 15", "disk_gb = 0"),
    ]);
    let told = bench.run(&["apply", "--yes"]).await;
    assert_eq!(told.code, 64, "{told:?}");
    assert!(
        told.err.contains("2 fault(s)") && told.err.contains("workers.colour"),
        "{}",
        told.err
    );
}

#[tokio::test]
async fn exit_codes_tell_a_difference_from_a_wrong_command() {
    let bench = Bench::start().await;
    assert_eq!(bench.run(&["diff", "--flie"]).await.code, 64);
    assert_eq!(bench.run(&["rollout"]).await.code, 64);
    assert_eq!(bench.run(&["--help"]).await.code, 0);
    let told = bench
        .run(&["diff", "--rest-url", "http://127.0.0.1:1"])
        .await;
    assert_eq!(told.code, 3, "{told:?}");
    let told = bench.run(&["diff", "--runpod-api-key", "wrong"]).await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.err.contains("401") && told.err.contains("RUNPOD_API_KEY"),
        "{}",
        told.err
    );
    let told = bench
        .run(&["diff", "--rest-url", "https://rest.runpod.io/v1"])
        .await;
    assert_eq!(
        (told.code, told.err.contains("retired")),
        (64, true),
        "{told:?}"
    );
    bench.write(&[("name = \"worker\"", "name = { env = \"WORKER_TOKEN\" }")]);
    let told = bench
        .run(&["health", "--rest-url", "http://127.0.0.1:1"])
        .await;
    assert_eq!(
        told.code, 3,
        "every command takes the name from the shell: {told:?}"
    );
    bench.write(&[]);
    let told = bench.run(&["health"]).await;
    assert_eq!(
        (told.code, told.err.contains("no endpoint named worker")),
        (1, true),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_template_gives_what_the_file_leaves_out() {
    let bench = Bench::start().await;
    let template = json!({"name": "base", "image": "docker.io/acme/base:7", "serverless": true,
                          "env": {"FROM_TEMPLATE": "1", "BATCH_SIZE": "1"}});
    bench.post("v2/templates", template).await;
    bench.write(&[("image = \"docker.io/acme/worker:1\"", "template = \"base\"")]);
    let id = bench.apply().await;
    let made = bench.get(&format!("v2/serverless/{id}")).await;
    assert_eq!(made["image"], "docker.io/acme/base:7");
    assert_eq!(
        (&made["env"]["FROM_TEMPLATE"], &made["env"]["BATCH_SIZE"]),
        (&json!("1"), &json!("5"))
    );
    assert_eq!(bench.run(&["diff"]).await.code, 0);
    bench.write(&[("image = \"docker.io/acme/worker:1\"", "template = \"none\"")]);
    assert_eq!(bench.run(&["diff"]).await.code, 64);
}

#[tokio::test]
async fn a_rollout_and_a_deletion_outlive_a_lost_answer() {
    let mut bench = Bench::start().await;
    let id = bench.apply().await;
    let lossy = Lossy::start(&bench.base, &[Method::PATCH, Method::DELETE]).await;
    bench.rest = Some(lossy.base.clone());
    let image = "docker.io/acme/worker:2";
    let told = bench.run(&["rollout", "--image", image]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(lossy.count(&Method::PATCH), 1);
    let changed = bench.get(&format!("v2/serverless/{id}")).await;
    assert_eq!(changed["image"], image);
    let told = bench.run(&["delete", "--confirm", "worker"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(
        lossy.count(&Method::DELETE),
        2,
        "the second finds nothing, which is as good"
    );
}
