//! One pull: worker or rescue prefix → SHA-256 → bucket → record → acknowledgement.

use crate::core::Core;
use crate::error::PullError;
use crate::routes::{Place, Way};
use bytes::Bytes;
use futures_util::StreamExt as _;
use photofinish_contract::announcement::ReadyOutput;
use photofinish_contract::event::EventType;
use photofinish_contract::token::Purpose;
use photofinish_jobstore::{Settle, Wanted};
use photofinish_model::sequence::Moment;
use photofinish_model::{AttemptRef, ItemState, JobSnapshot, OutputSource, StoredOutput};
use photofinish_objects::{OutputMeta, OutputUpload};
use photofinish_runpod::port::{Method, PortError};
use photofinish_runtime::{backoff, error_chain};
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};

/// Openings in a row that brought nothing, each on every route there is, before the pull counts as broken.
const OPENINGS_MAX: u32 = 6;
/// Tries of one acknowledgement.
const ACKNOWLEDGEMENTS_MAX: u32 = 3;
/// The pause before a transfer is opened again; doubled each time, up to the longest.
const REOPEN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(3);
/// The span over which a pull's rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(30);

/// Which output to pull, and from where.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The attempt that made it.
    pub attempt: AttemptRef,
    /// What was announced.
    pub output: ReadyOutput,
    /// Where it lies, if that is known.
    pub place: Option<Place>,
    /// Look under the rescue prefix first.
    pub rescued: bool,
    /// RunPod says that the attempt is in progress.
    pub in_progress: bool,
    /// Pulls of it that broke before.
    pub broken: u8,
}

impl Pull {
    fn path(&self) -> String {
        // Names are `{index:04}-{safe item}.mp4`, made by our worker; anything else is a stranger.
        format!(
            "/attempts/{}/outputs/{}",
            self.attempt.nonce, self.output.name
        )
    }

    fn meta(&self, source: OutputSource) -> OutputMeta {
        OutputMeta {
            tenant: self.attempt.tenant.clone(),
            job: self.attempt.job.clone(),
            run: self.attempt.run,
            index: self.output.index,
            item: self.output.item.clone(),
            attempt: self.attempt.attempt,
            sha256: self.output.sha256.clone(),
            bytes: self.output.bytes,
            duration_s: self.output.duration_s,
            source,
        }
    }
}

/// Writes pieces while hashing them and watching their rate.
struct Transfer {
    upload: OutputUpload,
    hash: Sha256,
    rate_min: u64,
    span: (Instant, u64),
}

impl Transfer {
    fn new(upload: OutputUpload, rate_min: u64) -> Self {
        Self {
            upload,
            hash: Sha256::new(),
            rate_min,
            span: (Instant::now(), 0),
        }
    }

    async fn take(&mut self, piece: Bytes) -> Result<(), PullError> {
        self.hash.update(&piece);
        self.upload.write(piece).await?;
        let (since, from) = self.span;
        let elapsed = since.elapsed();
        if elapsed >= RATE_SPAN {
            let rate = (self.upload.written() - from) as f64 / elapsed.as_secs_f64();
            if rate < self.rate_min as f64 {
                return Err(PullError::Slow(self.rate_min));
            }
            self.span = (Instant::now(), self.upload.written());
        }
        Ok(())
    }

    async fn finish(self, output: &ReadyOutput) -> Result<StoredOutput, PullError> {
        let got = self.upload.written();
        if got != output.bytes {
            self.upload.abort().await;
            return Err(PullError::Short {
                got,
                expected: output.bytes,
            });
        }
        if hex::encode(self.hash.finalize()) != output.sha256 {
            self.upload.abort().await;
            return Err(PullError::Hash);
        }
        Ok(self.upload.finish().await?)
    }
}

