//! Deliveries of webhooks as the client can list them: what, to whom, and each attempt.
//!
//! The nouns: a *round* is the schedule of tries from its begin; a replay begins a new one, named by its moment. A
//! *turn* is a message's number at each of its own republications.
//!
//! The guarantee: of several copies of a delivery's message one passes, and none of an older round. A tenant's list
//! has a limit; beyond it the oldest are forgotten, which costs their notes and not their delivery.

use crate::keys::Key;
use crate::list::{Member, Page, SCAN_MAX, Scan};
use crate::system::read_copy;
use crate::{CachedRecord, JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{AnyEvent, Receiver};
use photofinish_contract::webhook::DeliveryTiming;
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::{JobId, Tenant};
use redis::Script;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static MAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/delivery.lua")));
static BEGIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/delivery_begin.lua")));
static ATTEMPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/attempt.lua")));

/// Attempts of a delivery that are kept, the newest.
const ATTEMPTS_KEPT_MAX: u16 = 50;
/// Two replays within this are one: a double click.
const DOUBLE_CLICK_MS: i64 = 1000;
/// The oldest of a list that is too long go in batches of this.
const FORGET_BATCH: u64 = 200;

/// What of a delivery never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// `dlv_…`
    pub id: String,
    /// The event's id: `evt_…`
    pub event_id: String,
    /// The event; names the tenant and the job or webhook endpoint.
    pub event: AnyEvent,
    /// Who gets it.
    pub receiver: Receiver,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One attempt to deliver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptLog {
    /// From 1; a repeated log of the same number replaces the first.
    pub number: u16,
    /// When it began.
    pub at: Timestamp,
    /// What the receiver answered.
    pub status_code: Option<u16>,
    /// Why there was no answer.
    pub error: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// Where the time went.
    #[serde(default)]
    pub timing: Option<DeliveryTiming>,
    /// The beginning of the answer's body.
    #[serde(default)]
    pub response: Option<String>,
}

/// A delivery with all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryView {
    /// What never changes.
    pub record: DeliveryRecord,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// When it was last replayed.
    pub replayed_at: Option<Timestamp>,
    /// The number of the last attempt before the round; 0 in the first.
    pub before_round: u16,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptLog>,
}

/// One receipt of a delivery's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// How often the message was published again; 0 at first.
    pub turn: u64,
    /// Which of the copies of that turn.
    pub turn_id: &'a str,
    /// The round that it belongs to: the moment of its replay.
    pub replay: Option<Timestamp>,
}

/// Whether a receipt is to be worked on.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Begun {
    /// It is; nothing when Redis does not know the delivery.
    Pass(Option<Box<DeliveryView>>),
    /// It is an older copy, or of an older round: acknowledge and drop it.
    Drop,
}

/// Whether an attempt was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// It was.
    Recorded,
    /// Redis does not know the delivery: make it again and come back.
    Missing,
}

/// Which deliveries are wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeliveryFilter {
    /// Only those to this webhook endpoint: `whe_…`
    pub endpoint: Option<String>,
    /// Only those of this job.
    pub job: Option<JobId>,
    /// Only those of this status.
    pub status: Option<DeliveryStatus>,
    /// Only those of this type.
    pub event: Option<EventType>,
    /// Only those made at or after this.
    pub since: Option<Timestamp>,
    /// Only those made before this.
    pub until: Option<Timestamp>,
}

impl JobStore {
    /// Makes a delivery that is to be sent; true when it was not there.
    pub async fn delivery_create(
        &self,
        id: &str,
        record: &DeliveryRecord,
    ) -> Result<bool, JobStoreError> {
        self.make_delivery(id, record, DeliveryStatus::Pending, None)
            .await
    }

