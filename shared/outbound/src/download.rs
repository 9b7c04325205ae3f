//! A file from a stranger's address, resumed where it broke.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED,
};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::client::{Limits, Outbound, Response, counted, resume_headers, retry_after};
use crate::error::{Class, OutboundError, Phase};

/// Wait before the first resumption; it doubles each time.
const RESUME_DELAY: Duration = Duration::from_millis(200);

/// A file that is there, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Its size.
    pub bytes: u64,
    /// What the server said it is; not to be believed.
    pub content_type: Option<String>,
    /// How often it was resumed or begun anew.
    pub resumes: u32,
}

/// What is on disk so far, and by what the rest can be asked for.
struct Progress {
    file: File,
    written: u64,
    /// A strong ETag or Last-Modified of the file that is being fetched.
    validator: Option<HeaderValue>,
    content_type: Option<String>,
}

impl Outbound {
    /// Downloads into a new file at `path` (an existing one is overwritten). After a cut it goes on from where it
    /// broke if the server can say that the file is still the same, else from the beginning, at most
    /// `limits.resumes_max` times. On an error the file may be there in part.
    pub async fn download(
        &self,
        url: &str,
        path: &Path,
        limits: &Limits,
    ) -> Result<Downloaded, OutboundError> {
        counted("download", self.download_uncounted(url, path, limits).await)
    }

    async fn download_uncounted(
        &self,
        url: &str,
        path: &Path,
        limits: &Limits,
    ) -> Result<Downloaded, OutboundError> {
        let deadline = Instant::now() + limits.total;
        let file = File::create(path).await?;
        let mut progress = Progress {
            file,
            written: 0,
            validator: None,
            content_type: None,
        };
        let mut resumes = 0;
        loop {
            let error = match self.pull(url, &mut progress, limits, deadline).await {
                Ok(()) => break,
                Err(error) => error,
            };
            // Before the first byte nothing is resumed: the caller owns that retry.
            if progress.written == 0 || resumes == limits.resumes_max || !may_resume(&error) {
                return Err(error);
            }
            tracing::debug!(written = progress.written, resumes, error = %error, "resume a download");
            let wait = RESUME_DELAY.saturating_mul(2_u32.saturating_pow(resumes));
            let wake = (Instant::now() + wait).min(deadline);
            tokio::time::sleep_until(wake).await;
            resumes += 1;
        }
        progress.file.flush().await?;
        let Progress {
            written: bytes,
            content_type,
            ..
        } = progress;
        Ok(Downloaded {
            bytes,
            content_type,
            resumes,
        })
    }

    /// One request: all of the file, or the rest of it.
    async fn pull(
        &self,
        url: &str,
        progress: &mut Progress,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<(), OutboundError> {
        let headers = match &progress.validator {
            Some(validator) if progress.written > 0 => resume_headers(progress.written, validator),
            Some(_) | None => HeaderMap::new(),
        };
        let mut answer = self.get_with(url, headers, limits, deadline).await?;
        begin(progress, &answer).await?;
        let promised = number(&answer.headers, CONTENT_LENGTH.as_str());
        let fits = |bytes: u64| bytes <= limits.body_max;
        if promised.is_some_and(|rest| !fits(progress.written.saturating_add(rest))) {
            return Err(OutboundError::TooLarge {
                max: limits.body_max,
            });
        }
        while let Some(chunk) = answer.body.chunk().await? {
            progress.file.write_all(&chunk).await?;
            progress.written += chunk.len() as u64;
            if !fits(progress.written) {
                return Err(OutboundError::TooLarge {
                    max: limits.body_max,
                });
            }
        }
        Ok(())
    }
}

/// Sets the file to where this answer goes on: after what is there, or at the beginning.
async fn begin(progress: &mut Progress, answer: &Response) -> Result<(), OutboundError> {
    match answer.status {
        206 if range_start(&answer.headers) == Some(progress.written) => {}
        200 => {
            progress.file.set_len(0).await?;
            progress.file.rewind().await?;
            progress.written = 0;
            progress.validator = validator(&answer.headers);
            let kind = answer.headers.get(CONTENT_TYPE);
            progress.content_type = kind.and_then(|kind| Some(kind.to_str().ok()?.to_owned()));
        }
        status => {
            return Err(OutboundError::Status {
                status,
                retry_after: retry_after(&answer.headers),
            });
        }
    }
    Ok(())
}

fn may_resume(error: &OutboundError) -> bool {
    let out_of_time = matches!(error, OutboundError::Timeout(Phase::Total));
    let local = matches!(error, OutboundError::File(_));
    error.class() == Class::Transient && !out_of_time && !local
}

/// What `If-Range` accepts: a strong ETag, else Last-Modified.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = |etag: &&HeaderValue| !etag.as_bytes().starts_with(b"W/");
    headers
        .get(ETAG)
        .filter(strong)
        .or_else(|| headers.get(LAST_MODIFIED))
        .cloned()
}

/// The first byte of `bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.trim()
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
