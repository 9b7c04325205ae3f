//! The output server: finished outputs, to whoever has the attempt's token.
//!
//! Guarantee: a name in a URL is looked up, never made a path; a file is streamed, never loaded;
//! every piece that goes out puts the end of lingering off; the span of a served output belongs to
//! the trace of whoever fetches it, and lasts until the last byte is out. The routes stand in
//! `contract::announcement`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::TryStreamExt as _;
use photofinish_contract::announcement::{AnnouncementKind, ReadyOutput, Wanted};
use photofinish_model::Nonce;
use photofinish_runtime::trace;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::attempt::registry::Registry;
use crate::attempt::state::{self as attempt, Lookup};
use crate::attempt::take::Take;

/// Bytes of one piece of a file on its way out.
const CHUNK_BYTES: usize = 128 * 1024;
/// Bytes of a list of wanted items.
const WANTED_BYTES_MAX: usize = 256 * 1024;

/// The routes over everything that is being served.
pub fn router(registry: Registry) -> Router {
    Router::new()
        .route("/attempts/{nonce}", get(announcement))
        .route(
            "/attempts/{nonce}/outputs/{name}",
            get(output).delete(acknowledge),
        )
        .route("/attempts/{nonce}/rescue", post(rescue))
        .route("/attempts/{nonce}/wanted", post(wanted))
        .with_state(registry)
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// No such attempt or output here.
    Unknown,
    /// Not the attempt's token.
    Unauthorized,
    /// The output was acknowledged.
    Gone,
    /// A body that cannot be read.
    Unreadable,
    /// The file cannot be read.
    Broken,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND.into_response(),
            Self::Unauthorized => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, challenge).into_response()
            }
            Self::Gone => StatusCode::GONE.into_response(),
            Self::Unreadable => StatusCode::BAD_REQUEST.into_response(),
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

/// The taking that a call is for, if the caller may.
fn admitted(registry: &Registry, nonce: &str, headers: &HeaderMap) -> Result<Arc<Take>, Refusal> {
    let nonce: Result<Nonce, _> = nonce.parse();
    let take = nonce.ok().and_then(|nonce| registry.get(&nonce));
    let take = take.ok_or(Refusal::Unknown)?;
    let offered = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let token = offered.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    });
    if token.is_some_and(|token| take.admits(token)) {
        take.change(attempt::State::contacted);
        Ok(take)
    } else {
        Err(Refusal::Unauthorized)
    }
}

async fn announcement(
    State(registry): State<Registry>,
    Path(nonce): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let take = admitted(&registry, &nonce, &headers)?;
    Ok(Json(take.announcement(AnnouncementKind::Ready)).into_response())
}

async fn output(
    State(registry): State<Registry>,
    Path((nonce, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let take = admitted(&registry, &nonce, &headers)?;
    let found = take.state().lookup(&name);
    match found {
        Lookup::Unknown => Err(Refusal::Unknown),
        Lookup::Gone(_) => Err(Refusal::Gone),
        Lookup::There(output) => {
            let span = served_span(&output, &headers);
            let sent = send(take, &output, &headers, span.clone());
            sent.instrument(span.clone()).await.map_err(|error| {
                tracing::error!(parent: &span, name = output.name, %error, "send an output");
                trace::failed(&span, "500");
                Refusal::Broken
            })
        }
    }
}

/// The span of an output on its way out. Only for who showed the token: nobody else writes into our
/// traces.
fn served_span(output: &ReadyOutput, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        parent: None,
        "serve",
        otel.name = "GET /attempts/{nonce}/outputs/{name}",
        otel.kind = "server",
        otel.status_code = Empty,
        "error.type" = Empty,
        "http.request.method" = "GET",
        "http.route" = "/attempts/{nonce}/outputs/{name}",
        "http.response.status_code" = Empty,
        "photofinish.bytes" = Empty,
        index = output.index,
    );
    let parent = headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok());
    if let Some(parent) = parent {
        trace::continue_from(&span, parent);
    }
    span
}

/// What goes out of a file: its span ends with it.
struct Serving {
    take: Arc<Take>,
    _span: Span,
}

impl Serving {
    /// A piece goes out.
    fn piece(&self) {
        self.take.served();
    }
}

