//! The section `[http]`: what a client may take of the process.

use crate::streams;
use axum::http::HeaderValue;
use photofinish_contract::request::BODY_BYTES_MAX;
use photofinish_runtime::config::de;
use photofinish_runtime::http::Limits;
use photofinish_runtime::tls::{Tls, TlsSection};
use serde::Deserialize;
use std::time::Duration;

/// A few of the largest bodies.
const BODIES_BYTES_MIN: usize = 4 * BODY_BYTES_MAX;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml describes each key")]
pub struct HttpSection {
    pub listen: String,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub bodies_bytes_max: usize,
    #[serde(deserialize_with = "de::seconds", rename = "header_timeout_s")]
    pub header_timeout: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "body_timeout_s")]
    pub body_timeout: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "request_timeout_s")]
    pub request_timeout: Duration,
    #[serde(deserialize_with = "de::seconds", rename = "write_timeout_s")]
    pub write_timeout: Duration,
    pub streams_max: usize,
    pub streams_per_tenant_max: usize,
    pub cors_origins: Vec<String>,
    pub tls: TlsSection,
}

/// The section as it is used.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address of the API.
    pub listen: String,
    /// What a connection may take.
    pub limits: Limits,
    /// Bytes of bodies on their way in.
    pub bodies_bytes_max: usize,
    /// In which a request's body must be there.
    pub body_timeout: Duration,
    /// In which a call is answered.
    pub request_timeout: Duration,
    /// How many event streams there may be.
    pub(crate) streams: streams::Limits,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<HeaderValue>,
    /// What the API greets with; nothing: no TLS.
    pub tls: Option<Tls>,
}

impl HttpSection {
    /// Checks the section; every error names its path.
    pub(super) fn checked(&self) -> Result<Http, Vec<String>> {
        let mut errors = Vec::new();
        for (name, number) in [
            ("connections_max", self.connections_max),
            ("streams_max", self.streams_max),
            ("streams_per_tenant_max", self.streams_per_tenant_max),
        ] {
            if number == 0 {
                errors.push(format!("http.{name}: must be at least 1"));
            }
        }
        if self.bodies_bytes_max < BODIES_BYTES_MIN {
            errors.push(format!(
                "http.bodies_bytes_max: must be at least {BODIES_BYTES_MIN}"
            ));
        }
        for (name, time) in [
            ("header_timeout_s", self.header_timeout),
            ("body_timeout_s", self.body_timeout),
            ("request_timeout_s", self.request_timeout),
            ("write_timeout_s", self.write_timeout),
        ] {
            if time.is_zero() {
                errors.push(format!("http.{name}: must be more than 0"));
            }
        }
        let mut cors_origins = Vec::new();
        for origin in &self.cors_origins {
            match origin_of(origin) {
                Some(origin) => cors_origins.push(origin),
                None => errors.push(format!(
                    "http.cors_origins: {origin:?} is no origin such as https://app.example.com"
                )),
            }
        }
        let tls = self.tls.load("http.tls").unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Http {
            listen: self.listen.clone(),
            limits: Limits {
                connections_max: self.connections_max,
                connections_per_address_max: match self.connections_per_address_max {
                    0 => self.connections_max.div_ceil(2),
                    own => own,
                },
                head: self.header_timeout,
                write: self.write_timeout,
            },
            bodies_bytes_max: self.bodies_bytes_max,
            body_timeout: self.body_timeout,
            request_timeout: self.request_timeout,
            streams: streams::Limits {
                streams_max: self.streams_max,
                per_tenant_max: self.streams_per_tenant_max,
            },
            cors_origins,
            tls,
        })
    }
}

/// An origin as browsers send it: scheme, host and perhaps a port, nothing after them.
fn origin_of(text: &str) -> Option<HeaderValue> {
    let url = url::Url::parse(text).ok()?;
    let origin = url.origin().ascii_serialization();
    (origin == text.trim_end_matches('/'))
        .then(|| HeaderValue::from_str(&origin).ok())
        .flatten()
}
