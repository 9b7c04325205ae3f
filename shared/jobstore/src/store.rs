//! The connections, a prefix, and the two ways in which everything is asked.
//!
//! A connection is shared: what many tasks ask at a time goes out together and is answered in
//! order. So nothing may be asked that waits or that changes its connection.

use crate::connections::{Connections, Lent};
use crate::keys::Key;
use crate::{JobStoreError, Lifetime, TlsFiles};
use redis::{FromRedisValue, Pipeline, Script};
use secrecy::SecretString;
use std::fmt;
use std::time::Duration;

/// How long a turn's register outlives its last receipt.
const TURN_TTL: Duration = Duration::from_hours(2 * 24);
/// How long what a tenant used in a day outlives its last change.
const DAY_TTL: Duration = Duration::from_hours(3 * 24);
/// How long a copy is kept, so that an older version cannot replace a newer one meanwhile.
const COPY_TTL: Duration = Duration::from_mins(10);

/// Where Redis is and how long things live there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `redis://[user:password@]host:port[/db]` or `rediss://…`
    pub url: SecretString,
    /// Put before every key, such as `photofinish:`.
    pub prefix: String,
    /// Connections at most.
    pub connections_max: usize,
    /// How long getting a connection may take, and the answer to a command.
    pub timeout: Duration,
    /// How long a job's record outlives its last change.
    pub job_ttl: Duration,
    /// How long a delivery's record outlives its last change.
    pub delivery_ttl: Duration,
    /// Deliveries of a tenant that are kept, the newest.
    pub deliveries_max: u64,
    /// How long after Redis began (empty) no slot is granted. Watches renew within 20 s, so 60 s
    /// is enough to learn of every attempt in flight.
    pub epoch_age_min: Duration,
    /// For `rediss://`.
    pub tls: TlsFiles,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: SecretString::from("redis://127.0.0.1:6379"),
            prefix: "photofinish:".to_owned(),
            connections_max: 4,
            timeout: Duration::from_secs(5),
            job_ttl: Duration::from_hours(30 * 24),
            delivery_ttl: Duration::from_hours(7 * 24),
            deliveries_max: 100_000,
            epoch_age_min: Duration::from_mins(1),
            tls: TlsFiles::default(),
        }
    }
}

/// Redis. Cheap to clone.
#[derive(Clone)]
pub struct JobStore {
    connections: Connections,
    pub(crate) prefix: String,
    pub(crate) job_ttl: Duration,
    pub(crate) delivery_ttl: Duration,
    pub(crate) deliveries_max: u64,
    pub(crate) epoch_age_min: Duration,
}

impl fmt::Debug for JobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobStore")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl JobStore {
    /// The store. Nothing is sent: see [`JobStore::ping`].
    pub fn connect(settings: &Settings) -> Result<Self, JobStoreError> {
        let connections = Connections::new(settings)?;
        Ok(Self {
            connections,
            prefix: settings.prefix.clone(),
            job_ttl: settings.job_ttl,
            delivery_ttl: settings.delivery_ttl,
            deliveries_max: settings.deliveries_max,
            epoch_age_min: settings.epoch_age_min,
        })
    }

    /// Readiness: Redis answers.
    pub async fn ping(&self) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("PING").ignore();
        self.pipe("ping", &pipe).await
    }

    pub(crate) fn key(&self, key: Key<'_>) -> String {
        key.name(&self.prefix)
    }

    pub(crate) fn ttl_ms(&self, key: &Key<'_>) -> u64 {
        let ttl = match key.lifetime() {
            Lifetime::Job => self.job_ttl,
            Lifetime::Delivery => self.delivery_ttl,
            Lifetime::Turn => TURN_TTL,
            Lifetime::Copy => COPY_TTL,
            Lifetime::Day => DAY_TTL,
            Lifetime::Endless | Lifetime::Moment => Duration::MAX,
        };
        millis(ttl)
    }

    /// Runs a pipeline.
    pub(crate) async fn pipe<T: FromRedisValue>(
        &self,
        doing: &'static str,
        pipe: &Pipeline,
    ) -> Result<T, JobStoreError> {
        let mut lent = self.connections.lend(doing).await?;
        let answer = pipe.query_async(&mut lent.connection).await;
        self.checked(doing, &lent, answer)
    }

    /// Runs a script over keys of one hash tag.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        doing: &'static str,
        script: &Script,
        keys: &[Key<'_>],
        args: impl FnOnce(&mut redis::ScriptInvocation<'_>),
    ) -> Result<T, JobStoreError> {
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(self.key(*key));
        }
        args(&mut invocation);
        let mut lent = self.connections.lend(doing).await?;
        let answer = invocation.invoke_async(&mut lent.connection).await;
        self.checked(doing, &lent, answer)
    }

    /// Adds a script over keys of one hash tag to a pipeline; what is added next are its arguments.
    pub(crate) fn add_script<'p>(
        &self,
        pipe: &'p mut Pipeline,
        script: &Script,
        keys: &[Key<'_>],
    ) -> &'p mut Pipeline {
        pipe.cmd("EVALSHA").arg(script.get_hash()).arg(keys.len());
        for key in keys {
            pipe.arg(self.key(*key));
        }
        pipe
    }

    /// Runs a pipeline that has scripts in it. A Redis that does not know them yet is told, and asked again: so what
    /// is in it must be safe to repeat.
    pub(crate) async fn pipe_with<T: FromRedisValue>(
        &self,
        doing: &'static str,
        pipe: &Pipeline,
        scripts: &[&Script],
    ) -> Result<T, JobStoreError> {
        let mut lent = self.connections.lend(doing).await?;
        let answer = pipe.query_async(&mut lent.connection).await;
        let unknown = |error: &redis::RedisError| {
            error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
        };
        if !answer.as_ref().is_err_and(unknown) {
            return self.checked(doing, &lent, answer);
        }
        for script in scripts {
            let loaded = script.load_async(&mut lent.connection).await;
            self.checked(doing, &lent, loaded)?;
        }
        let answer = pipe.query_async(&mut lent.connection).await;
        self.checked(doing, &lent, answer)
    }

    /// A connection whose answer never came, or that is broken, is not lent any more.
    fn checked<T>(
        &self,
        doing: &'static str,
        lent: &Lent,
        answer: Result<T, redis::RedisError>,
    ) -> Result<T, JobStoreError> {
        answer.map_err(|source| {
            metrics::counter!("photofinish_jobstore_errors_total", "call" => doing).increment(1);
            if source.is_timeout() {
                self.connections.give_up(lent);
            } else if source.is_unrecoverable_error() {
                self.connections.give_all_up(lent);
            }
            JobStoreError::Command { doing, source }
        })
    }
}

/// Milliseconds that Redis can add to its time without an overflow.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .min(1 << 45)
}
