//! Slots: how many attempts may be in flight on an endpoint, and whose turn it is.
//!
//! A grant is provisional and ends by itself; an attempt that was bound to it stays counted until
//! it is freed, also when nobody has renewed it: then it is asked for, not forgotten.
//!
//! Whose turn: the most urgent priority, its lanes one after the other; every tenth grant goes to
//! the lane that has waited longest, of any priority. A lane that has all the slots it may have is
//! passed over. What a grant costs depends on the lanes and slots there are, not on what waits.
//! An attempt that is counted again after Redis was emptied has no lane any more: it counts for the
//! endpoint and not against its tenant.

use crate::keys::Key;
use crate::store::millis;
use crate::{JobStore, JobStoreError};
use photofinish_model::Priority;
use redis::Script;
use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

static GRANT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/grant.lua")));
static BIND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/bind.lua")));
static MARK_LANE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/mark_lane.lua")));
static CLEAR_LANE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/clear_lane.lua")));

/// What a grant is asked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantAsk {
    /// Attempts that may be in flight on the endpoint.
    pub capacity: u32,
    /// Attempts in flight by RunPod's own count; 0 when it is not known.
    pub reported: u32,
    /// Who holds the grant until an attempt is bound to it; a second grant replaces the first.
    pub holder: String,
    /// How long it lasts without an attempt.
    pub ttl: Duration,
    /// For whom it is.
    pub slot_for: SlotFor,
    /// Slots of the endpoint that one lane may have; 0: any number.
    pub lane_max: u32,
    /// Lanes that are passed over.
    pub paused_lanes: BTreeSet<u16>,
}

/// For whom a slot is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotFor {
    /// The lane whose turn it is.
    Next,
    /// This lane, if it may have one more; else the answer is [`Grant::Full`].
    Lane(u16),
    /// The same for an attempt that passes nobody by: if a lane waits that may have one more, the
    /// answer is [`Grant::NoLane`]. The holder is the attempt itself: nothing is to be bound to it.
    Unawaited(Priority, u16),
    /// No lane: it counts for the endpoint alone.
    Nobody,
}

/// The answer to an ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Grant {
    /// A slot, and the lane whose turn it is if one was to be picked.
    Granted {
        /// Where to take the part from.
        lane: Option<LaneGrant>,
    },
    /// No lane waits that may have one more slot; or one waits, and nobody was to be passed by.
    NoLane,
    /// As many attempts are in flight as may be.
    Full,
    /// Redis has begun (empty) too short a while ago to know what is in flight.
    TooYoung,
}

/// A lane whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneGrant {
    /// Its priority.
    pub priority: Priority,
    /// Its number.
    pub lane: u16,
    /// The number of its newest mark, for [`JobStore::clear_lane`].
    pub mark: u64,
}

/// Who holds a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A holder, before its attempt.
    Grant,
    /// An attempt in flight.
    Attempt,
}

/// One slot that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Who holds it.
    pub kind: SlotKind,
    /// The holder or the attempt.
    pub name: String,
    /// Milliseconds for which it is still vouched for; nothing left: ask RunPod about it.
    pub left_ms: u64,
}

/// Verdict, priority, lane, mark.
type GrantFields = (String, Option<String>, Option<u16>, Option<u64>);
/// Redis' time in seconds and microseconds, attempts, grants, with the ends of their vouching.
type SlotFields = ((u64, u64), Vec<(String, f64)>, Vec<(String, f64)>);

impl JobStore {
    /// Asks for a slot of an endpoint.
    pub async fn grant(&self, endpoint: &str, ask: &GrantAsk) -> Result<Grant, JobStoreError> {
        let keys = [
            Key::Epoch(endpoint),
            Key::Slots(endpoint),
            Key::Grants(endpoint),
            Key::GrantCount(endpoint),
            Key::Waiting(endpoint),
            Key::Marks(endpoint),
            Key::Served(endpoint),
            Key::SlotLanes(endpoint),
        ];
        let answer: Vec<redis::Value> = self
            .script("grant a slot", &GRANT, &keys, |call| {
                call.arg(ask.capacity)
                    .arg(ask.reported)
                    .arg(&ask.holder)
                    .arg(millis(ask.ttl));
                call.arg(millis(self.epoch_age_min))
                    .arg(match ask.slot_for {
                        SlotFor::Next => "next".to_owned(),
                        SlotFor::Lane(lane) => lane.to_string(),
                        SlotFor::Unawaited(priority, lane) => {
                            format!("={}.{lane}", priority.as_str())
                        }
                        SlotFor::Nobody => String::new(),
                    })
                    .arg(ask.lane_max)
                    .arg(listed(&ask.paused_lanes));
                for priority in Priority::ALL {
                    call.arg(priority.as_str());
                }
            })
            .await?;
        let mut padded = answer;
        padded.resize(4, redis::Value::Nil);
        let (verdict, priority, lane, mark): GrantFields =
            redis::from_redis_value(redis::Value::Array(padded)).map_err(|error| {
                JobStoreError::Command {
                    doing: "grant a slot",
                    source: error.into(),
                }
            })?;
        match (verdict.as_str(), priority, lane, mark) {
            ("young", ..) => Ok(Grant::TooYoung),
            ("full", ..) => Ok(Grant::Full),
            ("empty", ..) => Ok(Grant::NoLane),
            ("granted", Some(name), Some(lane), Some(mark)) => Priority::ALL
                .into_iter()
                .find(|priority| priority.as_str() == name)
                .map(|priority| Grant::Granted {
                    lane: Some(LaneGrant {
                        priority,
                        lane,
                        mark,
                    }),
                })
                .ok_or_else(|| JobStoreError::answer("grant a slot", &name)),
            ("granted", ..) => Ok(Grant::Granted { lane: None }),
            (other, ..) => Err(JobStoreError::answer("grant a slot", other)),
        }
    }

