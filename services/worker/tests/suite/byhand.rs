//! `photofinish-worker run` and `doctor`: the real program as people and scripts use it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use photofinish_kit::wait_for;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Server, detailed, png, probe};

const PROGRAM: &str = env!("CARGO_BIN_EXE_photofinish-worker");
const SOON: Duration = Duration::from_secs(60);

/// The program in `dir`, which may fetch from loopback and encodes with x264.
fn program(dir: &Path, words: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(words.split_whitespace())
        .current_dir(dir)
        .env("PHOTOFINISH__OUTBOUND__INPUTS__ALLOW", "127.0.0.0/8")
        .env("PHOTOFINISH__ENCODER__CHOICE", "x264")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, away from the threads that serve its inputs.
async fn done(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn job(dir: &Path, body: &Value) {
    std::fs::write(dir.join("job.json"), body.to_string()).unwrap();
}

/// What lies in the output directory, hidden or not.
fn left(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir.join("out")) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_job_by_hand_tells_as_it_goes_and_prints_a_table() {
    let server = Server::start().await;
    let url = server.put("a", png(&detailed(320, 200)));
    let dir = tempfile::tempdir().unwrap();
    let body = json!({"input": {"operation": "img2vid", "width": 320, "height": 180, "images": [
        {"id": "x/y", "image_url": url, "duracao": 0.5, "motion": "pan_left"},
        {"id": "gone", "image_url": server.url("missing"), "duration": 1}
    ]}});
    job(dir.path(), &body);
    let done = done(program(dir.path(), "run --input job.json --out out")).await;
    let (table, told) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(1), "one item fails: {table}{told}");
    assert!(table.contains("out/0000-x_y.mp4"), "{table}");
    assert!(
        table.contains("libx264") && table.contains("0.500 s"),
        "{table}"
    );
    assert!(table.contains("item gone: input_not_found: "), "{table}");
    assert!(table.contains("1 made, 1 failed"), "{table}");
    assert!(
        told.contains("out/0000-x_y.mp4") && told.contains("failed gone: input_not_found"),
        "{told}"
    );
    assert_eq!(left(dir.path()), ["0000-x_y.mp4"]);
    let said = probe(
        &dir.path().join("out/0000-x_y.mp4"),
        "stream=width,nb_read_packets",
    );
    assert_eq!(
        (said["width"].as_str(), said["nb_read_packets"].as_str()),
        ("320", "15")
    );
}

#[tokio::test]
async fn for_programs_it_prints_one_json_document_and_nothing_else() {
    let server = Server::start().await;
    let url = server.put("a", png(&detailed(96, 64)));
    let dir = tempfile::tempdir().unwrap();
    let body = json!({"operation": "img2vid", "width": 96, "height": 64, "images": [
        {"id": "a", "image_url": url, "duration": 0.5}, {"id": "b", "image_url": server.url("missing"), "duration": 1}
    ]});
    job(dir.path(), &body);
    let done = done(program(dir.path(), "run --input job.json --out out --json")).await;
    assert_eq!(
        (done.status.code(), text(&done.stderr)),
        (Some(1), String::new())
    );
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let output = &said["outputs"][0];
    let bytes = std::fs::read(output["path"].as_str().unwrap()).unwrap();
    assert_eq!(output["bytes"], bytes.len());
    assert_eq!(output["sha256"], hex::encode(Sha256::digest(&bytes)));
    assert_eq!(
        (&output["item"], &output["encoder"]),
        (&json!("a"), &json!("libx264"))
    );
    assert_eq!(
        (&said["ok"], &output["duration_s"]),
        (&json!(false), &json!(0.5))
    );
    assert!(output["took_s"].as_f64().unwrap() > 0.0 && said["took_s"].as_f64().unwrap() > 0.0);
    let error = &said["errors"][0];
    assert_eq!(
        (&error["item"], &error["code"]),
        (&json!("b"), &json!("input_not_found"))
    );
}

#[tokio::test]
async fn a_job_from_standard_input_may_name_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("photo 1.png"), png(&detailed(96, 64))).unwrap();
    let body = json!({"operation": "img2vid", "width": 96, "height": 64, "images": [
        {"image_url": "photo 1.png", "duration": 0.2}, {"image_url": "photo 1.png", "duration": 0.1}
    ]});
    job(dir.path(), &body);
    let mut command = program(dir.path(), "run --input - --out out --json");
    command.stdin(std::fs::File::open(dir.path().join("job.json")).unwrap());
    let done = done(command).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stdout));
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&said["ok"], said["outputs"].as_array().unwrap().len()),
        (&json!(true), 2)
    );
    assert_eq!(left(dir.path()), ["0000-image1.mp4", "0001-image2.mp4"]);
}

