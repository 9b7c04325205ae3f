//! What an endpoint is: the shape that the file, RunPod's answer and the comparison share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// An endpoint's settings. Lists are sets: RunPod gives their order no meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointSpec {
    /// Name; RunPod does not require it to be unique, we do.
    pub name: String,
    /// How requests reach workers; fixed at creation.
    pub kind: EndpointKind,
    /// Docker image reference.
    pub image: String,
    /// The container's arguments as one string; empty: the image's own command.
    pub args: String,
    /// Container disk, GB.
    pub disk_gb: u64,
    /// Environment of the container.
    pub env: BTreeMap<String, EnvValue>,
    /// Exposed ports, such as `8000/http`.
    pub ports: BTreeSet<String>,
    /// Id of a registry credential, for private images.
    pub registry: Option<String>,
    /// Which GPUs; `None` is a CPU endpoint, which we only read. The family is fixed at creation.
    pub gpu: Option<GpuSpec>,
    /// How many workers.
    pub workers: WorkerBounds,
    /// When a worker is added.
    pub scaling: Scaling,
    /// Execution timeout of a job that names none itself, in milliseconds.
    pub execution_timeout_ms: u64,
    /// Cold-start mode.
    pub flashboot: FlashBoot,
    /// Where workers may run; empty: anywhere.
    pub data_centers: BTreeSet<String>,
    /// Ids of network volumes.
    pub network_volumes: BTreeSet<String>,
}

impl EndpointSpec {
    /// Whether RunPod keeps an idle timeout for it: not for a queue that scales by request count.
    pub fn has_idle_timeout(&self) -> bool {
        let by_count = matches!(self.scaling, Scaling::RequestCount(_));
        !(self.kind == EndpointKind::Queue && by_count)
    }
}

/// A value of an environment variable. `Debug` and comparisons never show a secret one.
#[derive(Clone)]
pub struct EnvValue {
    value: SecretString,
    shown: bool,
}

impl EnvValue {
    /// A value that may be shown.
    pub fn plain(value: impl Into<String>) -> Self {
        Self {
            value: SecretString::from(value.into()),
            shown: true,
        }
    }

    /// A value that is never shown.
    pub fn secret(value: impl Into<String>) -> Self {
        Self {
            value: SecretString::from(value.into()),
            shown: false,
        }
    }

    /// Whether it may be shown.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// The value itself, secret or not: for the request's body alone.
    pub fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}

/// By value: where it came from does not matter.
impl PartialEq for EnvValue {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown {
            write!(f, "{:?}", self.expose())
        } else {
            f.write_str("(hidden)")
        }
    }
}

/// Which GPUs a worker may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuSpec {
    /// Pool ids, such as `AMPERE_16`; whichever has capacity.
    pub pools: BTreeSet<String>,
    /// GPU types within the pools that are not wanted, such as `NVIDIA L4`.
    pub excluded_types: BTreeSet<String>,
    /// GPUs of each worker.
    pub count: u64,
    /// Lowest CUDA version of the host, such as `12.1`.
    pub cuda_version_min: Option<String>,
    /// The only CUDA versions of the host; empty: any.
    pub allowed_cuda_versions: BTreeSet<String>,
}

/// How many workers, and how long an idle one stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerBounds {
    /// Always up.
    pub min: u64,
    /// At most.
    pub max: u64,
    /// Seconds; `None` where RunPod knows none ([`EndpointSpec::has_idle_timeout`]).
    pub idle_timeout_s: Option<u64>,
}

/// When a worker is added.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// When a job has waited this many seconds.
    QueueDelay(f64),
    /// One worker for so many jobs.
    RequestCount(u64),
    /// A kind that we do not know, as RunPod words it.
    Other(String),
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueDelay(seconds) => write!(f, "QUEUE_DELAY {seconds} s"),
            Self::RequestCount(count) => write!(f, "REQUEST_COUNT {count}"),
            Self::Other(word) => f.write_str(word),
        }
    }
}

/// How requests reach workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointKind {
    /// Through RunPod's queue.
    Queue,
    /// Directly, over HTTP.
    LoadBalancer,
    /// A kind that we do not know.
    Other(String),
}

impl EndpointKind {
    /// Reads RunPod's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "QUEUE" | "QB" => Self::Queue,
            "LOAD_BALANCER" | "LB" => Self::LoadBalancer,
            other => Self::Other(other.to_owned()),
        }
    }

    /// RunPod's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Queue => "QUEUE",
            Self::LoadBalancer => "LOAD_BALANCER",
            Self::Other(word) => word,
        }
    }
}

/// Cold-start mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlashBoot {
    /// A stopped worker starts from nothing.
    Off,
    /// A stopped worker's state is kept for a fast revival.
    On,
    /// The same, with capacity set aside.
    Priority,
    /// A mode that we do not know.
    Other(String),
}

impl FlashBoot {
    /// Reads RunPod's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "OFF" => Self::Off,
            "FLASHBOOT" => Self::On,
            "PRIORITY_FLASHBOOT" => Self::Priority,
            other => Self::Other(other.to_owned()),
        }
    }

    /// RunPod's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Off => "OFF",
            Self::On => "FLASHBOOT",
            Self::Priority => "PRIORITY_FLASHBOOT",
            Self::Other(word) => word,
        }
    }
}

/// RunPod's older interfaces add ` -fb` to the name of an endpoint with FlashBoot.
pub(super) fn is_same_name(ours: &str, theirs: &str) -> bool {
    ours == theirs || theirs.strip_suffix(" -fb") == Some(ours)
}
