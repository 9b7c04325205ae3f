//! Plays the fault that is due on a call.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::{Value, json};

use super::{Cut, Fault, OPERATIONS};
use crate::server::Shared;

/// Largest answer that is edited or cut in its middle.
const EDITED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// From the first half of a body to the cut, so that the half is on its way.
const HALF_SENT: Duration = Duration::from_millis(50);

/// An answer in the shape RunPod's errors have.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({"status": status.as_u16(), "title": title, "detail": detail});
    (status, Json(body)).into_response()
}

/// The operation and the endpoint's id of a path.
fn place<'a>(shared: &Shared, path: &'a str) -> (&'static str, std::borrow::Cow<'a, str>) {
    let mut parts = path.split('/').skip(1);
    let (word, endpoint) = match (parts.next(), parts.next()) {
        (Some("proxy"), Some(target)) => {
            let worker = target.rsplit_once('-').map_or(target, |(worker, _)| worker);
            let endpoint = shared.endpoints.of_worker(worker);
            let id = endpoint.map(|endpoint| endpoint.id.clone());
            ("proxy", id.unwrap_or_default().into())
        }
        (Some("v2"), Some("serverless" | "templates" | "catalog" | "billing"))
        | (Some("graphql"), _) => ("management", "".into()),
        (Some("v2"), Some(endpoint)) => (parts.next().unwrap_or_default(), endpoint.into()),
        _ => ("", "".into()),
    };
    let known = OPERATIONS.into_iter().find(|name| *name == word);
    (known.unwrap_or("other"), endpoint)
}

/// Counts every call and plays the fault that is due.
pub(crate) async fn intercept(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let (operation, id) = place(&shared, &path);
    let counted = shared.endpoints.endpoint(&id).or_else(|| shared.first());
    if let Some(endpoint) = counted {
        endpoint.look(|state, _| state.count_call(operation));
    }
    match shared.site.faults.next(operation, &id) {
        None => next.run(request).await,
        Some(fault) => play(&shared, fault, request, next).await,
    }
}

async fn play(shared: &Shared, fault: Fault, request: Request, next: Next) -> Response {
    let edits = !fault.set.is_empty() || !fault.remove.is_empty();
    let made = fault.status.is_some() || fault.body.is_some() || fault.ignore || fault.hang;
    // Otherwise the real answer stands, if only edited or cut.
    let made = made || fault.cut == Some(Cut::Before);
    let delay = tokio::time::sleep(Duration::from_millis(fault.delay_ms));
    let performed = if fault.perform {
        let answer = next.run(request).await;
        delay.await;
        Some(answer)
    } else {
        delay.await;
        if made {
            None
        } else {
            Some(next.run(request).await)
        }
    };
    if fault.hang {
        shared.site.closing.cancelled().await;
    }
    let answer = match performed {
        Some(answer) if !made => answer,
        Some(_) | None if fault.ignore => Json(json!({})).into_response(),
        Some(_) | None => made_up(&fault),
    };
    let answer = if edits {
        edit(&fault, answer).await
    } else {
        answer
    };
    match (fault.cut, fault.cut_after_bytes) {
        (Some(Cut::Before), _) => cut_before(),
        (Some(Cut::Body), _) => cut_in_half(answer).await,
        (None, Some(bytes)) => cut_after(answer, bytes),
        (None, None) => answer,
    }
}

fn made_up(fault: &Fault) -> Response {
    let status = fault.status.unwrap_or(200);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = match &fault.body {
        Some(body) => (status, body.clone()).into_response(),
        None => problem(status, "fault of the emulator"),
    };
    let headers = answer.headers_mut();
    let content_type = fault.content_type.as_deref().map(HeaderValue::from_str);
    if let Some(Ok(content_type)) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(seconds) = fault.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Sets and removes keys of a JSON object; anything else stays as it is.
async fn edit(fault: &Fault, answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, EDITED_BYTES_MAX).await;
    let bytes = bytes.unwrap_or_default();
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    for key in &fault.remove {
        object.remove(key);
    }
    object.extend(fault.set.clone());
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(Value::Object(object).to_string()))
}

/// The server drops a connection whose body fails, here before anything was sent.
pub(crate) fn cut_before() -> Response {
    let body = stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
    Response::new(Body::from_stream(body))
}

async fn cut_in_half(answer: Response) -> Response {
    let (mut parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, EDITED_BYTES_MAX).await;
    let bytes = bytes.unwrap_or_default();
    parts.headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(bytes.len().max(2)),
    );
    let half = bytes.slice(..bytes.len() / 2);
    let body = stream::once(async { Ok::<_, std::io::Error>(half) }).chain(stream::once(async {
        tokio::time::sleep(HALF_SENT).await;
        Err(std::io::Error::other("cut"))
    }));
    Response::from_parts(parts, Body::from_stream(body))
}

/// Passes so many bytes on, then cuts.
fn cut_after(answer: Response, bytes: u64) -> Response {
    let (parts, body) = answer.into_parts();
    let left = Some((body.into_data_stream(), bytes));
    let body = stream::unfold(left, |left| async move {
        let (mut data, left) = left?;
        if left == 0 {
            tokio::time::sleep(HALF_SENT).await;
            return Some((Err(std::io::Error::other("cut")), None));
        }
        match data.next().await? {
            Err(error) => Some((Err(std::io::Error::other(error)), None)),
            Ok(chunk) => {
                let most = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let rest = left - most as u64;
                Some((Ok(chunk.slice(..most)), Some((data, rest))))
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(body))
}
