//! Rendering of all items of a taking, several at once.
//!
//! Nouns: a [`Maker`] makes the file of one item, by an [`Order`]: the studio does.
//!
//! Guarantee: one item's fault never disturbs another; every item ends as an output, as a fault or
//! as unwanted. Not for: how the file is made.

use std::fmt::Debug;
use std::io;
use std::path::Path;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use photofinish_contract::announcement::ReadyOutput;
use photofinish_contract::attempt_input::Work;
use photofinish_contract::request::VIDEO_ITEM;
use photofinish_model::{Code, ItemIndex, Nonce};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::directories::{Directories, output_name};
use super::take::{Item, Take};
use crate::error::{Halt, ItemFault};
use crate::media::rate::Rate;
use crate::operations::Made;
use crate::operations::addaudio::{self, AddaudioJob};
use crate::operations::caption::{self, CaptionJob};
use crate::operations::encode;
use crate::operations::img2vid::{self, ClipFormat};
use crate::operations::inputs::Inputs;
use crate::operations::studio::Studio;
use crate::operations::video::Desk;

/// Items beyond those being encoded whose inputs are fetched already.
const FETCHED_AHEAD: usize = 2;

/// The items of a work: place and id.
pub fn items_of(work: &Work) -> Vec<(ItemIndex, String)> {
    match work {
        Work::Img2vid { items, .. } => items
            .iter()
            .map(|item| (item.index, item.item.clone()))
            .collect(),
        Work::Caption { .. } | Work::Addaudio { .. } => vec![(0, VIDEO_ITEM.to_owned())],
    }
}

/// Every address that the items of a work name, as often as they do.
fn urls_of(work: &Work) -> Vec<&str> {
    match work {
        Work::Img2vid { items, .. } => items.iter().map(|item| item.image_url.as_str()).collect(),
        Work::Caption {
            url_video, url_srt, ..
        } => vec![url_video, url_srt],
        Work::Addaudio {
            url_video,
            url_audio,
            ..
        } => vec![url_video, url_audio],
    }
}

/// One item that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The work that it is of.
    pub work: &'a Work,
    /// The item.
    pub item: &'a Item,
    /// Its attempt's fencing token.
    pub nonce: &'a Nonce,
    /// What the items of the taking fetch.
    pub inputs: &'a Inputs,
    /// A directory for what is half done, removed afterwards.
    pub dir: &'a Path,
    /// Where the finished file is to be.
    pub out: &'a Path,
}

/// Makes the files of items. Two do: the studio, and the stand-in for it in tests of the whole product, where what
/// surrounds the making is to be real and the pictures do not matter.
pub trait Maker: Debug + Send + Sync {
    /// How many items of a taking may be under way, those included that only fetch.
    fn at_once(&self) -> usize;

    /// Makes one; it must soon answer [`Halt::Stopped`] when the item's `stop` is cancelled.
    fn make<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Made, Halt>>;
}

impl Maker for Studio {
    fn at_once(&self) -> usize {
        self.settings.batch + FETCHED_AHEAD
    }

    fn make<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Result<Made, Halt>> {
        make(self, order).boxed()
    }
}

/// Renders everything that is wanted into the taking's directory.
pub async fn render(maker: &dyn Maker, take: &Take, work: &Work, dirs: &Directories) {
    let inputs = Inputs::new(dirs.work.clone(), urls_of(work));
    futures_util::stream::iter(take.items())
        .for_each_concurrent(maker.at_once(), |item| {
            render_item(maker, (work, &inputs), take, dirs, item)
        })
        .await;
    let now = take.now();
    take.change(|state| state.rendered(now));
}

