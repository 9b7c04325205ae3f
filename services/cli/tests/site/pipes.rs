//! On pipes: documents, lines, signals and settings.

use crate::bench::{Bench, PROGRAM, SOON, Told, told};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

const SMALL: [&str; 8] = [
    "--duration",
    "0.5",
    "--width",
    "128",
    "--height",
    "72",
    "--frame-rate",
    "12",
];

pub(crate) async fn one_invocation_is_one_job_and_files_go_up_once(bench: &Bench) {
    let submit = |more: &[&'static str]| {
        let mut words = vec!["submit", "img2vid", "dusk.jpg", "dusk.jpg"];
        words.extend_from_slice(&SMALL);
        words.extend_from_slice(more);
        words
    };
    let once = bench
        .run(&submit(&["--idempotency-key", "A-17", "-q"]))
        .await
        .well();
    let again = bench
        .run(&submit(&["--idempotency-key", "A-17", "-q"]))
        .await
        .well();
    assert_eq!(
        once.out, again.out,
        "files that are up already give the same request"
    );
    assert!(
        once.out.starts_with("job_") && once.out.lines().count() == 1,
        "{once:?}"
    );
    assert!(
        again.err.contains("dusk.jpg is uploaded already"),
        "{again:?}"
    );
    let other = bench.run(&submit(&["-q"])).await.well();
    assert_ne!(
        once.out, other.out,
        "without a key each invocation is a job"
    );
    let reused = bench
        .run(&[
            "submit",
            "img2vid",
            "noon.jpg",
            "--duration",
            "1",
            "--idempotency-key",
            "A-17",
        ])
        .await;
    assert_eq!(reused.code, 1);
    assert!(reused.err.contains("idempotency_key_reused"), "{reused:?}");
    assert!(
        reused.err.contains("Use another --idempotency-key"),
        "{reused:?}"
    );
    // The job is stopped, and its end said.
    let id = other.out.trim();
    let cancelled = bench.run(&["cancel", id]).await;
    let watched = bench.run(&["watch", id]).await;
    if cancelled.code == 0 {
        assert_eq!(watched.code, 1, "{watched:?}");
        assert!(watched.err.contains("is cancelled"), "{watched:?}");
    }
}

