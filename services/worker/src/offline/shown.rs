//! What is seen of a job by hand: a bar or lines on standard error while it is done, then a table or
//! a JSON document.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use photofinish_contract::announcement::Announcement;
use photofinish_model::{Code, ItemIndex};
use serde_json::{Value, json};

use super::{Done, OfflineError};
use crate::attempt::take::Take;

/// Steps of the bar.
const STEPS: u64 = 1000;
const BAR: &str = "{bar:32} {percent:>3}%  {msg}  {elapsed_precise}, {eta} left";
/// Between two lines of progress where no terminal is.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How whoever is refused a private address gives leave.
const HOW_TO_ALLOW: &str = "to fetch from a private network, name it: \
    PHOTOFINISH__OUTBOUND__INPUTS__ALLOW=127.0.0.0/8 (a list of CIDRs, comma-separated)";

/// What people see while the job is done.
pub(super) struct Screen {
    out: PathBuf,
    kind: Kind,
    told: Vec<ItemIndex>,
}

enum Kind {
    Bar(ProgressBar),
    Lines { said_at: Instant },
    Silent,
}

impl Screen {
    pub(super) fn new(out: &Path, json: bool) -> Self {
        let bar = ProgressBar::new(STEPS);
        let kind = match (json, bar.is_hidden()) {
            (true, _) => Kind::Silent,
            (false, true) => Kind::Lines {
                said_at: Instant::now(),
            },
            (false, false) => {
                // The template is ours and right; were it not, the bar would look plain.
                let style = ProgressStyle::with_template(BAR);
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                Kind::Bar(bar)
            }
        };
        Self {
            out: out.to_owned(),
            kind,
            told: Vec::new(),
        }
    }

