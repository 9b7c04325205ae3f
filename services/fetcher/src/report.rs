//! What a turn tells of an attempt: that it began, and how it ended.

use crate::error::Error;
use crate::telemetry;
use crate::turn::Turn;
use jiff::{SignedDuration, Timestamp};
use photofinish_broker::{Outgoing, Route, Target};
use photofinish_contract::announcement::ItemError;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{
    AttemptEnd, AttemptUsage, Command, JobCommand, PartFinished, PlanMessage,
};
use photofinish_jobstore::Started;
use photofinish_model::ItemIndex;
use photofinish_model::attempt::{End, Phase};
use photofinish_model::sequence::Moment;

/// Room for the errors in a report, in bytes: messages stay under 64 KiB.
const ERRORS_BYTES_MAX: usize = 36 * 1024;
/// Lengths in characters to which details are cut, one after the other, until they fit.
const DETAIL_CHARS: [usize; 5] = [2000, 300, 120, 40, 0];

impl Turn {
    pub(crate) async fn tell_started(&mut self) -> Result<(), Error> {
        if let Phase::Running { worker, since } = &self.watch.phase {
            self.message.watch.worker_id = Some(worker.clone());
            let at = *since;
            self.tell_began(at).await?;
        }
        Ok(())
    }

    /// Tells the job that it began, once in a watch.
    async fn tell_began(&mut self, at: Timestamp) -> Result<(), Error> {
        if self.message.watch.started_at.is_some() {
            return Ok(());
        }
        let attempt = self.message.attempt.clone();
        let jobstore = &self.core.jobstore;
        let mut started = jobstore.mark_started(&attempt.job, attempt.run, at).await?;
        if started == Started::Missing && self.core.restore(&attempt).await? {
            started = jobstore.mark_started(&attempt.job, attempt.run, at).await?;
        }
        if started != Started::RunOver {
            let told = self
                .core
                .tell(&attempt, EventType::JobStarted, Moment::Started, Vec::new());
            told.await?;
        }
        self.message.watch.started_at = Some(at);
        Ok(())
    }

    /// An attempt that was over before anybody saw it run began all the same.
    async fn tell_began_unseen(&mut self, end: &End, gpu_seconds: f64) -> Result<(), Error> {
        match end {
            End::Completed | End::Failed(_) => {
                let now = self.core.clock.now();
                let ago = SignedDuration::try_from_secs_f64(gpu_seconds).unwrap_or_default();
                self.tell_began(now.checked_sub(ago).unwrap_or(now)).await
            }
            End::Lost(_) | End::NeverStarted | End::Unknown | End::RunOver => Ok(()),
        }
    }

    /// A job that fails as a whole need not wait for what else its worker does. Once in a watch:
    /// one such item is enough.
    pub(crate) async fn tell_failed(&mut self) -> Result<(), Error> {
        let permanent = self.errors.values().filter(|error| error.permanent);
        let errors = fitting(permanent.cloned().collect());
        if !self.message.fails_at_once || self.message.watch.told_failed || errors.is_empty() {
            return Ok(());
        }
        let attempt = &self.message.attempt;
        let command = PlanMessage::JobCommand(JobCommand {
            job: attempt.job.clone(),
            tenant: attempt.tenant.clone(),
            run: attempt.run,
            command: Command::ItemsFailed {
                attempt: Box::new(attempt.clone()),
                errors,
            },
        });
        let outgoing = Outgoing::json(Target::Pipeline(Route::JobCommand), &command)?
            .message_id(format!("{}.failed", attempt.nonce));
        self.core.publisher.publish(outgoing).await?;
        self.message.watch.told_failed = true;
        Ok(())
    }

    /// Outputs that were announced, and that nobody will fetch any more.
    fn lost(&self) -> usize {
        let announced = |index: &&ItemIndex| self.seen.contains_key(*index);
        let failed = |index: &&ItemIndex| self.errors.contains_key(*index);
        let wanted = self.watch.wanted.iter();
        wanted
            .filter(announced)
            .filter(|index| !failed(index))
            .count()
    }

    pub(crate) async fn report(&mut self, end: End) -> Result<(), Error> {
        let usage = AttemptUsage {
            gpu_seconds: self.executed_s.unwrap_or(self.spent.taken_s),
            linger_s: self.spent.linger_s,
            rescued: self.message.watch.rescued,
        };
        tracing::info!(attempt = %self.message.attempt, ?end, gpu_seconds = usage.gpu_seconds,
            linger_s = usage.linger_s, rescued = usage.rescued, missing = self.watch.wanted.len(),
            "attempt over");
        if end != End::RunOver {
            telemetry::races_lost(self.lost());
        }
        self.tell_began_unseen(&end, usage.gpu_seconds).await?;
        let message = PartFinished {
            attempt: self.message.attempt.clone(),
            endpoint: self.message.endpoint.clone(),
            end: attempt_end(end),
            errors: fitting(self.errors.values().cloned().collect()),
            usage,
            worker_id: self.message.watch.worker_id.clone(),
            items: self.message.items.clone(),
            suspects: self.message.watch.rendering.clone(),
            state: self.message.state.clone(),
            nothing_pushed: self.nothing_pushed && !self.message.watch.others,
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartFinished), &message)?
            .message_id(format!("{}.end", message.attempt.nonce));
        self.core.publisher.publish(outgoing).await?;
        Ok(())
    }
}

/// Errors with their details cut so far that they fit into a message. Should even the codes be too
/// many, the last ones are left out: their items run again and are told of then.
fn fitting(mut errors: Vec<ItemError>) -> Vec<ItemError> {
    let fits = |errors: &[ItemError]| {
        serde_json::to_vec(errors).is_ok_and(|json| json.len() <= ERRORS_BYTES_MAX)
    };
    for chars in DETAIL_CHARS {
        for error in &mut errors {
            cut(&mut error.fault.detail, chars);
        }
        if fits(&errors) {
            return errors;
        }
    }
    while !fits(&errors) {
        errors.truncate(errors.len() / 2);
    }
    errors
}

fn cut(text: &mut String, chars: usize) {
    if let Some((at, _)) = text.char_indices().nth(chars) {
        text.truncate(at);
        text.push('…');
    }
}

fn attempt_end(end: End) -> AttemptEnd {
    match end {
        End::Completed => AttemptEnd::Completed,
        End::Failed(reason) => AttemptEnd::Failed { reason },
        End::Lost(reason) => AttemptEnd::Lost { reason },
        End::NeverStarted => AttemptEnd::NeverStarted,
        End::Unknown => AttemptEnd::Unknown,
        End::RunOver => AttemptEnd::RunOver,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_model::{Code, Fault};

    fn errors(count: u16, chars: usize) -> Vec<ItemError> {
        (0..count)
            .map(|index| ItemError {
                index,
                fault: Fault::new(Code::NotAnImage, "ã".repeat(chars)),
                permanent: true,
            })
            .collect()
    }

    #[test]
    fn errors_fit_into_a_message_however_many_they_are() {
        assert_eq!(fitting(errors(3, 100)), errors(3, 100));
        for (count, chars) in [(334, 250), (1000, 250), (1, 100_000)] {
            let fitted = fitting(errors(count, chars));
            assert!(serde_json::to_vec(&fitted).unwrap().len() <= ERRORS_BYTES_MAX);
            assert!(!fitted.is_empty());
        }
        assert_eq!(
            fitting(errors(334, 250)).len(),
            334,
            "the usual part keeps every code"
        );
    }
}
