//! What every handler works with.

use crate::config::Config;
use crate::gate::Gate;
use crate::in_hand::InHand;
use crate::lines::Lines;
use crate::replays::Replays;
use crate::streaks::Well;
use photofinish_broker::Publisher;
use photofinish_jobstore::JobStore;
use photofinish_objects::Objects;
use photofinish_outbound::Outbound;
use photofinish_runtime::Clock;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The adapters, the configuration and the little that this process remembers.
#[derive(Debug)]
pub(crate) struct Notifier {
    pub(crate) publisher: Publisher,
    pub(crate) jobstore: JobStore,
    pub(crate) objects: Objects,
    pub(crate) outbound: Outbound,
    pub(crate) clock: Clock,
    pub(crate) gate: Gate,
    pub(crate) in_hand: InHand,
    pub(crate) well: Well,
    pub(crate) lines: Arc<Lines>,
    /// Events that may be held in hand by first tries.
    pub(crate) firsts: Semaphore,
    pub(crate) replays: Replays,
    pub(crate) config: Config,
}
