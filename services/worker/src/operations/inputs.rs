//! Inputs: downloaded from addresses that a stranger chose, into the job's private directory.
//!
//! Nouns: a [`Fetch`] is how one input is fetched; [`Inputs`] are those of a whole taking.
//!
//! Guarantee: nothing larger than its cap lies on disk for longer than its download; an address is
//! fetched once in a taking, whoever asks for it; each way to fail has its code and a sentence that
//! says what to do, without the URL (it may hold a secret).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use photofinish_model::Code;
use photofinish_outbound::{Class, Limits, Outbound, OutboundError};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::links::{self, DrivePage, Link};
use super::video::unusable;
use crate::error::Halt;
use crate::media::container::Foreign;

/// Enough to know what a file certainly is not.
const HEAD_BYTES: u64 = 1024;
/// Downloads of one input.
const TRIES_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that is waited for; GPU time is too dear for more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// What inputs may cost.
#[derive(Debug, Clone)]
pub struct InputLimits {
    /// Bytes of a picture.
    pub image_bytes_max: u64,
    /// Bytes of a video.
    pub video_bytes_max: u64,
    /// Bytes of an audio file.
    pub audio_bytes_max: u64,
    /// Bytes of captions.
    pub captions_bytes_max: u64,
    /// One download, with all its tries.
    pub download_timeout: Duration,
    /// Files of this machine that stand for addresses; none but in a job by hand.
    pub local: BTreeMap<String, PathBuf>,
}

/// What an input is, as the client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Image,
    /// A video.
    Video,
    /// An audio file.
    Audio,
    /// A caption file.
    Captions,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio file",
            Self::Captions => "caption file",
        }
    }

    fn bytes_max(self, limits: &InputLimits) -> u64 {
        match self {
            Self::Image => limits.image_bytes_max,
            Self::Video => limits.video_bytes_max,
            Self::Audio => limits.audio_bytes_max,
            Self::Captions => limits.captions_bytes_max,
        }
    }
}

/// The inputs of one taking. An address that several items name is fetched once, and kept for as
/// long as one of them still has to come; what each item gets is a link to the same file.
#[derive(Debug, Default)]
pub struct Inputs {
    dir: PathBuf,
    shared: HashMap<String, Shared>,
}

/// An input that several items ask for.
#[derive(Debug)]
struct Shared {
    name: String,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    askers_left: usize,
    here: bool,
    /// What nobody need try again.
    fault: Option<(Kind, Halt)>,
}

/// How one input is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Fetch<'a> {
    /// Fetches.
    pub outbound: &'a Outbound,
    /// What it may cost.
    pub limits: &'a InputLimits,
    /// What it is meant to be.
    pub kind: Kind,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

impl Inputs {
    /// Inputs that are kept in `dir`, which must be there; `urls` are all addresses that will be
    /// asked for, as often as they will.
    pub fn new<'a>(dir: PathBuf, urls: impl IntoIterator<Item = &'a str>) -> Self {
        let mut askers: HashMap<&str, usize> = HashMap::new();
        for url in urls {
            *askers.entry(url).or_default() += 1;
        }
        let several = askers.into_iter().filter(|(_, askers)| *askers > 1);
        let shared = several.enumerate().map(|(number, (url, askers_left))| {
            let kept = Mutex::new(Kept {
                askers_left,
                here: false,
                fault: None,
            });
            let name = format!("input-{number}");
            (url.to_owned(), Shared { name, kept })
        });
        let shared = shared.collect();
        Self { dir, shared }
    }

    /// Brings the file of `url` to `path`, or says why not.
    pub async fn fetch(&self, fetch: Fetch<'_>, url: &str, path: &Path) -> Result<(), Halt> {
        let Some(shared) = self.shared.get(url) else {
            return Box::pin(fetch.file(url, path)).await;
        };
        let mut kept = tokio::select! {
            kept = shared.kept.lock() => kept,
            () = fetch.stop.cancelled() => return Err(Halt::Stopped),
        };
        let file = self.dir.join(&shared.name);
        let brought = kept.bring(fetch, url, &file, path).await;
        if brought != Err(Halt::Stopped) {
            kept.askers_left = kept.askers_left.saturating_sub(1);
        }
        if kept.askers_left == 0 && kept.here {
            kept.here = false;
            // Best effort: the directory goes with the taking.
            drop(tokio::fs::remove_file(&file).await);
        }
        brought
    }
}

