//! One PUT whose body goes out as it comes: nothing of it is gathered, nothing is hashed twice.
//!
//! Guarantee: the announced length or nothing: a [`Flow`] that is dropped early closes its
//! connection, and the bucket keeps none of it. Every wait has the request timeout.

use crate::{Class, Objects, ObjectsError};
use bytes::Bytes;
use object_store::path::Path;
use object_store::signer::{HeaderMap, Method, SignedUrlOptions, Signer as _};
use reqwest::header;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

/// Pieces between whoever writes and the connection. A piece is what one read of a connection
/// gave, some hundred KiB at most.
const PIECES_MAX: usize = 8;
/// How long a signed PUT may be begun; it may go on for longer.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// Bytes of a refusal that are read, for the log.
const REFUSAL_BYTES_MAX: usize = 2048;

/// A PUT on its way.
#[derive(Debug)]
pub(crate) struct Flow {
    key: Path,
    /// Bytes that it still waits for.
    left: u64,
    pieces: Option<mpsc::Sender<Bytes>>,
    /// Gives the ETag; ends with the flow.
    put: JoinSet<Result<String, ObjectsError>>,
    timeout: Duration,
}

impl Objects {
    /// Begins a PUT of exactly so many bytes.
    pub(crate) async fn flow(
        &self,
        key: &Path,
        query: &[(&str, String)],
        headers: HeaderMap,
        bytes: u64,
    ) -> Result<Flow, ObjectsError> {
        let method = if query.is_empty() { WHOLE } else { PART };
        let query = query
            .iter()
            .map(|(name, value)| (*name, value.as_str().to_owned()));
        let mut options = SignedUrlOptions::new().with_query(query);
        options.signed_headers = headers.clone();
        let store = self.store();
        let signed = store.signed_url_opts(Method::PUT, key, SIGNED_FOR, &options);
        let url = self.call("sign", key, signed).await?;
        let span = put_span(method, key, url.host_str(), bytes);
        let (pieces, waiting) = mpsc::channel::<Bytes>(PIECES_MAX);
        let body = futures_util::stream::unfold(waiting, |mut waiting| async move {
            let piece = waiting.recv().await?;
            Some((Ok::<_, Infallible>(piece), waiting))
        });
        let request = self
            .http
            .put(url)
            .headers(headers)
            .header(header::CONTENT_LENGTH, bytes)
            .body(reqwest::Body::wrap_stream(body));
        let mut put = JoinSet::new();
        let of = key.clone();
        let inside = span.clone();
        let putting = async move {
            let answer = answered(&of, request.send().await).await;
            if let Err(error) = &answer {
                inside.record("otel.status_code", "ERROR");
                inside.record("error.type", why(error));
            }
            answer
        };
        put.spawn(putting.instrument(span));
        Ok(Flow {
            key: key.clone(),
            left: bytes,
            pieces: Some(pieces),
            put,
            timeout: self.request_timeout(),
        })
    }
}

impl Flow {
    /// Bytes that it still waits for.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Sends a piece, which must not be longer than what is left.
    pub(crate) async fn send(&mut self, piece: Bytes) -> Result<(), ObjectsError> {
        debug_assert!(piece.len() as u64 <= self.left);
        self.left = self.left.saturating_sub(piece.len() as u64);
        let Some(pieces) = &self.pieces else {
            return Err(self.ended());
        };
        match tokio::time::timeout(self.timeout, pieces.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            // The PUT is over before its end: why, its answer says.
            Ok(Err(_closed)) => match self.answer().await {
                Ok(_) => Err(self.ended()),
                Err(error) => Err(error),
            },
            Err(_elapsed) => Err(self.timed_out()),
        }
    }

    /// Waits for the answer, when everything was sent; gives the ETag.
    pub(crate) async fn finish(mut self) -> Result<String, ObjectsError> {
        self.pieces = None;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<String, ObjectsError> {
        match tokio::time::timeout(self.timeout, self.put.join_next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(Some(Err(_)) | None) => Err(self.ended()),
            Err(_elapsed) => Err(self.timed_out()),
        }
    }

    fn ended(&self) -> ObjectsError {
        ObjectsError::Refused {
            doing: "put",
            key: self.key.to_string(),
            status: 0,
            said: "answered before the end".to_owned(),
        }
    }

    fn timed_out(&self) -> ObjectsError {
        ObjectsError::Timeout {
            doing: "put",
            key: self.key.to_string(),
            seconds: self.timeout.as_secs(),
        }
    }
}

fn why(error: &ObjectsError) -> &'static str {
    match error.class() {
        Class::Transient => "transient",
        Class::Permanent => "permanent",
    }
}

/// S3's names of what is done.
const WHOLE: &str = "PutObject";
const PART: &str = "UploadPart";

/// A call of S3 as a trace shows it; its address is a capability and stands nowhere.
fn put_span(method: &'static str, key: &Path, host: Option<&str>, bytes: u64) -> Span {
    tracing::info_span!(
        "s3",
        otel.name = format!("S3.{method}"),
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "rpc.system.name" = "aws-api",
        "rpc.service" = "S3",
        "rpc.method" = method,
        "aws.s3.key" = key.to_string(),
        "server.address" = host,
        "http.request.body.size" = bytes,
    )
}

async fn answered(
    key: &Path,
    answer: Result<reqwest::Response, reqwest::Error>,
) -> Result<String, ObjectsError> {
    let failed = |source: reqwest::Error| {
        count_failure();
        ObjectsError::Http {
            doing: "put",
            key: key.to_string(),
            source: source.without_url(),
        }
    };
    let answer = answer.map_err(failed)?;
    let status = answer.status();
    if status.is_success() {
        let tag = answer.headers().get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok()).unwrap_or_default();
        return Ok(tag.to_owned());
    }
    count_failure();
    let mut said = answer.text().await.map_err(failed)?;
    if let Some((at, _)) = said.char_indices().nth(REFUSAL_BYTES_MAX) {
        said.truncate(at);
    }
    Err(ObjectsError::Refused {
        doing: "put",
        key: key.to_string(),
        status: status.as_u16(),
        said,
    })
}

fn count_failure() {
    metrics::counter!("photofinish_objects_errors_total", "call" => "put").increment(1);
}
