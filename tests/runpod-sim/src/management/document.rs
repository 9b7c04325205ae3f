//! An endpoint as REST v2 writes it, to and from what the emulator runs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::catalog;
use crate::clock::millis;
use crate::endpoints::{Endpoint, EndpointSpec, Release, Scaler};
use crate::state::{Stage, WorkerSnapshot};

/// Settings that the emulator only shows; a change of one makes a new version all the same.
const SHOWN_ONLY: [&str; 7] = [
    "disk",
    "registry",
    "gpu",
    "cpu",
    "dataCenterIds",
    "networkVolumes",
    "flashboot",
];
/// Where GraphQL's link to a template is kept.
pub(super) const TEMPLATE: &str = "templateId";
const CREATED: &str = "createdAt";

/// What a create leaves out.
pub(super) fn defaults() -> Value {
    json!({"args": "", "disk": 20, "env": {}, "ports": [], "registry": null,
           "workers": {"min": 0, "max": 3}, "timeout": 300_000, "flashboot": "OFF",
           "dataCenterIds": [], "networkVolumes": []})
}

/// `body` over `base`: what is named is replaced, `gpu` and `workers` part by part. Pools without
/// excluded types take those away; a queue that scales by count has no idle timeout.
pub(super) fn merged(base: &Value, body: &Value) -> Value {
    let mut doc = base.clone();
    for (name, value) in body.as_object().into_iter().flatten() {
        match (name.as_str(), value.as_object()) {
            ("gpu" | "workers", Some(parts)) => {
                if !doc[name].is_object() {
                    doc[name] = json!({});
                }
                if parts.contains_key("pools") {
                    doc[name]["excludedTypes"] = json!([]);
                }
                for (part, value) in parts {
                    doc[name][part] = value.clone();
                }
            }
            _ => doc[name] = value.clone(),
        }
    }
    complete_gpu(&mut doc);
    let by_count = doc["scaling"]["type"] == "REQUEST_COUNT" && doc["type"] == "QUEUE";
    if let Some(workers) = doc["workers"].as_object_mut() {
        if !by_count {
            workers.entry("idleTimeout").or_insert(json!(10));
        } else if body["workers"]["idleTimeout"].is_null() {
            workers.remove("idleTimeout");
        }
    }
    doc
}

fn complete_gpu(doc: &mut Value) {
    let Some(gpu) = doc.get_mut("gpu").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, value) in [
        ("excludedTypes", json!([])),
        ("count", json!(1)),
        ("allowedCudaVersions", json!([])),
        ("minCudaVersion", Value::Null),
    ] {
        gpu.entry(name).or_insert(value);
    }
    // An empty text takes the floor away.
    if gpu["minCudaVersion"] == "" {
        gpu.insert("minCudaVersion".to_owned(), Value::Null);
    }
}

