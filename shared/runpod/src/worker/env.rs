//! The environment RunPod gives a worker, and the URLs made from its templates.

use std::collections::HashMap;
use std::time::Duration;

use secrecy::SecretString;

use crate::encode_segment;

/// Default of `RUNPOD_PING_INTERVAL`.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Least interval of pings, whatever the environment says.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// What names the poll in the template; other polls replace it.
const TAKE_SEGMENT: &str = "/job-take/";

/// Why the environment is not that of a RunPod worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// None of RunPod's variables is there: the process does not run on RunPod.
    #[error("not started by runpod: RUNPOD_WEBHOOK_GET_JOB is not set")]
    NotOnRunPod,
    /// Some are there, these are missing or malformed.
    #[error("environment of the runpod worker lacks or has malformed {}", .0.join(", "))]
    Incomplete(Vec<&'static str>),
}

/// The environment of a worker, checked, with its URL templates.
#[derive(Debug, Clone)]
pub struct WorkerEnv {
    /// `RUNPOD_POD_ID`.
    pub worker_id: String,
    /// `RUNPOD_ENDPOINT_ID`, empty when it is not set.
    pub endpoint_id: String,
    /// `RUNPOD_POD_HOSTNAME`, `unknown` when it is not set.
    pub hostname: String,
    /// `RUNPOD_AI_API_KEY`, sent as it is.
    pub api_key: SecretString,
    /// `RUNPOD_PING_INTERVAL`, milliseconds there.
    pub ping_interval: Duration,
    gpu_type_id: String,
    take: String,
    output: String,
    ping: String,
}

impl WorkerEnv {
    /// Reads the environment from name-value pairs; names all that is missing at once.
    pub fn from_map<K, V>(vars: impl IntoIterator<Item = (K, V)>) -> Result<Self, EnvError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let vars: HashMap<String, String> = vars
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let get = |name: &str| vars.get(name).cloned();
        if get("RUNPOD_WEBHOOK_GET_JOB").is_none() {
            return Err(EnvError::NotOnRunPod);
        }
        let mut missing = Vec::new();
        let mut need = |name: &'static str, is_url: bool| {
            let value = get(name).unwrap_or_default();
            let usable = !value.is_empty()
                && (!is_url || value.starts_with("http://") || value.starts_with("https://"));
            if !usable {
                missing.push(name);
            }
            value
        };
        let take = need("RUNPOD_WEBHOOK_GET_JOB", true);
        let output = need("RUNPOD_WEBHOOK_POST_OUTPUT", true);
        let ping = need("RUNPOD_WEBHOOK_PING", true);
        let api_key = need("RUNPOD_AI_API_KEY", false);
        let worker_id = need("RUNPOD_POD_ID", false);
        let interval = match get("RUNPOD_PING_INTERVAL").map(|text| text.parse::<u64>()) {
            None => PING_INTERVAL,
            Some(Ok(ms)) => Duration::from_millis(ms).max(PING_INTERVAL_MIN),
            Some(Err(_)) => {
                missing.push("RUNPOD_PING_INTERVAL");
                PING_INTERVAL
            }
        };
        if !missing.is_empty() {
            return Err(EnvError::Incomplete(missing));
        }
        Ok(Self {
            worker_id,
            endpoint_id: get("RUNPOD_ENDPOINT_ID").unwrap_or_default(),
            hostname: get("RUNPOD_POD_HOSTNAME").unwrap_or_else(|| "unknown".to_owned()),
            api_key: SecretString::from(api_key),
            ping_interval: interval,
            gpu_type_id: get("RUNPOD_GPU_TYPE_ID").unwrap_or_default(),
            take,
            output,
            ping,
        })
    }

    /// The poll for `batch` jobs; `in_progress` when the worker holds any job.
    pub(super) fn take_url(&self, batch: usize, in_progress: bool) -> String {
        let flag = format!("job_in_progress={}", u8::from(in_progress));
        let url = self.fill(&self.take, &self.worker_id);
        if batch > 1 && url.contains(TAKE_SEGMENT) {
            let url = url.replacen(TAKE_SEGMENT, "/job-take-batch/", 1);
            append(url, &format!("batch_size={batch}&{flag}"))
        } else {
            append(url, &flag)
        }
    }

    /// The poll for jobs to stop; `None` when it cannot be made from the template: a poll at the
    /// template's own address would take jobs and lose them.
    pub(super) fn stop_url(&self) -> Option<String> {
        let url = self.fill(&self.take, &self.worker_id);
        url.contains(TAKE_SEGMENT)
            .then(|| url.replacen(TAKE_SEGMENT, "/job-stop/", 1))
    }

    /// Where progress and result of a job go.
    pub(super) fn output_url(&self, job_id: &str) -> String {
        append(self.fill(&self.output, job_id), "isStream=false")
    }

    /// The heartbeat with the jobs in progress.
    pub(super) fn ping_url(&self, job_ids: &[String]) -> String {
        let version = format!("runpod_version={}", super::PROTOCOL_VERSION);
        let query = if job_ids.is_empty() {
            version
        } else {
            format!("job_id={}&{version}", encode_segment(&job_ids.join(",")))
        };
        append(self.fill(&self.ping, &self.worker_id), &query)
    }

    /// Whether any of the URLs is an https one.
    pub(super) fn uses_tls(&self) -> bool {
        let urls = [&self.take, &self.output, &self.ping];
        urls.iter().any(|url| url.starts_with("https://"))
    }

    /// `$ID` is the worker in the URLs of polls and pings, and the job in those of results.
    fn fill(&self, template: &str, id: &str) -> String {
        template
            .replace("$RUNPOD_POD_ID", &encode_segment(&self.worker_id))
            .replace("$RUNPOD_GPU_TYPE_ID", &encode_segment(&self.gpu_type_id))
            .replace("$ID", &encode_segment(id))
    }
}