impl Core {
    /// Pulls one output; when it returns the output is stored, recorded and acknowledged, or it
    /// was settled already. Gives how it came, if it was this pull that stored it.
    pub async fn pull(&self, pull: &Pull) -> Result<Option<OutputSource>, PullError> {
        if pull.broken > 0 {
            let jitter = photofinish_runtime::clock::jitter();
            let tries = u32::from(pull.broken);
            tokio::time::sleep(backoff::delay(tries, REOPEN, REOPEN_MAX, jitter)).await;
        }
        let Ok(_permit) = self.pulls.acquire().await else {
            return Ok(None);
        };
        let (job, run) = (&pull.attempt.job, pull.attempt.run);
        match self
            .jobstore
            .pending_items(job, run, &[pull.output.index])
            .await?
        {
            Wanted::Items(items) if items.is_empty() => {
                self.acknowledge(pull).await;
                return Ok(None);
            }
            Wanted::RunOver => return Ok(None),
            Wanted::Items(_) | Wanted::Missing => {}
        }
        let begun = Instant::now();
        let stored = self.transfer(pull).await?;
        metrics::histogram!("photofinish_pull_seconds").record(begun.elapsed().as_secs_f64());
        metrics::counter!("photofinish_outputs_stored_total", "source" => stored.source.as_str())
            .increment(1);
        self.record(pull, &stored).await?;
        self.acknowledge(pull).await;
        Ok(Some(stored.source))
    }

    async fn transfer(&self, pull: &Pull) -> Result<StoredOutput, PullError> {
        if pull.rescued
            && let Some(stored) = self.transfer_rescued(pull).await?
        {
            return Ok(stored);
        }
        let Some(place) = &pull.place else {
            return Err(PullError::Unannounced);
        };
        let source = if pull.in_progress {
            OutputSource::PulledInProgress
        } else {
            OutputSource::PulledLate
        };
        let upload = self.objects.begin_output(pull.meta(source));
        let mut transfer = Transfer::new(upload, self.config.pull_rate_min);
        match self.read_all(pull, place, &mut transfer).await {
            Ok(()) => transfer.finish(&pull.output).await,
            Err(error) => {
                transfer.upload.abort().await;
                Err(error)
            }
        }
    }

    /// Reads to the end, on whichever route leads there: a break turns to the other one at once, a
    /// second break pauses.
    async fn read_all(
        &self,
        pull: &Pull,
        place: &Place,
        transfer: &mut Transfer,
    ) -> Result<(), PullError> {
        let (mut openings, mut first) = (0, None);
        loop {
            let before = transfer.upload.written();
            let way = self.routes.way(place)?;
            let read = self.read_on(pull, &way, transfer).await;
            let (route, brought) = (way.route.as_str(), transfer.upload.written() - before);
            metrics::counter!("photofinish_pulled_bytes_total", "route" => route)
                .increment(brought);
            if brought > 0 {
                // It goes on; whether fast enough its rate says.
                openings = 0;
            }
            let error = match read {
                Ok(()) => {
                    metrics::counter!("photofinish_pulls_total", "route" => route).increment(1);
                    return Ok(());
                }
                Err(PullError::Worker(error)) => error,
                Err(error) => {
                    if matches!(error, PullError::Slow(_)) {
                        self.routes.prefer_other(place, way.route);
                    }
                    return Err(error);
                }
            };
            tracing::debug!(attempt = %pull.attempt, item = pull.output.item, route,
                error = error_chain(&error), "pull broke");
            let other = self.routes.turn_from(place, way.route, &error);
            let first = match first.take() {
                None if other => {
                    first = Some(error);
                    continue;
                }
                first => first,
            };
            // A route that leads nowhere takes no hope from the other one, on which something came.
            let elsewhere =
                other && transfer.upload.written() > 0 && first.as_ref().is_some_and(passes);
            if openings >= OPENINGS_MAX || !(passes(&error) || elsewhere) {
                return Err(error.into());
            }
            let jitter = photofinish_runtime::clock::jitter();
            tokio::time::sleep(backoff::delay(openings, REOPEN, REOPEN_MAX, jitter)).await;
            openings += 1;
        }
    }

    /// Reads from where the transfer stands to the end.
    async fn read_on(
        &self,
        pull: &Pull,
        way: &Way,
        transfer: &mut Transfer,
    ) -> Result<(), PullError> {
        let at = transfer.upload.written();
        if at == pull.output.bytes && at > 0 {
            return Ok(());
        }
        let token = self.tokens.mint(Purpose::Output, &pull.attempt);
        let answer = way.port.get(&pull.path(), &token, at).await?;
        let mut skip = at.saturating_sub(answer.from);
        let mut pieces = Box::pin(answer.pieces());
        while let Some(piece) = pieces.next().await {
            let mut piece = piece?;
            let known = skip.min(piece.len() as u64);
            skip -= known;
            let fresh = piece.split_off(known as usize);
            if !fresh.is_empty() {
                transfer.take(fresh).await?;
            }
        }
        Ok(())
    }

