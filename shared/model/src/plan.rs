//! From a job's items to parts: the slices that run side by side.
//!
//! Parts are balanced by the estimated work in them, not by their number of items; the order of
//! the outputs is carried by the items' indices, so a part may hold any of them.

use crate::ItemIndex;
use crate::estimate::{Forecast, Rate};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// How jobs are split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanPolicy {
    /// Jobs with more items than this are split over several workers.
    pub split_over: u16,
    /// Parts that a split job is given at first.
    pub parallel_max: u16,
    /// No part is estimated to take longer than this, unless it is a single item.
    pub part_work_max: Duration,
}

impl Default for PlanPolicy {
    fn default() -> Self {
        Self {
            split_over: 50,
            parallel_max: 3,
            part_work_max: Duration::from_secs(300),
        }
    }
}

/// One item's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemWork {
    /// The item.
    pub index: ItemIndex,
    /// Frames to render; 0 where nobody knows.
    pub frames: u32,
    /// Pixels of a frame; 0 where nobody knows.
    pub frame_pixels: u32,
}

impl ItemWork {
    /// Pixels in all frames.
    pub fn pixels(&self) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_pixels)
    }

    fn micros(&self, rate: Rate) -> u64 {
        rate.item_work_us(self.pixels())
    }
}

/// One part: which items, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlan {
    /// The part, from 0.
    pub part: u16,
    /// Its items, ascending.
    pub items: Vec<ItemIndex>,
}

/// What a plan is expected to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// Each part's work, in the plan's order.
    pub parts: Vec<Duration>,
    /// Seconds of GPU in all.
    pub work: Duration,
    /// From the first worker's start to the last output: as many parts side by side as a split job
    /// is given, and no shorter than the longest part.
    pub wall: Duration,
    /// The items in the plan.
    pub items: u32,
}

