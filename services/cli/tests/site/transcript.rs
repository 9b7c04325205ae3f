//! The transcript in the README, replayed: the same commands must say the same.
//!
//! Ids, times, sizes and measured seconds differ from run to run: words with a digit in them are compared only where
//! they are whole numbers; so are keys and whoever's home. Widths of columns do not count. A line `...` stands for any
//! lines.

use crate::bench::{Bench, told};
use std::fmt::Write as _;

const README: &str = include_str!("../../README.md");
/// Between the outputs of two commands.
const MARK: &str = "\u{1}next\u{1}";

/// One command and what it said.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    command: String,
    said: Vec<String>,
}

/// Replays it; an error tells the first difference and the whole session as it is now.
pub(crate) async fn replayed(bench: &Bench) -> Result<(), String> {
    let wanted = steps(README);
    assert!(wanted.len() > 10, "the README has no transcript");
    let mut script = String::new();
    for step in &wanted {
        let _ok = writeln!(script, "{}\nprintf '{MARK}'", step.command);
    }
    let mut command = bench.command("bash");
    command.arg("-c").arg(format!("exec 2>&1\n{script}"));
    let said = told(command).await.out;
    let now: Vec<Step> = wanted
        .iter()
        .zip(said.split(MARK))
        .map(|(step, said)| Step {
            command: step.command.clone(),
            said: said.lines().map(str::to_owned).collect(),
        })
        .collect();
    let session: String = now.iter().map(Step::text).collect();
    if now.len() < wanted.len() {
        return Err(format!("the session broke off:\n{session}"));
    }
    for (wanted, now) in wanted.iter().zip(&now) {
        if !fits(&wanted.said, &now.said) {
            return Err(format!(
                "`{}` says\n{}\nand not\n{}\n\nThe whole session:\n\n{session}",
                now.command,
                now.said.join("\n"),
                wanted.said.join("\n")
            ));
        }
    }
    Ok(())
}

impl Step {
    fn text(&self) -> String {
        let mut text = format!("$ {}\n", self.command);
        for line in &self.said {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The commands of every `console` block.
fn steps(readme: &str) -> Vec<Step> {
    let (mut steps, mut inside): (Vec<Step>, bool) = (Vec::new(), false);
    for line in readme.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (false, _) => {}
            (true, line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    said: Vec::new(),
                }),
                (None, Some(step)) => step.said.push(line.to_owned()),
                (None, None) => panic!("the transcript begins with {line:?}"),
            },
        }
    }
    steps
}

/// Whether what was said is what was wanted.
fn fits(wanted: &[String], said: &[String]) -> bool {
    let wanted: Vec<String> = lines(wanted);
    let said: Vec<String> = lines(said);
    match_lines(&wanted, &said)
}

fn match_lines(wanted: &[String], said: &[String]) -> bool {
    match (wanted.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((dots, rest)), _) if dots == "..." => {
            (0..=said.len()).any(|skipped| match_lines(rest, &said[skipped..]))
        }
        (Some((one, wanted)), Some((other, said))) => one == other && match_lines(wanted, said),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Lines as they are compared; empty ones do not count.
fn lines(lines: &[String]) -> Vec<String> {
    let compared = lines.iter().map(|line| {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        words.join(" ")
    });
    compared.filter(|line| !line.is_empty()).collect()
}

fn word(word: &str) -> String {
    let bare = word.trim_end_matches([',', '.', ':', ')', '…', '`', ';']);
    let tail = &word[bare.len()..];
    let whole = bare.len() <= 6 && bare.bytes().all(|byte| byte.is_ascii_digit());
    let item = bare.strip_prefix("image").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let secret = ["pf_", "op_", "whsec_"]
        .iter()
        .any(|head| bare.starts_with(head));
    let home = bare.contains("/.config/");
    let unit = ["B", "KiB", "MiB"].contains(&bare);
    if secret || home || unit || (!whole && !item && bare.bytes().any(|byte| byte.is_ascii_digit()))
    {
        format!("#{tail}")
    } else {
        word.to_owned()
    }
}

#[test]
fn what_differs_from_run_to_run_does_not_count_and_the_rest_does() {
    let line = |text: &str| vec![text.to_owned()];
    let same = [
        ("job_1a2b completed  3/3", "job_ff0e   completed 2/3"),
        ("size 38.8 KiB", "size 1.2 MiB"),
        (
            "created 2026-11-22T10:00:00Z",
            "created 2026-11-23T11:11:11Z",
        ),
        (
            "http://127.0.0.1:8080 answers",
            "http://127.0.0.1:4321 answers",
        ),
    ];
    for (one, other) in same {
        assert!(fits(&line(one), &line(other)), "{one} | {other}");
    }
    let other = [
        ("3 of 3 stored", "2 of 3 stored"),
        ("image1 stored", "image2 stored"),
        ("status completed", "status failed"),
    ];
    for (one, other) in other {
        assert!(!fits(&line(one), &line(other)), "{one} | {other}");
    }
    let any = ["a", "...", "z"].map(str::to_owned);
    assert!(fits(&any, &["a", "b", "c", "z"].map(str::to_owned)));
    assert!(!fits(&any, &["a", "b"].map(str::to_owned)));
}
