//! Workers and jobs that come back, go away and pile up, without processes.

use super::*;

/// A worker of ours with the job `j` and a second poll open.
fn with_open_poll() -> (State, Instant) {
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    (state, now)
}

/// The same with a job that may take its time.
fn with_patience() -> (State, Instant) {
    let now = Instant::now();
    let patient = Rules {
        execution_timeout: secs(10_000),
        ttl: secs(10_000),
        ..rules()
    };
    let mut state = State::new(patient, 1);
    state.submit("j".to_owned(), NewJob::default(), now);
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    (state, now)
}

#[test]
fn a_slower_clock_is_not_held_against_workers() {
    let (mut state, now) = with_patience();
    state.set_pace(60.0, now);
    let later = now + secs(100);
    state.set_pace(1.0, later);
    state.tick(later);
    state.ping("w", &[], later);
    assert_eq!(
        (status(&state), state.take_effects()),
        ("IN_PROGRESS".to_owned(), vec![])
    );
    state.tick(later + secs(21));
    assert_eq!(
        state.take_effects(),
        [kill("w")],
        "but silence from there on is"
    );
}

#[test]
fn an_open_poll_of_a_worker_that_is_being_stopped_gets_nothing() {
    let (mut state, now) = with_patience();
    state.tick(now + secs(21));
    assert_eq!(
        state.take("w", 1, now),
        Take::Nothing,
        "lost, with its own job"
    );
    assert_eq!(status(&state), "IN_QUEUE");
    let (mut state, now) = with_open_poll();
    state.submit("k".to_owned(), NewJob::default(), now);
    state.tick(now + secs(14));
    assert_eq!(state.take("w", 1, now), Take::Nothing, "over its time");
    let (mut state, now) = with_open_poll();
    state.submit("k".to_owned(), NewJob::default(), now);
    state
        .finish("w", "j", &json!({"stopPod": true}), now)
        .unwrap();
    assert_eq!(state.take("w", 1, now), Take::Nothing, "as it asked");
}

#[test]
fn a_late_call_of_a_worker_that_has_ended_makes_no_new_one() {
    let (mut state, now) = with_open_poll();
    state.worker_gone("w", "killed", now);
    state.ping("w", &[], now);
    assert!(take(&mut state, "w", 1, now).is_empty());
    assert_eq!(state.workers().count(), 0);
    state.worker_gone("outside", "unheard of", now);
    state.heard_of("outside", now);
    assert_eq!(state.workers().count(), 1, "others may come back");
}

#[test]
fn a_job_that_is_taken_again_is_not_stopped_for_its_earlier_run() {
    let (mut state, now) = with_job();
    take(&mut state, "outside", 1, now);
    state.tick(now + secs(14));
    assert_eq!(status(&state), "FAILED");
    assert_eq!(state.retry("j", now + secs(14)), Retry::Queued);
    assert_eq!(take(&mut state, "outside", 1, now + secs(14)).len(), 1);
    assert!(state.take_stops("outside").is_empty());
    state.ping("outside", &["j".to_owned()], now + secs(21));
    state.tick(now + secs(21));
    assert_eq!(status(&state), "IN_PROGRESS");
}

#[test]
fn many_queued_jobs_expire_or_are_cancelled_at_once() {
    let began = Instant::now();
    let full = || {
        let (mut state, now) = with_job();
        for n in 0..100_000 {
            state.submit(format!("{n}"), NewJob::default(), now);
        }
        (state, now)
    };
    let (mut state, now) = full();
    state.cancel_all(now);
    assert_eq!((status(&state), state.open()), ("CANCELLED".to_owned(), 0));
    let (mut state, now) = full();
    state.tick(now + secs(61));
    assert_eq!((state.view("j"), state.open()), (None, 0));
    // One look at the whole queue for each job took minutes.
    assert!(began.elapsed() < secs(30), "{:?}", began.elapsed());
}

#[test]
fn a_job_given_back_is_the_next_one() {
    let (mut state, now) = with_open_poll();
    state.submit("k".to_owned(), NewJob::default(), now);
    state.worker_gone("w", "killed", now);
    assert_eq!(take(&mut state, "b", 1, now)[0]["id"], "j");
}
