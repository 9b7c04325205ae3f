//! The connection: a pool, a prefix, and the two ways in which everything is asked.

use crate::keys::Key;
use crate::{JobStoreError, Lifetime};
use deadpool_redis::{Connection, Manager, Pool, Runtime, Timeouts};
use redis::{AsyncConnectionConfig, FromRedisValue, Pipeline, Script};
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::time::Duration;

/// How long a turn's register outlives its last receipt.
const TURN_TTL: Duration = Duration::from_hours(2 * 24);
/// How long a copy is kept, so that an older version cannot replace a newer one meanwhile.
const COPY_TTL: Duration = Duration::from_mins(10);

/// Where Redis is and how long things live there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `redis://[user:password@]host:port[/db]`
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
    /// How long after Redis began (empty) no slot is granted. Watches renew within 20 s, so 60 s
    /// is enough to learn of every attempt in flight.
    pub epoch_age_min: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: SecretString::from("redis://127.0.0.1:6379"),
            prefix: "photofinish:".to_owned(),
            connections_max: 32,
            timeout: Duration::from_secs(5),
            job_ttl: Duration::from_hours(30 * 24),
            delivery_ttl: Duration::from_hours(7 * 24),
            epoch_age_min: Duration::from_mins(1),
        }
    }
}

/// Redis. Cheap to clone.
#[derive(Clone)]
pub struct JobStore {
    pool: Pool,
    pub(crate) prefix: String,
    pub(crate) job_ttl: Duration,
    pub(crate) delivery_ttl: Duration,
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
    /// A pool. Nothing is sent: see [`JobStore::ping`].
    pub fn connect(settings: &Settings) -> Result<Self, JobStoreError> {
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout));
        let manager = Manager::new_with_config(settings.url.expose_secret(), connection)
            .map_err(|_| JobStoreError::Settings("the URL is not one of Redis".to_owned()))?;
        let limit = Some(settings.timeout);
        let pool = Pool::builder(manager)
            .max_size(settings.connections_max)
            .timeouts(Timeouts {
                wait: limit,
                create: limit,
                recycle: limit,
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| JobStoreError::Settings(error.to_string()))?;
        Ok(Self {
            pool,
            prefix: settings.prefix.clone(),
            job_ttl: settings.job_ttl,
            delivery_ttl: settings.delivery_ttl,
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
            Lifetime::Endless => Duration::MAX,
        };
        millis(ttl)
    }

    async fn connection(&self, doing: &'static str) -> Result<Connection, JobStoreError> {
        self.pool
            .get()
            .await
            .map_err(|source| JobStoreError::Pool { doing, source })
    }

    /// Runs a pipeline.
    pub(crate) async fn pipe<T: FromRedisValue>(
        &self,
        doing: &'static str,
        pipe: &Pipeline,
    ) -> Result<T, JobStoreError> {
        let mut connection = self.connection(doing).await?;
        let answer = pipe.query_async(&mut connection).await;
        Self::checked(doing, connection, answer)
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
        let mut connection = self.connection(doing).await?;
        let answer = invocation.invoke_async(&mut connection).await;
        Self::checked(doing, connection, answer)
    }

    /// A connection whose answer never came, or that is broken, is not given back to the pool:
    /// the late answer would be taken for another command's.
    fn checked<T>(
        doing: &'static str,
        connection: Connection,
        answer: Result<T, redis::RedisError>,
    ) -> Result<T, JobStoreError> {
        answer.map_err(|source| {
            metrics::counter!("photofinish_jobstore_errors_total", "call" => doing).increment(1);
            if source.is_timeout() || source.is_unrecoverable_error() {
                drop(Connection::take(connection));
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
