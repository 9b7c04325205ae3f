//! The choice of an endpoint: always one that would take an attempt, and a preference never makes
//! anything wait.

use photofinish_model::Usage;
use photofinish_model::endpoint::{Condition, choose, is_short};
use proptest::prelude::*;
use std::time::Duration;

fn conditions() -> impl Strategy<Value = Vec<Condition>> {
    let one = (any::<bool>(), any::<bool>(), any::<bool>());
    let one = one.prop_map(|(rests, short, full)| Condition { rests, short, full });
    prop::collection::vec(one, 1..6)
}

proptest! {
    #[test]
    fn an_endpoint_is_chosen_that_takes_the_attempt_and_no_preference_makes_it_wait(
        conditions in conditions(), failed_on in prop::option::of(0usize..7),
    ) {
        let well: Vec<usize> = (0..conditions.len())
            .filter(|place| !conditions[*place].rests && !conditions[*place].short)
            .collect();
        let free_and_well = || well.iter().copied().filter(|place| !conditions[*place].full);
        let chosen = choose(&conditions, failed_on);
        // Whether anything is sent does not depend on what is preferred.
        prop_assert_eq!(chosen.is_some(), choose(&conditions, None).is_some());
        match chosen {
            None => {
                prop_assert!(free_and_well().next().is_none());
                let all = conditions.iter().all(|one| one.rests || one.full);
                prop_assert!(all || !well.is_empty(), "nobody works, and a free one is left idle");
            }
            Some(place) => {
                prop_assert!(!conditions[place].rests && !conditions[place].full);
                if conditions[place].short {
                    prop_assert!(well.is_empty(), "one that is well is there");
                }
                if failed_on == Some(place) {
                    let others = || free_and_well().filter(|other| *other != place);
                    prop_assert!(others().next().is_none(), "another one that is well is free");
                }
            }
        }
        // Without a failure it is the first that is well and has a slot.
        prop_assert!(well.is_empty() || choose(&conditions, None) == free_and_well().next());
    }

    #[test]
    fn a_cost_is_what_it_was_when_it_was_spent(
        priced in 0.0f64..1e6, unpriced in 0.0f64..1e6, price in 0.0f64..0.01, later in 0.0f64..0.01,
    ) {
        let usage = Usage {
            gpu_seconds: priced + unpriced,
            cost_usd: priced * price,
            priced_s: priced,
            ..Usage::default()
        };
        let estimate = usage.cost_estimate(Some(later)).unwrap_or_default();
        prop_assert!((estimate - priced * price - unpriced * later).abs() < 1e-3);
        let known = usage.cost_estimate(None);
        prop_assert_eq!(known, (priced > 0.0).then_some(priced * price));
    }
}

#[test]
fn a_start_is_given_its_time_and_missing_machines_are_not() {
    let patience = Duration::from_secs(60);
    assert!(is_short(true, None, patience));
    assert!(!is_short(false, None, patience));
    assert!(!is_short(false, Some(Duration::from_secs(59)), patience));
    assert!(is_short(false, Some(patience), patience));
}
