//! What a turn asks: whether the run goes on, how RunPod's job stands, what the worker announces.

use crate::error::Error;
use crate::turn::Turn;
use photofinish_contract::announcement::{Announcement, AnnouncementKind, ItemError, ReadyOutput};
use photofinish_jobstore::{Swap, Wanted};
use photofinish_model::attempt::{End, Event, Polled};
use photofinish_model::part::{self, Part, PartPolicy, Phase as PartPhase};
use photofinish_model::{Code, Fault, ItemIndex, ItemState, RunPodId, SlotName};
use photofinish_runpod::client::{JobStatus, StatusAnswer, StatusError};
use photofinish_runtime::error_chain;
use std::collections::BTreeSet;
use std::time::Duration;

/// A slot that is not renewed within this is asked after.
const SLOT_TTL: Duration = Duration::from_secs(60);

impl Turn {
    /// Asks whether the run goes on, then RunPod how the attempt stands.
    pub(crate) async fn poll(&mut self) -> Result<(), Error> {
        if self.message.runpod_id.is_none() {
            self.look_for_id().await;
        }
        if !self.ask_wanted().await? {
            return Ok(());
        }
        let Some(id) = self.message.runpod_id.clone() else {
            return Ok(());
        };
        metrics::counter!("photofinish_runpod_polls_total").increment(1);
        match self
            .core
            .runpod
            .status(&self.message.endpoint, id.as_str())
            .await
        {
            Ok(answer) => self.on_status(answer).await,
            Err(StatusError::NotFound { .. }) => {
                let end = End::Lost("RunPod does not know it any more".to_owned());
                self.apply(Event::Polled(Polled::Over(end))).await
            }
            Err(error) => {
                tracing::warn!(attempt = %self.message.attempt, error = error_chain(&error), "poll");
                Ok(())
            }
        }
    }

    /// Items that others have settled need no pull; false: the run is over, and so is the watch.
    /// When nobody knows, everything is wanted.
    pub(crate) async fn ask_wanted(&mut self) -> Result<bool, Error> {
        let attempt = self.message.attempt.clone();
        let mine: Vec<ItemIndex> = self.watch.wanted.iter().copied().collect();
        let wanted = self
            .core
            .jobstore
            .pending_items(&attempt.job, attempt.run, &mine)
            .await;
        match wanted {
            Ok(Wanted::Items(open)) => {
                self.asked_wanted = true;
                for index in mine.into_iter().filter(|index| !open.contains(index)) {
                    let pulling = self
                        .watch
                        .outputs
                        .get(&index)
                        .is_some_and(|out| out.pulling);
                    if !pulling {
                        self.free(index);
                        self.apply(Event::Stored(index)).await?;
                    }
                }
                Ok(!self.watch.is_over())
            }
            Ok(Wanted::RunOver) => {
                self.apply(Event::RunOver).await?;
                Ok(false)
            }
            Ok(Wanted::Missing) => {
                self.core.restore(&attempt).await?;
                Ok(true)
            }
            Err(error) => {
                // A pull that is under way must not be broken off for it.
                tracing::warn!(%attempt, error = error_chain(&error), "ask what is wanted");
                Ok(true)
            }
        }
    }

    async fn stored_part(&self) -> Result<Option<(String, Part)>, Error> {
        let attempt = &self.message.attempt;
        let jobstore = &self.core.jobstore;
        let stored = jobstore
            .part(&attempt.job, attempt.run, attempt.part)
            .await?;
        Ok(stored.and_then(|text| {
            let part = serde_json::from_str(&text).ok()?;
            Some((text, part))
        }))
    }

