//! A service that does nothing, for the tests of `run`: its task ends when told, never, or at once.

use std::time::Duration;

use photofinish_runtime::tls::TlsSection;
use photofinish_runtime::{Context, Service, http, run};
use serde::Deserialize;

const DEFAULTS: &str = r#"
[idle]
# What the task does: "obey" ends when told, "stick" never ends, "die" ends at once, "fail" does not even start.
mode = "obey"
# How long the task goes on after it was told to end.
linger_s = 0.0
api_key = ""

[idle.tls]
cert_file = ""
key_file = ""
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    idle: Idle,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Idle {
    mode: String,
    linger_s: f64,
    #[serde(rename = "api_key")]
    _api_key: String,
    tls: TlsSection,
}

async fn build(settings: Settings, context: Context) -> anyhow::Result<()> {
    let Idle {
        mode,
        linger_s,
        tls,
        ..
    } = settings.idle;
    let tls = tls.load("idle.tls").map_err(anyhow::Error::msg)?;
    let broker = context.health.register("broker");
    let listener = context.ports.listen("http", "127.0.0.1:0").await?;
    let ready = axum::routing::get(move || async move { broker.ok() });
    let say = axum::routing::get(|version: axum::http::Version| async move {
        tracing::debug!("said in a low voice");
        format!("{version:?}")
    });
    http::serve(
        &context.tasks,
        "http",
        listener,
        axum::Router::new()
            .route("/ready", ready)
            .route("/say", say),
        http::Limits {
            connections_max: 100,
            connections_per_address_max: 100,
            head: Duration::from_secs(30),
            write: Duration::from_secs(30),
        },
        tls,
    );
    tracing::info_span!("build").in_scope(|| tracing::info!(mode, "built"));
    let shutdown = context.shutdown.clone();
    match mode.as_str() {
        "obey" => context.tasks.spawn_critical("idle", async move {
            shutdown.wait().await;
            tokio::time::sleep(Duration::from_secs_f64(linger_s)).await;
        }),
        "stick" => context
            .tasks
            .spawn_critical("idle", std::future::pending::<()>()),
        "die" => context.tasks.spawn_critical("idle", async {}),
        "fail" => anyhow::bail!("no broker"),
        other => anyhow::bail!("unknown mode {other}"),
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let check = |settings: &Settings| {
        let wrong = settings.idle.linger_s < 0.0;
        wrong
            .then(|| "idle.linger_s: not below 0".to_owned())
            .into_iter()
            .collect()
    };
    run(Service::new("idle", DEFAULTS).checked_by(check), build)
}
