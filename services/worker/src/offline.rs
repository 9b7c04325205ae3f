//! One job by hand: the public job request in, files out, with the same code as on a GPU.
//!
//! Nouns: the [`request`] is read and made into work; [`shown`] is what people and programs see.
//!
//! Guarantee: nothing is served, announced or pushed; a file is in the output directory as soon as it
//! is whole, and not before; unless it is killed, no directory of ours stays, whatever way it ends.
//! With `--json` standard output is one JSON document and nothing else, unless the command line
//! itself is wrong.
//!
//! | exit code | |
//! |---|---|
//! | 0 | every item was made |
//! | 1 | an item failed, or nothing could be made on this machine |
//! | 64 | the command or the job request is wrong; nothing was begun |
//! | 78 | the settings are wrong |
//! | 130 | stopped by a signal; what was ready by then is kept |

mod request;
mod shown;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use photofinish_contract::announcement::{Announcement, AnnouncementKind};
use photofinish_contract::attempt_input::Work;
use photofinish_contract::request::{RequestFault, Timing};
use photofinish_model::{Code, ItemIndex, Nonce};
use photofinish_outbound::Outbound;
use photofinish_runtime::config::{ConfigErrors, Sources, environment, load};
use photofinish_runtime::install_crypto;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::request::Job;
use self::shown::Screen;
use crate::attempt::directories::{Directories, output_name};
use crate::attempt::rendering;
use crate::attempt::state::Policy;
use crate::attempt::take::{Speaker, Take};
use crate::config::{DEFAULTS, ENV_ALIASES, Settings};
use crate::error::ItemFault;
use crate::machine;
use crate::media::ffmpeg::FfmpegError;
use crate::operations::studio::Studio;

/// The command or the job request is wrong: EX_USAGE of sysexits.h, as in the CLI.
pub const USAGE: u8 = 64;
const FAILED: u8 = 1;
const SETTINGS: u8 = 78;
const STOPPED: u8 = 130;
/// Between two looks at how far the work is.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Offline {
    /// The job request, or `{"input": <job request>}`, as JSON; `-` reads standard input. Where it
    /// wants a URL, the path of a file is taken too, relative to the job's own file
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Where the outputs go
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print one JSON document instead of a progress bar and a table
    #[arg(long)]
    pub json: bool,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    #[error("the job cannot be read from {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not JSON", path.display())]
    NotJson {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{pointer}: {text:?} is neither an http or https URL nor a file in {}", dir.display())]
    NoFile {
        pointer: String,
        text: String,
        dir: PathBuf,
    },
    #[error("the job request is refused")]
    Refused(RequestFault),
    #[error("{0}")]
    Settings(String),
    #[error("ffmpeg cannot encode here; `photofinish-worker doctor` says what is wrong")]
    NoEncoder(#[source] FfmpegError),
    #[error(
        "{} is an input of this job and would be overwritten; give another --out", path.display()
    )]
    OwnInput { path: PathBuf },
    #[error("stopped by a signal; nothing was begun")]
    Stopped,
    #[error("{what}")]
    Machine {
        what: String,
        source: std::io::Error,
    },
    #[error("set up downloads")]
    Outbound(#[source] photofinish_outbound::BuildError),
}

impl OfflineError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. }
            | Self::NotJson { .. }
            | Self::NoFile { .. }
            | Self::Refused(_)
            | Self::OwnInput { .. } => USAGE,
            Self::Settings(_) => SETTINGS,
            Self::Stopped => STOPPED,
            Self::NoEncoder(_) | Self::Machine { .. } | Self::Outbound(_) => FAILED,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Read { .. } => Code::NotFound,
            Self::NotJson { .. } => Code::Malformed,
            Self::NoFile { .. } => Code::InvalidUrl,
            Self::Refused(_) | Self::OwnInput { .. } => Code::InvalidRequest,
            Self::Stopped => Code::WorkerStopping,
            Self::Settings(_) | Self::NoEncoder(_) | Self::Machine { .. } | Self::Outbound(_) => {
                Code::InternalError
            }
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) last: Announcement,
    pub(crate) ids: Vec<String>,
    pub(crate) out: PathBuf,
    pub(crate) stopped: bool,
}

/// Does the job and shows what came of it.
pub fn run(offline: &Offline) -> ExitCode {
    install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(render(offline)),
        Err(source) => Err(OfflineError::Machine {
            what: "start".to_owned(),
            source,
        }),
    };
    let (text, to_stdout) = match (&done, offline.json) {
        (Ok(done), true) => (shown::document(done), true),
        (Ok(done), false) => (shown::table(done), true),
        (Err(error), true) => (shown::error_document(error), true),
        (Err(error), false) => (shown::complaint(error), false),
    };
    // Nobody is left to tell when the stream is closed.
    drop(if to_stdout {
        std::io::stdout().write_all(text.as_bytes())
    } else {
        std::io::stderr().write_all(text.as_bytes())
    });
    match done {
        Ok(done) if done.stopped => ExitCode::from(STOPPED),
        Ok(done) if done.last.errors.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => ExitCode::from(error.exit_code()),
    }
}

