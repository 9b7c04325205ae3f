//! One attempt, from its input to its final announcement.
//!
//! Nouns: an [`AttemptInput`](photofinish_contract::attempt_input::AttemptInput) is what the
//! dispatcher gives; a [`take::Take`] is one taking of it by this worker; [`Attempts`] does them.
//!
//! Guarantee: every output is served from the moment it is ready until it is acknowledged, pushed
//! or given up under the rules of [`state`]; nothing of an attempt stays on disk after it. Not for:
//! how a picture becomes a clip (`operations`), how jobs come in (`inbound`).

pub mod directories;
pub mod registry;
pub mod rendering;
pub mod rescue;
mod signal;
pub mod state;
pub mod take;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use photofinish_contract::announcement::{Address, Announcement, AnnouncementKind};
use photofinish_contract::attempt_input::AttemptInput;
use photofinish_model::ItemIndex;
use photofinish_runtime::Tasks;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::directories::Roots;
use self::registry::Registry;
use self::rendering::Maker;
use self::rescue::OwnClient;
use self::state::{Lookup, Policy, State, Step};
use self::take::{Speaker, Take};

/// Outputs pushed at the same time.
const PUSHES_AT_ONCE: usize = 4;
/// The longest time that an input may ask for; keeps instants computable.
const TIME_MAX: Duration = Duration::from_hours(7 * 24);

/// Does attempts.
#[derive(Debug)]
pub struct Attempts {
    /// What makes the files.
    pub maker: Arc<dyn Maker>,
    /// What is being served.
    pub registry: Registry,
    /// Where files lie.
    pub roots: Roots,
    /// For pushes and signals.
    pub client: OwnClient,
    /// Random, new in each process.
    pub boot: String,
    /// Where outputs are served.
    pub addresses: Vec<Address>,
    /// For what goes on after an attempt.
    pub tasks: Tasks,
}

/// A job as it was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// RunPod's job id.
    pub run_id: String,
    /// RunPod's id of this worker.
    pub worker_id: String,
    /// When; the budget counts from here.
    pub since: Instant,
    /// RunPod has stopped the job: nothing is told any more.
    pub cancelled: CancellationToken,
    /// The worker is being stopped: save what there is.
    pub stopping: CancellationToken,
}

impl Attempts {
    /// Does one attempt; every announcement on the way is handed to `progress`. `None`: cancelled.
    pub async fn run(
        &self,
        input: &AttemptInput,
        taken: &Taken,
        progress: impl Fn(&Announcement) + Send,
    ) -> std::io::Result<Option<Announcement>> {
        let dirs = self.roots.make(&input.attempt.nonce)?;
        let take = self.take(input, taken, &dirs);
        let _served = self.registry.serve(Arc::clone(&take));
        let followed = take.announcements();
        take.announce(AnnouncementKind::Started);
        let ended = tokio::select! {
            biased;
            () = taken.cancelled.cancelled() => false,
            () = self.drive(&take, input) => true,
            () = forever(rendering::render(&*self.maker, &take, &input.work, &dirs)) => false,
            () = watch_end(&take, &taken.stopping) => false,
            () = follow(followed, progress) => false,
            () = signal::post_newest(&self.client, input.signal_url.as_deref(), &take) => false,
        };
        take.stop_rendering();
        if !ended {
            return Ok(None);
        }
        let last = take.announcement(AnnouncementKind::Final);
        tracing::info!(
            attempt = %input.attempt, run_id = taken.run_id, outputs = last.outputs.len(),
            errors = last.errors.len(), rescued = last.rescued.len(),
            taken_s = last.spent.taken_s, linger_s = last.spent.linger_s, "attempt over"
        );
        metrics::histogram!("photofinish_worker_linger_seconds").record(last.spent.linger_s);
        self.signal_last(input, &last);
        Ok(Some(last))
    }

    fn take(
        &self,
        input: &AttemptInput,
        taken: &Taken,
        dirs: &directories::Directories,
    ) -> Arc<Take> {
        let speaker = Speaker {
            run_id: taken.run_id.clone(),
            nonce: input.attempt.nonce.clone(),
            worker_id: taken.worker_id.clone(),
            boot: self.boot.clone(),
            addresses: self.addresses.clone(),
        };
        let policy = Policy {
            budget: seconds(input.budget_s),
            rescue_reserve: seconds(input.rescue_reserve_s),
            linger: seconds(input.linger_s),
            first_contact: seconds(input.first_contact_s),
        };
        let items = rendering::items_of(&input.work);
        let token = &input.output_token;
        Take::new(
            speaker,
            token,
            dirs.output.clone(),
            items,
            policy,
            taken.since,
        )
    }

