//! RunPod's answers, read leniently: an unknown word is kept, a missing field is RunPod's default.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::spec::{
    EndpointKind, EndpointSpec, EnvValue, FlashBoot, GpuSpec, Scaling, WorkerBounds,
};

/// An endpoint that RunPod has.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// RunPod's id; jobs are submitted to it.
    pub id: String,
    /// When it was made, as RunPod words it.
    pub created_at: Option<String>,
    /// What it is.
    pub spec: EndpointSpec,
}

impl Endpoint {
    /// Reads one; `None` without an id.
    pub fn from_value(value: &Value) -> Option<Self> {
        let workers = &value["workers"];
        let spec = EndpointSpec {
            name: text(&value["name"]).unwrap_or_default(),
            kind: EndpointKind::parse(value["type"].as_str().unwrap_or("QUEUE")),
            image: text(&value["image"]).unwrap_or_default(),
            args: text(&value["args"]).unwrap_or_default(),
            disk_gb: whole(&value["disk"]).unwrap_or(0),
            env: env_of(&value["env"]),
            ports: set(&value["ports"]),
            registry: text(&value["registry"]),
            gpu: gpu_of(&value["gpu"]),
            workers: WorkerBounds {
                min: whole(&workers["min"]).unwrap_or(0),
                max: whole(&workers["max"]).unwrap_or(3),
                idle_timeout_s: whole(&workers["idleTimeout"]),
            },
            scaling: scaling_of(&value["scaling"]),
            execution_timeout_ms: whole(&value["timeout"]).unwrap_or(300_000),
            flashboot: FlashBoot::parse(value["flashboot"].as_str().unwrap_or("OFF")),
            data_centers: set(&value["dataCenterIds"]),
            network_volumes: set(&value["networkVolumes"]),
        };
        Some(Self {
            id: text(&value["id"])?,
            created_at: text(&value["createdAt"]),
            spec,
        })
    }
}

/// Container settings with a name, from which an endpoint may be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// RunPod's id.
    pub id: String,
    /// Name, unique in an account.
    pub name: String,
    /// Docker image reference.
    pub image: String,
    /// The container's arguments.
    pub args: String,
    /// Container disk, GB.
    pub disk_gb: Option<u64>,
    /// Environment.
    pub env: BTreeMap<String, EnvValue>,
    /// Exposed ports.
    pub ports: BTreeSet<String>,
    /// Id of a registry credential.
    pub registry: Option<String>,
    /// Whether it is for serverless workers.
    pub serverless: bool,
}

impl Template {
    /// Reads one; `None` without an id.
    pub fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            id: text(&value["id"])?,
            name: text(&value["name"]).unwrap_or_default(),
            image: text(&value["image"]).unwrap_or_default(),
            args: text(&value["args"]).unwrap_or_default(),
            disk_gb: whole(&value["disk"]),
            env: env_of(&value["env"]),
            ports: set(&value["ports"]),
            registry: text(&value["registry"]),
            serverless: value["serverless"].as_bool().unwrap_or(false),
        })
    }
}

/// What a worker does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerStage {
    /// Has a job.
    Running,
    /// Ready, waits for a job.
    Idle,
    /// Starting.
    Initializing,
    /// Wanted, but RunPod has no machine for it.
    Throttled,
    /// Crashed or failing its checks.
    Unhealthy,
    /// A word that we do not know.
    Other(String),
}

impl WorkerStage {
    fn parse(word: &str) -> Self {
        match word {
            "RUNNING" => Self::Running,
            "IDLE" => Self::Idle,
            "INITIALIZING" => Self::Initializing,
            "THROTTLED" => Self::Throttled,
            "UNHEALTHY" => Self::Unhealthy,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The word for people.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Initializing => "starting",
            Self::Throttled => "throttled",
            Self::Unhealthy => "unhealthy",
            Self::Other(word) => word,
        }
    }
}

/// One worker.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRow {
    /// RunPod's id of the worker.
    pub id: String,
    /// What it does.
    pub stage: WorkerStage,
    /// Whether it runs an older version than the endpoint's.
    pub is_stale: bool,
    /// The version that it runs.
    pub version: Option<u64>,
    /// The image that it runs.
    pub image: Option<String>,
    /// The GPU that it has.
    pub gpu_type: Option<String>,
    /// Where it is.
    pub data_center: Option<String>,
    /// Seconds since it was placed.
    pub uptime_s: Option<u64>,
}

/// All workers of an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workers {
    /// The endpoint's version now.
    pub endpoint_version: Option<u64>,
    /// One row each.
    pub rows: Vec<WorkerRow>,
}

