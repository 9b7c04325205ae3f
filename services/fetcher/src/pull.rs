//! One pull: worker or rescue prefix → SHA-256 → bucket → record → acknowledgement.

use crate::core::Core;
use crate::error::PullError;
use crate::permits::Waiting;
use crate::routes::{Place, Way};
use crate::telemetry;
use crate::transfer::{Progress, Transfer};
use futures_util::StreamExt as _;
use photofinish_contract::announcement::ReadyOutput;
use photofinish_contract::event::EventType;
use photofinish_contract::token::Purpose;
use photofinish_jobstore::{GoesOn, Settle, Wanted};
use photofinish_model::sequence::Moment;
use photofinish_model::{AttemptRef, ItemState, JobSnapshot, OutputSource, StoredOutput};
use photofinish_objects::{Class, OutputMeta, Rescued};
use photofinish_runpod::port::{Method, PortError};
use photofinish_runtime::{backoff, error_chain, trace};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// Openings in a row that brought nothing, each on every route there is, before the pull counts as broken.
const OPENINGS_MAX: u32 = 6;
/// PUTs of the same bytes that broke in a row before the pull counts as broken.
const PUTS_MAX: u32 = 4;
/// Tries of one acknowledgement.
const ACKNOWLEDGEMENTS_MAX: u32 = 3;
/// The pause before a transfer is opened again; doubled each time, up to the longest.
const REOPEN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(3);

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
    /// The same item as the workers of older attempts pushed it, for want of better.
    pub late: Vec<Late>,
    /// How far it has come.
    pub progress: Arc<Progress>,
}

/// An output that the worker of an older attempt of the part pushed.
#[derive(Debug, Clone)]
pub struct Late {
    /// Its attempt.
    pub attempt: AttemptRef,
    /// What that worker's report says of it.
    pub output: ReadyOutput,
}

impl Pull {
    fn path(&self) -> String {
        // Names are `{index:04}-{safe item}.mp4`, made by our worker; anything else is a stranger.
        format!(
            "/attempts/{}/outputs/{}",
            self.attempt.nonce, self.output.name
        )
    }

