//! What differs, what that does to running workers, and the one call that mends it. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value, json};

use super::spec::{EndpointSpec, EnvValue, GpuSpec, Scaling, is_same_name};

/// A setting of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Its name.
    Name,
    /// How requests reach workers.
    Kind,
    /// GPU or CPU.
    Compute,
    /// Docker image.
    Image,
    /// The container's arguments.
    Args,
    /// Container disk.
    Disk,
    /// One variable of the environment.
    Env(String),
    /// Exposed ports.
    Ports,
    /// Registry credential.
    Registry,
    /// GPU pools.
    GpuPools,
    /// GPU types that are not wanted.
    GpuExcludedTypes,
    /// GPUs of a worker.
    GpuCount,
    /// Lowest CUDA version.
    MinCudaVersion,
    /// The only CUDA versions.
    AllowedCudaVersions,
    /// Workers that are always up.
    WorkersMin,
    /// Workers at most.
    WorkersMax,
    /// How long an idle worker stays.
    IdleTimeout,
    /// When a worker is added.
    Scaling,
    /// Execution timeout.
    ExecutionTimeout,
    /// Cold-start mode.
    FlashBoot,
    /// Where workers may run.
    DataCenters,
    /// Network volumes.
    NetworkVolumes,
}

impl Field {
    /// What changing it does to running workers: RunPod's own division.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Name
            | Self::WorkersMin
            | Self::WorkersMax
            | Self::IdleTimeout
            | Self::Scaling
            | Self::ExecutionTimeout => Effect::Immediate,
            Self::Image
            | Self::Args
            | Self::Disk
            | Self::Env(_)
            | Self::Ports
            | Self::Registry
            | Self::GpuPools
            | Self::GpuExcludedTypes
            | Self::GpuCount
            | Self::MinCudaVersion
            | Self::AllowedCudaVersions
            | Self::FlashBoot
            | Self::DataCenters
            | Self::NetworkVolumes => Effect::Release,
            Self::Kind | Self::Compute => Effect::Recreate,
        }
    }
}

/// As `endpoint.toml` names it.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Env(name) => return write!(f, "env.{name}"),
            Self::Name => "name",
            Self::Kind => "type",
            Self::Compute => "compute",
            Self::Image => "image",
            Self::Args => "args",
            Self::Disk => "disk_gb",
            Self::Ports => "ports",
            Self::Registry => "registry",
            Self::GpuPools => "gpu.pools",
            Self::GpuExcludedTypes => "gpu.excluded_types",
            Self::GpuCount => "gpu.count",
            Self::MinCudaVersion => "gpu.min_cuda_version",
            Self::AllowedCudaVersions => "gpu.allowed_cuda_versions",
            Self::WorkersMin => "workers.min",
            Self::WorkersMax => "workers.max",
            Self::IdleTimeout => "workers.idle_timeout_s",
            Self::Scaling => "scaling",
            Self::ExecutionTimeout => "execution_timeout_s",
            Self::FlashBoot => "flashboot",
            Self::DataCenters => "data_centers",
            Self::NetworkVolumes => "network_volumes",
        };
        f.write_str(name)
    }
}

/// What a change does to workers that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: it holds at once.
    Immediate,
    /// A new version: idle workers are replaced at once, busy ones after their job.
    Release,
    /// It cannot be changed: another endpoint has to be made.
    Recreate,
}

impl Effect {
    /// One word, for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Release => "release",
            Self::Recreate => "recreate",
        }
    }
}

/// A value as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The value.
    Value(String),
    /// There is one, and it is nobody's business.
    Hidden,
    /// There is none.
    Nothing,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(text) if text.is_empty() => f.write_str("\"\""),
            Self::Value(text) => f.write_str(text),
            Self::Hidden => f.write_str("(hidden)"),
            Self::Nothing => f.write_str("(none)"),
        }
    }
}

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub field: Field,
    /// What RunPod has.
    pub from: Shown,
    /// What it shall be.
    pub to: Shown,
    /// What that does to running workers.
    pub effect: Effect,
}

