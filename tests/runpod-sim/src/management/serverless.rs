//! `/v2/serverless` and what is below it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::desk::Desk;
use super::{Refusal, document, new_id, not_found, object, page, problem, rules, templates};
use crate::endpoints::{Endpoint, EndpointSpec};
use crate::server::Shared;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Response {
    let all = shared.endpoints.endpoints();
    let rows = all.iter().map(|endpoint| document::of_endpoint(endpoint));
    page("endpoints", rows.collect())
}

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(desk): Extension<Arc<Desk>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let body = with_template(&desk, object(&body)?)?;
    let doc = document::merged(&document::defaults(), &body);
    let faults = rules::endpoint(&doc, &body, None);
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    Ok(match begin(&shared, &doc) {
        Some(endpoint) => {
            (StatusCode::CREATED, Json(document::of_endpoint(&endpoint))).into_response()
        }
        None => problem(StatusCode::CONFLICT, "an endpoint has this id already"),
    })
}

/// Makes the endpoint of a checked document.
pub(super) fn begin(shared: &Shared, doc: &Value) -> Option<Arc<Endpoint>> {
    let site = &shared.site;
    let mut spec = EndpointSpec::from_config(&site.config, &new_id(), site.command.clone());
    document::fill(&mut spec, doc);
    document::stamp(&mut spec, site.clock.wall_ms(site.clock.now()));
    shared.endpoints.create_endpoint(spec)
}

pub(super) async fn read(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    match shared.endpoints.endpoint(&id) {
        Some(endpoint) => Json(document::of_endpoint(&endpoint)).into_response(),
        None => not_found(),
    }
}

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Extension(desk): Extension<Arc<Desk>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let Some(endpoint) = shared.endpoints.endpoint(&id) else {
        return Ok(not_found());
    };
    let body = with_template(&desk, object(&body)?)?;
    let before = document::of_spec(&endpoint.spec());
    let conflict = |detail| Err(Refusal::new(StatusCode::BAD_REQUEST, detail));
    if body.get("type").is_some_and(|kind| *kind != before["type"]) {
        return conflict("the type of an endpoint is fixed");
    }
    if !body["gpu"]["excludedTypes"].is_null() && body["gpu"]["pools"].is_null() {
        return conflict("gpu.excludedTypes needs gpu.pools");
    }
    let doc = document::merged(&before, &body);
    let faults = rules::endpoint(&doc, &body, Some(&before));
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    shared
        .endpoints
        .change_endpoint(&id, |spec| document::fill(spec, &doc));
    Ok(Json(document::of_endpoint(&endpoint)).into_response())
}

pub(super) async fn delete(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    if shared.endpoints.delete_endpoint(&id) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        not_found()
    }
}

pub(super) async fn workers(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let Some(endpoint) = shared.endpoints.endpoint(&id) else {
        return not_found();
    };
    let throttled = endpoint.look(|state, _| state.throttled());
    Json(document::workers(&endpoint, throttled)).into_response()
}

pub(super) async fn releases(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Response {
    match shared.endpoints.endpoint(&id) {
        Some(endpoint) => Json(document::releases(&endpoint)).into_response(),
        None => not_found(),
    }
}

/// The body with what its template gives: the body's own values win, the environment is merged
/// variable by variable. No link to the template is kept.
fn with_template(desk: &Desk, mut body: Value) -> Result<Value, Refusal> {
    let Some(id) = body["templateId"].as_str().map(str::to_owned) else {
        return Ok(body);
    };
    let template = desk.templates().get(&id).cloned();
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, "template not found");
    let template = template.ok_or_else(unknown)?;
    if template["serverless"] != true {
        let detail = "the template is not a serverless template";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    templates::apply(&template, &mut body);
    if let Some(body) = body.as_object_mut() {
        body.remove("templateId");
    }
    let floor = body["gpu"]["minCudaVersion"].is_string();
    let versions = &template["allowedCudaVersions"];
    let given = !body["gpu"]["allowedCudaVersions"].is_null();
    if body["gpu"].is_object() && !floor && !given && versions.is_array() {
        body["gpu"]["allowedCudaVersions"] = json!(versions);
    }
    Ok(body)
}
