//! The laws of a part: what any events may do to it, and what a fleet of workers of which some die
//! of an item makes of it.

use photofinish_model::part::{self, Command, Ctx, Event, Outcome, Part, PartPolicy, Phase};
use photofinish_model::{Code, Fault, ItemIndex, Nonce};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const ITEMS: u16 = 5;

fn ctx() -> Ctx {
    Ctx {
        policy: PartPolicy::default(),
        jitter: 0.5,
    }
}

fn nonces() -> impl Strategy<Value = Nonce> {
    (0u128..4).prop_map(Nonce::from_random)
}

fn places() -> impl Strategy<Value = String> {
    prop_oneof![Just("ep-1".to_owned()), Just("ep-2".to_owned())]
}

fn some_items() -> impl Strategy<Value = BTreeSet<ItemIndex>> {
    prop::collection::btree_set(0..ITEMS, 0..4)
}

fn faults() -> impl Strategy<Value = BTreeMap<ItemIndex, (Fault, bool)>> {
    prop::collection::btree_map(
        0..ITEMS,
        any::<bool>().prop_map(|permanent| (Fault::new(Code::NotAnImage, "no"), permanent)),
        0..3,
    )
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Returned),
        Just(Outcome::Void),
        some_items().prop_map(|suspects| Outcome::Crashed { suspects }),
    ]
}

fn id(known: bool) -> Option<photofinish_model::RunPodId> {
    known.then(|| "rp-1".parse().unwrap())
}

fn ends() -> impl Strategy<Value = Event> {
    let report = (1u16..6, nonces(), places(), outcomes());
    (report, some_items(), some_items(), faults()).prop_map(
        |((attempt, nonce, endpoint, outcome), items, settled, faults)| Event::Ended {
            attempt,
            nonce,
            endpoint,
            worker: None,
            said: "lost".to_owned(),
            outcome,
            items,
            settled,
            faults,
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1u16..6, nonces(), places(), some_items()).prop_map(
            |(attempt, nonce, endpoint, settled)| Event::Granted { attempt, nonce, endpoint, settled }),
        1 => (nonces(), places()).prop_map(|(nonce, endpoint)| Event::Refused { nonce, endpoint }),
        4 => (nonces(), places(), any::<bool>()).prop_map(|(nonce, endpoint, known)| {
            Event::Submitted { nonce, endpoint, runpod_id: id(known) }
        }),
        2 => (1u16..6, nonces(), places(), any::<bool>(), some_items()).prop_map(
            |(attempt, nonce, endpoint, known, items)| {
                Event::Watched { attempt, nonce, endpoint, runpod_id: id(known), items }
            }),
        4 => ends(),
        1 => Just(Event::RunOver),
    ]
}

fn settled_by(event: &Event) -> Option<&BTreeSet<ItemIndex>> {
    match event {
        Event::Granted { settled, .. } | Event::Ended { settled, .. } => Some(settled),
        _ => None,
    }
}

