//! What runs Photofinish elsewhere agrees with the programs: manifests, images, compose.
//!
//! The checks are Python, beside what they check, and run here so that no change of the code forgets them: a key that is
//! renamed in a service fails the manifest that still sets it. Nothing is skipped: without its tools a test fails and
//! says how to get them.

use std::process::{Command, Output};

use anyhow::Context as _;

/// Runs a Python script or module from the root of the repository.
fn python(arguments: &[&str]) -> anyhow::Result<Output> {
    let root = photofinish_kit::root();
    Command::new(photofinish_kit::python())
        .args(arguments)
        .current_dir(&root)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PHOTOFINISH_PROGRAMS", photofinish_kit::bin_dir()?)
        .output()
        .context("start python3")
}

fn assert_well(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every overlay is rendered and looked through, every check is seen to fail, and the programs take what pods tell them.
#[test]
fn kubernetes_manifests_agree_with_the_programs() {
    let tests = [
        "-m",
        "unittest",
        "discover",
        "--start-directory",
        "k8s/tests",
    ];
    let output = python(&tests).unwrap();
    assert_well(&output);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("\nOK"), "no test ran: {said}");
}
