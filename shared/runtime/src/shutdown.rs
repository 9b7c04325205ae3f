//! The three steps of an end: stop taking work, everything is drained, the deadline has passed.
//!
//! Guarantee: the steps come in this order, each at most once, and none is ever taken back.

use tokio_util::sync::CancellationToken;

/// Tells every part of the process how far the end has come. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    drained: CancellationToken,
    cut_off: CancellationToken,
}

impl Shutdown {
    /// A process that is not ending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no new work may be taken any more.
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until no new work may be taken.
    pub async fn wait(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until all tasks of [`crate::Tasks::spawn`] have ended: connections that they used may be closed now.
    /// It comes after the cut-off too, so whoever waits here always ends.
    pub async fn drained(&self) {
        self.drained.cancelled().await;
    }

    /// Waits for the deadline of the shutdown: what still runs then is given up.
    pub async fn cut_off(&self) {
        self.cut_off.cancelled().await;
    }

    /// The token of the first step, for libraries that want one. Cancel it through [`Shutdown::stop`] only.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// First step: take no more work.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Second step: nothing uses the connections any more.
    pub fn mark_drained(&self) {
        self.stop.cancel();
        self.drained.cancel();
    }

    /// Last step: the deadline has passed.
    pub fn cut(&self) {
        self.stop.cancel();
        self.cut_off.cancel();
        self.drained.cancel();
    }
}