proptest! {
    #[test]
    fn part_is_total_final_alive_and_conserved(events in prop::collection::vec(events(), 0..60)) {
        let mut part = Part::new(0..ITEMS);
        for event in &events {
            let step = part.step(event, &ctx());
            if part.phase == Phase::Done {
                prop_assert_eq!(&step.next, &part, "final: nothing leaves Done");
            } else {
                prop_assert_eq!(step.next.owed().is_none(), step.next.phase == Phase::Done,
                    "alive: what is not done owes something");
            }
            let failed: BTreeSet<ItemIndex> = step.commands.iter().filter_map(|command| match command {
                Command::FailItem { index, .. } => Some(*index),
                _ => None,
            }).collect();
            for index in part.open.keys().filter(|index| !step.next.open.contains_key(index)) {
                let settled = settled_by(event).is_some_and(|settled| settled.contains(index));
                prop_assert!(settled ^ failed.contains(index),
                    "conserved: an item leaves as settled or as failed, not both, not neither");
            }
            for (index, tries) in &step.next.open {
                prop_assert!(part.open.contains_key(index), "nothing comes in");
                prop_assert!(*tries < ctx().policy.attempts_per_item_max, "bounded: {tries} tries");
            }
            let open = &step.next.open;
            prop_assert!(step.next.alone.iter().all(|index| open.contains_key(index)));
            prop_assert!(step.next.ends.len() <= part::ENDS_MAX);
            part = step.next;
        }
    }

    #[test]
    fn part_ignores_superseded_attempts(
        events in prop::collection::vec(events(), 0..30), late in events(),
    ) {
        let mut part = Part::new(0..ITEMS);
        for event in &events { part = part.step(event, &ctx()).next; }
        let stale = match &late {
            Event::Granted { attempt, .. } => *attempt < part.attempt,
            Event::Refused { nonce, .. } | Event::Submitted { nonce, .. } =>
                part.nonce() != Some(nonce),
            Event::Watched { attempt, nonce, .. } | Event::Ended { attempt, nonce, .. } =>
                *attempt < part.attempt && part.nonce() != Some(nonce),
            Event::RunOver => false,
        };
        if stale {
            prop_assert_eq!(part.step(&late, &ctx()).next, part);
        }
    }

    #[test]
    fn part_replays_to_the_same_state_and_says_again_what_is_owed(
        events in prop::collection::vec(events(), 0..30), event in events(),
    ) {
        let mut part = Part::new(0..ITEMS);
        for event in &events { part = part.step(event, &ctx()).next; }
        let once = part.step(&event, &ctx()).next;
        let twice = once.step(&event, &ctx());
        // Seeing the same message twice while a post is unanswered means that its process died.
        let died = matches!((&once.phase, &event),
            (Phase::Submitting { .. }, Event::Granted { attempt, .. }) if *attempt == once.attempt);
        if died {
            let unknown = matches!(twice.next.phase, Phase::InFlight { runpod_id: None, .. });
            prop_assert!(unknown);
        } else {
            prop_assert_eq!(&twice.next, &once);
        }
        if let Event::Ended { settled, .. } = &event {
            for index in once.failed.keys().filter(|index| !settled.contains(index)) {
                prop_assert!(twice.commands.iter().any(|command|
                    matches!(command, Command::FailItem { index: again, .. } if again == index)),
                    "item {index} is not failed again: {:?}", twice.commands);
            }
        }
        if let (Event::Ended { .. }, Phase::Waiting) = (&event, &once.phase) {
            prop_assert!(twice.commands.iter().any(|command|
                matches!(command, Command::Queue { .. })), "{:?}", twice.commands);
        }
    }

    /// A process may read the record back at any moment, also one of the version before.
    #[test]
    fn part_is_the_same_when_it_is_read_back(events in prop::collection::vec(events(), 0..30)) {
        let mut part = Part::new(0..ITEMS);
        for event in &events {
            part = part.step(event, &ctx()).next;
            let text = serde_json::to_string(&part).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Part>(&text).unwrap(), &part);
            let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
            for field in ["alone", "posted", "endpoint", "ends"] {
                old.as_object_mut().unwrap().remove(field);
            }
            let old: Part = serde_json::from_value(old).unwrap();
            prop_assert_eq!((&old.open, old.attempt, &old.phase), (&part.open, part.attempt, &part.phase));
        }
    }
}

/// Workers that die of some items, die at times without a reason, do several items at a time, and
/// are heard of late, early or not at all.
#[derive(Debug, Clone)]
struct Fleet {
    poison: BTreeSet<ItemIndex>,
    /// In each attempt: how many items come before the crash, whether what it was at is known,
    /// whether it dies without a reason, whether the message comes twice.
    attempts: Vec<(usize, bool, bool, bool)>,
}

