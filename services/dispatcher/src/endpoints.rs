//! RunPod's endpoints as they are configured, how they stand, and which of them is next.

use crate::core::Core;
use crate::error::Error;
use photofinish_jobstore::{Grant, GrantAsk, LaneGrant, SlotFor};
use photofinish_model::Nonce;
use photofinish_model::endpoint::{Condition, choose};
use photofinish_objects::PausesRecord;
use std::time::Duration;

/// A slot whose holder has not posted within this is free again.
const GRANT_TTL: Duration = Duration::from_secs(60);

/// One of RunPod's endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// RunPod's id.
    pub id: String,
    /// Attempts in flight there at most.
    pub capacity: u32,
    /// US dollars.
    pub usd_per_gpu_second: Option<f64>,
}

/// The limits of an endpoint as they are written.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The endpoint's own limit of workers.
    pub workers_max: u32,
    /// Attempts that one worker runs at a time.
    pub per_worker: u32,
    /// Attempts that may wait in RunPod's queue besides those.
    pub backlog: u32,
    /// US dollars; negative: unknown.
    pub usd_per_gpu_second: f64,
}

impl Endpoint {
    /// An endpoint under its limits.
    pub fn new(id: &str, limits: Limits) -> Self {
        let capacity = limits
            .workers_max
            .saturating_mul(limits.per_worker.max(1))
            .saturating_add(limits.backlog)
            .max(1);
        Self {
            id: id.to_owned(),
            capacity,
            usd_per_gpu_second: Some(limits.usd_per_gpu_second).filter(|usd| *usd >= 0.0),
        }
    }

    /// An endpoint as it is written in one line: its id, then `name=value` for each limit that is
    /// not that of the first endpoint.
    pub fn parse(text: &str, first: Limits) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let id = words.next().ok_or("an endpoint without an id")?;
        if id.contains('=') {
            return Err(format!("{text:?} does not begin with an endpoint's id"));
        }
        let mut limits = first;
        for word in words {
            let whole = |value: &str| {
                let number = value.parse::<u32>();
                number.map_err(|_| format!("{word:?} is not a whole number"))
            };
            match word.split_once('=') {
                Some(("workers_max", value)) => limits.workers_max = whole(value)?,
                Some(("per_worker", value)) => limits.per_worker = whole(value)?,
                Some(("backlog", value)) => limits.backlog = whole(value)?,
                Some(("usd_per_gpu_second", value)) => {
                    let price = value.parse::<f64>().ok().filter(|price| price.is_finite());
                    limits.usd_per_gpu_second =
                        price.ok_or_else(|| format!("{word:?} is not a price"))?;
                }
                Some(_) | None => return Err(format!("{word:?} is not a limit of an endpoint")),
            }
        }
        Ok(Self::new(id, limits))
    }
}

/// A slot that is held for a part.
#[derive(Debug)]
pub struct Granted {
    /// RunPod's endpoint.
    pub endpoint: Endpoint,
    /// The lane whose turn it is, if one was asked for.
    pub lane: Option<LaneGrant>,
}

impl Core {
    /// How the endpoints stand, in their order. One whose health cannot be had is believed to be
    /// well: its breaker finds out. One that is paused has no room.
    fn conditions(&self, pauses: &PausesRecord) -> Vec<Condition> {
        let endpoints = self.config.endpoints.iter();
        let condition = |endpoint: &Endpoint| Condition {
            rests: self.runpod.submits_refused_for(&endpoint.id).is_some(),
            short: self.reported.of(&endpoint.id).short,
            full: pauses.endpoints.contains(&endpoint.id),
        };
        endpoints.map(condition).collect()
    }

    /// A slot of the endpoint that is next, and the lane whose turn it is there if one is to be
    /// picked. `None`: nobody has a slot, or nothing waits, or something waits that was not to be
    /// passed by.
    pub async fn next_slot(
        &self,
        holder: &str,
        slot_for: SlotFor,
    ) -> Result<Option<Granted>, Error> {
        // Before it is known what is paused nothing is granted.
        let Some(pauses) = self.pauses.known() else {
            return Ok(None);
        };
        let mut conditions = self.conditions(&pauses);
        while let Some(place) = choose(&conditions, None) {
            let Some(endpoint) = self.config.endpoints.get(place) else {
                break;
            };
            match self.ask_for_slot(endpoint, holder, slot_for).await? {
                Grant::Granted { lane } => {
                    let endpoint = endpoint.clone();
                    return Ok(Some(Granted { endpoint, lane }));
                }
                Grant::NoLane => return Ok(None),
                Grant::Full => {
                    // Else it may be its own lane that may have no more.
                    if slot_for == SlotFor::Next {
                        self.reported.refused(&endpoint.id);
                    }
                    conditions[place].full = true;
                }
                Grant::TooYoung => conditions[place].full = true,
            }
        }
        Ok(None)
    }

