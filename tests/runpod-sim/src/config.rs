//! Flags of the emulator, almost each also an environment variable `RUNPOD_SIM_…`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use crate::clock::{FACTOR_MAX, FACTOR_MIN};
use crate::endpoints::Scaler;

/// What calls for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScalerKind {
    /// A job that has waited for `--queue-delay`.
    QueueDelay,
    /// Each `--request-count` jobs queued or in progress.
    RequestCount,
}

/// Emulates RunPod serverless endpoints on this machine.
///
/// Durations take a unit (`250ms`, `4s`, `10m`); a bare number is milliseconds.
#[derive(Debug, Clone, Parser)]
#[command(name = "runpod-sim", version)]
pub struct Config {
    /// Address of client API, worker API, proxy and control API; port 0 takes a free one.
    #[arg(long, env = "RUNPOD_SIM_LISTEN", default_value = "127.0.0.1:8100")]
    pub listen: SocketAddr,
    /// Id of the first endpoint.
    #[arg(long, env = "RUNPOD_SIM_ENDPOINT", default_value = "ep-sim")]
    pub endpoint: String,
    /// Id of one more endpoint with the same settings; repeatable.
    #[arg(long)]
    pub endpoint_also: Vec<String>,
    /// How much faster than real time passes for the emulator: ttl, retention, timeouts, delays.
    /// Polls of workers, their ping interval and the grace after SIGTERM stay real.
    #[arg(long, env = "RUNPOD_SIM_CLOCK_FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub clock_factor: f64,
    /// Command of a worker, split like a shell does, without a shell. Without it no worker is
    /// started: workers from outside may come.
    #[arg(long, env = "RUNPOD_SIM_WORKER")]
    pub worker: Option<String>,
    /// Most workers at once, those that are stopping included.
    #[arg(long, env = "RUNPOD_SIM_WORKERS_MAX", default_value_t = 3)]
    pub workers_max: usize,
    /// Workers that are always up.
    #[arg(long, env = "RUNPOD_SIM_WORKERS_MIN", default_value_t = 0)]
    pub workers_min: usize,
    /// Workers that cannot be had, as if there were no machine for them.
    #[arg(long, env = "RUNPOD_SIM_WORKERS_THROTTLED", default_value_t = 0)]
    pub workers_throttled: usize,
    /// What calls for a worker.
    #[arg(long, env = "RUNPOD_SIM_SCALER", default_value = "QUEUE_DELAY")]
    pub scaler: ScalerKind,
    /// Of `REQUEST_COUNT`: one worker for so many jobs queued or in progress.
    #[arg(long, env = "RUNPOD_SIM_REQUEST_COUNT", default_value_t = 4)]
    pub request_count: u32,
    /// An idle worker is frozen (SIGSTOP) and woken (SIGCONT) instead of stopped and started; its
    /// first job-take after that is answered 400.
    #[arg(long, env = "RUNPOD_SIM_FLASHBOOT", default_value_t = false,
          action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub flashboot: bool,
    /// A worker without a job for this long is stopped.
    #[arg(long, env = "RUNPOD_SIM_IDLE_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub idle_timeout: Duration,
    /// From the decision to start a worker to the start of its process.
    #[arg(long, env = "RUNPOD_SIM_COLD_START", default_value = "500ms", value_parser = duration)]
    pub cold_start: Duration,
    /// Of `QUEUE_DELAY`: a job that has waited this long calls for a worker.
    #[arg(long, env = "RUNPOD_SIM_QUEUE_DELAY", default_value = "4s", value_parser = duration)]
    pub queue_delay: Duration,
    /// Execution timeout of jobs that bring none.
    #[arg(long, env = "RUNPOD_SIM_EXECUTION_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub execution_timeout: Duration,
    /// How late an execution timeout is noticed; at RunPod 3 to 12 seconds were measured.
    #[arg(long, env = "RUNPOD_SIM_EXECUTION_LAG", default_value = "3s", value_parser = duration)]
    pub execution_lag: Duration,
    /// Time to live of jobs that bring none.
    #[arg(long, env = "RUNPOD_SIM_TTL", default_value = "24h", value_parser = duration)]
    pub ttl: Duration,
    /// How long the result of an ended job can be asked for.
    #[arg(long, env = "RUNPOD_SIM_RETENTION", default_value = "30m", value_parser = duration)]
    pub retention: Duration,
    /// How long the result of an ended job of /runsync can be asked for.
    #[arg(long, env = "RUNPOD_SIM_RETENTION_SYNC", default_value = "1m", value_parser = duration)]
    pub retention_sync: Duration,
    /// Takes any `policy.executionTimeout` and `policy.ttl`, not only 5 s and 10 s to 7 days.
    #[arg(long, env = "RUNPOD_SIM_LENIENT_POLICY", default_value_t = false,
          action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub lenient_policy: bool,
    /// RunPod's rate limits: `on`, `off`, or a factor to multiply them by.
    #[arg(long, env = "RUNPOD_SIM_RATE_LIMITS", default_value = "on", value_parser = rate_limits)]
    pub rate_limits: RateFactor,
    /// Each busy worker raises a rate limit to at least so many requests; RunPod does not say how
    /// many.
    #[arg(long, env = "RUNPOD_SIM_REQUESTS_PER_WORKER", default_value_t = 0)]
    pub requests_per_worker: u32,
    /// Key of clients.
    #[arg(
        long,
        env = "RUNPOD_SIM_API_KEY",
        default_value = "sim-client-key",
        hide_env_values = true
    )]
    pub api_key: String,
    /// Key of clients that may only look.
    #[arg(long, env = "RUNPOD_SIM_READ_ONLY_KEY", hide_env_values = true)]
    pub read_only_key: Option<String>,
    /// Key of workers.
    #[arg(
        long,
        env = "RUNPOD_SIM_WORKER_KEY",
        default_value = "sim-worker-key",
        hide_env_values = true
    )]
    pub worker_key: String,
    /// Environment of workers, `NAME=VALUE`; repeatable. Stronger than the emulator's own.
    #[arg(long, value_parser = pair)]
    pub worker_env: Vec<(String, String)>,
    /// Where each worker writes `{worker id}.log`; without it they share our output.
    #[arg(long, env = "RUNPOD_SIM_WORKER_LOG_DIR")]
    pub worker_log_dir: Option<PathBuf>,
    /// Where each worker's files lie, `{worker id}/work` and `{worker id}/output`, as long as it
    /// lives; default a temporary directory.
    #[arg(long, env = "RUNPOD_SIM_WORKER_DIR")]
    pub worker_dir: Option<PathBuf>,
    /// From SIGTERM to SIGKILL.
    #[arg(long, env = "RUNPOD_SIM_STOP_GRACE", default_value = "10s", value_parser = duration)]
    pub stop_grace: Duration,
    /// Interval of pings that workers are told; RunPod's SDK needs at least 1 s.
    #[arg(long, env = "RUNPOD_SIM_PING_INTERVAL", default_value = "5s", value_parser = duration)]
    pub ping_interval: Duration,
    /// A worker unheard of for this long is lost: it is killed and its jobs run again.
    #[arg(long, env = "RUNPOD_SIM_PING_LOSS", default_value = "20s", value_parser = duration)]
    pub ping_loss: Duration,
    /// How long job-take and job-stop are held open.
    #[arg(long, env = "RUNPOD_SIM_POLL_HOLD", default_value = "20s", value_parser = duration)]
    pub poll_hold: Duration,
    /// How long a stopped job's worker may go on with it before it is killed.
    #[arg(long, env = "RUNPOD_SIM_STOP_REACT", default_value = "30s", value_parser = duration)]
    pub stop_react: Duration,
    /// A worker that has not called within this time of its start is killed.
    #[arg(long, env = "RUNPOD_SIM_INIT_TIMEOUT", default_value = "7m", value_parser = duration)]
    pub init_timeout: Duration,
    /// A worker that polls with `job_in_progress=0` for this long while it has a job is believed:
    /// the job runs again.
    #[arg(long, env = "RUNPOD_SIM_DENIAL", default_value = "60s", value_parser = duration)]
    pub denial: Duration,
    /// From the loss of a worker until its job is handed out again.
    #[arg(long, env = "RUNPOD_SIM_REQUEUE_DELAY", default_value = "0", value_parser = duration)]
    pub requeue_delay: Duration,
    /// How often a job whose worker was lost runs again before it is TIMED_OUT.
    #[arg(long, env = "RUNPOD_SIM_RETRIES_MAX", default_value_t = 3)]
    pub retries_max: u32,
    /// Largest body of /run, bytes.
    #[arg(long, env = "RUNPOD_SIM_RUN_BYTES_MAX", default_value_t = 10 * 1024 * 1024)]
    pub run_bytes_max: usize,
    /// Largest body of /runsync, bytes.
    #[arg(long, env = "RUNPOD_SIM_RUNSYNC_BYTES_MAX", default_value_t = 20 * 1024 * 1024)]
    pub runsync_bytes_max: usize,
    /// Largest body of a result, bytes.
    #[arg(long, env = "RUNPOD_SIM_RESULT_BYTES_MAX", default_value_t = 20 * 1024 * 1024)]
    pub result_bytes_max: usize,
    /// Tries of the completion webhook.
    #[arg(long, env = "RUNPOD_SIM_WEBHOOK_TRIES", default_value_t = 3)]
    pub webhook_tries: u32,
    /// Between two tries of the completion webhook.
    #[arg(long, env = "RUNPOD_SIM_WEBHOOK_DELAY", default_value = "10s", value_parser = duration)]
    pub webhook_delay: Duration,
    /// Whether each worker's port can be reached by TCP from outside, through a port of ours that
    /// it is told as `RUNPOD_TCP_PORT_8000`.
    #[arg(long, env = "RUNPOD_SIM_TCP_PORTS", default_value = "on")]
    pub tcp_ports: Switch,
    /// Longest wait of the proxy for a worker's next byte.
    #[arg(long, env = "RUNPOD_SIM_PROXY_TIMEOUT", default_value = "100s", value_parser = duration)]
    pub proxy_timeout: Duration,
    /// File to write the real address to: `{"http": "127.0.0.1:1234"}`.
    #[arg(long, env = "RUNPOD_SIM_PORTS_FILE")]
    pub ports_file: Option<PathBuf>,
}

