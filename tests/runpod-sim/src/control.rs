//! What tests call: `/_sim/state`, `/_sim/workers/{id}/kill`, `/_sim/faults`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::client_api::problem;
use crate::server::Shared;
use crate::workers::{self, Signal};

/// Operations that are counted and can be made to fail.
const OPERATIONS: [&str; 13] = [
    "run",
    "status",
    "stream",
    "cancel",
    "purge-queue",
    "health",
    "job-take",
    "job-take-batch",
    "job-stop",
    "ping",
    "job-done",
    "job-stream",
    "proxy",
];

/// The next `count` calls of an operation are answered so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    operation: String,
    /// Code of the answer; without it the call goes on after the delay.
    status: Option<u16>,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    delay_ms: u64,
    /// Whether the call takes effect although it is answered so; the delay comes after it.
    #[serde(default)]
    perform: bool,
    /// `Retry-After` of the answer, seconds.
    retry_after: Option<u64>,
}

fn one() -> u32 {
    1
}

/// Faults that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    fn next(&self, operation: &str) -> Option<Fault> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = faults
            .iter()
            .position(|fault| fault.operation == operation)?;
        faults[at].count -= 1;
        let fault = faults[at].clone();
        if fault.count == 0 {
            faults.remove(at);
        }
        Some(fault)
    }
}

/// The name of an operation in `/v2/{endpoint}/{operation}/…` or `/proxy/…`.
fn operation(path: &str) -> &'static str {
    let mut parts = path.split('/').skip(1);
    let word = match parts.next() {
        Some("proxy") => "proxy",
        Some("v2") => parts.nth(1).unwrap_or_default(),
        Some(_) | None => "",
    };
    OPERATIONS
        .into_iter()
        .find(|name| *name == word)
        .unwrap_or("other")
}

/// Counts every call and plays the fault that is due.
pub(crate) async fn intercept(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let operation = operation(request.uri().path());
    shared.look(|state, _| state.count_call(operation));
    let Some(fault) = shared.faults.next(operation) else {
        return next.run(request).await;
    };
    let delay = tokio::time::sleep(Duration::from_millis(fault.delay_ms));
    let performed = if fault.perform {
        let answer = next.clone().run(request).await;
        delay.await;
        Ok(answer)
    } else {
        delay.await;
        Err(request)
    };
    let Some(status) = fault.status else {
        return match performed {
            Ok(answer) => answer,
            Err(request) => next.run(request).await,
        };
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = problem(status, "fault of the emulator");
    if let Some(seconds) = fault.retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

pub(crate) async fn state(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.look(|state, now| state.dump(now))).into_response()
}

pub(crate) async fn add_fault(
    State(shared): State<Arc<Shared>>,
    Json(fault): Json<Fault>,
) -> Response {
    if !OPERATIONS.contains(&fault.operation.as_str()) || fault.count == 0 {
        let detail = format!(
            "operation is one of {}; count at least 1",
            OPERATIONS.join(", ")
        );
        return problem(StatusCode::BAD_REQUEST, &detail);
    }
    shared
        .faults
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(fault);
    StatusCode::NO_CONTENT.into_response()
}

pub(crate) async fn clear_faults(State(shared): State<Arc<Shared>>) -> Response {
    shared
        .faults
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    StatusCode::NO_CONTENT.into_response()
}

/// Which signal; default `KILL`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Kill {
    signal: Signal,
}

/// Sends a signal to a worker's process, without telling the queue: it has to find out.
pub(crate) async fn kill(
    State(shared): State<Arc<Shared>>,
    Path(worker): Path<String>,
    body: Option<Json<Kill>>,
) -> Response {
    let signal = body.map(|Json(kill)| kill.signal).unwrap_or_default();
    let pid = shared.look(|state, _| state.worker(&worker).and_then(|worker| worker.pid));
    let Some(pid) = pid else {
        return problem(StatusCode::NOT_FOUND, "no such process");
    };
    match workers::send_signal(pid, signal) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => problem(StatusCode::CONFLICT, &error.to_string()),
    }
}