async fn render_item(
    maker: &dyn Maker,
    (work, inputs): (&Work, &Inputs),
    take: &Take,
    dirs: &Directories,
    item: &Item,
) {
    // Before anything is waited for: so it is told together with what came before it.
    take.begun(item.index);
    let name = output_name(item.index, &item.id);
    let dir = dirs.work.join(item.index.to_string());
    let out = dirs.output.join(&name);
    let order = Order {
        work,
        item,
        nonce: take.nonce(),
        inputs,
        dir: &dir,
        out: &out,
    };
    let made = match tokio::fs::create_dir_all(&dir).await {
        Ok(()) if item.stop.is_cancelled() => Err(Halt::Stopped),
        Ok(()) => {
            let span = tracing::info_span!("render", otel.name = "render item", index = item.index);
            maker.make(order).instrument(span).await
        }
        Err(error) => Err(disk_fault(&error)),
    };
    // Best effort: the whole directory goes with the taking.
    drop(tokio::fs::remove_dir_all(&dir).await);
    if made.is_err() {
        drop(tokio::fs::remove_file(encode::part_of(&out)).await);
    }
    let described = match made {
        Ok(made) => describe(item, name, &out, made)
            .await
            .map_err(|error| disk_fault(&error)),
        Err(halt) => Err(halt),
    };
    let outcome = match described {
        Ok(output) => {
            take.ready(output);
            "ready"
        }
        Err(Halt::Fault(fault)) => {
            take.failed(item.index, fault);
            "failed"
        }
        Err(Halt::Stopped) => {
            match stop_fault(take, item.index) {
                Some(fault) => take.failed(item.index, fault),
                None => take.change(|state| state.left(item.index)),
            }
            "stopped"
        }
    };
    metrics::counter!("photofinish_worker_items_total", "outcome" => outcome).increment(1);
}

async fn make(studio: &Studio, order: Order<'_>) -> Result<Made, Halt> {
    let Order { item, dir, out, .. } = order;
    let desk = Desk {
        studio,
        inputs: order.inputs,
        dir,
        stop: &item.stop,
        progress: &item.progress,
    };
    match order.work {
        Work::Img2vid {
            frame_rate,
            width,
            height,
            fit,
            items,
        } => {
            let nth = items.iter().position(|it| it.index == item.index);
            let (nth, picture) = nth
                .and_then(|n| Some((n, items.get(n)?)))
                .ok_or(Halt::Stopped)?;
            let format = ClipFormat {
                rate: Rate::of(*frame_rate),
                width: *width,
                height: *height,
                fit: *fit,
                items: items.len(),
                nth,
            };
            img2vid::clip(desk, format, picture, out).await
        }
        Work::Caption {
            url_video,
            url_srt,
            style,
        } => {
            let job = CaptionJob {
                url_video,
                url_srt,
                style,
            };
            caption::caption(desk, job, out).await
        }
        Work::Addaudio {
            url_video,
            url_audio,
            timing,
        } => {
            let job = AddaudioJob {
                url_video,
                url_audio,
                timing: *timing,
            };
            Box::pin(addaudio::addaudio(desk, job, out)).await
        }
    }
}

async fn describe(item: &Item, name: String, out: &Path, made: Made) -> io::Result<ReadyOutput> {
    let (index, id, path) = (item.index, item.id.clone(), out.to_owned());
    let hash = move || {
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut std::fs::File::open(path)?, &mut Hashing(&mut hash))?;
        io::Result::Ok((bytes, hex::encode(hash.finalize())))
    };
    let (bytes, sha256) = tokio::task::spawn_blocking(hash)
        .await
        .map_err(io::Error::other)??;
    Ok(ReadyOutput {
        index,
        item: id,
        name,
        bytes,
        sha256,
        duration_s: made.duration_s,
        encoder: made.encoder.map(|encoder| encoder.as_str().to_owned()),
        render_s: Some(made.took.as_secs_f64()),
    })
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn disk_fault(error: &io::Error) -> Halt {
    tracing::error!(%error, "the worker's disk");
    Halt::transient(
        Code::InternalError,
        "the worker's disk failed; the operator has the evidence",
    )
}

/// Why an item that was stopped has no output; nothing is said of what nobody wants.
fn stop_fault(take: &Take, index: ItemIndex) -> Option<ItemFault> {
    let state = take.state();
    if !state.is_wanted(index) {
        return None;
    }
    Some(if state.is_stopping() {
        ItemFault::transient(
            Code::WorkerStopping,
            "the worker was told to stop before this item was done; another attempt will do it",
        )
    } else {
        ItemFault::transient(
            Code::RenderTimeout,
            "the attempt's time was over before this item was done; another attempt will do it",
        )
    })
}
