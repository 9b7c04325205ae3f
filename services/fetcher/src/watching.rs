//! What a turn asks and tells: RunPod's status, announcements, the start, the report.

use crate::error::{Error, chain};
use crate::turn::Turn;
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::announcement::{Announcement, AnnouncementKind};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{AttemptEnd, AttemptUsage, PartFinished};
use photofinish_contract::token::Purpose;
use photofinish_jobstore::{Started, Wanted};
use photofinish_model::attempt::{End, Event, Phase, Polled};
use photofinish_model::part::{Part, Phase as PartPhase};
use photofinish_model::sequence::Moment;
use photofinish_model::{ItemIndex, ItemState, RunPodId};
use photofinish_runpod::client::{JobStatus, StatusAnswer, StatusError};
use photofinish_runpod::proxy::Method;
use std::collections::BTreeSet;
use std::time::Duration;

/// A slot that is not renewed within this is asked after.
const SLOT_TTL: Duration = Duration::from_secs(60);

impl Turn {
    /// Asks whether the run goes on, then RunPod how the attempt stands.
    pub(crate) async fn poll(&mut self) -> Result<(), Error> {
        if !self.ask_wanted().await? {
            return Ok(());
        }
        if self.message.runpod_id.is_none() {
            self.look_for_id().await?;
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
                tracing::warn!(attempt = %self.message.attempt, error = chain(&error), "poll");
                Ok(())
            }
        }
    }

    /// Items that others have settled need no pull; false: the run is over, and so is the watch.
    async fn ask_wanted(&mut self) -> Result<bool, Error> {
        let attempt = self.message.attempt.clone();
        let mine: Vec<ItemIndex> = self.watch.wanted.iter().copied().collect();
        let wanted = self
            .core
            .jobstore
            .pending_items(&attempt.job, attempt.run, &mine)
            .await?;
        match wanted {
            Wanted::Items(open) => {
                for index in mine.into_iter().filter(|index| !open.contains(index)) {
                    let pulling = self
                        .watch
                        .outputs
                        .get(&index)
                        .is_some_and(|out| out.pulling);
                    if !pulling {
                        self.apply(Event::Stored(index)).await?;
                    }
                }
                Ok(true)
            }
            Wanted::RunOver => {
                self.apply(Event::RunOver).await?;
                Ok(false)
            }
            Wanted::Missing => {
                self.core.restore(&attempt).await?;
                Ok(true)
            }
        }
    }

    /// The answer to the submit may have come after this watch was published.
    async fn look_for_id(&mut self) -> Result<(), Error> {
        let attempt = &self.message.attempt;
        let stored = self
            .core
            .jobstore
            .part(&attempt.job, attempt.run, attempt.part)
            .await?;
        let part: Option<Part> = stored.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(PartPhase::InFlight {
            nonce,
            runpod_id: Some(id),
        }) = part.map(|part| part.phase)
            && nonce == attempt.nonce
        {
            self.adopt(id);
        }
        Ok(())
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
        let polled = polled(&answer);
        if let Polled::Running { .. } = polled {
            self.apply(Event::Polled(polled.clone())).await?;
            if let Some(early) = self.early.take() {
                self.on_announcement(early, true).await?;
            }
        }
        let said = answer
            .output
            .and_then(|output| serde_json::from_value(output).ok());
        if let Some(announcement) = said {
            self.on_announcement(Box::new(announcement), false).await?;
        }
        if let Polled::Running { .. } = polled {
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
        if self.message.watch.worker_id.is_none() {
            // Where the worker is, RunPod alone may say.
            self.early = Some(announcement);
            self.poll_now();
            return Ok(());
        }
        self.greet(&announcement);
        let fresh = self.learn(&announcement);
        let attempt = &self.message.attempt;
        for index in fresh {
            self.core
                .jobstore
                .mark_item(&attempt.job, attempt.run, index, &ItemState::Ready)
                .await?;
        }
        let pushed: BTreeSet<ItemIndex> = announcement.rescued.iter().copied().collect();
        let outputs = announcement.outputs.iter().map(|output| output.index);
        let outputs = outputs.filter(|index| !pushed.contains(index)).collect();
        let failed = announcement
            .errors
            .iter()
            .map(|error| error.index)
            .collect();
        if by_signal && announcement.kind == AnnouncementKind::Final {
            self.poll_now();
        }
        self.apply(Event::Announced {
            by_signal,
            outputs,
            failed,
        })
        .await
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
        self.message.watch.boot = Some(announcement.boot.clone());
        fresh
    }

    /// The worker waits for somebody to come; a pull may have to queue first.
    fn greet(&mut self, announcement: &Announcement) {
        let (false, Some(worker)) = (self.greeted, self.message.watch.worker_id.clone()) else {
            return;
        };
        if announcement.outputs.is_empty() || announcement.kind == AnnouncementKind::Final {
            return;
        }
        self.greeted = true;
        let core = self.core.clone();
        let attempt = self.message.attempt.clone();
        self.asides.spawn(async move {
            let token = core.tokens.mint(Purpose::Output, &attempt);
            let path = format!("/attempts/{}", attempt.nonce);
            if let Err(error) = core.proxy.call(Method::GET, &worker, &path, &token).await {
                tracing::debug!(%attempt, error = chain(&error), "greet a worker");
            }
        });
    }

    pub(crate) async fn ask_rescue(&self) {
        let Some(worker) = &self.message.watch.worker_id else {
            return;
        };
        let attempt = &self.message.attempt;
        let token = self.core.tokens.mint(Purpose::Output, attempt);
        let path = format!("/attempts/{}/rescue", attempt.nonce);
        if let Err(error) = self
            .core
            .proxy
            .call(Method::POST, worker, &path, &token)
            .await
        {
            tracing::debug!(%attempt, error = chain(&error), "ask a worker to push");
        }
    }

    pub(crate) async fn tell_started(&mut self) -> Result<(), Error> {
        if let Phase::Running { worker, since } = &self.watch.phase {
            self.message.watch.worker_id = Some(worker.clone());
            let at = *since;
            if self.message.watch.started_at.is_some() {
                return Ok(());
            }
            let attempt = self.message.attempt.clone();
            let mut started = self
                .core
                .jobstore
                .mark_started(&attempt.job, attempt.run, at)
                .await?;
            if started == Started::Missing && self.core.restore(&attempt).await? {
                started = self
                    .core
                    .jobstore
                    .mark_started(&attempt.job, attempt.run, at)
                    .await?;
            }
            if started != Started::RunOver {
                self.core
                    .tell(&attempt, EventType::JobStarted, Moment::Started, Vec::new())
                    .await?;
            }
            self.message.watch.started_at = Some(at);
        }
        Ok(())
    }

    /// Best effort: what runs on is cancelled again by the next watch of an ended run.
    pub(crate) async fn cancel(&self) {
        let Some(id) = &self.message.runpod_id else {
            return;
        };
        match self
            .core
            .runpod
            .cancel(&self.message.endpoint, id.as_str())
            .await
        {
            Ok(_) | Err(StatusError::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(attempt = %self.message.attempt, error = chain(&error), "cancel");
            }
        }
    }

    pub(crate) async fn renew_slot(&self) {
        let (endpoint, nonce) = (&self.message.endpoint, self.message.attempt.nonce.as_str());
        if let Err(error) = self.core.jobstore.renew(endpoint, nonce, SLOT_TTL).await {
            tracing::warn!(attempt = %self.message.attempt, error = chain(&error), "renew a slot");
        }
    }

    pub(crate) async fn report(&mut self, end: End) -> Result<(), Error> {
        let usage = AttemptUsage {
            gpu_seconds: self.executed_s.unwrap_or(self.spent.taken_s),
            linger_s: self.spent.linger_s,
            rescued: self.message.watch.rescued,
        };
        tracing::info!(attempt = %self.message.attempt, ?end, gpu_seconds = usage.gpu_seconds,
            linger_s = usage.linger_s, rescued = usage.rescued, missing = self.watch.wanted.len(),
            "attempt over");
        let message = PartFinished {
            attempt: self.message.attempt.clone(),
            endpoint: self.message.endpoint.clone(),
            end: attempt_end(end),
            errors: self.errors.values().cloned().collect(),
            usage,
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartFinished), &message)?
            .message_id(format!("{}.end", message.attempt.nonce));
        self.core.publisher.publish(outgoing).await?;
        Ok(())
    }
}

fn polled(answer: &StatusAnswer) -> Polled {
    match &answer.status {
        JobStatus::InQueue => Polled::Queued,
        JobStatus::InProgress | JobStatus::Unknown(_) => match &answer.worker_id {
            Some(worker) => Polled::Running {
                worker: worker.clone(),
                retries: answer.retries,
            },
            None => Polled::Queued,
        },
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

fn attempt_end(end: End) -> AttemptEnd {
    match end {
        End::Completed => AttemptEnd::Completed,
        End::Failed(reason) => AttemptEnd::Failed { reason },
        End::Lost(reason) => AttemptEnd::Lost { reason },
        End::NeverStarted => AttemptEnd::NeverStarted,
        End::Unknown => AttemptEnd::Unknown,
        End::RunOver => AttemptEnd::RunOver,
    }
}
