//! Health, jobs, rollout and deletion, with workers at work.

use serde_json::json;

use crate::bench::Bench;

const POLL: [&str; 2] = ["--poll-ms", "100"];

#[tokio::test]
async fn a_rollout_ends_when_every_worker_runs_the_new_image() {
    let bench = Bench::start().await;
    bench.write(&[("min = 0", "min = 2")]);
    let id = bench.apply().await;
    bench.until_up(&id, 2).await;
    let job = bench.job(&id, json!({"steps": 40, "step_ms": 100})).await;
    bench.until_status(&id, &job, "IN_PROGRESS").await;
    let image = "docker.io/acme/worker:2";
    let told = bench
        .run(&[&["rollout", "--image", image], &POLL[..]].concat())
        .await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.err
            .contains("docker.io/acme/worker:1 → docker.io/acme/worker:2"),
        "{told:?}"
    );
    assert!(
        told.err.contains("end after their job"),
        "it told how far it is: {told:?}"
    );
    let workers = bench.get(&format!("v2/serverless/{id}/workers")).await;
    for worker in workers["workers"].as_array().unwrap() {
        assert_eq!(
            (&worker["isStale"], &worker["image"]),
            (&json!(false), &json!(image)),
            "{workers}"
        );
    }
    bench.until_status(&id, &job, "COMPLETED").await;
    let again = bench.run(&["rollout", "--image", image, "--json"]).await;
    assert_eq!(
        (again.code, &again.json()["changed"]),
        (0, &json!(false)),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_rollout_has_a_deadline_and_takes_no_moving_tag() {
    let bench = Bench::start().await;
    let id = bench.apply().await;
    let job = bench.job(&id, json!({"steps": 300, "step_ms": 100})).await;
    bench.until_status(&id, &job, "IN_PROGRESS").await;
    let moving = bench
        .run(&["rollout", "--image", "docker.io/acme/worker:latest"])
        .await;
    assert_eq!(moving.code, 64, "{moving:?}");
    assert!(moving.err.contains("--allow-latest"), "{moving:?}");
    let unchanged = bench.get(&format!("v2/serverless/{id}")).await;
    assert_eq!(unchanged["image"], "docker.io/acme/worker:1");
    let words = [
        "rollout",
        "--image",
        "docker.io/acme/worker:2",
        "--timeout",
        "1",
    ];
    let told = bench.run(&[&words, &POLL[..]].concat()).await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("0 of 1 worker(s) run it"), "{told:?}");
}

#[tokio::test]
async fn a_rollout_of_an_image_that_crashes_does_not_end_well() {
    let bench = Bench::start().await;
    bench.write(&[("min = 0", "min = 2")]);
    let id = bench.apply().await;
    bench.until_up(&id, 2).await;
    let crash = json!({"endpoint": id, "crash": 1000});
    bench.post("_sim/faults/start", crash).await;
    let words = [
        "rollout",
        "--image",
        "docker.io/acme/worker:2",
        "--timeout",
        "3",
    ];
    let told = bench.run(&[&words, &POLL[..]].concat()).await;
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("0 of "), "{told:?}");
}

