//! RabbitMQ's management API: AMQP users of tenants, and how the broker stands.
//!
//! Nouns: [`Grants`] is what a tenant's AMQP user may do, as patterns; [`definitions`] is the same for those who import
//! it; a [`Management`] applies it.
//!
//! Guarantee: a tenant's user may publish to `photofinish.jobs`, bind its own keys of the events, and make and
//! read queues whose names begin with `{tenant}.` (or that RabbitMQ names); nothing else of the virtual host. No user
//! that was not made here is ever changed or deleted: somebody else's may bear a tenant's name. One of ours has no tags, and
//! exactly the grants or, half made, neither rights nor a password.
//! Not for: topology, which is declared over AMQP.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::names::is_ours;
use crate::settings::Settings;
use crate::topology::{EVENTS, JOBS};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Name of RabbitMQ's default way to hash a password.
const HASHING: &str = "rabbit_password_hashing_sha256";

/// What a tenant's user may have open at once, as RabbitMQ names it; an operator's own limits are left as they are.
const LIMITS: [(&str, u32); 2] = [("max-connections", 500), ("max-channels", 5000)];

/// What an AMQP user may do with the keys of a topic exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicGrant {
    /// The exchange.
    pub exchange: &'static str,
    /// Pattern of keys that it may publish under.
    pub write: String,
    /// Pattern of keys that it may bind.
    pub read: String,
}

/// What a tenant's AMQP user may do in the virtual host, as regular expressions over names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish to, and bind.
    pub write: String,
    /// What it may consume, and bind from.
    pub read: String,
    /// The same for keys.
    pub topics: [TopicGrant; 2],
}

impl Grants {
    /// Those of a tenant; `None` for a name under which queues of ours, or RabbitMQ's own, would be a tenant's.
    pub fn of(tenant: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if tenant.is_empty()
            || !tenant.bytes().all(plain)
            || tenant == "amq"
            || is_ours(&format!("{tenant}."))
        {
            return None;
        }
        let own = format!(r"{tenant}\..*|amq\.gen-.*");
        let (jobs, events) = (JOBS.replace('.', r"\."), EVENTS.replace('.', r"\."));
        // Nothing matches this.
        let nothing = "^$".to_owned();
        Some(Self {
            configure: format!("^({own})$"),
            write: format!("^({jobs}|{own})$"),
            read: format!("^({events}|{own})$"),
            topics: [
                TopicGrant {
                    exchange: JOBS,
                    // A key that we do not know is a refused submission, told and kept; RabbitMQ would only close the
                    // channel.
                    write: ".*".to_owned(),
                    read: nothing.clone(),
                },
                TopicGrant {
                    exchange: EVENTS,
                    write: nothing,
                    read: format!(r"^{tenant}\."),
                },
            ],
        })
    }

    /// As the public API shows them.
    pub fn to_json(&self) -> Value {
        let topics: Vec<Value> = self
            .topics
            .iter()
            .map(|topic| json!({"exchange": topic.exchange, "write": topic.write, "read": topic.read}))
            .collect();
        json!({"configure": self.configure, "write": self.write, "read": self.read, "topics": topics})
    }
}

/// A user with its grants as a RabbitMQ definitions file: the password as a hash under `salt`.
pub fn definitions(
    vhost: &str,
    user: &str,
    password: &str,
    salt: [u8; 4],
    grants: &Grants,
) -> Value {
    let mut hash = salt.to_vec();
    hash.extend_from_slice(&Sha256::digest([&salt[..], password.as_bytes()].concat()));
    let topics: Vec<Value> = grants
        .topics
        .iter()
        .map(|topic| {
            json!({"user": user, "vhost": vhost, "exchange": topic.exchange, "write": topic.write,
                "read": topic.read})
        })
        .collect();
    json!({
        "users": [{"name": user, "password_hash": STANDARD.encode(hash), "hashing_algorithm": HASHING, "tags": [],
            "limits": LIMITS.iter().copied().collect::<HashMap<_, _>>()}],
        "permissions": [{"user": user, "vhost": vhost, "configure": grants.configure, "write": grants.write,
            "read": grants.read}],
        "topic_permissions": topics,
    })
}

/// A call of the management API did not do what it was to.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// The setting is no URL.
    #[error("broker.management_url is not an http or https URL")]
    Url,
    /// The authority's file cannot be read.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsFileError),
    /// No HTTP client can be built.
    #[error("build a client for RabbitMQ's management API")]
    Client(#[source] reqwest::Error),
    /// No answer came.
    #[error("{doing} through RabbitMQ's management API")]
    Http {
        /// What was tried.
        doing: &'static str,
        /// What the client says, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// It answered with something else.
    #[error("{doing} through RabbitMQ's management API: it answered {status}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// Its HTTP status.
        status: u16,
    },
    /// There is a user of this name that was not made here.
    #[error("the AMQP user {0:?} was not made by Photofinish")]
    NotOurs(String),
}

