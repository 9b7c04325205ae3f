//! `/v1/jobs/{id}/events`: what happens to a job, as server-sent events.
//!
//! A stream is made of the job's log of events and of what the job's own record tells, so that it works while the job
//! runs, afterwards, and when Redis was emptied. Between looks it waits for a wake-up, and looks by itself every 5 s.
//!
//! Guarantee: every event has the sequence that it has in webhooks and on AMQP; after `Last-Event-ID` only later ones
//! come; the stream ends after the event that ends the job's current run. When something that it needs is away, it
//! ends early, and the client resumes.

use super::Routes;
use crate::auth::AsTenant;
use crate::core::Ingest;
use crate::error::{Error, Refusal};
use crate::problems::Path;
use crate::streams::Seat;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use photofinish_contract::event::WebhookBody;
use photofinish_contract::messages::JobEvent;
use photofinish_contract::telling;
use photofinish_jobstore::EVENTS_PAGE_MAX;
use photofinish_model::sequence::{Moment, sequence};
use photofinish_model::{Code, JobId, JobSnapshot, Tenant};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use utoipa_axum::routes;

/// A stream that nobody wakes looks so often.
const LOOK: Duration = Duration::from_secs(5);
/// A stream in which nothing happens says so often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The key of a stream is checked again so often: a revoked one follows nothing.
const KEY_CHECK: Duration = Duration::from_secs(25);

pub(super) fn routes() -> Routes {
    Routes::default().routes(routes!(follow))
}

/// What happens to a job, as server-sent events, until its run ends.
///
/// `id` is the event's sequence, `event` its type, `data` the body that a webhook has (`WebhookBody`). Without
/// `Last-Event-ID` the stream begins with the current run's first event, whatever has happened since.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "events",
    params(("id" = JobId, Path, description = "The job"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Only events after this one")),
    responses(
        (status = 200, content((String = "text/event-stream")), description = "The events"),
        (status = 204, description = "Nothing comes after `Last-Event-ID`: the run has ended")))]
