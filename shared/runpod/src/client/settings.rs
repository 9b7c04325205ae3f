//! How the client reaches RunPod, how often it may, and when it gives RunPod a rest.

use std::time::Duration;

use secrecy::SecretString;

use super::{ANSWER_BYTES_MAX, BreakerPolicy, OperationLimit, RUN_BODY_BYTES_MAX};

/// How the client reaches RunPod and how often it may. The limits hold for each RunPod endpoint,
/// as RunPod's own do.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Base of the data plane with `/v2`, without a trailing slash.
    pub base_url: String,
    /// The account's key, sent as a bearer token.
    pub api_key: SecretString,
    /// Time to open a connection, TLS included.
    pub connect_timeout: Duration,
    /// Whole call of `/run`.
    pub run_timeout: Duration,
    /// Whole call of `/status`.
    pub status_timeout: Duration,
    /// Whole call of `/cancel`, `/health` and `/purge-queue`.
    pub control_timeout: Duration,
    /// Limit of `/run`. RunPod's own: 1000 in 10 s, 200 at once.
    pub run_limit: OperationLimit,
    /// Limit of `/status`. RunPod's own: 2000 in 10 s, 400 at once.
    pub status_limit: OperationLimit,
    /// Limit of `/cancel`. RunPod's own: 100 in 10 s, 20 at once.
    pub cancel_limit: OperationLimit,
    /// Limit of `/health`. RunPod publishes none.
    pub health_limit: OperationLimit,
    /// Limit of `/purge-queue`. RunPod's own: 2 in 10 s.
    pub purge_limit: OperationLimit,
    /// Largest body of `/run` that is sent at all, in bytes.
    pub run_body_bytes_max: usize,
    /// The most that is read of any answer, in bytes.
    pub answer_bytes_max: usize,
    /// When `/run` gives an endpoint a rest: its failures are dear, their outcome is unknown.
    pub submit_breaker: BreakerPolicy,
    /// When all other calls do: shorter, for a job may end meanwhile.
    pub question_breaker: BreakerPolicy,
}

impl ClientSettings {
    /// Settings with the defaults for everything but the address and the key.
    pub fn new(base_url: impl Into<String>, api_key: SecretString) -> Self {
        let limit = |per_10s, concurrent| OperationLimit {
            per_10s,
            concurrent,
        };
        Self {
            base_url: base_url.into(),
            api_key,
            connect_timeout: Duration::from_secs(5),
            run_timeout: Duration::from_secs(15),
            status_timeout: Duration::from_secs(10),
            control_timeout: Duration::from_secs(10),
            run_limit: limit(500, 100),
            status_limit: limit(1000, 200),
            cancel_limit: limit(50, 10),
            health_limit: limit(50, 10),
            purge_limit: limit(1, 1),
            run_body_bytes_max: RUN_BODY_BYTES_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
            submit_breaker: BreakerPolicy::default(),
            question_breaker: BreakerPolicy {
                failures_max: 10,
                open_min: Duration::from_secs(1),
                open_max: Duration::from_secs(10),
            },
        }
    }
}
