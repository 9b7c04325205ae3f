//! `/openapi.json` and `/docs`: the API as its own routes describe it.
//!
//! Nouns: the *description* is what the routes say (utoipa); the *document* is that and what can happen at every
//! call: who is let in, and the problems that no handler names for itself.
//!
//! Guarantee: a route that is served is in the document, and the other way round; the file in `docs/contracts` is the
//! same, or a test fails.

mod page;

use super::Routes;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::response::IntoResponse;
use photofinish_contract::problem::{PROBLEM_CONTENT_TYPE, Problem};
use photofinish_contract::request::schema;
use photofinish_model::Code;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa_axum::routes;

/// The document as it is served.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| document().to_string());
/// The page, and what a browser may load for it.
static PAGE: LazyLock<(String, String)> =
    LazyLock::new(|| (page::page(&document()), page::content_security_policy()));

/// How long a cache may keep document and page.
const KEPT: &str = "public, max-age=300";

const PROBLEM: &str = "#/components/schemas/Problem";
const METHODS: [&str; 7] = ["get", "post", "put", "patch", "delete", "head", "options"];

pub(super) fn routes() -> Routes {
    Routes::default()
        .routes(routes!(openapi))
        .routes(routes!(docs))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "docs",
    responses((status = 200, body = serde_json::Value, description = "OpenAPI 3.1")))]
async fn openapi() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, KEPT)];
    (headers, DOCUMENT.as_str())
}

/// The same as a page.
#[utoipa::path(get, path = "/docs", tag = "docs",
    responses((status = 200, content((String = "text/html")), description = "A page without scripts")))]
async fn docs() -> impl IntoResponse {
    let (html, policy) = &*PAGE;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, KEPT),
        (CONTENT_SECURITY_POLICY, policy.as_str()),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    (headers, html.as_str())
}

/// The OpenAPI 3.1 document of everything that ingest serves.
pub(crate) fn document() -> Value {
    let (_, api) = super::api().split_for_parts();
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["info"] = json!({
        "title": "Photofinish",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Renders images, captions and audio into videos on RunPod, and hands over the results. \
            Every error is an RFC 9457 problem document with a stable `code`; docs/problems.md explains each.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/"}]);
    document["tags"] = tags();
    document["components"]["schemas"]["JobRequest"] = schema::schema();
    document["components"]["schemas"]["Problem"]["examples"] = json!([example_problem()]);
    document["components"]["securitySchemes"] = json!({
        "tenant": {"type": "http", "scheme": "bearer", "description": "An API key of a tenant."},
        "tenantHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key",
            "description": "The same key as the old system sent it."},
        "operator": {"type": "http", "scheme": "bearer", "description": "An operator's key."},
    });
    let bodies = bodies(&document["paths"]);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for name in bodies {
            close(schemas, &name);
        }
    }
    if let Some(paths) = document["paths"].as_object_mut() {
        // axum's wildcard takes slashes; a path parameter of OpenAPI has them percent-encoded.
        *paths = std::mem::take(paths)
            .into_iter()
            .map(|(path, item)| (path.replace("{*", "{"), item))
            .collect();
        for item in paths.values_mut() {
            for method in METHODS {
                if let Some(operation) = item.get_mut(method) {
                    complete(method, operation);
                }
            }
        }
    }
    document
}

/// The names of the schemas of all request bodies.
fn bodies(paths: &Value) -> Vec<String> {
    let items = paths.as_object().into_iter().flat_map(Map::values);
    let operations = items.flat_map(|item| METHODS.iter().filter_map(|method| item.get(method)));
    operations
        .flat_map(|operation| references(&operation["requestBody"]))
        .collect()
}

/// The schemas that a value refers to.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str);
            let own = own
                .and_then(|path| path.rsplit('/').next())
                .map(str::to_owned);
            own.into_iter()
                .chain(fields.values().flat_map(references))
                .collect()
        }
        Value::Array(values) => values.iter().flat_map(references).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// A request body takes no unknown field, in whatever depth.
fn close(schemas: &mut Map<String, Value>, name: &str) {
    let Some(schema) = schemas.get_mut(name).and_then(Value::as_object_mut) else {
        return;
    };
    if !schema.contains_key("properties") || schema.contains_key("additionalProperties") {
        return;
    }
    schema.insert("additionalProperties".to_owned(), false.into());
    let deeper = references(&Value::Object(schema.clone()));
    for name in deeper {
        close(schemas, &name);
    }
}

