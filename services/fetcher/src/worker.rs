//! What a turn says to its worker.

use crate::core::Core;
use crate::pull::passes;
use crate::routes::Place;
use crate::turn::Turn;
use photofinish_contract::announcement::{Announcement, AnnouncementKind, Wanted};
use photofinish_contract::token::Purpose;
use photofinish_model::ItemIndex;
use photofinish_runpod::port::{Method, PortError};
use photofinish_runtime::error_chain;
use std::sync::Arc;

impl Core {
    /// Makes a call on the route that is tried first and, if that may be to blame for a failure,
    /// on the other at once.
    pub(crate) async fn call(
        &self,
        place: &Place,
        method: Method,
        path: &str,
        token: &str,
        wanted: Option<&Wanted>,
    ) -> Result<u16, PortError> {
        let way = self.routes.way(place)?;
        let first = way.port.call(method.clone(), path, token, wanted);
        let error = match first.await {
            Ok(status) => return Ok(status),
            Err(error) => error,
        };
        if !self.routes.turn_from(place, way.route, &error) {
            return Err(error);
        }
        let way = self.routes.way(place)?;
        let second = way.port.call(method, path, token, wanted).await;
        second.map_err(|second| {
            let blamed = self.routes.turn_from(place, way.route, &second);
            // A route that leads nowhere takes no hope from the other one.
            if blamed && !passes(&second) {
                error
            } else {
                second
            }
        })
    }
}

impl Turn {
    /// Where the worker is: RunPod named it, and the boot is what it last said of itself.
    pub(crate) fn place(&self) -> Option<Place> {
        let watch = &self.message.watch;
        Some(Place {
            worker: watch.worker_id.clone()?,
            boot: watch.boot.clone().unwrap_or_default(),
        })
    }

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
        let Some(place) = self.place() else {
            return;
        };
        if announcement.kind == AnnouncementKind::Final || self.over_at_runpod {
            return;
        }
        let (core, token) = (self.core.clone(), self.token());
        let attempt = self.message.attempt.clone();
        if !self.greeted {
            self.greeted = true;
            let (place, path) = (place.clone(), self.path(""));
            let (core, token, attempt) = (core.clone(), token.clone(), attempt.clone());
            self.asides.spawn(async move {
                let call = core.call(&place, Method::GET, &path, &token, None);
                if let Err(error) = call.await {
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
                let call = core.call(&place, Method::POST, &path, &token, Some(&wanted));
                if let Err(error) = call.await {
                    tracing::debug!(%attempt, error = error_chain(&error), "tell what is wanted");
                }
            });
        }
    }

    /// Tells the worker that it need not keep an output that nobody will fetch any more.
    pub(crate) fn free(&mut self, index: ItemIndex) {
        let (Some(output), Some(place)) = (self.seen.get(&index), self.place()) else {
            return;
        };
        if self.over_at_runpod {
            return;
        }
        let path = self.path(&format!("/outputs/{}", output.name));
        let (core, token) = (self.core.clone(), self.token());
        let attempt = self.message.attempt.clone();
        self.asides.spawn(async move {
            let call = core.call(&place, Method::DELETE, &path, &token, None);
            if let Err(error) = call.await {
                tracing::debug!(%attempt, error = error_chain(&error), "free an output");
            }
        });
    }

    fn keeps_what_is_stored(&self, announcement: &Announcement) -> bool {
        let mut outputs = announcement.outputs.iter().map(|output| output.index);
        outputs.any(|index| !self.watch.wanted.contains(&index) && !self.stored.contains(&index))
    }

    /// Best effort: a worker that is not reached pushes by itself in time.
    pub(crate) async fn ask_rescue(&self) {
        let Some(place) = self.place() else {
            return;
        };
        let (path, token) = (self.path("/rescue"), self.token());
        let call = self.core.call(&place, Method::POST, &path, &token, None);
        if let Err(error) = call.await {
            tracing::debug!(attempt = %self.message.attempt, error = error_chain(&error),
                "ask a worker to push");
        }
    }
}
