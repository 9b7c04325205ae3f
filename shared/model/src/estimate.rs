//! What work takes: a prior from the settings, learned from what attempts took, and when a run
//! will be done.
//!
//! The nouns: a [`Rate`] is what an item and a megapixel of frames take; a [`Sample`] is what one
//! attempt took for the outputs it made; [`Learned`] is a rate with the samples behind it; a
//! [`Forecast`] is what a run was expected to take when it was planned.
//!
//! The guarantee: no sample moves a rate by more than a bounded factor, and nonsense by nothing;
//! rates are whole numbers in bounds, so the same figures give the same plan in every process.
//!
//! Not for: limits. Nothing is refused or ended because it was estimated wrongly.

use crate::Operation;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A megapixel, in pixels.
const MEGAPIXEL: u128 = 1_000_000;
/// Pixels of the frame that `frames_per_second` is told for: 1920 x 1080.
const PRIOR_PIXELS: f64 = 1920.0 * 1080.0;
/// An item takes from a millisecond to a day.
const ITEM_US: (f64, f64) = (1e3, 86_400e6);
/// A megapixel takes from a microsecond to ten seconds.
const MEGAPIXEL_NS: (f64, f64) = (1e3, 10e9);
/// What took longer than a week, or nothing, was not measured but made up.
const SAMPLE_MAX_S: f64 = 7.0 * 86_400.0;
/// However far off, a sample counts as off by no more than this factor.
const SURPRISE_MAX: f64 = 4.0;
/// A new sample weighs at least this much, so that old ones fade.
const WEIGHT_MIN: f64 = 0.1;
/// While nothing is done, no less than this share of the forecast is still to come.
const LATE_SHARE: u32 = 10;

/// What work takes on a worker. Whole numbers: the same in every process and on every wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Microseconds for an item, whatever its length.
    pub item_us: u64,
    /// Nanoseconds for a megapixel of frames.
    pub megapixel_ns: u64,
}

impl Rate {
    /// From seconds; what is out of bounds is brought into them.
    pub fn of_seconds(item_s: f64, megapixel_s: f64) -> Self {
        Self {
            item_us: within(item_s * 1e6, ITEM_US),
            megapixel_ns: within(megapixel_s * 1e9, MEGAPIXEL_NS),
        }
    }

    /// Microseconds for one item with so many pixels in all of its frames.
    pub fn item_work_us(self, pixels: u64) -> u64 {
        let frames_us = u128::from(pixels) * u128::from(self.megapixel_ns) / (1000 * MEGAPIXEL);
        u64::try_from(frames_us)
            .unwrap_or(u64::MAX)
            .saturating_add(self.item_us)
    }

    fn item_s(self) -> f64 {
        self.item_us as f64 / 1e6
    }

    fn megapixel_s(self) -> f64 {
        self.megapixel_ns as f64 / 1e9
    }

    /// Brought into bounds: what was stored may have been anything.
    fn bounded(self) -> Self {
        Self::of_seconds(self.item_s(), self.megapixel_s())
    }
}

fn within(value: f64, (min, max): (f64, f64)) -> u64 {
    if value.is_nan() {
        return min as u64;
    }
    value.clamp(min, max).round() as u64
}

/// What is believed before anything was learned: the settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Frames of 1920 x 1080 that a worker renders in a second.
    pub frames_per_second: f64,
    /// What a picture takes besides its frames: download, decoding, the encoder's start.
    pub item: Duration,
    /// What a caption or addaudio job takes.
    pub video: Duration,
}

impl Default for Prior {
    fn default() -> Self {
        Self {
            frames_per_second: 120.0,
            item: Duration::from_millis(250),
            video: Duration::from_secs(20),
        }
    }
}

impl Prior {
    /// The rate of an operation.
    pub fn rate(&self, operation: Operation) -> Rate {
        let megapixel_s = 1e6 / (PRIOR_PIXELS * self.frames_per_second);
        match operation {
            Operation::Img2vid => Rate::of_seconds(self.item.as_secs_f64(), megapixel_s),
            Operation::Caption | Operation::Addaudio => {
                Rate::of_seconds(self.video.as_secs_f64(), 0.0)
            }
        }
    }
}

/// What one attempt took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The outputs that it made.
    pub items: u32,
    /// The pixels in all of their frames; 0 where nobody knows.
    pub pixels: u64,
    /// Seconds of execution, without the waiting to be fetched from.
    pub seconds: f64,
}

/// A rate and the samples behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The rate.
    pub rate: Rate,
    /// Samples that went into it; the prior counts as one.
    pub samples: u32,
}

impl Learned {
    /// Before anything was learned.
    pub fn nothing(prior: Rate) -> Self {
        Self {
            rate: prior.bounded(),
            samples: 1,
        }
    }