impl Outlook {
    /// What is kept of it with the run.
    pub fn forecast(&self) -> Forecast {
        Forecast {
            items: self.items,
            wall_ms: u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What a plan of these items, which are ascending, is expected to take.
pub fn outlook(items: &[ItemWork], parts: &[PartPlan], policy: &PlanPolicy, rate: Rate) -> Outlook {
    let of_item = |index: &ItemIndex| {
        let at = items.binary_search_by_key(index, |item| item.index);
        at.map_or(0, |at| items[at].micros(rate))
    };
    let of_part = |part: &PartPlan| {
        let micros = part.items.iter().map(of_item).fold(0, u64::saturating_add);
        Duration::from_micros(micros)
    };
    let parts: Vec<Duration> = parts.iter().map(of_part).collect();
    let work = parts
        .iter()
        .fold(Duration::ZERO, |sum, part| sum.saturating_add(*part));
    let at_once = parts.len().min(usize::from(policy.parallel_max)).max(1) as u32;
    let longest = parts.iter().max().copied().unwrap_or_default();
    Outlook {
        parts,
        work,
        wall: longest.max(work / at_once),
        items: items.len() as u32,
    }
}

/// Splits a job. Every item is in exactly one part, no part is empty, none is above
/// `part_work_max` unless it is a single item, and the same items give the same plan.
pub fn plan(items: &[ItemWork], policy: &PlanPolicy, rate: Rate) -> Vec<PartPlan> {
    if items.is_empty() {
        return Vec::new();
    }
    let work_max = u64::try_from(policy.part_work_max.as_micros()).unwrap_or(u64::MAX);
    let works: Vec<(u64, ItemIndex)> = items
        .iter()
        .map(|item| (item.micros(rate), item.index))
        .collect();
    let total = works.iter().fold(0u64, |sum, at| sum.saturating_add(at.0));
    let by_work = usize::try_from(total.div_ceil(work_max.max(1))).unwrap_or(usize::MAX);
    let wanted = if items.len() > usize::from(policy.split_over) {
        usize::from(policy.parallel_max)
    } else {
        1
    };
    let mut count = wanted.max(by_work).clamp(1, items.len());
    loop {
        let loads = balance(&works, count);
        let too_much = |load: &Load| load.work > work_max && load.items.len() > 1;
        // As many parts as items are single items: it ends.
        if count >= items.len() || !loads.iter().any(too_much) {
            return numbered(loads);
        }
        count = (count + 1 + count / 16).min(items.len());
    }
}

/// What a part has got so far; ordered by its work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    work: u64,
    items: Vec<ItemIndex>,
}

/// Longest first, each to the part with the least work so far.
fn balance(works: &[(u64, ItemIndex)], count: usize) -> Vec<Load> {
    let mut longest_first = works.to_vec();
    longest_first.sort_unstable_by_key(|(work, index)| (Reverse(*work), *index));
    let mut lightest_first: BinaryHeap<Reverse<(u64, usize, usize)>> =
        (0..count).map(|part| Reverse((0, 0, part))).collect();
    let mut parts = vec![
        Load {
            work: 0,
            items: Vec::new()
        };
        count
    ];
    for (work, index) in longest_first {
        let Some(Reverse((load, members, part))) = lightest_first.pop() else {
            break;
        };
        parts[part].work = load.saturating_add(work);
        parts[part].items.push(index);
        lightest_first.push(Reverse((parts[part].work, members + 1, part)));
    }
    parts
}

fn numbered(loads: Vec<Load>) -> Vec<PartPlan> {
    let mut members: Vec<Vec<ItemIndex>> = loads.into_iter().map(|load| load.items).collect();
    for part in &mut members {
        part.sort_unstable();
    }
    members.sort();
    (0..)
        .zip(members)
        .map(|(part, items)| PartPlan { part, items })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operation;
    use crate::estimate::Prior;
    use proptest::prelude::*;

    fn works(frames: &[u32]) -> Vec<ItemWork> {
        (0..)
            .zip(frames)
            .map(|(index, frames)| ItemWork {
                index,
                frames: *frames,
                frame_pixels: 1920 * 1080,
            })
            .collect()
    }

    fn equal(count: usize, frames: u32) -> Vec<ItemWork> {
        works(&vec![frames; count])
    }

    fn rate() -> Rate {
        Prior::default().rate(Operation::Img2vid)
    }

    fn loads(items: &[ItemWork], parts: &[PartPlan], rate: Rate) -> Vec<Duration> {
        outlook(items, parts, &PlanPolicy::default(), rate).parts
    }

    #[test]
    fn fifty_stay_together_and_fifty_one_are_split_in_three() {
        let policy = PlanPolicy::default();
        assert_eq!(plan(&equal(50, 60), &policy, rate()).len(), 1);
        let split = plan(&equal(51, 60), &policy, rate());
        let sizes: Vec<usize> = split.iter().map(|part| part.items.len()).collect();
        assert_eq!(sizes, [17, 17, 17]);
    }

    #[test]
    fn what_an_item_costs_besides_its_frames_decides_what_is_even() {
        // Ten long clips and ninety short ones. By frames alone the long ones are nearly all there
        // is to do; where an item itself costs as much as they do, numbers count.
        let frames: Vec<u32> = (0..100).map(|at| if at < 10 { 3000 } else { 30 }).collect();
        let items = works(&frames);
        let policy = PlanPolicy {
            part_work_max: Duration::from_hours(9),
            ..PlanPolicy::default()
        };
        let fewest = |rate| {
            let parts = plan(&items, &policy, rate);
            parts.iter().map(|part| part.items.len()).min()
        };
        assert_eq!(fewest(Rate::of_seconds(0.001, 0.01)), Some(4));
        assert_eq!(fewest(Rate::of_seconds(60.0, 0.001)), Some(33));
    }

    #[test]
    fn what_a_plan_takes() {
        let items = equal(60, 60);
        let policy = PlanPolicy::default();
        let parts = plan(&items, &policy, rate());
        let told = outlook(&items, &parts, &policy, rate());
        // 3,600 frames at 120 a second, and a quarter of a second for each picture.
        assert_eq!(told.work.as_secs(), 45, "{told:?}");
        assert_eq!(told.wall.as_secs(), 15, "three parts at once");
        assert_eq!((told.items, told.forecast().wall_ms / 1000), (60, 15));
        // Twelve parts, three at once.
        let long = equal(12, 30_000);
        let parts = plan(&long, &policy, rate());
        let told = outlook(&long, &parts, &policy, rate());
        assert_eq!((parts.len(), told.wall.as_secs()), (12, 4 * 250 + 1));
    }

    proptest! {
        #[test]
        fn every_item_is_in_exactly_one_part(
            frames in prop::collection::vec(0u32..20_000, 0..400),
            split_over in 1u16..100, parallel_max in 1u16..8,
        ) {
            let items = works(&frames);
            let policy = PlanPolicy { split_over, parallel_max, ..PlanPolicy::default() };
            let parts = plan(&items, &policy, rate());
            let mut all: Vec<u16> = parts.iter().flat_map(|part| part.items.clone()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..items.len() as u16).collect::<Vec<_>>());
            prop_assert!(parts.iter().all(|part| !part.items.is_empty()));
            prop_assert!(parts.iter().enumerate().all(|(at, part)| usize::from(part.part) == at));
            prop_assert!(items.len() <= usize::from(split_over)
                || parts.len() >= usize::from(parallel_max).min(items.len()));
            prop_assert_eq!(plan(&items, &policy, rate()), parts);
        }

        #[test]
        fn no_part_is_above_its_work_unless_it_is_a_single_item(
            frames in prop::collection::vec(0u32..60_000, 1..400), max_s in 1u64..600,
            item_s in 0.001f64..100.0, megapixel_s in 0.000_01f64..0.1,
        ) {
            let items = works(&frames);
            let part_work_max = Duration::from_secs(max_s);
            let policy = PlanPolicy { part_work_max, ..PlanPolicy::default() };
            let rate = Rate::of_seconds(item_s, megapixel_s);
            let parts = plan(&items, &policy, rate);
            for (part, load) in parts.iter().zip(loads(&items, &parts, rate)) {
                prop_assert!(load <= part_work_max || part.items.len() == 1, "{load:?} {part:?}");
            }
        }

        #[test]
        fn loads_differ_by_no_more_than_the_largest_item(
            frames in prop::collection::vec(1u32..5_000, 51..300),
        ) {
            let items = works(&frames);
            let parts = plan(&items, &PlanPolicy::default(), rate());
            let loads = loads(&items, &parts, rate());
            let largest = items.iter().map(|item| item.micros(rate())).max().unwrap();
            let least = *loads.iter().min().unwrap();
            let most = *loads.iter().max().unwrap();
            prop_assert!(most <= least + Duration::from_micros(largest), "{loads:?}");
        }
    }
}
