//! How far a job is, on a terminal: a bar, and where its parts are known one for each.

use crate::output::Output;
use crate::render;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use photofinish_contract::job::{Job, OutputRow, OutputStatus};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Bars of parts at most: more would not fit on a terminal.
const PART_BARS_MAX: usize = 16;

/// How a run was split, as the service tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Plan {
    /// The run.
    run: u32,
    /// Its parts.
    parts: Vec<Part>,
}

/// A part of the plan.
#[derive(Debug, Clone, Deserialize)]
struct Part {
    /// Which, from 0.
    part: u16,
    /// The items in it.
    items: Vec<u16>,
}

/// What is shown of a job.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: bool,
    all: MultiProgress,
    total: ProgressBar,
    /// The run whose parts are shown.
    run: u32,
    parts: Vec<(Part, ProgressBar)>,
    rows: BTreeMap<u16, OutputStatus>,
    last: String,
}

impl Progress {
    /// A bar on a terminal, else none.
    pub(crate) fn new(output: &Output) -> Self {
        let all = MultiProgress::new();
        let total = if output.bars {
            let style = style("{elapsed:>8} [{wide_bar}] {pos}/{len} {msg}");
            all.add(ProgressBar::new(0).with_style(style))
        } else {
            ProgressBar::hidden()
        };
        Self {
            bars: output.bars,
            all,
            total,
            run: 0,
            parts: Vec::new(),
            rows: BTreeMap::new(),
            last: String::new(),
        }
    }

    /// Whether the job's run has parts that are not shown.
    pub(crate) fn wants_parts(&self, job: &Job) -> bool {
        let several = (2..=PART_BARS_MAX).contains(&usize::from(job.usage.parts));
        self.bars && several && self.run != job.run && !job.status.is_final()
    }

    /// A bar for each part from now on, in the place of an older run's.
    pub(crate) fn split(&mut self, plan: Plan) {
        for (_, bar) in self.parts.drain(..) {
            bar.finish_and_clear();
        }
        self.run = plan.run;
        for part in plan.parts.into_iter().take(PART_BARS_MAX) {
            let bar = ProgressBar::new(part.items.len() as u64)
                .with_style(style("{prefix:>8} [{wide_bar}] {pos}/{len} {msg:9}"))
                .with_prefix(format!("part {}", part.part + 1));
            let bar = self.all.insert_before(&self.total, bar);
            self.parts.push((part, bar));
        }
    }

    /// Items that are somewhere else now.
    pub(crate) fn rows(&mut self, rows: &[OutputRow]) {
        let rows = rows.iter().map(|row| (row.index, row.status));
        self.rows.extend(rows);
    }

    /// Shows the job; gives the line that says so where there are no bars, if it is another than before.
    pub(crate) fn show(&mut self, job: &Job) -> Option<String> {
        let progress = &job.progress;
        let eta = progress
            .eta_s
            .map(|seconds| format!(", {} left", about(seconds)));
        let eta = eta.unwrap_or_default();
        self.total.set_length(u64::from(progress.items_total));
        self.total
            .set_position(u64::from(progress.items_done + progress.items_failed));
        self.total
            .set_message(format!("{}{eta}", job.status.as_str()));
        for (part, bar) in &self.parts {
            let (done, word) = state(part, &self.rows);
            bar.set_position(done);
            bar.set_message(word);
        }
        let line = format!("{}: {}", job.status.as_str(), render::items(job));
        if line == self.last {
            return None;
        }
        self.last.clone_from(&line);
        Some(format!("{line}{eta}"))
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        for (_, bar) in &self.parts {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

/// Items of a part that are settled, and a word for the rest.
fn state(part: &Part, rows: &BTreeMap<u16, OutputStatus>) -> (u64, &'static str) {
    let of = |wanted: &[OutputStatus]| {
        let items = part.items.iter().filter_map(|item| rows.get(item));
        items.filter(|status| wanted.contains(status)).count() as u64
    };
    let done = of(&[OutputStatus::Stored, OutputStatus::Failed]);
    let word = if done == part.items.len() as u64 {
        "done"
    } else if of(&[OutputStatus::Rendering, OutputStatus::Ready]) > 0 || done > 0 {
        "running"
    } else {
        "waiting"
    };
    (done, word)
}

/// A duration as a person says it.
fn about(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_as_far_as_its_items() {
        let part = Part {
            part: 1,
            items: vec![3, 4, 5],
        };
        let mut rows = BTreeMap::from([(0, OutputStatus::Stored), (3, OutputStatus::Pending)]);
        assert_eq!(state(&part, &rows), (0, "waiting"));
        rows.insert(3, OutputStatus::Rendering);
        assert_eq!(state(&part, &rows), (0, "running"));
        rows.extend([(3, OutputStatus::Stored), (4, OutputStatus::Failed)]);
        assert_eq!(state(&part, &rows), (2, "running"));
        rows.insert(5, OutputStatus::Stored);
        assert_eq!(state(&part, &rows), (3, "done"));
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(about(7.4), "7 s");
        assert_eq!(about(74.0), "1 min 14 s");
        assert_eq!(about(7321.0), "2 h 2 min");
    }
}
