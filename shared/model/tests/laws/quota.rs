//! Quotas, retention and pauses.

use jiff::Timestamp;
use photofinish_model::Tenant;
use photofinish_model::quota::{
    Due, Quotas, Retention, Standing, day, paused_lanes, until_tomorrow,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn limits() -> impl Strategy<Value = Quotas> {
    let amount = || proptest::option::of(0.0..1e6f64);
    let number = || proptest::option::of(0..2_000u32);
    (number(), number(), number(), amount(), amount()).prop_map(|(rate, jobs, items, gpu, cost)| {
        Quotas {
            requests_per_s: rate,
            jobs_waiting_max: jobs,
            items_per_job_max: items,
            gpu_seconds_per_day: gpu,
            cost_per_day_usd: cost,
        }
    })
}

fn standing() -> impl Strategy<Value = Standing> {
    (0..3_000u64, 0.0..2e6f64, 0.0..2e6f64).prop_map(|(jobs, gpu_seconds, cost_usd)| Standing {
        jobs,
        gpu_seconds,
        cost_usd,
    })
}

fn instant() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000i64).prop_map(|second| Timestamp::from_second(second).unwrap())
}

proptest! {
    #[test]
    fn what_uses_less_is_never_refused_where_more_is_taken(
        limits in limits(), one in standing(), other in standing(), now in instant(), items in 0..2_000usize
    ) {
        let less = Standing {
            jobs: one.jobs.min(other.jobs),
            gpu_seconds: one.gpu_seconds.min(other.gpu_seconds),
            cost_usd: one.cost_usd.min(other.cost_usd),
        };
        if limits.takes_job(&one, now).is_ok() {
            prop_assert!(limits.takes_job(&less, now).is_ok());
        }
        if limits.takes_items(items).is_ok() {
            prop_assert!(limits.takes_items(items / 2).is_ok());
        }
    }

    #[test]
    fn a_limit_of_its_own_counts_before_the_default(own in limits(), default in limits()) {
        let both = own.or(default);
        prop_assert_eq!(both.or(default), both);
        prop_assert_eq!(both.jobs_waiting_max, own.jobs_waiting_max.or(default.jobs_waiting_max));
        prop_assert_eq!(Quotas::default().or(own), own);
        prop_assert!(Quotas::default().takes_items(1_000).is_ok());
    }

    #[test]
    fn nobody_waits_longer_than_to_midnight(now in instant()) {
        let wait = until_tomorrow(now);
        prop_assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_hours(24));
        prop_assert_ne!(day(now + wait), day(now));
    }

    #[test]
    fn what_is_due_stays_due(outputs in proptest::option::of(0..100u64), jobs in proptest::option::of(0..100u64),
        ago in 0..200u64, later in 0..200u64) {
        let retention = Retention { outputs_s: outputs, jobs_s: jobs };
        let rank = |due| match due { Due::Nothing => 0, Due::Outputs => 1, Due::Everything => 2 };
        let (first, then) = (Duration::from_secs(ago), Duration::from_secs(ago + later));
        prop_assert!(rank(retention.due(first)) <= rank(retention.due(then)));
        if !retention.is_limited() {
            prop_assert_eq!(retention.due(then), Due::Nothing);
        }
    }

    #[test]
    fn a_paused_lane_holds_up_nobody_else(
        lanes in proptest::collection::btree_map("[a-f]{1,2}", 0..4u16, 0..12),
        paused in proptest::collection::btree_set("[a-f]{1,2}", 0..12)
    ) {
        let tenant = |name: &String| name.parse::<Tenant>().unwrap();
        let lanes: BTreeMap<Tenant, u16> = lanes.iter().map(|(name, lane)| (tenant(name), *lane)).collect();
        let paused: BTreeSet<Tenant> = paused.iter().map(tenant).collect();
        let still = paused_lanes(&lanes, &paused);
        for (tenant, lane) in &lanes {
            if !paused.contains(tenant) {
                prop_assert!(!still.contains(lane));
            }
        }
        for lane in &still {
            prop_assert!(lanes.values().any(|taken| taken == lane));
        }
    }
}

#[test]
fn limits_hold_at_n_and_not_at_n_and_one() {
    let limits = Quotas {
        jobs_waiting_max: Some(2),
        items_per_job_max: Some(3),
        gpu_seconds_per_day: Some(10.0),
        cost_per_day_usd: Some(1.0),
        requests_per_s: None,
    };
    let now: Timestamp = "2026-11-23T23:59:00Z".parse().unwrap();
    let quota = |jobs, gpu_seconds, cost_usd| {
        let standing = Standing {
            jobs,
            gpu_seconds,
            cost_usd,
        };
        let refused = limits.takes_job(&standing, now).err();
        refused.map(|refused| (refused.quota, refused.retry_after.as_secs()))
    };
    assert_eq!(quota(2, 9.9, 0.99), None);
    assert_eq!(quota(3, 0.0, 0.0), Some(("jobs_waiting_max", 10)));
    assert_eq!(quota(1, 10.0, 0.0), Some(("gpu_seconds_per_day", 60)));
    assert_eq!(quota(1, 0.0, 1.0), Some(("cost_per_day_usd", 60)));
    assert!(limits.takes_items(3).is_ok());
    assert!(limits.takes_items(4).is_err());
}
