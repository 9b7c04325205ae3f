//! One turn of a watch: polls, signals and pulls in, one event each; the model says what to do.

use crate::core::Core;
use crate::error::{Error, PullError};
use crate::hub::Ear;
use crate::pull::{Late, Pull};
use crate::telemetry;
use crate::transfer::Progress;
use photofinish_contract::announcement::{Announcement, ItemError, ReadyOutput, Spent};
use photofinish_contract::messages::{Heard, PartSubmitted, WatchState};
use photofinish_model::attempt::{Command, Ctx, Event, Phase, Watch};
use photofinish_model::{AttemptRef, ItemIndex, OutputSource};
use photofinish_runtime::{error_chain, trace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;

/// How often time alone is an event, and the attempt is vouched for.
const TICK: Duration = Duration::from_secs(10);

/// What becomes of the watch's message.
#[derive(Debug)]
pub enum TurnEnd {
    /// It is published again with this body.
    Again(Box<PartSubmitted>),
    /// The attempt is over and reported, or another watch of it lives here.
    Reported,
}

type Pulled = (ItemIndex, Result<Option<OutputSource>, PullError>);

enum Input {
    Poll,
    Heard(Heard),
    TakenOver,
    Pulled(Pulled),
    Tick,
    /// The turn is to end; pulls may go on for so long.
    Ending(Duration),
}

/// A pull at work.
struct UnderWay {
    task: AbortHandle,
    bytes: u64,
    progress: Arc<Progress>,
}

/// A watch at work.
pub struct Turn {
    pub(crate) core: Arc<Core>,
    pub(crate) message: PartSubmitted,
    pub(crate) watch: Watch,
    /// Outputs as they were announced last.
    pub(crate) seen: BTreeMap<ItemIndex, ReadyOutput>,
    pub(crate) errors: BTreeMap<ItemIndex, ItemError>,
    pub(crate) spent: Spent,
    /// Seconds of execution as RunPod reports them.
    pub(crate) executed_s: Option<f64>,
    /// An announcement that came before a poll told the worker.
    pub(crate) early: Option<Box<Announcement>>,
    /// RunPod calls it over; what is pulled from now on is pulled late.
    pub(crate) over_at_runpod: bool,
    /// The worker has said its last word, or RunPod's webhook has: its status will follow in a moment.
    pub(crate) last_word: bool,
    /// The worker's last word was heard, and it was that it began no push.
    pub(crate) nothing_pushed: bool,
    /// The run was asked what it still wants.
    pub(crate) asked_wanted: bool,
    /// Items that this turn has stored and acknowledged.
    pub(crate) stored: BTreeSet<ItemIndex>,
    pub(crate) greeted: bool,
    pub(crate) told_wanted: bool,
    /// Small calls under way; the turn does not wait for them.
    pub(crate) asides: JoinSet<()>,
    /// What older attempts of the part have pushed of items that are missing.
    late: BTreeMap<ItemIndex, Vec<Late>>,
    pulls: JoinSet<Pulled>,
    under_way: BTreeMap<ItemIndex, UnderWay>,
    poll_at: Instant,
    /// The turn ends; pulls that are still under way then are broken off.
    ending: Option<Instant>,
}

impl Turn {
    /// Takes a watch up where its message stands.
    pub fn new(core: Arc<Core>, message: PartSubmitted) -> Self {
        let budget = Duration::try_from_secs_f64(message.budget_s).unwrap_or_default();
        let items = message.items.iter().copied();
        let known = message.runpod_id.is_some();
        let mut watch = Watch::new(items, message.submitted_at, budget, known);
        if let (Some(worker), Some(since)) = (&message.watch.worker_id, message.watch.started_at) {
            watch.phase = Phase::Running {
                worker: worker.clone(),
                since,
            };
        }
        watch.signalled = message.watch.signalled;
        let poll_at = Instant::now() + first_poll(&core, &message);
        Self {
            core,
            message,
            watch,
            seen: BTreeMap::new(),
            errors: BTreeMap::new(),
            spent: Spent::default(),
            executed_s: None,
            early: None,
            over_at_runpod: false,
            last_word: false,
            nothing_pushed: false,
            asked_wanted: false,
            stored: BTreeSet::new(),
            greeted: false,
            told_wanted: false,
            asides: JoinSet::new(),
            late: BTreeMap::new(),
            pulls: JoinSet::new(),
            under_way: BTreeMap::new(),
            poll_at,
            ending: None,
        }
    }

    pub(crate) fn ctx(&self) -> Ctx {
        Ctx {
            now: self.core.clock.now(),
            policy: self.core.config.watch,
        }
    }

    /// Watches for one turn.
    pub async fn run(mut self) -> Result<TurnEnd, Error> {
        let mut ear = self.core.hub.listen(&self.message.attempt.nonce);
        let begun = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let input = self.next_input(&mut ear, &mut tick, begun).await;
            // Boxed: thousands of watches wait, and a waiting one need not have room for all it may do.
            match input {
                Input::Poll => {
                    Box::pin(self.poll()).await?;
                    self.poll_at = Instant::now() + self.pause();
                }
                Input::Heard(heard) => Box::pin(self.on_heard(heard)).await?,
                // A copy of the message came later and is watched here, too: it lives.
                Input::TakenOver => return Ok(TurnEnd::Reported),
                Input::Pulled((index, result)) => Box::pin(self.on_pulled(index, result)).await?,
                Input::Tick => {
                    Box::pin(self.vouch()).await;
                    // Polls may be rare; that the run is over must be known sooner.
                    if Box::pin(self.ask_wanted()).await? {
                        Box::pin(self.apply(Event::Tick)).await?;
                    }
                }
                Input::Ending(grace) => self.end_within(grace),
            }
            if self.watch.is_over() {
                return Ok(TurnEnd::Reported);
            }
            if self.ending.is_some() && self.pulls.is_empty() {
                return Ok(TurnEnd::Again(Box::new(self.message)));
            }
        }
    }

    /// Only chooses; what is chosen is handled by the caller.
    async fn next_input(
        &mut self,
        ear: &mut Ear,
        tick: &mut tokio::time::Interval,
        begun: Instant,
    ) -> Input {
        let config = &self.core.config;
        let going_on = self.ending.is_none();
        let over = match self.ending {
            Some(at) => at,
            None if self.pulls.is_empty() => begun + config.turn_max,
            None => begun + config.pulling_turn_max,
        };
        tokio::select! {
            Some(pulled) = self.pulls.join_next(), if !self.pulls.is_empty() => match pulled {
                Ok(pulled) => Input::Pulled(pulled),
                // Broken off, or it panicked: the message comes again and everything with it.
                Err(_) => Input::Ending(config.shutdown_grace),
            },
            heard = ear.heard.recv(), if going_on => heard.map_or(Input::TakenOver, Input::Heard),
            () = tokio::time::sleep_until(self.poll_at), if going_on => Input::Poll,
            _ = tick.tick() => Input::Tick,
            () = self.core.shutdown.wait(), if going_on => Input::Ending(config.shutdown_grace),
            () = tokio::time::sleep_until(over) => Input::Ending(Duration::ZERO),
        }
    }

    /// Pulls that will be done by then are finished; the others are broken off at once, so that
    /// whoever takes the watch over begins while their worker waits.
    fn end_within(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        let at = self.ending.map_or(at, |earlier| earlier.min(at));
        self.ending = Some(at);
        let left = at.saturating_duration_since(Instant::now());
        for pull in self.under_way.values() {
            if !pull.progress.ends_within(pull.bytes, left) {
                pull.task.abort();
            }
        }
        if left.is_zero() {
            self.pulls.abort_all();
        }
    }

    fn pause(&self) -> Duration {
        let ctx = self.ctx();
        match self.watch.poll_after(&ctx) {
            Some(pause) if self.last_word => pause.min(ctx.policy.running_poll),
            Some(pause) => pause,
            None => TICK,
        }
    }

    /// Polls after the usual pause: what was just heard is as good as a poll.
    pub(crate) fn poll_later(&mut self) {
        self.poll_at = Instant::now() + self.pause();
    }

    /// Polls at once.
    pub(crate) fn poll_now(&mut self) {
        self.poll_at = Instant::now();
    }

    async fn on_heard(&mut self, heard: Heard) -> Result<(), Error> {
        match heard {
            Heard::Completed => {
                self.last_word = true;
                self.poll_now();
                Ok(())
            }
            Heard::Announcement(announcement) => self.on_announcement(announcement, true).await,
        }
    }

    async fn on_pulled(
        &mut self,
        index: ItemIndex,
        result: Result<Option<OutputSource>, PullError>,
    ) -> Result<(), Error> {
        self.under_way.remove(&index);
        match result {
            Ok(source) => {
                if source == Some(OutputSource::Rescued) {
                    self.message.watch.rescued += 1;
                }
                self.stored.insert(index);
                self.apply(Event::Stored(index)).await
            }
            Err(error) => {
                tracing::warn!(attempt = %self.message.attempt, index, error = error_chain(&error),
                    "a pull broke");
                telemetry::pull_broke();
                let closing = matches!(
                    self.watch.phase,
                    Phase::Rescuing { .. } | Phase::Closing { .. }
                );
                if closing && error.is_ours() {
                    // Not lost: the watch begins anew, finds it over, and looks for it again.
                    return Err(Error::Pull(error));
                }
                self.apply(match error {
                    PullError::Slow(_) => Event::PullSlow(index),
                    PullError::Worker(_)
                    | PullError::Objects(_)
                    | PullError::JobStore(_)
                    | PullError::Tell(_)
                    | PullError::Short { .. }
                    | PullError::Unannounced
                    | PullError::Unrecorded => Event::PullBroke(index),
                })
                .await
            }
        }
    }

    /// Steps the watch and does what it says. Listing the rescue prefix is an event of its own,
    /// so events are worked off from a queue.
    pub(crate) async fn apply(&mut self, event: Event) -> Result<(), Error> {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let step = self.watch.step(&event, &self.ctx());
            self.watch = step.next;
            for command in step.commands {
                if let Some(next) = self.perform(command).await? {
                    events.push(next);
                }
            }
        }
        Ok(())
    }

    async fn perform(&mut self, command: Command) -> Result<Option<Event>, Error> {
        match command {
            Command::TellStarted => self.tell_started().await?,
            Command::Pull(index) => self.start_pull(index, false),
            Command::PullRescued(index) => self.start_pull(index, true),
            Command::AskRescue => self.ask_rescue().await,
            Command::ListRescue => return self.list_rescue().await.map(Some),
            Command::Cancel => self.cancel().await?,
            Command::Report(end) => self.report(end).await?,
        }
        Ok(None)
    }

    fn start_pull(&mut self, index: ItemIndex, rescued: bool) {
        let late = self.late.get(&index).cloned().unwrap_or_default();
        let (attempt, output) = match (self.seen.get(&index), late.first()) {
            (Some(output), _) => (self.message.attempt.clone(), output.clone()),
            // Only an older attempt has it.
            (None, Some(late)) => (late.attempt.clone(), late.output.clone()),
            (None, None) => {
                let unknown = async move { (index, Err(PullError::Unannounced)) };
                self.pulls.spawn(unknown);
                return;
            }
        };
        let place = self.place().filter(|_| self.seen.contains_key(&index));
        let worker = place.as_ref().map_or("", |place| place.worker.as_str());
        let waiting = self.core.permits.queue(worker);
        let in_progress = matches!(self.watch.phase, Phase::Running { .. }) && !self.over_at_runpod;
        let known = self.watch.outputs.get(&index);
        let progress = Arc::new(Progress::default());
        let pull = Pull {
            attempt,
            output,
            place,
            rescued,
            in_progress,
            broken: known.map_or(0, |output| output.broken),
            late,
            progress: progress.clone(),
        };
        let (core, bytes) = (self.core.clone(), pull.output.bytes);
        let span = telemetry::pull_span(&pull);
        let inside = span.clone();
        let pulling = async move {
            let pulled = core.pull(&pull, waiting).await;
            if pulled.is_err() {
                trace::failed(&inside, "broken");
            }
            (index, pulled)
        };
        let task = self.pulls.spawn(pulling.instrument(span));
        let pull = UnderWay {
            task,
            bytes,
            progress,
        };
        self.under_way.insert(index, pull);
    }

    /// Looks for what is missing wherever workers of the part pushed to, older attempts included:
    /// one that was given up may have pushed later.
    async fn list_rescue(&mut self) -> Result<Event, Error> {
        if self.watch.wanted.is_empty() {
            return Ok(Event::RescueListed(BTreeSet::new()));
        }
        let attempt = self.message.attempt.clone();
        let mut listed = self.core.objects.list_rescued(&attempt).await?;
        let own = listed.remove(&attempt.attempt).unwrap_or_default();
        let mut found: BTreeSet<ItemIndex> = own.files.keys().copied().collect();
        if own.report
            && let Some(report) = self.core.objects.rescue_report(&attempt).await?
        {
            self.learn(&report);
        }
        for (number, listing) in listed {
            let missing = |index: &ItemIndex| self.watch.wanted.contains(index);
            if !listing.report || !listing.files.keys().any(missing) {
                continue;
            }
            let older = AttemptRef {
                attempt: number,
                ..attempt.clone()
            };
            let Some(report) = self.core.objects.rescue_report(&older).await? else {
                continue;
            };
            for output in report.outputs {
                let index = output.index;
                let whole = listing.files.get(&index) == Some(&output.bytes);
                if whole && self.watch.wanted.contains(&index) && self.fits(&output) {
                    tracing::info!(%attempt, index, older = number, "an older attempt pushed it");
                    found.insert(index);
                    let attempt = older.clone();
                    let late = Late { attempt, output };
                    self.late.entry(index).or_default().push(late);
                }
            }
        }
        Ok(Event::RescueListed(found))
    }
}

/// An attempt that was submitted a moment ago is not on a worker yet, or its worker says so.
fn first_poll(core: &Core, message: &PartSubmitted) -> Duration {
    if message.runpod_id.is_none() || message.watch != WatchState::default() {
        return Duration::ZERO;
    }
    let waited = core.clock.now().duration_since(message.submitted_at);
    let waited = Duration::try_from(waited).unwrap_or_default();
    core.config.watch.queued_poll.saturating_sub(waited)
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn")
            .field("attempt", &self.message.attempt)
            .finish_non_exhaustive()
    }
}