/// What the broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    /// Its version.
    pub version: String,
    /// Nodes that are short of memory or disk, or do not run, each with what is wrong.
    pub alarms: Vec<String>,
}

/// The management API of the broker.
#[derive(Clone)]
pub struct Management {
    http: reqwest::Client,
    base: Url,
    user: String,
    password: String,
    vhost: String,
    /// Our own AMQP user.
    own: String,
}

impl std::fmt::Debug for Management {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Management").finish_non_exhaustive()
    }
}

impl Management {
    /// The API of the settings; `None` when they name none. Nothing is sent.
    pub fn of(settings: &Settings) -> Result<Option<Self>, ManagementError> {
        if settings.management_url.is_empty() {
            return Ok(None);
        }
        let mut base: Url = settings
            .management_url
            .parse()
            .map_err(|_| ManagementError::Url)?;
        if !["http", "https"].contains(&base.scheme()) {
            return Err(ManagementError::Url);
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (
            decode(base.username()),
            decode(base.password().unwrap_or_default()),
        );
        let bare = base.set_username("").and_then(|()| base.set_password(None));
        bare.map_err(|()| ManagementError::Url)?;
        let access = settings.access().map_err(|_| ManagementError::Url)?;
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Some(ca) = settings.tls.ca()? {
            let ca = reqwest::Certificate::from_pem_bundle(ca.as_bytes());
            http = http.tls_certs_merge(ca.map_err(ManagementError::Client)?);
        }
        let http = http.build().map_err(ManagementError::Client)?;
        Ok(Some(Self {
            http,
            base,
            user,
            password,
            vhost: access.vhost,
            own: access.user,
        }))
    }

    /// Makes a tenant's AMQP user, or gives it a new password, and its grants. One that an earlier call left half made
    /// is made whole.
    pub async fn put_user(
        &self,
        name: &str,
        password: &str,
        grants: &Grants,
    ) -> Result<(), ManagementError> {
        let there = self.ours(name, grants).await?;
        let doing = "make an AMQP user";
        if there.is_none() {
            // Nobody can be it until it is whole: its password comes last.
            let body = json!({"password_hash": "", "tags": ""});
            self.call(doing, Method::PUT, &["users", name], Some(body))
                .await?;
        }
        let has = |limit: &str| {
            let there = there.as_ref();
            there.is_some_and(|user| user["limits"][limit].is_u64())
        };
        for (limit, value) in LIMITS.into_iter().filter(|(limit, _)| !has(limit)) {
            let path = ["user-limits", name, limit];
            let body = json!({"value": value});
            self.call(doing, Method::PUT, &path, Some(body)).await?;
        }
        // Keys first: where no rule about them is there, every key is allowed.
        let vhost = self.vhost.as_str();
        for topic in &grants.topics {
            let body =
                json!({"exchange": topic.exchange, "write": topic.write, "read": topic.read});
            let path = ["topic-permissions", vhost, name];
            self.call(doing, Method::PUT, &path, Some(body)).await?;
        }
        let body =
            json!({"configure": grants.configure, "write": grants.write, "read": grants.read});
        let path = ["permissions", vhost, name];
        self.call(doing, Method::PUT, &path, Some(body)).await?;
        let body = json!({"password": password, "tags": ""});
        self.call(doing, Method::PUT, &["users", name], Some(body))
            .await?;
        Ok(())
    }

    /// Deletes a tenant's AMQP user; its connections are closed. Again is harmless.
    pub async fn delete_user(&self, name: &str, grants: &Grants) -> Result<(), ManagementError> {
        let doing = "delete an AMQP user";
        self.ours(name, grants).await?;
        match self
            .call(doing, Method::DELETE, &["users", name], None)
            .await
        {
            Err(ManagementError::Refused { status: 404, .. }) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// A tenant's user as it is; nothing when there is none. One that was not made here, and our own, is no tenant's,
    /// whatever its name.
    async fn ours(&self, name: &str, grants: &Grants) -> Result<Option<Value>, ManagementError> {
        let doing = "look for an AMQP user";
        let user = match self.call(doing, Method::GET, &["users", name], None).await {
            Err(ManagementError::Refused { status: 404, .. }) => return Ok(None),
            outcome => outcome?,
        };
        if name != self.own && !is_tagged(&user) {
            let rights = self.rights(name).await?;
            let whole = json!([{"user": name, "vhost": self.vhost, "configure": grants.configure,
                "write": grants.write, "read": grants.read}]);
            let is_half_made = user["password_hash"] == "" && rights == json!([]);
            if rights == whole || is_half_made {
                return Ok(Some(user));
            }
        }
        Err(ManagementError::NotOurs(name.to_owned()))
    }

    /// What a user may do, in each virtual host.
    async fn rights(&self, name: &str) -> Result<Value, ManagementError> {
        let path = ["users", name, "permissions"];
        self.call("look what an AMQP user may do", Method::GET, &path, None)
            .await
    }

    /// Asks the broker how it stands.
    pub async fn health(&self) -> Result<ServerHealth, ManagementError> {
        let doing = "ask how the broker stands";
        let overview = self.call(doing, Method::GET, &["overview"], None).await?;
        let nodes = self.call(doing, Method::GET, &["nodes"], None).await?;
        let mut alarms = Vec::new();
        for node in nodes.as_array().into_iter().flatten() {
            let name = node["name"].as_str().unwrap_or("a node");
            let wrong = [
                ("mem_alarm", "short of memory"),
                ("disk_free_alarm", "short of disk"),
            ];
            for (field, what) in wrong {
                if node[field] == json!(true) {
                    alarms.push(format!("{name} is {what}"));
                }
            }
            if node["running"] == json!(false) {
                alarms.push(format!("{name} does not run"));
            }
        }
        Ok(ServerHealth {
            version: overview["rabbitmq_version"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            alarms,
        })
    }

    async fn call(
        &self,
        doing: &'static str,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> Result<Value, ManagementError> {
        let encode = |part: &&str| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        let path = path.iter().map(encode).collect::<Vec<_>>().join("/");
        let base = self.base.as_str().trim_end_matches('/');
        let mut call = self
            .http
            .request(method, format!("{base}/api/{path}"))
            .basic_auth(&self.user, Some(&self.password));
        if let Some(body) = body {
            call = call.json(&body);
        }
        let failed = |source: reqwest::Error| ManagementError::Http {
            doing,
            source: source.without_url(),
        };
        let answer = call.send().await.map_err(failed)?;
        let status = answer.status();
        if !status.is_success() {
            let status = status.as_u16();
            return Err(ManagementError::Refused { doing, status });
        }
        if status == StatusCode::NO_CONTENT || status == StatusCode::CREATED {
            return Ok(Value::Null);
        }
        answer.json().await.map_err(failed)
    }
}

/// Whether a user has tags: a text up to 3.8, a list since.
fn is_tagged(user: &Value) -> bool {
    match &user["tags"] {
        Value::String(tags) => !tags.is_empty(),
        Value::Array(tags) => !tags.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_anchored_and_no_tenant_owns_our_names() {
        let grants = Grants::of("acme").unwrap();
        for pattern in [&grants.configure, &grants.write, &grants.read] {
            assert!(
                pattern.starts_with("^(") && pattern.ends_with(")$"),
                "{pattern}"
            );
        }
        for taken in [
            "photofinish",
            "ingest",
            "dispatcher",
            "fetcher",
            "notifier",
            "amq",
            "",
            "a.b",
            "A",
        ] {
            assert_eq!(Grants::of(taken), None, "{taken:?}");
        }
        assert!(Grants::of("ingest-2").is_some());
    }

    #[test]
    fn a_definition_holds_the_password_as_a_salted_hash_alone() {
        let grants = Grants::of("acme").unwrap();
        let made = definitions("/", "acme", "test12", [0x90, 0x8D, 0xC6, 0x0A], &grants);
        // The example of RabbitMQ's own documentation.
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        assert_eq!(made["users"][0]["password_hash"], hash);
        assert!(!made.to_string().contains("test12"));
        assert_eq!(made["topic_permissions"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn only_an_http_url_is_taken_and_none_is_none() {
        let settings = |url: &str| Settings {
            management_url: url.to_owned(),
            ..Settings::new("amqp://u:p@h/v")
        };
        assert!(Management::of(&settings("")).unwrap().is_none());
        assert!(Management::of(&settings("ftp://h")).is_err());
        assert!(Management::of(&settings("nonsense")).is_err());
        let access = settings("").access().unwrap();
        assert_eq!(access.url_for("acme", "p/w"), "amqp://acme:p%2Fw@h:5672/v");
        assert_eq!((access.user.as_str(), access.vhost.as_str()), ("u", "v"));
    }
}