    async fn transfer_rescued(&self, pull: &Pull) -> Result<Option<StoredOutput>, PullError> {
        let found = self
            .objects
            .rescued_stream(&pull.attempt, pull.output.index)
            .await?;
        let Some(mut rescued) = found else {
            return Ok(None);
        };
        let upload = self.objects.begin_output(pull.meta(OutputSource::Rescued));
        let mut transfer = Transfer::new(upload, 0);
        while let Some(piece) = rescued.stream.next().await {
            let taken = match piece {
                Ok(piece) => transfer.take(piece).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = taken {
                transfer.upload.abort().await;
                return Err(error);
            }
        }
        metrics::counter!("photofinish_pulled_bytes_total", "route" => "rescue")
            .increment(transfer.upload.written());
        metrics::counter!("photofinish_pulls_total", "route" => "rescue").increment(1);
        transfer.finish(&pull.output).await.map(Some)
    }

    /// Records a stored output: the first of an item in a run wins. An object that does not count
    /// is deleted, by whoever put it there.
    async fn record(&self, pull: &Pull, stored: &StoredOutput) -> Result<(), PullError> {
        let attempt = &pull.attempt;
        let (job, run, index) = (&attempt.job, attempt.run, pull.output.index);
        let state = ItemState::Stored(stored.clone());
        let mut settled = self.jobstore.settle_item(job, run, index, &state).await?;
        if settled == Settle::Missing {
            self.restore(attempt)
                .await
                .map_err(|error| PullError::Tell(Box::new(error)))?;
            settled = self.jobstore.settle_item(job, run, index, &state).await?;
        }
        match settled {
            Settle::First(counts) => {
                let moment = Moment::Progress(counts.settled());
                self.tell(attempt, EventType::JobProgress, moment, vec![index])
                    .await
                    .map_err(|error| PullError::Tell(Box::new(error)))?;
            }
            Settle::Already(_, ItemState::Stored(winner)) if winner.key == stored.key => {}
            Settle::Already(..) => self.objects.delete_output(&stored.key).await?,
            Settle::Missing => return Err(PullError::Unrecorded),
            Settle::RunOver => {}
        }
        // The run may have ended between the upload's begin and now, without this output.
        let end = self.objects.end(&attempt.tenant, job, run).await?;
        if end.is_some_and(|end| !lists(&end, &stored.key)) {
            self.objects.delete_output(&stored.key).await?;
        }
        Ok(())
    }

    /// Best effort: a worker that is not told lingers, until the next turn tells it.
    pub async fn acknowledge(&self, pull: &Pull) {
        let Some(place) = &pull.place else { return };
        if !pull.in_progress {
            return;
        }
        let token = self.tokens.mint(Purpose::Output, &pull.attempt);
        let path = pull.path();
        for tries in 0..ACKNOWLEDGEMENTS_MAX {
            let call = self.call(place, Method::DELETE, &path, &token, None);
            let Err(error) = call.await else { return };
            tracing::debug!(attempt = %pull.attempt, error = error_chain(&error),
                "acknowledge an output");
            if !passes(&error) {
                return;
            }
            let jitter = photofinish_runtime::clock::jitter();
            tokio::time::sleep(backoff::delay(tries, REOPEN, REOPEN_MAX, jitter)).await;
        }
    }
}

fn lists(end: &JobSnapshot, key: &str) -> bool {
    end.items
        .iter()
        .any(|row| matches!(&row.state, ItemState::Stored(output) if output.key == key))
}

/// Whether the same worker may give it yet.
pub(crate) fn passes(error: &PortError) -> bool {
    match error {
        PortError::Transport(_) | PortError::Stalled(_) => true,
        PortError::Status(status) => *status >= 500 || *status == 429,
        PortError::WorkerId | PortError::Pin(_) | PortError::Build(_) | PortError::Range => false,
    }
}
