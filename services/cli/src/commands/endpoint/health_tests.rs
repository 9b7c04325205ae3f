use super::*;
use crate::commands::endpoint::health_text::text;

fn snapshot(queue: &Value, workers: &Value, max: u64) -> Snapshot {
    let endpoint = json!({"id": "ep1", "name": "worker", "image": "o/w:1",
                          "workers": {"min": 0, "max": max}});
    let workers = json!({"endpointVersion": 2, "workers": workers});
    Snapshot {
        endpoint: Endpoint::from_value(&endpoint).unwrap(),
        workers: Workers::from_value(&workers).unwrap(),
        knows_workers: true,
        releases: Releases::default(),
        jobs: Health::from_value(&json!({"jobs": queue})),
        unknown: Vec::new(),
    }
}

fn codes(snapshot: &Snapshot) -> Vec<&'static str> {
    findings(snapshot).iter().map(|one| one.code).collect()
}

#[test]
fn each_trouble_has_its_name() {
    let waiting = json!({"inQueue": 2});
    let worker = |status: &str| json!([{"id": "w", "status": status}]);
    for (queue, workers, max, expected) in [
        (json!({}), json!([]), 3, vec![]),
        (waiting.clone(), json!([]), 3, vec!["queue_without_worker"]),
        (waiting.clone(), json!([]), 0, vec!["no_workers_allowed"]),
        (
            waiting.clone(),
            worker("INITIALIZING"),
            3,
            vec!["cold_start"],
        ),
        (
            waiting.clone(),
            worker("THROTTLED"),
            3,
            vec!["queue_without_worker", "throttled"],
        ),
        (
            waiting.clone(),
            worker("UNHEALTHY"),
            3,
            vec!["queue_without_worker", "unhealthy"],
        ),
        (waiting, worker("RUNNING"), 1, vec!["queue_behind_workers"]),
        (
            json!({"failed": 3, "completed": 1}),
            json!([]),
            3,
            vec!["most_jobs_fail"],
        ),
        (json!({"retried": 1}), json!([]), 3, vec!["jobs_run_again"]),
        (
            json!({}),
            json!([{"id": "w", "status": "RUNNING", "isStale": true}]),
            3,
            vec!["stale_workers"],
        ),
    ] {
        let snapshot = snapshot(&queue, &workers, max);
        assert_eq!(codes(&snapshot), expected, "{queue} {workers} {max}");
    }
}

#[test]
fn workers_that_are_not_known_are_not_taken_for_none() {
    let mut snapshot = snapshot(&json!({"inQueue": 1}), &json!([]), 3);
    assert_eq!(codes(&snapshot), ["queue_without_worker"]);
    snapshot.knows_workers = false;
    snapshot.unknown.push("workers: 403".to_owned());
    assert!(findings(&snapshot).is_empty() && !is_well(&snapshot, &[]));
    let text = text(&snapshot, &[]);
    assert!(text.contains("workers  not known (0 to 3)"), "{text}");
    assert!(!text.contains("nothing is wrong"), "{text}");
}

#[test]
fn a_person_reads_what_is_wrong_and_what_to_do() {
    let rows = json!([{"id": "abc", "status": "THROTTLED", "version": 2, "uptimeSeconds": 3725},
                      {"id": "def", "status": "RUNNING", "version": 1, "isStale": true,
                       "gpuTypeId": "NVIDIA RTX A4500"}]);
    let mut snapshot = snapshot(&json!({"inQueue": 1, "inProgress": 1}), &rows, 3);
    snapshot.unknown.push("releases: 403".to_owned());
    let text = text(&snapshot, &findings(&snapshot));
    for part in [
        "worker (ep1), version 2",
        "1 waiting, 1 running",
        "1 running, 1 throttled (0 to 3)",
        "1 h 2 min",
        "1 (older)",
        "NVIDIA RTX A4500",
        "not known: releases: 403",
        "note: 1 worker(s) are throttled",
        "Add pools",
    ] {
        assert!(text.contains(part), "{part}\nin\n{text}");
    }
}

#[test]
fn an_image_without_a_tag_of_its_own_is_told() {
    let mut snapshot = snapshot(&json!({}), &json!([]), 3);
    for (image, told) in [
        ("o/w:latest", true),
        ("host:5000/o/w", true),
        ("o/w@sha256:ab", false),
    ] {
        image.clone_into(&mut snapshot.endpoint.spec.image);
        assert_eq!(codes(&snapshot).contains(&"moving_image"), told, "{image}");
    }
}
