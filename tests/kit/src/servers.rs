//! Where the shared servers are: the environment, else the file that `make servers` writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;

/// The root of the checkout.
pub fn root() -> PathBuf {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR"));
    kit.ancestors().nth(2).unwrap_or(kit).to_path_buf()
}

/// A Python that has PyYAML: the machine's own, or the one that `scripts/k8s-test.sh tools` made because that has none.
pub fn python() -> PathBuf {
    let made = root().join(".dev/k8s/venv/bin/python");
    if made.is_file() {
        made
    } else {
        "python3".into()
    }
}

/// A value such as `PHOTOFINISH_TEST_AMQP`: from the environment, else from `.dev/test/env`.
pub fn server_setting(name: &str) -> anyhow::Result<String> {
    static FILE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    if let Ok(value) = std::env::var(name) {
        return Ok(value);
    }
    let values = FILE.get_or_init(|| {
        let text = std::fs::read_to_string(root().join(".dev/test/env")).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    });
    values
        .get(name)
        .cloned()
        .with_context(|| format!("{name} is not set: start the test servers with `make servers`"))
}

/// Installs ring as the process's TLS crypto, which every HTTP client needs; again changes nothing.
pub fn install_crypto() {
    // An error means that a provider is there already.
    let _already = rustls::crypto::ring::default_provider().install_default();
}

/// An HTTP client for local servers: no proxy, no redirects, 30 s.
pub fn client() -> anyhow::Result<reqwest::Client> {
    install_crypto();
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(std::time::Duration::from_secs(30));
    builder.build().context("build the test kit's HTTP client")
}

/// Runs `scripts/servers.sh`.
pub(crate) async fn servers_script(args: &[&str]) -> anyhow::Result<String> {
    let script = root().join("scripts/servers.sh");
    let output = tokio::process::Command::new(&script)
        .args(args)
        .output()
        .await
        .with_context(|| format!("run {}", script.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "servers.sh {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
