//! The programs of docs/examples, as they stand there, against a real ingest and a real RabbitMQ.

use crate::house::House;
use photofinish_interop::{SOON, python, script, tool};
use photofinish_kit::{Method, root};
use photofinish_notifier::sign;
use photofinish_runtime::Clock;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl House {
    /// Plays the notifier: the event as it would be told.
    async fn tell(&self, kind: &str, sequence: u32, job: &Value) {
        let event = json!({"specversion": "1.0", "id": format!("evt_{sequence}"), "type": kind,
            "source": format!("/photofinish/{}", self.tenant), "subject": job["id"],
            "sequence": sequence.to_string(), "data": job});
        let word = kind.rsplit('.').next().unwrap();
        let message = json!({"properties": {"content_type": "application/cloudevents+json"},
            "routing_key": format!("{}.job.img2vid.{word}", self.tenant),
            "payload": event.to_string(), "payload_encoding": "string"});
        let path = format!(
            "/api/exchanges/{}/photofinish.events/publish",
            self.rabbit.vhost()
        );
        let told = self.rabbit.call(Method::POST, &path, Some(message)).await;
        assert_eq!(told.unwrap()["routed"], true);
    }

    /// A program of the examples, and the lines that it prints.
    fn run(&self, program: &PathBuf, arguments: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(root().join("docs/examples"))
            .env(
                "PHOTOFINISH_AMQP_URL",
                self.rabbit.url_as(&self.tenant, "secret"),
            )
            .env("PHOTOFINISH_WEBHOOK_SECRET", SECRET)
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(SOON, lines.next_line()).await;
    line.unwrap().unwrap().expect("another line")
}

/// Submits and follows, as a program of one of the languages does.
async fn follows(house: &House, program: &PathBuf, file: &str, key: &str) {
    let (mut child, mut lines) = house.run(program, &[file, "job.json", key]);
    let said = line(&mut lines).await;
    let id = said
        .strip_suffix(" accepted")
        .expect("what the example says first");
    let path = format!("/v1/jobs/{id}");
    let mut job = house.call(Method::GET, &path, json!({})).await;
    assert_eq!(job["metadata"]["order"], "A-17");
    house.tell("job.started", 2, &job).await;
    house.tell("job.accepted", 1, &job).await;
    job["status"] = "completed".into();
    job["progress"]["items_done"] = 2.into();
    house.tell("job.completed", 3, &job).await;
    assert_eq!(line(&mut lines).await, "job.started 0/2");
    assert_eq!(line(&mut lines).await, "job.completed 2/2");
    let ended = tokio::time::timeout(SOON, child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn python_example_submits_follows_and_cancels() {
    let house = House::open().await;
    follows(&house, &python().unwrap(), "python/submit.py", "order-1").await;
    let job: Value =
        serde_json::from_slice(&std::fs::read(root().join("docs/examples/job.json")).unwrap())
            .unwrap();
    let job = house.call(Method::POST, "/v1/jobs", job).await;
    let id = job["id"].as_str().unwrap();
    let (mut child, mut lines) = house.run(&python().unwrap(), &["python/cancel.py", id]);
    assert_eq!(
        line(&mut lines).await,
        format!("job.cancelling {id} accepted")
    );
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_example_submits_and_follows() {
    let house = House::open().await;
    // Node looks for packages beside the script: where they are installed, a copy of it.
    let file = tool("package.json").unwrap().with_file_name("submit.mjs");
    std::fs::copy(root().join("docs/examples/javascript/submit.mjs"), &file).unwrap();
    follows(&house, &"node".into(), &file.to_string_lossy(), "order-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_example_submits() {
    let house = House::open().await;
    for _ in 0..2 {
        let program = tool("go/submit").unwrap();
        let (mut child, mut lines) = house.run(&program, &["job.json", "order-3"]);
        let said = line(&mut lines).await;
        let job = said.strip_prefix("job.accepted ").expect("the answer");
        let job: Value = serde_json::from_str(job).unwrap();
        assert_eq!(job["status"], "accepted");
        assert_eq!(job["metadata"]["order"], "A-17");
        assert!(child.wait().await.unwrap().success());
    }
    let jobs = house.call(Method::GET, "/v1/jobs", json!({})).await;
    assert_eq!(
        jobs["data"].as_array().unwrap().len(),
        1,
        "one key, one job"
    );
}

/// A genuine webhook is taken, a forged and a late one are not.
async fn receives(program: &PathBuf, file: &str) {
    let house = House::open().await;
    let (_child, mut lines) = house.run(program, &[file, "0"]);
    let said = line(&mut lines).await;
    let port = said
        .strip_prefix("listening ")
        .expect("what the example says first");
    let url = format!("http://127.0.0.1:{port}/");
    let body = "{\"type\":\"job.completed\",\"sequence\":3,\"data\":{\"id\":\"job_ção\"}}";
    let now = Clock::system().now();
    let early = jiff::Timestamp::from_second(now.as_second() - 3600).unwrap();
    for (secret, at, sent, status) in [
        (SECRET, now, body, 204),
        (SECRET, now, "{\"type\":\"job.failed\"}", 401),
        (SECRET, early, body, 401),
        ("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", now, body, 401),
    ] {
        let signed = sign::headers(secret, "evt_1", at, body.as_bytes()).unwrap();
        let mut call = house.http.post(&url).body(sent);
        for (name, value) in &signed {
            call = call.header(name.as_str(), value.to_str().unwrap());
        }
        assert_eq!(call.send().await.unwrap().status(), status, "{sent}");
    }
    assert_eq!(line(&mut lines).await, "job.completed job_ção 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_example_receives_webhooks() {
    receives(&python().unwrap(), "python/receiver.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_example_receives_webhooks() {
    receives(&"node".into(), "javascript/receiver.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_library_reads_our_schemas() {
    let house = House::open().await;
    let job = std::fs::read(root().join("docs/examples/job.json")).unwrap();
    let job: Value = serde_json::from_slice(&job).unwrap();
    let job = house.call(Method::POST, "/v1/jobs", job).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job");
    std::fs::write(&file, job.to_string()).unwrap();
    let said = Command::new(python().unwrap())
        .arg(script("python/schemas.py"))
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .await
        .unwrap();
    let wrong = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{wrong}");
}
