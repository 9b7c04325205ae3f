//! On a pseudo-terminal, which `script` makes.

use crate::bench::{Bench, PROGRAM, told};
use console::{measure_text_width, strip_ansi_codes};
use serde_json::json;

/// What a terminal of so many columns shows of a command.
async fn seen(bench: &Bench, columns: u16, words: &str, settings: &[(&str, &str)]) -> String {
    let mut command = bench.command("script");
    command.envs(settings.iter().copied()).args([
        "-qec",
        &format!("stty rows 30 cols {columns}; {PROGRAM} {words}"),
        "/dev/null",
    ]);
    told(command).await.out
}

fn widest(text: &str) -> usize {
    let widths = text.lines().map(|line| {
        let line = line.rsplit('\r').find(|part| !part.is_empty());
        measure_text_width(line.unwrap_or_default())
    });
    widths.max().unwrap_or(0)
}

pub(crate) async fn tables_fit_and_colours_are_welcome_or_not(bench: &Bench) {
    for columns in [80, 120] {
        let text = seen(bench, columns, "list", &[]).await;
        assert!(widest(&text) <= usize::from(columns), "{columns}:\n{text}");
        let plain = strip_ansi_codes(&text);
        let head = plain.lines().next().unwrap_or_default();
        assert!(
            head.starts_with("job ") && head.contains("created"),
            "{text}"
        );
        assert!(text.contains("\u{1b}[32mcompleted\u{1b}[0m"), "{text:?}");
    }
    let narrow = seen(bench, 40, "list", &[]).await;
    let first = strip_ansi_codes(&narrow).lines().next().unwrap().to_owned();
    assert!(
        first.starts_with("job  ") && first.contains("job_"),
        "rows are blocks:\n{narrow}"
    );
    for (words, settings) in [
        ("list", [("NO_COLOR", "1")].as_slice()),
        ("list --color never", &[]),
    ] {
        let text = seen(bench, 120, words, settings).await;
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
    let forced = bench.run(&["list", "--color", "always"]).await.well();
    assert!(forced.out.contains('\u{1b}'), "{forced:?}");
    let piped = bench.run(&["list"]).await.well();
    assert!(!piped.out.contains('\u{1b}'), "{piped:?}");
}

pub(crate) async fn a_bar_for_each_part(bench: &Bench) {
    let pictures = ["sunrise.jpg", "noon.jpg", "dusk.jpg"];
    let images: Vec<_> = (0..60)
        .map(|n| json!({"image_url": pictures[n % 3], "duration": 0.5}))
        .collect();
    let body = json!({"operation": "img2vid", "width": 128, "height": 72, "frame_rate": 12,
        "images": images});
    std::fs::write(bench.path("many.json"), body.to_string()).unwrap();
    let plan = bench.run(&["estimate", "many.json", "--json"]).await.well();
    let parts = plan.json()["parts"].as_array().unwrap().len();
    assert!(parts > 1, "{plan:?}");
    // Watched by somebody who did not submit it.
    let words = "watch $(photofinish submit many.json --quiet)";
    let text = seen(bench, 80, words, &[]).await;
    for part in 1..=parts {
        assert!(text.contains(&format!("part {part}")), "{text:?}");
    }
    assert!(text.contains(" left"), "an ETA: {text:?}");
    let end = strip_ansi_codes(&text);
    assert!(end.contains("60 of 60 stored"), "{end}");
}