    /// With one sample more; nothing when the sample is nonsense.
    ///
    /// A step of gradient descent on the squared logarithm of observed over expected, normalised:
    /// items and frames each take the blame in the measure in which they were expected to cost.
    /// For work without frames it is a moving geometric mean.
    #[must_use]
    pub fn with(self, sample: &Sample) -> Option<Self> {
        let seconds = sample.seconds;
        if !seconds.is_finite() || seconds <= 0.0 || seconds > SAMPLE_MAX_S || sample.items == 0 {
            return None;
        }
        let rate = self.rate.bounded();
        let (item_s, megapixel_s) = (rate.item_s(), rate.megapixel_s());
        let by_items = item_s * f64::from(sample.items);
        let by_frames = megapixel_s * (sample.pixels as f64 / MEGAPIXEL as f64);
        let expected = by_items + by_frames;
        let (items, frames) = (by_items / expected, by_frames / expected);
        let surprise = (seconds / expected).clamp(1.0 / SURPRISE_MAX, SURPRISE_MAX);
        let weight = (1.0 / (f64::from(self.samples) + 1.0)).max(WEIGHT_MIN);
        let step = weight * surprise.ln() / (items * items + frames * frames);
        Some(Self {
            rate: Rate::of_seconds(
                item_s * (step * items).exp(),
                megapixel_s * (step * frames).exp(),
            ),
            samples: self.samples.saturating_add(1),
        })
    }
}

/// What a run is expected to take, as it was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Forecast {
    /// Items that the run is to make: without those that an earlier run has stored.
    pub items: u32,
    /// Milliseconds from its first worker's start to its last output; 0: nobody knows.
    pub wall_ms: u64,
}

