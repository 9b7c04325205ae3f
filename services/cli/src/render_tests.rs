use super::*;
use serde_json::json;

pub(crate) fn job_json(status: &str, done: u32) -> Value {
    json!({
        "id": "job_00000000000000000000000000000001", "run": 1, "status": status,
        "operation": "img2vid", "priority": "normal", "created_at": "2026-11-22T10:00:00Z",
        "started_at": null, "finished_at": null, "deadline_at": "2026-11-23T10:00:00Z",
        "progress": {"items_total": 2, "items_done": done, "items_failed": 1, "ratio": 0.5,
                     "eta_s": null},
        "outputs": [
            {"item": "image1", "index": 0, "status": "stored", "key": "t/j/0000-image1.mp4",
             "bytes": 812_345, "sha256": "00", "duration_s": 3.0},
            {"item": "image2", "index": 1, "status": "failed",
             "error": {"code": "not_an_image", "detail": "send a JPEG or PNG"}}],
        "error": {"code": "item_failed", "detail": "one item failed"},
        "usage": {"gpu_seconds": 41.2, "linger_s": 0.4, "attempts": 1, "parts": 1, "rescued": 0,
                  "cost_estimate": {"amount": 0.011, "currency": "USD"}},
        "metadata": {"order": "A-17"},
        "links": {"self": "s", "events": "e", "outputs": "o"}, "a_field_of_tomorrow": 1
    })
}

#[test]
fn a_job_shows_items_faults_and_cost() {
    let text = job(&job_json("failed", 1), Look::PLAIN);
    for part in [
        "status          failed",
        "1 of 2 stored, 1 failed",
        "one item failed (item_failed)",
        "0  image1  stored  793.3 KiB  3.00 s  t/j/0000-image1.mp4",
        "1  image2  failed  -          -       send a JPEG or PNG (not_an_image)",
        "0.0110 USD",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
}

#[test]
fn many_outputs_are_cut_and_said_so() {
    let mut value = job_json("running", 1);
    let row = value["outputs"][0].clone();
    value["outputs"] = Value::Array(vec![row; 30 + 7]);
    assert!(job(&value, Look::PLAIN).contains("… and 7 more"));
}

#[test]
fn pages_show_rows_and_the_way_on() {
    let page = json!({"data": [job_json("running", 1)], "next_cursor": "abc"});
    let text = jobs(&page, Look::PLAIN);
    assert!(text.contains("running  img2vid    1/2"), "{text}");
    assert!(text.contains("--cursor abc"));
    assert_eq!(
        jobs(&json!({"data": [], "next_cursor": null}), Look::PLAIN)
            .lines()
            .count(),
        1
    );
}

#[test]
fn deliveries_show_their_last_answer() {
    let attempt =
        |status: Value, error: Value| json!({"at": "t", "status_code": status, "error": error});
    let page = json!({"data": [
        {"id": "dlv_1", "endpoint": "whe_1", "job": "job_1", "type": "job.completed",
         "status": "delivered",
         "attempts": [attempt(json!(500), Value::Null), attempt(json!(204), Value::Null)]},
        {"id": "dlv_2", "endpoint": null, "job": "job_1", "type": "job.failed",
         "status": "pending", "attempts": [attempt(Value::Null, json!("timed out"))]},
        {"id": "dlv_3", "status": "pending"}]});
    let text = deliveries(&page, Look::PLAIN);
    assert!(
        text.lines().nth(1).unwrap().contains("2      204"),
        "{text}"
    );
    assert!(text.lines().nth(2).unwrap().contains("timed out"), "{text}");
    assert!(text.lines().nth(3).unwrap().contains('-'), "{text}");
}

#[test]
fn endpoints_say_what_an_empty_list_means() {
    let page = json!([{"id": "whe_1", "url": "https://x", "event_types": [], "enabled": true},
                      {"id": "whe_2", "url": "https://y", "event_types": ["job.failed"],
                       "enabled": false, "description": "ops"}]);
    let text = endpoints(&page, Look::PLAIN);
    assert!(
        text.contains("all but job.progress") && text.contains("job.failed"),
        "{text}"
    );
}

#[test]
fn any_object_is_flattened() {
    let plan = json!({"parts": [{"part": 0}, {"part": 1}], "frames": 5400,
                      "cost_estimate": {"amount": 0.01, "currency": "USD"}, "tags": ["a", "b"]});
    let text = pairs(&plan, Look::PLAIN);
    assert!(text.contains("cost_estimate.amount    0.01"), "{text}");
    assert!(
        text.contains("2 (--json shows them)") && text.contains("a, b"),
        "{text}"
    );
}

#[test]
fn sizes_read_well() {
    assert_eq!(bytes(0), "0 B");
    assert_eq!(bytes(1536), "1.5 KiB");
    assert_eq!(bytes(5 << 30), "5.0 GiB");
}
