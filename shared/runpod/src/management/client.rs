//! The calls of REST v2, each made with its own idea of what may be repeated.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::{not_understood, read};
use super::error::ManagementError;
use super::plan::create_body;
use super::quota;
use super::read::{Endpoint, JobRow, Releases, Template, Workers, next_cursor};
use super::spec::{EndpointSpec, is_same_name};

/// RunPod's own management API, version 2.
pub const DEFAULT_REST_BASE_URL: &str = "https://api.runpod.io/v2";

/// RunPod's own data plane, where `/requests` is.
pub const DEFAULT_DATA_BASE_URL: &str = crate::client::DEFAULT_BASE_URL;

/// Most pages of a list that are read: 50,000 rows.
const PAGES_MAX: usize = 50;

/// How the client reaches RunPod.
#[derive(Debug, Clone)]
pub struct ManagementSettings {
    /// Base of REST v2; a missing `/v2` is added.
    pub rest_base_url: String,
    /// Base of the data plane with `/v2`.
    pub data_base_url: String,
    /// The account's key.
    pub api_key: SecretString,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Whole call.
    pub call_timeout: Duration,
    /// Times that a question is asked, and a call that got 429 is made.
    pub tries_max: u32,
    /// First wait between two of them; each next one is twice as long.
    pub retry_wait: Duration,
    /// How long an endpoint is looked for whose create was not answered.
    pub reconcile_for: Duration,
}

impl ManagementSettings {
    /// Settings with the defaults for everything but the key.
    pub fn new(api_key: SecretString) -> Self {
        Self {
            rest_base_url: DEFAULT_REST_BASE_URL.to_owned(),
            data_base_url: DEFAULT_DATA_BASE_URL.to_owned(),
            api_key,
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            tries_max: 4,
            retry_wait: Duration::from_millis(500),
            reconcile_for: Duration::from_secs(20),
        }
    }
}

/// An endpoint that is there after a create.
#[derive(Debug, Clone)]
pub struct Created {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether the create's answer was lost and the endpoint was found by its name.
    pub was_found: bool,
}

/// RunPod's management API for one account.
#[derive(Debug)]
pub struct ManagementClient {
    http: reqwest::Client,
    rest: String,
    data: String,
    settings: ManagementSettings,
    /// When the quota allows the next call.
    not_before: Mutex<Option<Instant>>,
}