impl Workers {
    /// Reads the answer; `None` without a list.
    pub fn from_value(value: &Value) -> Option<Self> {
        let rows = value["workers"].as_array()?.iter().filter_map(worker_of);
        Some(Self {
            endpoint_version: whole(&value["endpointVersion"]),
            rows: rows.collect(),
        })
    }

    /// How many are in a stage.
    pub fn count(&self, stage: &WorkerStage) -> usize {
        self.rows.iter().filter(|row| row.stage == *stage).count()
    }
}

fn worker_of(value: &Value) -> Option<WorkerRow> {
    Some(WorkerRow {
        id: text(&value["id"])?,
        stage: WorkerStage::parse(value["status"].as_str().unwrap_or("?")),
        is_stale: value["isStale"].as_bool().unwrap_or(false),
        version: whole(&value["version"]),
        image: text(&value["image"]),
        gpu_type: text(&value["gpuTypeId"]),
        data_center: text(&value["dataCenterId"]),
        uptime_s: whole(&value["uptimeSeconds"]),
    })
}

/// One version of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// The version it made.
    pub version: Option<u64>,
    /// Workers that run it.
    pub worker_count: u64,
    /// When, as RunPod words it.
    pub created_at: Option<String>,
    /// Names of the settings that changed; their values may be secrets and are not kept.
    pub fields: Vec<String>,
}

/// The versions of an endpoint, newest first, and how far the newest has got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Releases {
    /// The endpoint's version now.
    pub endpoint_version: Option<u64>,
    /// Whether a worker still runs an older one.
    pub in_progress: bool,
    /// Workers on the newest.
    pub workers_on_latest: u64,
    /// All workers.
    pub workers_total: u64,
    /// One row for each version.
    pub rows: Vec<ReleaseRow>,
}

impl Releases {
    /// Reads the answer; `None` without a list.
    pub fn from_value(value: &Value) -> Option<Self> {
        let rollout = &value["rollout"];
        let row = |value: &Value| ReleaseRow {
            version: whole(&value["version"]),
            worker_count: whole(&value["workerCount"]).unwrap_or(0),
            created_at: text(&value["createdAt"]),
            fields: value["diff"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default()
                .iter()
                .filter_map(|entry| text(&entry["field"]))
                .collect(),
        };
        Some(Self {
            endpoint_version: whole(&value["endpointVersion"]),
            in_progress: rollout["inProgress"].as_bool().unwrap_or(false),
            workers_on_latest: whole(&rollout["workersOnLatest"]).unwrap_or(0),
            workers_total: whole(&rollout["workersTotal"]).unwrap_or(0),
            rows: value["releases"].as_array()?.iter().map(row).collect(),
        })
    }
}

/// A job as the data plane's `/requests` lists it. RunPod publishes no shape for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// RunPod's id of the job.
    pub id: String,
    /// Its status, as RunPod words it.
    pub status: String,
    /// The worker that has or had it.
    pub worker: Option<String>,
}

impl JobRow {
    /// Reads a bare list or one under `requests`, `jobs` or `data`; `None` if it is neither.
    pub fn list_from(value: &Value) -> Option<Vec<Self>> {
        let wrapped = || {
            let names = ["requests", "jobs", "data"];
            names.iter().find_map(|name| value[*name].as_array())
        };
        let row = |value: &Value| {
            Some(Self {
                id: text(&value["id"])?,
                status: text(&value["status"]).unwrap_or_else(|| "?".to_owned()),
                worker: text(&value["workerId"]),
            })
        };
        let rows = value.as_array().or_else(wrapped)?;
        Some(rows.iter().filter_map(row).collect())
    }
}

/// Where the next page of a list begins, if there is one.
pub(super) fn next_cursor(value: &Value) -> Option<String> {
    let pages = &value["pagination"];
    let more = pages["hasNextPage"].as_bool().unwrap_or(true);
    text(&pages["nextCursor"]).filter(|_| more)
}

fn gpu_of(value: &Value) -> Option<GpuSpec> {
    value.as_object()?;
    Some(GpuSpec {
        pools: set(&value["pools"]),
        excluded_types: set(&value["excludedTypes"]),
        count: whole(&value["count"]).unwrap_or(1),
        cuda_version_min: text(&value["minCudaVersion"]),
        allowed_cuda_versions: set(&value["allowedCudaVersions"]),
    })
}

fn scaling_of(value: &Value) -> Scaling {
    let word = value["type"].as_str().unwrap_or("QUEUE_DELAY");
    match word {
        "QUEUE_DELAY" => Scaling::QueueDelay(value["queueDelay"].as_f64().unwrap_or(4.0)),
        "REQUEST_COUNT" => Scaling::RequestCount(whole(&value["requestCount"]).unwrap_or(1)),
        other => Scaling::Other(other.to_owned()),
    }
}

