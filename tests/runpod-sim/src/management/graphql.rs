//! `POST /graphql`: the calls for endpoints and templates that the official Python SDK makes.
//!
//! Errors are answered with 200 and `errors`, as RunPod does. `saveEndpoint` with an id replaces
//! the whole endpoint: what it leaves out is the default again.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::desk::Desk;
use super::query::{self, Field};
use super::{Refusal, document, new_id, rules, serverless, templates};
use crate::endpoints::Endpoint;
use crate::server::Shared;

/// Answers one operation.
pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    Extension(desk): Extension<Arc<Desk>>,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = body["query"].as_str().unwrap_or_default();
    let done = query::parse(text, &body["variables"]).and_then(|fields| {
        let mut data = Map::new();
        for field in &fields {
            let value = resolve(&shared, &desk, field)?;
            data.insert(field.alias.clone(), query::select(&value, &field.fields));
        }
        Ok(data)
    });
    let answer = match done {
        Ok(data) => json!({"data": data}),
        Err(message) => json!({"errors": [{"message": message}], "data": null}),
    };
    Json(answer).into_response()
}

fn resolve(shared: &Shared, desk: &Desk, field: &Field) -> Result<Value, String> {
    let input = field.args.get("input").unwrap_or(&Value::Null);
    let id = |name: &str| {
        let value = field.args.get(name).and_then(Value::as_str);
        value.ok_or_else(|| format!("{} needs {name}", field.name))
    };
    match field.name.as_str() {
        "myself" => Ok(myself(shared, desk)),
        "saveTemplate" => save_template(desk, input),
        "deleteTemplate" => delete_template(shared, desk, id("templateName")?),
        "saveEndpoint" => save_endpoint(shared, desk, input),
        "deleteEndpoint" => delete_endpoint(shared, id("id")?),
        "updateEndpointTemplate" => update_template(shared, desk, input),
        other => Err(format!(
            "Cannot query field \"{other}\": it is not emulated."
        )),
    }
}

fn myself(shared: &Shared, desk: &Desk) -> Value {
    let endpoints = shared.endpoints.endpoints();
    let endpoints: Vec<Value> = endpoints.iter().map(|one| endpoint_view(one)).collect();
    let templates: Vec<Value> = desk.templates().values().map(template_view).collect();
    json!({"id": "user_sim", "endpoints": endpoints, "podTemplates": templates})
}

fn save_template(desk: &Desk, input: &Value) -> Result<Value, String> {
    let rows = input["env"].as_array().into_iter().flatten();
    let env: Map<String, Value> = rows
        .filter_map(|row| Some((row["key"].as_str()?.to_owned(), row["value"].clone())))
        .collect();
    let mut doc = templates::defaults();
    doc["id"] = match input["id"].as_str() {
        Some(id) if desk.templates().contains_key(id) => json!(id),
        Some(id) => return Err(format!("template {id} not found")),
        None => json!(new_id()),
    };
    for (name, value) in [
        ("name", input["name"].clone()),
        ("image", input["imageName"].clone()),
        ("args", json!(text(&input["dockerArgs"]))),
        (
            "disk",
            json!(input["containerDiskInGb"].as_u64().unwrap_or(20).max(1)),
        ),
        ("ports", list(&input["ports"])),
        ("env", Value::Object(env)),
        ("serverless", json!(input["isServerless"] == true)),
        ("registry", or_null(&input["containerRegistryAuthId"])),
    ] {
        doc[name] = value;
    }
    let saved = templates::save(desk, doc).map_err(told)?;
    Ok(template_view(&saved))
}

fn delete_template(shared: &Shared, desk: &Desk, name: &str) -> Result<Value, String> {
    let found = desk
        .templates()
        .iter()
        .find(|(_, template)| template["name"] == name)
        .map(|(id, _)| id.clone());
    let id = found.ok_or_else(|| format!("template {name} not found"))?;
    let endpoints = shared.endpoints.endpoints();
    let uses = |one: &Arc<Endpoint>| one.spec().other.get(document::TEMPLATE) == Some(&json!(id));
    if endpoints.iter().any(uses) {
        return Err(format!("template {name} is in use"));
    }
    desk.templates().remove(&id);
    Ok(Value::Null)
}

fn save_endpoint(shared: &Shared, desk: &Desk, input: &Value) -> Result<Value, String> {
    let doc = endpoint_document(desk, input)?;
    let faults = rules::endpoint(&doc, &Value::Null, None);
    if !faults.is_empty() {
        return Err(told(Refusal::faults(faults)));
    }
    let id = input["id"].as_str();
    let endpoint = match id {
        None => serverless::begin(shared, &doc),
        Some(id) => shared
            .endpoints
            .change_endpoint(id, |spec| document::fill(spec, &doc))
            .and_then(|_| shared.endpoints.endpoint(id)),
    };
    let endpoint = endpoint.ok_or("endpoint not found")?;
    Ok(endpoint_view(&endpoint))
}

