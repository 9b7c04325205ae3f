//! One emulator, one endpoint.toml, and the program that is tested.

use std::path::PathBuf;
use std::process::Stdio;

use photofinish_kit::{Process, ProcessSpec, binary, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::DEADLINE;

const FILE: &str = r#"
name = "worker"
image = "docker.io/acme/worker:1"
disk_gb = 15
ports = ["8000/http", "8000/tcp"]
execution_timeout_s = 600
[env]
BATCH_SIZE = "5"
TOKEN = { env = "WORKER_TOKEN" }
[gpu]
pools = ["AMPERE_16", "ADA_24"]
[workers]
min = 0
max = 3
idle_timeout_s = 600
[scaling]
type = "QUEUE_DELAY"
queue_delay_s = 0.5
"#;

/// How the program ended and what it said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| json!({"not JSON": self.out}))
    }
}

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) http: reqwest::Client,
    /// `http://127.0.0.1:…`
    pub(crate) base: String,
    /// Where the program finds REST v2, if not at the emulator itself.
    pub(crate) rest: Option<String>,
    _sim: Process,
}

impl Bench {
    /// An emulator without an endpoint of ours; workers are echo workers.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let worker = binary("runpod-echo-worker").unwrap();
        let mut spec = ProcessSpec::service("runpod-sim", dir.path()).unwrap();
        for arg in [
            "--listen",
            "127.0.0.1:0",
            "--api-key",
            "secret",
            "--rate-limits",
            "off",
        ] {
            spec = spec.arg(arg);
        }
        for arg in [
            "--cold-start",
            "0",
            "--ping-interval",
            "1s",
            "--lenient-policy",
            "--worker",
        ] {
            spec = spec.arg(arg);
        }
        let spec = spec.arg(worker.display().to_string());
        let (sim, ports) = Process::start_ready(spec, DEADLINE).await.unwrap();
        let bench = Self {
            dir,
            http: photofinish_kit::client().unwrap(),
            base: format!("http://{}", ports["http"]),
            rest: None,
            _sim: sim,
        };
        bench.write(&[]);
        bench
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("endpoint.toml")
    }

    /// The file, with lines replaced.
    pub(crate) fn write(&self, edits: &[(&str, &str)]) {
        let mut text = FILE.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(self.file(), text).unwrap();
    }

    /// Runs `photofinish endpoint …` with nobody at the terminal.
    pub(crate) async fn run(&self, words: &[&str]) -> Told {
        self.command(words).await
    }

    async fn command(&self, words: &[&str]) -> Told {
        let rest = self.rest.clone().unwrap_or_else(|| self.base.clone());
        let output = Command::new(env!("CARGO_BIN_EXE_photofinish"))
            .arg("endpoint")
            .args(words)
            .env_clear()
            .env("RUNPOD_API_KEY", "secret")
            .env("RUNPOD_REST_API_URL", rest)
            .env("RUNPOD_ENDPOINT_BASE_URL", format!("{}/v2", self.base))
            .env("WORKER_TOKEN", "hunter2")
            .arg("--file")
            .arg(self.file())
            .stdin(Stdio::null())
            .output();
        let output = tokio::time::timeout(DEADLINE, output)
            .await
            .unwrap()
            .unwrap();
        let told = Told {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(
            !format!("{told:?}").contains("hunter2"),
            "a secret is shown: {told:?}"
        );
        told
    }

    /// Makes the endpoint of the file; its id.
    pub(crate) async fn apply(&self) -> String {
        let told = self.run(&["apply", "--yes", "--json"]).await;
        assert_eq!(told.code, 0, "{told:?}");
        told.json()["endpoint"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}/{path}", self.base));
        request
            .bearer_auth("secret")
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let request = self
            .http
            .post(format!("{}/{path}", self.base))
            .bearer_auth("secret");
        let answer = request.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap_or(Value::Null)
    }

    /// Submits a job; its id.
    pub(crate) async fn job(&self, endpoint: &str, input: Value) -> String {
        let answer = self
            .post(&format!("v2/{endpoint}/run"), json!({"input": input}))
            .await;
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the job has a status.
    pub(crate) async fn until_status(&self, endpoint: &str, job: &str, status: &str) {
        let path = format!("v2/{endpoint}/status/{job}");
        wait_for(DEADLINE, &format!("{job} is {status}"), || async {
            let answer = self.get(&path).await;
            (answer["status"] == status).then_some(())
        })
        .await
        .unwrap();
    }

    /// Waits until so many workers are up.
    pub(crate) async fn until_up(&self, endpoint: &str, count: u64) {
        let path = format!("v2/serverless/{endpoint}/workers");
        wait_for(DEADLINE, &format!("{count} workers are up"), || async {
            let summary = &self.get(&path).await["summary"];
            let up = summary["idle"].as_u64()? + summary["running"].as_u64()?;
            (up == count).then_some(())
        })
        .await
        .unwrap();
    }
}
