//! Requests and answers of the data plane, read leniently: RunPod's documents and its samples
//! disagree, and an unknown word must not stop a job.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A run to submit.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRequest {
    /// The job's input; RunPod's documents want an object.
    pub input: Value,
    /// URL that RunPod calls once when the run has ended (a hint only: three tries, unsigned).
    pub webhook: Option<String>,
    /// How long a worker may take; RunPod takes 5 s to 7 days.
    pub execution_timeout: Duration,
    /// How long the run exists at all, queue included; RunPod takes 10 s to 7 days. When it is
    /// over the run is deleted in whatever state and `/status` answers 404.
    pub ttl: Duration,
}

impl RunRequest {
    pub(super) fn to_body(&self) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("input".to_owned(), self.input.clone());
        if let Some(webhook) = &self.webhook {
            body.insert("webhook".to_owned(), json!(webhook));
        }
        let policy = json!({
            "executionTimeout": millis(self.execution_timeout),
            "ttl": millis(self.ttl),
        });
        body.insert("policy".to_owned(), policy);
        Value::Object(body).to_string().into_bytes()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A run that RunPod has queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAccepted {
    /// RunPod's id of the run.
    pub id: String,
    /// Usually [`JobStatus::InQueue`].
    pub status: JobStatus,
}

impl RunAccepted {
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        let id = value["id"].as_str().filter(|id| !id.is_empty())?;
        let status = value["status"].as_str().unwrap_or("IN_QUEUE");
        Some(Self {
            id: id.to_owned(),
            status: JobStatus::parse(status),
        })
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatus {
    /// Waiting for a worker.
    InQueue,
    /// Taken by a worker.
    InProgress,
    /// A worker posted a result without an error.
    Completed,
    /// A worker posted an error, or RunPod ended it (execution timeout).
    Failed,
    /// Cancelled by a call.
    Cancelled,
    /// Expired before pickup, or its worker stopped reporting.
    TimedOut,
    /// A word we do not know; not final.
    Unknown(String),
}

impl JobStatus {
    /// Reads RunPod's word.
    pub fn parse(word: &str) -> Self {
        match word {
            "IN_QUEUE" => Self::InQueue,
            "IN_PROGRESS" | "RUNNING" => Self::InProgress,
            "COMPLETED" => Self::Completed,
            "FAILED" => Self::Failed,
            "CANCELLED" => Self::Cancelled,
            "TIMED_OUT" => Self::TimedOut,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// RunPod's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
            Self::Unknown(word) => word,
        }
    }

    /// Whether the run has ended.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut => true,
            Self::InQueue | Self::InProgress | Self::Unknown(_) => false,
        }
    }
}

/// An error of a run, as its worker or RunPod worded it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFault {
    /// The text as it came.
    pub text: String,
    /// The same as JSON, where it is JSON: workers post an object encoded as a string.
    pub parsed: Option<Value>,
}

impl JobFault {
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::String(text) => {
                let parsed = serde_json::from_str(&text).ok().filter(Value::is_object);
                Some(Self { text, parsed })
            }
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Some(Self {
                    text: other.to_string(),
                    parsed: Some(other),
                })
            }
        }
    }

    /// `error_type` of a structured error: our own workers' code, such as `worker_stopping`.
    pub fn error_type(&self) -> Option<&str> {
        self.parsed.as_ref()?["error_type"].as_str()
    }

    /// The sentence of a structured error, else the whole text.
    pub fn message(&self) -> &str {
        let structured = self
            .parsed
            .as_ref()
            .and_then(|value| value["error_message"].as_str());
        structured.unwrap_or(&self.text)
    }
}

/// The state of a run and what came of it so far.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusAnswer {
    /// RunPod's id of the run.
    pub id: String,
    /// Where it stands.
    pub status: JobStatus,
    /// The last progress update while in progress, the result afterwards.
    pub output: Option<Value>,
    /// Set on a failed run.
    pub error: Option<JobFault>,
    /// Milliseconds in the queue, once picked up.
    pub delay_time_ms: Option<u64>,
    /// Milliseconds on the worker.
    pub execution_time_ms: Option<u64>,
    /// Id of the worker that has or had it; its proxy host is made from this.
    pub worker_id: Option<String>,
    /// How often RunPod has run it again after losing a worker.
    pub retries: u32,
}

