//! One output on its way: what is read is written, its rate watched, and its upload, if it goes in
//! parts, kept in Redis until it is finished or aborted.

use crate::core::Core;
use crate::error::PullError;
use crate::pull::Pull;
use bytes::Bytes;
use photofinish_jobstore::KeptUpload;
use photofinish_model::{OutputSource, StoredOutput};
use photofinish_objects::OutputUpload;
use photofinish_runtime::error_chain;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The span over which a pull's rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(30);

/// How far a pull has come, for whoever waits for it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that have come; 0: it still waits for its turn.
    came: AtomicU64,
    /// Milliseconds that they took.
    took_ms: AtomicU64,
}

impl Progress {
    /// Whether an output of so many bytes is there within a time, if it comes on as before.
    pub fn ends_within(&self, bytes: u64, limit: Duration) -> bool {
        let came = self.came.load(Ordering::Relaxed);
        if came == 0 {
            return false;
        }
        let took = Duration::from_millis(self.took_ms.load(Ordering::Relaxed));
        let left = bytes.saturating_sub(came) as f64 / came as f64;
        took.as_secs_f64() * left <= limit.as_secs_f64()
    }
}

/// Writes pieces and watches their rate.
pub(crate) struct Transfer<'a> {
    core: &'a Core,
    pull: &'a Pull,
    upload: OutputUpload,
    /// The upload's id in Redis.
    kept: Option<String>,
    begun: Instant,
    /// Since when, and how many bytes had come by then.
    span: (Instant, u64),
    came: u64,
    /// Time of the span in which the bucket was waited for, not the worker.
    writing: Duration,
}

impl<'a> Transfer<'a> {
    /// Begins the upload; one in parts is kept before its first part is sent, and what an earlier
    /// pull of the same output left behind is aborted.
    pub(crate) async fn begin(
        core: &'a Core,
        pull: &'a Pull,
        source: OutputSource,
    ) -> Result<Self, PullError> {
        let mut upload = core.objects.begin_output(pull.meta(source));
        let mut kept = None;
        if upload.in_parts() {
            core.abort_left_behind(pull).await?;
            let id = upload.begin_parts().await?;
            let keep = KeptUpload {
                id: id.clone(),
                key: upload.key().to_owned(),
                run: pull.attempt.run,
                index: pull.output.index,
                nonce: pull.attempt.nonce.clone(),
            };
            core.jobstore.keep_upload(&pull.attempt.job, &keep).await?;
            kept = Some(id);
        }
        Ok(Self {
            core,
            pull,
            upload,
            kept,
            begun: Instant::now(),
            span: (Instant::now(), 0),
            came: 0,
            writing: Duration::ZERO,
        })
    }

    /// Where the next byte stands in the file.
    pub(crate) fn at(&self) -> u64 {
        self.upload.written()
    }

    /// Bytes that have come, those that came twice counted twice.
    pub(crate) fn came(&self) -> u64 {
        self.came
    }

    /// Goes back to where the bucket has everything.
    pub(crate) async fn rewind(&mut self) {
        self.upload.rewind().await;
    }

    pub(crate) async fn take(&mut self, piece: Bytes, rate_min: u64) -> Result<(), PullError> {
        self.came += piece.len() as u64;
        let before = Instant::now();
        self.upload.write(piece).await?;
        self.writing += before.elapsed();
        let progress = &self.pull.progress;
        let took = self.begun.elapsed().as_millis();
        progress
            .came
            .store(self.upload.written(), Ordering::Relaxed);
        progress
            .took_ms
            .store(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
        let (since, from) = self.span;
        let reading = since.elapsed().saturating_sub(self.writing);
        if reading >= RATE_SPAN {
            let rate = (self.came - from) as f64 / reading.as_secs_f64();
            if rate < rate_min as f64 {
                return Err(PullError::Slow(rate_min));
            }
            self.span = (Instant::now(), self.came);
            self.writing = Duration::ZERO;
        }
        Ok(())
    }

    /// Makes the output appear; what is wrong with it is told, and it can be rewound.
    pub(crate) async fn finish(&mut self) -> Result<StoredOutput, PullError> {
        let (got, expected) = (self.upload.written(), self.pull.output.bytes);
        if got != expected {
            return Err(PullError::Short { got, expected });
        }
        let stored = self.upload.finish().await?;
        if let Some(id) = self.kept.take() {
            self.core.forget(self.pull, &id).await;
        }
        Ok(stored)
    }

    /// Gives up. An upload that cannot be aborted now stays kept, for the next one or the run's end.
    pub(crate) async fn abort(self) {
        let aborted = self.upload.abort().await.is_ok();
        if let (true, Some(id)) = (aborted, &self.kept) {
            self.core.forget(self.pull, id).await;
        }
    }
}

impl Core {
    /// Aborts uploads of this output that an earlier pull of the attempt did not end: its process
    /// died. Uploads of other attempts may be at work.
    async fn abort_left_behind(&self, pull: &Pull) -> Result<(), PullError> {
        let attempt = &pull.attempt;
        for kept in self.jobstore.kept_uploads(&attempt.job).await? {
            if kept.nonce != attempt.nonce || kept.index != pull.output.index {
                continue;
            }
            match self.objects.abort_upload(&kept.key, &kept.id).await {
                Ok(()) => self.jobstore.forget_upload(&attempt.job, &kept.id).await?,
                // The run's end tries again.
                Err(error) => tracing::warn!(%attempt, index = kept.index,
                    error = error_chain(&error), "abort an upload that was left behind"),
            }
        }
        Ok(())
    }

    /// Best effort: the run's end aborts it once more, which is harmless.
    async fn forget(&self, pull: &Pull, id: &str) {
        if let Err(error) = self.jobstore.forget_upload(&pull.attempt.job, id).await {
            tracing::warn!(attempt = %pull.attempt, error = error_chain(&error), "forget an upload");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_that_comes_on_as_before_is_foretold() {
        let progress = Progress::default();
        assert!(!progress.ends_within(10, Duration::MAX), "not begun");
        progress.came.store(50, Ordering::Relaxed);
        progress.took_ms.store(1000, Ordering::Relaxed);
        assert!(progress.ends_within(100, Duration::from_secs(1)));
        assert!(!progress.ends_within(150, Duration::from_secs(1)));
        assert!(progress.ends_within(50, Duration::ZERO));
    }
}