    /// Makes a delivery that is not sent, so that it is listed and can be sent later: failed, with `why` as its one
    /// attempt. True when it was not there.
    pub async fn delivery_missed(
        &self,
        id: &str,
        record: &DeliveryRecord,
        why: &AttemptLog,
    ) -> Result<bool, JobStoreError> {
        self.make_delivery(id, record, DeliveryStatus::Failed, Some(why))
            .await
    }

    /// Notes a delivery with its first attempt, made or not before; an attempt that was noted before stays its first.
    pub async fn delivery_tried(
        &self,
        id: &str,
        record: &DeliveryRecord,
        status: DeliveryStatus,
        attempt: &AttemptLog,
    ) -> Result<(), JobStoreError> {
        let made = self
            .make_delivery(id, record, status, Some(attempt))
            .await?;
        if !made {
            match self.delivery_attempt(id, attempt, status, None).await? {
                Recorded::Recorded | Recorded::Missing => {}
            }
        }
        Ok(())
    }

    async fn make_delivery(
        &self,
        id: &str,
        record: &DeliveryRecord,
        status: DeliveryStatus,
        attempt: Option<&AttemptLog>,
    ) -> Result<bool, JobStoreError> {
        let tenant = record.event.tenant();
        let listed = Key::DeliveriesOf(tenant);
        let doc = serde_json::to_string(record).map_err(JobStoreError::value("a delivery"))?;
        let log = attempt.map(serde_json::to_string).transpose();
        let log = log.map_err(JobStoreError::value("an attempt"))?;
        let key = Key::Delivery(id);
        let ttl = self.ttl_ms(&key);
        let mut pipe = redis::pipe();
        self.enlist(&mut pipe, listed, id, record.created_at);
        pipe.cmd("ZCARD").arg(self.key(listed));
        self.add_script(&mut pipe, &MAKE, &[key])
            .arg(doc)
            .arg(status_name(status))
            .arg(ttl)
            .arg(log.unwrap_or_default());
        let (length, made): (u64, bool) =
            self.pipe_with("make a delivery", &pipe, &[&MAKE]).await?;
        if length > self.deliveries_max.saturating_add(FORGET_BATCH) {
            self.forget_oldest(tenant).await?;
        }
        Ok(made)
    }

