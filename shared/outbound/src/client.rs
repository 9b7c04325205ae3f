//! Requests: GET with checked redirects, POST without any.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{
    ACCEPT_ENCODING, DATE, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use url::Url;

use crate::body::Body;
use crate::error::{BuildError, OutboundError, Phase};
use crate::guard::{Guard, Policy, Refused};
use crate::timing::{self, Opening};

/// How long DNS, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that a GET follows, each checked like the first address.
const REDIRECTS_MAX: u8 = 5;
/// Bytes of an answer to a POST that are kept.
const POST_ANSWER_MAX: usize = 1024;
/// How long is waited for them once the head of the answer is there.
const POST_ANSWER_WAIT: Duration = Duration::from_secs(1);
const IDLE_PER_HOST_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The limits of one exchange.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the request to the head of the answer, connecting included, for each redirect anew.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
    /// All in all, redirects and resumptions included.
    pub total: Duration,
    /// Largest body in bytes.
    pub body_max: u64,
    /// How often a download that was cut is resumed.
    pub resumes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            total: Duration::from_mins(15),
            body_max: 1024 * 1024 * 1024,
            resumes_max: 5,
        }
    }
}

/// The head of an answer, and its body still to come.
#[derive(Debug)]
pub struct Response {
    /// HTTP status, whatever it is: redirects apart, every status comes back here.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it came from after redirects.
    pub url: Url,
    /// The body.
    pub body: Body,
}

/// A POST, whatever came of it.
#[derive(Debug)]
pub struct Posted {
    /// What came of it.
    pub outcome: Result<PostOutcome, OutboundError>,
    /// How its connection was opened, as far as it came.
    pub opening: Opening,
}

/// What a POST came to.
#[derive(Debug)]
pub struct PostOutcome {
    /// HTTP status; redirects are not followed and come back here too.
    pub status: u16,
    /// What `Retry-After` asks for; a date is taken relative to the answer's own `Date`.
    pub retry_after: Option<Duration>,
    /// The first 1 KiB of the answer.
    pub body_prefix: Bytes,
    /// How long it took.
    pub timing: Timing,
}

/// Durations from the beginning of a call.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Until the head of the answer was there.
    pub first_byte: Duration,
    /// Until the end.
    pub total: Duration,
}

/// The client. Clones share connections.
#[derive(Debug, Clone)]
pub struct Outbound {
    guard: Guard,
    http: reqwest::Client,
}

impl Outbound {
    /// A client with this policy.
    pub fn new(policy: Policy) -> Result<Self, BuildError> {
        let guard = Guard::new(policy);
        let builder = reqwest::Client::builder()
            .user_agent(concat!("photofinish/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(CheckedResolver {
                guard: guard.clone(),
            })
            .tls_backend_preconfigured(timing::tls()?)
            .connector_layer(timing::TimedConnections)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX);
        Ok(Self {
            guard,
            http: builder.build()?,
        })
    }

    /// The guard, for checks without a call.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// [`Guard::check_literal`].
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        self.guard.check_literal(url)
    }

    /// GET; follows up to 5 redirects, each checked anew.
    pub async fn get(&self, url: &str, limits: &Limits) -> Result<Response, OutboundError> {
        let deadline = Instant::now() + limits.total;
        counted(
            "get",
            self.get_with(url, HeaderMap::new(), limits, deadline).await,
        )
    }

    pub(crate) async fn get_with(
        &self,
        url: &str,
        headers: HeaderMap,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<Response, OutboundError> {
        let mut url = self.guard.check_text(url)?;
        for _ in 0..=REDIRECTS_MAX {
            let answer = self
                .send(
                    Method::GET,
                    url.clone(),
                    headers.clone(),
                    None,
                    limits,
                    deadline,
                )
                .await?;
            let status = answer.status();
            if !is_redirect(status) {
                let headers = answer.headers().clone();
                let body = Body::new(answer, limits, deadline);
                return Ok(Response {
                    status: status.as_u16(),
                    headers,
                    url,
                    body,
                });
            }
            let target = answer
                .headers()
                .get(LOCATION)
                .and_then(|to| url.join(to.to_str().ok()?).ok());
            url = target.ok_or(OutboundError::Redirects { max: REDIRECTS_MAX })?;
            self.guard.check_literal(&url)?;
        }
        Err(OutboundError::Redirects { max: REDIRECTS_MAX })
    }

    /// POST; follows no redirect and keeps the first 1 KiB of the answer, of what comes within a second of its head.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        limits: &Limits,
    ) -> Posted {
        let call = self.post_uncounted(url, headers, body, limits);
        let (outcome, opening) = timing::timed(call).await;
        let outcome = counted("post", outcome);
        Posted { outcome, opening }
    }

    async fn post_uncounted(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        limits: &Limits,
    ) -> Result<PostOutcome, OutboundError> {
        let begun = Instant::now();
        let deadline = begun + limits.total;
        let url = self.guard.check_text(url)?;
        let answer = self
            .send(Method::POST, url, headers, Some(body), limits, deadline)
            .await?;
        let first_byte = begun.elapsed();
        let status = answer.status().as_u16();
        let retry_after = retry_after(answer.headers());
        let deadline = deadline.min(Instant::now() + POST_ANSWER_WAIT);
        let body_prefix = Body::new(answer, limits, deadline)
            .prefix(POST_ANSWER_MAX)
            .await;
        let timing = Timing {
            first_byte,
            total: begun.elapsed(),
        };
        Ok(PostOutcome {
            status,
            retry_after,
            body_prefix,
            timing,
        })
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Bytes>,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<reqwest::Response, OutboundError> {
        let mut request = self
            .http
            .request(method, url)
            // The bytes as they are: no compression bomb, and ranges mean what they say.
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let until = (Instant::now() + limits.first_byte).min(deadline);
        let phase = if until == deadline {
            Phase::Total
        } else {
            Phase::FirstByte
        };
        tokio::time::timeout_at(until, request.send())
            .await
            .map_err(|_| OutboundError::Timeout(phase))?
            .map_err(OutboundError::from_reqwest)
    }
}

