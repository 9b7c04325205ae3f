//! The stand-in worker: the real worker with only the *making of the files* replaced.
//!
//! Nouns: the [`StandIn`] makes a file by waiting and writing bytes that mean nothing; the [`Wishes`] of one item
//! stand in the query of its address, which is never called; the [`diary`] says what all stand-ins of a directory
//! have begun and made.
//!
//! Guarantee: all else is the worker's own code: RunPod's protocol, the output server, signals, linger, rescue,
//! SIGTERM. So what is counted and measured around the making is real. No ffmpeg is started and no input fetched.
//! [`content`] says which bytes an item has, so that what was stored can be compared.
//!
//! ```text
//! runpod-sim --worker target/debug/stand-in-worker --worker-env STAND_IN_BYTES=1024 \
//!     --worker-env PHOTOFINISH__WORKER__JOBS_MAX=64 --worker-env BATCH_SIZE=64
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `STAND_IN_SECONDS_PER_FRAME` | how long a frame of a clip takes; default 0 |
//! | `STAND_IN_BYTES` | bytes of an output; default 1024 |
//! | `STAND_IN_DIR` | a directory that all stand-ins share: diary, marks, the file `open`; default none |
//! | `BATCH_SIZE` | items that are made at once in the process, as in the real worker |
//! | `PHOTOFINISH__WORKER__JOBS_MAX` | RunPod jobs at once, as in the real worker |
//!
//! | query of `image_url`, `url_video` | meaning |
//! |---|---|
//! | `bytes=N` | bytes of this output |
//! | `ms=N` | making it takes so long, whatever its frames |
//! | `held` | it is made only when the file `open` lies in `STAND_IN_DIR` |
//! | `crash=N` | the first N makings of it kill the process, without a word; needs `STAND_IN_DIR` |
//! | `fail=N` | the first N makings of it fail, and may be tried again; needs `STAND_IN_DIR` |
//! | `refuse` | it fails for good |
//!
//! Not for: anything about pictures.

mod content;
pub mod diary;
mod wishes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use photofinish_contract::attempt_input::Work;
use photofinish_model::Code;
use photofinish_runtime::Context;
use photofinish_worker::app::Taking;
use photofinish_worker::attempt::rendering::{Maker, Order};
use photofinish_worker::config;
use photofinish_worker::error::Halt;
use photofinish_worker::operations::Made;
use tokio::sync::Semaphore;

pub use self::content::{content, sha256_of};
use self::diary::{Diary, Word};
pub use self::wishes::Wishes;

/// The file in `STAND_IN_DIR` that lets go of held items.
pub const OPEN: &str = "open";

const HELD_POLL: Duration = Duration::from_millis(10);

/// What the environment says.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Seconds that a frame takes
    #[arg(long, env = "STAND_IN_SECONDS_PER_FRAME", default_value_t = 0.0)]
    pub seconds_per_frame: f64,
    /// Bytes of an output
    #[arg(long, env = "STAND_IN_BYTES", default_value_t = 1024)]
    pub bytes: u64,
    /// A directory that all stand-ins share
    #[arg(long, env = "STAND_IN_DIR")]
    pub dir: Option<PathBuf>,
}

/// Serves RunPod as the worker does.
pub async fn serve(
    stand_in: Settings,
    settings: config::Settings,
    context: Context,
) -> anyhow::Result<()> {
    let taking = Taking::start(&settings, context)?;
    let batch = taking.config.studio.batch;
    taking.serve(Arc::new(StandIn::new(stand_in, batch))).await
}

/// Makes files of nothing.
#[derive(Debug)]
pub struct StandIn {
    settings: Settings,
    diary: Diary,
    batch: usize,
    slots: Semaphore,
}

impl StandIn {
    /// One that makes `batch` items at once.
    pub fn new(settings: Settings, batch: usize) -> Self {
        let batch = batch.max(1);
        Self {
            diary: Diary::new(settings.dir.clone()),
            settings,
            batch,
            slots: Semaphore::new(batch),
        }
    }

    async fn make(&self, order: Order<'_>) -> Result<Made, Halt> {
        let (frames, wishes) = asked(&order);
        let stop = &order.item.stop;
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot.map_err(|_| Halt::Stopped)?,
            () = stop.cancelled() => return Err(Halt::Stopped),
        };
        let began = Instant::now();
        let (item, nonce) = (&order.item.id, order.nonce.as_str());
        self.diary.write(Word::Begun, item, nonce);
        let mut ending = Ending {
            diary: &self.diary,
            order,
            word: Word::Stopped,
        };
        let lasts = wishes.takes.unwrap_or_else(|| {
            let seconds = self.settings.seconds_per_frame * f64::from(frames);
            Duration::try_from_secs_f64(seconds).unwrap_or_default()
        });
        tokio::select! {
            () = self.wait(lasts, wishes.held) => {}
            () = stop.cancelled() => return Err(Halt::Stopped),
        }
        if let Err(fault) = self.suffer(item, &wishes) {
            ending.word = Word::Failed;
            return Err(fault);
        }
        let bytes = wishes.bytes.unwrap_or(self.settings.bytes);
        let (id, out) = (item.clone(), order.out.to_owned());
        let written = tokio::task::spawn_blocking(move || content::write(&id, bytes, &out)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::error!(?written, "write an output");
            return Err(Halt::transient(
                Code::InternalError,
                "the stand-in's disk failed",
            ));
        }
        ending.word = Word::Made;
        drop((ending, slot));
        Ok(Made {
            duration_s: f64::from(frames) / 30.0,
            encoder: None,
            took: began.elapsed(),
        })
    }

    async fn wait(&self, lasts: Duration, held: bool) {
        if !lasts.is_zero() {
            tokio::time::sleep(lasts).await; // paced: this is the work
        }
        while held && !self.diary.marked(OPEN) {
            tokio::time::sleep(HELD_POLL).await; // paced: the interval of a poll; the attempt has a deadline
        }
    }

    /// What is to go wrong with an item.
    fn suffer(&self, item: &str, wishes: &Wishes) -> Result<(), Halt> {
        if self.diary.within(item, "crash", wishes.crashes) {
            // As the kernel does it when memory is short: nothing is said, nothing tidied up.
            let own = rustix::process::getpid();
            let _dead = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
        if self.diary.within(item, "fail", wishes.failures) {
            return Err(Halt::transient(Code::RenderFailed, "told to fail"));
        }
        if wishes.refused {
            return Err(Halt::permanent(Code::NotAnImage, "told to refuse"));
        }
        Ok(())
    }
}

/// Writes down how a making ended, also when it is dropped as a cancelled job's are.
struct Ending<'a> {
    diary: &'a Diary,
    order: Order<'a>,
    word: Word,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let (item, nonce) = (&self.order.item.id, self.order.nonce.as_str());
        self.diary.write(self.word, item, nonce);
    }
}

impl Maker for StandIn {
    fn at_once(&self) -> usize {
        self.batch
    }

    fn make<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Made, Halt>> {
        self.make(order).boxed()
    }
}

/// Frames and wishes of an item.
fn asked(order: &Order<'_>) -> (u32, Wishes) {
    match order.work {
        Work::Img2vid { items, .. } => {
            let picture = items.iter().find(|item| item.index == order.item.index);
            picture.map_or((0, Wishes::default()), |picture| {
                (picture.frames, Wishes::of(&picture.image_url))
            })
        }
        Work::Caption { url_video, .. } | Work::Addaudio { url_video, .. } => {
            (0, Wishes::of(url_video))
        }
    }
}
