//! The publish channel and what is in flight on it.
//!
//! lapin gives a returned message to whichever confirm resolves next, so a return is matched by what was sent and
//! not by the confirm that carries it. A return always comes before the confirm of the same message; so a confirm
//! that resolved without one is believed once everything that resolved before it has been looked at, and one that
//! carries another's return is sent again: its own may still be underway.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection};
use photofinish_runtime::{Shutdown, backoff, clock};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::{Link, Plan, chain, while_alive};
use crate::error::TopologyError;
use crate::outgoing::Parcel;
use crate::publisher::{Fate, Request};
use crate::settings::{REBUILD_MAX, REBUILD_MIN};
use crate::telemetry;

/// Longest wait for the last confirms at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

type Key = u64;
type InFlight = FuturesUnordered<BoxFuture<'static, (Key, lapin::Result<Confirmation>)>>;

/// Why a channel's life ended.
enum End {
    /// Build another one.
    Lost,
    /// The process is over.
    Finished,
}

/// Owns the publish channel; one for each process.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) link: Link,
    pub(crate) plan: Arc<Plan>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) in_flight_max: usize,
    pub(crate) shutdown: Shutdown,
    /// Unconfirmed when their channel died: first on the next one.
    pub(crate) backlog: VecDeque<Request>,
}

impl Driver {
    /// Runs until the process is drained.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let shutdown = self.shutdown.clone();
            let connection = tokio::select! {
                connection = self.link.up() => connection,
                () = shutdown.drained() => None,
            };
            let Some(connection) = connection else { return };
            match self.open(&connection, failures > 0).await {
                Ok(channel) => {
                    let began = Instant::now();
                    match self.pump(&connection, channel).await {
                        End::Finished => return,
                        End::Lost => telemetry::rebuilt("publish channel"),
                    }
                    // A channel that lived was no failure; one that dies at once must not spin.
                    failures = if began.elapsed() > REBUILD_MAX {
                        1
                    } else {
                        failures + 1
                    };
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = chain(&error), "no publish channel");
                }
            }
            let wait = backoff::delay(failures - 1, REBUILD_MIN, REBUILD_MAX, clock::jitter());
            tokio::time::sleep(wait).await;
        }
    }

    async fn open(&self, connection: &Connection, again: bool) -> Result<Channel, TopologyError> {
        let name = "the publish channel";
        let named = |source| TopologyError::Declare {
            name: name.to_owned(),
            source,
        };
        let opened = async {
            let channel = connection.create_channel().await.map_err(named)?;
            if again {
                // The channel may have died because an exchange is gone.
                self.plan.prepare(&channel).await?;
            }
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(named)?;
            Ok(channel)
        };
        let silent = || {
            Err(TopologyError::NoAnswer {
                name: name.to_owned(),
            })
        };
        while_alive(connection, opened).await.unwrap_or_else(silent)
    }

    /// Publishes and collects confirms until the channel or the process ends.
    async fn pump(&mut self, connection: &Arc<Connection>, channel: Channel) -> End {
        let mut flight = Flight::new(channel);
        for request in std::mem::take(&mut self.backlog) {
            flight.launch(request);
        }
        let shutdown = self.shutdown.clone();
        let end = loop {
            let room = flight.len() < self.in_flight_max && self.link.is_up();
            tokio::select! {
                Some(first) = flight.confirms.next() => {
                    if !flight.land(first) {
                        break End::Lost;
                    }
                }
                request = self.requests.recv(), if room => {
                    let Some(request) = request else {
                        // Every publisher was dropped: nothing to do, but only a shutdown ends this task.
                        shutdown.drained().await;
                        break End::Finished;
                    };
                    flight.launch(request);
                }
                () = self.link.changed() => {
                    if !self.link.now().is_some_and(|now| Arc::ptr_eq(&now, connection)) {
                        break End::Lost;
                    }
                }
                () = shutdown.drained() => break End::Finished,
            }
        };
        if let End::Finished = end {
            self.flush(&mut flight).await;
        }
        self.backlog = flight.into_unconfirmed();
        end
    }

    /// The last confirms: what was asked for before the end is still sent and waited for.
    async fn flush(&mut self, flight: &mut Flight) {
        self.requests.close();
        while let Ok(request) = self.requests.try_recv() {
            flight.launch(request);
        }
        let all = async {
            while let Some(first) = flight.confirms.next().await {
                if !flight.land(first) {
                    break;
                }
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                unconfirmed = flight.len(),
                "messages left unconfirmed at the end"
            );
        }
    }
}