/// Makes the endpoint what a checked document says.
pub(super) fn fill(spec: &mut EndpointSpec, doc: &Value) {
    let text = |name: &str| doc[name].as_str().unwrap_or_default().to_owned();
    (spec.name, spec.image, spec.args) = (text("name"), text("image"), text("args"));
    let env = doc["env"].as_object().into_iter().flatten();
    spec.env = env
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let ports = doc["ports"].as_array().into_iter().flatten();
    spec.ports = ports
        .filter_map(|port| Some(port.as_str()?.to_owned()))
        .collect();
    let count = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    spec.workers_min = count(&doc["workers"]["min"]).unwrap_or(0);
    spec.workers_max = count(&doc["workers"]["max"]).unwrap_or(0);
    if let Some(seconds) = doc["workers"]["idleTimeout"].as_u64() {
        spec.idle_timeout = Duration::from_secs(seconds);
    }
    let scaling = &doc["scaling"];
    spec.scaler = if scaling["type"] == "REQUEST_COUNT" {
        let count = scaling["requestCount"].as_u64().unwrap_or(1);
        Scaler::RequestCount(u32::try_from(count).unwrap_or(u32::MAX))
    } else {
        let seconds = scaling["queueDelay"].as_f64().unwrap_or(4.0);
        Scaler::QueueDelay(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    };
    if let Some(timeout) = doc["timeout"].as_u64() {
        spec.execution_timeout = Duration::from_millis(timeout);
    }
    spec.flashboot = doc["flashboot"] != "OFF";
    for name in SHOWN_ONLY.into_iter().chain([TEMPLATE]) {
        if let Some(value) = doc.get(name) {
            spec.other.insert(name.to_owned(), value.clone());
        }
    }
}

/// An endpoint's document, without what RunPod adds.
pub(super) fn of_spec(spec: &EndpointSpec) -> Value {
    let mut doc = defaults();
    doc["gpu"] = json!({"pools": ["AMPERE_16"]});
    for (name, value) in &spec.other {
        doc[name] = value.clone();
    }
    complete_gpu(&mut doc);
    let env = spec.env.iter();
    let env: Map<String, Value> = env
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let scaling = match spec.scaler {
        Scaler::QueueDelay(delay) => {
            json!({"type": "QUEUE_DELAY", "queueDelay": delay.as_secs_f64()})
        }
        Scaler::RequestCount(count) => json!({"type": "REQUEST_COUNT", "requestCount": count}),
    };
    let mut workers = json!({"min": spec.workers_min, "max": spec.workers_max});
    if matches!(spec.scaler, Scaler::QueueDelay(_)) {
        workers["idleTimeout"] = json!(spec.idle_timeout.as_secs().max(1));
    }
    for (name, value) in [
        ("name", json!(spec.name)),
        ("type", json!("QUEUE")),
        ("image", json!(spec.image)),
        ("args", json!(spec.args)),
        ("env", Value::Object(env)),
        ("ports", json!(spec.ports)),
        ("scaling", scaling),
        ("workers", workers),
        ("timeout", json!(millis(spec.execution_timeout))),
    ] {
        doc[name] = value;
    }
    if !spec.other.contains_key("flashboot") {
        doc["flashboot"] = json!(if spec.flashboot { "FLASHBOOT" } else { "OFF" });
    }
    doc
}

/// Notes when it was made, once.
pub(super) fn stamp(spec: &mut EndpointSpec, now_ms: u64) {
    spec.other.insert(CREATED.to_owned(), json!(time(now_ms)));
}

/// What `GET` answers.
pub(super) fn of_endpoint(endpoint: &Endpoint) -> Value {
    let spec = endpoint.spec();
    let mut doc = of_spec(&spec);
    let base = format!("{}/v2/{}", endpoint.site.base, endpoint.id);
    doc["id"] = json!(endpoint.id);
    doc["requestUrls"] = json!({
        "run": format!("{base}/run"), "runSync": format!("{base}/runsync"),
        "status": format!("{base}/status/{{job_id}}"), "stream": format!("{base}/stream/{{job_id}}"),
        "cancel": format!("{base}/cancel/{{job_id}}"), "retry": format!("{base}/retry/{{job_id}}"),
        "purgeQueue": format!("{base}/purge-queue"), "health": format!("{base}/health"),
    });
    if doc[CREATED].is_null() {
        let first = endpoint
            .releases()
            .first()
            .map_or(0, |first| first.created_at_ms);
        doc[CREATED] = json!(time(first));
    }
    if let Some(doc) = doc.as_object_mut() {
        doc.remove(TEMPLATE);
    }
    doc
}

/// What `GET …/workers` answers.
pub(super) fn workers(endpoint: &Endpoint, throttled: usize) -> Value {
    let (spec, releases) = (endpoint.spec(), endpoint.releases());
    let rows = endpoint.workers();
    let mut rows: Vec<Value> = rows
        .iter()
        .map(|worker| worker_row(endpoint, worker, &releases))
        .collect();
    rows.extend((1..=throttled).map(|n| {
        json!({"id": format!("throttled-{n}"), "status": "THROTTLED", "isStale": false,
               "version": spec.version, "gpuCount": 1, "image": spec.image,
               "uptimeSeconds": null, "gpuTypeId": null, "dataCenterId": null, "startedAt": null})
    }));
    let count = |word: &str| rows.iter().filter(|row| row["status"] == word).count();
    let summary = json!({"running": count("RUNNING"), "idle": count("IDLE"),
        "initializing": count("INITIALIZING"), "throttled": count("THROTTLED"),
        "unhealthy": count("UNHEALTHY"), "total": rows.len()});
    json!({"workers": rows, "summary": summary, "endpointVersion": spec.version})
}

fn worker_row(endpoint: &Endpoint, worker: &WorkerSnapshot, releases: &[Release]) -> Value {
    let its = releases
        .iter()
        .find(|release| release.spec.version == worker.version)
        .map(|release| &release.spec);
    let clock = &endpoint.site.clock;
    let uptime = clock.now().saturating_duration_since(worker.started_at);
    json!({
        "id": worker.id, "status": status(worker), "isStale": worker.stale,
        "version": worker.version, "gpuCount": 1, "image": its.map(|spec| &spec.image),
        "uptimeSeconds": uptime.as_secs(),
        "gpuTypeId": its.and_then(|spec| catalog::first_type(&of_spec(spec)["gpu"])),
        "dataCenterId": "EU-SIM-1", "startedAt": time(clock.wall_ms(worker.started_at)),
    })
}

fn status(worker: &WorkerSnapshot) -> &'static str {
    match worker.stage {
        Stage::Initializing => "INITIALIZING",
        Stage::Running | Stage::Stopping if !worker.jobs.is_empty() => "RUNNING",
        Stage::Running | Stage::Stopping | Stage::Frozen => "IDLE",
        Stage::Unhealthy => "UNHEALTHY",
    }
}

