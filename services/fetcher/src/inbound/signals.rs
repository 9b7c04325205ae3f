//! `photofinish.signals`: what ingest heard from workers and from RunPod.

use crate::core::Core;
use photofinish_broker::Incoming;
use photofinish_contract::messages::Signal;

impl Core {
    /// Hands a signal to its watch; one that is not watched here is another fetcher's.
    pub fn on_signal(&self, incoming: &Incoming) {
        match incoming.json::<Signal>() {
            Ok(signal) => {
                let here = self.hub.tell(&signal.attempt.nonce, signal.heard);
                let label = if here { "yes" } else { "no" };
                metrics::counter!("photofinish_signals_total", "here" => label).increment(1);
            }
            Err(error) => tracing::warn!(%error, "an undecodable signal"),
        }
    }
}
