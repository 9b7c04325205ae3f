//! Deliveries of webhooks as the client can list them: what, to whom, and each attempt.

use crate::keys::Key;
use crate::list::{Page, SCAN_MAX, Scan};
use crate::{JobStore, JobStoreError};
use jiff::Timestamp;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{JobEvent, Receiver};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::{JobId, Tenant};
use redis::Script;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static MAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/delivery.lua")));
static ATTEMPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/attempt.lua")));

/// What of a delivery never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// `dlv_…`
    pub id: String,
    /// The event's id: `evt_…`
    pub event_id: String,
    /// The event; names the tenant and the job.
    pub event: JobEvent,
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
    pub timing: Option<AttemptTiming>,
    /// The beginning of the answer's body.
    #[serde(default)]
    pub response: Option<String>,
}

/// Where the time of an attempt went, in milliseconds from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptTiming {
    /// Until the address was known.
    #[serde(default)]
    pub resolved_ms: Option<u64>,
    /// Until the connection stood.
    #[serde(default)]
    pub connected_ms: Option<u64>,
    /// Until the first byte of the answer.
    #[serde(default)]
    pub first_byte_ms: Option<u64>,
}

/// A delivery with all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryView {
    /// What never changes.
    pub record: DeliveryRecord,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptLog>,
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
}

impl JobStore {
    /// Makes a delivery; true when it was not there.
    pub async fn delivery_create(
        &self,
        id: &str,
        record: &DeliveryRecord,
    ) -> Result<bool, JobStoreError> {
        let listed = Key::DeliveriesOf(&record.event.tenant);
        let mut pipe = redis::pipe();
        self.enlist(&mut pipe, listed, id, record.created_at);
        let () = self.pipe("list a delivery", &pipe).await?;
        let doc = serde_json::to_string(record).map_err(JobStoreError::value("a delivery"))?;
        let key = Key::Delivery(id);
        let ttl = self.ttl_ms(&key);
        self.script("make a delivery", &MAKE, &[key], |call| {
            call.arg(doc)
                .arg(status_name(DeliveryStatus::Pending))
                .arg(ttl);
        })
        .await
    }

    /// A delivery; nothing when Redis does not know it.
    pub async fn delivery(&self, id: &str) -> Result<Option<DeliveryView>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.hgetall(self.key(Key::Delivery(id)));
        let (fields,) = self.pipe("read a delivery", &pipe).await?;
        read(&fields)
    }

    /// Notes an attempt and where the delivery stands after it.
    pub async fn delivery_attempt(
        &self,
        id: &str,
        attempt: &AttemptLog,
        status: DeliveryStatus,
    ) -> Result<Recorded, JobStoreError> {
        let log = serde_json::to_string(attempt).map_err(JobStoreError::value("an attempt"))?;
        let key = Key::Delivery(id);
        let ttl = self.ttl_ms(&key);
        let known: bool = self
            .script("note an attempt", &ATTEMPT, &[key], |call| {
                let field = format!("a{}", attempt.number);
                call.arg(field).arg(log).arg(status_name(status)).arg(ttl);
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
        let limit = limit.clamp(1, crate::list::PAGE_MAX);
        let mut scan = Scan::new(self.key(Key::DeliveriesOf(tenant)), None, None, cursor)?;
        let mut page = Page {
            rows: Vec::new(),
            next_cursor: None,
        };
        while let Some(members) = scan.next(self).await? {
            let mut pipe = redis::pipe();
            for member in &members {
                pipe.hgetall(self.key(Key::Delivery(&member.name)));
            }
            let rows: Vec<BTreeMap<String, String>> = self.pipe("list deliveries", &pipe).await?;
            for (member, fields) in members.iter().zip(&rows) {
                page.rows
                    .extend(read(fields)?.filter(|delivery| filter.wants(delivery)));
                if page.rows.len() == limit {
                    page.next_cursor = Some(member.cursor());
                    return Ok(page);
                }
            }
            if scan.seen >= SCAN_MAX {
                page.next_cursor = members.last().map(crate::list::Member::cursor);
                return Ok(page);
            }
        }
        Ok(page)
    }
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
                .is_none_or(|wanted| *wanted == record.event.job)
            && self.status.is_none_or(|wanted| wanted == delivery.status)
            && self.event.is_none_or(|wanted| wanted == record.event.event)
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
    Ok(Some(DeliveryView {
        record,
        status,
        attempts,
    }))
}