    /// Carries out what the state says until it says that the attempt is over.
    async fn drive(&self, take: &Take, input: &AttemptInput) {
        loop {
            let step = take.state().step(take.now());
            match step {
                Step::Finish => return,
                Step::Push(items) => tokio::select! {
                    () = self.push(take, input, &items) => {}
                    () = hard_end(take) => {
                        let pushed = take.state().rescued();
                        let left = items.iter().filter(|index| !pushed.contains(index)).count();
                        metrics::counter!("photofinish_worker_pushes_total", "outcome" => "failed")
                            .increment(left as u64);
                        tracing::warn!(attempt = %input.attempt, left, "no time left to push");
                    }
                },
                Step::Wait(until) => tokio::select! {
                    () = take.changed() => {}
                    () = tokio::time::sleep_until(take.instant(until)) => {}
                },
            }
        }
    }

    async fn push(&self, take: &Take, input: &AttemptInput, items: &[ItemIndex]) {
        // One report at a time, so that an older one never replaces a newer one.
        let report = Mutex::new(());
        futures_util::stream::iter(items)
            .for_each_concurrent(PUSHES_AT_ONCE, |&index| {
                self.push_one(take, input, index, &report)
            })
            .await;
    }

    async fn push_one(
        &self,
        take: &Take,
        input: &AttemptInput,
        index: ItemIndex,
        report: &Mutex<()>,
    ) {
        let name = take.state().output(index).map(|output| output.name.clone());
        let target = input.rescue.iter().find(|target| target.index == index);
        let (Some(name), Some(target)) = (name, target) else {
            tracing::warn!(attempt = %input.attempt, index, "no address to push an output to");
            return take.change(|state| state.push_failed(index));
        };
        if matches!(take.state().lookup(&name), Lookup::Gone(_)) {
            return;
        }
        let path = take.dir().join(&name);
        take.change(State::push_begins);
        let span = tracing::info_span!(
            "push",
            otel.name = "PUT",
            otel.kind = "client",
            otel.status_code = tracing::field::Empty,
            "error.type" = tracing::field::Empty,
            "http.request.method" = "PUT",
            index
        );
        let put = self.client.put_file(&target.put_url, &path);
        let pushed = put.instrument(span.clone()).await;
        if pushed.is_err() {
            photofinish_runtime::trace::failed(&span, "not_put");
        }
        let outcome = if pushed.is_ok() { "pushed" } else { "failed" };
        metrics::counter!("photofinish_worker_pushes_total", "outcome" => outcome).increment(1);
        if let Err(error) = pushed {
            tracing::warn!(attempt = %input.attempt, index, %error, "output not pushed");
            return take.change(|state| state.push_failed(index));
        }
        tracing::info!(attempt = %input.attempt, index, "output pushed");
        take.change(|state| state.pushed(index));
        take.announce(AnnouncementKind::Rescued);
        let _one = report.lock().await;
        let newest = take.announcement(AnnouncementKind::Rescued);
        if let Err(error) = self.client.put_report(&input.report_put_url, &newest).await {
            tracing::warn!(attempt = %input.attempt, %error, "report not put");
        }
    }

    /// Tells that it is over without keeping the GPU for it.
    fn signal_last(&self, input: &AttemptInput, last: &Announcement) {
        let Some(url) = input.signal_url.clone() else {
            return;
        };
        let (client, last) = (self.client.clone(), last.clone());
        drop(self.tasks.spawn("last signal", async move {
            signal::post(&client, &url, &last).await;
        }));
    }
}

fn seconds(seconds: f64) -> Duration {
    // What cannot be a time counts as none.
    Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .min(TIME_MAX)
}

async fn forever(work: impl Future<Output = ()>) {
    work.await;
    std::future::pending::<()>().await;
}

/// Waits for the time after which nothing may be waited for; a stop brings it nearer.
async fn hard_end(take: &Take) {
    loop {
        let end = take.instant(take.state().hard_end());
        tokio::select! {
            () = tokio::time::sleep_until(end) => return,
            () = take.changed() => {}
        }
    }
}

/// Stops rendering when the time is over or the worker is told to stop; never returns.
async fn watch_end(take: &Take, stopping: &CancellationToken) {
    let rescue_at = take.instant(take.state().rescue_at());
    tokio::select! {
        () = stopping.cancelled() => {}
        () = tokio::time::sleep_until(rescue_at) => take.stop_rendering(),
    }
    stopping.cancelled().await;
    let now = take.now();
    take.change(|state| state.stopping(now));
    take.stop_rendering();
    std::future::pending::<()>().await;
}

/// Hands every announcement on; never returns.
async fn follow(
    mut announcements: tokio::sync::watch::Receiver<Option<Announcement>>,
    progress: impl Fn(&Announcement) + Send,
) {
    while announcements.changed().await.is_ok() {
        let newest = announcements.borrow_and_update().clone();
        if let Some(newest) = newest {
            progress(&newest);
        }
    }
    std::future::pending::<()>().await;
}
