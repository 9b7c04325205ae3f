//! Redis: a key prefix per test on the shared server, or a server of one's own to kill and empty.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{Guarded, guarded, spawn};
use crate::servers::server_setting;
use crate::{Authority, free_port, wait_until};

/// Gives everything under a prefix as JSON: names without it, each with its kind and its members.
const CONTENTS: &str = "
local kept = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind, name = redis.call('TYPE', key).ok, string.sub(key, #ARGV[1] + 1)
  local pairs_of = {hash = {'HGETALL', key}, zset = {'ZRANGE', key, 0, -1, 'WITHSCORES'}}
  if kind == 'string' then kept[name] = {string = redis.call('GET', key)} end
  if kind == 'set' then kept[name] = {set = redis.call('SMEMBERS', key)} end
  if pairs_of[kind] then
    local flat, table_of = redis.call(unpack(pairs_of[kind])), {}
    for at = 1, #flat, 2 do table_of[flat[at]] = flat[at + 1] end
    kept[name] = {[kind] = table_of}
  end
end
return cjson.encode(kept)";

/// The shared server and a prefix that no other test has.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://127.0.0.1:port`.
    pub url: String,
    /// To put before every key, such as `t-0123abcd:`.
    pub prefix: String,
}

impl Redis {
    /// A new prefix on the server of `make servers`.
    pub fn fresh() -> anyhow::Result<Self> {
        let url = server_setting("PHOTOFINISH_TEST_REDIS")?;
        Ok(Self {
            url,
            prefix: format!("t-{}:", uuid::Uuid::new_v4().simple()),
        })
    }
}

/// A Redis server of one's own with an append-only file (up in milliseconds), for tests that kill or empty it.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    dir: tempfile::TempDir,
    running: Option<Guarded>,
    /// Its port with TLS, and the flags that make it.
    tls: Option<(u16, Vec<String>)>,
}

impl RedisServer {
    /// Starts a server on a free port.
    pub async fn start() -> anyhow::Result<Self> {
        let mut server = Self::new()?;
        server.restart().await?;
        Ok(server)
    }

    /// One that has a second port with TLS, where it asks for a certificate, too.
    pub async fn start_tls(authority: &Authority) -> anyhow::Result<Self> {
        let mut server = Self::new()?;
        let (port, (cert, key), ca) = (free_port()?, authority.server(), authority.ca());
        let flags = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", cert.display().to_string()),
            ("--tls-key-file", key.display().to_string()),
            ("--tls-ca-cert-file", ca.display().to_string()),
            ("--tls-auth-clients", "yes".to_owned()),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]);
        server.tls = Some((port, flags.collect()));
        server.restart().await?;
        Ok(server)
    }

    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            port: free_port()?,
            dir: tempfile::tempdir().context("make a directory for a Redis server")?,
            running: None,
            tls: None,
        })
    }

    /// `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `rediss://localhost:port`, if it has TLS.
    pub fn tls_url(&self) -> Option<String> {
        let (port, _) = self.tls.as_ref()?;
        Some(format!("rediss://localhost:{port}"))
    }

    /// Its process id; none after a kill.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Guarded::pid)
    }

    /// Bytes that it has taken for what it keeps.
    pub fn memory_used(&self) -> anyhow::Result<u64> {
        let mut command = std::process::Command::new("redis-cli");
        let port = self.port.to_string();
        let told = command.args(["-p", &port, "info", "memory"]).output()?;
        let told = String::from_utf8(told.stdout).context("read what Redis tells")?;
        let used = told
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|used| used.trim().parse().ok())
            .context("Redis does not tell its memory")
    }

    /// Everything that it keeps under a prefix: names without it, each `{kind: members}`.
    pub fn contents(&self, prefix: &str) -> anyhow::Result<serde_json::Value> {
        let mut command = std::process::Command::new("redis-cli");
        let port = self.port.to_string();
        let arguments = ["-p", &port, "--raw", "eval", CONTENTS, "0", prefix];
        let told = command.args(arguments).output().context("run redis-cli")?;
        serde_json::from_slice(&told.stdout).with_context(|| {
            let error = String::from_utf8_lossy(&told.stdout);
            format!("read what Redis keeps: {error}")
        })
    }

    /// Forgets everything.
    pub fn flush(&self) -> anyhow::Result<()> {
        use std::io::{Read as _, Write as _};
        let mut socket =
            TcpStream::connect(("127.0.0.1", self.port)).context("connect to Redis")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        // Redis' own inline protocol.
        socket.write_all(b"FLUSHALL\r\n")?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).context("empty Redis")?;
        anyhow::ensure!(&answer == b"+OK\r\n", "FLUSHALL answers {answer:?}");
        Ok(())
    }

    /// kill -9; the append-only file stays.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again on the same port and data.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        let mut command = guarded("redis-server");
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
                "--save",
                "",
            ])
            .args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--daemonize",
                "no",
            ])
            .arg("--dir")
            .arg(self.dir.path())
            .args(self.tls.iter().flat_map(|(_, flags)| flags))
            .stdout(std::process::Stdio::null());
        self.running = Some(spawn(command, true).context("start redis-server (`make servers`)")?);
        let port = self.port;
        wait_until(Duration::from_secs(10), "Redis answers", || async move {
            pings(port)
        })
        .await
    }
}

/// Whether the server answers PING: it accepts connections before its data is loaded.
fn pings(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let ask = || -> std::io::Result<bool> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG")
    };
    ask().unwrap_or(false)
}
