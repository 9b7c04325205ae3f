//! What is wrong with an endpoint's or a template's document. Pure.

use std::fmt;

use serde_json::Value;

use super::catalog;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// `workers.max`.
    pub(super) field: &'static str,
    /// What about it.
    pub(super) message: String,
    /// Whether it is well formed and excluded by another: answered with 400.
    pub(super) is_conflict: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// Every key that an endpoint's body may have.
const KEYS: [&str; 19] = [
    "name",
    "type",
    "image",
    "args",
    "entrypoint",
    "cmd",
    "disk",
    "env",
    "ports",
    "registry",
    "gpu",
    "cpu",
    "workers",
    "scaling",
    "timeout",
    "flashboot",
    "dataCenterIds",
    "networkVolumes",
    "templateId",
];

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.0.push(Fault {
            field,
            message,
            is_conflict: false,
        });
    }

    fn conflict(&mut self, field: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.0.push(Fault {
            field,
            message,
            is_conflict: true,
        });
    }

    fn check(&mut self, field: &'static str, is_right: bool, message: &str) {
        if !is_right {
            self.add(field, message);
        }
    }
}

/// What is wrong with a whole document. `body` is what the caller sent of it; `before` the
/// document that a change begins with.
pub(super) fn endpoint(doc: &Value, body: &Value, before: Option<&Value>) -> Vec<Fault> {
    let mut faults = Faults::default();
    for key in body.as_object().into_iter().flat_map(|body| body.keys()) {
        if !KEYS.contains(&key.as_str()) {
            faults.add("body", format!("has the unknown field {key}"));
        }
    }
    let text = |name: &str| doc[name].as_str().is_some_and(|text| !text.is_empty());
    faults.check("name", text("name"), "is required");
    faults.check(
        "image",
        text("image"),
        "is required unless templateId is given",
    );
    let kinds = ["QUEUE", "LOAD_BALANCER"];
    let kind = doc["type"].as_str();
    let is_kind = kind.is_some_and(|kind| kinds.contains(&kind));
    faults.check("type", is_kind, "is QUEUE or LOAD_BALANCER");
    if kind == Some("LOAD_BALANCER") {
        faults.add("type", "LOAD_BALANCER is not emulated");
    }
    container(doc, &mut faults);
    compute(doc, before, &mut faults);
    scaling(doc, &mut faults);
    workers(doc, &mut faults);
    let timeout = doc["timeout"].as_u64().is_some_and(|ms| ms > 0);
    faults.check("timeout", timeout, "is a number of milliseconds");
    let modes = ["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"];
    let mode = doc["flashboot"].as_str();
    let is_mode = mode.is_some_and(|mode| modes.contains(&mode));
    faults.check(
        "flashboot",
        is_mode,
        "is OFF, FLASHBOOT or PRIORITY_FLASHBOOT",
    );
    for name in ["dataCenterIds", "networkVolumes"] {
        faults.check(name, is_texts(&doc[name]), "is a list of ids");
    }
    faults.0
}

/// What is wrong with a template.
pub(super) fn template(doc: &Value) -> Vec<Fault> {
    let mut faults = Faults::default();
    for name in ["name", "image"] {
        let text = doc[name].as_str().is_some_and(|text| !text.is_empty());
        faults.check(name, text, "is required");
    }
    container(doc, &mut faults);
    faults.0
}

fn container(doc: &Value, faults: &mut Faults) {
    faults.check("args", doc["args"].is_string(), "is a text");
    let disk = doc["disk"].as_u64().is_some_and(|gb| gb > 0);
    faults.check("disk", disk, "is a number of GB, at least 1");
    let env = doc["env"].as_object();
    let is_env = env.is_some_and(|env| env.values().all(Value::is_string));
    faults.check("env", is_env, "is an object of texts");
    let ports = doc["ports"]
        .as_array()
        .is_some_and(|ports| ports.iter().all(is_port));
    faults.check(
        "ports",
        ports,
        "is a list such as [\"8000/http\", \"8765/tcp\"]",
    );
    let registry = &doc["registry"];
    let is_registry = registry.is_null() || registry.is_string();
    faults.check("registry", is_registry, "is an id or null");
}

fn is_port(port: &Value) -> bool {
    let parts = port.as_str().and_then(|port| port.split_once('/'));
    parts.is_some_and(|(number, kind)| {
        number.parse::<u16>().is_ok_and(|number| number > 0) && matches!(kind, "http" | "tcp")
    })
}

fn compute(doc: &Value, before: Option<&Value>, faults: &mut Faults) {
    let (gpu, cpu) = (&doc["gpu"], &doc["cpu"]);
    if gpu.is_object() && cpu.is_array() {
        let what = if before.is_some() {
            "cannot take the place of gpu: the family of an endpoint is fixed"
        } else {
            "excludes gpu: give exactly one of the two"
        };
        return faults.conflict("cpu", what);
    }
    if cpu.is_array() {
        return faults.add("cpu", "endpoints are not emulated");
    }
    if !gpu.is_object() {
        return faults.add("gpu", "or cpu is required");
    }
    let pools: Vec<&str> = texts(&gpu["pools"]);
    faults.check("gpu.pools", !pools.is_empty(), "names at least one pool");
    for pool in &pools {
        if catalog::types(pool).is_none() {
            faults.conflict(
                "gpu.pools",
                format!("has no pool {pool}: see /v2/catalog/gpus"),
            );
        }
    }
    let types: Vec<&str> = pools
        .iter()
        .filter_map(|pool| catalog::types(pool))
        .flatten()
        .copied()
        .collect();
    for excluded in texts(&gpu["excludedTypes"]) {
        if !types.contains(&excluded.trim()) {
            let what = format!("has {excluded}, which is in none of the pools");
            faults.conflict("gpu.excludedTypes", what);
        }
    }
    let count = gpu["count"].as_u64().is_some_and(|count| count > 0);
    faults.check("gpu.count", count, "is at least 1");
    let allowed = texts(&gpu["allowedCudaVersions"]);
    let floor = gpu["minCudaVersion"].as_str();
    let versions = allowed.iter().copied().chain(floor);
    for version in versions {
        if !is_version(version) {
            faults.add(
                "gpu.minCudaVersion",
                format!("{version} is not major.minor"),
            );
        }
    }
    if floor.is_some() && !allowed.is_empty() {
        faults.conflict("gpu.minCudaVersion", "excludes allowedCudaVersions");
    }
}

