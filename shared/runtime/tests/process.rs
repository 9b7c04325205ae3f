//! `run` as a process of its own: start, readiness, signals, exit codes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use photofinish_kit::{Authority, Process, ProcessSpec, Receiver, bin_dir, client, wait_until};

const SOON: Duration = Duration::from_secs(15);

fn spec(dir: &Path, mode: &str) -> anyhow::Result<ProcessSpec> {
    let spec = ProcessSpec {
        name: "idle".to_owned(),
        program: bin_dir()?.join("examples/idle"),
        dir: dir.to_path_buf(),
        wants_ports: true,
        ..ProcessSpec::default()
    };
    Ok(spec
        .env("PHOTOFINISH__ADMIN__LISTEN", "127.0.0.1:0")
        .env("PHOTOFINISH__RUNTIME__DRAIN_TIMEOUT_S", "1")
        .env("PHOTOFINISH__IDLE__MODE", mode))
}

#[tokio::test]
async fn readiness_follows_the_checks_and_sigterm_ends_cleanly() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = spec(dir.path(), "obey")?.env("PHOTOFINISH__IDLE__LINGER_S", "0.5");
    let (process, ports) = Process::start_ready(spec, SOON).await?;
    let http = client()?;
    let admin = format!("http://{}", ports["admin"]);
    let readyz = || async { http.get(format!("{admin}/readyz")).send().await };
    assert_eq!(
        http.get(format!("{admin}/healthz")).send().await?.status(),
        200
    );
    let answer = readyz().await?;
    assert_eq!(answer.status(), 503);
    let body: serde_json::Value = answer.json().await?;
    assert_eq!(body["failing"][0]["check"], "broker");
    http.get(format!("http://{}/ready", ports["http"]))
        .send()
        .await?;
    assert_eq!(readyz().await?.status(), 200);
    let metrics = http
        .get(format!("{admin}/metrics"))
        .send()
        .await?
        .text()
        .await?;
    assert!(
        metrics.contains("photofinish_build_info{service=\"idle\""),
        "{metrics}"
    );

    let unready_while_stopping = wait_until(SOON, "503 while stopping", || async {
        readyz().await.is_ok_and(|answer| answer.status() == 503)
    });
    let (status, seen) = tokio::join!(process.terminate(SOON), unready_while_stopping);
    seen?;
    assert_eq!(status?.code(), Some(0));
    let log = std::fs::read_to_string(process.log_path())?;
    assert!(
        log.contains("clean shutdown") && log.lines().all(|line| line.starts_with('{')),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stuck_task_is_cut_off_at_the_deadline() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (process, _) = Process::start_ready(spec(dir.path(), "stick")?, SOON).await?;
    assert_eq!(process.terminate(SOON).await?.code(), Some(1));
    assert!(
        process
            .log_tail()
            .contains("shutdown deadline passed, 1 tasks left")
    );
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_at_once() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = spec(dir.path(), "stick")?.env("PHOTOFINISH__RUNTIME__DRAIN_TIMEOUT_S", "300");
    let (process, _) = Process::start_ready(spec, SOON).await?;
    assert!(process.terminate(Duration::from_millis(300)).await.is_err());
    assert_eq!(process.terminate(SOON).await?.code(), Some(1));
    assert!(process.log_tail().contains("second signal"));
    Ok(())
}

#[tokio::test]
async fn a_dead_critical_task_and_a_failed_start_end_the_process() -> anyhow::Result<()> {
    for (mode, told) in [("die", "a critical task ended"), ("fail", "no broker")] {
        let dir = tempfile::tempdir()?;
        let process = Process::start(spec(dir.path(), mode)?)?;
        wait_until(SOON, "the process ends", || async {
            process.ended().is_some()
        })
        .await?;
        assert_eq!(
            process.ended().and_then(|status| status.code()),
            Some(1),
            "{mode}"
        );
        assert!(
            process.log_tail().contains(told),
            "{mode}: {}",
            process.log_tail()
        );
    }
    Ok(())
}

#[tokio::test]
async fn traces_go_to_the_collector_and_are_flushed_at_the_end() -> anyhow::Result<()> {
    let collector = Receiver::start().await?;
    let dir = tempfile::tempdir()?;
    let spec = spec(dir.path(), "obey")?.env(
        "PHOTOFINISH__OTLP__ENDPOINT",
        format!("http://{}", collector.addr()),
    );
    let (process, _) = Process::start_ready(spec, SOON).await?;
    process.terminate(SOON).await?;
    let received = collector.wait(1, SOON).await?;
    assert_eq!(received[0].uri.path(), "/v1/traces");
    assert_eq!(received[0].header("content-type"), "application/x-protobuf");
    assert!(String::from_utf8_lossy(&received[0].body).contains("photofinish-idle"));
    Ok(())
}

/// The text of an answer to a call of the admin port.
async fn level(
    http: &reqwest::Client,
    admin: &str,
    set: Option<&str>,
) -> anyhow::Result<(u16, String)> {
    let url = format!("{admin}/log-level");
    let call = match set {
        Some(set) => http.put(url).body(set.to_owned()),
        None => http.get(url),
    };
    let answer = call.send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await?.trim().to_owned()))
}

