//! `notifier.deliver`: one try of one delivery.

use crate::core::Notifier;
use crate::error::Error;
use crate::records::record_of;
use crate::telemetry;
use jiff::Timestamp;
use photofinish_broker::{Disposition, Incoming};
use photofinish_contract::messages::{AnyEvent, DeliveryDue};
use photofinish_jobstore::{
    Begun, CachedRecord, DeliveryRecord, DeliveryView, JobStoreError, Receipt, Recorded, Turn,
};
use photofinish_model::JobId;
use photofinish_model::delivery::{Answer, DeliveryStatus, Next, after, spent, uncalled};
use photofinish_model::line::Why;
use photofinish_model::webhook::Call;
use std::time::Duration;
use uuid::Uuid;

use crate::sender::Tried;

/// A delivery that found no slot so seldom is not given up for its age.
const CHANCES_MIN: u32 = 20;

/// A try by its place: among all tries of the delivery, and in its round.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: u16,
    in_round: u16,
    /// Since the round began.
    age: Duration,
}

/// The copy of the record that says where it goes.
type Copied = Result<Option<CachedRecord>, JobStoreError>;

/// What came of a message's turn.
enum Called {
    Tried(Tried),
    /// Nothing was tried: it comes back after this.
    SentAway(Duration),
}

impl Notifier {
    /// Handles one message of the queue.
    pub(crate) async fn on_delivery(&self, incoming: Incoming) -> Disposition {
        let due: DeliveryDue = match incoming.json() {
            Ok(due) => due,
            Err(error) => {
                return Disposition::DeadLetter {
                    code: "undecodable",
                    reason: photofinish_runtime::error_chain(&error),
                };
            }
        };
        let job = due.event.job().map_or("", JobId::as_str);
        photofinish_runtime::trace::about(due.event.tenant(), job);
        let _alone = self.in_hand.take(&due.delivery).await;
        let (begun, copy) = self.begin(&due, &incoming).await;
        let known = match begun {
            Begun::Pass(known) => known,
            Begun::Drop => {
                metrics::counter!("photofinish_notifier_copies_dropped_total").increment(1);
                return Disposition::Ack;
            }
        };
        match known.as_ref().map(|view| view.status) {
            Some(DeliveryStatus::Delivered | DeliveryStatus::Failed) => return Disposition::Ack,
            Some(DeliveryStatus::Pending) | None => {}
        }
        let place = place(&due, &incoming, known.as_deref(), self.clock.now());
        let calling = self.call(&due, place, sent_away(&incoming), copy);
        match calling.await {
            Ok(Called::Tried(tried)) => self.conclude(&due, place, tried).await,
            Ok(Called::SentAway(wait)) => Disposition::Snooze { wait, mark: None },
            Err(error) if error.gives_up(incoming.attempt) => {
                tracing::error!(
                    delivery = due.delivery,
                    error = photofinish_runtime::error_chain(&error),
                    "given up"
                );
                let why = "it could not be prepared".to_owned();
                self.conclude(&due, place, Tried::refused(self.clock.now(), why))
                    .await
            }
            Err(error) => {
                tracing::warn!(
                    delivery = due.delivery,
                    error = photofinish_runtime::error_chain(&error),
                    "deliver"
                );
                Error::again()
            }
        }
    }

    /// Calls the receiver, if it may be called now.
    async fn call(
        &self,
        due: &DeliveryDue,
        place: Place,
        sent_away: u32,
        copy: Copied,
    ) -> Result<Called, Error> {
        let refused = |why| Called::Tried(Tried::refused(self.clock.now(), why));
        let destination = self.destination_through(copy, due.event.tenant(), &due.receiver);
        let destination = match destination.await? {
            Ok(destination) => destination,
            Err(why) => return Ok(refused(why)),
        };
        let caller = destination.caller(due.event.tenant(), sent_away);
        let slot = match self.lines.take(caller).await {
            Ok(slot) => slot,
            Err(away) => {
                // A message that lay still for long, as when no notifier ran, gets its chances first.
                let age = if sent_away < CHANCES_MIN {
                    Duration::ZERO
                } else {
                    place.age
                };
                return Ok(match uncalled(age, away.wait) {
                    Next::RetryIn(wait) => Called::SentAway(wait),
                    Next::Delivered | Next::GiveUp | Next::Disable => refused(too_late(away.why)),
                });
            }
        };
        // What was sent away for its receiver's sake is not late by our doing: no first try in the metric of lateness.
        let number = if sent_away == 0 {
            place.number
        } else {
            place.number.max(2)
        };
        let tried = self.attempt(&due.event, number, destination, slot);
        Ok(Called::Tried(tried.await?))
    }