#[tokio::test]
async fn each_wrong_use_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("text.json", "hello");
    write(
        "wrong.json",
        r#"{"operation": "img2vid", "images": [], "fps": 3, "width": 33}"#,
    );
    write(
        "path.json",
        r#"{"operation": "caption", "url_video": "v.mp4", "url_srt": "http://x/s"}"#,
    );
    write(
        "private.json",
        r#"{"operation": "img2vid", "images": [{"image_url": "http://10.0.0.1/a", "duration": 1}]}"#,
    );
    let cases: [(&str, i32, &[&str]); 8] = [
        ("run --input none.json", 64, &["none.json", "No such file"]),
        (
            "run --input text.json",
            64,
            &["text.json is not JSON", "line 1"],
        ),
        (
            "run --input wrong.json",
            64,
            &["/images", "/fps", "/width", "out_of_range"],
        ),
        (
            "run --input path.json",
            64,
            &["/url_video", "v.mp4", "nor a file"],
        ),
        (
            "run --input private.json",
            1,
            &["input_refused", "PHOTOFINISH__OUTBOUND__INPUTS__ALLOW"],
        ),
        ("run --imput x", 64, &["--imput"]),
        ("walk", 64, &["walk"]),
        (
            "run --input wrong.json --config none.toml",
            64,
            &["/images"],
        ),
    ];
    for (words, code, parts) in cases {
        let words = format!("{words} --out out");
        let done = done(program(dir.path(), &words)).await;
        let said = text(&done.stdout) + &text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{words}: {said}");
        for part in parts {
            assert!(said.contains(part), "{words}: {part:?} is not in {said}");
        }
        assert_eq!(left(dir.path()), [""; 0], "{words}");
    }
}

#[tokio::test]
async fn what_the_machine_lacks_is_said_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.png"), png(&detailed(96, 64))).unwrap();
    let image = json!({"image_url": "a.png", "duration": 1});
    job(
        dir.path(),
        &json!({"operation": "img2vid", "images": [image]}),
    );
    let cases = [
        (
            "PHOTOFINISH__ENCODER__FFMPEG",
            "/nowhere/ffmpeg",
            1,
            "photofinish-worker doctor",
        ),
        ("PHOTOFINISH__WORKER__JOBS_MAX", "0", 78, "worker.jobs_max"),
        ("PHOTOFINISH__ENCODER__CHOISE", "x264", 78, "encoder.choise"),
    ];
    for (name, value, code, part) in cases {
        let mut command = program(dir.path(), "run --input job.json --out out");
        command.env(name, value);
        let done = done(command).await;
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{name}: {said}");
        assert!(
            said.contains(part) && done.stdout.is_empty(),
            "{name}: {said}"
        );
        let mut command = program(dir.path(), "run --input job.json --out out --json");
        command.env(name, value);
        let said: Value = serde_json::from_slice(&self::done(command).await.stdout).unwrap();
        assert!(
            said["error"]["detail"].as_str().unwrap().contains(part),
            "{said}"
        );
    }
}

