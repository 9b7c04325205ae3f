//! The queue's rules, without processes.

use super::*;

mod lives;
mod mishaps;

fn rules() -> Rules {
    Rules {
        execution_timeout: Duration::from_secs(10),
        execution_lag: Duration::from_secs(3),
        ttl: Duration::from_mins(1),
        retention: Duration::from_secs(30),
        retention_sync: Duration::from_secs(5),
        ping_loss: Duration::from_secs(20),
        ping_interval: Duration::from_secs(1),
        stop_react: Duration::from_secs(5),
        init_timeout: Duration::from_mins(7),
        denial: Duration::from_secs(8),
        requeue_delay: Duration::ZERO,
        retries_max: 2,
        pace: 1.0,
    }
}

fn with_job() -> (State, Instant) {
    let mut state = State::new(rules(), 1);
    let now = Instant::now();
    let new = NewJob {
        input: json!({"n": 1}),
        webhook: Some("http://h".to_owned()),
        ..NewJob::default()
    };
    state.submit("j".to_owned(), new, now);
    (state, now)
}

fn status(state: &State) -> String {
    state.view("j").unwrap()["status"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A poll of a worker that has no job.
fn take(state: &mut State, worker: &str, most: usize, now: Instant) -> Vec<Value> {
    state.poll_begins(worker, Some(true), now);
    match state.take(worker, most, now) {
        Take::Jobs(jobs) => jobs,
        Take::Nothing | Take::Woken => Vec::new(),
    }
}

/// A worker of ours, whose process runs.
fn started(state: &mut State, worker: &str, now: Instant) {
    state.worker_starting(worker.to_owned(), now);
    state.worker_started(worker, 4242, (1, None), now);
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn kill(worker: &str) -> Effect {
    let worker = worker.to_owned();
    Effect::KillWorker { worker }
}

#[test]
fn from_queue_to_completed_with_progress_between() {
    let (mut state, now) = with_job();
    assert_eq!(status(&state), "IN_QUEUE");
    let handed = take(&mut state, "w", 3, now + secs(2));
    assert_eq!(
        handed,
        [json!({"id": "j", "input": {"n": 1}, "webhook": "http://h"})]
    );
    state.progress("w", "j", json!("half"));
    assert_eq!(state.view("j").unwrap()["output"], "half");
    let end = now + secs(5);
    state.finish("w", "j", &json!({"output": 7}), end).unwrap();
    let view = state.view("j").unwrap();
    let expected = json!({"id": "j", "status": "COMPLETED", "output": 7, "workerId": "w",
                          "delayTime": 2000, "executionTime": 3000});
    assert_eq!(view, expected);
    state.progress("w", "j", json!("late"));
    state.stream("w", "j", &json!("late"));
    assert_eq!(
        state.view("j").unwrap()["output"],
        7,
        "late progress is dropped"
    );
    assert!(state.drain_stream("j").unwrap().0.is_empty());
    let again = state.finish("w", "j", &json!({}), end);
    assert_eq!(again, Err(Closed::NotYours));
    let call = Effect::CallWebhook {
        url: "http://h".to_owned(),
        body: view,
    };
    assert_eq!(state.take_effects(), [call]);
}

#[test]
fn an_error_beside_an_output_is_failed_and_keeps_both() {
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    let body = json!({"output": 5, "error": "bad", "stopPod": true});
    state.finish("w", "j", &body, now).unwrap();
    let view = state.view("j").unwrap();
    assert_eq!(
        (&view["status"], &view["error"], &view["output"]),
        (&json!("FAILED"), &json!("bad"), &json!(5))
    );
    assert!(state.take_effects().contains(&Effect::StopWorker {
        worker: "w".to_owned()
    }));
}

#[test]
fn a_failed_job_begins_anew_with_its_input_and_nothing_else_does() {
    let (mut state, now) = with_job();
    assert_eq!(state.retry("j", now), Retry::NotFailed);
    assert_eq!(state.retry("nobody", now), Retry::Unknown);
    take(&mut state, "w", 1, now);
    state.stream("w", "j", &json!("chunk"));
    state
        .finish("w", "j", &json!({"error": "x", "output": 1}), now)
        .unwrap();
    assert_eq!(state.retry("j", now), Retry::Queued);
    assert_eq!(
        state.view("j"),
        Some(json!({"id": "j", "status": "IN_QUEUE"}))
    );
    assert!(state.drain_stream("j").unwrap().0.is_empty());
    let handed = take(&mut state, "w", 1, now);
    assert_eq!(handed[0]["input"], json!({"n": 1}));
    state.finish("w", "j", &json!({"output": 2}), now).unwrap();
    assert_eq!(state.retry("j", now), Retry::NotFailed);
}

#[test]
fn a_lost_worker_gives_its_job_back_until_it_is_too_often() {
    let (mut state, now) = with_job();
    for retries in 0..=2 {
        let worker = format!("w{retries}");
        assert_eq!(take(&mut state, &worker, 1, now).len(), 1);
        state.progress(&worker, "j", json!("void"));
        state.worker_gone(&worker, "killed", now);
        if retries < 2 {
            let view = state.view("j").unwrap();
            assert_eq!(
                (&view["status"], &view["retries"]),
                (&json!("IN_QUEUE"), &json!(retries + 1))
            );
            assert!(view.get("output").is_none());
        }
    }
    assert_eq!(status(&state), "TIMED_OUT");
    let late = state.finish("w0", "j", &json!({}), now);
    assert_eq!(late, Err(Closed::NotYours), "taken over");
}

#[test]
fn a_job_given_back_rests_for_the_delay() {
    let (mut state, now) = with_job();
    state.rules.requeue_delay = secs(5);
    take(&mut state, "a", 1, now);
    state.worker_gone("a", "killed", now);
    assert!(take(&mut state, "b", 1, now + secs(4)).is_empty());
    assert_eq!(state.waiting(Duration::ZERO, now + secs(4)), 0);
    assert_eq!(take(&mut state, "b", 1, now + secs(5)).len(), 1);
}

#[test]
fn a_job_that_is_no_longer_listed_runs_again() {
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    state.ping("w", &[], now + secs(1));
    assert_eq!(status(&state), "IN_PROGRESS", "too early to say");
    state.ping("w", &["j".to_owned()], now + secs(4));
    state.ping("w", &[], now + secs(5));
    assert_eq!(status(&state), "IN_QUEUE");
}

#[test]
fn a_worker_that_denies_its_job_is_believed_after_a_while() {
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    state.poll_begins("w", Some(true), now + secs(1));
    state.tick(now + secs(8));
    assert_eq!(status(&state), "IN_PROGRESS", "for seven seconds only");
    state.poll_begins("w", Some(false), now + secs(8));
    state.poll_begins("w", Some(true), now + secs(9));
    state.tick(now + secs(10));
    assert_eq!(status(&state), "IN_PROGRESS", "it owned up between");
    state.rules.execution_timeout = secs(100);
    state.tick(now + secs(12));
    assert_eq!(status(&state), "IN_PROGRESS");
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    state.poll_begins("w", Some(true), now + secs(1));
    state.poll_begins("w", Some(true), now + secs(5));
    state.tick(now + secs(9));
    assert_eq!(status(&state), "IN_QUEUE");
    assert_eq!(state.view("j").unwrap()["retries"], 1);
}

#[test]
fn a_poll_that_overtakes_a_result_denies_nothing_for_ever() {
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    state.poll_begins("w", Some(true), now);
    state.finish("w", "j", &json!({}), now).unwrap();
    state.submit("k".to_owned(), NewJob::default(), now);
    assert!(matches!(state.take("w", 1, now), Take::Jobs(_)));
    state.tick(now + secs(9));
    assert_eq!(state.view("k").unwrap()["status"], "IN_PROGRESS");
}

#[test]
fn a_silent_worker_is_killed_and_its_job_runs_again() {
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    state.ping("w", &["j".to_owned()], now);
    state.rules.ping_loss = secs(5);
    state.tick(now + secs(6));
    assert_eq!(status(&state), "IN_QUEUE");
    assert_eq!(state.take_effects(), [kill("w")]);
}

#[test]
fn a_fast_clock_and_a_jump_are_not_held_against_workers() {
    let now = Instant::now();
    let patient = Rules {
        execution_timeout: secs(10_000),
        ttl: secs(10_000),
        pace: 60.0,
        ..rules()
    };
    let mut state = State::new(patient, 1);
    state.submit("j".to_owned(), NewJob::default(), now);
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    state.tick(now + secs(200));
    assert_eq!(
        state.take_effects(),
        [],
        "four pings of a second are 240 here"
    );
    state.jump(secs(1000));
    state.tick(now + secs(1200));
    assert!(state.take_effects().is_empty());
    state.tick(now + secs(1241));
    assert_eq!(state.take_effects().last(), Some(&kill("w")));
}

#[test]
fn one_that_never_calls_is_killed_and_one_that_says_it_is_unfit_gets_nothing() {
    let (mut state, now) = with_job();
    state.worker_starting("slow".to_owned(), now);
    state.rules.ttl = secs(10_000);
    state.tick(now + secs(7 * 60 + 1));
    assert!(state.take_effects().contains(&kill("slow")));
    assert!(!state.worker_gone("slow", "killed", now));
    state.note_crash();
    assert_eq!(state.health()["workers"]["unhealthy"], 1);
    let (mut state, now) = with_job();
    state.unfit("sick", now);
    assert!(take(&mut state, "sick", 1, now).is_empty());
    assert_eq!(state.health()["workers"]["unhealthy"], 1);
    assert!(
        !state.worker_gone("sick", "ended", now),
        "as bad as a crash"
    );
}

#[test]
fn cancel_reaches_the_owner_which_is_killed_if_it_goes_on() {
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    assert_eq!(state.cancel("j", now).unwrap()["status"], "CANCELLED");
    assert_eq!(state.take_stops("w"), ["j"]);
    assert!(state.take_stops("w").is_empty());
    assert!(!state.worker("w").unwrap().is_idle());
    let refused = state.finish("w", "j", &json!({}), now);
    assert_eq!(refused, Err(Closed::NotYours));
    let idle = state.worker("w").unwrap().is_idle();
    assert!(idle, "a refused result lets go of it too");
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    state.cancel("j", now);
    state.take_effects();
    let later = now + secs(6);
    state.ping("w", &["j".to_owned()], later);
    state.tick(later);
    assert_eq!(state.take_effects(), [kill("w")]);
}

#[test]
fn stopping_stale_and_frozen_workers_get_nothing() {
    let (mut state, now) = with_job();
    state.heard_of("w", now);
    state.worker_stopping("w");
    assert!(take(&mut state, "w", 1, now).is_empty());
    started(&mut state, "old", now);
    started(&mut state, "cold", now);
    state.heard_of("cold", now);
    state.worker_frozen("cold");
    assert!(take(&mut state, "cold", 1, now).is_empty());
    state.set_version(2);
    assert!(take(&mut state, "old", 1, now).is_empty());
    assert_eq!(status(&state), "IN_QUEUE");
}

#[test]
fn a_woken_workers_first_poll_is_told_so() {
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    state.heard_of("w", now);
    state.worker_frozen("w");
    state.tick(now + secs(50));
    assert!(state.take_effects().is_empty(), "nobody misses its pings");
    state.worker_woken("w", now + secs(50));
    assert_eq!(state.take("w", 1, now), Take::Woken);
    assert_eq!(take(&mut state, "w", 1, now).len(), 1);
}

#[test]
fn timeouts_end_jobs_and_ttl_and_retention_forget_them() {
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    take(&mut state, "w", 1, now);
    state.tick(now + secs(12));
    assert_eq!(status(&state), "IN_PROGRESS", "noticed a little late");
    let late = now + secs(14);
    state.tick(late);
    let view = state.view("j").unwrap();
    assert_eq!(
        (&view["status"], &view["error"]),
        (&json!("FAILED"), &json!("executionTimeout exceeded"))
    );
    assert!(state.take_effects().contains(&Effect::StopWorker {
        worker: "w".to_owned()
    }));
    assert_eq!(state.take_stops("w"), ["j"]);
    state.tick(late + secs(31));
    assert_eq!(state.view("j"), None);
    let (mut state, now) = with_job();
    state.tick(now + secs(61));
    assert_eq!(
        (state.view("j"), state.waiting(Duration::ZERO, now)),
        (None, 0)
    );
    let effects = state.take_effects();
    let [Effect::CallWebhook { body, .. }] = effects.as_slice() else {
        panic!("{effects:?}")
    };
    assert_eq!(body["status"], "TIMED_OUT", "nobody took it in time");
}

#[test]
fn a_job_of_runsync_is_kept_for_a_shorter_time() {
    let (mut state, now) = with_job();
    let sync = NewJob {
        sync: true,
        ..NewJob::default()
    };
    state.submit("s".to_owned(), sync, now);
    for (id, _) in [("j", 0), ("s", 1)] {
        take(&mut state, "w", 1, now);
        state.finish("w", id, &json!({}), now).unwrap();
    }
    state.tick(now + secs(6));
    assert!(state.view("j").is_some() && state.view("s").is_none());
}

#[test]
fn a_purged_job_ends_and_a_running_one_goes_on() {
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    for id in ["a", "b"] {
        state.submit(id.to_owned(), NewJob::default(), now);
    }
    assert_eq!(state.purge(now), 2);
    assert_eq!(state.view("a").unwrap()["status"], "CANCELLED");
    assert_eq!(status(&state), "IN_PROGRESS");
    assert!(take(&mut state, "w2", 1, now).is_empty());
}