    /// Decides what follows, notes the try, and settles.
    async fn conclude(&self, due: &DeliveryDue, place: Place, tried: Tried) -> Disposition {
        let jitter = self.clock.jitter();
        let Place { in_round, age, .. } = place;
        let next = after(DeliveryStatus::Pending, in_round, age, tried.answer, jitter);
        // First, so that a crash in between asks the receiver once more instead of forgetting it.
        if let Err(error) = self.note_called(&tried, next).await {
            tracing::warn!(
                delivery = due.delivery,
                error = photofinish_runtime::error_chain(&error),
                "have an endpoint disabled"
            );
            return Error::again();
        }
        self.note(due, place.number, tried, next.status()).await;
        match next {
            Next::Delivered | Next::GiveUp | Next::Disable => Disposition::Ack,
            Next::RetryIn(pause) => Disposition::RetryLater(in_whole_seconds(pause)),
        }
    }

    /// Notes what a try says about the webhook endpoint that it called.
    pub(crate) async fn note_called(&self, tried: &Tried, next: Next) -> Result<(), Error> {
        let Some(endpoint) = &tried.called else {
            return Ok(());
        };
        let call = match next {
            Next::Delivered => Call::Good,
            Next::Disable => Call::Gone,
            Next::RetryIn(_) | Next::GiveUp => Call::Bad,
        };
        self.note_call(endpoint, call).await
    }

    /// Tells logs and metrics of a try.
    pub(crate) fn report(
        &self,
        delivery: &str,
        event: &AnyEvent,
        tried: &Tried,
        status: DeliveryStatus,
        replay: Option<Timestamp>,
    ) {
        let outcome = match (status, tried.answer) {
            (DeliveryStatus::Delivered, _) => "delivered",
            (DeliveryStatus::Pending, _) => "retried",
            (DeliveryStatus::Failed, Answer::Refused) => "refused",
            (DeliveryStatus::Failed, Answer::Status { .. } | Answer::NoAnswer) => "given_up",
        };
        telemetry::tried(outcome);
        let (job, kind) = (event.job().map(JobId::as_str), event.kind().as_str());
        let log = &tried.log;
        if status == DeliveryStatus::Delivered {
            if replay.is_none() {
                telemetry::delivered(event.at(), self.clock.now());
            }
            tracing::debug!(
                delivery,
                job,
                event = kind,
                number = log.number,
                "delivered"
            );
            return;
        }
        tracing::info!(
            delivery,
            job,
            event = kind,
            number = log.number,
            outcome,
            status_code = log.status_code,
            error = log.error,
            "tried a delivery"
        );
    }

    async fn note(&self, due: &DeliveryDue, number: u16, mut tried: Tried, status: DeliveryStatus) {
        tried.log.number = number;
        self.report(&due.delivery, &due.event, &tried, status, due.replay);
        let log = tried.log;
        let noted = async {
            match self
                .jobstore
                .delivery_attempt(&due.delivery, &log, status, due.replay)
                .await?
            {
                Recorded::Recorded => return Ok(()),
                Recorded::Missing => {}
            }
            // Redis was emptied meanwhile.
            self.jobstore
                .delivery_create(&due.delivery, &Self::record(due))
                .await?;
            match self
                .jobstore
                .delivery_attempt(&due.delivery, &log, status, due.replay)
                .await?
            {
                Recorded::Recorded | Recorded::Missing => Ok::<(), JobStoreError>(()),
            }
        };
        if let Err(error) = noted.await {
            // What the receiver has it has: the note is lost, not the webhook.
            tracing::warn!(
                delivery = due.delivery,
                error = photofinish_runtime::error_chain(&error),
                "note a try"
            );
        }
    }

