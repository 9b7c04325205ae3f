//! RabbitMQ: a virtual host per test on the shared node, or a node of one's own to kill.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::servers::{client, server_setting, servers_script};
use crate::{Authority, free_port, wait_for};

/// A fresh virtual host, deleted on drop as far as possible.
#[derive(Debug)]
pub struct Rabbit {
    amqp: String,
    api: String,
    vhost: String,
    http: reqwest::Client,
}

impl Rabbit {
    /// A new virtual host on the server of `make servers`.
    pub async fn fresh() -> anyhow::Result<Self> {
        let amqp = server_setting("PHOTOFINISH_TEST_AMQP")?;
        let api = server_setting("PHOTOFINISH_TEST_RABBITMQ_API")?;
        Self::fresh_at(&amqp, &api).await
    }

    /// A new virtual host on a server: `amqp://user:password@host:port` and `http://user:password@host:port`.
    pub async fn fresh_at(amqp: &str, api: &str) -> anyhow::Result<Self> {
        let vhost = format!("t-{}", uuid::Uuid::new_v4().simple());
        let rabbit = Self {
            amqp: amqp.trim_end_matches('/').to_owned(),
            api: api.trim_end_matches('/').to_owned(),
            vhost,
            http: client()?,
        };
        let made = rabbit
            .call(Method::PUT, &format!("/api/vhosts/{}", rabbit.vhost), None)
            .await;
        made.context("make a virtual host: are the servers of `make servers` running?")?;
        rabbit.permit(&user_of(amqp), ".*", ".*", ".*").await?;
        Ok(rabbit)
    }

    /// URL of the virtual host for the administrator `guest`.
    pub fn url(&self) -> String {
        format!("{}/{}", self.amqp, self.vhost)
    }

    /// URL of the virtual host for another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let host = self.amqp.rsplit('@').next().unwrap_or(&self.amqp);
        let host = host.trim_start_matches("amqp://");
        format!("amqp://{user}:{password}@{host}/{}", self.vhost)
    }

    /// Name of the virtual host.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Base URL of the management API, with user and password.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Makes a user (or sets its password) who may configure, write and read what the patterns match here.
    pub async fn user(
        &self,
        name: &str,
        password: &str,
        (configure, write, read): (&str, &str, &str),
    ) -> anyhow::Result<()> {
        let body = json!({"password": password, "tags": ""});
        self.call(Method::PUT, &format!("/api/users/{name}"), Some(body))
            .await?;
        self.permit(name, configure, write, read).await
    }

    async fn permit(&self, user: &str, c: &str, w: &str, r: &str) -> anyhow::Result<()> {
        let body = json!({"configure": c, "write": w, "read": r});
        self.call(
            Method::PUT,
            &format!("/api/permissions/{}/{user}", self.vhost),
            Some(body),
        )
        .await?;
        Ok(())
    }

    /// All queues of the virtual host as the management API describes them. Counts lag by seconds.
    pub async fn queues(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self
            .call(Method::GET, &format!("/api/queues/{}", self.vhost), None)
            .await?;
        serde_json::from_value(answer).context("read the list of queues")
    }

    /// All bindings of the virtual host.
    pub async fn bindings(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self
            .call(Method::GET, &format!("/api/bindings/{}", self.vhost), None)
            .await?;
        serde_json::from_value(answer).context("read the list of bindings")
    }

    /// Closes every connection to the virtual host from the server's side; returns how many. The list lags behind
    /// new connections: it waits up to 15 s for the first.
    pub async fn close_connections(&self) -> anyhow::Result<usize> {
        let path = format!("/api/vhosts/{}/connections", self.vhost);
        let path = path.as_str();
        let names: Vec<String> = wait_for(
            Duration::from_secs(15),
            "a connection in the list",
            || async move {
                let answer = self.call(Method::GET, path, None).await.ok()?;
                let names = answer.as_array()?.iter();
                let names: Vec<_> = names
                    .filter_map(|c| Some(c["name"].as_str()?.to_owned()))
                    .collect();
                (!names.is_empty()).then_some(names)
            },
        )
        .await?;
        for name in &names {
            let name = name.replace(' ', "%20").replace('>', "%3E");
            // One that is gone already is closed, too.
            let _gone = self
                .call(Method::DELETE, &format!("/api/connections/{name}"), None)
                .await;
        }
        Ok(names.len())
    }

    /// One call of the management API, path from `/api/`; the answer's JSON, or null.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        call(&self.http, &self.api, method, path, body).await
    }
}

/// Between the last declare in a virtual host and its deletion. RabbitMQ 3.10 gives up dead-lettering on the whole node
/// when quorum queues are deleted in the moment in which they begin.
const UNDECLARED: Duration = Duration::from_millis(300);

impl Drop for Rabbit {
    fn drop(&mut self) {
        let (api, path) = (self.api.clone(), format!("/api/vhosts/{}", self.vhost));
        let right = format!("/api/permissions/{}/{}", self.vhost, user_of(&self.amqp));
        // Drop cannot await, and the test's own runtime may be a single thread: another thread does it.
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let http = client()?;
                let deleted = async {
                    call(&http, &api, Method::DELETE, &right, None).await?;
                    tokio::time::sleep(UNDECLARED).await; // paced: a queue that was just declared begins
                    call(&http, &api, Method::DELETE, &path, None).await
                };
                tokio::time::timeout(Duration::from_secs(5), deleted).await?
            })
        });
        // Best effort: `servers.sh clean` throws away what is left.
        let _outcome = deletion.join();
    }
}