fn tags() -> Value {
    let tags = [
        ("jobs", "Submit, look, cancel, retry."),
        ("outputs", "What jobs have made."),
        ("events", "What happens to a job, as it happens."),
        ("uploads", "Inputs of one's own."),
        ("webhooks", "Who is told of a tenant's jobs."),
        ("deliveries", "What was sent to whom, and what came back."),
        ("admin", "For operators."),
        ("old", "For those who come from the old system."),
        ("hooks", "For workers and RunPod."),
        ("docs", "This document."),
    ];
    tags.iter()
        .map(|(name, description)| json!({"name": name, "description": description}))
        .collect()
}

fn example_problem() -> Value {
    let problem = Problem::new(
        404,
        Code::NotFound,
        "there is no such job, or it is not yours",
    );
    serde_json::to_value(problem).unwrap_or_default()
}

/// What every call shares: an id of its own, who may call, what can always happen.
fn complete(method: &str, operation: &mut Value) {
    let tag = operation["tags"][0].as_str().unwrap_or_default().to_owned();
    let name = operation["operationId"].as_str().unwrap_or_default();
    operation["operationId"] = format!("{tag}_{name}").into();
    let open = ["hooks", "docs"].contains(&tag.as_str());
    operation["security"] = match tag.as_str() {
        "admin" => json!([{"operator": []}]),
        _ if open => json!([]),
        _ => json!([{"tenant": []}, {"tenantHeader": []}]),
    };
    let mut always = Vec::new();
    if !open {
        always.extend([
            (401, "No key, or not a valid one"),
            (403, "The key may not do this"),
            (429, "A quota is used up; come again after `Retry-After`"),
        ]);
    }
    if tag != "docs" {
        always.extend([
            (500, "Something of ours failed"),
            (
                503,
                "Something is away or overloaded; come again after `Retry-After`",
            ),
        ]);
    }
    always.push((400, "What was sent cannot be read"));
    always.push((431, "The address and headers are too large"));
    always.push((406, "`Accept` names no type that this call answers with"));
    let place = |wanted: &str| {
        let list = operation["parameters"].as_array();
        list.is_some_and(|list| list.iter().any(|parameter| parameter["in"] == wanted))
    };
    if place("path") {
        always.push((404, "There is no such thing, or it is not yours"));
    }
    if place("query") {
        always.push((422, "A parameter is not as it must be; `errors` names each"));
    }
    if operation.get("requestBody").is_some() {
        always.extend([
            (
                404,
                "Something that the body names is not there, or is not yours",
            ),
            (408, "The body did not arrive in time"),
            (413, "The body is too large"),
            (415, "The body is not JSON"),
            (422, "A field is not as it must be; `errors` names each"),
        ]);
    } else if method != "get" && !open {
        always.push((422, "What was asked for is not as it must be"));
    }
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut() {
            retype(response);
        }
        for (status, description) in always {
            add(responses, status, description);
        }
    }
}

/// Gives contents their own types: a problem is no plain JSON, and of an event stream one event is described.
fn retype(response: &mut Value) {
    let Some(contents) = response.get_mut("content").and_then(Value::as_object_mut) else {
        return;
    };
    let problem = contents
        .get("application/json")
        .is_some_and(|content| content["schema"]["$ref"] == PROBLEM);
    if problem && let Some(content) = contents.remove("application/json") {
        contents.insert(PROBLEM_CONTENT_TYPE.to_owned(), content);
    }
    if let Some(stream) = contents.get_mut("text/event-stream") {
        *stream = json!({"schema": {"type": "object", "properties": {
            "id": {"type": "string", "description": "The event's sequence."},
            "event": {"type": "string", "description": "Its type."},
            "data": {"type": "string", "contentMediaType": "application/json",
                "description": "The body that a webhook has."}}}});
    }
}

fn add(responses: &mut Map<String, Value>, status: u16, description: &str) {
    let problem = json!({"$ref": PROBLEM});
    let mut response = json!({"description": description,
        "content": {PROBLEM_CONTENT_TYPE: {"schema": problem}}});
    if matches!(status, 429 | 503) {
        response["headers"] = json!({"Retry-After": {"description": "Seconds",
            "schema": {"type": "integer"}}});
    }
    responses.entry(status.to_string()).or_insert(response);
}
