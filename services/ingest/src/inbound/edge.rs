//! What is the same at every call: its id, its time, what its client takes, and how it is seen.
//!
//! Guarantee: every answer has an `x-request-id`, the client's own if it is sane, and a problem names it as its
//! `instance`; nothing private is kept by a cache; a call is answered in time, an event stream begins in time. The path
//! in logs and numbers is the route's: a hook's token is never written down.

use crate::config::Http;
use crate::error::Refusal;
use crate::problems::{Arriving, with_instance};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use photofinish_model::Code;
use photofinish_runtime::trace;
use std::time::{Duration, Instant};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate as _, SizeAbove};
use tower_http::cors::CorsLayer;
use tracing::Instrument as _;
use tracing::field::Empty;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a client's own request id at most.
const REQUEST_ID_CHARS_MAX: usize = 128;
/// Answers below this are not worth packing.
const GZIP_BYTES_MIN: u64 = 1024;
/// A browser may remember for so long what it is allowed to call.
const CORS_MAX_AGE: Duration = Duration::from_hours(1);

/// The methods that are told apart in numbers.
static METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// What a call may take.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// While its body comes.
    pub(super) body: Arriving,
    /// Until it is answered.
    pub(super) request: Duration,
}

/// A span, an id and numbers for each call.
pub(super) async fn observed(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = known(request.method());
    let matched = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    let route = matched.unwrap_or("none").to_owned();
    let id = request_id(request.headers());
    let shown = id.to_str().unwrap_or_default().to_owned();
    request.headers_mut().insert(REQUEST_ID, id.clone());
    // Of the highest level: its fields stand on every line that is logged inside of it.
    let span = tracing::error_span!(
        "http",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        "error.type" = Empty,
        "http.request.method" = method,
        "http.route" = route,
        "http.response.status_code" = Empty,
        method,
        route,
        request_id = shown,
        status = Empty,
        tenant = Empty,
        job = Empty,
        trace_id = Empty,
    );
    if let Some(parent) = request.headers().get("traceparent") {
        let state = request.headers().get("tracestate");
        let state = state.and_then(|state| state.to_str().ok());
        trace::continue_with(&span, parent.to_str().unwrap_or_default(), state);
    }
    trace::note_id(&span);
    let response = next.run(request).instrument(span.clone()).await;
    let mut response = with_instance(response, &shown);
    let status = response.status().as_u16();
    span.record("status", status);
    span.record("http.response.status_code", status);
    if status >= 500 {
        trace::failed(&span, &status.to_string());
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    let nosniff = HeaderName::from_static("x-content-type-options");
    headers.insert(nosniff, HeaderValue::from_static("nosniff"));
    let labels = [
        ("method", method.to_owned()),
        ("route", route),
        ("status", status.to_string()),
    ];
    metrics::counter!("photofinish_ingest_http_requests_total", &labels).increment(1);
    metrics::histogram!("photofinish_ingest_http_seconds").record(begun.elapsed().as_secs_f64());
    response
}

/// A method's name; a stranger's own word would make a new row of numbers, for ever.
fn known(method: &Method) -> &'static str {
    let known = METHODS.iter().find(|known| *known == method);
    known.map_or("other", Method::as_str)
}

/// The client's own id if it can stand in logs and headers, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-:".contains(byte);
        (1..=REQUEST_ID_CHARS_MAX).contains(&id.len()) && id.as_bytes().iter().all(plain)
    };
    let given = headers.get(REQUEST_ID).filter(sane).cloned();
    given.unwrap_or_else(|| {
        let made = uuid::Uuid::new_v4().simple().to_string();
        HeaderValue::from_str(&made).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// Refuses what cannot be answered in a type that the client takes, and answers in time.
pub(super) async fn bounded(
    State(bounds): State<Bounds>,
    mut request: Request,
    next: Next,
) -> Response {
    let offered = offered(request.uri().path());
    if !accepts(request.headers(), offered) {
        let detail = format!("this call answers with {}", offered.join(" or "));
        return Refusal::new(406, Code::NotAcceptable, detail).into_response();
    }
    request.extensions_mut().insert(bounds.body);
    match tokio::time::timeout(bounds.request, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            let detail = "the answer was not there in time; send the request again, \
                a submission with the same Idempotency-Key";
            Refusal::new(503, Code::RequestTimeout, detail).into_response()
        }
    }
}

/// The types that a call answers with; none where it does not matter: a hook is told what it may drop, and an output is
/// somewhere else, of whatever type its player wants.
fn offered(path: &str) -> &'static [&'static str] {
    let of_job = path
        .strip_prefix("/v1/jobs/")
        .and_then(|rest| rest.split_once('/'));
    if path.starts_with("/hooks/") || of_job.is_some_and(|(_, rest)| rest.starts_with("outputs/")) {
        &[]
    } else if path.starts_with("/v1/jobs/") && path.ends_with("/events") {
        &["text/event-stream"]
    } else if path == "/docs" {
        &["text/html"]
    } else {
        &["application/json", "application/problem+json"]
    }
}

