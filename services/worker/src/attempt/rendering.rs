//! Rendering of all items of a taking, several at once.
//!
//! Guarantee: one item's fault never disturbs another; every item ends as an output, as a fault or
//! as unwanted.

use std::io;
use std::path::Path;

use futures_util::StreamExt as _;
use photofinish_contract::announcement::ReadyOutput;
use photofinish_contract::attempt_input::Work;
use photofinish_contract::request::VIDEO_ITEM;
use photofinish_model::{Code, ItemIndex};
use sha2::{Digest as _, Sha256};

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

/// What all items of a taking share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    studio: &'a Studio,
    inputs: &'a Inputs,
    work: &'a Work,
}

/// Renders everything that is wanted into the taking's directory.
pub async fn render(studio: &Studio, take: &Take, work: &Work, dirs: &Directories) {
    let at_once = studio.settings.batch + FETCHED_AHEAD;
    let inputs = Inputs::new(dirs.work.clone(), urls_of(work));
    let shared = Shared {
        studio,
        inputs: &inputs,
        work,
    };
    futures_util::stream::iter(take.items())
        .for_each_concurrent(at_once, |item| render_item(shared, take, dirs, item))
        .await;
    let now = take.now();
    take.change(|state| state.rendered(now));
}

async fn render_item(shared: Shared<'_>, take: &Take, dirs: &Directories, item: &Item) {
    let name = output_name(item.index, &item.id);
    let dir = dirs.work.join(item.index.to_string());
    let out = dirs.output.join(&name);
    let made = match tokio::fs::create_dir_all(&dir).await {
        Ok(()) if item.stop.is_cancelled() => Err(Halt::Stopped),
        Ok(()) => Box::pin(make(shared, item, &dir, &out)).await,
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
            if let Some(fault) = stop_fault(take, item.index) {
                take.failed(item.index, fault);
            }
            "stopped"
        }
    };
    metrics::counter!("photofinish_worker_items_total", "outcome" => outcome).increment(1);
}

async fn make(shared: Shared<'_>, item: &Item, dir: &Path, out: &Path) -> Result<Made, Halt> {
    let desk = Desk {
        studio: shared.studio,
        inputs: shared.inputs,
        dir,
        stop: &item.stop,
        progress: &item.progress,
    };
    match shared.work {
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