    /// Binds an attempt to a holder's grant; false when the grant had ended (it counts anyway).
    pub async fn bind(
        &self,
        endpoint: &str,
        holder: &str,
        attempt: &str,
        ttl: Duration,
    ) -> Result<bool, JobStoreError> {
        let keys = [
            Key::Slots(endpoint),
            Key::Grants(endpoint),
            Key::SlotLanes(endpoint),
        ];
        self.script("bind a slot", &BIND, &keys, |call| {
            call.arg(holder).arg(attempt).arg(millis(ttl));
        })
        .await
    }

    /// Vouches for an attempt in flight; one that Redis has forgotten is counted again.
    pub async fn renew(
        &self,
        endpoint: &str,
        attempt: &str,
        ttl: Duration,
    ) -> Result<(), JobStoreError> {
        self.bind(endpoint, attempt, attempt, ttl).await.map(|_| ())
    }

    /// Frees the slot of an attempt, or gives a holder's grant back; again is harmless.
    pub async fn free(&self, endpoint: &str, name: &str) -> Result<(), JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.zrem(self.key(Key::Slots(endpoint)), name).ignore();
        pipe.zrem(self.key(Key::Grants(endpoint)), name).ignore();
        pipe.hdel(self.key(Key::SlotLanes(endpoint)), name).ignore();
        self.pipe("free a slot", &pipe).await
    }

    /// Every slot that is taken on an endpoint.
    pub async fn slots(&self, endpoint: &str) -> Result<Vec<Slot>, JobStoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        pipe.zrange_withscores(self.key(Key::Slots(endpoint)), 0, -1);
        pipe.zrange_withscores(self.key(Key::Grants(endpoint)), 0, -1);
        let ((s, us), attempts, grants): SlotFields = self.pipe("list slots", &pipe).await?;
        let now = s * 1000 + us / 1000;
        let slot = |kind| {
            move |(name, until): (String, f64)| Slot {
                kind,
                name,
                left_ms: (until as u64).saturating_sub(now),
            }
        };
        let grants = grants.into_iter().map(slot(SlotKind::Grant));
        Ok(attempts
            .into_iter()
            .map(slot(SlotKind::Attempt))
            .chain(grants)
            .collect())
    }

    /// Marks a lane as waiting: at each publish to it, and again while it is not empty.
    pub async fn mark_lane(
        &self,
        endpoint: &str,
        priority: Priority,
        lane: u16,
    ) -> Result<(), JobStoreError> {
        let keys = [Key::Waiting(endpoint), Key::Marks(endpoint)];
        self.script("mark a lane", &MARK_LANE, &keys, |call| {
            call.arg(member(priority, lane));
        })
        .await
    }

    /// Clears the mark of a lane that was found empty, unless it was marked since the grant; true
    /// when it was cleared.
    pub async fn clear_lane(
        &self,
        endpoint: &str,
        granted: LaneGrant,
    ) -> Result<bool, JobStoreError> {
        let keys = [Key::Waiting(endpoint), Key::Marks(endpoint)];
        self.script("clear a lane", &CLEAR_LANE, &keys, |call| {
            call.arg(member(granted.priority, granted.lane))
                .arg(granted.mark);
        })
        .await
    }
}

/// `,1,7,`; nothing for none.
fn listed(lanes: &BTreeSet<u16>) -> String {
    let mut text = String::new();
    for lane in lanes {
        text.push(',');
        text.push_str(&lane.to_string());
    }
    if !text.is_empty() {
        text.push(',');
    }
    text
}

fn member(priority: Priority, lane: u16) -> String {
    format!("{priority}.{lane}")
}
