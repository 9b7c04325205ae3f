//! A few connections, each shared by whoever asks; one that is broken is made again by the next who
//! asks.
//!
//! Guarantee: getting one takes no longer than the timeout, and one that was not looked at for a
//! second is tried first, so that a Redis that was restarted meanwhile is no fault. Not for what
//! waits on the server.

use crate::{JobStoreError, Settings};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use secrecy::ExposeSecret as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A connection that was tried so long ago is tried before it is lent.
const TRIED_MAX: Duration = Duration::from_secs(1);

/// One place for a connection.
#[derive(Default)]
struct Place(Option<Made>);

struct Made {
    connection: MultiplexedConnection,
    at: Instant,
    tried: Instant,
}

/// The connections.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Shared>);

struct Shared {
    client: Client,
    config: AsyncConnectionConfig,
    timeout: Duration,
    places: Vec<Mutex<Place>>,
    next: AtomicUsize,
}

/// A connection that is lent for one question.
pub(crate) struct Lent {
    pub(crate) connection: MultiplexedConnection,
    place: usize,
    at: Instant,
}

impl Connections {
    pub(crate) fn new(settings: &Settings) -> Result<Self, JobStoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout));
        let client = Client::open(settings.url.expose_secret())
            .map_err(|_| JobStoreError::Settings("the URL is not one of Redis".to_owned()))?;
        let places = (0..settings.connections_max.max(1)).map(|_| Mutex::default());
        Ok(Self(Arc::new(Shared {
            client,
            config,
            timeout: settings.timeout,
            places: places.collect(),
            next: AtomicUsize::new(0),
        })))
    }

    /// The next connection in turn, made if it is not there.
    pub(crate) async fn lend(&self, doing: &'static str) -> Result<Lent, JobStoreError> {
        let shared = &self.0;
        let turn = shared.next.fetch_add(1, Ordering::Relaxed) % shared.places.len();
        let lent = tokio::time::timeout(shared.timeout, shared.connection(turn)).await;
        let lent = lent.unwrap_or_else(|_elapsed| {
            Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into())
        });
        let connection = lent.map_err(|source| JobStoreError::Connect { doing, source })?;
        Ok(Lent {
            connection,
            place: turn,
            at: Instant::now(),
        })
    }

    /// The answer never came: whoever asks next in its place makes another connection.
    pub(crate) fn give_up(&self, lent: &Lent) {
        self.0.forget(lent.place, lent.at);
    }

    /// The connection is broken: so are the others that are as old, for all we know.
    pub(crate) fn give_all_up(&self, lent: &Lent) {
        for place in 0..self.0.places.len() {
            self.0.forget(place, lent.at);
        }
    }
}

impl Shared {
    async fn connection(&self, place: usize) -> redis::RedisResult<MultiplexedConnection> {
        let mut place = self.places[place].lock().await;
        if let Some(made) = &mut place.0 {
            if made.tried.elapsed() < TRIED_MAX {
                return Ok(made.connection.clone());
            }
            let asked: redis::RedisResult<()> =
                redis::cmd("PING").query_async(&mut made.connection).await;
            if asked.is_ok() {
                made.tried = Instant::now();
                return Ok(made.connection.clone());
            }
        }
        place.0 = None;
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&self.config)
            .await?;
        let at = Instant::now();
        let made = place.0.insert(Made {
            connection,
            at,
            tried: at,
        });
        Ok(made.connection.clone())
    }

    /// Forgets a connection that was made before this time.
    fn forget(&self, place: usize, before: Instant) {
        // Whoever holds the place tries or makes one.
        if let Ok(mut place) = self.places[place].try_lock()
            && place.0.as_ref().is_some_and(|made| made.at <= before)
        {
            place.0 = None;
        }
    }
}
