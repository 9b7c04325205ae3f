//! A worker's own HTTP port, through RunPod's proxy.
//!
//! The host is made from the worker's id as `/status` told it, never from what a worker says of
//! itself. Answers are streamed and never buffered; nothing is repeated here, and no redirect is
//! followed.

use crate::client::BuildError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
pub use reqwest::Method;
use reqwest::header;
use serde::Serialize;
use std::time::Duration;

/// Where `{worker}` stands for the worker's id.
const PLACE: &str = "{worker}";
/// RunPod's own proxy, for a worker that listens on 8000.
pub const DEFAULT_TEMPLATE: &str = "https://{worker}-8000.proxy.runpod.net";

/// Why a worker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The worker's id has characters that no host name may have.
    #[error("the worker id cannot be part of a host name")]
    WorkerId,
    /// No answer, or it was cut.
    #[error("ask the worker through the proxy")]
    Transport(#[source] reqwest::Error),
    /// The stream stood still.
    #[error("the worker sent nothing for {0:?}")]
    Stalled(Duration),
    /// It began elsewhere than asked for.
    #[error("the worker answered with another range")]
    Range,
    /// An answer that is none of those asked for.
    #[error("the worker answered {0}")]
    Status(u16),
}

/// Calls workers through the proxy.
#[derive(Debug, Clone)]
pub struct WorkerProxy {
    http: reqwest::Client,
    template: String,
    stall: Duration,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct ProxyAnswer {
    /// HTTP status, 200 to 299.
    pub status: u16,
    /// The position of the body's first byte in the whole file.
    pub from: u64,
    response: reqwest::Response,
    stall: Duration,
}

impl WorkerProxy {
    /// A client for a template such as [`DEFAULT_TEMPLATE`]; `stall` is the longest wait for an
    /// answer's head and between two pieces of its body.
    pub fn new(template: &str, connect: Duration, stall: Duration) -> Result<Self, BuildError> {
        crate::install_tls_provider();
        let sample = template.replace(PLACE, "worker");
        let url = reqwest::Url::parse(&sample).map_err(|_| BuildError::BaseUrl)?;
        if !template.contains(PLACE) || !matches!(url.scheme(), "http" | "https") {
            return Err(BuildError::BaseUrl);
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(BuildError::Http)?;
        Ok(Self {
            http,
            template: template.trim_end_matches('/').to_owned(),
            stall,
        })
    }

    fn url(&self, worker: &str, path: &str) -> Result<String, ProxyError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=63).contains(&worker.len()) || !worker.bytes().all(plain) {
            return Err(ProxyError::WorkerId);
        }
        Ok(format!("{}{path}", self.template.replace(PLACE, worker)))
    }

    /// Asks for a file from a byte on. A worker that ignores the range answers from byte 0.
    pub async fn get(
        &self,
        worker: &str,
        path: &str,
        token: &str,
        from: u64,
    ) -> Result<ProxyAnswer, ProxyError> {
        let mut request = self.http.get(self.url(worker, path)?).bearer_auth(token);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let response = self.head(request).await?;
        let partial = response.status() == reqwest::StatusCode::PARTIAL_CONTENT;
        let begins = response
            .headers()
            .get(header::CONTENT_RANGE)
            .map_or(Some(from), |range| first_byte(range.to_str().ok()?));
        let from = match begins {
            _ if !partial => 0,
            // One that begins later would leave a hole.
            Some(begins) if begins <= from => begins,
            Some(_) | None => return Err(ProxyError::Range),
        };
        Ok(ProxyAnswer {
            status: response.status().as_u16(),
            from,
            response,
            stall: self.stall,
        })
    }

    /// Makes a call whose answer has no body of interest.
    pub async fn call(
        &self,
        method: Method,
        worker: &str,
        path: &str,
        token: &str,
    ) -> Result<u16, ProxyError> {
        let request = self
            .http
            .request(method, self.url(worker, path)?)
            .bearer_auth(token);
        Ok(self.head(request).await?.status().as_u16())
    }

    /// Posts a value as JSON; the answer has no body of interest.
    pub async fn post<T: Serialize + Sync>(
        &self,
        worker: &str,
        path: &str,
        token: &str,
        body: &T,
    ) -> Result<u16, ProxyError> {
        let url = self.url(worker, path)?;
        let request = self.http.post(url).bearer_auth(token).json(body);
        Ok(self.head(request).await?.status().as_u16())
    }

    async fn head(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ProxyError> {
        let response = tokio::time::timeout(self.stall, request.send())
            .await
            .map_err(|_| ProxyError::Stalled(self.stall))?
            .map_err(|error| ProxyError::Transport(error.without_url()))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(ProxyError::Status(response.status().as_u16()))
        }
    }
}

impl ProxyAnswer {
    /// The body, piece by piece, as it comes.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, ProxyError>> {
        let stall = self.stall;
        futures_util::stream::unfold(
            Box::pin(self.response.bytes_stream()),
            move |mut body| async move {
                let piece = match tokio::time::timeout(stall, body.next()).await {
                    Ok(piece) => piece?,
                    Err(_) => return Some((Err(ProxyError::Stalled(stall)), body)),
                };
                Some((
                    piece.map_err(|error| ProxyError::Transport(error.without_url())),
                    body,
                ))
            },
        )
    }
}

/// The first byte's place in `bytes 5-9/10`.
fn first_byte(content_range: &str) -> Option<u64> {
    let range = content_range.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_a_range_is_read() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        assert_eq!(first_byte("bytes 0-0/*"), Some(0));
        for bad in ["", "bytes */10", "items 1-2/3"] {
            assert_eq!(first_byte(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_is_made_of_the_workers_id_alone() {
        let second = Duration::from_secs(1);
        let proxy = WorkerProxy::new(DEFAULT_TEMPLATE, second, second).unwrap();
        assert_eq!(
            proxy.url("abc123", "/x").unwrap(),
            "https://abc123-8000.proxy.runpod.net/x"
        );
        for bad in ["", "a.b", "a/b", "a@evil", "a:1", &"a".repeat(64)] {
            assert!(
                matches!(proxy.url(bad, "/x"), Err(ProxyError::WorkerId)),
                "{bad}"
            );
        }
        assert!(WorkerProxy::new("https://fixed.example", second, second).is_err());
        assert!(WorkerProxy::new("ftp://{worker}", second, second).is_err());
    }
}
