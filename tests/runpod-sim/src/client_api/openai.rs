//! `/openai/v1/…`: a job like any other, whose input is the route and the body of the call and
//! whose output is the answer. With `"stream": true` the chunks are sent on as they come.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::stream;
use serde_json::{Map, Value, json};

use super::At;
use super::waiting::wait;
use crate::endpoints::Endpoint;
use crate::faults::problem;
use crate::state::NewJob;

/// How long the answer is waited for, virtual time.
const HOLD: Duration = Duration::from_mins(5);

pub(super) async fn pass_on(
    Extension(endpoint): At,
    Path((_, path)): Path<(String, String)>,
    request: Request,
) -> Response {
    let bytes_max = endpoint.site.config.run_bytes_max;
    let Ok(bytes) = axum::body::to_bytes(request.into_body(), bytes_max).await else {
        return problem(
            StatusCode::BAD_REQUEST,
            "bad request: body too large or cut",
        );
    };
    // A GET (of models) has none.
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Object(Map::new()));
    let streams = body["stream"].as_bool() == Some(true);
    let new = NewJob {
        input: json!({"openai_route": format!("/{path}"), "openai_input": body}),
        sync: true,
        ..NewJob::default()
    };
    let id = format!("sync-{}-u1", uuid::Uuid::new_v4());
    endpoint.change(|state, now| state.submit(id.clone(), new, now));
    if streams {
        return chunks(endpoint, id);
    }
    let found = wait(&endpoint, HOLD, |state, _| {
        state.view_and_end(&id).filter(|(_, ended)| *ended)
    });
    match found.await {
        None => problem(
            StatusCode::GATEWAY_TIMEOUT,
            "the worker did not answer in time",
        ),
        Some((view, _)) if view["status"] == "COMPLETED" => {
            Json(answer_of(view["output"].clone())).into_response()
        }
        Some((view, _)) => {
            let detail = view["error"].as_str().unwrap_or("the job did not complete");
            problem(StatusCode::INTERNAL_SERVER_ERROR, detail)
        }
    }
}

/// A generator's answer is a list of one.
fn answer_of(output: Value) -> Value {
    match output {
        Value::Array(mut all) if all.len() == 1 => all.remove(0),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => output,
    }
}

/// Server-sent events: text as it is (workers send whole events), anything else as data.
fn chunks(endpoint: Arc<Endpoint>, id: String) -> Response {
    let pieces = stream::unfold(Some((endpoint, id)), |left| async move {
        let (endpoint, id) = left?;
        let found = wait(&endpoint, HOLD, |state, _| {
            let (chunks, _, ended) = state.drain_stream(&id)?;
            (!chunks.is_empty() || ended).then_some((chunks, ended))
        });
        let (chunks, ended) = found.await?;
        let text = chunks.iter().map(|chunk| {
            let output = &chunk["output"];
            let text = output.as_str().map(str::to_owned);
            text.unwrap_or_else(|| format!("data: {output}\n\n"))
        });
        let bytes = Bytes::from(text.collect::<String>());
        Some((
            Ok::<_, std::io::Error>(bytes),
            (!ended).then_some((endpoint, id)),
        ))
    });
    let body = Body::from_stream(pieces);
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