impl ManagementClient {
    /// Makes a client; opens no connection yet.
    pub fn new(settings: ManagementSettings) -> Result<Self, ManagementError> {
        crate::install_tls_provider();
        let rest = rest_base(&settings.rest_base_url)?;
        let data = base(&settings.data_base_url)?;
        let bearer = format!("Bearer {}", settings.api_key.expose_secret());
        let mut authorization = HeaderValue::try_from(bearer).map_err(|_| {
            ManagementError::Setup("the key has characters that no header may have".to_owned())
        })?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("photofinish/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.call_timeout)
            .redirect(reqwest::redirect::Policy::none());
        let http = if is_local(&rest) {
            http.no_proxy()
        } else {
            http
        };
        let http = http
            .build()
            .map_err(|error| ManagementError::Setup(error.to_string()))?;
        Ok(Self {
            http,
            rest,
            data,
            settings,
            not_before: Mutex::new(None),
        })
    }

    /// All endpoints of the account.
    pub async fn list_endpoints(&self) -> Result<Vec<Endpoint>, ManagementError> {
        let rows = self.list("serverless", "endpoints").await?;
        Ok(rows.iter().filter_map(Endpoint::from_value).collect())
    }

    /// The endpoint of a name, if there is one. Two of one name are an error: which one it shall
    /// be is not ours to guess.
    pub async fn find_endpoint(&self, name: &str) -> Result<Option<Endpoint>, ManagementError> {
        let mut found = self.list_endpoints().await?;
        found.retain(|endpoint| is_same_name(name, &endpoint.spec.name));
        if found.len() > 1 {
            return Err(ManagementError::NameTaken {
                name: name.to_owned(),
                count: found.len(),
                ids: found.into_iter().map(|endpoint| endpoint.id).collect(),
            });
        }
        Ok(found.pop())
    }

    /// One endpoint.
    pub async fn get_endpoint(&self, id: &str) -> Result<Endpoint, ManagementError> {
        let path = endpoint_path(id, "");
        let value = self.ask(&path).await?;
        Endpoint::from_value(&value).ok_or_else(|| not_understood(&path))
    }

    /// Makes an endpoint whose name no endpoint has yet: the caller has looked. The POST goes out
    /// once; if its outcome is unknown, the endpoint is looked for by its name.
    pub async fn create_endpoint(&self, spec: &EndpointSpec) -> Result<Created, ManagementError> {
        let body = create_body(spec);
        let made = self.change(Method::POST, "serverless", Some(&body)).await;
        let error = match made {
            Ok(value) => match Endpoint::from_value(&value) {
                Some(endpoint) => {
                    return Ok(Created {
                        endpoint,
                        was_found: false,
                    });
                }
                None => not_understood("serverless"),
            },
            Err(error) if error.is_unknown() => error,
            Err(error) => return Err(error),
        };
        self.look_for(&spec.name, error).await
    }

    async fn look_for(
        &self,
        name: &str,
        error: ManagementError,
    ) -> Result<Created, ManagementError> {
        let until = Instant::now() + self.settings.reconcile_for;
        loop {
            match self.find_endpoint(name).await {
                Ok(Some(endpoint)) => {
                    return Ok(Created {
                        endpoint,
                        was_found: true,
                    });
                }
                Ok(None) => {}
                Err(again) if again.is_transient() => {}
                Err(other) => return Err(other),
            }
            if Instant::now() >= until {
                return Err(ManagementError::CreateUnknown {
                    name: name.to_owned(),
                    source: Box::new(error),
                });
            }
            tokio::time::sleep(self.settings.retry_wait * 4).await;
        }
    }

    /// Changes what `body` names, once. When the outcome is unknown, read the endpoint again.
    pub async fn patch_endpoint(
        &self,
        id: &str,
        body: &Value,
    ) -> Result<Endpoint, ManagementError> {
        let path = endpoint_path(id, "");
        let value = self.change(Method::PATCH, &path, Some(body)).await?;
        Endpoint::from_value(&value).ok_or_else(|| not_understood(&path))
    }

    /// Deletes an endpoint with its queue, once. One that is not there is as good as deleted.
    pub async fn delete_endpoint(&self, id: &str) -> Result<(), ManagementError> {
        let path = endpoint_path(id, "");
        match self.change(Method::DELETE, &path, None).await {
            Ok(_) | Err(ManagementError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The endpoint's workers.
    pub async fn workers(&self, id: &str) -> Result<Workers, ManagementError> {
        let path = endpoint_path(id, "/workers");
        let value = self.ask(&path).await?;
        Workers::from_value(&value).ok_or_else(|| not_understood(&path))
    }

    /// The endpoint's newest releases and how far the last one has got.
    pub async fn releases(&self, id: &str) -> Result<Releases, ManagementError> {
        let path = endpoint_path(id, "/releases?limit=10");
        let value = self.ask(&path).await?;
        Releases::from_value(&value).ok_or_else(|| not_understood(&path))
    }

    /// The account's templates.
    pub async fn list_templates(&self) -> Result<Vec<Template>, ManagementError> {
        let rows = self.list("templates", "templates").await?;
        Ok(rows.iter().filter_map(Template::from_value).collect())
    }

    /// The template of an id or of a name, in this order; `None` if there is neither.
    pub async fn find_template(
        &self,
        id_or_name: &str,
    ) -> Result<Option<Template>, ManagementError> {
        let path = format!("templates/{}", crate::encode_segment(id_or_name));
        match self.ask(&path).await {
            Ok(value) => return Ok(Template::from_value(&value)),
            Err(ManagementError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let all = self.list_templates().await?;
        Ok(all.into_iter().find(|one| one.name == id_or_name))
    }

    /// The jobs that the data plane's `/requests` lists; `None` if it lists none in a way that we
    /// understand: RunPod publishes neither its shape nor that it will stay.
    pub async fn list_jobs(&self, id: &str) -> Result<Option<Vec<JobRow>>, ManagementError> {
        let path = format!("{}/requests", crate::encode_segment(id));
        match self.ask_at(&self.data, &path).await {
            Ok(value) => Ok(JobRow::list_from(&value)),
            Err(ManagementError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list.
    async fn list(&self, path: &str, name: &str) -> Result<Vec<Value>, ManagementError> {
        let (mut rows, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let page = match &cursor {
                None => path.to_owned(),
                Some(cursor) => format!("{path}?cursor={}", crate::encode_segment(cursor)),
            };
            let mut value = self.ask(&page).await?;
            cursor = next_cursor(&value);
            let Some(Value::Array(more)) = value.get_mut(name).map(Value::take) else {
                return Err(not_understood(path));
            };
            rows.extend(more);
            if cursor.is_none() {
                break;
            }
        }
        Ok(rows)
    }

    /// A question: asked again when RunPod stumbles.
    async fn ask(&self, path: &str) -> Result<Value, ManagementError> {
        self.ask_at(&self.rest, path).await
    }

    async fn ask_at(&self, base: &str, path: &str) -> Result<Value, ManagementError> {
        let is_again = ManagementError::is_transient;
        self.repeat(base, Method::GET, path, None, is_again).await
    }

    /// A change: repeated only if RunPod said that nothing was done.
    async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ManagementError> {
        let is_again = |error: &ManagementError| {
            matches!(
                error,
                ManagementError::RateLimited { .. } | ManagementError::NotSent { .. }
            )
        };
        self.repeat(&self.rest, method, path, body, is_again).await
    }

    async fn repeat(
        &self,
        base: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        is_again: impl Fn(&ManagementError) -> bool,
    ) -> Result<Value, ManagementError> {
        let mut wait = self.settings.retry_wait;
        for _ in 1..self.settings.tries_max {
            match self.once(base, method.clone(), path, body).await {
                Err(error) if is_again(&error) => {
                    tracing::debug!(%error, "runpod's management API is asked again");
                    // After a 429 the quota's own wait comes first.
                    tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
                    wait *= 2;
                }
                other => return other,
            }
        }
        self.once(base, method, path, body).await
    }

    async fn once(
        &self,
        base: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ManagementError> {
        self.wait_for_quota().await;
        let shown = path.split('?').next().unwrap_or_default();
        let call = format!("{method} /v2/{shown}");
        let mut request = self.http.request(method, format!("{base}/{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|source| {
            let (call, source) = (call.clone(), source.without_url());
            if source.is_connect() {
                ManagementError::NotSent { call, source }
            } else {
                ManagementError::Cut { call, source }
            }
        })?;
        if let Some(wait) = quota::wait_of(response.headers()) {
            *self.quota() = Some(Instant::now() + wait);
        }
        read(response, call).await
    }

    async fn wait_for_quota(&self) {
        let until = *self.quota();
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    fn quota(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn endpoint_path(id: &str, rest: &str) -> String {
    format!("serverless/{}{rest}", crate::encode_segment(id))
}

fn base(url: &str) -> Result<String, ManagementError> {
    let url = url.trim().trim_end_matches('/');
    let parsed = reqwest::Url::parse(url).ok();
    match parsed.filter(|parsed| matches!(parsed.scheme(), "http" | "https")) {
        Some(_) => Ok(url.to_owned()),
        None => Err(ManagementError::Setup(format!(
            "{url} is no http or https URL"
        ))),
    }
}

/// RunPod's own tools write the base with and without the version.
fn rest_base(url: &str) -> Result<String, ManagementError> {
    let url = base(url)?;
    if url.ends_with("/v1") {
        return Err(ManagementError::Setup(format!(
            "{url} is version 1 of RunPod's REST API, which is retired: use {DEFAULT_REST_BASE_URL}"
        )));
    }
    Ok(if url.ends_with("/v2") {
        url
    } else {
        format!("{url}/v2")
    })
}

fn is_local(base: &str) -> bool {
    let host = reqwest::Url::parse(base).ok();
    let host = host.as_ref().and_then(|url| url.host_str());
    host.is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_may_come_with_and_without_its_version() {
        let with = rest_base("http://127.0.0.1:1/v2/").unwrap();
        assert_eq!(with, "http://127.0.0.1:1/v2");
        assert_eq!(rest_base("http://127.0.0.1:1").unwrap(), with);
        let retired = rest_base("https://rest.runpod.io/v1").unwrap_err();
        assert!(retired.to_string().contains("retired"), "{retired}");
        assert!(rest_base("nonsense").is_err());
    }
}