    fn record(due: &DeliveryDue) -> DeliveryRecord {
        DeliveryRecord {
            id: due.delivery.clone(),
            event_id: due.event.id(),
            event: due.event.clone(),
            receiver: due.receiver.clone(),
            // When it was made nobody knows any more. Were it now, its schedule would begin anew.
            created_at: due.event.at(),
        }
    }

    /// Asks the register of turns about a message; when it is away the message passes.
    pub(super) async fn is_old_copy(&self, key: &str, incoming: &Incoming) -> bool {
        let (turn, id) = incoming
            .turn
            .map_or((0, Uuid::nil()), |turn| (turn.turn, turn.turn_id));
        match self
            .jobstore
            .register_turn(key, turn, &id.to_string())
            .await
        {
            Ok(Turn::Pass) => false,
            Ok(Turn::Drop) => {
                metrics::counter!("photofinish_notifier_copies_dropped_total").increment(1);
                true
            }
            Err(error) => {
                tracing::debug!(
                    key,
                    error = photofinish_runtime::error_chain(&error),
                    "no register"
                );
                false
            }
        }
    }

    /// One receipt of a delivery, with the copy of its receiver's record; with Redis away it passes, and nothing is known
    /// of it.
    async fn begin(&self, due: &DeliveryDue, incoming: &Incoming) -> (Begun, Copied) {
        let (turn, id) = incoming
            .turn
            .map_or((0, Uuid::nil()), |turn| (turn.turn, turn.turn_id));
        let receipt = Receipt {
            turn,
            turn_id: &id.to_string(),
            replay: due.replay,
        };
        let (kind, of) = record_of(due.event.tenant(), &due.receiver);
        let begun = self
            .jobstore
            .delivery_begin(&due.delivery, receipt, (kind, &of));
        match begun.await {
            Ok((begun, copy)) => (begun, Ok(copy)),
            Err(error) => {
                tracing::warn!(
                    delivery = due.delivery,
                    error = photofinish_runtime::error_chain(&error),
                    "read a delivery"
                );
                (Begun::Pass(None), Err(error))
            }
        }
    }
}

/// How often a message was published again without a try of its receiver.
fn sent_away(incoming: &Incoming) -> u32 {
    let turns = incoming.turn.map_or(0, |turn| turn.turn);
    let times = turns.saturating_sub(u64::from(incoming.attempt));
    u32::try_from(times).unwrap_or(u32::MAX)
}

fn too_late(why: Why) -> String {
    let why = match why {
        Why::Resting => "it kept failing",
        Why::Busy | Why::Crowded => "more was sent to it than it could take",
    };
    format!("given up without another try: its receiver could not be called in time, {why}")
}

fn place(
    due: &DeliveryDue,
    incoming: &Incoming,
    known: Option<&DeliveryView>,
    now: Timestamp,
) -> Place {
    let began = due.replay.or(known.map(|view| view.record.created_at));
    let age = now.duration_since(began.unwrap_or(due.event.at()));
    let age = Duration::try_from(age).unwrap_or_default();
    let Some(view) = known else {
        // Redis is away or was emptied: the message itself has counted along. It has counted those rounds as well in
        // which the bucket was away and the receiver never asked.
        let counted = u16::try_from(incoming.attempt).unwrap_or(u16::MAX);
        let number = spent(due.tries.saturating_add(counted), age).saturating_add(1);
        return Place {
            number,
            in_round: number,
            age,
        };
    };
    let last = view.attempts.last().map_or(0, |attempt| attempt.number);
    let number = last.saturating_add(1);
    Place {
        number,
        in_round: number.saturating_sub(view.before_round),
        age,
    }
}

/// A pause that tiers alone make up: what is left below a second would be waited for in hand.
pub(crate) fn in_whole_seconds(pause: Duration) -> Duration {
    let rounded = pause.as_secs() + u64::from(pause.subsec_millis() >= 500);
    Duration::from_secs(rounded.max(1))
}
