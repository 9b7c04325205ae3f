//! What tests call: `/_sim/…`. Nothing here needs a key.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::clock::{FACTOR_MAX, FACTOR_MIN};
use crate::endpoints::Endpoint;
use crate::faults::{Fault, WebhookFault, problem};
use crate::server::Shared;
use crate::state::{Signal, Trap};
use crate::workers;

/// All of the control API.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/_sim/state", get(state))
        .route("/_sim/clock", get(clock).post(set_clock))
        .route("/_sim/workers/{worker}/kill", post(kill))
        .route("/_sim/throttle", post(throttle))
        .route(
            "/_sim/faults",
            get(faults).post(add_fault).delete(clear_faults),
        )
        .route("/_sim/faults/webhook", post(add_webhook_fault))
        .route("/_sim/faults/queue", post(add_queue_fault))
        .route("/_sim/faults/worker", post(add_trap))
        .route("/_sim/faults/start", post(add_start_fault))
}

/// A body, JSON whatever its content type says; none is an empty object.
struct Told<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let bytes = Bytes::from_request(request, state).await;
        let mut bytes = bytes.map_err(IntoResponse::into_response)?;
        if bytes.is_empty() {
            bytes = Bytes::from_static(b"{}");
        }
        let told = serde_json::from_slice(&bytes);
        told.map(Self).map_err(|error| bad(&error.to_string()))
    }
}

/// The endpoint that is named, or the first one.
fn at(shared: &Shared, id: Option<&str>) -> Option<Arc<Endpoint>> {
    match id {
        Some(id) => shared.endpoints.endpoint(id),
        None => shared.first(),
    }
}

fn no_endpoint() -> Response {
    problem(StatusCode::NOT_FOUND, "no such endpoint")
}

fn bad(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, detail)
}

/// Everything of the first endpoint, and everything of each by its id.
async fn state(State(shared): State<Arc<Shared>>) -> Response {
    let first = shared.first();
    let mut all = match first.map(|endpoint| endpoint.look(|state, now| state.dump(now))) {
        Some(Value::Object(dump)) => dump,
        Some(_) | None => Map::new(),
    };
    let each = shared.endpoints.endpoints();
    let each = each.iter().map(|endpoint| {
        let dump = endpoint.look(|state, now| state.dump(now));
        (endpoint.id.clone(), dump)
    });
    all.insert("endpoints".to_owned(), Value::Object(each.collect()));
    all.insert("clock".to_owned(), shared.site.clock_dump());
    Json(all).into_response()
}

async fn clock(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.site.clock_dump()).into_response()
}

/// How the clock is to go, and how far it jumps first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTime {
    factor: Option<f64>,
    #[serde(default)]
    advance_ms: u64,
}

async fn set_clock(State(shared): State<Arc<Shared>>, Told(new): Told<NewTime>) -> Response {
    let known = |factor: &f64| (FACTOR_MIN..=FACTOR_MAX).contains(factor);
    if !new.factor.as_ref().is_none_or(known) {
        return bad(&format!("factor is from {FACTOR_MIN} to {FACTOR_MAX}"));
    }
    let by = Duration::from_millis(new.advance_ms);
    if !by.is_zero() {
        // First forgiven, then jumped: no tick may see workers silent for so long.
        for endpoint in shared.endpoints.endpoints() {
            endpoint.look(|state, _| state.jump(by));
        }
        shared.site.clock.advance(by);
    }
    if let Some(factor) = new.factor {
        shared.set_factor(factor);
    }
    Json(shared.site.clock_dump()).into_response()
}

async fn faults(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.site.faults.dump()).into_response()
}

async fn add_fault(State(shared): State<Arc<Shared>>, Told(fault): Told<Fault>) -> Response {
    match shared.site.faults.add(fault) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(detail) => bad(&detail),
    }
}

async fn add_webhook_fault(
    State(shared): State<Arc<Shared>>,
    Told(fault): Told<WebhookFault>,
) -> Response {
    if fault.count == 0 {
        return bad("count is at least 1");
    }
    shared.site.faults.add_webhook(fault);
    StatusCode::NO_CONTENT.into_response()
}