#[tokio::test]
async fn the_log_level_is_changed_at_run_time_and_lines_are_readable_on_request()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = spec(dir.path(), "obey")?.env("PHOTOFINISH__LOG__FORMAT", "text");
    let (process, ports) = Process::start_ready(spec, SOON).await?;
    let http = client()?;
    let (admin, own) = (&ports["admin"], &ports["http"]);
    let admin = format!("http://{admin}");
    let said = || process.log_tail().matches("said in a low voice").count();
    let say = || async { http.get(format!("http://{own}/say")).send().await };
    assert_eq!(level(&http, &admin, None).await?, (200, "info".to_owned()));
    say().await?;
    assert_eq!(said(), 0);
    let debug = (200, "warn,idle=debug".to_owned());
    assert_eq!(level(&http, &admin, Some("warn,idle=debug")).await?, debug);
    say().await?;
    wait_until(SOON, "it is logged", || async { said() == 1 }).await?;
    let (status, told) = level(&http, &admin, Some("idle=loud")).await?;
    assert!(status == 422 && told.contains("log level"), "{told}");
    assert_eq!(level(&http, &admin, None).await?, debug);
    assert_eq!(level(&http, &admin, Some("")).await?.1, "info", "as it was");
    say().await?;
    assert_eq!(said(), 1);
    let log = process.log_tail();
    assert!(log.lines().all(|line| !line.starts_with('{')), "{log}");
    process.terminate(SOON).await.map(drop)
}

#[tokio::test]
async fn both_ports_speak_tls_and_http_2_and_the_healthcheck_asks_them() -> anyhow::Result<()> {
    photofinish_kit::install_crypto();
    let (dir, authority) = (tempfile::tempdir()?, Authority::make()?);
    let (cert, key) = authority.server();
    let mut spec = spec(dir.path(), "obey")?;
    for port in ["IDLE", "ADMIN"] {
        let name = |file| format!("PHOTOFINISH__{port}__TLS__{file}_FILE");
        spec = spec.env(&name("CERT"), cert.display().to_string());
        spec = spec.env(&name("KEY"), key.display().to_string());
    }
    let env = spec.env.clone();
    let (process, ports) = Process::start_ready(spec, SOON).await?;
    let ca = reqwest::Certificate::from_pem(&std::fs::read(authority.ca())?)?;
    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([ca.clone()])
    };
    let version = |client: reqwest::Client| {
        let url = format!("https://localhost:{}/say", ports["http"].port());
        async move { client.get(url).send().await?.text().await }
    };
    assert_eq!(version(builder().build()?).await?, "HTTP/2.0");
    assert_eq!(version(builder().http1_only().build()?).await?, "HTTP/1.1");
    let plain = format!("http://{}/say", ports["http"]);
    assert!(client()?.get(plain).send().await.is_err(), "TLS alone");

    let file = dir.path().join("idle.ports.json");
    let healthcheck = |more: &[&str]| -> anyhow::Result<(Option<i32>, String)> {
        let output = Command::new(bin_dir()?.join("examples/idle"))
            .args(["healthcheck", "--ports-file"])
            .arg(&file)
            .args(more)
            .envs(&env)
            .output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    let well = healthcheck(&[])?;
    assert_eq!(well, (Some(0), String::new()));
    let (code, told) = healthcheck(&["--ready"])?;
    assert!(code == Some(1) && told.contains("broker"), "{told}");
    process.terminate(SOON).await?;
    let (code, told) = healthcheck(&[])?;
    assert!(code == Some(1) && told.contains("ask 127.0.0.1:"), "{told}");
    Ok(())
}

#[test]
fn settings_are_checked_and_printed_without_starting() -> anyhow::Result<()> {
    let idle = |args: &[&str], env: &[(&str, &str)]| -> anyhow::Result<(Option<i32>, String)> {
        let output = Command::new(bin_dir()?.join("examples/idle"))
            .args(args)
            .envs(env.iter().copied())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(text)?))
    };
    let secret = [("PHOTOFINISH__IDLE__API_KEY", "hunter2")];
    let (code, text) = idle(&["--print-config"], &secret)?;
    assert_eq!(code, Some(0));
    assert!(
        text.contains("api_key = \"(hidden)\"") && !text.contains("hunter2"),
        "{text}"
    );
    assert_eq!(idle(&["--check-config"], &[])?.0, Some(0));
    let wrong = [
        ("PHOTOFINISH__IDLE__LINGER_S", "long"),
        ("PHOTOFINISH__IDLE__MOOD", "good"),
    ];
    let (code, text) = idle(&["--check-config"], &wrong)?;
    assert_eq!(code, Some(78));
    assert!(
        text.contains("idle.linger_s: a number") && text.contains("idle.mood: unknown"),
        "{text}"
    );
    let (code, text) = idle(&[], &[("PHOTOFINISH__IDLE__LINGER_S", "-1")])?;
    assert_eq!(
        (code, text.contains("not below 0")),
        (Some(78), true),
        "{text}"
    );
    let half = [("PHOTOFINISH__ADMIN__TLS__CERT_FILE", "/none/tls.crt")];
    let (code, text) = idle(&["--check-config"], &half)?;
    assert!(
        code == Some(78) && text.contains("admin.tls.key_file: must be set"),
        "{text}"
    );
    assert_eq!(idle(&["wait", "0"], &[])?.0, Some(0));
    assert_eq!(idle(&["wait", "601"], &[])?.0, Some(2));
    assert!(
        idle(&["--version"], &[])?
            .1
            .starts_with("photofinish-idle ")
    );
    Ok(())
}
