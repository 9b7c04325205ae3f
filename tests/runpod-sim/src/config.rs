//! Flags of the emulator, each also an environment variable `RUNPOD_SIM_…`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Emulates one RunPod serverless endpoint on this machine.
///
/// Durations take a unit (`250ms`, `4s`, `10m`); a bare number is milliseconds.
#[derive(Debug, Clone, Parser)]
#[command(name = "runpod-sim", version)]
pub struct Config {
    /// Address of client API, worker API, proxy and control API; port 0 takes a free one.
    #[arg(long, env = "RUNPOD_SIM_LISTEN", default_value = "127.0.0.1:8100")]
    pub listen: SocketAddr,
    /// Id of the endpoint.
    #[arg(long, env = "RUNPOD_SIM_ENDPOINT", default_value = "ep-sim")]
    pub endpoint: String,
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
    /// A worker without a job for this long is stopped.
    #[arg(long, env = "RUNPOD_SIM_IDLE_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub idle_timeout: Duration,
    /// From the decision to start a worker to the start of its process.
    #[arg(long, env = "RUNPOD_SIM_COLD_START", default_value = "500ms", value_parser = duration)]
    pub cold_start: Duration,
    /// A job that has waited this long calls for a worker.
    #[arg(long, env = "RUNPOD_SIM_QUEUE_DELAY", default_value = "4s", value_parser = duration)]
    pub queue_delay: Duration,
    /// Execution timeout of jobs that bring none.
    #[arg(long, env = "RUNPOD_SIM_EXECUTION_TIMEOUT", default_value = "10m", value_parser = duration)]
    pub execution_timeout: Duration,
    /// Time to live of jobs that bring none.
    #[arg(long, env = "RUNPOD_SIM_TTL", default_value = "24h", value_parser = duration)]
    pub ttl: Duration,
    /// How long the result of an ended job can be asked for.
    #[arg(long, env = "RUNPOD_SIM_RETENTION", default_value = "30m", value_parser = duration)]
    pub retention: Duration,
    /// Key of clients.
    #[arg(
        long,
        env = "RUNPOD_SIM_API_KEY",
        default_value = "sim-client-key",
        hide_env_values = true
    )]
    pub api_key: String,
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
    /// How often a job whose worker was lost runs again before it is TIMED_OUT.
    #[arg(long, env = "RUNPOD_SIM_RETRIES_MAX", default_value_t = 3)]
    pub retries_max: u32,
    /// Largest body of /run, bytes.
    #[arg(long, env = "RUNPOD_SIM_RUN_BYTES_MAX", default_value_t = 10 * 1024 * 1024)]
    pub run_bytes_max: usize,
    /// Largest body of a result, bytes.
    #[arg(long, env = "RUNPOD_SIM_RESULT_BYTES_MAX", default_value_t = 20 * 1024 * 1024)]
    pub result_bytes_max: usize,
    /// Tries of the completion webhook.
    #[arg(long, env = "RUNPOD_SIM_WEBHOOK_TRIES", default_value_t = 3)]
    pub webhook_tries: u32,
    /// Between two tries of the completion webhook.
    #[arg(long, env = "RUNPOD_SIM_WEBHOOK_DELAY", default_value = "10s", value_parser = duration)]
    pub webhook_delay: Duration,
    /// Longest wait of the proxy for a worker's next byte.
    #[arg(long, env = "RUNPOD_SIM_PROXY_TIMEOUT", default_value = "100s", value_parser = duration)]
    pub proxy_timeout: Duration,
    /// File to write the real address to: `{"http": "127.0.0.1:1234"}`.
    #[arg(long, env = "RUNPOD_SIM_PORTS_FILE")]
    pub ports_file: Option<PathBuf>,
}

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
        assert!(Config::try_parse_from(["runpod-sim", "--worker-env", "A"]).is_err());
    }
}
