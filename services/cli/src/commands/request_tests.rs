use super::*;
use crate::args::{Args, Command};
use clap::Parser as _;

fn draft(words: &[&str]) -> Result<Draft, CliError> {
    let line = ["photofinish", "submit"].iter().chain(words);
    let args = Args::try_parse_from(line).unwrap();
    let Command::Submit(submit) = args.command else {
        panic!("not a submit")
    };
    read(&submit.request)
}

fn refusal(words: &[&str]) -> String {
    let error = draft(words).unwrap_err();
    assert_eq!(error.exit_code(), 64, "{error}");
    error.to_string()
}

const A: &str = "https://example.com/a.jpg";
const B: &str = "https://example.com/b.jpg";

#[test]
fn flags_make_each_operation() {
    let one = draft(&["img2vid", A, B, "--duration", "3", "--motion", "still"]).unwrap();
    assert_eq!(
        one.body,
        json!({"operation": "img2vid", "motion": "still", "images": [
            {"image_url": A, "duration": 3.0}, {"image_url": B, "duration": 3.0}]})
    );
    let each = draft(&[
        "img2vid",
        A,
        B,
        "--duration",
        "1",
        "--duration",
        "2",
        "--motion",
        "still",
        "--motion",
        "zoom_in",
        "--width",
        "640",
        "--fit",
        "contain",
        "--on-item-error",
        "skip",
    ]);
    assert_eq!(
        each.unwrap().body,
        json!({"operation": "img2vid", "width": 640, "fit": "contain", "on_item_error": "skip",
            "images": [{"image_url": A, "duration": 1.0, "motion": "still"},
                       {"image_url": B, "duration": 2.0, "motion": "zoom_in"}]})
    );
    let caption = draft(&["add_caption", A, B, "--size", "7.5", "--bold"]).unwrap();
    assert_eq!(
        caption.body,
        json!({"operation": "caption", "url_video": A, "url_srt": B,
            "style": {"size": 7.5, "bold": true}})
    );
    let sound = draft(&["addaudio", A, B, "--timing", "reencode"]).unwrap();
    assert_eq!(
        sound.body,
        json!({"operation": "addaudio", "url_video": A, "url_audio": B, "timing": "reencode"})
    );
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    for (words, part) in [
        (vec!["img2vid"], "needs pictures"),
        (vec!["img2vid", A], "--duration 3"),
        (
            vec!["img2vid", A, B, B, "--duration", "1", "--duration", "2"],
            "2 times for 3 pictures",
        ),
        (vec!["caption", A], "1 input(s) were given"),
        (
            vec!["caption", A, B, "--duration", "3"],
            "a flag for img2vid",
        ),
        (
            vec!["img2vid", A, "--duration", "3", "--bold"],
            "a flag for caption",
        ),
        (vec!["addaudio", A, B, B], "3 input(s)"),
        (vec!["img2vdi", A, B], "did you mean img2vid"),
        (vec!["captoin"], "did you mean caption"),
        (vec!["addaudio", A, "/no/such.mp3"], "/no/such.mp3"),
        (vec!["/no/such.json"], "/no/such.json"),
    ] {
        let said = refusal(&words);
        assert!(said.contains(part), "{words:?}: {said}");
    }
}

#[test]
fn a_file_is_sent_as_it_is_with_flags_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("job.json");
    std::fs::write(dir.path().join("a b.jpg"), "picture").unwrap();
    std::fs::write(
        &file,
        r#"{"operation": "img2vid", "priority": "low", "metadata": {"a": 1, "b": 2},
            "images": [{"image_url": "a b.jpg", "duracao": 1}, {"image_url": "ftp://x/y"}]}"#,
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let made = draft(&[
        path,
        "--priority",
        "high",
        "--deadline",
        "15m",
        "--metadata",
        "b=x",
        "--webhook-url",
        A,
    ])
    .unwrap();
    assert_eq!(made.body["priority"], "high");
    assert_eq!(made.body["deadline_s"], 900);
    assert_eq!(made.body["metadata"], json!({"a": 1, "b": "x"}));
    assert_eq!(made.body["webhook_url"], A);
    let picture = dir.path().join("a b.jpg");
    assert_eq!(made.files, [("/images/0/image_url".to_owned(), picture)]);
    let mut made = made;
    stand_ins(&mut made);
    let stood = made.body["images"][0]["image_url"].as_str().unwrap();
    assert!(stood.starts_with("https://"), "{stood}");
    assert_eq!(made.body["images"][1]["image_url"], "ftp://x/y");
    assert!(refusal(&[path, "--duration", "3"]).contains("a flag for img2vid"));
    std::fs::write(&file, "{\"operation\": }").unwrap();
    assert!(refusal(&[path]).contains("is not JSON"));
}
