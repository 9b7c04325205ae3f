//! `up` and `down`: the stack that goes on, and the file `env` beside its directory that says how to reach it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use photofinish_kit::wait_until;
use serde_json::{Value, json};

use crate::say::say;
use crate::stack::{self, Options, Stack};
use crate::wiring::{Client, RunPod, Wiring};

/// The tenant that is made.
pub const TENANT: &str = "demo";

/// How long a stack that seems to run has to answer.
const SURVIVOR_DEADLINE: Duration = Duration::from_secs(10);

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_path_buf(),
        lasting: true,
        tenant: TENANT.to_owned(),
        servers: None,
        settings: Vec::new(),
        runpod: RunPod::default(),
    }
}

/// Starts everything and leaves it running; says so if it runs already.
pub async fn up(dir: &Path) -> anyhow::Result<()> {
    let mut stack = Stack::claim(options(dir))?;
    let env = env_path(&stack);
    if let Some(wiring) = stack.survivor() {
        let ready = || async { stack::unready(stack.http(), &wiring).await.is_empty() };
        if wait_until(SURVIVOR_DEADLINE, "every /readyz answers 200", ready)
            .await
            .is_ok()
        {
            write_env(&env, &wiring)?;
            say(format!(
                "already running: {} (settings in {})",
                wiring.ingest,
                env.display()
            ));
            return Ok(());
        }
        say("what runs does not answer: starting anew");
    }
    let outcome = tokio::select! {
        outcome = stack.start() => outcome,
        signal = interrupted() => Err(anyhow::anyhow!("{signal}")),
    };
    if let Err(error) = outcome {
        if let Err(more) = stack.stop().await {
            say(format!("{more:#}"));
        }
        return Err(error);
    }
    let wiring = stack.wiring()?;
    write_env(&env, wiring)?;
    say(format!(
        "ready: {} (settings in {})",
        wiring.ingest,
        env.display()
    ));
    for (name, pid) in stack.pids() {
        say(format!("  {name:<24} pid {pid}"));
    }
    Ok(())
}

/// Stops what `up` started, also after a crash.
pub async fn down(dir: &Path) -> anyhow::Result<()> {
    if !dir.exists() {
        say("nothing was started");
        return Ok(());
    }
    let mut stack = Stack::claim(options(dir))?;
    let env = env_path(&stack);
    stack.stop().await?;
    if env.exists() {
        std::fs::remove_file(&env).context("remove the env file")?;
    }
    say("stopped");
    Ok(())
}

fn env_path(stack: &Stack) -> PathBuf {
    stack.dir().parent().unwrap_or(Path::new("/")).join("env")
}

fn write_env(path: &Path, wiring: &Wiring) -> anyhow::Result<()> {
    let lines = wiring
        .env_lines()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    let part = path.with_extension("part");
    std::fs::write(&part, lines.collect::<String>())
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("write {}", path.display()))
}

/// Makes the tenant, its API key, and its user at the broker.
pub async fn make_tenant(http: &reqwest::Client, wiring: &Wiring) -> anyhow::Result<Client> {
    let name = wiring.client.tenant.clone();
    let tenant = admin(http, wiring, "/v1/admin/tenants", json!({"id": name})).await?;
    let path = format!("/v1/admin/tenants/{name}/keys");
    let key = admin(http, wiring, &path, json!({})).await?;
    let path = format!("/v1/admin/tenants/{name}/amqp-user");
    let user = admin(http, wiring, &path, json!({})).await?;
    let text = |value: &Value, field: &str| {
        let text = value[field].as_str().map(str::to_owned);
        text.with_context(|| format!("no {field} in the answer to a call of /v1/admin"))
    };
    Ok(Client {
        amqp_url: text(&user, "url")?,
        api_key: text(&key, "key")?,
        webhook_secret: text(&tenant, "webhook_secret")?,
        tenant: name,
    })
}

async fn admin(
    http: &reqwest::Client,
    wiring: &Wiring,
    path: &str,
    body: Value,
) -> anyhow::Result<Value> {
    let call = http.post(format!("{}{path}", wiring.ingest)).json(&body);
    let answer = call
        .bearer_auth(&wiring.secrets.operator_key)
        .send()
        .await
        .with_context(|| format!("POST {path}"))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    anyhow::ensure!(status.is_success(), "POST {path}: {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("read the answer of POST {path}"))
}

/// Waits for SIGINT or SIGTERM and names it.
pub async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (int, term) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut int), Ok(mut term)) = (int, term) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => "interrupted",
        _ = term.recv() => "told to end",
    }
}
