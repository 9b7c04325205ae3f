use photofinish_model::{Code, Fault};

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fresh() -> State {
    let mut state = State::new(Policy {
        budget: s(600),
        rescue_reserve: s(60),
        linger: s(60),
        first_contact: s(10),
    });
    state.announced(s(0));
    state
}

fn output(index: ItemIndex) -> ReadyOutput {
    ReadyOutput {
        index,
        item: format!("i{index}"),
        name: format!("{index:04}-i{index}.mp4"),
        bytes: 1,
        sha256: String::new(),
        duration_s: 1.0,
        encoder: None,
        render_s: None,
    }
}

#[test]
fn an_attempt_ends_when_all_is_acknowledged() {
    let mut state = fresh();
    state.contacted();
    state.ready(s(5), output(0));
    assert_eq!(state.step(s(5)), Step::Wait(s(540)), "still rendering");
    assert!(state.acknowledged(0) && state.acknowledged(0) && !state.acknowledged(9));
    state.rendered(s(6));
    assert_eq!(state.step(s(6)), Step::Finish);
}

#[test]
fn an_attempt_without_outputs_ends_when_rendering_does() {
    let mut state = fresh();
    let fault = Fault::new(Code::NotAnImage, "x");
    state.failed(ItemError {
        index: 0,
        fault,
        permanent: true,
    });
    state.rendered(s(2));
    assert_eq!(state.step(s(2)), Step::Finish);
}

#[test]
fn lingering_lasts_from_the_later_of_ready_and_served_and_ends_with_a_push() {
    let mut state = fresh();
    state.contacted();
    state.ready(s(10), output(0));
    state.rendered(s(11));
    assert_eq!(state.step(s(12)), Step::Wait(s(70)));
    state.served(s(50));
    assert_eq!(state.step(s(70)), Step::Wait(s(110)));
    assert_eq!(state.step(s(110)), Step::Push(vec![0]));
    state.pushed(0);
    assert_eq!(state.step(s(111)), Step::Finish);
    assert_eq!(state.rescued(), [0]);
}

#[test]
fn without_contact_what_is_ready_is_pushed_at_once_and_nothing_lingers() {
    let mut state = fresh();
    state.ready(s(3), output(0));
    assert_eq!(state.step(s(4)), Step::Wait(s(10)));
    assert_eq!(state.step(s(10)), Step::Push(vec![0]));
    state.pushed(0);
    assert_eq!(state.step(s(11)), Step::Wait(s(540)));
    state.ready(s(20), output(1));
    assert_eq!(state.step(s(20)), Step::Push(vec![1]));
    state.pushed(1);
    state.rendered(s(21));
    assert_eq!(state.step(s(21)), Step::Finish);
}

#[test]
fn a_push_that_fails_lingers_as_usual_and_is_tried_once_more() {
    let mut state = fresh();
    state.ready(s(3), output(0));
    state.rendered(s(3));
    assert_eq!(state.step(s(10)), Step::Push(vec![0]));
    state.push_failed(0);
    assert_eq!(state.step(s(12)), Step::Wait(s(63)));
    assert_eq!(state.step(s(63)), Step::Push(vec![0]));
    state.push_failed(0);
    assert_eq!(state.step(s(64)), Step::Finish);
}

#[test]
fn sigterm_and_the_budget_stop_rendering_and_push() {
    let mut state = fresh();
    state.contacted();
    state.ready(s(190), output(0));
    assert_eq!(state.rescue_at(), s(540));
    assert_eq!(state.step(s(540)), Step::Push(vec![0]));
    state.stopping(s(200));
    assert_eq!(state.step(s(200)), Step::Push(vec![0]));
    state.push_failed(0);
    state.rendered(s(201));
    assert_eq!(state.step(s(201)), Step::Wait(s(208)));
    assert_eq!(state.step(s(208)), Step::Finish);
}

#[test]
fn what_nobody_wants_is_neither_rendered_nor_waited_for() {
    let mut state = fresh();
    state.contacted();
    state.ready(s(1), output(0));
    state.wanted(&[0, 1, 2], &[2]);
    assert!(!state.is_wanted(0) && !state.is_wanted(1) && state.is_wanted(2));
    state.wanted(&[0, 1, 2], &[0, 1]);
    assert!(!state.is_wanted(0), "what is unwanted stays so");
    state.rendered(s(3));
    assert_eq!(state.step(s(3)), Step::Finish);
}

#[test]
fn a_push_on_request_leaves_out_what_is_acknowledged() {
    let mut state = fresh();
    state.contacted();
    state.ready(s(1), output(0));
    state.ready(s(1), output(1));
    state.acknowledged(0);
    state.push_asked();
    assert_eq!(state.step(s(2)), Step::Push(vec![1]));
    assert_eq!(state.lookup("0000-i0.mp4"), Lookup::Gone(0));
    assert_eq!(state.lookup("0001-i1.mp4"), Lookup::There(output(1)));
    assert_eq!(state.lookup("../0001-i1.mp4"), Lookup::Unknown);
}

#[test]
fn every_state_finishes_by_its_hard_end() {
    let mut state = fresh();
    state.contacted();
    state.ready(s(597), output(0));
    state.push_failed(0);
    state.push_failed(0);
    state.rendered(s(597));
    assert_eq!(state.step(s(597)), Step::Wait(s(598)));
    assert_eq!(state.step(s(598)), Step::Finish);
}
