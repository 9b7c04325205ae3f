//! `/v2/templates`: container settings with a name.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::desk::Desk;
use super::{Refusal, new_id, not_found, object, page, rules};

/// What a template and an endpoint have in common, but the environment.
const COMMON: [&str; 5] = ["image", "args", "disk", "ports", "registry"];

pub(super) async fn list(Extension(desk): Extension<Arc<Desk>>) -> Response {
    page("templates", desk.templates().values().cloned().collect())
}

pub(super) async fn create(
    Extension(desk): Extension<Arc<Desk>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let mut doc = defaults();
    overlay(&mut doc, &object(&body)?);
    doc["id"] = json!(new_id());
    let doc = save(&desk, doc)?;
    Ok((StatusCode::CREATED, Json(doc)).into_response())
}

pub(super) async fn read(
    Extension(desk): Extension<Arc<Desk>>,
    Path(id): Path<String>,
) -> Response {
    let found = desk.templates().get(&id).cloned();
    found.map_or_else(not_found, |template| Json(template).into_response())
}

pub(super) async fn change(
    Extension(desk): Extension<Arc<Desk>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let found = desk.templates().get(&id).cloned();
    let Some(mut doc) = found else {
        return Ok(not_found());
    };
    overlay(&mut doc, &object(&body)?);
    doc["id"] = json!(id);
    Ok(Json(save(&desk, doc)?).into_response())
}

pub(super) async fn delete(
    Extension(desk): Extension<Arc<Desk>>,
    Path(id): Path<String>,
) -> Response {
    match desk.templates().remove(&id) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => not_found(),
    }
}

/// What a create leaves out.
pub(super) fn defaults() -> Value {
    json!({"args": "", "disk": 20, "env": {}, "ports": [], "registry": null, "serverless": false,
           "public": false, "category": "NVIDIA", "mounts": {}, "startSsh": true,
           "startJupyter": true, "allowedCudaVersions": []})
}

/// Puts a template's settings under a body's own.
pub(super) fn apply(template: &Value, body: &mut Value) {
    for name in COMMON {
        if body.get(name).is_none() {
            body[name] = template[name].clone();
        }
    }
    let mut env = template["env"].clone();
    if let Some(own) = body["env"].as_object() {
        overlay(&mut env, &json!(own));
    }
    body["env"] = env;
}

/// Checks a template and keeps it.
pub(super) fn save(desk: &Desk, doc: Value) -> Result<Value, Refusal> {
    let faults = rules::template(&doc);
    if !faults.is_empty() {
        return Err(Refusal::faults(faults));
    }
    let id = doc["id"].as_str().unwrap_or_default().to_owned();
    let mut templates = desk.templates();
    let same_name = |(other, one): (&String, &Value)| *other != id && one["name"] == doc["name"];
    if templates.iter().any(same_name) {
        let detail = "a template has this name already";
        return Err(Refusal::new(StatusCode::CONFLICT, detail));
    }
    templates.insert(id, doc.clone());
    Ok(doc)
}

fn overlay(doc: &mut Value, body: &Value) {
    for (name, value) in body.as_object().into_iter().flatten() {
        doc[name] = value.clone();
    }
}
