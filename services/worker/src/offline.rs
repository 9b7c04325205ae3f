//! One job by hand: the public job request in, files out, with the same code as on a GPU.
//!
//! Guarantee: nothing is served, announced or pushed. Exit code 0 only if every item succeeded.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use photofinish_contract::announcement::{Announcement, AnnouncementKind};
use photofinish_contract::attempt_input::{PictureItem, Work};
use photofinish_contract::request::{self, JobRequest, Task, frame_count};
use photofinish_model::Nonce;
use photofinish_outbound::Outbound;
use photofinish_runtime::config::{Sources, environment, load};
use photofinish_runtime::install_crypto;
use serde_json::Value;

use crate::attempt::directories::Directories;
use crate::attempt::rendering;
use crate::attempt::state::Policy;
use crate::attempt::take::{Speaker, Take};
use crate::config::{DEFAULTS, ENV_ALIASES, Settings};
use crate::machine;
use crate::operations::studio::Studio;

/// What is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Offline {
    /// The job request, or `{"input": <job request>}`, as JSON
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Where the outputs go
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Does the job and prints a table.
pub fn run(offline: &Offline) -> ExitCode {
    install_crypto();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error)),
    };
    match runtime.block_on(render(offline)) {
        Ok(last) => {
            print(&last, &offline.out);
            if last.errors.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "{error:#}"));
    ExitCode::FAILURE
}

async fn render(offline: &Offline) -> anyhow::Result<Announcement> {
    let work = work_of(&read(&offline.input)?);
    let sources = Sources {
        defaults: DEFAULTS.to_owned(),
        file: offline.config.clone(),
        env: environment(),
        aliases: ENV_ALIASES
            .iter()
            .map(|&(a, b)| (a.to_owned(), b.to_owned()))
            .collect(),
        overrides: Vec::new(),
    };
    let settings: Settings = load(&sources)?;
    let config = settings
        .config(machine::cpus())
        .map_err(|faults| anyhow::anyhow!("settings: {}", faults.join("; ")))?;
    let studio = Studio::new(config.studio, Outbound::new(config.policy)?);
    std::fs::create_dir_all(&offline.out).context("make the output directory")?;
    let out = offline.out.canonicalize()?;
    let scratch = tempfile::tempdir().context("make a directory for inputs")?;
    let (work_dir, made_dir) = (scratch.path().join("work"), scratch.path().join("made"));
    std::fs::create_dir_all(&work_dir)?;
    std::fs::create_dir_all(&made_dir)?;
    let dirs = Directories {
        work: work_dir,
        output: made_dir,
    };
    let take = take(&work, &dirs.output);
    let bar = indicatif::ProgressBar::new(take.items().len() as u64);
    let mut news = take.announcements();
    tokio::select! {
        () = rendering::render(&studio, &take, &work, &dirs) => {}
        () = async {
            while news.changed().await.is_ok() {
                let done = news.borrow().as_ref().map_or(0, |n| n.outputs.len() + n.errors.len());
                bar.set_position(done as u64);
            }
        } => {}
    }
    bar.finish_and_clear();
    let last = take.announcement(AnnouncementKind::Final);
    for output in &last.outputs {
        std::fs::copy(dirs.output.join(&output.name), out.join(&output.name))
            .with_context(|| format!("keep {}", output.name))?;
    }
    Ok(last)
}

fn read(path: &Path) -> anyhow::Result<JobRequest> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let mut body: Value = serde_json::from_slice(&text).context("the input is not JSON")?;
    if let Some(inner) = body.get_mut("input") {
        body = inner.take();
    }
    request::parse(&body).map_err(|fault| {
        let faults: Vec<String> = fault
            .errors
            .iter()
            .map(|error| format!("{} {}: {}", error.pointer, error.code, error.detail))
            .collect();
        anyhow::anyhow!("the job request is refused:\n  {}", faults.join("\n  "))
    })
}

/// The whole job as one part.
fn work_of(request: &JobRequest) -> Work {
    match &request.task {
        Task::Img2vid(task) => Work::Img2vid {
            frame_rate: task.frame_rate,
            width: task.width,
            height: task.height,
            fit: task.fit,
            items: (0..)
                .zip(&task.images)
                .map(|(index, image)| PictureItem {
                    index,
                    item: image.id.clone(),
                    image_url: image.image_url.clone(),
                    frames: frame_count(image.duration_s, task.frame_rate),
                    motion: image.motion,
                })
                .collect(),
        },
        Task::Caption(task) => Work::Caption {
            url_video: task.url_video.clone(),
            url_srt: task.url_srt.clone(),
            style: task.style.clone(),
        },
        Task::Addaudio(task) => Work::Addaudio {
            url_video: task.url_video.clone(),
            url_audio: task.url_audio.clone(),
            timing: task.timing,
        },
    }
}

fn take(work: &Work, output: &Path) -> Arc<Take> {
    let nonce = Nonce::from_random(rand::random());
    let speaker = Speaker {
        run_id: "offline".to_owned(),
        worker_id: "offline".to_owned(),
        boot: nonce.to_string(),
        nonce,
        addresses: Vec::new(),
    };
    // Nothing drives this taking, so its times mean nothing.
    let policy = Policy {
        budget: Duration::ZERO,
        rescue_reserve: Duration::ZERO,
        linger: Duration::ZERO,
        first_contact: Duration::ZERO,
    };
    let items = rendering::items_of(work);
    Take::new(
        speaker,
        "",
        output.to_owned(),
        items,
        policy,
        Instant::now(),
    )
}

fn print(last: &Announcement, out: &Path) {
    let mut table = format!("{:<48} {:>10} {:>12}\n", "output", "seconds", "bytes");
    for output in &last.outputs {
        let path = out.join(&output.name);
        let _written = writeln!(
            table,
            "{:<48} {:>10.3} {:>12}",
            path.display(),
            output.duration_s,
            output.bytes
        );
    }
    for error in &last.errors {
        let fault = &error.fault;
        let _written = writeln!(
            table,
            "item {}: {}: {}",
            error.index, fault.code, fault.detail
        );
    }
    let (made, failed) = (last.outputs.len(), last.errors.len());
    let _written = writeln!(
        table,
        "{made} made, {failed} failed in {:.2} s",
        last.spent.taken_s
    );
    // Nobody is left to tell when standard output is closed.
    drop(std::io::stdout().write_all(table.as_bytes()));
}