/// RunPod's own SDK appends `&…` blindly, and RunPod's own templates do not always have a `?`.
fn append(mut url: String, query: &str) -> String {
    let separator = match url.find('?') {
        None => "?",
        Some(_) if url.ends_with(['?', '&']) => "",
        Some(_) => "&",
    };
    url.push_str(separator);
    url.push_str(query);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(changes: &[(&str, &str)]) -> Result<WorkerEnv, EnvError> {
        let base = "http://127.0.0.1:1/v2/ep1";
        let mut vars = HashMap::from([
            (
                "RUNPOD_WEBHOOK_GET_JOB".to_owned(),
                format!("{base}/job-take/$ID?gpu=RTX+4090"),
            ),
            (
                "RUNPOD_WEBHOOK_POST_OUTPUT".to_owned(),
                format!("{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=RTX+4090"),
            ),
            (
                "RUNPOD_WEBHOOK_PING".to_owned(),
                format!("{base}/ping/$RUNPOD_POD_ID?gpu=RTX+4090"),
            ),
            ("RUNPOD_AI_API_KEY".to_owned(), "wkey".to_owned()),
            ("RUNPOD_POD_ID".to_owned(), "wk1".to_owned()),
            ("RUNPOD_PING_INTERVAL".to_owned(), "4000".to_owned()),
        ]);
        for (name, value) in changes {
            vars.insert((*name).to_owned(), (*value).to_owned());
        }
        WorkerEnv::from_map(&vars)
    }

    #[test]
    fn the_documented_templates_give_the_documented_urls() {
        let env = env(&[]).unwrap();
        let base = "http://127.0.0.1:1/v2/ep1";
        assert_eq!(
            env.take_url(1, false),
            format!("{base}/job-take/wk1?gpu=RTX+4090&job_in_progress=0")
        );
        assert_eq!(
            env.take_url(3, true),
            format!("{base}/job-take-batch/wk1?gpu=RTX+4090&batch_size=3&job_in_progress=1")
        );
        assert_eq!(
            env.stop_url().unwrap(),
            format!("{base}/job-stop/wk1?gpu=RTX+4090")
        );
        assert_eq!(
            env.output_url("j-u1"),
            format!("{base}/job-done/wk1/j-u1?gpu=RTX+4090&isStream=false")
        );
        assert_eq!(
            env.ping_url(&["a".to_owned(), "b".to_owned()]),
            format!("{base}/ping/wk1?gpu=RTX+4090&job_id=a%2Cb&runpod_version=1.12.0")
        );
        assert_eq!(
            env.ping_url(&[]),
            format!("{base}/ping/wk1?gpu=RTX+4090&runpod_version=1.12.0")
        );
        assert_eq!(env.ping_interval, Duration::from_secs(4));
    }

    #[test]
    fn templates_without_a_question_mark_and_with_other_placeholders_work() {
        let env = env(&[
            (
                "RUNPOD_WEBHOOK_GET_JOB",
                "http://h/v2/ep/job-take/$RUNPOD_POD_ID",
            ),
            (
                "RUNPOD_WEBHOOK_PING",
                "http://h/v2/ep/ping/$ID?gpu=$RUNPOD_GPU_TYPE_ID&",
            ),
            ("RUNPOD_GPU_TYPE_ID", "NVIDIA RTX A4500"),
            (
                "RUNPOD_WEBHOOK_POST_OUTPUT",
                "https://h/v2/ep/job-done/$RUNPOD_POD_ID/$ID?",
            ),
        ])
        .unwrap();
        assert_eq!(
            env.take_url(1, true),
            "http://h/v2/ep/job-take/wk1?job_in_progress=1"
        );
        assert_eq!(
            env.take_url(2, false),
            "http://h/v2/ep/job-take-batch/wk1?batch_size=2&job_in_progress=0"
        );
        assert_eq!(env.stop_url().unwrap(), "http://h/v2/ep/job-stop/wk1");
        assert!(env.uses_tls(), "the third is https");
        assert_eq!(
            env.output_url("../x y"),
            "https://h/v2/ep/job-done/wk1/..%2Fx%20y?isStream=false"
        );
        assert_eq!(
            env.ping_url(&[]),
            "http://h/v2/ep/ping/wk1?gpu=NVIDIA%20RTX%20A4500&runpod_version=1.12.0"
        );
    }

    #[test]
    fn a_poll_that_is_named_otherwise_is_never_polled_for_stops() {
        let env = env(&[("RUNPOD_WEBHOOK_GET_JOB", "http://h/take?id=$ID")]).unwrap();
        assert!(env.stop_url().is_none() && !env.uses_tls());
        let url = env.take_url(3, false);
        assert_eq!(url, "http://h/take?id=wk1&job_in_progress=0");
    }

    #[test]
    fn everything_missing_is_named_at_once() {
        let nothing: [(&str, &str); 0] = [];
        assert_eq!(
            WorkerEnv::from_map(nothing).unwrap_err(),
            EnvError::NotOnRunPod
        );
        let changes = [
            ("RUNPOD_WEBHOOK_PING", ""),
            ("RUNPOD_POD_ID", ""),
            ("RUNPOD_PING_INTERVAL", "soon"),
        ];
        let expected = vec![
            "RUNPOD_WEBHOOK_PING",
            "RUNPOD_POD_ID",
            "RUNPOD_PING_INTERVAL",
        ];
        assert_eq!(env(&changes).unwrap_err(), EnvError::Incomplete(expected));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert!(!format!("{:?}", env(&[]).unwrap()).contains("wkey"));
    }
}
