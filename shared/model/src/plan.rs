//! From a job's items to parts: the slices that run side by side.
//!
//! Parts are balanced by the work in them (frames), not by their number of items; the order of
//! the outputs is carried by the items' indices, so a part may hold any of them.

use crate::ItemIndex;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How jobs are split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanPolicy {
    /// Jobs with more items than this are split over several workers.
    pub split_over: u16,
    /// Parts that a split job is given at first.
    pub parallel_max: u16,
    /// No part is estimated to take longer than this.
    pub part_work_max: Duration,
    /// Frames that a worker is estimated to render in a second.
    pub frames_per_second: f64,
}

impl Default for PlanPolicy {
    fn default() -> Self {
        Self {
            split_over: 50,
            parallel_max: 3,
            part_work_max: Duration::from_secs(300),
            frames_per_second: 120.0,
        }
    }
}

/// One item's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemWork {
    /// The item.
    pub index: ItemIndex,
    /// Frames to render; 0 where nobody knows (then it counts as one part's work alone).
    pub frames: u32,
}

/// One part: which items, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlan {
    /// The part, from 0.
    pub part: u16,
    /// Its items, ascending.
    pub items: Vec<ItemIndex>,
}

/// Estimated seconds of work.
pub fn estimate(frames: u64, policy: &PlanPolicy) -> Duration {
    Duration::from_secs_f64(frames as f64 / policy.frames_per_second.max(0.001))
}

/// Splits a job. Every item is in exactly one part, no part is empty, and the same items give the
/// same plan.
pub fn plan(items: &[ItemWork], policy: &PlanPolicy) -> Vec<PartPlan> {
    if items.is_empty() {
        return Vec::new();
    }
    let frames: u64 = items.iter().map(|item| u64::from(item.frames)).sum();
    let by_work = estimate(frames, policy).as_secs_f64() / policy.part_work_max.as_secs_f64();
    let wanted = if items.len() > usize::from(policy.split_over) {
        usize::from(policy.parallel_max)
    } else {
        1
    };
    let count = wanted.max(by_work.ceil() as usize).clamp(1, items.len());
    balance(items, count)
}

/// Longest first, each to the part with the least work so far.
fn balance(items: &[ItemWork], count: usize) -> Vec<PartPlan> {
    let mut longest_first = items.to_vec();
    longest_first.sort_by_key(|item| (std::cmp::Reverse(item.frames), item.index));
    let mut parts: Vec<(u64, Vec<ItemIndex>)> = vec![(0, Vec::new()); count];
    for item in longest_first {
        // An item without known work still fills a place, so that parts stay even in number.
        let work = u64::from(item.frames.max(1));
        let lightest = parts
            .iter_mut()
            .min_by_key(|(load, members)| (*load, members.len()))
            .expect("count is at least one");
        lightest.0 += work;
        lightest.1.push(item.index);
    }
    let mut members: Vec<Vec<ItemIndex>> = parts.into_iter().map(|(_, members)| members).collect();
    for part in &mut members {
        part.sort_unstable();
    }
    members.sort();
    members
        .into_iter()
        .enumerate()
        .map(|(part, items)| PartPlan {
            part: part as u16,
            items,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn equal(count: u16, frames: u32) -> Vec<ItemWork> {
        (0..count).map(|index| ItemWork { index, frames }).collect()
    }

    #[test]
    fn fifty_stay_together_and_fifty_one_are_split_in_three() {
        let policy = PlanPolicy::default();
        assert_eq!(plan(&equal(50, 60), &policy).len(), 1);
        let split = plan(&equal(51, 60), &policy);
        assert_eq!(
            split
                .iter()
                .map(|part| part.items.len())
                .collect::<Vec<_>>(),
            [17, 17, 17]
        );
    }

    #[test]
    fn a_part_holds_no_more_than_its_work() {
        let policy = PlanPolicy::default();
        // 40 clips of ten minutes at 30 frames a second.
        let parts = plan(&equal(40, 18_000), &policy);
        for part in &parts {
            let frames = part.items.len() as u64 * 18_000;
            assert!(
                estimate(frames, &policy) <= policy.part_work_max,
                "{part:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_item_is_in_exactly_one_part(
            frames in prop::collection::vec(0u32..20_000, 0..400),
            split_over in 1u16..100, parallel_max in 1u16..8,
        ) {
            let items: Vec<ItemWork> = frames.iter().enumerate()
                .map(|(index, frames)| ItemWork { index: index as u16, frames: *frames }).collect();
            let policy = PlanPolicy { split_over, parallel_max, ..PlanPolicy::default() };
            let parts = plan(&items, &policy);
            let mut all: Vec<u16> = parts.iter().flat_map(|part| part.items.clone()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..items.len() as u16).collect::<Vec<_>>());
            prop_assert!(parts.iter().all(|part| !part.items.is_empty()));
            prop_assert!(parts.iter().enumerate().all(|(at, part)| usize::from(part.part) == at));
            prop_assert_eq!(plan(&items, &policy), parts);
        }

        #[test]
        fn loads_differ_by_no_more_than_the_largest_item(
            frames in prop::collection::vec(1u32..5_000, 51..300),
        ) {
            let items: Vec<ItemWork> = frames.iter().enumerate()
                .map(|(index, frames)| ItemWork { index: index as u16, frames: *frames }).collect();
            let parts = plan(&items, &PlanPolicy::default());
            let loads: Vec<u64> = parts.iter()
                .map(|part| part.items.iter().map(|at| u64::from(frames[usize::from(*at)])).sum())
                .collect();
            let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
            prop_assert!(spread <= u64::from(*frames.iter().max().unwrap()), "{loads:?}");
        }
    }
}