/// GraphQL's input as a document of REST v2.
fn endpoint_document(desk: &Desk, input: &Value) -> Result<Value, String> {
    let template_id = input["templateId"].as_str().unwrap_or_default();
    let template = desk.templates().get(template_id).cloned();
    let template = template.ok_or_else(|| format!("template {template_id:?} not found"))?;
    let words = list(&input["gpuIds"]);
    let words = words
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let (excluded, pools): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('-'));
    let excluded: Vec<&str> = excluded.iter().map(|word| &word[1..]).collect();
    let number = |name: &str, default: u64| input[name].as_u64().unwrap_or(default);
    let value = input["scalerValue"].as_f64().unwrap_or(4.0);
    let scaling = if input["scalerType"] == "REQUEST_COUNT" {
        json!({"type": "REQUEST_COUNT", "requestCount": value as u64})
    } else {
        json!({"type": "QUEUE_DELAY", "queueDelay": value})
    };
    let mut gpu = json!({"pools": pools, "excludedTypes": excluded, "count": number("gpuCount", 1),
                         "allowedCudaVersions": list(&input["allowedCudaVersions"])});
    if let Some(floor) = input["minCudaVersion"]
        .as_str()
        .filter(|text| !text.is_empty())
    {
        gpu["minCudaVersion"] = json!(floor);
    }
    let mut workers = json!({"min": number("workersMin", 0), "max": number("workersMax", 3)});
    if scaling["type"] == "QUEUE_DELAY" {
        workers["idleTimeout"] = json!(number("idleTimeout", 5));
    }
    let kind = input["type"].as_str().unwrap_or("QB");
    let mut body = json!({
        "name": input["name"], "type": if kind == "LB" { "LOAD_BALANCER" } else { "QUEUE" },
        "scaling": scaling, "gpu": gpu, "workers": workers, "env": {},
        "timeout": number("executionTimeoutMs", 600_000).max(1),
        "flashboot": input["flashBootType"].as_str().unwrap_or("OFF"),
        "dataCenterIds": list(&input["locations"]),
        "networkVolumes": list(&input["networkVolumeId"]),
    });
    templates::apply(&template, &mut body);
    let mut doc = document::merged(&document::defaults(), &body);
    doc[document::TEMPLATE] = json!(template_id);
    Ok(doc)
}

fn delete_endpoint(shared: &Shared, id: &str) -> Result<Value, String> {
    let endpoint = shared.endpoints.endpoint(id).ok_or("endpoint not found")?;
    let spec = endpoint.spec();
    if spec.workers_min > 0 || spec.workers_max > 0 {
        return Err("set workersMin and workersMax to 0 first".to_owned());
    }
    shared.endpoints.delete_endpoint(id);
    Ok(Value::Null)
}

fn update_template(shared: &Shared, desk: &Desk, input: &Value) -> Result<Value, String> {
    let (id, template_id) = (text(&input["endpointId"]), text(&input["templateId"]));
    let endpoint = shared.endpoints.endpoint(&id).ok_or("endpoint not found")?;
    let template = desk.templates().get(&template_id).cloned();
    let template = template.ok_or("template not found")?;
    let mut body = json!({"env": {}});
    templates::apply(&template, &mut body);
    let mut doc = document::merged(&document::of_spec(&endpoint.spec()), &body);
    doc[document::TEMPLATE] = json!(template_id);
    let changed = shared
        .endpoints
        .change_endpoint(&id, |spec| document::fill(spec, &doc));
    changed.ok_or("endpoint not found")?;
    Ok(endpoint_view(&endpoint))
}

/// An endpoint as GraphQL shows it.
fn endpoint_view(endpoint: &Endpoint) -> Value {
    let (spec, doc) = (endpoint.spec(), document::of_endpoint(endpoint));
    let gpu = &doc["gpu"];
    let strings = |value: &Value| -> Vec<String> {
        let rows = value.as_array().into_iter().flatten();
        rows.filter_map(|row| Some(row.as_str()?.to_owned()))
            .collect()
    };
    let mut gpu_ids = strings(&gpu["pools"]);
    gpu_ids.extend(
        strings(&gpu["excludedTypes"])
            .iter()
            .map(|name| format!("-{name}")),
    );
    let scaling = &doc["scaling"];
    let value = match scaling["queueDelay"].as_f64() {
        Some(delay) => json!(delay.ceil() as u64),
        None => scaling["requestCount"].clone(),
    };
    let env: Vec<Value> = spec
        .env
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    let pods: Vec<Value> = endpoint
        .workers()
        .iter()
        .map(|worker| json!({"id": worker.id, "desiredStatus": "RUNNING"}))
        .collect();
    json!({
        "id": endpoint.id, "name": spec.name, "type": "QB", "version": spec.version,
        "templateId": spec.other.get(document::TEMPLATE), "gpuIds": gpu_ids.join(","),
        "gpuCount": gpu["count"], "workersMin": spec.workers_min, "workersMax": spec.workers_max,
        "workersStandby": 0, "idleTimeout": doc["workers"]["idleTimeout"],
        "scalerType": scaling["type"], "scalerValue": value,
        "locations": strings(&doc["dataCenterIds"]).join(","),
        "networkVolumeId": strings(&doc["networkVolumes"]).join(","),
        "allowedCudaVersions": strings(&gpu["allowedCudaVersions"]).join(","),
        "minCudaVersion": gpu["minCudaVersion"], "executionTimeoutMs": doc["timeout"],
        "flashBootType": doc["flashboot"], "createdAt": doc["createdAt"], "env": env,
        "pods": pods, "userId": "user_sim",
    })
}

/// A template as GraphQL shows it.
fn template_view(doc: &Value) -> Value {
    let env = doc["env"].as_object().into_iter().flatten();
    let env: Vec<Value> = env
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    let ports = doc["ports"].as_array().into_iter().flatten();
    let ports: Vec<&str> = ports.filter_map(Value::as_str).collect();
    json!({
        "id": doc["id"], "name": doc["name"], "imageName": doc["image"], "dockerArgs": doc["args"],
        "containerDiskInGb": doc["disk"], "volumeInGb": 0, "volumeMountPath": "/workspace",
        "ports": ports.join(","), "env": env, "isServerless": doc["serverless"],
    })
}

/// A list that GraphQL writes as a text with commas.
fn list(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn or_null(value: &Value) -> Value {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map_or(Value::Null, |text| json!(text))
}

fn told(refusal: Refusal) -> String {
    refusal.detail
}
