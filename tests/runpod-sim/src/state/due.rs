//! What becomes due by itself: timeouts, expiry, lost workers, and how jobs end or run again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Effect, Final, Phase, State};

/// How often expired jobs are looked for; there may be many.
const EXPIRY_PERIOD: Duration = Duration::from_secs(1);

impl State {
    /// What has become due: timeouts, lost workers, expired results.
    pub fn tick(&mut self, now: Instant) {
        self.expire(now);
        self.end_overdue(now);
        self.abandon_denied(now);
        let lost: Vec<(String, bool)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.is_lost(&self.rules, now))
            .map(|(id, worker)| (id.clone(), worker.ours))
            .collect();
        for (id, ours) in lost {
            if ours {
                // A poll of it that is still open must not get its own job back.
                self.worker_stopping(&id);
                self.requeue_all(&id, now);
                self.effects.push(Effect::KillWorker { worker: id });
            } else {
                self.worker_gone(&id, "unheard of", now);
            }
        }
    }

    fn end_overdue(&mut self, now: Instant) {
        let lag = self.rules.execution_lag;
        let held = self.workers.values().flat_map(|worker| worker.jobs.keys());
        let overdue: Vec<(String, String)> = held
            .filter_map(|id| Some((id.clone(), self.jobs.get(id)?.overdue(lag, now)?)))
            .collect();
        for (id, worker) in overdue {
            self.release(&id, now);
            let error = "executionTimeout exceeded".to_owned();
            self.end(&id, Final::Failed(error), now);
            self.stop_worker(&worker);
        }
    }

    /// A worker that polls as if it had no job is believed after a while.
    fn abandon_denied(&mut self, now: Instant) {
        let denial = self.rules.denial;
        let denied: Vec<String> = self
            .workers
            .iter_mut()
            .filter(|(_, worker)| {
                let since = worker.denies_since.filter(|_| !worker.jobs.is_empty());
                since.is_some_and(|since| now.saturating_duration_since(since) >= denial)
            })
            .map(|(id, worker)| {
                worker.denies_since = None;
                id.clone()
            })
            .collect();
        for id in denied {
            self.requeue_all(&id, now);
        }
    }

    /// Removes jobs past their ttl in whatever state, and ended ones past retention. One that
    /// nobody took is told as TIMED_OUT to its webhook first.
    fn expire(&mut self, now: Instant) {
        let since = self.expired_at.map(|at| now.saturating_duration_since(at));
        if since.is_some_and(|since| since < EXPIRY_PERIOD) {
            return;
        }
        self.expired_at = Some(now);
        let rules = &self.rules;
        let expired: HashSet<String> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.is_expired(now) || job.is_forgotten(rules, now))
            .map(|(id, _)| id.clone())
            .collect();
        self.queue.retain(|id| !expired.contains(id));
        for id in expired {
            match self.jobs.get(&id).map(|job| &job.phase) {
                Some(Phase::Queued) => self.end(&id, Final::TimedOut, now),
                Some(Phase::Running { .. }) => self.release(&id, now),
                Some(Phase::Ended { .. }) | None => {}
            }
            self.jobs.remove(&id);
        }
    }

    /// Takes a job from wherever it waits or runs; its workers are told to stop it.
    pub(super) fn release(&mut self, id: &str, now: Instant) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let Some(owner) = job.owner() else {
            return self.queue.retain(|queued| queued != id);
        };
        let mut holders = vec![owner.to_owned()];
        holders.extend(job.doubles.iter().cloned());
        for worker in holders {
            self.forget_owner(&worker, id, now);
            if let Some(record) = self.workers.get_mut(&worker) {
                record.stops.push(id.to_owned());
                record.stopped.insert(id.to_owned(), now);
            }
        }
    }

    pub(super) fn forget_owner(&mut self, worker: &str, id: &str, now: Instant) {
        if let Some(record) = self.workers.get_mut(worker)
            && record.jobs.remove(id).is_some()
        {
            record.idle_since = now;
            if record.jobs.is_empty() {
                record.denies_since = None;
            }
        }
    }

    pub(super) fn end(&mut self, id: &str, end: Final, now: Instant) {
        let Some(job) = self.jobs.get_mut(id).filter(|job| !job.has_ended()) else {
            return;
        };
        match &end {
            Final::Completed => self.totals.completed += 1,
            Final::Failed(_) | Final::TimedOut => self.totals.failed += 1,
            Final::Cancelled => {}
        }
        job.end(end, now);
        if let Some(url) = job.webhook.clone() {
            let body = job.view(id);
            self.effects.push(Effect::CallWebhook { url, body });
        }
    }

    /// A worker has let go of a job without a word: it runs again, unless somebody else has it.
    pub(super) fn lose_hold(&mut self, worker: &str, id: &str, now: Instant) {
        self.forget_owner(worker, id, now);
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.is_with(worker)) else {
            return;
        };
        if job.owner() != Some(worker) {
            return job.doubles.retain(|double| double != worker);
        }
        if job.retries >= self.rules.retries_max {
            return self.end(id, Final::TimedOut, now);
        }
        let delay = self.rules.requeue_delay;
        job.queue_again((!delay.is_zero()).then(|| now + delay), now);
        self.totals.retried += 1;
        self.queue.push_front(id.to_owned());
    }

    pub(super) fn requeue_all(&mut self, worker: &str, now: Instant) {
        let held = self.workers.get_mut(worker);
        let held = held.map(|record| std::mem::take(&mut record.jobs));
        for id in held.unwrap_or_default().into_keys() {
            self.lose_hold(worker, &id, now);
        }
        if let Some(record) = self.workers.get_mut(worker) {
            record.idle_since = now;
        }
    }
}
