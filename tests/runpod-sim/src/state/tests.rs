//! The queue's rules, without processes.

use super::*;

fn rules() -> Rules {
    Rules {
        execution_timeout: Duration::from_secs(10),
        ttl: Duration::from_mins(1),
        retention: Duration::from_secs(30),
        ping_loss: Duration::from_secs(20),
        stop_react: Duration::from_secs(5),
        init_timeout: Duration::from_mins(7),
        retries_max: 2,
    }
}

fn with_job() -> (State, Instant) {
    let mut state = State::new(rules());
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

#[test]
fn from_queue_to_completed_with_progress_between() {
    let (mut state, now) = with_job();
    assert_eq!(status(&state), "IN_QUEUE");
    let handed = state.take("w", 3, now + Duration::from_secs(2));
    assert_eq!(
        handed,
        [json!({"id": "j", "input": {"n": 1}, "webhook": "http://h"})]
    );
    state.progress("w", "j", json!("half"));
    assert_eq!(state.view("j").unwrap()["output"], "half");
    let end = now + Duration::from_secs(5);
    state.finish("w", "j", &json!({"output": 7}), end).unwrap();
    let view = state.view("j").unwrap();
    let expected = json!({"id": "j", "status": "COMPLETED", "output": 7, "workerId": "w",
                          "delayTime": 2000, "executionTime": 3000});
    assert_eq!(view, expected);
    state.progress("w", "j", json!("late"));
    assert_eq!(
        state.view("j").unwrap()["output"],
        7,
        "late progress is dropped"
    );
    assert_eq!(state.finish("w", "j", &json!({}), end), Err(Closed));
    assert_eq!(
        state.take_effects(),
        [Effect::CallWebhook {
            url: "http://h".to_owned(),
            body: view
        }]
    );
}

#[test]
fn an_error_beside_an_output_is_failed_and_keeps_both() {
    let (mut state, now) = with_job();
    state.take("w", 1, now);
    state
        .finish(
            "w",
            "j",
            &json!({"output": 5, "error": "bad", "stopPod": true}),
            now,
        )
        .unwrap();
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
fn a_lost_worker_gives_its_job_back_until_it_is_too_often() {
    let (mut state, now) = with_job();
    for retries in 0..=2 {
        let worker = format!("w{retries}");
        assert_eq!(state.take(&worker, 1, now).len(), 1);
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
    assert_eq!(
        state.finish("w0", "j", &json!({}), now),
        Err(Closed),
        "taken over"
    );
}

#[test]
fn a_job_that_is_no_longer_listed_runs_again() {
    let (mut state, now) = with_job();
    state.take("w", 1, now);
    state.ping("w", &[], now + Duration::from_secs(1));
    assert_eq!(status(&state), "IN_PROGRESS", "too early to say");
    state.ping("w", &["j".to_owned()], now + Duration::from_secs(4));
    state.ping("w", &[], now + Duration::from_secs(5));
    assert_eq!(status(&state), "IN_QUEUE");
}

#[test]
fn a_silent_worker_is_killed_and_its_job_runs_again() {
    let (mut state, now) = with_job();
    state.worker_starting("w".to_owned(), now);
    state.take("w", 1, now);
    state.ping("w", &["j".to_owned()], now);
    state.rules.ping_loss = Duration::from_secs(5);
    state.tick(now + Duration::from_secs(6));
    assert_eq!(status(&state), "IN_QUEUE");
    assert_eq!(
        state.take_effects(),
        [Effect::KillWorker {
            worker: "w".to_owned()
        }]
    );
}

#[test]
fn cancel_reaches_the_owner_which_is_killed_if_it_goes_on() {
    let (mut state, now) = with_job();
    state.worker_starting("w".to_owned(), now);
    state.take("w", 1, now);
    assert_eq!(state.cancel("j", now).unwrap()["status"], "CANCELLED");
    assert_eq!(state.take_stops("w", now), ["j"]);
    assert!(state.take_stops("w", now).is_empty());
    assert!(!state.worker("w").unwrap().is_idle());
    assert_eq!(state.finish("w", "j", &json!({}), now), Err(Closed));
    assert!(
        state.worker("w").unwrap().is_idle(),
        "a refused result lets go of it too"
    );
    let (mut state, now) = with_job();
    state.worker_starting("w".to_owned(), now);
    state.take("w", 1, now);
    state.cancel("j", now);
    state.take_effects();
    let later = now + Duration::from_secs(6);
    state.ping("w", &["j".to_owned()], later);
    state.tick(later);
    assert_eq!(
        state.take_effects(),
        [Effect::KillWorker {
            worker: "w".to_owned()
        }]
    );
}

#[test]
fn a_stopping_worker_gets_nothing() {
    let (mut state, now) = with_job();
    state.take_stops("w", now);
    state.worker_stopping("w");
    assert!(state.take("w", 1, now).is_empty());
    assert_eq!(status(&state), "IN_QUEUE");
}

#[test]
fn timeouts_end_jobs_and_ttl_and_retention_forget_them() {
    let (mut state, now) = with_job();
    state.worker_starting("w".to_owned(), now);
    state.take("w", 1, now);
    let late = now + Duration::from_secs(11);
    state.tick(late);
    let view = state.view("j").unwrap();
    assert_eq!(
        (&view["status"], &view["error"]),
        (&json!("FAILED"), &json!("executionTimeout exceeded"))
    );
    assert!(state.take_effects().contains(&Effect::StopWorker {
        worker: "w".to_owned()
    }));
    assert_eq!(state.take_stops("w", late), ["j"]);
    state.tick(late + Duration::from_secs(31));
    assert_eq!(state.view("j"), None);
    let (mut state, now) = with_job();
    state.tick(now + Duration::from_secs(61));
    assert_eq!(
        (state.view("j"), state.waiting(Duration::ZERO, now)),
        (None, 0)
    );
}