pub(crate) async fn json_is_one_document_and_lines_where_it_follows(bench: &Bench) {
    let page = bench.run(&["list", "--limit", "1", "--json"]).await.well();
    assert_eq!(page.json()["data"].as_array().unwrap().len(), 1);
    let all = bench.run(&["list", "--all", "--json"]).await.well().json();
    assert!(all["data"].as_array().unwrap().len() > 2 && all["next_cursor"].is_null());
    let mut words = vec![
        "submit", "img2vid", "noon.jpg", "--json", "--fetch", "clips",
    ];
    words.extend_from_slice(&SMALL);
    let followed = bench.run(&words).await.well();
    let lines: Vec<Value> = followed
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [.., job, fetched] = lines.as_slice() else {
        panic!("{followed:?}")
    };
    assert_eq!(job["status"], "completed");
    assert!(job["outputs"].is_array());
    assert_eq!(fetched["files"][0]["was_there"], false);
    assert!(bench.path("clips/0000-image1.mp4").is_file());
    let refused = bench.run(&["get", "job_0", "--json"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    let told: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(told["problem"]["code"], "not_found");
    assert!(told["next_step"].is_string(), "{told}");
}

pub(crate) async fn a_closed_pipe_is_quiet(bench: &Bench) {
    let mut command = bench.command("bash");
    command.arg("-c").arg(format!(
        "set -o pipefail; {PROGRAM} completions bash | head -1 >/dev/null; echo $?; \
         {PROGRAM} list --all --json | true; echo $?"
    ));
    let told = told(command).await;
    assert_eq!((told.out.as_str(), told.err.as_str()), ("0\n0\n", ""));
}

pub(crate) async fn ctrl_c_says_how_to_go_on(bench: &Bench) {
    // Five minutes of video are not rendered before the signal comes.
    let mut command = bench.command(PROGRAM);
    command
        .args([
            "submit",
            "img2vid",
            "noon.jpg",
            "--duration",
            "300",
            "--watch",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let id = loop {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("it says what it does");
        if let Some((id, "accepted")) = line.split_once(" is ") {
            break id.to_owned();
        }
    };
    // The first state is shown once the signal is listened for.
    tokio::time::timeout(SOON, lines.next_line())
        .await
        .unwrap()
        .unwrap();
    let pid = child.id().unwrap().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let ended = tokio::time::timeout(SOON, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(130));
    let mut rest = String::new();
    lines.into_inner().read_to_string(&mut rest).await.unwrap();
    let wanted = format!(
        "{id} goes on\n`photofinish watch {id}` follows it again, `photofinish cancel {id}` stops it.\n"
    );
    assert!(rest.ends_with(&wanted), "{rest:?}");
    bench.run(&["cancel", &id]).await.well();
    bench
        .until(&["get", &id, "--json"], |job| job["status"] == "cancelled")
        .await;
}

pub(crate) async fn profiles_under_the_environment_under_flags(bench: &Bench) {
    let wiring = bench.site.stack.wiring().unwrap();
    let dir = bench.home().join(".config/photofinish");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("config.toml");
    let (url, key) = (&wiring.ingest, &wiring.client.api_key);
    std::fs::write(dir.join("key"), format!("{key}\n")).unwrap();
    let text = format!(
        "profile = \"here\"\n[profiles.here]\nurl = \"{url}\"\napi_key_file = \"~/.config/photofinish/key\"\n\
         [profiles.gone]\nurl = \"http://127.0.0.1:9\"\napi_key = \"k\"\n"
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let bare = |words: &'static [&'static str]| async move {
        let mut command = bench.command(PROGRAM);
        command
            .args(words)
            .env_remove("PHOTOFINISH_URL")
            .env_remove("PHOTOFINISH_API_KEY");
        told(command).await
    };
    let listed = bare(&["list", "--limit", "1"]).await.well();
    assert_eq!(listed.err, "", "nobody else can read it");
    assert_eq!(bare(&["list", "--profile", "gone"]).await.code, 3);
    let misspelt = bare(&["list", "--profile", "hree"]).await;
    assert_eq!(misspelt.code, 64);
    assert!(misspelt.err.contains("did you mean here?"), "{misspelt:?}");
    let over = bench
        .run(&["list", "--limit", "1", "--profile", "gone"])
        .await;
    assert_eq!(
        over.code, 0,
        "the environment counts more than a profile: {over:?}"
    );
    let flag = bench.run(&["list", "--url", "http://127.0.0.1:9"]).await;
    assert_eq!(flag.code, 3, "a flag counts more than the environment");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warned = bare(&["config"]).await.well();
    assert!(warned.err.contains("chmod 600"), "{warned:?}");
    assert!(warned.out.contains("[profiles.here]"), "{warned:?}");
    assert!(
        !warned.out.contains(key.as_str()),
        "a key is never shown whole"
    );
    std::fs::write(&file, "[profiles.here]\napi_kye = \"k\"\n").unwrap();
    let wrong = bench.run(&["list"]).await;
    assert_eq!(wrong.code, 64);
    assert!(
        wrong
            .err
            .contains("profiles.here.api_kye is not known: did you mean api_key?"),
        "{wrong:?}"
    );
    std::fs::remove_file(&file).unwrap();
}

pub(crate) async fn a_retry_is_followed_to_an_end_of_its_own(bench: &Bench) {
    let missing = format!("{}/missing.jpg", bench.site.files.url());
    let mut words = vec!["submit", "img2vid", missing.as_str(), "--watch", "--json"];
    words.extend_from_slice(&SMALL);
    let last = |told: &Told| -> Value {
        let line = told.out.lines().last().expect("the job at its end");
        serde_json::from_str(line).unwrap()
    };
    let failed = bench.run(&words).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    let job = last(&failed);
    assert_eq!((&job["run"], &job["status"]), (&json!(1), &json!("failed")));
    let id = job["id"].as_str().unwrap();
    let again = bench.run(&["retry", id, "--watch", "--json"]).await;
    assert_eq!(again.code, 1, "{again:?}");
    let job = last(&again);
    assert_eq!((&job["run"], &job["status"]), (&json!(2), &json!("failed")));
    assert_eq!(
        job["outputs"][0]["error"]["code"], "input_not_found",
        "{job}"
    );
}
