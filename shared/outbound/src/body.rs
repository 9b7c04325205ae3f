//! The body of an answer, piece by piece, within its limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::client::Limits;
use crate::error::{OutboundError, Phase};

/// A body that is still coming.
#[derive(Debug)]
pub struct Body {
    inner: reqwest::Response,
    left: u64,
    max: u64,
    idle: Duration,
    deadline: Instant,
}

impl Body {
    pub(crate) fn new(inner: reqwest::Response, limits: &Limits, deadline: Instant) -> Self {
        Self {
            inner,
            left: limits.body_max,
            max: limits.body_max,
            idle: limits.idle,
            deadline,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OutboundError> {
        let now = Instant::now();
        let until = (now + self.idle).min(self.deadline);
        let phase = if until == self.deadline {
            Phase::Total
        } else {
            Phase::Idle
        };
        let chunk = tokio::time::timeout_at(until, self.inner.chunk())
            .await
            .map_err(|_| OutboundError::Timeout(phase))?
            .map_err(OutboundError::from_reqwest)?;
        if let Some(chunk) = &chunk {
            let size = chunk.len() as u64;
            self.left = self
                .left
                .checked_sub(size)
                .ok_or(OutboundError::TooLarge { max: self.max })?;
        }
        Ok(chunk)
    }

    /// The whole body, at most as large as the limit says.
    pub async fn bytes(mut self) -> Result<Bytes, OutboundError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// At most the first `max` bytes; what follows is left where it is. A break after the head is no fault here.
    pub(crate) async fn prefix(mut self, max: usize) -> Bytes {
        let mut prefix = BytesMut::new();
        while prefix.len() < max {
            let Ok(Some(chunk)) = self.chunk().await else {
                break;
            };
            prefix.extend_from_slice(&chunk[..chunk.len().min(max - prefix.len())]);
        }
        prefix.freeze()
    }
}
