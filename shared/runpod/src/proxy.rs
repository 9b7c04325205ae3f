//! The route to a worker through RunPod's HTTP proxy.
//!
//! Guarantee: the host is made from the worker's id as `/status` told it, never from what a worker
//! says of itself. Not for: the exposed TCP port, which is [`crate::direct`].

use crate::client::BuildError;
use crate::port::{self, Port, PortError};
use std::time::Duration;

/// Where `{worker}` stands for the worker's id.
const PLACE: &str = "{worker}";
/// RunPod's own proxy, for a worker that listens on 8000.
pub const DEFAULT_TEMPLATE: &str = "https://{worker}-8000.proxy.runpod.net";

/// Leads to workers through the proxy.
#[derive(Debug, Clone)]
pub struct WorkerProxy {
    http: reqwest::Client,
    template: String,
    stall: Duration,
}

impl WorkerProxy {
    /// For a template such as [`DEFAULT_TEMPLATE`]; `stall` is the longest wait for an answer's
    /// head and between two pieces of its body.
    pub fn new(template: &str, connect: Duration, stall: Duration) -> Result<Self, BuildError> {
        crate::install_tls_provider();
        let sample = template.replace(PLACE, "worker");
        let url = reqwest::Url::parse(&sample).map_err(|_| BuildError::BaseUrl)?;
        if !template.contains(PLACE) || !matches!(url.scheme(), "http" | "https") {
            return Err(BuildError::BaseUrl);
        }
        Ok(Self {
            http: port::client(connect).build().map_err(BuildError::Http)?,
            template: template.trim_end_matches('/').to_owned(),
            stall,
        })
    }

    /// The port of the worker with this id.
    pub fn port(&self, worker: &str) -> Result<Port, PortError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=63).contains(&worker.len()) || !worker.bytes().all(plain) {
            return Err(PortError::WorkerId);
        }
        let base = self.template.replace(PLACE, worker);
        Ok(Port::new(self.http.clone(), base, self.stall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_made_of_the_workers_id_alone() {
        let second = Duration::from_secs(1);
        let proxy = WorkerProxy::new(DEFAULT_TEMPLATE, second, second).unwrap();
        assert_eq!(
            proxy.port("abc123").unwrap().base(),
            "https://abc123-8000.proxy.runpod.net"
        );
        for bad in ["", "a.b", "a/b", "a@evil", "a:1", &"a".repeat(64)] {
            assert!(matches!(proxy.port(bad), Err(PortError::WorkerId)), "{bad}");
        }
        assert!(WorkerProxy::new("https://fixed.example", second, second).is_err());
        assert!(WorkerProxy::new("ftp://{worker}", second, second).is_err());
    }
}
