//! Plans, without processes.

use clap::Parser as _;

use super::*;
use crate::Config;
use crate::state::{NewJob, Rules};

fn spec() -> EndpointSpec {
    let flags = ["runpod-sim", "--queue-delay", "4s", "--idle-timeout", "10s"];
    EndpointSpec::from_config(&Config::parse_from(flags), "ep", vec!["w".to_owned()])
}

fn state(jobs: usize, now: Instant) -> State {
    let long = Duration::from_hours(1);
    let rules = Rules {
        execution_timeout: long,
        execution_lag: Duration::ZERO,
        ttl: long,
        retention: long,
        retention_sync: long,
        ping_loss: long,
        ping_interval: Duration::from_secs(5),
        stop_react: long,
        init_timeout: long,
        denial: long,
        requeue_delay: Duration::ZERO,
        retries_max: 1,
        pace: 1.0,
    };
    let mut state = State::new(rules, 1);
    for n in 0..jobs {
        state.submit(format!("j{n}"), NewJob::default(), now);
    }
    state
}

fn up(state: &mut State, id: &str, now: Instant) {
    state.worker_starting(id.to_owned(), now);
    state.poll_begins(id, Some(true), now);
}

#[test]
fn workers_come_when_jobs_wait_and_only_as_many_as_are_missing() {
    let now = Instant::now();
    let mut state = state(5, now);
    assert_eq!(plan(&state, &spec(), now), Plan::default());
    let later = now + Duration::from_secs(4);
    assert_eq!(plan(&state, &spec(), later).start, 3, "at most workers_max");
    state.worker_starting("a".to_owned(), later);
    state.worker_starting("b".to_owned(), later);
    assert_eq!(plan(&state, &spec(), later).start, 1);
    state.worker_stopping("a");
    let planned = plan(&state, &spec(), later).start;
    assert_eq!(planned, 1, "a stopping one takes a place");
    state.set_throttled(1);
    assert_eq!(
        plan(&state, &spec(), later).start,
        0,
        "so does a throttled one"
    );
}

#[test]
fn a_job_of_low_priority_calls_for_no_worker() {
    let now = Instant::now();
    let mut state = state(0, now);
    let low = NewJob {
        low_priority: true,
        ..NewJob::default()
    };
    state.submit("low".to_owned(), low, now);
    let later = now + Duration::from_secs(60);
    assert_eq!(plan(&state, &spec(), later).start, 0);
    let by_count = EndpointSpec {
        scaler: Scaler::RequestCount(1),
        ..spec()
    };
    assert_eq!(plan(&state, &by_count, later).start, 0);
}

#[test]
fn by_request_count_there_is_one_worker_for_so_many_open_jobs() {
    let now = Instant::now();
    let mut state = state(5, now);
    let by_count = EndpointSpec {
        scaler: Scaler::RequestCount(2),
        workers_max: 10,
        ..spec()
    };
    assert_eq!(
        plan(&state, &by_count, now).start,
        3,
        "5 jobs, 2 each, at once"
    );
    up(&mut state, "a", now);
    state.take("a", 2, now);
    assert_eq!(
        plan(&state, &by_count, now).start,
        2,
        "those in progress count"
    );
}

#[test]
fn idle_workers_go_but_for_the_minimum() {
    let now = Instant::now();
    let mut state = state(0, now);
    for id in ["a", "b"] {
        up(&mut state, id, now);
    }
    let later = now + Duration::from_secs(10);
    assert!(plan(&state, &spec(), now).stop.is_empty());
    assert_eq!(plan(&state, &spec(), later).stop, ["a", "b"]);
    let one = EndpointSpec {
        workers_min: 1,
        ..spec()
    };
    assert_eq!(plan(&state, &one, later).stop, ["a"]);
}

#[test]
fn with_flashboot_idle_workers_are_frozen_and_woken_before_others_are_started() {
    let now = Instant::now();
    let mut state = state(0, now);
    let flashboot = EndpointSpec {
        flashboot: true,
        scaler: Scaler::QueueDelay(Duration::ZERO),
        ..spec()
    };
    up(&mut state, "a", now);
    let later = now + Duration::from_secs(10);
    let planned = plan(&state, &flashboot, later);
    assert_eq!(
        (planned.freeze, planned.stop.len()),
        (vec!["a".to_owned()], 0)
    );
    state.worker_frozen("a");
    for id in ["j", "k"] {
        state.submit(id.to_owned(), NewJob::default(), later);
    }
    let planned = plan(&state, &flashboot, later);
    assert_eq!((planned.wake, planned.start), (vec!["a".to_owned()], 1));
}

#[test]
fn stale_workers_are_replaced_at_once_when_idle_and_left_alone_while_busy() {
    let now = Instant::now();
    let mut state = state(1, now);
    up(&mut state, "busy", now);
    state.take("busy", 1, now);
    up(&mut state, "idle", now);
    state.set_version(2);
    let planned = plan(&state, &spec(), now);
    assert_eq!((planned.stop, planned.start), (vec!["idle".to_owned()], 1));
    state
        .finish("busy", "j0", &serde_json::json!({}), now)
        .unwrap();
    assert!(plan(&state, &spec(), now).stop.contains(&"busy".to_owned()));
}

#[test]
fn fewer_workers_at_most_stops_idle_ones_at_once() {
    let now = Instant::now();
    let mut state = state(0, now);
    for id in ["a", "b", "c"] {
        up(&mut state, id, now);
    }
    let fewer = EndpointSpec {
        workers_max: 1,
        ..spec()
    };
    assert_eq!(plan(&state, &fewer, now).stop.len(), 2);
    let none = EndpointSpec {
        workers_max: 0,
        ..spec()
    };
    assert_eq!(plan(&state, &none, now).stop.len(), 3);
}

#[test]
fn crashes_hold_back_starts() {
    let now = Instant::now();
    let mut pause = StartPause::default();
    assert!(pause.is_over(now));
    pause.ended(false, now);
    pause.ended(false, now);
    assert!(!pause.is_over(now + Duration::from_millis(999)));
    assert!(pause.is_over(now + Duration::from_secs(1)));
    pause.ended(true, now);
    assert!(pause.is_over(now));
}

#[test]
fn with_fewer_places_sleeping_workers_go_too() {
    let now = Instant::now();
    let mut state = state(0, now);
    for id in ["a", "b", "c"] {
        up(&mut state, id, now);
    }
    state.worker_frozen("a");
    state.worker_frozen("b");
    let places = |workers_max: usize| EndpointSpec {
        workers_max,
        flashboot: true,
        ..spec()
    };
    assert_eq!(plan(&state, &places(3), now), Plan::default());
    assert_eq!(plan(&state, &places(2), now).stop.len(), 1);
    let none = plan(&state, &places(0), now);
    assert_eq!(none.stop.len(), 3, "{none:?}");
}

#[test]
fn a_worker_idles_from_the_end_of_its_last_job() {
    let now = Instant::now();
    let mut state = state(1, now);
    up(&mut state, "w", now);
    state.take("w", 1, now);
    let end = now + Duration::from_secs(60);
    let posted = state.finish("w", "j0", &serde_json::json!({}), end);
    assert!(posted.is_ok());
    let idle = |seconds: u64| plan(&state, &spec(), end + Duration::from_secs(seconds)).stop;
    assert!(idle(9).is_empty());
    assert_eq!(idle(10), ["w"]);
}