/// What is in flight on one channel.
struct Flight {
    channel: Channel,
    confirms: InFlight,
    waiting: BTreeMap<Key, Request>,
    /// Returns that came with another message's confirm.
    returned: Vec<BasicReturnMessage>,
    next: Key,
}

impl Flight {
    fn new(channel: Channel) -> Self {
        Self {
            channel,
            confirms: InFlight::new(),
            waiting: BTreeMap::new(),
            returned: Vec::new(),
            next: 0,
        }
    }

    fn len(&self) -> usize {
        self.waiting.len()
    }

    fn launch(&mut self, request: Request) {
        if request.answer.is_closed() {
            return; // nobody waits any more
        }
        let key = self.next;
        self.next += 1;
        let sending = send(self.channel.clone(), request.parcel.clone());
        self.waiting.insert(key, request);
        self.confirms
            .push(sending.map(move |result| (key, result)).boxed());
    }

    /// Settles everything that has resolved by now; false when the channel is lost.
    fn land(&mut self, first: (Key, lapin::Result<Confirmation>)) -> bool {
        let mut landed = vec![first];
        while let Some(Some(more)) = self.confirms.next().now_or_never() {
            landed.push(more);
        }
        let mut alive = true;
        let mut decided = Vec::with_capacity(landed.len());
        for (key, result) in landed {
            match result {
                Ok(Confirmation::Ack(message)) => {
                    let strange = message.is_some();
                    self.returned.extend(message);
                    decided.push((key, Some(Fate::Confirmed).filter(|_| !strange)));
                }
                Ok(Confirmation::Nack(message)) => {
                    self.returned.extend(message);
                    decided.push((key, Some(Fate::Nacked)));
                }
                Ok(Confirmation::NotRequested) => {
                    tracing::error!("the publish channel is not in confirm mode");
                    alive = false;
                }
                Err(error) => {
                    if alive {
                        tracing::warn!(%error, "the publish channel is lost");
                    }
                    alive = false;
                }
            }
        }
        for (key, fate) in decided {
            self.decide(key, fate);
        }
        self.forget_strays();
        alive
    }

    fn decide(&mut self, key: Key, fate: Option<Fate>) {
        let Some(request) = self.waiting.remove(&key) else {
            return;
        };
        let own = self
            .returned
            .iter()
            .position(|message| is_of(message, &request.parcel));
        let fate = if let Some(own) = own {
            self.returned.swap_remove(own);
            Some(Fate::Returned)
        } else {
            fate
        };
        match fate {
            // Nobody may wait for the answer any more; then it is not needed.
            Some(fate) => drop(request.answer.send(fate)),
            None => self.launch(request),
        }
    }

    /// A return of something that was decided long ago is of no use.
    fn forget_strays(&mut self) {
        let waiting = &self.waiting;
        self.returned.retain(|message| {
            waiting
                .values()
                .any(|request| is_of(message, &request.parcel))
        });
    }

    fn into_unconfirmed(self) -> VecDeque<Request> {
        self.waiting.into_values().collect()
    }
}

fn is_of(message: &BasicReturnMessage, parcel: &Parcel) -> bool {
    message.properties.message_id().as_ref() == Some(&parcel.id)
        && message.routing_key == parcel.address.key
        && message.exchange.as_str() == parcel.address.exchange
}

/// One publish and its confirm. The frames are queued at the first poll, so the order of launches is kept.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that publishes"
)]
async fn send(channel: Channel, parcel: Arc<Parcel>) -> lapin::Result<Confirmation> {
    let address = &parcel.address;
    let options = BasicPublishOptions {
        mandatory: address.mandatory,
        ..BasicPublishOptions::default()
    };
    let (exchange, key) = (address.exchange.into(), address.key.clone());
    let confirm = channel.basic_publish(
        exchange,
        key,
        options,
        &parcel.body,
        parcel.properties.clone(),
    );
    confirm.await?.await
}