/// An object, or GraphQL's list of `{key, value}`. None of it may be shown: RunPod does not
/// tell what is a secret.
fn env_of(value: &Value) -> BTreeMap<String, EnvValue> {
    let plain =
        |value: &Value| text(value).or_else(|| (!value.is_null()).then(|| value.to_string()));
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let value = EnvValue::secret(plain(value).unwrap_or_default());
                (name.clone(), value)
            })
            .collect(),
        Value::Array(rows) => rows
            .iter()
            .filter_map(|row| {
                let value = EnvValue::secret(plain(&row["value"]).unwrap_or_default());
                Some((text(&row["key"])?, value))
            })
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeMap::new(),
    }
}

fn set(value: &Value) -> BTreeSet<String> {
    let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(text).collect()
}

/// A string that is not empty.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned)
}

/// A count that may come as an integer or as a float.
fn whole(value: &Value) -> Option<u64> {
    let float = || value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64);
    value.as_u64().or_else(float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_endpoint_with_an_id_alone_is_read_with_runpods_defaults() {
        let endpoint = Endpoint::from_value(&json!({"id": "ep"})).unwrap();
        assert_eq!(endpoint.spec.kind, EndpointKind::Queue);
        assert_eq!(endpoint.spec.scaling, Scaling::QueueDelay(4.0));
        assert_eq!(endpoint.spec.execution_timeout_ms, 300_000);
        assert!(Endpoint::from_value(&json!({"name": "ep"})).is_none());
        assert!(Endpoint::from_value(&json!([1])).is_none());
    }

    #[test]
    fn unknown_words_are_kept() {
        let value = json!({"id": "ep", "type": "SOMETHING", "flashboot": "WARP",
                           "scaling": {"type": "TIDE"}, "gpu": null, "extra": [1]});
        let spec = Endpoint::from_value(&value).unwrap().spec;
        assert_eq!(spec.kind.as_str(), "SOMETHING");
        assert_eq!(spec.flashboot.as_str(), "WARP");
        assert_eq!(spec.scaling, Scaling::Other("TIDE".to_owned()));
        assert_eq!(spec.gpu, None);
        let workers = json!({"workers": [{"id": "w", "status": "DREAMING"}, {"status": "IDLE"}]});
        let workers = Workers::from_value(&workers).unwrap();
        assert_eq!(workers.rows.len(), 1, "a worker without an id is nobody");
        assert_eq!(workers.rows[0].stage.as_str(), "DREAMING");
    }

    #[test]
    fn values_of_the_environment_are_never_shown() {
        for env in [
            json!({"K": "hunter2", "N": 5}),
            json!([{"key": "K", "value": "hunter2"}]),
        ] {
            let endpoint = Endpoint::from_value(&json!({"id": "ep", "env": env})).unwrap();
            assert_eq!(endpoint.spec.env["K"].expose(), "hunter2");
            assert!(!format!("{endpoint:?}").contains("hunter2"));
        }
    }

    #[test]
    fn releases_tell_names_and_no_values() {
        let value = json!({"endpointVersion": 3, "rollout": {"inProgress": true,
            "workersOnLatest": 1, "workersTotal": 2, "percentOnLatest": 50},
            "releases": [{"id": "r", "version": 3, "workerCount": 1, "createdAt": "t",
                          "diff": [{"field": "template.env", "old": {"K": "hunter2"}}]}]});
        let releases = Releases::from_value(&value).unwrap();
        assert_eq!((releases.workers_on_latest, releases.workers_total), (1, 2));
        assert_eq!(releases.rows[0].fields, ["template.env"]);
        assert!(!format!("{releases:?}").contains("hunter2"));
    }

    #[test]
    fn jobs_are_found_in_whatever_they_are_wrapped() {
        let rows = json!([{"id": "a", "status": "IN_QUEUE"}, {"id": "b"}]);
        for value in [
            rows.clone(),
            json!({"requests": rows}),
            json!({"jobs": rows}),
        ] {
            assert_eq!(JobRow::list_from(&value).unwrap().len(), 2, "{value}");
        }
        assert_eq!(JobRow::list_from(&json!({"count": 3})), None);
    }

    #[test]
    fn the_next_page_is_followed_only_if_there_is_one() {
        let page = |more: bool, cursor: Value| {
            next_cursor(&json!({"pagination": {"hasNextPage": more, "nextCursor": cursor}}))
        };
        assert_eq!(page(true, json!("c")), Some("c".to_owned()));
        assert_eq!(page(false, json!("c")), None);
        assert_eq!(page(true, json!(null)), None);
        assert_eq!(next_cursor(&json!({"endpoints": []})), None);
    }
}