async fn follow(
    State(ingest): State<Arc<Ingest>>,
    AsTenant(tenant): AsTenant,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let last = last_event_id(&headers)?;
    let job = ingest.find(&tenant, &id).await?;
    let after = last.unwrap_or(sequence(job.run, Moment::Accepted) - 1);
    if job.status.is_final() && after >= sequence(job.run, Moment::Final) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let seat = ingest.streams.take(&tenant, &job.job)?;
    let following = Following {
        ingest,
        seat,
        headers,
        tenant,
        job: job.job,
        after,
        owed: VecDeque::new(),
        over: false,
        begun: false,
        key_checked: Instant::now(),
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("");
    let stream = Sse::new(following.events()).keep_alive(keep_alive);
    // nginx would else keep events back.
    Ok(([("x-accel-buffering", "no")], stream).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value.to_str().ok().map(str::trim).map(str::parse);
    if let Some(Ok(number)) = number {
        return Ok(Some(number));
    }
    let detail = "send `Last-Event-ID` as the stream gave it: the `id` of an event";
    Err(Refusal::new(422, Code::InvalidRequest, detail))
}

/// One stream.
struct Following {
    ingest: Arc<Ingest>,
    seat: Seat,
    /// Of the call, for its key.
    headers: HeaderMap,
    tenant: Tenant,
    job: JobId,
    /// The sequence of the last event that was sent.
    after: u64,
    owed: VecDeque<JobEvent>,
    /// Nothing comes after what is owed.
    over: bool,
    /// False: the next look is due at once.
    begun: bool,
    key_checked: Instant,
}

impl Following {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut following| async move {
            let event = following.next().await?;
            Some((Ok(event), following))
        })
    }

    /// The next event; nothing when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.owed.pop_front() {
                self.after = event.sequence;
                match self.ingest.event_body(&event).await {
                    Ok(Some(body)) => return written(&body),
                    // A run whose record is gone.
                    Ok(None) => continue,
                    Err(error) => return self.give_up(&error),
                }
            }
            if self.over || !self.wait().await {
                return None;
            }
            if let Err(error) = self.look().await {
                return self.give_up(&error);
            }
        }
    }

    /// Waits until it is worth a look; false when the stream must end.
    async fn wait(&mut self) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            return true;
        }
        tokio::select! {
            () = self.ingest.streams.shutdown.wait() => return false,
            _late = timeout(LOOK, self.seat.woken()) => {}
        }
        if self.key_checked.elapsed() < KEY_CHECK {
            return true;
        }
        self.key_checked = Instant::now();
        self.ingest.still_opens(&self.headers, &self.tenant).await
    }

    /// Finds out what is owed.
    async fn look(&mut self) -> Result<(), Error> {
        let Some(job) = self.ingest.followed(&self.tenant, &self.job).await? else {
            self.over = true;
            return Ok(());
        };
        let mut events: BTreeMap<u64, JobEvent> = telling::known(&job)
            .into_iter()
            .map(|event| (event.sequence, event))
            .collect();
        let end = sequence(job.run, Moment::Final);
        let logged = self
            .ingest
            .jobstore
            .events_after(&self.job, self.after)
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(
                    error = photofinish_runtime::error_chain(&error),
                    "no log of events"
                );
                Vec::new()
            });
        // The log goes on behind a page that is full: what the job's record knows, its end above all, waits for that.
        let full = logged.get(EVENTS_PAGE_MAX - 1);
        let until = full.map_or(end, |last| last.sequence.min(end));
        self.begun = until == end;
        events.extend(logged.into_iter().map(|event| (event.sequence, event)));
        self.owed = events
            .into_values()
            .filter(|event| event.sequence > self.after)
            .take_while(|event| event.sequence <= until)
            .collect();
        let ended = |event: &JobEvent| event.sequence == end;
        self.over = self.after >= end || self.owed.iter().any(ended);
        Ok(())
    }

    fn give_up(&self, error: &Error) -> Option<Event> {
        tracing::info!(
            job = %self.job,
            error = photofinish_runtime::error_chain(error),
            "a stream ends early"
        );
        None
    }
}

/// As it goes over the wire; nothing only if JSON cannot express it.
fn written(body: &WebhookBody) -> Option<Event> {
    let event = Event::default()
        .id(body.sequence.to_string())
        .event(body.event.as_str());
    event.json_data(body).ok()
}

impl Ingest {
    /// The job without its items, as far as that is enough; nothing when it is gone.
    async fn followed(&self, tenant: &Tenant, job: &JobId) -> Result<Option<JobSnapshot>, Error> {
        match self.jobstore.header(job).await {
            Ok(Some(header)) => return Ok(Some(header.job)),
            Ok(None) => {}
            Err(error) => tracing::debug!(
                error = photofinish_runtime::error_chain(&error),
                "Redis is away: asking the bucket"
            ),
        }
        self.rebuilt(tenant, job).await
    }

    /// The body of an event, as a webhook has it; nothing when its run is not known any more.
    async fn event_body(&self, event: &JobEvent) -> Result<Option<WebhookBody>, Error> {
        let of_run = |job: &JobSnapshot| {
            let ended = job.status.is_final() || !event.event.is_final();
            job.run == event.run && ended
        };
        let known = self.jobstore.job(&event.job).await.ok().flatten();
        let mut job = known.filter(of_run);
        if job.is_none() {
            let (tenant, id) = (&event.tenant, &event.job);
            job = self.objects.snapshot(tenant, id, event.run).await?;
        }
        let Some(job) = job else { return Ok(None) };
        let job = telling::as_of(event.event, job);
        let shown = telling::shown(event, &job);
        let signed = self.signed(&job, shown).await?;
        let sign = |key: &str| -> Option<(String, Timestamp)> { signed.get(key).cloned() };
        Ok(Some(telling::body(event, &job, self.view_settings(), sign)))
    }
}
