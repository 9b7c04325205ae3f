//! A link: one AMQP connection with the supervisor that rebuilds it, for ever.
//!
//! Guarantee: a [`Link`] is up, blocked or down, and whoever waits for it is told. lapin's own recovery is off:
//! there is one owner of every retry, and for connections it is here.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use photofinish_runtime::{Check, backoff, clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::TopologyError;
use crate::settings::{CONNECT_TIMEOUT, Checked, REBUILD_MAX, REBUILD_MIN};
use crate::telemetry;
use crate::topology::Topology;

/// How often the state is looked at besides lapin's events.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for a polite close, and for a last acknowledgement.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for one answer of the broker; declaring the whole topology on a busy node is the slowest.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// What both links share.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) checked: Checked,
    pub(crate) topology: Topology,
    pub(crate) declare: bool,
    /// Shown in RabbitMQ's list of connections.
    pub(crate) name: String,
}

impl Plan {
    /// Declares the topology, or checks it where we may not.
    pub(crate) async fn prepare(&self, channel: &Channel) -> Result<(), TopologyError> {
        if self.declare {
            self.topology.declare(channel).await
        } else {
            self.topology.check(channel).await
        }
    }
}

/// How a connection is.
#[derive(Debug, Clone)]
pub(crate) enum State {
    Down,
    /// RabbitMQ takes nothing from us: out of memory or disk.
    Blocked(Arc<Connection>),
    Up(Arc<Connection>),
}

impl State {
    fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Down => None,
            Self::Blocked(connection) | Self::Up(connection) => Some(connection),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        match self {
            Self::Down | Self::Blocked(_) => false,
            Self::Up(_) => true,
        }
    }
}

/// The user's end of a supervised connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    state: watch::Receiver<State>,
}

impl Link {
    /// The connection if there is one now, blocked or not.
    pub(crate) fn now(&self) -> Option<Arc<Connection>> {
        self.state.borrow().connection().cloned()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state.borrow().is_up()
    }

    /// Waits for a connection that is not blocked; `None` when the supervisor has ended.
    pub(crate) async fn up(&mut self) -> Option<Arc<Connection>> {
        let state = self.state.wait_for(State::is_up).await.ok()?;
        state.connection().cloned()
    }

    /// Waits until this connection is no longer the one that is there.
    pub(crate) async fn lost(&mut self, connection: &Arc<Connection>) {
        let gone = |state: &State| {
            !state
                .connection()
                .is_some_and(|now| Arc::ptr_eq(now, connection))
        };
        // An error means that the supervisor has ended, so the connection is gone, too.
        let _state = self.state.wait_for(gone).await;
    }

    /// Waits for any change; pending for ever once the supervisor has ended.
    pub(crate) async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The supervisor of one connection.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) role: &'static str,
    pub(crate) plan: Arc<Plan>,
    pub(crate) check: Check,
    /// Cancelled when nobody needs the connection any more.
    pub(crate) finished: CancellationToken,
    state: watch::Sender<State>,
}

impl Supervisor {
    pub(crate) fn new(role: &'static str, plan: Arc<Plan>, check: Check) -> (Self, Link) {
        let (state, link) = watch::channel(State::Down);
        let finished = CancellationToken::new();
        (
            Self {
                role,
                plan,
                check,
                finished,
                state,
            },
            Link { state: link },
        )
    }

    /// Runs until the process is drained and the connection's users have finished.
    pub(crate) async fn run(self) {
        let mut failures = 0;
        while !self.finished.is_cancelled() {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = self.finished.cancelled() => return,
            };
            match opened {
                Ok(connection) => {
                    failures = 0;
                    tracing::info!(role = self.role, "connected to the broker");
                    self.watch(connection).await;
                    telemetry::rebuilt(self.role);
                }
                Err(error) => {
                    failures += 1;
                    let error = chain(&error);
                    self.check.failing(error.as_str());
                    tracing::warn!(
                        role = self.role,
                        error,
                        failures,
                        "no connection to the broker"
                    );
                }
            }
            let wait = backoff::delay(failures, REBUILD_MIN, REBUILD_MAX, clock::jitter());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.finished.cancelled() => {}
            }
        }
    }

    async fn open(&self) -> Result<Arc<Connection>, OpenError> {
        let name = format!("{} {}", self.plan.name, self.role);
        let options = ConnectionProperties::default().with_connection_name(name.as_str().into());
        let uri = self.plan.checked.uri.clone();
        let tls = self.plan.checked.tls.load()?;
        let runtime = lapin::runtime::default_runtime()?;
        let connecting = Connection::connect_uri_with_config(uri, options, tls, runtime);
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_elapsed| OpenError::Timeout)??;
        let prepared = async {
            let channel = connection.create_channel().await?;
            self.plan.prepare(&channel).await?;
            // Fails only when the connection is lost again, which the watch sees.
            let _closed = channel.close(200, "OK".into()).await;
            Ok(())
        };
        while_alive(&connection, prepared)
            .await
            .unwrap_or(Err(OpenError::Timeout))?;
        Ok(Arc::new(connection))
    }

    /// Keeps the state until the connection is lost or no longer needed.
    async fn watch(&self, connection: Arc<Connection>) {
        let mut events = pin!(connection.events_listener());
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            let status = connection.status();
            if !status.connected() {
                break;
            }
            self.tell(&connection, status.blocked());
            tokio::select! {
                _ = look.tick() => {}
                event = events.next() => match event {
                    Some(Event::Error(error)) => {
                        tracing::warn!(role = self.role, %error, "the connection failed");
                    }
                    Some(event) => tracing::debug!(role = self.role, ?event, "connection event"),
                    None => break,
                },
                () = self.finished.cancelled() => {
                    self.state.send_replace(State::Down);
                    let close = connection.close(200, "OK".into());
                    // Too late or failed: the socket is closed when the connection is dropped.
                    let _closed = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
                    return;
                }
            }
        }
        self.state.send_replace(State::Down);
        self.check.failing("the connection to the broker is lost");
    }

    fn tell(&self, connection: &Arc<Connection>, blocked: bool) {
        self.state.send_if_modified(|state| {
            let new = if blocked {
                State::Blocked(connection.clone())
            } else {
                State::Up(connection.clone())
            };
            let same = state.is_up() == new.is_up()
                && state
                    .connection()
                    .is_some_and(|now| Arc::ptr_eq(now, connection));
            if !same {
                *state = new;
            }
            !same
        });
        self.check.set_ready(
            !blocked,
            "the broker takes no messages: out of memory or disk",
        );
    }
}

/// Waits for an answer on a connection, but no longer than it lives: a request that was under way when the socket
/// broke may never be answered. `None`: it was lost, or did not answer in time.
pub(crate) async fn while_alive<T>(
    connection: &Connection,
    answer: impl Future<Output = T>,
) -> Option<T> {
    let lost = async {
        let mut look = tokio::time::interval(LOOK_EVERY);
        while connection.status().connected() {
            look.tick().await;
        }
    };
    tokio::select! {
        answer = tokio::time::timeout(ANSWER_TIMEOUT, answer) => answer.ok(),
        () = lost => None,
    }
}

/// Waits until a channel has died, which its consumer's stream should tell, too.
pub(crate) async fn dead(channel: &Channel) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    while channel.status().connected() {
        look.tick().await;
    }
}

/// A connection could not be opened.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("connect to the broker: no answer in time")]
    Timeout,
    #[error("connect to the broker")]
    Lapin(#[from] lapin::Error),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsFileError),
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