/// What `GET …/releases` answers, newest first.
pub(super) fn releases(endpoint: &Endpoint) -> Value {
    let (spec, releases, workers) = (endpoint.spec(), endpoint.releases(), endpoint.workers());
    let rows: Vec<Value> = releases
        .iter()
        .enumerate()
        .rev()
        .map(|(at, release)| {
            let before = at.checked_sub(1).map(|before| &releases[before].spec);
            let version = release.spec.version;
            let count = workers.iter().filter(|one| one.version == version).count();
            json!({"id": format!("{}-{version}", endpoint.id), "version": version,
                   "source": "MANUAL", "buildId": null, "workerCount": count,
                   "createdAt": time(release.created_at_ms),
                   "diff": before.map_or_else(Vec::new, |before| changes(before, &release.spec))})
        })
        .collect();
    let latest = workers
        .iter()
        .filter(|one| one.version == spec.version)
        .count();
    let total = workers.len();
    json!({
        "endpointVersion": spec.version, "releases": rows,
        "rollout": {"inProgress": latest < total, "workersOnLatest": latest,
                    "workersTotal": total, "percentOnLatest": (latest * 100).checked_div(total).unwrap_or(0)},
        "pagination": {"nextCursor": null, "hasNextPage": false},
    })
}

fn changes(before: &EndpointSpec, after: &EndpointSpec) -> Vec<Value> {
    let (before, after) = (of_spec(before), of_spec(after));
    let names = [
        ("image", "template.imageName"),
        ("args", "template.dockerArgs"),
        ("env", "template.env"),
        ("ports", "template.ports"),
        ("disk", "template.containerDiskInGb"),
        ("registry", "template.containerRegistryAuthId"),
        ("gpu", "gpuIds"),
        ("dataCenterIds", "locations"),
        ("networkVolumes", "networkVolumeIds"),
        ("flashboot", "flashBootType"),
    ];
    let differ = names
        .into_iter()
        .filter(|(name, _)| before[*name] != after[*name]);
    differ
        .map(|(name, field)| json!({"field": field, "old": before[name], "new": after[name]}))
        .collect()
}

/// RFC 3339 of Unix milliseconds.
pub(super) fn time(ms: u64) -> String {
    let at = i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_take_the_excluded_types_with_them() {
        let base = json!({"type": "QUEUE", "scaling": {"type": "QUEUE_DELAY"},
            "gpu": {"pools": ["ADA_24"], "excludedTypes": ["NVIDIA L4"], "minCudaVersion": "12.1"}});
        let kept = merged(&base, &json!({"gpu": {"count": 2, "minCudaVersion": ""}}));
        assert_eq!(kept["gpu"]["excludedTypes"], json!(["NVIDIA L4"]));
        assert_eq!(
            (&kept["gpu"]["count"], &kept["gpu"]["minCudaVersion"]),
            (&json!(2), &Value::Null)
        );
        let gone = merged(&base, &json!({"gpu": {"pools": ["AMPERE_24"]}}));
        assert_eq!(gone["gpu"]["excludedTypes"], json!([]));
    }
}
