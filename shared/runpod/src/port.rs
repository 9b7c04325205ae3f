//! A worker's own HTTP port, by whichever route it is reached.
//!
//! Nouns: a [`Port`] is the worker's output server as one route leads to it ([`crate::proxy`],
//! [`crate::direct`]); a [`PortAnswer`] is a file whose bytes are still to come.
//!
//! Guarantee: answers are streamed and never buffered, nothing is repeated here, no redirect is
//! followed, and every wait has its limit. Not for: choosing a route.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
pub use reqwest::Method;
use reqwest::header;
use serde::Serialize;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

/// Connections that nobody uses are kept for so long: less than a worker keeps them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a worker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The worker's id has characters that no host name may have.
    #[error("the worker id cannot be part of a host name")]
    WorkerId,
    /// No answer, or it was cut.
    #[error("ask the worker")]
    Transport(#[source] reqwest::Error),
    /// Whoever answers there is not the worker that announced the address.
    #[error("the certificate is not the announced one")]
    Pin(#[source] reqwest::Error),
    /// No client could be built for the address.
    #[error("build a client for the worker's certificate")]
    Build(#[source] crate::client::BuildError),
    /// The stream stood still.
    #[error("the worker sent nothing for {0:?}")]
    Stalled(Duration),
    /// It began elsewhere than asked for.
    #[error("the worker answered with another range")]
    Range,
    /// It ended, cleanly, before the file did.
    #[error("the answer ended before the file")]
    Ended,
    /// Under this name lies another file by now.
    #[error("another file lies under this name")]
    Changed,
    /// An answer that is none of those asked for.
    #[error("the worker answered {0}")]
    Status(u16),
}

impl PortError {
    fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if refused_certificate(&error) {
            Self::Pin(error)
        } else {
            Self::Transport(error)
        }
    }
}

/// A worker's output server by one route. Clones share connections.
#[derive(Debug, Clone)]
pub struct Port {
    http: reqwest::Client,
    base: String,
    stall: Duration,
    traceparent: Option<String>,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct PortAnswer {
    /// HTTP status, 200 to 299.
    pub status: u16,
    /// The position of the body's first byte in the whole file.
    pub from: u64,
    response: reqwest::Response,
    stall: Duration,
}

/// What all clients of workers have in common; `connect` includes the TLS handshake.
pub(crate) fn client(connect: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(connect)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

impl Port {
    /// `stall` is the longest wait for an answer's head and between two pieces of its body.
    pub(crate) fn new(http: reqwest::Client, base: String, stall: Duration) -> Self {
        Self {
            http,
            base,
            stall,
            traceparent: None,
        }
    }

    /// The same port; what is asked there belongs to the trace of this `traceparent`.
    #[must_use]
    pub fn traced(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }

    #[cfg(test)]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn request(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, url).bearer_auth(token);
        if let Some(traceparent) = &self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        request
    }

    /// Asks for a file from a byte on. A worker that ignores the range answers from byte 0.
    pub async fn get(&self, path: &str, token: &str, from: u64) -> Result<PortAnswer, PortError> {
        self.get_if(path, token, from, None).await
    }

    /// The same for a file whose ETag is its SHA-256, while it is this one.
    pub async fn get_unchanged(
        &self,
        path: &str,
        token: &str,
        from: u64,
        sha256: &str,
    ) -> Result<PortAnswer, PortError> {
        self.get_if(path, token, from, Some(sha256)).await
    }

    async fn get_if(
        &self,
        path: &str,
        token: &str,
        from: u64,
        sha256: Option<&str>,
    ) -> Result<PortAnswer, PortError> {
        let mut request = self.request(Method::GET, path, token);
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(sha256) = sha256 {
                request = request.header(header::IF_RANGE, format!("\"{sha256}\""));
            }
        }
        let response = self.head(request).await?;
        let tag = response.headers().get(header::ETAG);
        if let (Some(tag), Some(sha256)) = (tag, sha256)
            && is_of_another(tag.as_bytes(), sha256)
        {
            return Err(PortError::Changed);
        }
        let partial = response.status() == reqwest::StatusCode::PARTIAL_CONTENT;
        let begins = response
            .headers()
            .get(header::CONTENT_RANGE)
            .map_or(Some(from), |range| first_byte(range.to_str().ok()?));
        let from = match begins {
            _ if !partial => 0,
            // One that begins later would leave a hole.
            Some(begins) if begins <= from => begins,
            Some(_) | None => return Err(PortError::Range),
        };
        Ok(PortAnswer {
            status: response.status().as_u16(),
            from,
            response,
            stall: self.stall,
        })
    }

    /// Makes a call, with a body as JSON if there is one; the answer has no body of interest.
    pub async fn call<T: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&T>,
    ) -> Result<u16, PortError> {
        let mut request = self.request(method, path, token);
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(self.head(request).await?.status().as_u16())
    }

    async fn head(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, PortError> {
        let response = tokio::time::timeout(self.stall, request.send())
            .await
            .map_err(|_| PortError::Stalled(self.stall))?
            .map_err(PortError::of)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(PortError::Status(response.status().as_u16()))
        }
    }
}

impl PortAnswer {
    /// The body, piece by piece, as it comes.
    pub fn pieces(self) -> impl Stream<Item = Result<Bytes, PortError>> {
        let stall = self.stall;
        futures_util::stream::unfold(
            Box::pin(self.response.bytes_stream()),
            move |mut body| async move {
                let piece = match tokio::time::timeout(stall, body.next()).await {
                    Ok(piece) => piece?,
                    Err(_) => return Some((Err(PortError::Stalled(stall)), body)),
                };
                Some((piece.map_err(PortError::of), body))
            },
        )
    }
}

/// Whether an ETag is the SHA-256 of another file. One that is no SHA-256 says nothing: a proxy may
/// have made it.
fn is_of_another(tag: &[u8], sha256: &str) -> bool {
    let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
    let plain: Vec<u8> = tag.iter().copied().filter(|byte| *byte != b'"').collect();
    let is_hash = plain.len() == 64 && plain.iter().all(u8::is_ascii_hexdigit);
    is_hash && !plain.eq_ignore_ascii_case(sha256.as_bytes())
}

/// The first byte's place in `bytes 5-9/10`.
fn first_byte(content_range: &str) -> Option<u64> {
    let range = content_range.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// Whether TLS refused the certificate, or the proof that the other side has its key.
fn refused_certificate(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        // An io::Error's source is that of the error which it wraps, not that error itself.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static));
        let found = wrapped.unwrap_or(error);
        if let Some(tls) = found.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        next = match wrapped {
            Some(inner) if inner.is::<io::Error>() => Some(inner),
            Some(_) | None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_another_file_is_known() {
        let (mine, other) = ("ab".repeat(32), "cd".repeat(32));
        for tag in [
            format!("\"{mine}\""),
            format!("W/\"{mine}\""),
            "\"5f-gzip\"".to_owned(),
        ] {
            assert!(!is_of_another(tag.as_bytes(), &mine), "{tag}");
        }
        for tag in [format!("\"{other}\""), format!("W/\"{other}\"")] {
            assert!(is_of_another(tag.as_bytes(), &mine), "{tag}");
        }
    }

    #[test]
    fn the_first_byte_of_a_range_is_read() {
        assert_eq!(first_byte("bytes 5-9/10"), Some(5));
        assert_eq!(first_byte("bytes 0-0/*"), Some(0));
        for bad in ["", "bytes */10", "items 1-2/3"] {
            assert_eq!(first_byte(bad), None, "{bad}");
        }
    }
}