fn scaling(doc: &Value, faults: &mut Faults) {
    let scaling = &doc["scaling"];
    match scaling["type"].as_str() {
        Some("QUEUE_DELAY") => {
            let delay = scaling["queueDelay"].as_f64().is_some_and(|s| s >= 0.5);
            faults.check("scaling.queueDelay", delay, "is at least 0.5");
        }
        Some("REQUEST_COUNT") => {
            let count = scaling["requestCount"].as_u64().is_some_and(|n| n >= 1);
            faults.check("scaling.requestCount", count, "is at least 1");
        }
        Some(_) => faults.add("scaling.type", "is QUEUE_DELAY or REQUEST_COUNT"),
        None => faults.add("scaling", "is required"),
    }
}

fn workers(doc: &Value, faults: &mut Faults) {
    let workers = &doc["workers"];
    let (min, max) = (workers["min"].as_u64(), workers["max"].as_u64());
    faults.check("workers.min", min.is_some(), "is a whole number");
    faults.check("workers.max", max.is_some(), "is a whole number");
    if min > max {
        faults.add("workers.min", "is above workers.max");
    }
    let idle = &workers["idleTimeout"];
    if doc["scaling"]["type"] == "REQUEST_COUNT" && !idle.is_null() {
        faults.conflict(
            "workers.idleTimeout",
            "is not for queues that scale by request count",
        );
    }
    let in_range = idle.is_null() || idle.as_u64().is_some_and(|s| (1..=3600).contains(&s));
    faults.check("workers.idleTimeout", in_range, "is from 1 to 3600");
}

fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

fn is_texts(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|rows| rows.iter().all(Value::is_string))
}

fn texts(value: &Value) -> Vec<&str> {
    let rows = value.as_array().into_iter().flatten();
    rows.filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::document::{defaults, merged};
    use serde_json::json;

    fn faults(body: &Value) -> Vec<Fault> {
        endpoint(&merged(&defaults(), body), body, None)
    }

    fn right() -> Value {
        json!({"name": "w", "type": "QUEUE", "image": "o/w:1", "gpu": {"pools": ["ADA_24"]},
               "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}})
    }

    #[test]
    fn a_create_needs_name_type_scaling_image_and_gpu() {
        assert_eq!(faults(&right()), []);
        let found = faults(&json!({}));
        let fields: Vec<&str> = found.iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["name", "image", "type", "gpu", "scaling"]);
    }

    #[test]
    fn each_rule_of_the_table_is_kept() {
        let by_count = json!({"type": "REQUEST_COUNT", "requestCount": 1});
        for (field, value, fault, conflict) in [
            (
                "scaling",
                json!({"type": "QUEUE_DELAY", "queueDelay": 0.1}),
                "scaling.queueDelay",
                false,
            ),
            (
                "scaling",
                json!({"type": "REQUEST_COUNT", "requestCount": 0}),
                "scaling.requestCount",
                false,
            ),
            ("scaling", json!({"type": "TIDE"}), "scaling.type", false),
            ("workers", json!({"min": 4}), "workers.min", false),
            (
                "workers",
                json!({"idleTimeout": 0}),
                "workers.idleTimeout",
                false,
            ),
            ("gpu", json!({"pools": ["NO_SUCH"]}), "gpu.pools", true),
            (
                "gpu",
                json!({"pools": ["ADA_24"], "excludedTypes": ["NVIDIA A40"]}),
                "gpu.excludedTypes",
                true,
            ),
            (
                "gpu",
                json!({"pools": ["ADA_24"], "minCudaVersion": "12"}),
                "gpu.minCudaVersion",
                false,
            ),
            (
                "gpu",
                json!({"pools": ["ADA_24"], "minCudaVersion": "12.1", "allowedCudaVersions": ["12.4"]}),
                "gpu.minCudaVersion",
                true,
            ),
            ("cpu", json!([{"id": "cpu3c", "vcpuCount": 2}]), "cpu", true),
            ("flashboot", json!(true), "flashboot", false),
            ("ports", json!(["8000"]), "ports", false),
            ("timeout", json!("10"), "timeout", false),
            ("colour", json!("red"), "body", false),
        ] {
            let mut body = right();
            body[field] = value;
            let found = faults(&body);
            let told: Vec<_> = found
                .iter()
                .map(|one| (one.field, one.is_conflict))
                .collect();
            assert_eq!(told, [(fault, conflict)], "{body}");
        }
        let mut body = right();
        body["scaling"] = by_count.clone();
        assert_eq!(faults(&body), []);
        body["workers"] = json!({"idleTimeout": 10});
        assert_eq!(faults(&body)[0].field, "workers.idleTimeout");
    }
}
