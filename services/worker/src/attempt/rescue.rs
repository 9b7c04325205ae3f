//! The rescue: PUT of an output to its presigned URL, and of the report beside it.
//!
//! Guarantee: a PUT that answers 2xx carried the whole file; each has a time limit. The URLs are
//! made by our own dispatcher and may name a private address, so this is not `outbound`'s client.

use std::path::Path;
use std::time::Duration;

use photofinish_contract::announcement::Announcement;
use tokio_util::io::ReaderStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// RunPod may freeze an idle worker: connections that are older are dead when it is thawed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// A push may take this long, and
const PUT_TIMEOUT_BASE: Duration = Duration::from_secs(10);
/// one second more for this many bytes.
const PUT_BYTES_PER_SECOND_MIN: u64 = 1024 * 1024;
const TRIES_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Why a PUT did not happen.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file cannot be read.
    #[error("read the output")]
    File(#[from] std::io::Error),
    /// No answer.
    #[error("put the object")]
    Http(#[source] reqwest::Error),
    /// The store said no.
    #[error("the object store answered {0}")]
    Status(u16),
}

impl PutError {
    fn may_pass(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Http(_) => true,
            Self::Status(status) => matches!(status, 408 | 429 | 500..=599),
        }
    }
}

/// The client for presigned PUTs and for signals: addresses that our own services gave.
#[derive(Debug, Clone)]
pub struct OwnClient(reqwest::Client);

impl OwnClient {
    /// A client; a TLS provider must be installed.
    pub fn new() -> Result<Self, reqwest::Error> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("photofinish-worker/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        Ok(Self(builder.build()?))
    }

    /// The plain client.
    pub fn http(&self) -> &reqwest::Client {
        &self.0
    }

    /// Puts a file, trying again a few times.
    pub async fn put_file(&self, url: &str, path: &Path) -> Result<(), PutError> {
        for tried in 1.. {
            match self.put_file_once(url, path).await {
                Err(error) if error.may_pass() && tried < TRIES_MAX => {
                    tracing::debug!(%error, tried, "push an output again");
                    tokio::time::sleep(TRY_AGAIN_AFTER * tried).await;
                }
                result => return result,
            }
        }
        Ok(())
    }

    async fn put_file_once(&self, url: &str, path: &Path) -> Result<(), PutError> {
        let file = tokio::fs::File::open(path).await?;
        let bytes = file.metadata().await?.len();
        let timeout = PUT_TIMEOUT_BASE + Duration::from_secs(bytes / PUT_BYTES_PER_SECOND_MIN);
        let request = self
            .0
            .put(url)
            .header(reqwest::header::CONTENT_LENGTH, bytes)
            .timeout(timeout)
            .body(reqwest::Body::wrap_stream(ReaderStream::with_capacity(
                file,
                128 * 1024,
            )));
        accepted(request).await
    }

    /// Puts the report.
    pub async fn put_report(&self, url: &str, report: &Announcement) -> Result<(), PutError> {
        let body = serde_json::to_vec(report).unwrap_or_default();
        accepted(self.0.put(url).timeout(REPORT_TIMEOUT).body(body)).await
    }
}

async fn accepted(request: reqwest::RequestBuilder) -> Result<(), PutError> {
    // The URL is a capability: it must not reach a log.
    let answer = request
        .send()
        .await
        .map_err(|error| PutError::Http(error.without_url()))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(PutError::Status(answer.status().as_u16()))
    }
}
