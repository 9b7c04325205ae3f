//! Deliveries: total, final, bounded, the contract's schedule to the second, and no way to shorten it.

use photofinish_model::delivery::{
    Answer, DeliveryStatus, JITTER, LATE_MAX, Next, OBEYED_EXACTLY_MAX, RETRY_AFTER_MAX, SCHEDULE,
    TRIES_MAX, after, spent, uncalled,
};
use proptest::prelude::*;
use std::time::Duration;

const PENDING: DeliveryStatus = DeliveryStatus::Pending;
const HOUR: Duration = Duration::from_secs(3600);

fn status(status: u16, retry_after: Option<u64>) -> Answer {
    Answer::Status {
        status,
        retry_after: retry_after.map(Duration::from_secs),
    }
}

/// Plays a receiver that answers so at each try, given its number and age; gives the pauses, and how it ended.
fn play(
    jitter: f64,
    mut answer: impl FnMut(u16, Duration) -> Answer,
) -> (Vec<Duration>, DeliveryStatus) {
    let (mut pauses, mut age) = (Vec::new(), Duration::ZERO);
    for tries in 1..=TRIES_MAX {
        match after(PENDING, tries, age, answer(tries, age), jitter) {
            Next::RetryIn(pause) => {
                age += pause;
                pauses.push(pause);
            }
            end @ (Next::Delivered | Next::GiveUp | Next::Disable) => {
                return (pauses, end.status());
            }
        }
    }
    (pauses, PENDING)
}

proptest! {
    #[test]
    fn delivery_is_total_final_and_bounded(
        answers in prop::collection::vec(
            (prop_oneof![any::<u16>(), Just(429), Just(503)], any::<Option<u64>>(), any::<bool>()),
            usize::from(TRIES_MAX)),
        jitter in 0.0f64..1.0,
    ) {
        let said = |tries: u16, _: Duration| {
            let (code, after, silent) = answers[usize::from(tries) - 1];
            if silent { Answer::NoAnswer } else { status(code, after) }
        };
        let (pauses, end) = play(jitter, said);
        prop_assert!(end != PENDING, "ends within its tries");
        prop_assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(1)));
        prop_assert!(pauses.iter().sum::<Duration>() < 5 * 24 * HOUR);
        for done in [DeliveryStatus::Delivered, DeliveryStatus::Failed] {
            let (code, after_s, _) = answers[0];
            let next = after(done, 1, Duration::ZERO, status(code, after_s), jitter);
            prop_assert_eq!(next.status(), done);
        }
    }

    /// However soon a receiver asks to be called again: it has about three days, not a few seconds.
    #[test]
    fn a_small_retry_after_spends_no_try(
        wanted in 0u64..120, code in prop_oneof![Just(429u16), Just(503)], jitter in 0.0f64..1.0,
    ) {
        let (pauses, end) = play(jitter, |_, _| status(code, Some(wanted)));
        prop_assert_eq!(end, DeliveryStatus::Failed);
        let lived: Duration = pauses.iter().sum();
        prop_assert!(lived >= 60 * HOUR, "given up after {} s", lived.as_secs());
        prop_assert!(lived <= 90 * HOUR, "given up after {} s", lived.as_secs());
        let exact = Duration::from_secs(wanted.max(1));
        let first = usize::from(OBEYED_EXACTLY_MAX);
        prop_assert!(pauses.iter().take(first).all(|pause| *pause == exact));
        prop_assert!(pauses.len() < usize::from(TRIES_MAX));
    }

    /// Whatever keeps its receiver from being called: it waits, spends nothing, and ends.
    #[test]
    fn what_cannot_be_called_waits_within_bounds(hours in 0u32..300, wait_s in 1u64..600) {
        let wait = Duration::from_secs(wait_s);
        let next = uncalled(HOUR * hours, wait);
        prop_assert_eq!(next == Next::RetryIn(wait), HOUR * hours < LATE_MAX);
        prop_assert_eq!(next == Next::GiveUp, hours >= 96);
        let schedule: Duration = SCHEDULE.iter().sum();
        prop_assert!(LATE_MAX > schedule.mul_f64(1.0 + JITTER), "the last try comes first");
    }

    #[test]
    fn no_more_tries_are_spent_than_there_was_time_for(tries in 0u16..400, hours in 0u32..200) {
        let age = HOUR * hours;
        prop_assert!(spent(tries, age) <= tries.min(10));
        prop_assert!(spent(tries, age) <= spent(tries, age + HOUR));
        if hours >= 76 { prop_assert_eq!(spent(tries, age), tries.min(10)); }
    }
}

#[test]
fn delivery_obeys_the_contract() {
    let first = |answer| after(PENDING, 1, Duration::ZERO, answer, 0.5);
    assert_eq!(first(status(204, None)), Next::Delivered);
    assert_eq!(first(status(410, None)), Next::Disable);
    assert_eq!(first(Answer::Refused), Next::GiveUp);
    for again in [301, 302, 308, 400, 404, 429, 500, 503] {
        let next = first(status(again, None));
        assert_eq!(next, Next::RetryIn(Duration::from_secs(5)), "{again}");
    }
    for busy in [429, 503] {
        let minute = first(status(busy, Some(60)));
        assert_eq!(minute, Next::RetryIn(Duration::from_secs(60)));
        let day = first(status(busy, Some(90_000)));
        assert_eq!(day, Next::RetryIn(RETRY_AFTER_MAX));
        assert_eq!(first(status(busy, Some(0))), Next::RetryIn(HOUR / 3600));
    }
    // Only from those two.
    let other = first(status(500, Some(60)));
    assert_eq!(other, Next::RetryIn(Duration::from_secs(5)));
}

/// The pauses of contract section 4, each within a tenth, and then it is over.
#[test]
fn a_dead_receiver_is_called_ten_times_in_three_days() {
    for jitter in [0.0, 0.5, 1.0] {
        let (pauses, end) = play(jitter, |_, _| Answer::NoAnswer);
        assert_eq!(end, DeliveryStatus::Failed);
        let minutes = [300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        let contract = std::iter::once(5).chain(minutes).map(Duration::from_secs);
        assert_eq!(contract.collect::<Vec<_>>(), SCHEDULE);
        assert_eq!(pauses.len(), SCHEDULE.len());
        for (pause, wanted) in pauses.iter().zip(SCHEDULE) {
            let share = pause.as_secs_f64() / wanted.as_secs_f64();
            let expected = 1.0 - JITTER + 2.0 * JITTER * jitter;
            assert!(
                (share - expected).abs() < 1e-9,
                "{share} against {expected}"
            );
        }
    }
}

#[test]
fn rounds_in_which_nobody_was_asked_do_not_use_up_the_schedule() {
    let seconds = Duration::from_secs;
    // Ten minutes of a bucket that is away, every two seconds.
    assert_eq!(spent(300, seconds(600)), 3);
    assert_eq!(spent(300, seconds(0)), 1);
    // What was counted is never exceeded.
    assert_eq!(spent(0, seconds(600)), 0);
    assert_eq!(spent(4, seconds(90_000)), 4);
    // After the whole schedule it is over all the same.
    assert_eq!(spent(300, seconds(76 * 3600)), 10);
}
