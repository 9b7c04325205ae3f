//! The whole product, a directory with inputs, and the program that is tested.

use photofinish_demo::wiring::Setting;
use photofinish_e2e::Site;
use photofinish_kit::wait_for;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

/// Longest wait for a command, or for what it brought about.
pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_photofinish");

/// How the program ended and what it said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Told {
    /// The only document on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Asserts that it went well.
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

pub(crate) struct Bench {
    pub(crate) site: Site,
    pub(crate) dir: TempDir,
}

impl Bench {
    /// A site, and pictures in a directory under names of their own.
    pub(crate) async fn start() -> Self {
        // So often ingest deletes what retention does not keep.
        let often = Setting::new("ingest", "retention.sweep_every_s", "0.5");
        let site = Site::start("cli", vec![often]).await.unwrap();
        let bench = Self {
            site,
            dir: tempfile::tempdir().unwrap(),
        };
        let http = bench.site.stack.http();
        for (place, name) in ["sunrise.jpg", "noon.jpg", "dusk.jpg"].iter().enumerate() {
            let url = format!("{}/pictures/{:02}.jpg", bench.site.files.url(), place);
            let picture = http.get(&url).send().await.unwrap();
            let status = picture.status();
            assert!(status.is_success(), "{url}: {status}");
            let picture = picture.bytes().await.unwrap();
            std::fs::write(bench.path(name), picture).unwrap();
        }
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whether a user's own files are read: a home of its own.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// A command in the directory, with the site's address and keys and nothing else of ours.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let wiring = self.site.stack.wiring().unwrap();
        let bin = Path::new(PROGRAM).parent().unwrap();
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .env("HOME", self.home())
            .env("TERM", "xterm")
            .env("PHOTOFINISH_URL", &wiring.ingest)
            .env("PHOTOFINISH_API_KEY", &wiring.client.api_key)
            .env("PHOTOFINISH_OPERATOR_KEY", &wiring.secrets.operator_key)
            .stdin(Stdio::null());
        command
    }

    /// Runs `photofinish …`.
    pub(crate) async fn run(&self, words: &[&str]) -> Told {
        let mut command = self.command(PROGRAM);
        command.args(words);
        told(command).await
    }

    /// Waits until a command's document is as it should be.
    pub(crate) async fn until(&self, words: &[&str], good: impl Fn(&Value) -> bool) -> Value {
        let what = words.join(" ");
        wait_for(SOON, &what, || async {
            let told = self.run(words).await;
            let value = serde_json::from_str(&told.out).ok()?;
            good(&value).then_some(value)
        })
        .await
        .unwrap()
    }

    pub(crate) async fn end(self) {
        self.site.end().await.unwrap();
    }
}

/// Runs a command to its end.
pub(crate) async fn told(mut command: Command) -> Told {
    let output = tokio::time::timeout(SOON, command.output()).await;
    let output = output.expect("the command ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told {
        code: output.status.code().unwrap_or(-1),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}
