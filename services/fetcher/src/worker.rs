//! What a turn says to its worker.

use crate::core::Core;
use crate::turn::Turn;
use photofinish_contract::announcement::{Announcement, AnnouncementKind, Wanted};
use photofinish_contract::token::Purpose;
use photofinish_runpod::proxy::Method;
use photofinish_runtime::error_chain;
use std::sync::Arc;

impl Turn {
    fn path(&self, call: &str) -> String {
        format!("/attempts/{}{call}", self.message.attempt.nonce)
    }

    fn token(&self) -> String {
        let core: &Arc<Core> = &self.core;
        core.tokens.mint(Purpose::Output, &self.message.attempt)
    }

    /// The worker waits for somebody to come from its first announcement on, whatever it has to
    /// give; and what was stored by an earlier turn it need not keep.
    pub(crate) fn greet(&mut self, announcement: &Announcement) {
        let Some(worker) = self.message.watch.worker_id.clone() else {
            return;
        };
        if announcement.kind == AnnouncementKind::Final || self.over_at_runpod {
            return;
        }
        let (core, token) = (self.core.clone(), self.token());
        let attempt = self.message.attempt.clone();
        if !self.greeted {
            self.greeted = true;
            let (worker, path) = (worker.clone(), self.path(""));
            let (core, token, attempt) = (core.clone(), token.clone(), attempt.clone());
            self.asides.spawn(async move {
                if let Err(error) = core.proxy.call(Method::GET, &worker, &path, &token).await {
                    tracing::debug!(%attempt, error = error_chain(&error), "greet a worker");
                }
            });
        }
        if !self.told_wanted && self.asked_wanted && self.keeps_what_is_stored(announcement) {
            self.told_wanted = true;
            let path = self.path("/wanted");
            let wanted = self.watch.wanted.iter().copied().collect();
            self.asides.spawn(async move {
                let wanted = Wanted { wanted };
                if let Err(error) = core.proxy.post(&worker, &path, &token, &wanted).await {
                    tracing::debug!(%attempt, error = error_chain(&error), "tell what is wanted");
                }
            });
        }
    }

    fn keeps_what_is_stored(&self, announcement: &Announcement) -> bool {
        let mut outputs = announcement.outputs.iter().map(|output| output.index);
        outputs.any(|index| !self.watch.wanted.contains(&index) && !self.stored.contains(&index))
    }

    /// Best effort: a worker that is not reached pushes by itself in time.
    pub(crate) async fn ask_rescue(&self) {
        let Some(worker) = &self.message.watch.worker_id else {
            return;
        };
        let (path, token) = (self.path("/rescue"), self.token());
        let call = self.core.proxy.call(Method::POST, worker, &path, &token);
        if let Err(error) = call.await {
            tracing::debug!(attempt = %self.message.attempt, error = error_chain(&error),
                "ask a worker to push");
        }
    }
}
