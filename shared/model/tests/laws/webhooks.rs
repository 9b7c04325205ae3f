//! Webhook endpoints: streaks of failed calls, what is kept of them, and secrets while they are replaced.

use super::start;
use jiff::{SignedDuration, Timestamp};
use photofinish_model::webhook::{
    Call, Cause, Disabling, FAILING_MAX, FORMER_MAX, Failing, Former, OVERLAP_MAX, Standing,
    disabling, judge, owed, rotate, signing,
};
use proptest::prelude::*;
use std::time::Duration;

fn after(minutes: u32) -> Timestamp {
    start() + SignedDuration::from_mins(i64::from(minutes))
}

/// An endpoint as two stores know it: one that may be emptied, and one that may not.
#[derive(Debug, Default)]
struct Known {
    fast: Option<Failing>,
    kept: Option<Failing>,
    writes: u32,
}

impl Known {
    fn call(&mut self, call: Call, now: Timestamp) -> Option<Cause> {
        let judged = judge(self.fast.or(self.kept), call, now);
        self.fast = judged.failing;
        if owed(self.kept, judged.failing) {
            self.kept = judged.failing;
            self.writes += 1;
        }
        judged.disable
    }
}

proptest! {
    /// Disabled for failing: never before five days without a good call, whatever was forgotten meanwhile.
    #[test]
    fn nobody_is_disabled_too_soon(
        calls in prop::collection::vec((0u32..1_500, prop::bool::weighted(0.97), prop::bool::weighted(0.05)), 1..400),
    ) {
        let (mut known, mut now) = (Known::default(), 0);
        let mut bad_since: Option<u32> = None;
        for (minutes, bad, emptied) in calls {
            now += minutes;
            if emptied { known.fast = None; }
            let call = if bad { Call::Bad } else { Call::Good };
            bad_since = if bad { bad_since.or(Some(now)) } else { None };
            let disabled = known.call(call, after(now));
            if disabled.is_some() {
                let lasted = SignedDuration::from_mins(i64::from(now - bad_since.unwrap_or(now)));
                prop_assert!(lasted >= FAILING_MAX, "disabled after {lasted}");
            }
            if !bad { prop_assert_eq!((known.fast, known.kept), (None, None)); }
        }
    }

    /// Called as the schedule does, an endpoint that takes nothing is disabled soon after the fifth day, also when
    /// what is fast is emptied now and then; and little is written for it.
    #[test]
    fn whoever_is_dead_is_disabled_in_time(
        gaps in prop::collection::vec(1u32..1_584, 600), emptied in prop::collection::vec(0usize..600, 0..5),
    ) {
        let (mut known, mut now) = (Known::default(), 0);
        let mut at = None;
        for (turn, gap) in gaps.iter().enumerate() {
            if emptied.contains(&turn) { known.fast = None; }
            if let Some(Cause::Failing) = known.call(Call::Bad, after(now)) { at = Some(now); break; }
            now += gap;
        }
        let day = 24 * 60;
        let at = at.expect("600 calls last longer than five days and an hour for each emptying");
        prop_assert!(at >= 5 * day);
        // What an emptying can cost: the hour that was not kept yet, and the gap over it, each time before the first keeping.
        prop_assert!(at <= 5 * day + 1_584 * (2 + emptied.len() as u32 * 2), "after {} minutes", at);
        prop_assert!(known.writes <= 3 + at / (12 * 60), "{} writes", known.writes);
    }

    #[test]
    fn what_signs_is_the_new_one_and_those_whose_time_is_not_over(
        rotations in prop::collection::vec((0u32..20_000, 0u64..8 * 24 * 3600), 1..30),
        look in 0u32..30_000,
    ) {
        let (mut current, mut former, mut now) = ("s0".to_owned(), Vec::<Former>::new(), 0);
        let mut ends: Vec<(String, Timestamp)> = Vec::new();
        for (turn, (minutes, overlap)) in rotations.into_iter().enumerate() {
            now += minutes;
            let overlap = Duration::from_secs(overlap);
            let Ok(next) = rotate(&former, current.clone(), overlap, after(now)) else {
                prop_assert!(former.iter().filter(|old| old.until > after(now)).count() >= FORMER_MAX);
                continue;
            };
            if overlap.is_zero() { ends.clear(); }
            ends.push((current, after(now) + overlap.min(OVERLAP_MAX)));
            (current, former) = (format!("s{}", turn + 1), next);
            prop_assert!(former.len() <= FORMER_MAX);
        }
        let at = after(now + look);
        let expected: Vec<&str> = std::iter::once(current.as_str())
            .chain(ends.iter().rev().filter(|(_, until)| *until > at).map(|(secret, _)| secret.as_str()))
            .collect();
        prop_assert_eq!(signing(&current, &former, at).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn gone_is_gone_at_once_and_a_long_silence_begins_a_new_streak() {
    let gone = judge(None, Call::Gone, start());
    assert_eq!(gone.disable, Some(Cause::Gone));
    let (first, long_after) = (start(), start() + SignedDuration::from_hours(13 * 24));
    let streak = judge(None, Call::Bad, first).failing;
    let judged = judge(streak, Call::Bad, long_after);
    assert_eq!(judged.disable, None);
    assert_eq!(judged.failing.unwrap().since, long_after);
}

#[test]
fn an_overlap_of_nothing_ends_every_earlier_secret() {
    let hour = Duration::from_secs(3600);
    let former = rotate(&[], "a".to_owned(), hour, start()).unwrap();
    assert_eq!(
        signing("b", &former, start()).collect::<Vec<_>>(),
        ["b", "a"]
    );
    let former = rotate(&former, "b".to_owned(), Duration::ZERO, start()).unwrap();
    assert_eq!(signing("c", &former, start()).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn a_wish_to_disable_counts_once_and_not_after_its_owner_enabled_it() {
    let (at, later) = (start(), after(1));
    let standing = |enabled, enabled_at, disabled_at| Standing {
        enabled,
        enabled_at,
        disabled_at,
    };
    for (standing, expected) in [
        (standing(true, None, None), Disabling::Now),
        (standing(false, None, Some(at)), Disabling::Done),
        (standing(false, None, Some(later)), Disabling::Void),
        (standing(false, None, None), Disabling::Void),
        (standing(true, Some(later), None), Disabling::Void),
    ] {
        assert_eq!(disabling(standing, at), expected, "{standing:?}");
    }
    assert_eq!(
        disabling(standing(true, Some(at), None), later),
        Disabling::Now
    );
}
