//! Inputs over HTTP on loopback, a studio that may fetch them, and ffmpeg for making and judging.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
pub(crate) use photofinish_kit::{detailed, png};
use photofinish_outbound::{Outbound, Policy};
use photofinish_runtime::install_crypto;
use photofinish_worker::media::encoder::Choice;
use photofinish_worker::operations::inputs::InputLimits;
use photofinish_worker::operations::studio::{Studio, StudioSettings};

/// Files by name; what is PUT can be read back.
pub(crate) type Files = Arc<Mutex<HashMap<String, Bytes>>>;

/// A real HTTP server over files in memory.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) files: Files,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let files = Files::default();
        let read = |State(files): State<Files>, UrlPath(name): UrlPath<String>| async move {
            files
                .lock()
                .unwrap()
                .get(&name)
                .cloned()
                .ok_or(StatusCode::NOT_FOUND)
        };
        let write = |State(files): State<Files>, UrlPath(name): UrlPath<String>, body: Bytes| async move {
            files.lock().unwrap().insert(name, body);
        };
        let router = Router::new()
            .route("/{name}", get(read).put(write))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(files.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, files }
    }

    pub(crate) fn put(&self, name: &str, bytes: impl Into<Bytes>) -> String {
        self.files
            .lock()
            .unwrap()
            .insert(name.to_owned(), bytes.into());
        self.url(name)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        self.files.lock().unwrap().get(name).cloned()
    }
}

/// A studio that encodes with x264 and may fetch from loopback.
pub(crate) fn studio() -> Studio {
    studio_of(settings())
}

/// A studio that may fetch from loopback.
pub(crate) fn studio_of(settings: StudioSettings) -> Studio {
    install_crypto();
    let policy = Policy::from_texts(&["127.0.0.0/8"]).unwrap();
    Studio::new(settings, Outbound::new(policy).unwrap())
}

/// x264, two items at once, and limits fit for tests.
pub(crate) fn settings() -> StudioSettings {
    StudioSettings {
        ffmpeg: "ffmpeg".to_owned(),
        ffprobe: "ffprobe".to_owned(),
        encoder: Choice::X264,
        nvenc_sessions: 2,
        batch: 2,
        cpus: 2,
        inputs: InputLimits {
            image_bytes_max: 8_000_000,
            video_bytes_max: 64_000_000,
            audio_bytes_max: 64_000_000,
            captions_bytes_max: 100_000,
            download_timeout: Duration::from_secs(20),
            local: BTreeMap::new(),
        },
        encode_timeout_base: Duration::from_mins(1),
        encode_timeout_per_second: Duration::from_secs(20),
    }
}

/// Runs a program with arguments separated by spaces; what it wrote to standard output.
pub(crate) fn tool(program: &str, dir: &Path, words: &str) -> Vec<u8> {
    let done = Command::new(program)
        .args(words.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {words}: {said}");
    done.stdout
}

/// ffmpeg with arguments separated by spaces.
pub(crate) fn ffmpeg(dir: &Path, words: &str) -> Vec<u8> {
    tool("ffmpeg", dir, &format!("-nostdin -v error -y {words}"))
}

/// What ffprobe says, as `key=value` lines.
pub(crate) fn probe(file: &Path, entries: &str) -> HashMap<String, String> {
    let words = format!(
        "-v error -count_packets -show_entries {entries} -of default=nw=1 {}",
        file.display()
    );
    let said = String::from_utf8(tool("ffprobe", Path::new("/"), &words)).unwrap();
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