    /// Shows how far the items of a taking are, of which `now` tells what has ended.
    pub(super) fn look(&mut self, take: &Take, now: &Announcement) {
        if matches!(self.kind, Kind::Silent) {
            return;
        }
        let done = now.outputs.len() + now.errors.len();
        let ended = |index| {
            now.outputs.iter().any(|output| output.index == index)
                || now.errors.iter().any(|error| error.index == index)
        };
        let fractions = take.items().iter().map(|item| {
            if ended(item.index) {
                1.0
            } else {
                item.progress.get()
            }
        });
        let all = take.items().len();
        let fraction = fractions.sum::<f64>() / all.max(1) as f64;
        let message = format!("{done} of {all}");
        let lines = news(take, now, &self.out, &mut self.told);
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Bar(bar) => {
                for line in lines.iter().filter(|line| line.starts_with("failed")) {
                    bar.println(line);
                }
                bar.set_message(message);
                bar.set_position((fraction * STEPS as f64) as u64);
            }
            Kind::Lines { said_at } => {
                for line in &lines {
                    say(line);
                }
                if said_at.elapsed() >= SAY_AGAIN_AFTER {
                    *said_at = Instant::now();
                    say(&format!("{:.0}%, {message}", fraction * 100.0));
                }
            }
        }
    }

    pub(super) fn end(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

/// A line for each item that has ended since the last time.
fn news(take: &Take, now: &Announcement, out: &Path, told: &mut Vec<ItemIndex>) -> Vec<String> {
    let mut lines = Vec::new();
    for output in &now.outputs {
        if !told.contains(&output.index) {
            told.push(output.index);
            let path = out.join(&output.name);
            lines.push(format!("made {}", path.display()));
        }
    }
    for error in &now.errors {
        if !told.contains(&error.index) {
            told.push(error.index);
            let item = take.items().iter().find(|item| item.index == error.index);
            let id = item.map_or("", |item| &item.id);
            lines.push(format!("failed {id}: {}", error.fault.code));
        }
    }
    lines
}

fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The table of what came of a job.
pub(super) fn table(done: &Done) -> String {
    let Done {
        last, out, stopped, ..
    } = done;
    let mut table = String::new();
    // Writing to a String cannot fail.
    let mut line = |text: &str| {
        let _written = writeln!(table, "{}", text.trim_end());
    };
    let shown = |name: &str| out.join(name).display().to_string();
    let widest = last.outputs.iter().map(|output| shown(&output.name).len());
    let width = widest.max().unwrap_or(0);
    if !last.outputs.is_empty() {
        let heads = ["length", "bytes", "encoder", "took"];
        let [length, bytes, encoder, took] = heads;
        line(&format!(
            "{:<width$}  {length:>10}  {bytes:>11}  {encoder:<10}  {took:>8}",
            "output"
        ));
    }
    for output in &last.outputs {
        line(&format!(
            "{:<width$}  {:>8.3} s  {:>11}  {:<10}  {:>6.2} s",
            shown(&output.name),
            output.duration_s,
            output.bytes,
            output.encoder.as_deref().unwrap_or("none"),
            output.render_s.unwrap_or_default(),
        ));
    }
    for error in &last.errors {
        let id = done.id(error.index);
        let fault = &error.fault;
        line(&format!("item {id}: {}: {}", fault.code, fault.detail));
    }
    if refused(last) {
        line(HOW_TO_ALLOW);
    }
    let (made, failed) = (last.outputs.len(), last.errors.len());
    let end = if *stopped { "stopped: " } else { "" };
    line(&format!(
        "{end}{made} made, {failed} failed in {:.2} s",
        last.spent.taken_s
    ));
    table
}

fn refused(last: &Announcement) -> bool {
    let codes = last.errors.iter().map(|error| error.fault.code);
    codes.into_iter().any(|code| code == Code::InputRefused)
}

impl Done {
    fn id(&self, index: ItemIndex) -> &str {
        self.ids.get(usize::from(index)).map_or("?", String::as_str)
    }
}

/// The same as JSON.
pub(super) fn document(done: &Done) -> String {
    let last = &done.last;
    let outputs = last.outputs.iter().map(|output| {
        json!({
            "index": output.index,
            "item": output.item,
            "path": done.out.join(&output.name),
            "bytes": output.bytes,
            "sha256": output.sha256,
            "duration_s": output.duration_s,
            "encoder": output.encoder,
            "took_s": output.render_s,
        })
    });
    let errors = last.errors.iter().map(|error| {
        json!({
            "index": error.index,
            "item": done.id(error.index),
            "code": error.fault.code,
            "detail": error.fault.detail,
            "permanent": error.permanent,
        })
    });
    let mut document = json!({
        "ok": last.errors.is_empty() && !done.stopped,
        "stopped": done.stopped,
        "outputs": outputs.collect::<Vec<Value>>(),
        "errors": errors.collect::<Vec<Value>>(),
        "took_s": last.spent.taken_s,
    });
    if refused(last) {
        document["hint"] = HOW_TO_ALLOW.into();
    }
    format!("{document:#}\n")
}

/// Why nothing was begun, as JSON.
pub(super) fn error_document(error: &OfflineError) -> String {
    let mut fault = json!({ "code": error.code(), "detail": chain(error) });
    if let OfflineError::Refused(refused) = error {
        fault["errors"] = json!(refused.errors);
    }
    let stopped = matches!(error, OfflineError::Stopped);
    let document =
        json!({ "ok": false, "stopped": stopped, "outputs": [], "errors": [], "error": fault });
    format!("{document:#}\n")
}

/// Why nothing was begun, for people.
pub(super) fn complaint(error: &OfflineError) -> String {
    let mut text = format!("error: {}\n", chain(error));
    if let OfflineError::Refused(refused) = error {
        for error in &refused.errors {
            let pointer = if error.pointer.is_empty() {
                "(whole)"
            } else {
                &error.pointer
            };
            let _written = writeln!(text, "  {pointer}: {} ({})", error.detail, error.code);
        }
    }
    text
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    causes.join(": ")
}