    pub(crate) fn meta(&self, source: OutputSource) -> OutputMeta {
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

impl Core {
    /// Pulls one output; when it returns the output is stored, recorded and acknowledged, or it
    /// was settled already. Gives how it came, if it was this pull that stored it.
    pub async fn pull(
        &self,
        pull: &Pull,
        waiting: Waiting,
    ) -> Result<Option<OutputSource>, PullError> {
        if pull.broken > 0 {
            let jitter = photofinish_runtime::clock::jitter();
            let tries = u32::from(pull.broken);
            tokio::time::sleep(backoff::delay(tries, REOPEN, REOPEN_MAX, jitter)).await;
        }
        let Some(_permit) = waiting.permit().await else {
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
                self.clear_rescued(pull).await;
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
        let (settled, goes_on) = self.settle(pull, &stored).await?;
        // The worker waits for the one, a client for the other.
        let (told, ()) = tokio::join!(
            self.follow_up(pull, &stored, settled, goes_on),
            self.acknowledge(pull)
        );
        told?;
        self.clear_rescued(pull).await;
        Ok(Some(stored.source))
    }

    /// From wherever the output can be had: what its worker pushed, the worker, what the workers of
    /// older attempts pushed. A fault of ours is told before any other: it is no loss.
    async fn transfer(&self, pull: &Pull) -> Result<StoredOutput, PullError> {
        let mut failed = PullError::Unannounced;
        if pull.rescued {
            match self.transfer_rescued(pull).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                Err(error) => failed = error,
            }
        }
        if let Some(place) = &pull.place {
            match self.transfer_from(pull, place).await {
                Ok(stored) => return Ok(stored),
                Err(error) => failed = graver(failed, error),
            }
        }
        for late in &pull.late {
            let older = Pull {
                attempt: late.attempt.clone(),
                output: late.output.clone(),
                ..pull.clone()
            };
            match self.transfer_rescued(&older).await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                Err(error) => failed = graver(failed, error),
            }
        }
        Err(failed)
    }

    async fn transfer_from(&self, pull: &Pull, place: &Place) -> Result<StoredOutput, PullError> {
        let source = if pull.in_progress {
            OutputSource::PulledInProgress
        } else {
            OutputSource::PulledLate
        };
        self.carry(pull, source, &mut From::Worker(place)).await
    }

    async fn transfer_rescued(&self, pull: &Pull) -> Result<Option<StoredOutput>, PullError> {
        let index = pull.output.index;
        let found = self.objects.rescued_stream(&pull.attempt, index, 0).await?;
        let Some(rescued) = found else {
            return Ok(None);
        };
        let (got, expected) = (rescued.bytes, pull.output.bytes);
        if got != expected {
            return Err(PullError::Short { got, expected });
        }
        let mut from = From::Bucket(Some(rescued));
        let stored = self.carry(pull, OutputSource::Rescued, &mut from).await?;
        metrics::counter!("photofinish_pulls_total", "route" => "rescue").increment(1);
        Ok(Some(stored))
    }

    /// Carries an output into the bucket. What the bucket breaks off is sent again from where it
    /// broke, as long as its source has it.
    async fn carry(
        &self,
        pull: &Pull,
        source: OutputSource,
        from: &mut From<'_>,
    ) -> Result<StoredOutput, PullError> {
        let mut transfer = Transfer::begin(self, pull, source).await?;
        let (mut broken, mut best) = (0, 0);
        loop {
            let read = match from {
                From::Worker(place) => self.read_all(pull, place, &mut transfer).await,
                From::Bucket(opened) => self.read_rescued(pull, opened.take(), &mut transfer).await,
            };
            let carried = match read {
                Ok(()) => transfer.finish().await,
                Err(error) => Err(error),
            };
            match carried {
                Ok(stored) => return Ok(stored),
                Err(PullError::Objects(error))
                    if error.class() == Class::Transient && broken < PUTS_MAX =>
                {
                    tracing::debug!(attempt = %pull.attempt, error = error_chain(&error), "again");
                    transfer.rewind().await;
                    if transfer.at() > best {
                        (best, broken) = (transfer.at(), 0);
                    }
                    let jitter = photofinish_runtime::clock::jitter();
                    tokio::time::sleep(backoff::delay(broken, REOPEN, REOPEN_MAX, jitter)).await;
                    broken += 1;
                }
                Err(error) => {
                    transfer.abort().await;
                    return Err(error);
                }
            }
        }
    }

    /// Reads to the end, on whichever route leads there: a break turns to the other one at once, a
    /// second break pauses.
    async fn read_all(
        &self,
        pull: &Pull,
        place: &Place,
        transfer: &mut Transfer<'_>,
    ) -> Result<(), PullError> {
        let (mut openings, mut first) = (0, None);
        loop {
            let before = transfer.came();
            let way = self.routes.way(place)?;
            let route = way.route.as_str();
            let span = telemetry::get_span(pull, route);
            let read = self.read_on(pull, &way, transfer);
            let read = read.instrument(span.clone()).await;
            if read.is_err() {
                trace::failed(&span, "broken");
            }
            let brought = transfer.came() - before;
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
            let elsewhere = other && transfer.at() > 0 && first.as_ref().is_some_and(passes);
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
        transfer: &mut Transfer<'_>,
    ) -> Result<(), PullError> {
        let at = transfer.at();
        if at == pull.output.bytes && at > 0 {
            return Ok(());
        }
        let token = self.tokens.mint(Purpose::Output, &pull.attempt);
        let port = way.port.clone().traced(trace::current_traceparent());
        let answer = port
            .get_unchanged(&pull.path(), &token, at, &pull.output.sha256)
            .await?;
        let mut skip = at.saturating_sub(answer.from);
        let mut pieces = Box::pin(answer.pieces());
        while let Some(piece) = pieces.next().await {
            let mut piece = piece?;
            let known = skip.min(piece.len() as u64);
            skip -= known;
            let fresh = piece.split_off(known as usize);
            if !fresh.is_empty() {
                transfer.take(fresh, self.config.pull_rate_min).await?;
            }
        }
        if transfer.at() < pull.output.bytes {
            // Without a length of its own an answer that was cut looks like one that is whole.
            return Err(PortError::Ended.into());
        }
        Ok(())
    }

    async fn read_rescued(
        &self,
        pull: &Pull,
        opened: Option<Rescued>,
        transfer: &mut Transfer<'_>,
    ) -> Result<(), PullError> {
        let (index, at) = (pull.output.index, transfer.at());
        if at == pull.output.bytes && at > 0 {
            return Ok(());
        }
        let mut rescued = match opened {
            Some(opened) => opened,
            None => match self
                .objects
                .rescued_stream(&pull.attempt, index, at)
                .await?
            {
                Some(found) => found,
                None => return Err(PullError::Unannounced),
            },
        };
        while let Some(piece) = rescued.stream.next().await {
            let piece = piece?;
            metrics::counter!("photofinish_pulled_bytes_total", "route" => "rescue")
                .increment(piece.len() as u64);
            transfer.take(piece, 0).await?;
        }
        Ok(())
    }

    /// Records a stored output: the first of an item in a run wins.
    async fn settle(
        &self,
        pull: &Pull,
        stored: &StoredOutput,
    ) -> Result<(Settle, GoesOn), PullError> {
        let attempt = &pull.attempt;
        let (job, run, index) = (&attempt.job, attempt.run, pull.output.index);
        let settled = self.jobstore.settle_output(job, run, index, stored).await?;
        if settled.0 != Settle::Missing {
            return Ok(settled);
        }
        self.restore(attempt)
            .await
            .map_err(|error| PullError::Tell(Box::new(error)))?;
        Ok(self.jobstore.settle_output(job, run, index, stored).await?)
    }

    /// Tells of it; an object that does not count is deleted, by whoever put it there.
    async fn follow_up(
        &self,
        pull: &Pull,
        stored: &StoredOutput,
        settled: Settle,
        goes_on: GoesOn,
    ) -> Result<(), PullError> {
        let attempt = &pull.attempt;
        let (job, run, index) = (&attempt.job, attempt.run, pull.output.index);
        match settled {
            Settle::First(counts) => {
                telemetry::race_won(stored.source);
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
        if goes_on == GoesOn::Surely {
            return Ok(());
        }
        // The run may have ended between the upload's begin and now, without this output.
        let end = self.objects.end(&attempt.tenant, job, run).await?;
        if end.is_some_and(|end| !lists(&end, &stored.key)) {
            self.objects.delete_output(&stored.key).await?;
        }
        Ok(())
    }

    /// What was pushed of a stored output is not needed any more. Best effort: the run's end
    /// deletes what is left.
    async fn clear_rescued(&self, pull: &Pull) {
        let own = pull.rescued.then_some(&pull.attempt);
        for attempt in own
            .into_iter()
            .chain(pull.late.iter().map(|late| &late.attempt))
        {
            let delete = self.objects.delete_rescued(attempt, pull.output.index);
            if let Err(error) = delete.await {
                tracing::debug!(%attempt, error = error_chain(&error), "delete a rescued file");
            }
        }
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

/// Where bytes come from.
enum From<'a> {
    Worker(&'a Place),
    /// The rescue prefix; what is opened already is read first.
    Bucket(Option<Rescued>),
}

/// Of two faults the one that is ours, else the later one.
fn graver(first: PullError, later: PullError) -> PullError {
    if first.is_ours() && !later.is_ours() {
        first
    } else {
        later
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
        PortError::Transport(_) | PortError::Stalled(_) | PortError::Ended => true,
        PortError::Status(status) => *status >= 500 || *status == 429,
        PortError::WorkerId
        | PortError::Pin(_)
        | PortError::Build(_)
        | PortError::Range
        | PortError::Changed => false,
    }
}