impl Kept {
    async fn bring(
        &mut self,
        fetch: Fetch<'_>,
        url: &str,
        file: &Path,
        path: &Path,
    ) -> Result<(), Halt> {
        match &self.fault {
            Some((kind, fault)) if *kind == fetch.kind => return Err(fault.clone()),
            Some(_) | None => {}
        }
        if !self.here {
            let fetched = Box::pin(fetch.file(url, file)).await;
            if fetched.is_err() {
                // Best effort: a part of it is of use to nobody.
                drop(tokio::fs::remove_file(file).await);
            }
            if let Err(Halt::Fault(fault)) = &fetched
                && fault.permanent
            {
                self.fault = Some((fetch.kind, fault.clone().into()));
            }
            fetched?;
            self.here = true;
        }
        let link = async {
            let bytes = tokio::fs::metadata(file).await?.len();
            if bytes <= fetch.kind.bytes_max(fetch.limits) {
                tokio::fs::hard_link(file, path).await?;
            }
            std::io::Result::Ok(bytes)
        };
        let bytes = link.await.map_err(|error| {
            let error = OutboundError::File(error);
            tracing::error!(cause = ?error, "link an input");
            fault(fetch.kind, &error)
        })?;
        let max = fetch.kind.bytes_max(fetch.limits);
        if bytes > max {
            return Err(fault(fetch.kind, &OutboundError::TooLarge { max }));
        }
        Ok(())
    }
}

impl Fetch<'_> {
    /// Downloads `url`, whatever page it is shared by, to `path`.
    async fn file(self, url: &str, path: &Path) -> Result<(), Halt> {
        match links::resolve(url) {
            Link::Direct(url) => {
                self.download(&url, path).await?;
                match foreign(path).await {
                    Some(foreign) => Err(unusable(self.kind, foreign.why())),
                    None => Ok(()),
                }
            }
            Link::Drive(url) => self.drive(&url, path).await,
            Link::NoFile => Err(Halt::permanent(
                Code::InputNotFound,
                format!(
                    "the {}'s address is that of a folder or of a document of Google's; share one file and give its link",
                    self.kind.noun()
                ),
            )),
        }
    }

    /// A file of Google Drive's, which may ask for a confirmation first.
    async fn drive(self, url: &str, path: &Path) -> Result<(), Halt> {
        let noun = self.kind.noun();
        let mut url = url.to_owned();
        let mut confirmed = false;
        loop {
            self.download(&url, path).await?;
            match foreign(path).await {
                None => return Ok(()),
                Some(Foreign::WebPage) => {}
                Some(foreign) => return Err(unusable(self.kind, foreign.why())),
            }
            match links::drive_page(&page(path).await, &url) {
                DrivePage::Confirm(to) if !confirmed => (url, confirmed) = (to, true),
                DrivePage::Confirm(_) | DrivePage::Private => {
                    return Err(Halt::permanent(
                        Code::InputNotFound,
                        format!(
                            "Google Drive shows a page in place of the {noun}; share it with everyone who has the link"
                        ),
                    ));
                }
                DrivePage::Quota => {
                    return Err(Halt::transient(
                        Code::InputUnreachable,
                        format!(
                            "Google Drive gives out the {noun} no more today, too many people fetched it; copy it to another place, or retry the job tomorrow"
                        ),
                    ));
                }
            }
        }
    }

    /// Downloads with its tries, all within one deadline.
    async fn download(self, url: &str, path: &Path) -> Result<(), Halt> {
        if let Some(file) = self.limits.local.get(url) {
            return self.point(file, path).await;
        }
        let deadline = Instant::now() + self.limits.download_timeout;
        for tried in 1.. {
            let limits = Limits {
                body_max: self.kind.bytes_max(self.limits),
                total: deadline.saturating_duration_since(Instant::now()),
                ..Limits::default()
            };
            let result = tokio::select! {
                result = self.outbound.download(url, path, &limits) => result,
                () = self.stop.cancelled() => return Err(Halt::Stopped),
            };
            let Err(error) = result else { break };
            let wait = pause(&error, tried);
            let last = tried >= TRIES_MAX || Instant::now() + wait >= deadline;
            if error.class() == Class::Permanent || last {
                let cause = std::error::Error::source(&error);
                tracing::info!(kind = self.kind.noun(), %error, ?cause, tried, "input not fetched");
                return Err(fault(self.kind, &error));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Err(Halt::Stopped),
            }
        }
        Ok(())
    }
}