/// Whether `Accept` lets one of the types pass; none given, or one that cannot be read, takes all.
fn accepts(headers: &HeaderMap, offered: &[&str]) -> bool {
    let mut ranges = Vec::new();
    for value in headers.get_all(ACCEPT) {
        let Ok(text) = value.to_str() else {
            return true;
        };
        ranges.extend(
            text.split(',')
                .map(|range| range.trim().to_ascii_lowercase()),
        );
    }
    ranges.retain(|range| !range.is_empty());
    let takes = |range: &String| {
        let mut parts = range.split(';').map(str::trim);
        let wanted = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
            weight == Some(0.0)
        });
        let matches = |kind: &&str| {
            let whole = kind.split('/').next().unwrap_or_default();
            wanted == "*/*" || wanted == *kind || wanted == format!("{whole}/*")
        };
        !refused && offered.iter().any(matches)
    };
    offered.is_empty() || ranges.is_empty() || ranges.iter().any(takes)
}

/// Packs answers that are worth it; event streams never.
pub(super) fn gzip() -> CompressionLayer<impl tower_http::compression::Predicate> {
    let worth = DefaultPredicate::new().and(SizeAbove::new(GZIP_BYTES_MIN));
    CompressionLayer::new().gzip(true).compress_when(worth)
}

/// Lets pages of the configured origins call the API from a browser; none: no page may.
pub(super) fn cors(http: &Http) -> Option<CorsLayer> {
    if http.cors_origins.is_empty() {
        return None;
    }
    let taken = [
        AUTHORIZATION,
        CONTENT_TYPE,
        REQUEST_ID,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("x-api-key"),
    ];
    let layer = CorsLayer::new()
        .allow_origin(http.cors_origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(taken)
        .expose_headers([LOCATION, RETRY_AFTER, REQUEST_ID])
        .max_age(CORS_MAX_AGE);
    Some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_takes_is_read_with_care() {
        let json = offered("/v1/jobs");
        let cases = [
            ("*/*", true),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("text/html, application/*;q=0.1", true),
            ("", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("application/json;q=0, */*;q=0.5", true),
            ("image/png, text/event-stream", false),
        ];
        for (accept, taken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts(&headers, json), taken, "{accept}");
        }
        assert!(accepts(&HeaderMap::new(), json));
        assert_eq!(offered("/v1/jobs/job_1/events"), ["text/event-stream"]);
        assert!(!offered("/v1/jobs/job_1/outputs").is_empty());
        let mut video = HeaderMap::new();
        video.insert(ACCEPT, HeaderValue::from_static("video/mp4"));
        for anything in ["/v1/jobs/job_1/outputs/a", "/hooks/runpod/token"] {
            assert!(accepts(&video, offered(anything)), "{anything}");
        }
    }

    #[test]
    fn a_method_that_nobody_knows_makes_no_row_of_its_own() {
        assert_eq!(known(&Method::PATCH), "PATCH");
        assert_eq!(known(&Method::from_bytes(b"BREW7").unwrap()), "other");
    }

    #[test]
    fn an_id_of_the_clients_own_is_kept_if_it_is_sane() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_static(text));
            request_id(&headers)
        };
        assert_eq!(of("abc-1.2_3:4"), "abc-1.2_3:4");
        for odd in ["", "a b", "a\"b", "a/b"] {
            let made = of(odd);
            assert_eq!(made.len(), 32, "{odd:?}");
        }
    }
}
