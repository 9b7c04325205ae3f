//! Lines: never more calls than slots, never faster than the rate, one probe, bounded waits, nobody starves.

use photofinish_model::breaker::{BreakerPolicy, BreakerState};
use photofinish_model::line::{
    AWAY_MAX, AWAY_MIN, Ctx, Held, Line, LinePolicy, Outcome, Shares, Verdict, Why, crowded,
};
use proptest::prelude::*;
use std::time::Duration;

const POLICY: LinePolicy = LinePolicy {
    slots_max: 16,
    breaker: BreakerPolicy {
        failures_max: 5,
        open_min: Duration::from_secs(5),
        open_max: Duration::from_secs(60),
    },
};
const MS: Duration = Duration::from_millis(1);

fn ctx(now: Duration, calls_per_s: Option<u32>) -> Ctx<'static> {
    Ctx {
        now,
        policy: &POLICY,
        calls_per_s,
        jitter: 0.5,
    }
}

/// A receiver that answers after `takes`, or fails after it.
struct World {
    line: Line,
    now: Duration,
    /// What passes between two looks.
    beat: Duration,
    rate: Option<u32>,
    takes: Duration,
    fails: bool,
    /// When each call ends, and its epoch.
    calls: Vec<(Duration, u64)>,
    /// When each call began.
    begun: Vec<Duration>,
    /// When each message comes back, and how often it was sent away.
    away: Vec<(Duration, u32)>,
    at_hand: Vec<u32>,
    waits: u32,
}

impl World {
    fn new(takes: Duration, fails: bool, rate: Option<u32>) -> Self {
        Self {
            line: Line::default(),
            now: Duration::from_secs(1),
            beat: 10 * MS,
            rate,
            takes,
            fails,
            calls: Vec::new(),
            begun: Vec::new(),
            away: Vec::new(),
            at_hand: Vec::new(),
            waits: 0,
        }
    }

    fn ask(&mut self, sent_away: u32) {
        match self.line.ask(sent_away, &ctx(self.now, self.rate)) {
            Verdict::Go { epoch } => {
                self.calls.push((self.now + self.takes, epoch));
                self.begun.push(self.now);
            }
            Verdict::Soon => {
                self.line.stay();
                self.at_hand.push(sent_away);
            }
            Verdict::Away { wait, .. } => {
                assert!((AWAY_MIN..=AWAY_MAX).contains(&wait), "{wait:?}");
                self.away.push((self.now + wait, sent_away + 1));
                self.waits += 1;
            }
        }
        assert!(self.line.under_way() <= POLICY.slots_max);
        assert_eq!(usize::from(self.line.under_way()), self.calls.len());
    }

    /// A moment passes.
    fn tick(&mut self) {
        self.now += self.beat;
        let now = self.now;
        let over: Vec<(Duration, u64)> = self.calls.extract_if(.., |call| call.0 <= now).collect();
        for (_, epoch) in over {
            let outcome = if self.fails {
                Outcome::Failed { retry_after: None }
            } else {
                Outcome::Answered
            };
            self.line
                .over(epoch, outcome, self.takes, &ctx(now, self.rate));
        }
        for sent_away in std::mem::take(&mut self.at_hand) {
            self.line.leave();
            self.ask(sent_away);
        }
        let back: Vec<(Duration, u32)> = self.away.extract_if(.., |one| one.0 <= now).collect();
        for (_, sent_away) in back {
            self.ask(sent_away);
        }
    }

    fn is_done(&self) -> bool {
        self.away.is_empty() && self.at_hand.is_empty() && self.calls.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes at once: all of it is called, within the slots and the rate, and nothing is sent round for long.
    #[test]
    fn a_burst_is_called_whole_within_slots_and_rate(
        messages in 1usize..400, takes_ms in 1u64..400, rate in prop::option::of(20u32..500),
    ) {
        let mut world = World::new(Duration::from_millis(takes_ms), false, rate);
        for _ in 0..messages { world.ask(0); }
        let fair = Duration::from_millis(takes_ms) * messages as u32 / 6
            + rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(messages as f64 / f64::from(rate)));
        let limit = world.now + fair * 3 + Duration::from_secs(10);
        while !world.is_done() {
            world.tick();
            prop_assert!(world.now < limit, "{} of {messages} called", world.begun.len());
        }
        prop_assert_eq!(world.begun.len(), messages, "each once");
        prop_assert!(world.waits <= 6 * messages as u32, "{} times sent away", world.waits);
        if let Some(rate) = rate.map(f64::from) {
            for (at, from) in world.begun.iter().enumerate() {
                let within = world.begun[at..].iter().filter(|one| **one < *from + Duration::from_secs(1));
                prop_assert!(within.count() as f64 <= 2.0 * rate + 1.0, "in a second");
            }
            let took = world.now.saturating_sub(world.begun[0]).as_secs_f64();
            prop_assert!(messages as f64 <= rate * (took + 1.0) + 1.0, "all in all");
        }
    }

