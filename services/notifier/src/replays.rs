//! Replays of many deliveries in this process: a few at once, one of a tenant, each at a walk.
//!
//! The nouns: a replay is worked on page by page; between two it comes again as a message. A *place* is the right to
//! have a page in hand; who finds none waits in a *row*.
//!
//! Guarantee: however many deliveries somebody has sent again, what is new is never far behind them; and who waited
//! longer goes first, so that neither a long replay nor many of them keep another tenant's waiting for longer than a
//! page of each tenant before it.
//! Not for: which deliveries they are, and where a replay stands. That is in its message.

use photofinish_model::Tenant;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pages in hand at once.
const PLACES: usize = 2;
/// Who waits looks again so soon for every page before its own, and at most so late.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// Who does not look again when it was told to loses its turn so much later: another process may have it.
const GRACE: Duration = Duration::from_secs(5);
/// Replays that wait in the row at most, those of one tenant and all. Others wait as well, and get what is left.
const OF_TENANT_MAX: usize = 20;
const ROW_MAX: usize = 10_000;

/// The replays that have a page in hand, and those that wait.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    running: Vec<Tenant>,
    row: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    replay: String,
    tenant: Tenant,
    until: Instant,
}

/// A page in hand, until it is dropped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    replays: &'a Replays,
    tenant: Tenant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut known = self.replays.lock();
        if let Some(at) = known.running.iter().position(|one| *one == self.tenant) {
            known.running.swap_remove(at);
        }
    }
}

impl Replays {
    /// Takes the next page of a replay in hand; when it is others' turn, tells when to come back. `replay` names it.
    pub(crate) fn begin(
        &self,
        tenant: &Tenant,
        replay: &str,
        now: Instant,
    ) -> Result<Running<'_>, Duration> {
        let mut known = self.lock();
        known.row.retain(|one| one.until >= now);
        let waits = known.row.iter().position(|one| one.replay == replay);
        let place = waits.unwrap_or(known.row.len());
        let (own, others): (Vec<&Waiting>, Vec<&Waiting>) = known
            .row
            .iter()
            .take(place)
            .partition(|one| one.tenant == *tenant);
        // A tenant that has a page in hand cannot take the next one.
        let others = others.iter().map(|one| &one.tenant);
        let others: HashSet<&Tenant> = others
            .filter(|other| !known.running.contains(other))
            .collect();
        let (own, before) = (own.len(), others.len());
        let alone = own == 0 && !known.running.contains(tenant);
        if alone && known.running.len() + before < PLACES {
            if let Some(at) = waits {
                known.row.remove(at);
            }
            known.running.push(tenant.clone());
            return Ok(Running {
                replays: self,
                tenant: tenant.clone(),
            });
        }
        let pages = u32::try_from(own + before / PLACES).unwrap_or(u32::MAX);
        let wait = AGAIN.saturating_mul(pages.saturating_add(1)).min(AGAIN_MAX);
        let until = now + wait + GRACE;
        match waits {
            Some(at) => known.row[at].until = until,
            None if own < OF_TENANT_MAX && known.row.len() < ROW_MAX => {
                known.row.push_back(Waiting {
                    replay: replay.to_owned(),
                    tenant: tenant.clone(),
                    until,
                });
            }
            None => {}
        }
        Err(wait)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic between lock and unlock cannot leave half an entry behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants<const N: usize>(names: [&str; N]) -> [Tenant; N] {
        names.map(|name| name.parse().unwrap())
    }

    #[test]
    fn a_tenant_has_one_page_in_hand_and_all_together_a_few() {
        let (replays, now) = (Replays::default(), Instant::now());
        let [a, b, c] = tenants(["a", "b", "c"]);
        let first = replays.begin(&a, "a1", now);
        assert!(first.is_ok() && replays.begin(&a, "a2", now).is_err());
        let later = now + AGAIN + GRACE * 2;
        let second = replays.begin(&b, "b1", later);
        assert!(second.is_ok() && replays.begin(&c, "c1", later).is_err());
        drop(first);
        let later = later + AGAIN;
        assert!(replays.begin(&a, "a1", later).is_err(), "c waited for it");
        assert!(replays.begin(&c, "c1", later).is_ok());
    }

    #[test]
    fn who_does_not_come_back_loses_its_turn() {
        let (replays, now) = (Replays::default(), Instant::now());
        let [a, b, c] = tenants(["a", "b", "c"]);
        let running = [replays.begin(&a, "a1", now), replays.begin(&b, "b1", now)];
        let wait = replays.begin(&c, "c1", now).unwrap_err();
        drop(running);
        let late = now + wait + GRACE * 2;
        let again = [replays.begin(&a, "a1", late), replays.begin(&b, "b1", late)];
        assert!(again.iter().all(Result::is_ok));
    }

    #[test]
    fn who_asks_for_many_replays_keeps_no_other_waiting() {
        let (replays, now) = (Replays::default(), Instant::now());
        let [a, b, c] = tenants(["a", "b", "c"]);
        let first = replays.begin(&a, "a0", now);
        for number in 1..100 {
            assert!(replays.begin(&a, &format!("a{number}"), now).is_err());
        }
        assert_eq!(replays.lock().row.len(), OF_TENANT_MAX);
        let second = replays.begin(&b, "b0", now);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(replays.begin(&c, "c0", now).err(), Some(AGAIN));
        drop(second);
        assert!(replays.begin(&c, "c0", now + AGAIN).is_ok());
    }

    #[test]
    fn long_replays_share_the_places_evenly_whoever_was_first() {
        let (replays, begun) = (Replays::default(), Instant::now());
        let names = ["a1", "b1", "c1", "d1", "d2"];
        let of = tenants(["a", "b", "c", "d", "d"]);
        // When each comes next, and what it has in hand.
        let mut next = [begun; 5];
        let mut pages = [0; 5];
        let mut hands: [Option<Running<'_>>; 5] = Default::default();
        for step in 0..1200 {
            let now = begun + Duration::from_millis(100) * step;
            for who in 0..5 {
                if next[who] > now {
                    continue;
                }
                hands[who] = None;
                match replays.begin(&of[who], names[who], now) {
                    Ok(running) => {
                        pages[who] += 1;
                        hands[who] = Some(running);
                        next[who] = now + Duration::from_millis(300);
                    }
                    Err(wait) => next[who] = now + wait,
                }
            }
        }
        let (least, most) = (pages.iter().min().unwrap(), pages.iter().max().unwrap());
        assert!(*least >= 15 && *most <= *least * 3, "{pages:?}");
    }
}
