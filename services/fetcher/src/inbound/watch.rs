//! `fetcher.watch`: attempts to watch, one turn at a time.

use crate::core::Core;
use crate::error::{AGAIN, Error};
use crate::turn::{Turn, TurnEnd};
use photofinish_broker::{Disposition, Incoming};
use photofinish_contract::messages::PartSubmitted;
use photofinish_jobstore::Turn as Register;
use photofinish_runtime::{error_chain, trace};
use std::sync::Arc;

impl Core {
    /// Handles one message: one turn.
    pub async fn on_watch(self: Arc<Self>, incoming: Incoming) -> Disposition {
        let message: PartSubmitted = match incoming.json() {
            Ok(message) => message,
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "malformed",
                    reason: error.to_string(),
                };
            }
        };
        let attempt = message.attempt.clone();
        trace::about(&attempt.tenant, &attempt.job);
        match self.turn(&incoming, message).await {
            Ok(disposition) => disposition,
            Err(error) => {
                tracing::warn!(%attempt, error = error_chain(&error), "watch");
                Disposition::RetryLater(AGAIN)
            }
        }
    }

    async fn turn(
        self: Arc<Self>,
        incoming: &Incoming,
        message: PartSubmitted,
    ) -> Result<Disposition, Error> {
        let nonce = message.attempt.nonce.to_string();
        // A first publish has no turn yet: however often the dispatcher repeats it, it is one.
        let (turn, id) = incoming.turn.map_or_else(
            || (0, nonce.clone()),
            |turn| (turn.turn, turn.turn_id.to_string()),
        );
        match self.jobstore.register_turn(&nonce, turn, &id).await? {
            Register::Pass => {}
            Register::Drop => {
                tracing::debug!(attempt = %message.attempt, turn, "an older copy");
                return Ok(Disposition::Ack);
            }
        }
        match Turn::new(self, message).run().await? {
            TurnEnd::Reported => Ok(Disposition::Ack),
            TurnEnd::Again(message) => {
                let body = serde_json::to_vec(&*message)?;
                Ok(Disposition::Turn {
                    body: Some(body.into()),
                })
            }
        }
    }
}
