//! RunPod's official SDKs against our emulator and our worker, and Standard Webhooks' libraries against our signatures.
//!
//! Nouns: a [`House`] is one emulator process with a worker command of its choice; [`tool`] is a program of the
//! official SDKs as `scripts/interop.sh` installs it, newest from its registry.
//!
//! Guarantee: the SDKs run unmodified. What they need to find is the one variable or option that they offer for it.
//!
//! Not for: testing our own client or worker protocol; these have suites of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use photofinish_contract::attempt_input::{AttemptInput, PictureItem, RescueTarget, Work};
use photofinish_contract::request::{Fit, Motion};
use photofinish_kit::{Process, ProcessSpec, wait_for};
use photofinish_model::{AttemptRef, JobId, Nonce};
use serde_json::{Value, json};

/// Longest wait for anything: the SDK polls once a second and starts in seconds on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The emulated endpoint.
pub const ENDPOINT: &str = "ep-interop";
const KEY: &str = "interop-key";

/// Where `scripts/interop.sh` puts the SDKs.
pub fn sdk_dir() -> PathBuf {
    root().join(".dev/interop")
}

/// A file of this crate, such as `python/handler.py`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program or file of the installed SDKs.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let path = sdk_dir().join(name);
    anyhow::ensure!(
        path.exists(),
        "{} is not there: run `make interop`",
        path.display()
    );
    Ok(path)
}

/// The Python that has RunPod's SDK.
pub fn python() -> anyhow::Result<PathBuf> {
    tool("venv/bin/python")
}

/// An attempt at so many clips, as the dispatcher would submit it; pictures and rescues are at `files`.
pub fn attempt(files: &str, clips: u16, first_contact_s: f64) -> anyhow::Result<AttemptInput> {
    let items = (0..clips).map(|index| PictureItem {
        index,
        item: format!("image{index}"),
        image_url: format!("{files}/picture.png"),
        frames: 10,
        motion: Motion::ZoomIn,
    });
    let rescue = (0..clips).map(|index| RescueTarget {
        index,
        put_url: format!("{files}/rescue/{index}"),
    });
    Ok(AttemptInput {
        photofinish: 1,
        attempt: AttemptRef {
            tenant: "acme".parse()?,
            job: JobId::from_random(1),
            run: 1,
            part: 0,
            attempt: 1,
            nonce: Nonce::from_random(7),
        },
        work: Work::Img2vid {
            frame_rate: 10.0,
            width: 320,
            height: 180,
            fit: Fit::Cover,
            items: items.collect(),
        },
        output_token: "secret".to_owned(),
        signal_url: None,
        budget_s: 600.0,
        linger_s: 60.0,
        first_contact_s,
        rescue_reserve_s: 60.0,
        rescue: rescue.collect(),
        report_put_url: format!("{files}/rescue/report"),
        traceparent: None,
        tracestate: None,
    })
}

/// An emulator with one endpoint, and where its worker's files lie.
#[derive(Debug)]
pub struct House {
    sim: Process,
    /// `http://127.0.0.1:1234`.
    pub base: String,
    /// Scripts and workers leave files here.
    pub dir: tempfile::TempDir,
    http: reqwest::Client,
}

impl House {
    /// Starts an emulator whose workers are `worker`, quick to start, slow to idle; `flags` come last and win.
    pub async fn start(worker: &[&str], flags: &[&str]) -> anyhow::Result<Self> {
        photofinish_kit::install_crypto();
        let dir = tempfile::tempdir()?;
        let mut spec = ProcessSpec::service("runpod-sim", dir.path())?;
        let command = worker
            .iter()
            .map(|word| format!("'{word}'"))
            .collect::<Vec<_>>()
            .join(" ");
        let logs = dir.path().join("workers");
        let fixed = [
            ("--listen", "127.0.0.1:0"),
            ("--endpoint", ENDPOINT),
            ("--api-key", KEY),
            ("--worker", &command),
            ("--queue-delay", "0"),
            ("--cold-start", "0"),
            ("--idle-timeout", "10m"),
            ("--ping-interval", "1s"),
            ("--workers-max", "1"),
            ("--worker-log-dir", &logs.to_string_lossy()),
        ];
        for (name, value) in fixed {
            if !flags.contains(&name) {
                spec = spec.arg(name).arg(value);
            }
        }
        for flag in flags {
            spec = spec.arg(*flag);
        }
        let (sim, ports) = Process::start_ready(spec, SOON).await?;
        let http = ports.get("http").context("the emulator's address")?;
        Ok(Self {
            sim,
            base: format!("http://{http}"),
            dir,
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// A path for scripts to meet at.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// Calls an operation of the client API.
    pub async fn call(&self, operation: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}/v2/{ENDPOINT}/{operation}", self.base);
        let request = match body {
            Some(body) => self.http.post(url).json(&body),
            None => self.http.get(url),
        };
        let answer = request.bearer_auth(KEY).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// Submits a job; its id.
    pub async fn run(&self, input: Value) -> anyhow::Result<String> {
        let answer = self.call("run", Some(json!({"input": input}))).await?;
        let id = answer["id"].as_str().context("an id")?;
        Ok(id.to_owned())
    }

    /// Waits until a job's status is as wanted; the whole status.
    pub async fn until(
        &self,
        job: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let operation = format!("status/{job}");
        let found = wait_for(SOON, what, || async {
            let status = self.call(&operation, None).await.ok()?;
            is_so(&status).then_some(status)
        });
        found.await.with_context(|| self.logs())
    }

    /// Waits for a status word.
    pub async fn until_status(&self, job: &str, word: &str) -> anyhow::Result<Value> {
        self.until(job, &format!("{job} is {word}"), |status| {
            status["status"] == word
        })
        .await
    }

    /// The emulator's own view of everything.
    pub async fn state(&self) -> anyhow::Result<Value> {
        let url = format!("{}/_sim/state", self.base);
        Ok(self.http.get(url).send().await?.json().await?)
    }

    /// Posts to the control API.
    pub async fn control(&self, path: &str, body: Value) -> anyhow::Result<()> {
        let url = format!("{}/_sim/{path}", self.base);
        let answer = self.http.post(url).json(&body).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// Runs a script of an SDK to its end with the emulator's address; what it printed. An error unless it exits 0.
    pub async fn script(&self, program: &Path, args: &[&str]) -> anyhow::Result<String> {
        let run = tokio::process::Command::new(program)
            .args(args)
            .env("RUNPOD_ENDPOINT_BASE_URL", format!("{}/v2", self.base))
            .env("RUNPOD_API_BASE_URL", &self.base)
            .env("RUNPOD_API_KEY", KEY)
            .env("INTEROP_ENDPOINT", ENDPOINT)
            .env("INTEROP_DIR", self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let done = tokio::time::timeout(SOON * 2, run)
            .await
            .with_context(|| format!("{args:?} did not end\n{}", self.logs()))??;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let complained = String::from_utf8_lossy(&done.stderr);
        anyhow::ensure!(
            done.status.success(),
            "{args:?}: {}\n{said}\n{complained}\n{}",
            done.status,
            self.logs()
        );
        Ok(said)
    }

    /// What emulator and workers wrote, for messages of tests.
    pub fn logs(&self) -> String {
        let mut text = self.sim.log_tail();
        let files = std::fs::read_dir(self.dir.path().join("workers"));
        for file in files.into_iter().flatten().flatten() {
            let path = file.path();
            text.extend([
                "
--- ",
                &path.to_string_lossy(),
                "
",
            ]);
            text.push_str(&std::fs::read_to_string(file.path()).unwrap_or_default());
        }
        text
    }
}