    /// The list of a tenant is longer than it may be: its oldest are forgotten.
    async fn forget_oldest(&self, tenant: &Tenant) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZPOPMIN")
            .arg(self.key(Key::DeliveriesOf(tenant)))
            .arg(FORGET_BATCH);
        let (popped,): (Vec<(String, f64)>,) = self.pipe("shorten a list", &pipe).await?;
        let mut pipe = redis::pipe();
        for (id, _) in &popped {
            pipe.cmd("UNLINK").arg(self.key(Key::Delivery(id))).ignore();
        }
        metrics::counter!("photofinish_jobstore_deliveries_forgotten_total")
            .increment(popped.len() as u64);
        self.pipe("forget deliveries", &pipe).await
    }

    /// One receipt of a delivery's message, with all that is known of the delivery, and a copy in the same go (its kind
    /// and id: see [`JobStore::cached_system`]). A receipt of a newer round makes it pending again.
    pub async fn delivery_begin(
        &self,
        id: &str,
        receipt: Receipt<'_>,
        (kind, of): (&str, &str),
    ) -> Result<(Begun, Option<CachedRecord>), JobStoreError> {
        let key = Key::Delivery(id);
        let ttl = self.ttl_ms(&key);
        let round = receipt.replay.map_or(0, Timestamp::as_millisecond);
        let mut pipe = redis::pipe();
        self.add_script(&mut pipe, &BEGIN, &[key])
            .arg(receipt.turn)
            .arg(receipt.turn_id)
            .arg(round)
            .arg(ttl)
            .arg(DOUBLE_CLICK_MS);
        self.ask_copy(&mut pipe, kind, of);
        let (answer, time, copy): (Vec<String>, _, _) =
            self.pipe_with("begin a delivery", &pipe, &[&BEGIN]).await?;
        let copy = read_copy((time, copy));
        let Some((_, fields)) = answer.split_first().filter(|(pass, _)| *pass == "1") else {
            return Ok((Begun::Drop, copy));
        };
        let fields = fields.chunks_exact(2);
        let fields = fields.map(|pair| (pair[0].clone(), pair[1].clone()));
        let known = read(&fields.collect())?.map(Box::new);
        Ok((Begun::Pass(known), copy))
    }

    /// A delivery; nothing when Redis does not know it.
    pub async fn delivery(&self, id: &str) -> Result<Option<DeliveryView>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hgetall(self.key(Key::Delivery(id)));
        let (fields,) = self.pipe("read a delivery", &pipe).await?;
        read(&fields)
    }

    /// Notes an attempt and where the delivery stands after it; an attempt of an older round changes nothing about
    /// the latter.
    pub async fn delivery_attempt(
        &self,
        id: &str,
        attempt: &AttemptLog,
        status: DeliveryStatus,
        replay: Option<Timestamp>,
    ) -> Result<Recorded, JobStoreError> {
        let log = serde_json::to_string(attempt).map_err(JobStoreError::value("an attempt"))?;
        let key = Key::Delivery(id);
        let ttl = self.ttl_ms(&key);
        let round = replay.map_or(0, Timestamp::as_millisecond);
        let known: bool = self
            .script("note an attempt", &ATTEMPT, &[key], |call| {
                call.arg(attempt.number).arg(log).arg(status_name(status));
                call.arg(ttl).arg(round).arg(ATTEMPTS_KEPT_MAX);
            })
            .await?;
        Ok(if known {
            Recorded::Recorded
        } else {
            Recorded::Missing
        })
    }

    /// A page of a tenant's deliveries, newest first.
    pub async fn deliveries(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<DeliveryView>, JobStoreError> {
        self.page(tenant, filter, limit, cursor, Fields::All).await
    }

    /// The same without attempts, which is all that a replay needs of them.
    pub async fn deliveries_without_attempts(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<DeliveryView>, JobStoreError> {
        self.page(tenant, filter, limit, cursor, Fields::Head).await
    }

    /// How many deliveries a filter finds among the newest `looked_at_max` in its time.
    pub async fn count_deliveries(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
        looked_at_max: usize,
    ) -> Result<Counted, JobStoreError> {
        let floor = filter.since.map(Timestamp::as_millisecond);
        let key = self.key(Key::DeliveriesOf(tenant));
        let mut scan = Scan::new(key, floor, filter.until, None)?;
        let mut found = 0_u64;
        while let Some(members) = scan.next(self).await? {
            for fields in self.fields_of(&members, Fields::Head).await? {
                found += u64::from(read(&fields)?.is_some_and(|one| filter.wants(&one)));
            }
            if scan.seen >= looked_at_max {
                return Ok(Counted { found, all: false });
            }
        }
        Ok(Counted { found, all: true })
    }

    async fn fields_of(
        &self,
        members: &[Member],
        which: Fields,
    ) -> Result<Vec<BTreeMap<String, String>>, JobStoreError> {
        let mut pipe = redis::pipe();
        match which {
            Fields::All => {
                for member in members {
                    pipe.hgetall(self.key(Key::Delivery(&member.name)));
                }
                self.pipe("list deliveries", &pipe).await
            }
            Fields::Head => {
                for member in members {
                    let key = self.key(Key::Delivery(&member.name));
                    pipe.cmd("HMGET").arg(key).arg(&HEAD);
                }
                let rows: Vec<Vec<Option<String>>> = self.pipe("list deliveries", &pipe).await?;
                let named = |row: Vec<Option<String>>| {
                    let pairs = HEAD.iter().zip(row);
                    pairs
                        .filter_map(|(name, value)| Some(((*name).to_owned(), value?)))
                        .collect()
                };
                Ok(rows.into_iter().map(named).collect())
            }
        }
    }

    async fn page(
        &self,
        tenant: &Tenant,
        filter: &DeliveryFilter,
        limit: usize,
        cursor: Option<&str>,
        which: Fields,
    ) -> Result<Page<DeliveryView>, JobStoreError> {
        let limit = limit.clamp(1, crate::list::PAGE_MAX);
        let floor = filter.since.map(Timestamp::as_millisecond);
        let key = self.key(Key::DeliveriesOf(tenant));
        let mut scan = Scan::new(key, floor, filter.until, cursor)?;
        let mut page = Page {
            rows: Vec::new(),
            next_cursor: None,
        };
        while let Some(members) = scan.next(self).await? {
            let rows = self.fields_of(&members, which).await?;
            for (member, fields) in members.iter().zip(&rows) {
                page.rows
                    .extend(read(fields)?.filter(|delivery| filter.wants(delivery)));
                if page.rows.len() == limit {
                    page.next_cursor = Some(member.cursor());
                    return Ok(page);
                }
            }
            if scan.seen >= SCAN_MAX {
                page.next_cursor = members.last().map(Member::cursor);
                return Ok(page);
            }
        }
        Ok(page)
    }
}

/// What of a delivery is read.
#[derive(Debug, Clone, Copy)]
enum Fields {
    All,
    /// All but its attempts.
    Head,
}

/// The fields of a delivery without its attempts.
const HEAD: [&str; 4] = ["doc", "status", "round", "base"];

/// How many deliveries a filter finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Those that were found.
    pub found: u64,
    /// False: there may be more among older ones.
    pub all: bool,
}