#[tokio::test]
async fn health_says_what_is_wrong_and_what_to_do() {
    let bench = Bench::start().await;
    bench.write(&[("queue_delay_s = 0.5", "queue_delay_s = 3000")]);
    let id = bench.apply().await;
    let told = bench.run(&["health"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.out.contains("nothing is wrong") && told.out.contains("none is up (0 to 3)"),
        "{told:?}"
    );
    let hidden = json!({"operation": "health", "status": 401, "count": 1});
    bench.post("_sim/faults", hidden).await;
    let told = bench.run(&["health"]).await;
    assert_eq!(
        (told.code, told.out.contains("nothing is wrong")),
        (1, false),
        "what is not known is not well: {told:?}"
    );
    let throttled = json!({"endpoint": id, "workers": 2});
    bench.post("_sim/throttle", throttled).await;
    bench.job(&id, json!({"steps": 1})).await;
    let told = bench.run(&["health"]).await;
    assert_eq!(told.code, 1, "{told:?}");
    for part in [
        "1 waiting",
        "2 throttled",
        "wrong: 1 job(s) wait, and no worker is up",
        "Add pools",
    ] {
        assert!(told.out.contains(part), "{part}\nin\n{}", told.out);
    }
    let told = bench.run(&["health", "--json"]).await;
    let answer = told.json();
    assert_eq!((told.code, &answer["healthy"]), (1, &json!(false)));
    assert_eq!(answer["jobs"]["inQueue"], 1, "{answer}");
    let hidden = json!({"operation": "health", "status": 401, "count": 1});
    bench.post("_sim/faults", hidden).await;
    let told = bench.run(&["health"]).await;
    assert!(
        told.out.contains("not known: jobs:"),
        "what else is known is shown: {told:?}"
    );
}

#[tokio::test]
async fn jobs_are_listed_shown_and_cancelled() {
    let bench = Bench::start().await;
    let id = bench.apply().await;
    let done = bench.job(&id, json!({"steps": 1})).await;
    bench.until_status(&id, &done, "COMPLETED").await;
    let failed = bench.job(&id, json!({"fail": "no such picture"})).await;
    bench.until_status(&id, &failed, "FAILED").await;
    let long = bench.job(&id, json!({"steps": 300, "step_ms": 100})).await;
    bench.until_status(&id, &long, "IN_PROGRESS").await;
    let told = bench.run(&["jobs", &done, &failed, &long]).await;
    assert_eq!(told.code, 0, "{told:?}");
    for part in ["COMPLETED", "FAILED", "IN_PROGRESS", "no such picture"] {
        assert!(told.out.contains(part), "{part}\nin\n{}", told.out);
    }
    let told = bench.run(&["jobs"]).await;
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.out.contains("1 running") && told.out.contains(&long),
        "{told:?}"
    );
    let gone = json!({"operation": "requests", "status": 404, "count": 1});
    bench.post("_sim/faults", gone).await;
    let told = bench.run(&["jobs"]).await;
    assert_eq!(
        (told.code, told.out.contains("which ones is not known")),
        (0, true),
        "{told:?}"
    );
    let refused = json!({"operation": "cancel", "status": 400, "count": 1});
    bench.post("_sim/faults", refused.clone()).await;
    let told = bench.run(&["jobs", "--cancel", &done, &long]).await;
    assert_eq!(
        (
            told.code,
            told.out.contains("COMPLETED"),
            told.out.contains("CANCELLED")
        ),
        (0, true, true),
        "a job that has ended keeps no other from its end: {told:?}"
    );
    let long = bench.job(&id, json!({"steps": 300, "step_ms": 100})).await;
    bench.post("_sim/faults", refused).await;
    let told = bench.run(&["jobs", "--cancel", &long, "nobody"]).await;
    assert_eq!(
        (
            told.code,
            told.out.contains("not known"),
            told.err.contains("400")
        ),
        (1, true, true),
        "{told:?}"
    );
    let told = bench.run(&["jobs", "nobody"]).await;
    assert_eq!(
        (told.code, told.out.contains("not known")),
        (1, true),
        "{told:?}"
    );
}

#[tokio::test]
async fn an_endpoint_is_deleted_by_its_name_once_its_jobs_are_done() {
    let bench = Bench::start().await;
    let id = bench.apply().await;
    let job = bench.job(&id, json!({"steps": 50, "step_ms": 100})).await;
    bench.until_status(&id, &job, "IN_PROGRESS").await;
    let unasked = bench.run(&["delete"]).await;
    assert_eq!(
        (unasked.code, unasked.err.contains("--confirm")),
        (64, true),
        "{unasked:?}"
    );
    let wrong = bench.run(&["delete", "--confirm", "worked"]).await;
    assert_eq!(
        (wrong.code, wrong.err.contains("nothing was deleted")),
        (1, true),
        "{wrong:?}"
    );
    let early = ["delete", "--confirm", "worker", "--timeout", "0"];
    let early = bench.run(&early).await;
    assert_eq!(
        (early.code, early.err.contains("nothing was deleted")),
        (1, true),
        "{early:?}"
    );
    let told = bench
        .run(&[&["delete", "--confirm", "worker", "--json"], &POLL[..]].concat())
        .await;
    assert_eq!(
        (told.code, &told.json()["jobs_cancelled"]),
        (0, &json!(0)),
        "{told:?}"
    );
    assert_eq!(bench.run(&["health"]).await.code, 1, "it is gone");
    let id = bench.apply().await;
    let job = bench.job(&id, json!({"steps": 300, "step_ms": 100})).await;
    bench.until_status(&id, &job, "IN_PROGRESS").await;
    let told = bench.run(&["delete", "--confirm", "worker", "--now"]).await;
    assert_eq!(
        (told.code, told.out.contains("1 job(s) were cancelled")),
        (0, true),
        "{told:?}"
    );
    bench.apply().await;
    let hidden = json!({"operation": "health", "status": 500, "count": 1});
    bench.post("_sim/faults", hidden).await;
    let told = bench.run(&["delete", "--confirm", "worker", "--now"]).await;
    assert_eq!(
        (told.code, told.out.contains("is deleted")),
        (0, true),
        "jobs that are not known are no hindrance: {told:?}"
    );
}
