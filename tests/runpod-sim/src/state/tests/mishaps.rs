//! Faults of the queue and of workers, and streams, without processes.

use super::*;

#[test]
fn a_doubled_job_over_its_time_ends_once() {
    let (mut state, now) = with_job();
    state.mishaps_mut().doubles = 1;
    take(&mut state, "a", 1, now);
    take(&mut state, "b", 1, now);
    state.tick(now + secs(14));
    let calls = state.take_effects();
    let calls = calls
        .iter()
        .filter(|e| matches!(e, Effect::CallWebhook { .. }));
    assert_eq!(calls.count(), 1);
    assert_eq!(state.health()["jobs"]["failed"], 1);
    assert_eq!(
        (state.take_stops("a").len(), state.take_stops("b").len()),
        (1, 1)
    );
}

#[test]
fn a_doubled_job_is_with_two_workers_and_the_first_result_counts() {
    let (mut state, now) = with_job();
    state.mishaps_mut().doubles = 1;
    assert_eq!(take(&mut state, "a", 1, now).len(), 1);
    assert!(take(&mut state, "a", 1, now).is_empty(), "not the same one");
    assert_eq!(
        state.waiting(secs(100), now),
        1,
        "it calls for a second worker"
    );
    assert_eq!(take(&mut state, "b", 1, now)[0]["id"], "j");
    assert!(take(&mut state, "c", 1, now).is_empty());
    state
        .finish("b", "j", &json!({"output": "b"}), now)
        .unwrap();
    let second = state.finish("a", "j", &json!({"output": "a"}), now);
    assert_eq!(second, Err(Closed::NotYours));
    assert_eq!(state.view("j").unwrap()["output"], "b");
    assert!(state.worker("a").unwrap().is_idle());
}

#[test]
fn a_lost_double_changes_nothing_for_the_owner() {
    let (mut state, now) = with_job();
    state.mishaps_mut().doubles = 1;
    take(&mut state, "a", 1, now);
    take(&mut state, "b", 1, now);
    state.worker_gone("b", "killed", now);
    assert_eq!(status(&state), "IN_PROGRESS");
    state.finish("a", "j", &json!({}), now).unwrap();
}

#[test]
fn a_lost_job_was_accepted_and_is_not_there() {
    let mut state = State::new(rules(), 1);
    let now = Instant::now();
    state.mishaps_mut().losses = 1;
    for id in ["lost", "kept"] {
        state.submit(id.to_owned(), NewJob::default(), now);
    }
    assert!(state.view("lost").is_none() && state.view("kept").is_some());
}

#[test]
fn traps_spring_at_their_moment_and_worker_only() {
    let trap = |at: Moment, worker: Option<&str>| Trap {
        at,
        worker: worker.map(str::to_owned),
        after_ms: 0,
        signal: Signal::Kill,
        count: 1,
    };
    let signalled = |state: &mut State| {
        let effects = state.take_effects();
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::SignalWorker { pid: 4242, .. }))
    };
    let (mut state, now) = with_job();
    started(&mut state, "w", now);
    let traps = [
        trap(Moment::Take, Some("other")),
        trap(Moment::Output, None),
        trap(Moment::Result, None),
    ];
    state.mishaps_mut().traps = traps.into();
    take(&mut state, "w", 1, now);
    assert!(!signalled(&mut state));
    state.progress("w", "j", json!({"outputs": []}));
    assert!(!signalled(&mut state), "nothing is announced");
    state.progress("w", "j", json!({"outputs": [{"name": "a"}]}));
    assert!(signalled(&mut state));
    let lost = state.finish("w", "j", &json!({"output": 1}), now);
    assert_eq!((lost, signalled(&mut state)), (Err(Closed::Lost), true));
    assert_eq!(
        status(&state),
        "IN_PROGRESS",
        "the post is lost with its worker"
    );
    assert!(
        state.finish("w", "j", &json!({"output": 1}), now).is_ok(),
        "once only"
    );
}

#[test]
fn long_text_is_streamed_in_pieces() {
    let (mut state, now) = with_job();
    take(&mut state, "w", 1, now);
    let text = "ü".repeat(750_000);
    state.stream("w", "j", &json!(text));
    state.stream("w", "j", &json!({"n": 1}));
    let (chunks, status, ended) = state.drain_stream("j").unwrap();
    assert_eq!((chunks.len(), status, ended), (3, "IN_PROGRESS", false));
    let pieces = chunks[..2]
        .iter()
        .map(|chunk| chunk["output"].as_str().unwrap());
    assert_eq!(pieces.collect::<String>(), text);
    assert!(state.drain_stream("j").unwrap().0.is_empty(), "each once");
}