impl StatusAnswer {
    /// Reads the body of `/status`, `/cancel` or RunPod's completion call. `None` without a
    /// status. An id that is left out is empty.
    pub fn from_value(mut value: Value) -> Option<Self> {
        let status = JobStatus::parse(value["status"].as_str()?);
        let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let output = value
            .get_mut("output")
            .map(Value::take)
            .filter(|output| !output.is_null());
        let error = value
            .get_mut("error")
            .map(Value::take)
            .and_then(JobFault::from_value);
        Some(Self {
            id: text(&value, "id").unwrap_or_default(),
            status,
            output,
            error,
            delay_time_ms: whole(&value["delayTime"]),
            execution_time_ms: whole(&value["executionTime"]),
            worker_id: text(&value, "workerId").filter(|id| !id.is_empty()),
            retries: whole(&value["retries"])
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0),
        })
    }
}

/// A count that may come as an integer or as a float.
fn whole(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
}

/// Counters of an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Runs by state.
    pub jobs: JobCounts,
    /// Workers by state.
    pub workers: WorkerCounts,
}

/// Why jobs wait though nobody works on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Workers crash.
    Unhealthy,
    /// RunPod has no free machine of the kinds asked for.
    Throttled,
    /// Workers are starting: wait.
    Initializing,
    /// No worker at all, nor one on its way: the endpoint's own limit of workers may be 0.
    NoWorkers,
}

impl Shortage {
    /// A word for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Throttled => "throttled",
            Self::Initializing => "initializing",
            Self::NoWorkers => "no_workers",
        }
    }
}

impl Health {
    /// Reads the body of `/health`. `None` when it has neither jobs nor workers. A counter that is
    /// left out, or is no number, is 0.
    pub fn from_value(value: &Value) -> Option<Self> {
        let (jobs, workers) = (&value["jobs"], &value["workers"]);
        if !jobs.is_object() && !workers.is_object() {
            return None;
        }
        let job = |key: &str| whole(&jobs[key]).unwrap_or(0);
        let worker = |key: &str| whole(&workers[key]).unwrap_or(0);
        Some(Self {
            jobs: JobCounts {
                completed: job("completed"),
                failed: job("failed"),
                in_progress: job("inProgress"),
                in_queue: job("inQueue"),
                retried: job("retried"),
            },
            workers: WorkerCounts {
                idle: worker("idle"),
                initializing: worker("initializing"),
                ready: worker("ready"),
                running: worker("running"),
                throttled: worker("throttled"),
                unhealthy: worker("unhealthy"),
            },
        })
    }

    /// True when no worker is up or on its way, and those that are wanted crash or find no
    /// machine; whether anything waits or not.
    pub fn is_stuck(&self) -> bool {
        let workers = &self.workers;
        let hope = workers.idle + workers.ready + workers.running + workers.initializing;
        hope == 0 && workers.throttled + workers.unhealthy > 0
    }

    /// Runs that are queued or with a worker.
    pub fn in_flight(&self) -> u64 {
        self.jobs.in_queue.saturating_add(self.jobs.in_progress)
    }

    /// Why what is queued waits while no worker is up; `None` when a worker is, or nothing waits.
    pub fn shortage(&self) -> Option<Shortage> {
        let workers = &self.workers;
        if self.jobs.in_queue == 0 || workers.idle + workers.ready + workers.running > 0 {
            return None;
        }
        Some(match workers {
            WorkerCounts { unhealthy: 1.., .. } => Shortage::Unhealthy,
            WorkerCounts {
                initializing: 1.., ..
            } => Shortage::Initializing,
            WorkerCounts { throttled: 1.., .. } => Shortage::Throttled,
            WorkerCounts { .. } => Shortage::NoWorkers,
        })
    }
}

/// Runs by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    /// Ended well.
    pub completed: u64,
    /// Ended badly.
    pub failed: u64,
    /// With a worker.
    pub in_progress: u64,
    /// Waiting.
    pub in_queue: u64,
    /// Run again after losing a worker.
    pub retried: u64,
}

