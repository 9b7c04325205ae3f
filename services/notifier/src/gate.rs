//! The pace of `job.progress`: at most one for each job in an interval, and the newest state wins.
//!
//! The first event of an interval passes. The next one waits in a retry tier as the *carrier*; later ones give it
//! their sequence and their changed items and are done. Guarantee: no progress waits for longer than about two
//! intervals, and the last one of a run of events is told. What a crash of this process loses is which items had
//! changed, nothing else. The pace over all processes is kept by the job's log of events (`jobstore::events`); this one
//! merges what comes in between.

use photofinish_contract::messages::JobEvent;
use photofinish_contract::telling::CHANGED_MAX;
use photofinish_model::{ItemIndex, JobId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest wait of a carrier: a whole tier, so that nothing waits in hand.
pub(crate) const WAIT_MIN: Duration = Duration::from_secs(1);
/// Intervals after which a carrier is given up: another process has it.
const CARRIER_INTERVALS_MAX: u32 = 5;

/// What becomes of a progress event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It is told now, with what others gave it.
    Now(JobEvent),
    /// It comes again after this.
    Later(Duration),
    /// Another one tells it.
    Merged,
}

#[derive(Debug, Default)]
struct Entry {
    told: Option<Instant>,
    /// The sequence of the event that waits, and since when.
    carrier: Option<(u64, Instant)>,
    /// The sequence of the event that was told last: a copy of it has nothing to tell.
    last: Option<u64>,
    newest: Option<JobEvent>,
    changed: BTreeSet<ItemIndex>,
}

/// The jobs whose progress was told lately.
#[derive(Debug)]
pub(crate) struct Gate {
    interval: Duration,
    jobs_max: usize,
    jobs: Mutex<HashMap<(JobId, u32), Entry>>,
}

impl Gate {
    pub(crate) fn new(interval: Duration, jobs_max: usize) -> Self {
        Self {
            interval,
            jobs_max,
            jobs: Mutex::default(),
        }
    }

    /// Decides about one receipt of a progress event.
    pub(crate) fn ask(&self, event: &JobEvent, now: Instant) -> Pace {
        let mut jobs = self.lock();
        let key = (event.job.clone(), event.run);
        if jobs.len() >= self.jobs_max && !jobs.contains_key(&key) {
            let stale = self.interval * CARRIER_INTERVALS_MAX;
            jobs.retain(|_, entry| entry.told.is_some_and(|told| now - told < stale));
            if jobs.len() >= self.jobs_max {
                return Pace::Now(event.clone());
            }
        }
        let entry = jobs.entry(key).or_default();
        if entry.last == Some(event.sequence) {
            return Pace::Merged;
        }
        entry.take_in(event);
        let since = entry.told.map(|told| now.saturating_duration_since(told));
        let left = since.map_or(Duration::ZERO, |since| self.interval.saturating_sub(since));
        let lost = self.interval * CARRIER_INTERVALS_MAX;
        let carried = entry.carrier.is_some_and(|(sequence, since)| {
            sequence != event.sequence && now.saturating_duration_since(since) < lost
        });
        if carried {
            Pace::Merged
        } else if left.is_zero() {
            Pace::Now(entry.tell(event, now))
        } else {
            entry.carrier = Some((event.sequence, now));
            Pace::Later(left.max(WAIT_MIN))
        }
    }

    /// What was to be told could not be, or not yet: its message comes again and tells it then, with what others gave it.
    pub(crate) fn give_back(&self, event: &JobEvent) {
        if let Some(entry) = self.lock().get_mut(&(event.job.clone(), event.run)) {
            entry.take_in(event);
            entry.last = None;
        }
    }

    /// The run is over: nothing of it is remembered.
    pub(crate) fn forget(&self, job: &JobId, run: u32) {
        self.lock().remove(&(job.clone(), run));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(JobId, u32), Entry>> {
        // A panic between lock and unlock cannot leave a half-written entry behind.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn take_in(&mut self, event: &JobEvent) {
        self.changed.extend(&event.changed);
        if self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.sequence < event.sequence)
        {
            self.newest = Some(event.clone());
        }
    }