/// What differs between what shall be and what is, in the order of [`Field`]. Empty: nothing.
pub fn diff(desired: &EndpointSpec, actual: &EndpointSpec) -> Vec<Change> {
    let mut found = Found(Vec::new());
    if !is_same_name(&desired.name, &actual.name) {
        found.add(Field::Name, &actual.name, &desired.name);
    }
    found.compare(Field::Kind, actual.kind.as_str(), desired.kind.as_str());
    found.compare(Field::Image, &actual.image, &desired.image);
    found.compare(Field::Args, &actual.args, &desired.args);
    found.compare(Field::Disk, actual.disk_gb, desired.disk_gb);
    found.environment(desired, actual);
    found.sets(Field::Ports, &actual.ports, &desired.ports);
    found.options(
        Field::Registry,
        actual.registry.as_ref(),
        desired.registry.as_ref(),
    );
    match (&actual.gpu, &desired.gpu) {
        (Some(actual), Some(desired)) => found.gpus(desired, actual),
        (None, None) => {}
        (Some(_), None) => found.add(Field::Compute, "GPU", "CPU"),
        (None, Some(_)) => found.add(Field::Compute, "CPU", "GPU"),
    }
    let (is, shall) = (&actual.workers, &desired.workers);
    found.compare(Field::WorkersMin, is.min, shall.min);
    found.compare(Field::WorkersMax, is.max, shall.max);
    if desired.has_idle_timeout() {
        let (is, shall) = (is.idle_timeout_s, shall.idle_timeout_s);
        found.options(Field::IdleTimeout, is.as_ref(), shall.as_ref());
    }
    if actual.scaling != desired.scaling {
        found.add(Field::Scaling, &actual.scaling, &desired.scaling);
    }
    found.compare(
        Field::ExecutionTimeout,
        Seconds(actual.execution_timeout_ms),
        Seconds(desired.execution_timeout_ms),
    );
    found.compare(
        Field::FlashBoot,
        actual.flashboot.as_str(),
        desired.flashboot.as_str(),
    );
    found.sets(
        Field::DataCenters,
        &actual.data_centers,
        &desired.data_centers,
    );
    found.sets(
        Field::NetworkVolumes,
        &actual.network_volumes,
        &desired.network_volumes,
    );
    found.0.sort_by(|a, b| a.field.cmp(&b.field));
    found.0
}

/// Milliseconds, shown as the file's seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f64 / 1000.0)
    }
}

struct Found(Vec<Change>);

impl Found {
    fn push(&mut self, field: Field, from: Shown, to: Shown) {
        let effect = field.effect();
        self.0.push(Change {
            field,
            from,
            to,
            effect,
        });
    }

    fn add(&mut self, field: Field, from: impl fmt::Display, to: impl fmt::Display) {
        let shown = |text: &dyn fmt::Display| Shown::Value(text.to_string());
        self.push(field, shown(&from), shown(&to));
    }

    fn compare<T: PartialEq + fmt::Display>(&mut self, field: Field, from: T, to: T) {
        if from != to {
            self.add(field, from, to);
        }
    }

    fn options<T: PartialEq + fmt::Display>(
        &mut self,
        field: Field,
        from: Option<&T>,
        to: Option<&T>,
    ) {
        if from != to {
            let shown = |value: Option<&T>| {
                value.map_or(Shown::Nothing, |value| Shown::Value(value.to_string()))
            };
            self.push(field, shown(from), shown(to));
        }
    }

    fn sets(&mut self, field: Field, from: &BTreeSet<String>, to: &BTreeSet<String>) {
        if from != to {
            let shown = |values: &BTreeSet<String>| {
                if values.is_empty() {
                    return Shown::Nothing;
                }
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                Shown::Value(values.join(", "))
            };
            self.push(field, shown(from), shown(to));
        }
    }

    fn gpus(&mut self, desired: &GpuSpec, actual: &GpuSpec) {
        self.sets(Field::GpuPools, &actual.pools, &desired.pools);
        let (is, shall) = (&actual.excluded_types, &desired.excluded_types);
        self.sets(Field::GpuExcludedTypes, is, shall);
        self.compare(Field::GpuCount, actual.count, desired.count);
        let (is, shall) = (&actual.cuda_version_min, &desired.cuda_version_min);
        self.options(Field::MinCudaVersion, is.as_ref(), shall.as_ref());
        let (is, shall) = (
            &actual.allowed_cuda_versions,
            &desired.allowed_cuda_versions,
        );
        self.sets(Field::AllowedCudaVersions, is, shall);
    }

    fn environment(&mut self, desired: &EndpointSpec, actual: &EndpointSpec) {
        let names: BTreeSet<&String> = desired.env.keys().chain(actual.env.keys()).collect();
        for name in names {
            let (is, shall) = (actual.env.get(name), desired.env.get(name));
            if is == shall {
                continue;
            }
            // RunPod does not say what is a secret, so only what the file says openly is shown.
            let open = shall.is_some_and(EnvValue::is_shown) && !sounds_secret(name);
            let shown = |value: Option<&EnvValue>| match value {
                None => Shown::Nothing,
                Some(value) if open => Shown::Value(value.expose().to_owned()),
                Some(_) => Shown::Hidden,
            };
            self.push(Field::Env(name.clone()), shown(is), shown(shall));
        }
    }
}

/// A name that people give to secrets: what RunPod has there may be one even if the file's is not.
fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = [
        "KEY",
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "CREDENTIAL",
        "AUTH",
    ];
    words.iter().any(|word| name.contains(word))
}