/// Workers by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerCounts {
    /// Up, without a job.
    pub idle: u64,
    /// Starting.
    pub initializing: u64,
    /// Ready to take a job.
    pub ready: u64,
    /// With a job.
    pub running: u64,
    /// Wanted, but RunPod has no machine.
    pub throttled: u64,
    /// Crashed.
    pub unhealthy: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> StatusAnswer {
        StatusAnswer::from_value(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_finished_run_keeps_all_fields() {
        let answer = parse(
            r#"{"delayTime":824,"executionTime":3391.7,"id":"a-u1","output":{"x":1},
                "status":"COMPLETED","workerId":"smj","retries":2,"extra":true}"#,
        );
        assert_eq!(answer.status, JobStatus::Completed);
        assert_eq!(answer.output, Some(json!({"x": 1})));
        assert_eq!(
            (answer.delay_time_ms, answer.execution_time_ms),
            (Some(824), Some(3391))
        );
        assert_eq!(
            (answer.worker_id.as_deref(), answer.retries),
            (Some("smj"), 2)
        );
        assert_eq!(answer.error, None);
    }

    #[test]
    fn errors_are_read_as_text_as_json_text_and_as_json() {
        let plain = parse(r#"{"id":"a","status":"FAILED","error":"executionTimeout exceeded"}"#);
        let fault = plain.error.unwrap();
        assert_eq!(
            (fault.message(), fault.error_type()),
            ("executionTimeout exceeded", None)
        );
        let nested = r#"{"id":"a","status":"FAILED","output":{"partial":5},
            "error":"{\"error_type\":\"worker_stopping\",\"error_message\":\"boom\"}"}"#;
        let nested = parse(nested);
        let fault = nested.error.unwrap();
        assert_eq!(
            (fault.message(), fault.error_type()),
            ("boom", Some("worker_stopping"))
        );
        assert_eq!(nested.output, Some(json!({"partial": 5})));
        let object = parse(r#"{"status":"FAILED","error":{"error_type":"x"}}"#);
        assert_eq!(object.error.unwrap().error_type(), Some("x"));
    }

    #[test]
    fn words_of_every_kind() {
        for word in [
            "IN_QUEUE",
            "IN_PROGRESS",
            "COMPLETED",
            "FAILED",
            "CANCELLED",
            "TIMED_OUT",
        ] {
            assert_eq!(JobStatus::parse(word).as_str(), word);
        }
        assert_eq!(JobStatus::parse("RUNNING"), JobStatus::InProgress);
        assert!(!JobStatus::parse("SOMETHING_NEW").is_final());
        assert!(StatusAnswer::from_value(json!({"id": "a"})).is_none());
        assert!(StatusAnswer::from_value(json!([1])).is_none());
    }

    #[test]
    fn health_with_two_counters_is_enough() {
        let short = r#"{"jobs":{"completed":1,"inProgress":2,"inQueue":3},"workers":{"idle":1}}"#;
        let health = Health::from_value(&serde_json::from_str(short).unwrap()).unwrap();
        assert_eq!((health.in_flight(), health.workers.throttled), (5, 0));
        let odd = json!({"jobs": {"inQueue": "many", "inProgress": 2.0}, "workers": null});
        assert_eq!(Health::from_value(&odd).unwrap().in_flight(), 2);
        for not_health in [json!({}), json!([]), json!("ok"), json!({"jobs": 3})] {
            assert!(Health::from_value(&not_health).is_none(), "{not_health}");
        }
    }

    #[test]
    fn a_long_queue_is_explained_by_the_workers() {
        let health = |workers: Value| {
            Health::from_value(&json!({"jobs": {"inQueue": 1}, "workers": workers})).unwrap()
        };
        let why = |workers| health(workers).shortage();
        assert_eq!(why(json!({"running": 1, "throttled": 2})), None);
        assert_eq!(why(json!({"idle": 1, "unhealthy": 2})), None);
        assert_eq!(why(json!({"throttled": 2})), Some(Shortage::Throttled));
        assert_eq!(
            why(json!({"throttled": 2, "initializing": 1})),
            Some(Shortage::Initializing)
        );
        assert_eq!(
            why(json!({"throttled": 2, "unhealthy": 1})),
            Some(Shortage::Unhealthy)
        );
        assert_eq!(why(json!({})), Some(Shortage::NoWorkers));
        let stuck = |workers| {
            Health::from_value(&json!({"workers": workers}))
                .unwrap()
                .is_stuck()
        };
        assert!(stuck(json!({"throttled": 1})) && stuck(json!({"unhealthy": 2})));
        assert!(!stuck(json!({"throttled": 1, "initializing": 1})));
        assert!(!stuck(json!({"throttled": 1, "idle": 1})) && !stuck(json!({})));
        assert_eq!(Health::default().shortage(), None);
    }

    #[test]
    fn the_request_names_its_limits_in_milliseconds() {
        let request = RunRequest {
            input: json!({"a": 1}),
            webhook: Some("https://example.org/h".to_owned()),
            execution_timeout: Duration::from_mins(10),
            ttl: Duration::from_hours(1),
        };
        let body: Value = serde_json::from_slice(&request.to_body()).unwrap();
        assert_eq!(
            body,
            json!({"input": {"a": 1}, "webhook": "https://example.org/h",
                   "policy": {"executionTimeout": 600_000, "ttl": 3_600_000}})
        );
    }
}