impl DeliveryFilter {
    fn wants(&self, delivery: &DeliveryView) -> bool {
        let record = &delivery.record;
        let endpoint = match &record.receiver {
            Receiver::Endpoint { id } => Some(id),
            Receiver::JobUrl { .. } => None,
        };
        self.endpoint
            .as_ref()
            .is_none_or(|wanted| Some(wanted) == endpoint)
            && self
                .job
                .as_ref()
                .is_none_or(|wanted| Some(wanted) == record.event.job())
            && self.status.is_none_or(|wanted| wanted == delivery.status)
            && self
                .event
                .is_none_or(|wanted| wanted == record.event.kind())
    }
}

fn status_name(status: DeliveryStatus) -> &'static str {
    match status {
        DeliveryStatus::Pending => "pending",
        DeliveryStatus::Delivered => "delivered",
        DeliveryStatus::Failed => "failed",
    }
}

fn read(fields: &BTreeMap<String, String>) -> Result<Option<DeliveryView>, JobStoreError> {
    let Some(doc) = fields.get("doc") else {
        return Ok(None);
    };
    let record = serde_json::from_str(doc).map_err(JobStoreError::value("a delivery"))?;
    let status = fields.get("status").map_or("", String::as_str);
    let status = [
        DeliveryStatus::Pending,
        DeliveryStatus::Delivered,
        DeliveryStatus::Failed,
    ]
    .into_iter()
    .find(|known| status_name(*known) == status)
    .ok_or_else(|| JobStoreError::answer("read a delivery", status))?;
    let mut attempts = fields
        .iter()
        .filter(|(field, _)| {
            field
                .strip_prefix('a')
                .is_some_and(|number| number.parse::<u16>().is_ok())
        })
        .map(|(_, log)| serde_json::from_str(log).map_err(JobStoreError::value("an attempt")))
        .collect::<Result<Vec<AttemptLog>, _>>()?;
    attempts.sort_by_key(|attempt| attempt.number);
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<i64>().ok());
    let round = number("round").filter(|round| *round > 0);
    Ok(Some(DeliveryView {
        record,
        status,
        replayed_at: round.and_then(|round| Timestamp::from_millisecond(round).ok()),
        before_round: number("base")
            .and_then(|base| base.try_into().ok())
            .unwrap_or(0),
        attempts,
    }))
}