/// The body of the PATCH that carries out `changes`: the settings that change and no other.
///
/// The environment goes as a whole, pools and excluded types together: RunPod replaces them so.
pub fn patch_body(desired: &EndpointSpec, changes: &[Change]) -> Value {
    let mut body = Map::new();
    for change in changes {
        match &change.field {
            Field::Name => put(&mut body, "name", json!(desired.name)),
            Field::Image => put(&mut body, "image", json!(desired.image)),
            Field::Args => put(&mut body, "args", json!(desired.args)),
            Field::Disk => put(&mut body, "disk", json!(desired.disk_gb)),
            Field::Env(_) => put(&mut body, "env", env_body(desired)),
            Field::Ports => put(&mut body, "ports", json!(desired.ports)),
            Field::Registry => put(&mut body, "registry", json!(desired.registry)),
            Field::GpuPools | Field::GpuExcludedTypes => {
                with_gpu(&mut body, desired, |part, gpu| {
                    put(part, "pools", json!(gpu.pools));
                    put(part, "excludedTypes", json!(gpu.excluded_types));
                });
            }
            Field::GpuCount => with_gpu(&mut body, desired, |part, gpu| {
                put(part, "count", json!(gpu.count));
            }),
            Field::MinCudaVersion => with_gpu(&mut body, desired, |part, gpu| {
                // An empty text takes the floor away.
                let floor = gpu.cuda_version_min.as_deref().unwrap_or_default();
                put(part, "minCudaVersion", json!(floor));
            }),
            Field::AllowedCudaVersions => with_gpu(&mut body, desired, |part, gpu| {
                put(
                    part,
                    "allowedCudaVersions",
                    json!(gpu.allowed_cuda_versions),
                );
            }),
            Field::WorkersMin => put(
                nested(&mut body, "workers"),
                "min",
                json!(desired.workers.min),
            ),
            Field::WorkersMax => put(
                nested(&mut body, "workers"),
                "max",
                json!(desired.workers.max),
            ),
            Field::IdleTimeout => {
                if let Some(seconds) = desired.workers.idle_timeout_s {
                    put(nested(&mut body, "workers"), "idleTimeout", json!(seconds));
                }
            }
            Field::Scaling => put(&mut body, "scaling", scaling_body(&desired.scaling)),
            Field::ExecutionTimeout => {
                put(&mut body, "timeout", json!(desired.execution_timeout_ms));
            }
            Field::FlashBoot => put(&mut body, "flashboot", json!(desired.flashboot.as_str())),
            Field::DataCenters => put(&mut body, "dataCenterIds", json!(desired.data_centers)),
            Field::NetworkVolumes => {
                put(&mut body, "networkVolumes", json!(desired.network_volumes));
            }
            // No PATCH can change them.
            Field::Kind | Field::Compute => {}
        }
    }
    Value::Object(body)
}

fn with_gpu(
    body: &mut Map<String, Value>,
    desired: &EndpointSpec,
    fill: impl FnOnce(&mut Map<String, Value>, &GpuSpec),
) {
    if let Some(gpu) = &desired.gpu {
        fill(nested(body, "gpu"), gpu);
    }
}

/// The body of the POST that makes the endpoint.
pub fn create_body(spec: &EndpointSpec) -> Value {
    let mut workers = json!({"min": spec.workers.min, "max": spec.workers.max});
    if let Some(seconds) = spec
        .workers
        .idle_timeout_s
        .filter(|_| spec.has_idle_timeout())
    {
        workers["idleTimeout"] = json!(seconds);
    }
    let mut body = json!({
        "name": spec.name, "type": spec.kind.as_str(), "scaling": scaling_body(&spec.scaling),
        "image": spec.image, "args": spec.args, "disk": spec.disk_gb, "env": env_body(spec),
        "ports": spec.ports, "registry": spec.registry, "workers": workers,
        "timeout": spec.execution_timeout_ms, "flashboot": spec.flashboot.as_str(),
        "dataCenterIds": spec.data_centers, "networkVolumes": spec.network_volumes,
    });
    if let Some(gpu) = &spec.gpu {
        let mut part = json!({"pools": gpu.pools, "excludedTypes": gpu.excluded_types,
                              "count": gpu.count});
        if let Some(floor) = &gpu.cuda_version_min {
            part["minCudaVersion"] = json!(floor);
        }
        if !gpu.allowed_cuda_versions.is_empty() {
            part["allowedCudaVersions"] = json!(gpu.allowed_cuda_versions);
        }
        body["gpu"] = part;
    }
    body
}

fn env_body(spec: &EndpointSpec) -> Value {
    let pairs = spec.env.iter();
    Value::Object(
        pairs
            .map(|(name, value)| (name.clone(), json!(value.expose())))
            .collect(),
    )
}

fn scaling_body(scaling: &Scaling) -> Value {
    match scaling {
        Scaling::QueueDelay(seconds) => json!({"type": "QUEUE_DELAY", "queueDelay": seconds}),
        Scaling::RequestCount(count) => json!({"type": "REQUEST_COUNT", "requestCount": count}),
        Scaling::Other(word) => json!({"type": word}),
    }
}

fn put(body: &mut Map<String, Value>, name: &str, value: Value) {
    body.insert(name.to_owned(), value);
}

fn nested<'a>(body: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let inner = body.entry(name).or_insert_with(|| json!({}));
    inner.as_object_mut().expect("it is put there as an object")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
