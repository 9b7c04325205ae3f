//! Live progress: bars on a terminal, else a plain line each second.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use photofinish_contract::job::Job;

use crate::jobs::{self, Finished, Submitted};
use crate::say::say;
use crate::wiring::Wiring;

const POLL: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(1);

/// What is shown.
#[derive(Debug)]
struct Board {
    bars: Option<Vec<ProgressBar>>,
    last_line: Instant,
}

impl Board {
    fn new(jobs: &[Submitted]) -> Self {
        let bars = std::io::stdout().is_terminal().then(|| {
            let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
            let bar = |job: &Submitted| {
                let bar = all.add(ProgressBar::new(job.ask.expected.items.len() as u64));
                bar.set_style(style());
                bar.set_prefix(job.ask.name);
                bar
            };
            jobs.iter().map(bar).collect()
        });
        Self {
            bars,
            last_line: Instant::now(),
        }
    }

    fn show(&mut self, jobs: &[Submitted], states: &[Option<Job>]) {
        if let Some(bars) = &self.bars {
            for (bar, job) in bars.iter().zip(states) {
                let Some(job) = job else { continue };
                bar.set_position(u64::from(job.progress.items_done));
                bar.set_message(job.status.as_str());
            }
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let part = |(job, state): (&Submitted, &Option<Job>)| match state {
                Some(state) => format!(
                    "{} {} {}/{}",
                    job.ask.name,
                    state.status.as_str(),
                    state.progress.items_done,
                    state.progress.items_total
                ),
                None => format!("{} submitted", job.ask.name),
            };
            let parts: Vec<_> = jobs.iter().zip(states).map(part).collect();
            say(format!("  {}", parts.join(" | ")));
        }
    }

    fn end(&self) {
        for bar in self.bars.iter().flatten() {
            bar.abandon();
        }
    }
}

fn style() -> ProgressStyle {
    let template = "  {prefix:<18} {bar:30} {pos:>3}/{len:<3} {msg:<10} {elapsed}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Follows jobs to their end and shows how far they are; an error names those that have not ended in time.
pub async fn follow(
    http: &reqwest::Client,
    wiring: &Wiring,
    submitted: Vec<Submitted>,
    within: Duration,
) -> anyhow::Result<Vec<Finished>> {
    let deadline = Instant::now() + within;
    let mut board = Board::new(&submitted);
    let mut states: Vec<Option<Job>> = vec![None; submitted.len()];
    let mut took = vec![Duration::ZERO; submitted.len()];
    loop {
        for (index, job) in submitted.iter().enumerate() {
            if !states[index]
                .as_ref()
                .is_some_and(|state| state.status.is_final())
            {
                states[index] = Some(jobs::get(http, wiring, &job.id).await?);
                took[index] = job.at.elapsed();
            }
        }
        board.show(&submitted, &states);
        let ended: Vec<Job> = states
            .iter()
            .flatten()
            .filter(|job| job.status.is_final())
            .cloned()
            .collect();
        if ended.len() == submitted.len() {
            board.end();
            let finished = submitted.into_iter().zip(ended).zip(took);
            return Ok(finished
                .map(|((submitted, job), took)| Finished {
                    ask: submitted.ask,
                    job,
                    took,
                })
                .collect());
        }
        if Instant::now() > deadline {
            board.end();
            let left = submitted.iter().zip(&states).filter_map(|(job, state)| {
                let state = state.as_ref().filter(|state| !state.status.is_final())?;
                let progress = &state.progress;
                let status = state.status.as_str();
                let (done, total) = (progress.items_done, progress.items_total);
                Some(format!(
                    "{} ({}): {status}, {done} of {total} items",
                    job.ask.name, job.id
                ))
            });
            anyhow::bail!(
                "not done within {within:?}: {}",
                left.collect::<Vec<_>>().join("; ")
            );
        }
        tokio::time::sleep(POLL).await; // paced: the interval of a poll that has a deadline
    }
}