impl Config {
    /// The scaler that the flags describe.
    pub fn scaler(&self) -> Scaler {
        match self.scaler {
            ScalerKind::QueueDelay => Scaler::QueueDelay(self.queue_delay),
            ScalerKind::RequestCount => Scaler::RequestCount(self.request_count.max(1)),
        }
    }
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// What RunPod's rate limits are multiplied by; `None`: there are none.
pub type RateFactor = Option<f64>;

/// `250ms`, `4s`, `2.5s`, `10m`, `24h`; bare numbers are milliseconds.
fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("not a duration: {text}"))?;
    let seconds = match unit {
        "" | "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        other => return Err(format!("unknown unit {other}: ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("not a duration: {text}"))
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok();
    let known = factor.filter(|factor| (FACTOR_MIN..=FACTOR_MAX).contains(factor));
    known.ok_or_else(|| format!("expected a number from {FACTOR_MIN} to {FACTOR_MAX}"))
}

fn rate_limits(text: &str) -> Result<RateFactor, String> {
    match text {
        "on" => Ok(Some(1.0)),
        "off" => Ok(None),
        other => {
            let factor: Option<f64> = other.parse().ok();
            let factor = factor.filter(|factor| factor.is_finite() && *factor > 0.0);
            factor
                .map(Some)
                .ok_or_else(|| "expected on, off or a factor".to_owned())
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(duration("10m"), Ok(Duration::from_mins(10)));
        assert!(duration("4 weeks").is_err() && duration("s").is_err());
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = Config::try_parse_from(["runpod-sim", "--worker-env", "A=b=c"]).unwrap();
        assert_eq!(config.worker_env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(config.ttl, Duration::from_hours(24));
        assert_eq!(config.rate_limits, Some(1.0));
        assert!(Config::try_parse_from(["runpod-sim", "--worker-env", "A"]).is_err());
        assert!(Config::try_parse_from(["runpod-sim", "--clock-factor", "0"]).is_err());
        let flags = ["runpod-sim", "--rate-limits", "off", "--flashboot"];
        let config = Config::try_parse_from(flags).unwrap();
        assert_eq!((config.rate_limits, config.flashboot), (None, true));
    }
}
