//! The seven laws, as properties of every machine: total, final, replay, stale, alive, bounded,
//! conserved. The chaos suite checks the same on the running system.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests"
)]

#[path = "laws/deliveries.rs"]
mod deliveries;
#[path = "laws/endpoints.rs"]
mod endpoints;
#[path = "laws/lines.rs"]
mod lines;
#[path = "laws/parts.rs"]
mod parts;
#[path = "laws/quota.rs"]
mod quota;
#[path = "laws/webhooks.rs"]
mod webhooks;

use jiff::{SignedDuration, Timestamp};
use photofinish_model::{
    Code, Fault, ItemIndex, ItemRow, ItemState, JobId, JobSnapshot, JobStatus, OnItemError,
    Operation, OutputSource, Priority, StoredOutput, Usage,
    attempt::{self, Polled, Watch, WatchPolicy},
    run::{self, Stop, Verdict},
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const ITEMS: u16 = 5;

// --- watches -----------------------------------------------------------------------------------

fn start() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

fn watch() -> Watch {
    Watch::new(0..ITEMS, start(), Duration::from_secs(600), true)
}

fn indices() -> impl Strategy<Value = BTreeSet<ItemIndex>> {
    prop::collection::btree_set(0..ITEMS + 2, 0..4)
}

fn watch_events() -> impl Strategy<Value = attempt::Event> {
    use attempt::Event;
    prop_oneof![
        2 => Just(Event::Polled(Polled::Queued)),
        4 => (0..2u32, prop::bool::weighted(0.1)).prop_map(|(retries, other)| {
            let worker = if other { "w2" } else { "w1" }.to_owned();
            Event::Polled(Polled::Running { worker, retries: retries / 2 })
        }),
        1 => Just(Event::Polled(Polled::Over(attempt::End::Completed))),
        6 => (any::<bool>(), indices(), indices()).prop_map(|(by_signal, outputs, failed)| {
            Event::Announced { by_signal, outputs, failed }
        }),
        6 => (0..ITEMS).prop_map(Event::Stored),
        3 => (0..ITEMS).prop_map(Event::PullBroke),
        1 => (0..ITEMS).prop_map(Event::PullSlow),
        1 => Just(Event::Restarted),
        2 => indices().prop_map(Event::RescueListed),
        1 => Just(Event::RunOver),
        2 => Just(Event::Tick),
    ]
}

proptest! {
    #[test]
    fn watch_is_total_final_and_reports_once(
        events in prop::collection::vec((watch_events(), 0u32..400), 0..80)
    ) {
        let mut watch = watch();
        let mut now = start();
        let mut reports = 0;
        for (event, seconds) in &events {
            now += SignedDuration::from_secs(i64::from(*seconds));
            let ctx = attempt::Ctx { now, policy: WatchPolicy::default() };
            let step = watch.step(event, &ctx);
            if watch.is_over() {
                prop_assert_eq!(&step.next, &watch);
                prop_assert!(step.commands.is_empty());
            }
            reports += step.commands.iter()
                .filter(|command| matches!(command, attempt::Command::Report(_))).count();
            prop_assert!(step.next.wanted.is_subset(&watch.wanted));
            prop_assert!(step.next.outputs.keys().all(|index| step.next.wanted.contains(index)),
                "only what is wanted is pulled");
            // Alive: a watch that is not over polls, lists, pulls or waits for its deadline.
            let lists = matches!(step.next.phase, attempt::Phase::Rescuing { .. });
            let pulls = step.next.outputs.values().any(|output| output.pulling);
            let waits = !step.next.known;
            prop_assert!(step.next.is_over() || lists || pulls || waits
                || step.next.poll_after(&ctx).is_some());
            watch = step.next;
        }
        prop_assert!(reports <= 1);
    }

    /// What nobody can cancel yet is not forgotten: its worker may tell its id.
    #[test]
    fn an_unanswered_attempt_of_an_ended_run_is_cancelled_once_its_id_is_known(
        before in 0u32..59, calls_home in any::<bool>(),
    ) {
        let mut watch = Watch::new(0..ITEMS, start(), Duration::from_secs(600), false);
        let at = |seconds: u32| attempt::Ctx {
            now: start() + SignedDuration::from_secs(i64::from(seconds)),
            policy: WatchPolicy::default(),
        };
        let step = watch.step(&attempt::Event::RunOver, &at(before));
        prop_assert!(step.commands.is_empty() && !step.next.is_over());
        watch = step.next;
        if calls_home {
            let nothing = BTreeSet::new;
            watch = watch.step(&attempt::Event::Announced {
                by_signal: true, outputs: nothing(), failed: nothing(),
            }, &at(before)).next;
            let step = watch.step(&attempt::Event::RunOver, &at(before));
            let cancelled = [attempt::Command::Cancel, attempt::Command::Report(attempt::End::RunOver)];
            prop_assert_eq!(step.commands, cancelled);
        } else {
            let step = watch.step(&attempt::Event::RunOver, &at(60));
            prop_assert_eq!(step.commands, [attempt::Command::ListRescue]);
        }
    }

    #[test]
    fn watch_is_bounded(events in prop::collection::vec(watch_events(), 0..40)) {
        let mut watch = watch();
        let policy = WatchPolicy::default();
        for event in &events {
            watch = watch.step(event, &attempt::Ctx { now: start(), policy }).next;
        }
        // Whatever came before: once nothing more happens, time alone ends it.
        let late = attempt::Ctx { now: start() + SignedDuration::from_hours(30), policy };
        for _ in 0..3 {
            watch = watch.step(&attempt::Event::Tick, &late).next;
            watch = watch.step(&attempt::Event::RescueListed(BTreeSet::new()), &late).next;
            for index in (0..ITEMS).chain(0..ITEMS) {
                watch = watch.step(&attempt::Event::PullBroke(index), &late).next;
            }
        }
        prop_assert!(watch.is_over(), "{watch:?}");
    }

    #[test]
    fn watch_pulls_each_output_once_however_often_it_is_announced(
        outputs in prop::collection::btree_set(0..ITEMS, 1..5), times in 1usize..6,
    ) {
        let ctx = attempt::Ctx { now: start(), policy: WatchPolicy::default() };
        let mut watch = watch();
        let mut pulls = Vec::new();
        for by_signal in (0..times).map(|turn| turn % 2 == 0) {
            let event = attempt::Event::Announced {
                by_signal, outputs: outputs.clone(), failed: BTreeSet::new(),
            };
            let step = watch.step(&event, &ctx);
            pulls.extend(step.commands);
            watch = step.next;
        }
        let expected: Vec<_> = outputs.into_iter().map(attempt::Command::Pull).collect();
        prop_assert_eq!(pulls, expected);
    }
}

// --- runs --------------------------------------------------------------------------------------

fn item_states() -> impl Strategy<Value = ItemState> {
    prop_oneof![
        Just(ItemState::Pending),
        Just(ItemState::Rendering),
        Just(ItemState::Ready),
        Just(ItemState::Stored(StoredOutput {
            key: "k".into(),
            bytes: 1,
            sha256: "0".repeat(64),
            duration_s: 1.0,
            run: 1,
            attempt: 1,
            source: OutputSource::PulledInProgress,
        })),
        Just(ItemState::Failed(Fault::new(Code::NotAnImage, "no"))),
    ]
}

fn jobs() -> impl Strategy<Value = JobSnapshot> {
    (
        prop::collection::vec(item_states(), 1..8),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(states, skip, running)| JobSnapshot {
            job: JobId::from_random(1),
            tenant: "acme".parse().unwrap(),
            run: 1,
            operation: Operation::Img2vid,
            priority: Priority::Normal,
            status: if running {
                JobStatus::Running
            } else {
                JobStatus::Accepted
            },
            created_at: start(),
            started_at: None,
            finished_at: None,
            deadline_at: start() + SignedDuration::from_hours(1),
            on_item_error: if skip {
                OnItemError::Skip
            } else {
                OnItemError::Fail
            },
            items: states
                .into_iter()
                .enumerate()
                .map(|(at, state)| ItemRow {
                    index: at as u16,
                    item: format!("i{at}"),
                    state,
                })
                .collect(),
            parts: 1,
            forecast: photofinish_model::estimate::Forecast::default(),
            error: None,
            usage: Usage::default(),
            metadata: None,
            receivers: None,
            outputs_deleted_at: None,
            body_sha256: "0".repeat(64),
        })
}

fn stops() -> impl Strategy<Value = Option<Stop>> {
    prop_oneof![
        Just(None),
        Just(Some(Stop::Cancel)),
        Just(Some(Stop::Deadline)),
        Just(Some(Stop::Abandon(Fault::new(
            Code::InternalError,
            "parked"
        )))),
    ]
}

proptest! {
    #[test]
    fn run_ends_when_it_must_and_only_then(job in jobs(), stop in stops()) {
        let counts = job.counts();
        match run::verdict(&job, stop.as_ref()) {
            Verdict::GoesOn => {
                prop_assert!(stop.is_none());
                prop_assert!(counts.pending() > 0);
                prop_assert!(job.on_item_error == OnItemError::Skip || counts.failed == 0);
            }
            Verdict::AlreadyFinal => prop_assert!(job.status.is_final()),
            Verdict::Ends { status, error } => {
                prop_assert!(status.is_final());
                prop_assert_eq!(status == JobStatus::Failed, error.is_some());
                if status == JobStatus::Completed {
                    prop_assert_eq!(counts.pending(), 0);
                    prop_assert!(counts.stored > 0);
                }
                let end = run::ended(&job, status, error, start());
                prop_assert_eq!(run::verdict(&end, stop.as_ref()), Verdict::AlreadyFinal);
                let after = end.counts();
                prop_assert_eq!((after.stored, after.failed, after.total),
                    (counts.stored, counts.failed, counts.total), "conserved");
                prop_assert!(end.items.iter().all(|row|
                    !matches!(row.state, ItemState::Rendering | ItemState::Ready)));
                match run::retried(&end, start(), start()) {
                    None => prop_assert_eq!(counts.stored, counts.total),
                    Some(next) => {
                        prop_assert_eq!(next.run, 2);
                        prop_assert_eq!(next.counts().stored, counts.stored, "what is stored stays");
                        prop_assert_eq!(next.counts().failed, 0);
                    }
                }
            }
        }
    }
}
