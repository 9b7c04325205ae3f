//! What every handler works with.

use crate::auth::KeyNotes;
use crate::config::Config;
use crate::error::Error;
use crate::estimates::Known;
use crate::in_flight::InFlight;
use crate::quotas::Limits;
use crate::streams::Streams;
use jiff::Timestamp;
use photofinish_broker::{Broker, Management, Outgoing, Publisher, Route, Target};
use photofinish_contract::messages::PlanMessage;
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_runtime::{Clock, Health};

/// The adapters and the configuration.
#[derive(Debug)]
pub(crate) struct Ingest {
    pub(crate) publisher: Publisher,
    /// To look after parked messages.
    pub(crate) broker: Broker,
    /// RabbitMQ's management API, if there is one.
    pub(crate) management: Option<Management>,
    pub(crate) jobstore: JobStore,
    pub(crate) objects: Objects,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    /// How this process stands.
    pub(crate) health: Health,
    /// What work takes, as of the last look.
    pub(crate) known: Known,
    /// The last count of what is in flight.
    pub(crate) in_flight: InFlight,
    /// Tenants' limits, as of the last look.
    pub(crate) limits: Limits,
    /// Who follows which job.
    pub(crate) streams: Streams,
    /// What is remembered of API keys for a moment.
    pub(crate) key_notes: KeyNotes,
}

impl Ingest {
    /// The time of day in whole milliseconds: what is shown is what is kept.
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// The one durable effect of a call: a confirmed message to the dispatcher.
    pub(crate) async fn tell_dispatcher(
        &self,
        message: &PlanMessage,
        message_id: String,
    ) -> Result<(), Error> {
        let route = match message {
            PlanMessage::JobAccepted(_) => Route::JobAccepted,
            PlanMessage::JobCommand(_) => Route::JobCommand,
        };
        let outgoing = Outgoing::json(Target::Pipeline(route), message)?.message_id(message_id);
        Ok(self.publisher.publish(outgoing).await?)
    }
}