async fn send(
    take: Arc<Take>,
    output: &ReadyOutput,
    headers: &HeaderMap,
    span: Span,
) -> std::io::Result<Response> {
    let etag = format!("\"{}\"", output.sha256);
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let asked = match text(header::IF_RANGE) {
        Some(condition) if condition != etag => None,
        Some(_) | None => text(header::RANGE),
    };
    let (status, from, length) = match range(asked, output.bytes) {
        Asked::All => (StatusCode::OK, 0, output.bytes),
        Asked::Part { from, length } => (StatusCode::PARTIAL_CONTENT, from, length),
        Asked::Unsatisfiable => {
            let total = [(header::CONTENT_RANGE, format!("bytes */{}", output.bytes))];
            span.record("http.response.status_code", 416);
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, total).into_response());
        }
    };
    span.record("http.response.status_code", status.as_u16());
    span.record("photofinish.bytes", length);
    let mut file = tokio::fs::File::open(take.dir().join(&output.name)).await?;
    file.seek(std::io::SeekFrom::Start(from)).await?;
    let pieces = ReaderStream::with_capacity(file.take(length), CHUNK_BYTES);
    let serving = Serving { take, _span: span };
    let pieces = pieces.inspect_ok(move |_: &Bytes| serving.piece());
    let mut answer = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "video/mp4")
        .header(header::CONTENT_LENGTH, length)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, etag);
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{}", from + length - 1, output.bytes);
        answer = answer.header(header::CONTENT_RANGE, range);
    }
    answer
        .body(Body::from_stream(pieces))
        .map_err(std::io::Error::other)
}

async fn acknowledge(
    State(registry): State<Registry>,
    Path((nonce, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let take = admitted(&registry, &nonce, &headers)?;
    Ok(if take.acknowledge(&name).await {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::NOT_FOUND
    })
}

async fn rescue(
    State(registry): State<Registry>,
    Path(nonce): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let take = admitted(&registry, &nonce, &headers)?;
    take.change(attempt::State::push_asked);
    Ok(StatusCode::ACCEPTED)
}

async fn wanted(
    State(registry): State<Registry>,
    Path(nonce): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    // Who has no token cannot make us wait for a body.
    let take = admitted(&registry, &nonce, &headers)?;
    let body = axum::body::to_bytes(body, WANTED_BYTES_MAX).await;
    let body = body.map_err(|_| Refusal::Unreadable)?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| Refusal::Unreadable)?;
    take.obey(&wanted);
    Ok(StatusCode::NO_CONTENT)
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    Part { from: u64, length: u64 },
    Unsatisfiable,
}

/// One range of bytes; several, or anything else, count as none, as HTTP allows.
fn range(header: Option<&str>, size: u64) -> Asked {
    let parsed = header.and_then(|text| {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        if first.is_empty() {
            let last: u64 = last.parse().ok()?;
            return Some((size.saturating_sub(last), size, last > 0));
        }
        let first: u64 = first.parse().ok()?;
        let last: u64 = if last.is_empty() {
            u64::MAX
        } else {
            last.parse().ok()?
        };
        let end = last.saturating_add(1).min(size);
        (last >= first).then_some((first, end, first < size))
    });
    match parsed {
        None => Asked::All,
        Some((from, end, true)) if end > from => Asked::Part {
            from,
            length: end - from,
        },
        Some(_) => Asked::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_says() {
        let part = |from, length| Asked::Part { from, length };
        let zoo = [
            (None, Asked::All),
            (Some("bytes=0-"), part(0, 100)),
            (Some("bytes=10-19"), part(10, 10)),
            (Some("bytes=90-1000"), part(90, 10)),
            (Some("bytes=-5"), part(95, 5)),
            (Some("bytes=-500"), part(0, 100)),
            (Some("bytes=100-"), Asked::Unsatisfiable),
            (Some("bytes=-0"), Asked::Unsatisfiable),
            (Some("bytes=5-4"), Asked::All),
            (Some("bytes=0-1,5-6"), Asked::All),
            (Some("bytes=a-b"), Asked::All),
            (Some("lines=0-1"), Asked::All),
            (Some("bytes=0-18446744073709551615"), part(0, 100)),
        ];
        for (header, asked) in zoo {
            assert_eq!(range(header, 100), asked, "{header:?}");
        }
        assert_eq!(range(Some("bytes=0-"), 0), Asked::Unsatisfiable);
    }
}
