use super::*;
use crate::output::tests::Shared;
use crate::render::tests::job_json;
use photofinish_kit::{Answer, Receiver, install_crypto};
use serde_json::json;

fn answer(body: &Value) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string(),
        ..Answer::default()
    }
}

fn event(sequence: u32, kind: &str, mut job: Value) -> String {
    job.as_object_mut().unwrap().remove("outputs");
    let body = json!({"type": kind, "timestamp": "2026-11-22T10:00:00Z", "sequence": sequence,
        "data": job, "changed": []});
    format!("id: {sequence}\nevent: {kind}\ndata: {body}\n\n")
}

fn stream(events: &[String]) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type".into(), "text/event-stream".into())],
        body: format!(": hello\n\n{}", events.concat()),
        ..Answer::default()
    }
}

/// Follows a job whose service answers so; what was said as JSON lines, and what it was asked.
async fn watched(script: Vec<Answer>) -> (Vec<Value>, Vec<(String, String)>, Result<(), CliError>) {
    install_crypto();
    let service = Receiver::start().await.unwrap();
    service.script(script);
    service.always(Answer::status(500));
    let client = Client::new(&service.url("/").parse().unwrap(), "key").unwrap();
    let shared = Shared::default();
    let mut output = Output::into_writer(Box::new(shared.clone()), true);
    let id = "job_00000000000000000000000000000001";
    let done = watch(&client, id, Known::Yes, &mut output).await;
    let lines = shared.text();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let asked = service.received().into_iter().map(|call| {
        let path = call.uri.path().rsplit('/').next().unwrap_or_default();
        (path.to_owned(), call.header("last-event-id").to_owned())
    });
    (lines.collect(), asked.collect(), done)
}

fn done_of(lines: &[Value]) -> Vec<(String, u64)> {
    let row = |line: &Value| {
        let status = line["status"].as_str().unwrap().to_owned();
        (status, line["progress"]["items_done"].as_u64().unwrap())
    };
    lines.iter().map(row).collect()
}

#[tokio::test]
async fn events_are_followed_resumed_and_never_go_backwards() {
    let first = [
        event(1, "job.accepted", job_json("accepted", 0)),
        event(2, "job.started", job_json("running", 0)),
        event(4, "job.progress", job_json("running", 1)),
    ];
    let last = [event(7, "job.completed", job_json("completed", 2))];
    let script = vec![
        answer(&job_json("running", 0)),
        stream(&first),
        answer(&job_json("running", 0)),
        // The stream ended without a final event: it is asked, and opened again where it stopped.
        answer(&job_json("running", 1)),
        stream(&last),
        answer(&job_json("running", 1)),
        answer(&job_json("completed", 2)),
    ];
    let (lines, asked, done) = watched(script).await;
    done.unwrap();
    let told = [("running", 0), ("running", 1), ("completed", 2)];
    assert_eq!(
        done_of(&lines),
        told.map(|(word, done)| (word.to_owned(), done))
    );
    let streams: Vec<&str> = asked
        .iter()
        .filter(|(path, _)| path == "events")
        .map(|(_, last)| last.as_str())
        .collect();
    assert_eq!(streams, ["", "4"], "{asked:?}");
    assert!(lines[2]["outputs"].is_array(), "the end is told whole");
}

#[tokio::test]
async fn without_events_the_job_is_asked_for() {
    let missing = Answer {
        status: 404,
        ..answer(&json!({"status": 404, "code": "not_found", "detail": "no such route"}))
    };
    let script = vec![
        answer(&job_json("accepted", 0)),
        missing,
        answer(&job_json("running", 1)),
        Answer::status(503),
        answer(&job_json("failed", 1)),
    ];
    let (lines, asked, done) = watched(script).await;
    let error = done.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(
        error.to_string().contains("is failed: one item failed"),
        "{error}"
    );
    assert_eq!(done_of(&lines).last(), Some(&("failed".to_owned(), 1)));
    assert_eq!(asked.iter().filter(|(path, _)| path == "events").count(), 1);
}