    /// A receiver that fails at everything is left alone but for a probe now and then, however much waits for it.
    #[test]
    fn a_dead_receiver_holds_a_slot_now_and_then(
        messages in 20usize..300, takes_ms in prop_oneof![Just(5u64), Just(15_000)], minutes in 2u32..8,
    ) {
        let mut world = World::new(Duration::from_millis(takes_ms), true, None);
        world.beat = 100 * MS;
        for _ in 0..messages { world.ask(0); }
        let (begin, mut open) = (world.now, None);
        let mut held = Duration::ZERO;
        while world.now < begin + Duration::from_secs(60) * minutes {
            world.tick();
            if open.is_none() && world.line.breaker().label() == "open" { open = Some(world.begun.len()); }
            if open.is_some() { held += world.beat * u32::from(world.line.under_way()); }
            prop_assert!(world.line.breaker().label() != "half_open" || world.calls.len() <= 12);
        }
        let first = open.expect("it opens");
        prop_assert!(first <= 12, "{first} calls until it rests");
        let probes = (world.begun.len() - first) as u32;
        prop_assert!(probes <= 6 + 3 * minutes, "{probes} probes in {minutes} min");
        prop_assert!(held <= Duration::from_secs(240) + Duration::from_secs(30) * minutes);
        prop_assert!(!world.line.is_well());
        // It comes to itself: all is called.
        world.fails = false;
        world.takes = 5 * MS;
        let mended = world.now;
        while !world.is_done() {
            world.tick();
            prop_assert!(world.now < mended + AWAY_MAX * 2, "{} wait", world.away.len());
        }
        prop_assert!(world.line.is_well());
        prop_assert!(world.line.is_forgettable(world.now + AWAY_MAX));
    }

    #[test]
    fn no_share_is_ever_exceeded(
        tenant_max in 1u16..100, doubtful_max in 1u16..100,
        by_tenant in 0u16..200, doubtful_of_tenant in 0u16..200, doubtful in 0u16..200,
    ) {
        let (shares, held) = (Shares { tenant_max, doubtful_max }, Held { by_tenant, doubtful_of_tenant, doubtful });
        prop_assert_eq!(shares.has_room(held, true), by_tenant < tenant_max);
        if shares.has_room(held, false) {
            prop_assert!(by_tenant < tenant_max && doubtful < doubtful_max);
            prop_assert!(doubtful_of_tenant * 2 <= doubtful_max, "another tenant finds room");
        }
        prop_assert!(shares.has_room(Held::default(), false), "nobody is shut out for good");
    }

    #[test]
    fn waits_are_bounded_however_often_one_was_sent_away(times in any::<u32>(), jitter in 0.0f64..1.0) {
        prop_assert!((AWAY_MIN..=Duration::from_secs(40)).contains(&crowded(times, jitter)));
    }
}

/// Sixteen slots at 200 ms are eighty calls a second; twice as many come.
#[test]
fn what_was_sent_away_is_not_starved_by_what_is_new() {
    let mut world = World::new(Duration::from_millis(200), false, None);
    world.beat = 25 * MS;
    for _ in 0..1200 {
        world.tick();
        for _ in 0..4 {
            world.ask(0);
        }
    }
    let called = world.begun.len() as f64 / 30.0;
    assert!(called >= 60.0, "{called} calls a second of 80");
    // What came back was called beside it: few are sent away again and again.
    let often = world.away.iter().filter(|(_, times)| *times > 5).count();
    assert!(
        often * 10 <= world.away.len(),
        "{often} of {} were sent away more than five times",
        world.away.len()
    );
}

#[test]
fn a_retry_after_brings_all_of_a_line_to_rest_once_it_keeps_failing() {
    let mut line = Line::default();
    let asked = Some(Duration::from_secs(90));
    for _ in 0..5 {
        let now = ctx(Duration::from_secs(1), None);
        let Verdict::Go { epoch } = line.ask(1, &now) else {
            panic!("no slot")
        };
        line.over(epoch, Outcome::Failed { retry_after: asked }, MS, &now);
    }
    assert!(matches!(line.breaker(), BreakerState::Open { .. }));
    let verdict = line.ask(0, &ctx(Duration::from_secs(2), None));
    let Verdict::Away { wait, why } = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!((wait.as_secs(), why), (89, Why::Resting));
}

#[test]
fn a_call_that_was_not_made_after_all_changes_nothing() {
    let (mut line, now) = (Line::default(), ctx(Duration::from_secs(1), None));
    let fresh = line;
    let Verdict::Go { epoch } = line.ask(0, &now) else {
        panic!("no slot")
    };
    line.over(epoch, Outcome::Unknown, MS, &now);
    assert_eq!(line, fresh);
}