async fn render(offline: &Offline) -> Result<Done, OfflineError> {
    let Job { work, local } = request::read(&offline.input)?;
    let studio = studio(offline, local)?;
    let machine = |what: &str| {
        let what = what.to_owned();
        move |source| OfflineError::Machine { what, source }
    };
    let mut signals = Signals::new().map_err(machine("listen for signals"))?;
    if surely_encodes(&work) {
        // Now, and not at every item: whatever is missing is missing for all.
        tokio::select! {
            tried = studio.encoder() => drop(tried.map_err(OfflineError::NoEncoder)?),
            () = signals.came() => return Err(OfflineError::Stopped),
        }
    }
    let out = &offline.out;
    let cannot_make = format!("make {}", out.display());
    std::fs::create_dir_all(out).map_err(machine(&cannot_make))?;
    let out = out.canonicalize().map_err(machine(&cannot_make))?;
    spare_inputs(&work, &studio, &out)?;
    // In the output directory itself: what is made there can be moved to its place.
    let scratch = tempfile::Builder::new()
        .prefix(".photofinish-")
        .tempdir_in(&out)
        .map_err(machine(&format!("make a directory in {}", out.display())))?;
    let dirs = Directories {
        work: scratch.path().join("work"),
        output: scratch.path().join("made"),
    };
    std::fs::create_dir_all(&dirs.work).map_err(machine("make a directory"))?;
    std::fs::create_dir_all(&dirs.output).map_err(machine("make a directory"))?;
    let take = take(&work, &dirs.output);
    let mut shelf = Shelf {
        made: dirs.output.clone(),
        out: out.clone(),
        placed: BTreeMap::new(),
    };
    let mut screen = Screen::new(&out, offline.json);
    let rendering = rendering::render(&studio, &take, &work, &dirs);
    let stopped = drive(rendering, &take, &mut shelf, &mut screen, &mut signals).await;
    screen.end();
    let mut last = shelf.announcement(&take, AnnouncementKind::Final);
    if stopped {
        // What was stopped has not failed.
        let stops = [Code::RenderTimeout, Code::WorkerStopping];
        last.errors
            .retain(|error| !stops.contains(&error.fault.code));
    }
    let ids = take.items().iter().map(|item| item.id.clone()).collect();
    Ok(Done {
        last,
        ids,
        out,
        stopped,
    })
}

/// Trying encoders takes as long as new timestamps, which may need none.
fn surely_encodes(work: &Work) -> bool {
    match work {
        Work::Img2vid { .. } | Work::Caption { .. } => true,
        Work::Addaudio { timing, .. } => *timing == Timing::Reencode,
    }
}

fn studio(offline: &Offline, local: request::Local) -> Result<Studio, OfflineError> {
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
    let settings: Settings = load(&sources)
        .map_err(|errors: ConfigErrors| OfflineError::Settings(errors.to_string()))?;
    let mut config = settings
        .config(machine::cpus())
        .map_err(|faults| OfflineError::Settings(format!("settings: {}", faults.join("; "))))?;
    config.studio.inputs.local = local;
    let outbound = Outbound::new(config.policy).map_err(OfflineError::Outbound)?;
    Ok(Studio::new(config.studio, outbound))
}

/// Refuses to write over what the job is made from.
fn spare_inputs(work: &Work, studio: &Studio, out: &Path) -> Result<(), OfflineError> {
    let local = &studio.settings.inputs.local;
    let items = rendering::items_of(work);
    let mut paths = items
        .iter()
        .map(|(index, id)| out.join(output_name(*index, id)));
    match paths.find(|path| local.values().any(|file| file == path)) {
        Some(path) => Err(OfflineError::OwnInput { path }),
        None => Ok(()),
    }
}

/// What was made, moved to its place as soon as it is whole: what happens later costs nothing of it.
struct Shelf {
    made: PathBuf,
    out: PathBuf,
    placed: BTreeMap<ItemIndex, Result<(), ItemFault>>,
}

impl Shelf {
    /// Everything so far, with what is new in its place; what cannot be moved has failed.
    fn announcement(&mut self, take: &Take, kind: AnnouncementKind) -> Announcement {
        let mut now = take.announcement(kind);
        for output in std::mem::take(&mut now.outputs) {
            let (index, path) = (output.index, self.out.join(&output.name));
            let place = || {
                let moved = std::fs::rename(self.made.join(&output.name), &path);
                moved.map_err(|error| {
                    let path = path.display();
                    let detail = format!("{path} cannot be written: {error}; give another --out");
                    ItemFault::transient(Code::InternalError, detail)
                })
            };
            match self.placed.entry(index).or_insert_with(place) {
                Ok(()) => now.outputs.push(output),
                Err(fault) => now.errors.push(fault.clone().of(index)),
            }
        }
        now
    }
}

/// Renders until all is done, showing how far it is. True when a signal ended it before.
async fn drive(
    rendering: impl Future<Output = ()>,
    take: &Take,
    shelf: &mut Shelf,
    screen: &mut Screen,
    signals: &mut Signals,
) -> bool {
    let mut rendering = std::pin::pin!(rendering);
    let mut looks = tokio::time::interval(LOOK_AGAIN_AFTER);
    let mut stopped = false;
    loop {
        tokio::select! {
            () = &mut rendering => break,
            () = signals.came(), if !stopped => {
                stopped = true;
                take.stop_rendering();
            }
            _ = looks.tick(), if !stopped => {
                screen.look(take, &shelf.announcement(take, AnnouncementKind::Ready));
            }
        }
    }
    if !stopped {
        screen.look(take, &shelf.announcement(take, AnnouncementKind::Ready));
    }
    stopped
}

/// The signals that ask a program to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
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
    let dir = output.to_owned();
    Take::new(speaker, "", dir, items, policy, Instant::now())
}
