//! The register of turns: of several copies of a message that turns, one lives.

use crate::keys::Key;
use crate::{JobStore, JobStoreError};
use redis::Script;
use std::sync::LazyLock;

static TURN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/turn.lua")));

/// Whether a receipt is to be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// It is.
    Pass,
    /// It is an older copy: acknowledge and drop it.
    Drop,
}

impl JobStore {
    /// One receipt of the message `key` at its `turn` with its `turn_id`. A higher turn is stored
    /// and passes; the stored pair passes again; anything else is dropped. The stored pair was
    /// received, so it or its successor lives.
    pub async fn register_turn(
        &self,
        key: &str,
        turn: u64,
        turn_id: &str,
    ) -> Result<Turn, JobStoreError> {
        let key = Key::Turn(key);
        let ttl = self.ttl_ms(&key);
        let passes: bool = self
            .script("register a turn", &TURN, &[key], |call| {
                call.arg(turn).arg(turn_id).arg(ttl);
            })
            .await?;
        Ok(if passes { Turn::Pass } else { Turn::Drop })
    }
}