/// As a terminal does it: the whole group of processes gets the signal, ffmpeg too.
#[tokio::test]
async fn an_interrupted_job_keeps_what_is_ready_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.png"), png(&detailed(640, 360))).unwrap();
    let image =
        |id: &str, seconds: f64| json!({"id": id, "image_url": "a.png", "duration": seconds});
    let images = [image("short", 0.1), image("long", 600.0)];
    job(
        dir.path(),
        &json!({"operation": "img2vid", "images": images}),
    );
    let mut command = program(dir.path(), "run --input job.json --out out");
    let running = command.process_group(0).spawn().unwrap();
    let group = format!("-{}", running.id());
    let out = dir.path().join("out");
    let half = || {
        let mut entries = std::fs::read_dir(&out).ok()?;
        entries.find(|entry| {
            let scratch = entry.as_ref().unwrap().path();
            scratch.join("made/0001-long.part").exists()
        })
    };
    wait_for(SOON, "a clip and a half", || async {
        half()?.unwrap();
        // What is ready lies in its place while others are made.
        out.join("0000-short.mp4").exists().then_some(())
    })
    .await
    .unwrap();
    let sent = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(sent.unwrap().success());
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap());
    let ended = tokio::time::timeout(SOON, ended).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended.stdout));
    let told = text(&ended.stderr);
    assert!(
        !told.contains("failed"),
        "what was stopped has not failed: {told}"
    );
    let table = text(&ended.stdout);
    assert!(
        table.contains("0000-short.mp4") && table.contains("stopped: 1 made, 0 failed"),
        "{table}"
    );
    assert_eq!(left(dir.path()), ["0000-short.mp4"]);
}

#[tokio::test]
async fn a_signal_ends_a_trial_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.png"), png(&detailed(96, 64))).unwrap();
    let image = json!({"image_url": "a.png", "duration": 1});
    job(
        dir.path(),
        &json!({"operation": "img2vid", "images": [image]}),
    );
    let hanging = dir.path().join("ffmpeg");
    let script = "#!/bin/sh\n: > \"$0.begun\"\nexec sleep 600\n";
    std::fs::write(&hanging, script).unwrap();
    std::fs::set_permissions(&hanging, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = program(dir.path(), "run --input job.json --out out --json");
    let running = command
        .env("PHOTOFINISH__ENCODER__FFMPEG", &hanging)
        .spawn()
        .unwrap();
    let begun = dir.path().join("ffmpeg.begun");
    wait_for(SOON, "a trial", || async { begun.exists().then_some(()) })
        .await
        .unwrap();
    let since = Instant::now();
    let pid = running.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().unwrap());
    let ended = ended.await.unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended.stdout));
    // The trial itself would have taken 20 s.
    assert!(since.elapsed() < Duration::from_secs(15));
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&said["stopped"], &said["error"]["code"]),
        (&json!(true), &json!("worker_stopping"))
    );
    assert_eq!(left(dir.path()), [""; 0]);
}

#[tokio::test]
async fn what_lies_in_the_output_directory_costs_no_other_item_and_no_input() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("out/0000-a.mp4")).unwrap();
    std::fs::write(dir.path().join("a.png"), png(&detailed(96, 64))).unwrap();
    let image = |id: &str| json!({"id": id, "image_url": "a.png", "duration": 0.1});
    let images = [image("a"), image("b")];
    let body = json!({"operation": "img2vid", "width": 96, "height": 64, "images": images});
    job(dir.path(), &body);
    let run = || done(program(dir.path(), "run --input job.json --out out --json"));
    let ended = run().await;
    assert_eq!(ended.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&said["outputs"][0]["item"], &said["errors"][0]["item"]),
        (&json!("b"), &json!("a"))
    );
    let detail = said["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("give another --out"), "{detail}");
    assert_eq!(left(dir.path()), ["0000-a.mp4", "0001-b.mp4"]);

    let own = dir.path().join("out/0000-video.mp4");
    std::fs::write(&own, "the only copy").unwrap();
    let url = "out/0000-video.mp4";
    let body = json!({"operation": "addaudio", "url_video": url, "url_audio": "a.png"});
    job(dir.path(), &body);
    let ended = run().await;
    assert_eq!(ended.status.code(), Some(64), "{}", text(&ended.stdout));
    assert!(text(&ended.stdout).contains("would be overwritten"));
    assert_eq!(std::fs::read(own).unwrap(), b"the only copy");
}