    /// The endpoint for a part whose last attempt was on `failed_on`: another one than that, if
    /// one is well and has a slot, and then the slot that was granted goes back.
    pub async fn prefer_another(
        &self,
        granted: Endpoint,
        failed_on: Option<&str>,
        lane: u16,
        nonce: &Nonce,
    ) -> Result<Endpoint, Error> {
        let endpoints = &self.config.endpoints;
        let place_of = |id: &str| endpoints.iter().position(|endpoint| endpoint.id == id);
        let (Some(held), true) = (
            place_of(&granted.id),
            failed_on == Some(granted.id.as_str()),
        ) else {
            return Ok(granted);
        };
        let Some(pauses) = self.pauses.known() else {
            return Ok(granted);
        };
        let mut conditions = self.conditions(&pauses);
        while let Some(place) = choose(&conditions, Some(held)).filter(|place| *place != held) {
            let Some(other) = endpoints.get(place) else {
                break;
            };
            let slot_for = SlotFor::Lane(lane);
            match self.ask_for_slot(other, nonce.as_str(), slot_for).await? {
                Grant::Granted { .. } => {
                    self.jobstore.free(&granted.id, nonce.as_str()).await?;
                    return Ok(other.clone());
                }
                Grant::NoLane | Grant::TooYoung | Grant::Full => conditions[place].full = true,
            }
        }
        Ok(granted)
    }

    async fn ask_for_slot(
        &self,
        endpoint: &Endpoint,
        holder: &str,
        slot_for: SlotFor,
    ) -> Result<Grant, Error> {
        let ask = GrantAsk {
            capacity: endpoint.capacity,
            reported: self.reported.of(&endpoint.id).in_flight,
            holder: holder.to_owned(),
            ttl: GRANT_TTL,
            slot_for,
            lane_max: self.config.tenant_slots_max,
            paused_lanes: self
                .pauses
                .known()
                .map_or_else(Default::default, |pauses| pauses.lanes.clone()),
        };
        let grant = self.jobstore.grant(&endpoint.id, &ask).await?;
        self.rebuild.note(&endpoint.id, &grant);
        Ok(grant)
    }

    /// Begins the epoch of an endpoint that has none, be it that Redis was emptied: it is not to
    /// be too young for its first slot when it has to take over. Asks for a slot that is not there.
    pub async fn begin_epoch(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let none = Endpoint {
            capacity: 0,
            ..endpoint.clone()
        };
        let (Grant::Full | Grant::TooYoung | Grant::NoLane | Grant::Granted { .. }) =
            self.ask_for_slot(&none, "nobody", SlotFor::Nobody).await?;
        Ok(())
    }

    /// The endpoint of a record that names none: it is older than there were several.
    pub fn endpoint_or_first<'a>(&'a self, noted: Option<&'a str>) -> &'a str {
        let first = || self.config.endpoints.first().map(|first| first.id.as_str());
        noted.or_else(first).unwrap_or_default()
    }

    /// What a second of an endpoint costs now, in US dollars.
    pub fn price_of(&self, id: &str) -> Option<f64> {
        let found = self.config.endpoints.iter().find(|known| known.id == id);
        found.and_then(|endpoint| endpoint.usd_per_gpu_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Limits = Limits {
        workers_max: 3,
        per_worker: 1,
        backlog: 2,
        usd_per_gpu_second: -1.0,
    };

    #[test]
    fn an_endpoint_is_written_in_one_line() {
        let plain = Endpoint::parse("ep-2", FIRST).unwrap();
        assert_eq!((plain.capacity, plain.usd_per_gpu_second), (5, None));
        let line = "ep-3 workers_max=4 per_worker=2 backlog=1 usd_per_gpu_second=0.0005";
        let full = Endpoint::parse(line, FIRST).unwrap();
        assert_eq!((full.id.as_str(), full.capacity), ("ep-3", 9));
        assert_eq!(full.usd_per_gpu_second, Some(0.0005));
        for bad in [
            "",
            "workers_max=3",
            "ep workers=3",
            "ep workers_max=many",
            "ep usd_per_gpu_second=NaN",
            "ep lonely",
        ] {
            assert!(Endpoint::parse(bad, FIRST).is_err(), "{bad}");
        }
    }
}