fn fleets() -> impl Strategy<Value = Fleet> {
    let attempt = (
        0usize..6,
        any::<bool>(),
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    (
        prop::collection::btree_set(0..ITEMS, 0..3),
        prop::collection::vec(attempt, 1..40),
    )
        .prop_map(|(poison, attempts)| Fleet { poison, attempts })
}

/// What became of a part, and with what it was posted.
struct Story {
    part: Part,
    stored: BTreeSet<ItemIndex>,
    posts: Vec<BTreeSet<ItemIndex>>,
    crashes_for_nothing: usize,
}

fn play(fleet: &Fleet) -> Story {
    let mut story = Story {
        part: Part::new(0..ITEMS),
        stored: BTreeSet::new(),
        posts: Vec::new(),
        crashes_for_nothing: 0,
    };
    let turns = fleet.attempts.iter().cycle().zip(0u128..200);
    for ((done, known, dies, twice), turn) in turns {
        if story.part.phase == Phase::Done {
            break;
        }
        let nonce = Nonce::from_random(turn);
        let granted = Event::Granted {
            attempt: story.part.attempt,
            nonce: nonce.clone(),
            endpoint: "ep-1".to_owned(),
            settled: story.stored.clone(),
        };
        let step = story.part.step(&granted, &ctx());
        story.part = step.next;
        let Some(Command::Post { items, .. }) = step.commands.first() else {
            continue;
        };
        let given: BTreeSet<ItemIndex> = items.iter().copied().collect();
        let killer = items.iter().find(|index| fleet.poison.contains(index));
        let crashes = killer.is_some() || *dies;
        story.crashes_for_nothing += usize::from(killer.is_none() && crashes);
        let sound = items.iter().filter(|index| !fleet.poison.contains(index));
        let done = if crashes { *done } else { items.len() };
        story.stored.extend(sound.take(done));
        let mut suspects = BTreeSet::new();
        if *known {
            suspects.extend(killer);
            suspects.extend(items.iter().find(|index| !story.stored.contains(index)));
        }
        let ended = Event::Ended {
            attempt: story.part.attempt,
            nonce,
            endpoint: "ep-1".to_owned(),
            worker: Some(format!("w{turn}")),
            said: "lost".to_owned(),
            outcome: if crashes {
                Outcome::Crashed { suspects }
            } else {
                Outcome::Returned
            },
            items: given.clone(),
            settled: story.stored.clone(),
            faults: BTreeMap::new(),
        };
        story.posts.push(given);
        for _ in 0..=usize::from(*twice) {
            story.part = story.part.step(&ended, &ctx()).next;
        }
    }
    story
}

proptest! {
    #[test]
    fn every_item_is_settled_within_its_attempts_and_every_crash_brings_the_end_nearer(
        fleet in fleets()
    ) {
        let max = usize::from(ctx().policy.attempts_per_item_max);
        let story = play(&fleet);
        prop_assert_eq!(&story.part.phase, &Phase::Done, "{:?}", story.posts);
        prop_assert!(story.posts.len() <= usize::from(ITEMS) * max, "{:?}", story.posts);
        let failed: BTreeSet<ItemIndex> = story.part.failed.keys().copied().collect();
        prop_assert!(failed.is_disjoint(&story.stored));
        prop_assert_eq!(failed.len() + story.stored.len(), usize::from(ITEMS));
        for index in &fleet.poison {
            prop_assert!(failed.contains(index), "nobody can render {index}");
            // Given company, it is not to blame alone: at most so often, and then by itself.
            let alone = story.posts.iter().filter(|given| given.len() == 1 && given.contains(index));
            prop_assert!(alone.count() <= max);
            let evidence = &story.part.failed[index].detail;
            prop_assert!(evidence.contains("on worker w"), "{evidence}");
        }
    }

    #[test]
    fn an_innocent_item_is_never_failed_by_a_poison_one(mut fleet in fleets()) {
        for attempt in &mut fleet.attempts { attempt.2 = false; }
        let story = play(&fleet);
        prop_assert_eq!(story.crashes_for_nothing, 0);
        let failed: BTreeSet<ItemIndex> = story.part.failed.keys().copied().collect();
        prop_assert_eq!(&failed, &fleet.poison, "{:?}", story.posts);
    }

    #[test]
    fn a_named_suspect_runs_alone_and_the_others_go_on_without_it(
        suspects in prop::collection::btree_set(0..ITEMS, 1..4),
    ) {
        let granted = |part: &Part, number| part.step(&Event::Granted {
            attempt: part.attempt,
            nonce: Nonce::from_random(number),
            endpoint: "ep-1".to_owned(),
            settled: BTreeSet::new(),
        }, &ctx());
        let part = granted(&Part::new(0..ITEMS), 1).next;
        let part = part.step(&Event::Ended {
            attempt: 1,
            nonce: Nonce::from_random(1),
            endpoint: "ep-1".to_owned(),
            worker: Some("w1".to_owned()),
            said: "lost".to_owned(),
            outcome: Outcome::Crashed { suspects: suspects.clone() },
            items: (0..ITEMS).collect(),
            settled: BTreeSet::new(),
            faults: BTreeMap::new(),
        }, &ctx()).next;
        let next = granted(&part, 2).next;
        let innocent: BTreeSet<ItemIndex> = (0..ITEMS).filter(|index| !suspects.contains(index)).collect();
        prop_assert_eq!(&next.posted, &innocent);
        prop_assert!(innocent.iter().all(|index| next.open[index] == 0), "they spent nothing");
        let after = part.step(&Event::Granted {
            attempt: part.attempt,
            nonce: Nonce::from_random(3),
            endpoint: "ep-1".to_owned(),
            settled: innocent,
        }, &ctx()).next;
        prop_assert_eq!(after.posted.len(), 1);
        prop_assert!(after.posted.is_subset(&suspects));
    }
}

/// What went wrong everywhere at once is nobody's fault: it is not paid for with an attempt each.
#[test]
fn a_crash_that_nobody_can_explain_is_tried_again_together() {
    let fleet = Fleet {
        poison: BTreeSet::new(),
        attempts: vec![(2, false, true, false), (5, true, false, false)],
    };
    let story = play(&fleet);
    let posts: Vec<usize> = story.posts.iter().map(BTreeSet::len).collect();
    assert_eq!(posts, [5, 3]);
    assert_eq!(story.stored.len(), usize::from(ITEMS));
}
