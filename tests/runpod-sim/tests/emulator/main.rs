//! The emulator with real worker processes, asked by our own client.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that is not answered fails"
)]

mod client_ops;
mod faults;
mod fleet;
mod jobs;
mod mishaps;
mod polls;
mod ports;
mod proxy;
mod readme;
mod time;
mod workers;

use std::future::Future;
use std::time::Duration;

use clap::Parser as _;
use photofinish_runpod::client::{Client, ClientSettings, RunRequest, StatusAnswer};
use photofinish_runpod_sim::{Config, Sim};
use serde_json::{Value, json};

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// An emulator, a client of it, and plain HTTP for what the client has not.
struct Bench {
    sim: Sim,
    client: Client,
    http: reqwest::Client,
}

impl Bench {
    /// With the echo worker, quick to start and slow to idle unless `flags` say otherwise.
    async fn start(flags: &[&str]) -> Self {
        let worker = env!("CARGO_BIN_EXE_runpod-echo-worker");
        let quick = [
            "--worker",
            worker,
            "--queue-delay",
            "0",
            "--cold-start",
            "0",
            "--idle-timeout",
            "10m",
        ];
        Self::bare(&[&quick, flags].concat()).await
    }

    /// Without a worker.
    async fn bare(flags: &[&str]) -> Self {
        let fixed = [
            "runpod-sim",
            "--listen",
            "127.0.0.1:0",
            "--ping-interval",
            "1s",
        ];
        let args = dedup(&[&fixed, flags].concat());
        let config = Config::try_parse_from(args).unwrap();
        let key = config.api_key.clone();
        let sim = Sim::start(config).await.unwrap();
        let client = Client::new(ClientSettings::new(sim.base_url(), key.into())).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sim, client, http }
    }

    /// A client's call; the body is `null` where the answer has none that is JSON.
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call_with("sim-client-key", method, path, body).await
    }

    async fn call_with(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, self.url(path));
        request = request.header("Authorization", key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    /// Takes a job of `ep-sim` as a worker that polls by hand.
    async fn take(&self, worker: &str) -> Value {
        let path = format!("/v2/ep-sim/job-take/{worker}?gpu=x&job_in_progress=0");
        let (status, job) = self.call_with("sim-worker-key", "GET", &path, None).await;
        assert_eq!(status, 200);
        job
    }

    /// Posts to job-done or job-stream as a worker; says how it was answered.
    async fn post(&self, operation: &str, worker: &str, job: &str, body: Value) -> u16 {
        let path = format!("/v2/ep-sim/{operation}/{worker}/{job}?gpu=x&isStream=false");
        let posted = self.call_with("sim-worker-key", "POST", &path, Some(body));
        posted.await.0
    }

    /// A call of the control API.
    async fn control(&self, path: &str, body: Value) {
        let (status, answer) = self
            .call("POST", &format!("/_sim/{path}"), Some(body))
            .await;
        assert!(status == 200 || status == 204, "{status} {answer}");
    }

    async fn submit(&self, input: Value) -> String {
        self.submit_with(input, None).await
    }

    async fn submit_with(&self, input: Value, webhook: Option<String>) -> String {
        self.client
            .run("ep-sim", &request(input, webhook))
            .await
            .unwrap()
            .id
    }

    async fn status(&self, id: &str) -> StatusAnswer {
        self.client.status("ep-sim", id).await.unwrap()
    }

    /// Waits for a status that `is_it`.
    async fn until(
        &self,
        id: &str,
        what: &str,
        is_it: impl Fn(&StatusAnswer) -> bool,
    ) -> StatusAnswer {
        wait_for(what, async || Some(self.status(id).await).filter(&is_it)).await
    }

    async fn ended(&self, id: &str) -> StatusAnswer {
        self.until(id, "a final status", |answer| answer.status.is_final())
            .await
    }

    async fn state(&self) -> Value {
        let url = self.url("/_sim/state");
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    async fn calls(&self, operation: &str) -> u64 {
        self.state().await["calls"][operation].as_u64().unwrap_or(0)
    }

    /// Waits until a worker is in this state; returns its row.
    async fn worker_in(&self, state: &str) -> Value {
        wait_for(state, async || {
            let all = self.state().await;
            all["workers"]
                .as_array()
                .unwrap()
                .iter()
                .find(|w| w["state"] == state)
                .cloned()
        })
        .await
    }

    async fn fault(&self, fault: Value) {
        let sent = self
            .http
            .post(self.url("/_sim/faults"))
            .json(&fault)
            .send()
            .await
            .unwrap();
        assert_eq!(sent.status(), 204);
    }

    async fn signal(&self, worker: &str, signal: &str) {
        let url = self.url(&format!("/_sim/workers/{worker}/kill"));
        let sent = self
            .http
            .post(url)
            .json(&json!({"signal": signal}))
            .send()
            .await
            .unwrap();
        assert_eq!(sent.status(), 204);
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.sim.addr())
    }
}

/// A later flag replaces an earlier one.
fn dedup<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut kept: Vec<&str> = vec![args[0]];
    for (at, pair) in args[1..].chunks(2).enumerate() {
        let again = args[1..]
            .chunks(2)
            .skip(at + 1)
            .any(|later| later[0] == pair[0]);
        if !again || pair[0] == "--worker-env" {
            kept.extend(pair);
        }
    }
    kept
}

fn request(input: Value, webhook: Option<String>) -> RunRequest {
    let (execution_timeout, ttl) = (Duration::from_mins(5), Duration::from_hours(1));
    RunRequest {
        input,
        webhook,
        execution_timeout,
        ttl,
    }
}

/// Asks until there is an answer.
async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await; // paced: between two questions
        }
    };
    tokio::time::timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(|_| panic!("never saw {what}"))
}
