//! A local file to a presigned address.

use crate::client::Client;
use futures_util::StreamExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// How long a store may take no further byte.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes read at once.
const BLOCK: usize = 128 * 1024;

/// Why one try did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The file cannot be read.
    #[error("read the file: {0}")]
    File(#[from] std::io::Error),
    /// The connection broke.
    #[error("{0}")]
    Broken(String),
    /// The store refused.
    #[error("the store answered {0}")]
    Refused(u16),
    /// Nothing went on.
    #[error("the store has taken nothing for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
}

impl UploadError {
    /// Whether the store would say the same again.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused(status) => {
                (400..500).contains(status) && ![408, 425, 429].contains(status)
            }
            Self::File(_) | Self::Broken(_) | Self::Stalled => false,
        }
    }
}

impl Client {
    /// PUTs `bytes` bytes of a file without our key; `progress` is told how many went out.
    pub(crate) async fn upload(
        &self,
        url: &str,
        path: &Path,
        bytes: u64,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<(), UploadError> {
        let file = tokio::fs::File::open(path).await?;
        let gone = Arc::new(AtomicU64::new(0));
        let counted = gone.clone();
        let stream = ReaderStream::with_capacity(file, BLOCK).map(move |chunk| {
            if let Ok(chunk) = &chunk {
                counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                progress(chunk.len() as u64);
            }
            chunk
        });
        let call = self
            .uploads
            .put(url)
            .header("content-length", bytes)
            .body(reqwest::Body::wrap_stream(stream));
        let answer = tokio::select! {
            answer = call.send() => answer,
            () = stalled(&gone) => return Err(UploadError::Stalled),
        };
        let answer =
            answer.map_err(|error| UploadError::Broken(error.without_url().to_string()))?;
        if answer.status().is_success() {
            Ok(())
        } else {
            Err(UploadError::Refused(answer.status().as_u16()))
        }
    }
}

/// Ends when nothing went out for too long.
async fn stalled(gone: &AtomicU64) {
    let mut before = None;
    loop {
        let now = gone.load(Ordering::Relaxed);
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(STALL_TIMEOUT).await;
    }
}