async fn call(
    http: &reqwest::Client,
    api: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let url = format!("{api}{path}");
    let mut request = http.request(method.clone(), &url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request
        .send()
        .await
        .with_context(|| format!("{method} {path}"))?;
    let status = answer.status();
    let text = answer.text().await?;
    anyhow::ensure!(status.is_success(), "{method} {path}: {status}: {text}");
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A port with TLS on the shared node, where it asks for a certificate, too; closed on drop.
#[derive(Debug)]
pub struct RabbitTls {
    port: u16,
}

impl RabbitTls {
    /// Opens the port. The node is that of `make servers`.
    pub async fn open(authority: &Authority) -> anyhow::Result<Self> {
        let (port, (cert, key), ca) = (free_port()?, authority.server(), authority.ca());
        let (cert, key, ca) = (cert.display(), key.display(), ca.display());
        let options = format!(
            r#"[{{cacertfile,"{ca}"}},{{certfile,"{cert}"}},{{keyfile,"{key}"}},{{verify,verify_peer}},{{fail_if_no_peer_cert,true}}]"#
        );
        let start = format!(
            r#"rabbit_networking:start_ssl_listener({{"127.0.0.1",{port}}}, {options}, 2)."#
        );
        let said = servers_script(&["ctl", &Self::dir(), "eval", &start]).await?;
        anyhow::ensure!(said.trim() == "ok", "open a port with TLS: {said}");
        Ok(Self { port })
    }

    fn dir() -> String {
        crate::root().join(".dev/test").display().to_string()
    }

    /// `amqps://localhost:port`, for a virtual host's own URL.
    pub fn url_of(&self, rabbit: &Rabbit) -> String {
        let plain = rabbit.url();
        let (user, vhost) = (user_info(&plain), rabbit.vhost());
        format!("amqps://{user}@localhost:{}/{vhost}", self.port)
    }
}

impl Drop for RabbitTls {
    fn drop(&mut self) {
        let stop = format!(
            r#"rabbit_networking:stop_tcp_listener({{"127.0.0.1",{}}})."#,
            self.port
        );
        let script = crate::root().join("scripts/servers.sh");
        let mut command = std::process::Command::new(script);
        let outcome = command
            .args(["ctl", &Self::dir(), "eval", &stop])
            .stdout(Stdio::null())
            .status();
        if let Err(error) = outcome {
            tracing::warn!(%error, "close a port with TLS");
        }
    }
}

fn user_info(url: &str) -> String {
    let authority = url.split("://").nth(1).unwrap_or_default();
    let info = authority.rsplit_once('@').map_or("", |(info, _)| info);
    info.to_owned()
}

fn user_of(url: &str) -> String {
    let authority = url.split("://").nth(1).unwrap_or_default();
    let info = authority.split('@').next().unwrap_or_default();
    info.split(':').next().unwrap_or("guest").to_owned()
}

/// A RabbitMQ node of one's own, for tests that kill it: 8 s to start, so share it within a test.
#[derive(Debug)]
pub struct RabbitNode {
    dir: tempfile::TempDir,
    amqp: String,
    api: String,
}

impl RabbitNode {
    /// Starts a node with data in a directory of its own.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("make a directory for a RabbitMQ node")?;
        let mut node = Self {
            dir,
            amqp: String::new(),
            api: String::new(),
        };
        node.clean_up_after_a_crash()?;
        servers_script(&["start", &node.path(), "rabbitmq"]).await?;
        let env = std::fs::read_to_string(node.dir.path().join("env"))?;
        let value = |name: &str| -> anyhow::Result<String> {
            let line = env
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            Ok(line
                .with_context(|| format!("{name} in the node's env file"))?
                .to_owned())
        };
        node.amqp = value("PHOTOFINISH_TEST_AMQP")?;
        node.api = value("PHOTOFINISH_TEST_RABBITMQ_API")?;
        Ok(node)
    }

    /// The node is no child of ours; should this process be killed, someone else must end it.
    fn clean_up_after_a_crash(&self) -> anyhow::Result<()> {
        let watch = "while kill -0 \"$0\" 2>/dev/null; do sleep 1; done; exec \"$1\" clean \"$2\"";
        std::process::Command::new("sh")
            .args(["-c", watch, &std::process::id().to_string()])
            .arg(crate::root().join("scripts/servers.sh"))
            .arg(self.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the watcher of a RabbitMQ node")?;
        Ok(())
    }

    /// A virtual host on this node.
    pub async fn vhost(&self) -> anyhow::Result<Rabbit> {
        Rabbit::fresh_at(&self.amqp, &self.api).await
    }

    /// kill -9.
    pub async fn kill(&self) -> anyhow::Result<()> {
        servers_script(&["kill9", &self.path(), "rabbitmq"])
            .await
            .map(drop)
    }

    /// Starts it again on the same ports and data.
    pub async fn restart(&self) -> anyhow::Result<()> {
        servers_script(&["start", &self.path(), "rabbitmq"])
            .await
            .map(drop)
    }

    /// Where its data lies.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    fn path(&self) -> String {
        self.dir.path().display().to_string()
    }
}

impl Drop for RabbitNode {
    fn drop(&mut self) {
        let script = crate::root().join("scripts/servers.sh");
        let mut command = std::process::Command::new(script);
        let outcome = command.args(["clean", &self.path()]).output();
        if let Err(error) = outcome {
            tracing::warn!(%error, "stop a RabbitMQ node");
        }
    }
}
