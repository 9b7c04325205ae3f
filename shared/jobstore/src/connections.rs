//! A few connections, each shared by whoever asks; one that is broken is made again by the next who
//! asks.
//!
//! Guarantee: getting one takes no longer than the timeout, and one that was not looked at for a
//! second is tried first, so that a Redis that was restarted meanwhile is no fault. Not for what
//! waits on the server.

use crate::{JobStoreError, Settings, TlsFiles};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
};
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
    info: ConnectionInfo,
    tls: TlsFiles,
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
        let info = settings.url.expose_secret();
        let info = info
            .into_connection_info()
            .map_err(|_| JobStoreError::Settings("the URL is not one of Redis".to_owned()))?;
        let places = (0..settings.connections_max.max(1)).map(|_| Mutex::default());
        Ok(Self(Arc::new(Shared {
            info,
            tls: settings.tls.clone(),
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
        // Taken out while it is tried: whoever gives up waiting for its answer leaves no place with a
        // connection in it that never answers.
        if let Some(mut made) = place.0.take() {
            let asked: redis::RedisResult<()> = if made.tried.elapsed() < TRIED_MAX {
                Ok(())
            } else {
                let asked = redis::cmd("PING").query_async(&mut made.connection).await;
                made.tried = Instant::now();
                asked
            };
            if asked.is_ok() {
                return Ok(place.0.insert(made).connection.clone());
            }
        }
        let connection = self
            .client()?
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

    /// Opens nothing yet.
    fn client(&self) -> redis::RedisResult<Client> {
        if matches!(self.info.addr(), ConnectionAddr::TcpTls { .. }) {
            Client::build_with_tls(self.info.clone(), self.tls.load()?)
        } else {
            Client::open(self.info.clone())
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    /// Answers every command with OK, until it is to be quiet.
    async fn answer(mut socket: TcpStream, quiet: Arc<AtomicBool>) {
        let mut asked = [0; 4096];
        while let Ok(read) = socket.read(&mut asked).await
            && read > 0
        {
            let commands = asked[..read].split(|byte| *byte == b'*').count() - 1;
            if !quiet.load(Ordering::Relaxed) {
                let answers = b"+OK\r\n".repeat(commands);
                socket.write_all(&answers).await.unwrap();
            }
        }
    }

    /// A server whose first connection falls silent when it is told to: the machine behind it is gone, and nothing
    /// says so.
    #[expect(clippy::disallowed_methods, reason = "a test has no runtime of ours")]
    async fn server(quiet: Arc<AtomicBool>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut first = Some(quiet);
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, first.take().unwrap_or_default()));
            }
        });
        url
    }

    #[tokio::test]
    async fn a_silent_connection_is_not_kept_by_those_who_wait_for_it_in_vain() {
        let quiet = Arc::<AtomicBool>::default();
        let connections = Connections::new(&Settings {
            url: server(quiet.clone()).await.into(),
            connections_max: 1,
            timeout: Duration::from_secs(10),
            ..Settings::default()
        })
        .unwrap();
        connections.lend("test").await.unwrap();
        quiet.store(true, Ordering::Relaxed);
        let mut place = connections.0.places[0].lock().await;
        place.0.as_mut().unwrap().tried = Instant::now().checked_sub(TRIED_MAX).unwrap();
        drop(place);
        let soon = Duration::from_millis(200);
        let cut_short = tokio::time::timeout(soon, connections.lend("test")).await;
        assert!(cut_short.is_err(), "it is tried first");
        let lent = tokio::time::timeout(soon * 20, connections.lend("test")).await;
        lent.unwrap().unwrap();
    }
}