/// A free slot takes the next item at once; the old system waited for the whole batch.
#[tokio::test]
async fn a_slow_item_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.png"), png(&detailed(320, 180))).unwrap();
    let image =
        |id: &str, seconds: f64| json!({"id": id, "image_url": "a.png", "duration": seconds});
    let quick = ["b", "c", "d", "e", "f"].map(|id| image(id, 0.1));
    let images: Vec<Value> = [image("a", 60.0)].into_iter().chain(quick).collect();
    let body = json!({"operation": "img2vid", "width": 320, "height": 180, "images": images});
    job(dir.path(), &body);
    let mut command = program(dir.path(), "run --input job.json --out out");
    command.env("BATCH_SIZE", "2");
    let done = done(command).await;
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stdout));
    let told = text(&done.stderr);
    let made = told.lines().filter(|line| line.starts_with("made "));
    let made: Vec<&str> = made.collect();
    assert_eq!(made.len(), 6, "{told}");
    assert!(made[5].ends_with("0000-a.mp4"), "{told}");
}

fn checks(done: &Output) -> (bool, impl Fn(&str, &str) -> String) {
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap().clone();
    let field = move |name: &str, field: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        assert!(check.is_some(), "no check {name} in {said}");
        let check = check.unwrap();
        check[field].as_str().unwrap_or_default().to_owned()
    };
    let well = serde_json::from_slice::<Value>(&done.stdout).unwrap()["ok"] == true;
    (well, field)
}

#[tokio::test]
async fn the_doctor_finds_this_machine_fit() {
    let dir = tempfile::tempdir().unwrap();
    let done = done(program(dir.path(), "doctor --json")).await;
    let (well, field) = checks(&done);
    assert!(well && done.status.success(), "{}", text(&done.stdout));
    for name in [
        "settings",
        "encoder",
        "ffmpeg",
        "renderer",
        "processors",
        "RunPod",
    ] {
        assert_eq!(field(name, "state"), "ok", "{name}");
    }
    assert!(field("ffmpeg", "found").contains("libass"));
    assert!(field("fonts", "found").contains("Latin"));
    assert!(field("memory", "found").contains("MiB"));
}

/// What is looked at with one set of variables, and what it is to say.
type Case = (
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [Case; 4] = [
        (
            &[
                ("PHOTOFINISH__ENCODER__FFMPEG", "/nowhere/ffmpeg"),
                ("WORK_DIR", "/proc/work"),
                ("RUNPOD_WEBHOOK_GET_JOB", "http://x"),
            ],
            &[
                ("ffmpeg", "apt-get install ffmpeg"),
                ("encoder", "libx264"),
                ("work_dir", "WORK_DIR"),
                ("RunPod", "RunPod sets these"),
            ],
        ),
        (
            &[("PHOTOFINISH__ENCODER__CHOICE", "nvenc")],
            &[("encoder", "NVIDIA_DRIVER_CAPABILITIES")],
        ),
        (&[("PATH", "/nowhere")], &[("ffmpeg", "util-linux")]),
        (&[("BATCH_SIZE", "many")], &[("settings", "--print-config")]),
    ];
    for (variables, wrong) in cases {
        let mut command = program(dir.path(), "doctor --json");
        command.envs(variables.iter().copied());
        let done = done(command).await;
        let (well, field) = checks(&done);
        assert!(!well, "{variables:?}: {}", text(&done.stdout));
        assert_eq!(done.status.code(), Some(1), "{variables:?}");
        for &(name, advice) in wrong {
            assert_eq!(field(name, "state"), "wrong", "{name}");
            let given = field(name, "advice");
            assert!(given.contains(advice), "{given}");
        }
    }
    let done = done(program(dir.path(), "doctor")).await;
    let table = text(&done.stdout);
    assert!(table.starts_with("ok       settings"), "{table}");
    assert!(!table.contains('\x1b'), "no colours in a pipe: {table}");
}