/// How long until a run is done, `elapsed` after its first worker began, with so many items not
/// settled. The one place where this is defined:
///
/// - by plan: the forecast, in the measure of the items that are left;
/// - by pace: the time so far for each settled item, times the items that are left. It holds all
///   that the plan cannot know: slower workers, parts that wait behind others, items run again;
/// - together: the more is done, the more the pace counts (weight: the share that is done);
/// - nothing done yet: what is left of the forecast, at least a tenth of it.
///
/// None: nothing is known of it. Never negative; it may rise.
pub fn eta(forecast: Forecast, pending: u32, elapsed: Duration) -> Option<Duration> {
    if pending == 0 {
        return Some(Duration::ZERO);
    }
    let planned = Duration::from_millis(forecast.wall_ms);
    let settled = forecast.items.saturating_sub(pending);
    if settled == 0 {
        return (!planned.is_zero()).then(|| {
            let left = planned.saturating_sub(elapsed);
            left.max(planned / LATE_SHARE)
        });
    }
    let done = f64::from(settled) / f64::from(forecast.items);
    let pace = elapsed.as_secs_f64() * f64::from(pending) / f64::from(settled);
    let seconds = if planned.is_zero() {
        pace
    } else {
        let by_plan = planned.as_secs_f64() * (1.0 - done);
        by_plan * (1.0 - done) + pace * done
    };
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(rate: (f64, f64), items: u32, megapixels: u32) -> Sample {
        Sample {
            items,
            pixels: u64::from(megapixels) * 1_000_000,
            seconds: rate.0 * f64::from(items) + rate.1 * f64::from(megapixels),
        }
    }

    fn seconds(rate: Rate, items: u32, megapixels: u32) -> f64 {
        rate.item_s() * f64::from(items) + rate.megapixel_s() * f64::from(megapixels)
    }

    #[test]
    fn at_first_the_settings_count() {
        let prior = Prior::default();
        let rate = prior.rate(Operation::Img2vid);
        let minute = rate.item_work_us(60 * 1920 * 1080) as f64 / 1e6;
        assert!((minute - 0.75).abs() < 0.001, "{minute}");
        assert_eq!(Learned::nothing(rate).rate, rate);
        assert_eq!(
            prior.rate(Operation::Caption).item_work_us(0),
            20_000_000,
            "a video whose frames nobody has counted"
        );
    }

    #[test]
    fn how_long_until_it_is_done() {
        let forecast = Forecast {
            items: 100,
            wall_ms: 200_000,
        };
        let eta = |pending, elapsed| {
            let elapsed = Duration::from_secs(elapsed);
            super::eta(forecast, pending, elapsed).map(|eta| eta.as_secs())
        };
        assert_eq!(eta(100, 0), Some(200));
        assert_eq!(eta(100, 50), Some(150));
        assert_eq!(eta(100, 5000), Some(20), "late, and not there yet");
        assert_eq!(eta(50, 100), Some(100), "as planned");
        assert_eq!(eta(50, 300), Some(200), "half planned, half by the pace");
        assert_eq!(eta(1, 990), Some(9), "by the pace");
        assert_eq!(eta(0, 990), Some(0));
        let unknown = Forecast::default();
        assert_eq!(super::eta(unknown, 3, Duration::from_secs(9)), None);
        let by_pace = Forecast {
            wall_ms: 0,
            ..forecast
        };
        let half = super::eta(by_pace, 50, Duration::from_secs(30));
        assert_eq!(half, Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_cost_of_an_item_and_that_of_its_frames_are_told_apart() {
        let truth = (2.0, 0.02);
        let mut learned = Learned::nothing(Prior::default().rate(Operation::Img2vid));
        for turn in 0..300 {
            let each = if turn % 2 == 0 { 20 } else { 1200 };
            learned = learned.with(&sample(truth, 60, 60 * each)).unwrap();
        }
        let (item, megapixel) = (learned.rate.item_s(), learned.rate.megapixel_s());
        assert!((item / truth.0 - 1.0).abs() < 0.05, "{item}");
        assert!((megapixel / truth.1 - 1.0).abs() < 0.05, "{megapixel}");
    }

    proptest! {
        #[test]
        fn what_is_like_what_was_seen_is_estimated_well(
            item_s in 0.05f64..2.0, megapixel_s in 0.0005f64..0.04,
            jobs in prop::collection::vec((1u32..300, 10u32..1000), 400),
        ) {
            let mut learned = Learned::nothing(Prior::default().rate(Operation::Img2vid));
            let mut wrong = 0;
            for (at, (items, each)) in jobs.iter().enumerate() {
                let made = sample((item_s, megapixel_s), *items, items * each);
                let told = seconds(learned.rate, *items, items * each) / made.seconds;
                wrong += usize::from(at >= 300 && !(0.67..1.5).contains(&told));
                learned = learned.with(&made).unwrap();
            }
            prop_assert!(wrong <= 20, "{wrong} of the last 100 were estimated badly");
        }

        #[test]
        fn videos_converge_to_what_they_take(took in 0.5f64..3000.0) {
            let mut learned = Learned::nothing(Prior::default().rate(Operation::Caption));
            for _ in 0..100 {
                learned = learned.with(&sample((took, 0.0), 1, 0)).unwrap();
            }
            prop_assert!((learned.rate.item_s() / took - 1.0).abs() < 0.02, "{learned:?}");
        }

        #[test]
        fn a_wild_value_ruins_nothing(
            wild in prop_oneof![Just(604_799.0), Just(1e-9), 1e-3f64..1e5],
            samples in 10u32..10_000, items in 1u32..1000, megapixels in 0u32..1_000_000,
        ) {
            let rate = Prior::default().rate(Operation::Img2vid);
            let before = Learned { rate, samples };
            let after = before.with(&Sample {
                items, pixels: u64::from(megapixels) * 1_000_000, seconds: wild,
            }).unwrap();
            for (was, is) in [
                (before.rate.item_us, after.rate.item_us),
                (before.rate.megapixel_ns, after.rate.megapixel_ns),
            ] {
                let moved = is as f64 / was as f64;
                prop_assert!((0.8..1.2).contains(&moved), "{moved}");
            }
        }

        #[test]
        fn nonsense_teaches_nothing(items in 0u32..3) {
            let learned = Learned::nothing(Prior::default().rate(Operation::Img2vid));
            for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9] {
                prop_assert_eq!(learned.with(&Sample { items, pixels: 9, seconds }), None);
            }
            let nothing_made = Sample { items: 0, pixels: 0, seconds: 1.0 };
            prop_assert_eq!(learned.with(&nothing_made), None);
        }

        #[test]
        fn a_stored_rate_may_be_anything(
            item_us: u64, megapixel_ns: u64, samples: u32, pixels: u64, seconds in 0.1f64..1e5,
        ) {
            let stored = Learned { rate: Rate { item_us, megapixel_ns }, samples };
            let next = stored.with(&Sample { items: 1, pixels, seconds }).unwrap();
            prop_assert_eq!(next.rate, next.rate.bounded());
            prop_assert!(next.rate.item_work_us(pixels) >= next.rate.item_us);
        }

        #[test]
        fn an_eta_is_never_negative_and_never_nonsense(
            items in 0u32..2000, wall_ms: u64, pending in 0u32..2000, elapsed_ms: u64,
        ) {
            let forecast = Forecast { items, wall_ms };
            let eta = eta(forecast, pending, Duration::from_millis(elapsed_ms));
            prop_assert!(pending > 0 || eta == Some(Duration::ZERO));
            prop_assert!(eta.is_none_or(|eta| eta >= Duration::ZERO));
        }
    }
}