/// Headers that ask for the rest of a file from `from` on, if it is still the same file.
pub(crate) fn resume_headers(from: u64, validator: &HeaderValue) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let range = HeaderValue::from_str(&format!("bytes={from}-"));
    if let Ok(range) = range {
        headers.insert(RANGE, range);
        headers.insert(IF_RANGE, validator.clone());
    }
    headers
}

pub(crate) fn counted<T>(
    call: &'static str,
    outcome: Result<T, OutboundError>,
) -> Result<T, OutboundError> {
    let label = outcome.as_ref().err().map_or("ok", OutboundError::label);
    metrics::counter!("photofinish_outbound_calls_total", "call" => call, "outcome" => label)
        .increment(1);
    if let Err(OutboundError::Refused(refused)) = &outcome {
        let reason = refused.label();
        metrics::counter!("photofinish_outbound_refused_total", "reason" => reason).increment(1);
    }
    outcome
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// `Retry-After` in seconds or as a date, the latter against the same server's clock.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok();
    let then = date(text)?;
    let now = date(headers.get(DATE)?.to_str().ok()?)?;
    Some(Duration::try_from(then.duration_since(&now)).unwrap_or_default())
}

/// Resolves names and hands out only addresses that were checked. Never asked for IP literals: those are checked in
/// [`Guard::check_literal`].
#[derive(Debug)]
struct CheckedResolver {
    guard: Guard,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            timing::asked();
            let addrs: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            timing::resolved();
            guard.check_all(addrs.iter().map(SocketAddr::ip))?;
            let addrs: Addrs = Box::new(addrs.into_iter());
            Ok(addrs)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The resolver of a client that may call loopback.
    pub(crate) fn open_resolver() -> impl Resolve + 'static {
        let policy = Policy::from_texts(&["127.0.0.0/8".to_owned(), "::1/128".to_owned()]).unwrap();
        CheckedResolver {
            guard: Guard::new(policy),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_against_the_servers_clock() {
        let headers = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (
                    name.parse::<reqwest::header::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            });
            pairs.collect::<HeaderMap>()
        };
        let (now, then) = (
            "Sun, 22 Nov 2026 10:00:00 GMT",
            "Sun, 22 Nov 2026 10:02:00 GMT",
        );
        let minutes = Some(Duration::from_mins(2));
        assert_eq!(retry_after(&headers(&[("retry-after", "120")])), minutes);
        assert_eq!(
            retry_after(&headers(&[("retry-after", then), ("date", now)])),
            minutes
        );
        let past = retry_after(&headers(&[("retry-after", now), ("date", then)]));
        assert_eq!(past, Some(Duration::ZERO));
        for none in [
            &[][..],
            &[("retry-after", "soon")],
            &[("retry-after", then)],
        ] {
            assert_eq!(retry_after(&headers(none)), None);
        }
    }

    /// The name passes no literal check here, so only the resolver stands between it and loopback.
    #[tokio::test]
    async fn a_name_that_resolves_to_loopback_is_refused_when_it_is_resolved() {
        photofinish_kit::install_crypto();
        let receiver = photofinish_kit::Receiver::start().await.unwrap();
        let url = Url::parse(&format!("http://localhost:{}/", receiver.addr().port())).unwrap();
        let outbound = Outbound::new(Policy::default()).unwrap();
        let limits = Limits::default();
        let deadline = Instant::now() + limits.total;
        let sent = outbound
            .send(Method::GET, url, HeaderMap::new(), None, &limits, deadline)
            .await;
        let error = sent.unwrap_err();
        assert!(
            matches!(error, OutboundError::Refused(Refused::Address("loopback"))),
            "{error:?}"
        );
        assert!(receiver.received().is_empty());
    }
}