impl Fetch<'_> {
    /// Puts a link to a file of this machine in its place: nobody writes to inputs.
    async fn point(self, file: &Path, path: &Path) -> Result<(), Halt> {
        let max = self.kind.bytes_max(self.limits);
        let link = async {
            if tokio::fs::metadata(file).await?.len() > max {
                return Ok(false);
            }
            tokio::fs::symlink(file, path).await.map(|()| true)
        };
        match link.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(fault(self.kind, &OutboundError::TooLarge { max })),
            Err(error) => Err(Halt::permanent(
                Code::InputNotFound,
                format!("the {} cannot be read: {error}", self.kind.noun()),
            )),
        }
    }
}

/// The beginning of a file; nothing, if it cannot be read.
async fn beginning(path: &Path, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.ok()?;
    file.take(max).read_to_end(&mut bytes).await.ok()?;
    Some(bytes)
}

/// What a file is if it is certainly none that anybody wants here.
async fn foreign(path: &Path) -> Option<Foreign> {
    Foreign::recognise(&beginning(path, HEAD_BYTES).await?)
}

async fn page(path: &Path) -> String {
    let bytes = beginning(path, links::PAGE_BYTES_MAX).await;
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

fn pause(error: &OutboundError, tried: u32) -> Duration {
    match error {
        OutboundError::Status {
            retry_after: Some(wait),
            ..
        } => (*wait).min(RETRY_AFTER_MAX),
        OutboundError::Status { .. }
        | OutboundError::Refused(_)
        | OutboundError::Redirects { .. }
        | OutboundError::Connect(_)
        | OutboundError::Timeout(_)
        | OutboundError::Interrupted(_)
        | OutboundError::TooLarge { .. }
        | OutboundError::File(_) => TRY_AGAIN_AFTER * tried,
    }
}

fn fault(kind: Kind, error: &OutboundError) -> Halt {
    let noun = kind.noun();
    match error {
        OutboundError::Refused(why) => Halt::permanent(
            Code::InputRefused,
            format!("the {noun} was not fetched: {why}; give a public http or https address"),
        ),
        OutboundError::Redirects { .. } => Halt::permanent(
            Code::InputNotFound,
            format!("the {noun}'s address leads to {error}; give its final address"),
        ),
        OutboundError::TooLarge { max } => Halt::permanent(
            Code::InputTooLarge,
            format!("the {noun} is larger than {max} bytes; give a smaller one"),
        ),
        OutboundError::Status { status, .. } if error.class() == Class::Permanent => {
            Halt::permanent(
                Code::InputNotFound,
                format!(
                    "the server answered {status} for the {noun}; check that the address is right and open to everyone"
                ),
            )
        }
        OutboundError::Status { .. }
        | OutboundError::Connect(_)
        | OutboundError::Timeout(_)
        | OutboundError::Interrupted(_) => Halt::transient(
            Code::InputUnreachable,
            format!(
                "the {noun} could not be fetched ({error}); check its server and retry the job"
            ),
        ),
        OutboundError::File(_) => Halt::transient(
            Code::InternalError,
            format!("the worker could not keep the {noun}; the operator has the evidence"),
        ),
    }
}

#[cfg(test)]
mod tests;