    fn tell(&mut self, event: &JobEvent, now: Instant) -> JobEvent {
        let newest = self.newest.take().unwrap_or_else(|| event.clone());
        let changed = std::mem::take(&mut self.changed);
        self.told = Some(now);
        self.last = Some(event.sequence);
        self.carrier = None;
        JobEvent {
            changed: changed.into_iter().take(CHANGED_MAX).collect(),
            ..newest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_contract::event::EventType;
    use photofinish_model::sequence::{Moment, sequence};

    const SECOND: Duration = Duration::from_secs(1);

    fn progress(settled: u32, changed: &[u16]) -> JobEvent {
        JobEvent {
            job: JobId::from_random(1),
            tenant: "acme".parse().unwrap(),
            run: 1,
            event: EventType::JobProgress,
            sequence: sequence(1, Moment::Progress(settled)),
            at: jiff::Timestamp::UNIX_EPOCH,
            changed: changed.to_vec(),
        }
    }

    #[test]
    fn the_newest_state_is_told_once_an_interval() {
        let gate = Gate::new(SECOND, 10);
        let start = Instant::now();
        assert_eq!(
            gate.ask(&progress(1, &[0]), start),
            Pace::Now(progress(1, &[0]))
        );
        let carrier = progress(2, &[1]);
        assert_eq!(gate.ask(&carrier, start + SECOND / 10), Pace::Later(SECOND));
        assert_eq!(
            gate.ask(&progress(3, &[2]), start + SECOND / 5),
            Pace::Merged
        );
        // Even when the interval is over the carrier tells it, so that it is told once.
        assert_eq!(gate.ask(&progress(4, &[3]), start + SECOND), Pace::Merged);
        let told = gate.ask(&carrier, start + SECOND * 11 / 10);
        assert_eq!(told, Pace::Now(progress(4, &[1, 2, 3])));
        let next = gate.ask(&progress(5, &[4]), start + SECOND * 3);
        assert_eq!(next, Pace::Now(progress(5, &[4])));
    }

    #[test]
    fn a_copy_of_a_carrier_has_nothing_to_tell() {
        let gate = Gate::new(SECOND, 10);
        let start = Instant::now();
        assert!(matches!(gate.ask(&progress(1, &[0]), start), Pace::Now(_)));
        assert_eq!(gate.ask(&progress(1, &[0]), start), Pace::Merged);
        let carrier = progress(2, &[1]);
        for _ in 0..2 {
            assert!(matches!(gate.ask(&carrier, start), Pace::Later(_)));
        }
        let later = start + SECOND;
        assert_eq!(gate.ask(&carrier, later), Pace::Now(progress(2, &[1])));
        assert_eq!(gate.ask(&carrier, later), Pace::Merged);
    }

    #[test]
    fn what_could_not_be_told_is_told_when_its_message_comes_again() {
        let gate = Gate::new(SECOND, 10);
        let start = Instant::now();
        assert!(matches!(gate.ask(&progress(1, &[0]), start), Pace::Now(_)));
        let carrier = progress(2, &[1]);
        assert!(matches!(gate.ask(&carrier, start), Pace::Later(_)));
        assert_eq!(gate.ask(&progress(3, &[2]), start), Pace::Merged);
        let Pace::Now(whole) = gate.ask(&carrier, start + SECOND) else {
            panic!("not told")
        };
        gate.give_back(&whole);
        let again = gate.ask(&carrier, start + SECOND * 3);
        assert_eq!(again, Pace::Now(progress(3, &[1, 2])));
    }

    #[test]
    fn a_carrier_that_never_comes_is_given_up() {
        let gate = Gate::new(SECOND, 10);
        let start = Instant::now();
        assert!(matches!(gate.ask(&progress(1, &[]), start), Pace::Now(_)));
        assert!(matches!(gate.ask(&progress(2, &[]), start), Pace::Later(_)));
        assert_eq!(
            gate.ask(&progress(3, &[]), start + SECOND * 2),
            Pace::Merged
        );
        assert!(matches!(
            gate.ask(&progress(4, &[]), start + SECOND * 6),
            Pace::Now(_)
        ));
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let gate = Gate::new(SECOND, 2);
        let start = Instant::now();
        for bits in 0..5 {
            let event = JobEvent {
                job: JobId::from_random(bits),
                ..progress(1, &[])
            };
            assert!(matches!(gate.ask(&event, start), Pace::Now(_)));
        }
        assert_eq!(gate.lock().len(), 2);
        let event = JobEvent {
            job: JobId::from_random(9),
            ..progress(1, &[])
        };
        assert!(matches!(
            gate.ask(&event, start + SECOND * 60),
            Pace::Now(_)
        ));
        assert_eq!(gate.lock().len(), 1);
        gate.forget(&event.job, 1);
        assert_eq!(gate.lock().len(), 0);
    }

    #[test]
    fn changed_items_have_a_limit() {
        let gate = Gate::new(SECOND, 2);
        let many: Vec<u16> = (0..80).collect();
        let Pace::Now(event) = gate.ask(&progress(80, &many), Instant::now()) else {
            panic!("not told")
        };
        assert_eq!(event.changed.len(), CHANGED_MAX);
    }
}