    /// The answer to the submit may have come after this watch was published.
    async fn look_for_id(&mut self) {
        match self.stored_part().await {
            Ok(Some((_, part))) => {
                if let PartPhase::InFlight {
                    nonce,
                    runpod_id: Some(id),
                } = part.phase
                    && nonce == self.message.attempt.nonce
                {
                    self.adopt(id);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(attempt = %self.message.attempt, error = error_chain(&error),
                    "look for RunPod's id");
            }
        }
    }

    fn adopt(&mut self, id: RunPodId) {
        tracing::info!(attempt = %self.message.attempt, runpod_id = %id, "adopted");
        self.message.runpod_id = Some(id);
        self.watch.known = true;
    }

    async fn on_status(&mut self, answer: StatusAnswer) -> Result<(), Error> {
        if let Some(worker) = &answer.worker_id
            && self.message.watch.worker_id.is_none()
        {
            self.message.watch.worker_id = Some(worker.clone());
        }
        if let Some(ms) = answer.execution_time_ms {
            self.executed_s = Some(ms as f64 / 1000.0);
        }
        let polled = polled(&answer, self.message.watch.worker_id.as_deref());
        let running = matches!(polled, Polled::Running { .. });
        self.over_at_runpod = matches!(polled, Polled::Over(_));
        if running {
            self.apply(Event::Polled(polled.clone())).await?;
        }
        if let Some(early) = self.early.take() {
            self.on_announcement(early, true).await?;
        }
        let said = answer
            .output
            .and_then(|output| serde_json::from_value(output).ok());
        if let Some(announcement) = said {
            self.on_announcement(Box::new(announcement), false).await?;
        }
        if running {
            Ok(())
        } else {
            self.apply(Event::Polled(polled)).await
        }
    }

    /// An announcement by poll or by signal.
    pub(crate) async fn on_announcement(
        &mut self,
        announcement: Box<Announcement>,
        by_signal: bool,
    ) -> Result<(), Error> {
        if announcement.nonce != self.message.attempt.nonce {
            return Ok(());
        }
        if self.message.runpod_id.is_none()
            && let Ok(id) = RunPodId::try_from(announcement.run_id.clone())
        {
            self.adopt(id);
        }
        let Some(worker) = &self.message.watch.worker_id else {
            // Where the worker is, RunPod alone may say.
            self.early = Some(announcement);
            self.poll_now();
            return Ok(());
        };
        if *worker != announcement.worker_id {
            // RunPod has given the job to two: the one that it names counts, the poll finds out.
            tracing::info!(attempt = %self.message.attempt, worker,
                other = announcement.worker_id, "another worker speaks");
            self.message.watch.others = true;
            if by_signal {
                self.poll_now();
            }
            return Ok(());
        }
        let before = self.message.watch.boot.replace(announcement.boot.clone());
        if before.is_some_and(|boot| boot != announcement.boot) && !self.over_at_runpod {
            return self.apply(Event::Restarted).await;
        }
        if announcement.kind == AnnouncementKind::Final {
            self.nothing_pushed = announcement.nothing_pushed;
        }
        self.core.routes.learn(&announcement);
        let fresh = self.learn(&announcement);
        self.message
            .watch
            .rendering
            .clone_from(&announcement.rendering);
        self.greet(&announcement);
        let pushed: BTreeSet<ItemIndex> = announcement.rescued.iter().copied().collect();
        let outputs = announcement.outputs.iter();
        let outputs = outputs.filter(|output| self.fits(output));
        let outputs = outputs.map(|output| output.index);
        let outputs = outputs.filter(|index| !pushed.contains(index)).collect();
        let errors = announcement.errors.iter();
        let failed = errors.map(|error| error.index);
        let failed = failed.chain(self.refuse_too_large(&announcement)).collect();
        if announcement.kind == AnnouncementKind::Final && !self.over_at_runpod {
            // RunPod's own call comes in a moment; if it does not, the poll is soon enough.
            self.last_word = true;
        }
        if by_signal {
            self.message.watch.signalled = true;
            self.watch.signalled = true;
            self.poll_later();
        }
        self.apply(Event::Announced {
            by_signal,
            outputs,
            failed,
        })
        .await?;
        if announcement.kind != AnnouncementKind::Final {
            self.tell_failed().await?;
        }
        self.mark_ready(&fresh).await;
        Ok(())
    }

    /// True for an output that is taken at all.
    pub(crate) fn fits(&self, output: &ReadyOutput) -> bool {
        output.bytes <= self.core.config.output_bytes_max
    }

    /// Outputs that are larger than is taken: their items have failed, and the worker need not
    /// keep them.
    fn refuse_too_large(&mut self, announcement: &Announcement) -> Vec<ItemIndex> {
        let large = announcement.outputs.iter();
        let large: Vec<&ReadyOutput> = large.filter(|output| !self.fits(output)).collect();
        for output in &large {
            if !self.watch.wanted.contains(&output.index) {
                continue;
            }
            let detail = format!(
                "the output has {} bytes, more than the {} that are taken",
                output.bytes, self.core.config.output_bytes_max
            );
            let error = ItemError {
                index: output.index,
                fault: Fault::new(Code::OutputTooLarge, detail),
                permanent: true,
            };
            self.errors.insert(output.index, error);
            self.free(output.index);
        }
        large.into_iter().map(|output| output.index).collect()
    }

    /// What a client sees of it; no pull waits for that.
    async fn mark_ready(&self, fresh: &[ItemIndex]) {
        let attempt = &self.message.attempt;
        for index in fresh {
            let mark =
                self.core
                    .jobstore
                    .mark_item(&attempt.job, attempt.run, *index, &ItemState::Ready);
            if let Err(error) = mark.await {
                tracing::warn!(%attempt, error = error_chain(&error), "mark an item as ready");
                return;
            }
        }
    }

    /// Keeps what was announced; gives the outputs that are new.
    pub(crate) fn learn(&mut self, announcement: &Announcement) -> Vec<ItemIndex> {
        let mut fresh = Vec::new();
        for output in &announcement.outputs {
            if self.seen.insert(output.index, output.clone()).is_none()
                && self.watch.wanted.contains(&output.index)
            {
                fresh.push(output.index);
            }
        }
        for error in &announcement.errors {
            self.errors.insert(error.index, error.clone());
        }
        self.spent.taken_s = self.spent.taken_s.max(announcement.spent.taken_s);
        self.spent.linger_s = self.spent.linger_s.max(announcement.spent.linger_s);
        fresh
    }

    /// What runs on at RunPod costs money: a cancel that does not get through is tried again by
    /// the next receipt of this watch.
    pub(crate) async fn cancel(&self) -> Result<(), Error> {
        let Some(id) = &self.message.runpod_id else {
            return Ok(());
        };
        match self
            .core
            .runpod
            .cancel(&self.message.endpoint, id.as_str())
            .await
        {
            Ok(_) | Err(StatusError::NotFound { .. }) => Ok(()),
            // A job that has ended may be refused; and a wrong key someone must mend.
            Err(
                error @ (StatusError::Transient {
                    status: 400..=499, ..
                }
                | StatusError::Unauthorized { .. }),
            ) => {
                tracing::warn!(attempt = %self.message.attempt, error = error_chain(&error), "cancel");
                Ok(())
            }
            Err(error) => Err(Error::Cancel(error)),
        }
    }

    /// Vouches for the attempt: for its slot and for its part's record, should Redis have lost them.
    pub(crate) async fn vouch(&self) {
        let attempt = &self.message.attempt;
        let slot = SlotName::from(attempt).to_string();
        let renewed = self
            .core
            .jobstore
            .renew(&self.message.endpoint, &slot, SLOT_TTL);
        if let Err(error) = renewed.await {
            tracing::warn!(%attempt, error = error_chain(&error), "renew a slot");
        }
        if let Err(error) = self.put_record_back().await {
            tracing::warn!(%attempt, error = error_chain(&error), "vouch for a part");
        }
    }

    async fn put_record_back(&self) -> Result<(), Error> {
        let attempt = &self.message.attempt;
        let there = self.stored_part().await?;
        let (stored, part) = if let Some((text, part)) = there {
            (Some(text), part)
        } else {
            let known = self.message.state.as_deref().cloned();
            let part = known.unwrap_or_else(|| {
                let mut part = Part::new(self.message.items.iter().copied());
                part.attempt = attempt.attempt;
                part
            });
            (None, part)
        };
        let event = part::Event::Watched {
            attempt: attempt.attempt,
            nonce: attempt.nonce.clone(),
            endpoint: self.message.endpoint.clone(),
            runpod_id: self.message.runpod_id.clone(),
            items: self.message.items.iter().copied().collect(),
        };
        let ctx = part::Ctx {
            policy: PartPolicy::default(),
            jitter: 0.0,
        };
        let next = part.step(&event, &ctx).next;
        if stored.is_some() && next == part {
            return Ok(());
        }
        let next = serde_json::to_string(&next)?;
        let (job, run, number) = (&attempt.job, attempt.run, attempt.part);
        let jobstore = &self.core.jobstore;
        // One that was lost is taken up with the next tick.
        let (Swap::Swapped | Swap::Lost(_)) = jobstore
            .part_cas(job, run, number, stored.as_deref(), &next)
            .await?;
        Ok(())
    }
}

/// `known` is the worker that RunPod named before: an answer may leave it out.
fn polled(answer: &StatusAnswer, known: Option<&str>) -> Polled {
    match &answer.status {
        JobStatus::InQueue => Polled::Queued,
        JobStatus::InProgress | JobStatus::Unknown(_) => {
            match answer.worker_id.as_deref().or(known) {
                Some(worker) => Polled::Running {
                    worker: worker.to_owned(),
                    retries: answer.retries,
                },
                None => Polled::Queued,
            }
        }
        JobStatus::Completed => Polled::Over(End::Completed),
        JobStatus::Failed => {
            let said = answer.error.as_ref().map(|fault| fault.text.clone());
            Polled::Over(End::Failed(
                said.unwrap_or_else(|| "no reason given".to_owned()),
            ))
        }
        JobStatus::Cancelled => Polled::Over(End::Lost("cancelled at RunPod".to_owned())),
        JobStatus::TimedOut => Polled::Over(End::Lost("timed out at RunPod".to_owned())),
    }
}