async fn clear_faults(State(shared): State<Arc<Shared>>) -> Response {
    shared.site.faults.clear();
    for endpoint in shared.endpoints.endpoints() {
        endpoint.change(|state, _| {
            *state.mishaps_mut() = crate::state::Mishaps::default();
            state.set_throttled(0);
        });
    }
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueueFault {
    endpoint: Option<String>,
    /// So many of the next jobs are given to two workers.
    #[serde(default)]
    double: u32,
    /// So many of the next jobs are accepted and lost.
    #[serde(default)]
    lose: u32,
}

async fn add_queue_fault(
    State(shared): State<Arc<Shared>>,
    Told(fault): Told<QueueFault>,
) -> Response {
    let Some(endpoint) = at(&shared, fault.endpoint.as_deref()) else {
        return no_endpoint();
    };
    endpoint.look(|state, _| {
        let mishaps = state.mishaps_mut();
        mishaps.doubles += fault.double;
        mishaps.losses += fault.lose;
    });
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Debug, Deserialize)]
struct NewTrap {
    endpoint: Option<String>,
    #[serde(flatten)]
    trap: Map<String, Value>,
}

async fn add_trap(State(shared): State<Arc<Shared>>, Told(new): Told<NewTrap>) -> Response {
    let Some(endpoint) = at(&shared, new.endpoint.as_deref()) else {
        return no_endpoint();
    };
    let trap: Trap = match serde_json::from_value(Value::Object(new.trap)) {
        Ok(trap) => trap,
        Err(error) => return bad(&error.to_string()),
    };
    if trap.count == 0 {
        return bad("count is at least 1");
    }
    endpoint.look(|state, _| state.mishaps_mut().traps.push(trap));
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartFault {
    endpoint: Option<String>,
    /// So many of the next workers end at once.
    #[serde(default)]
    crash: u32,
    /// So many of the next workers start late, …
    #[serde(default)]
    slow: u32,
    /// … by this, virtual time.
    #[serde(default)]
    delay_ms: u64,
}

async fn add_start_fault(
    State(shared): State<Arc<Shared>>,
    Told(fault): Told<StartFault>,
) -> Response {
    let Some(endpoint) = at(&shared, fault.endpoint.as_deref()) else {
        return no_endpoint();
    };
    endpoint.look(|state, _| {
        let mishaps = state.mishaps_mut();
        mishaps.crashes += fault.crash;
        if fault.slow > 0 {
            mishaps.slow_starts = (fault.slow, fault.delay_ms);
        }
    });
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Throttle {
    endpoint: Option<String>,
    workers: usize,
}

async fn throttle(State(shared): State<Arc<Shared>>, Told(throttle): Told<Throttle>) -> Response {
    match at(&shared, throttle.endpoint.as_deref()) {
        Some(endpoint) => {
            endpoint.change(|state, _| state.set_throttled(throttle.workers));
            StatusCode::NO_CONTENT.into_response()
        }
        None => no_endpoint(),
    }
}

/// Which signal, default `KILL`, and when, real milliseconds from now.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kill {
    signal: Signal,
    after_ms: u64,
}

/// Sends a signal to a worker's process, without telling the queue: it has to find out.
async fn kill(
    State(shared): State<Arc<Shared>>,
    Path(worker): Path<String>,
    Told(kill): Told<Kill>,
) -> Response {
    let unknown = || problem(StatusCode::NOT_FOUND, "no such process");
    let Some(endpoint) = shared.endpoints.of_worker(&worker) else {
        return unknown();
    };
    let pid = endpoint.look(|state, _| state.worker(&worker).and_then(|worker| worker.pid));
    let Some(pid) = pid else {
        return unknown();
    };
    if kill.after_ms > 0 {
        let after = Duration::from_millis(kill.after_ms);
        endpoint.signal(worker, pid, kill.signal, after);
        return StatusCode::NO_CONTENT.into_response();
    }
    match workers::send_signal(pid, kill.signal) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => problem(StatusCode::CONFLICT, &error.to_string()),
    }
}
