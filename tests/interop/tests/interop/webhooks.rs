//! Our signatures under Standard Webhooks' own libraries.

use photofinish_interop::{python, script, tool};
use photofinish_notifier::sign;
use photofinish_runtime::Clock;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::Command;

const LIBRARY_OF_JAVASCRIPT: &str = "node_modules/standardwebhooks/dist/index.js";
const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A webhook with letters beyond ASCII, signed while a secret is being replaced.
fn webhook() -> String {
    let body = "{\"type\":\"job.completed\",\"data\":{\"metadata\":{\"name\":\"vidéo 日本\"}}}";
    let secrets = format!("{NEW} {OLD}");
    let now = Clock::system().now();
    let signed = sign::headers(&secrets, "evt_1", now, body.as_bytes()).unwrap();
    let headers: Map<String, Value> = signed
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    json!({"headers": headers, "body": body, "secrets": [NEW, OLD], "other": OTHER}).to_string()
}

fn holds(program: &Path, args: &[&str]) {
    let said = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let wrong = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{text}{wrong}");
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn python_library_accepts_our_signatures() {
    let program = script("python/webhook.py");
    holds(
        &python().unwrap(),
        &[&program.to_string_lossy(), &webhook()],
    );
}

#[test]
fn javascript_library_accepts_our_signatures() {
    let (program, library) = (
        script("js/webhook.mjs"),
        tool(LIBRARY_OF_JAVASCRIPT).unwrap(),
    );
    let args = [
        &*program.to_string_lossy(),
        &*library.to_string_lossy(),
        &webhook(),
    ];
    holds(Path::new("node"), &args);
}
