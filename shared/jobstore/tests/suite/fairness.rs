//! Whose turn it is, over thousands of grants: nobody starves, nobody exceeds, nothing leaks.

use super::*;
use photofinish_jobstore::{Grant, GrantAsk, SlotFor, SlotKind};
use photofinish_kit::wait_until;
use std::collections::{BTreeMap, BTreeSet};

const LANES: [(Priority, u16); 6] = [
    (Priority::High, 3),
    (Priority::High, 7),
    (Priority::Normal, 3),
    (Priority::Normal, 20),
    (Priority::Low, 0),
    (Priority::Low, 7),
];

/// One endpoint with parts waiting in lanes, driven like the submit loop drives it.
struct Scene {
    store: JobStore,
    endpoint: &'static str,
    capacity: u32,
    lane_max: u32,
    paused: BTreeSet<u16>,
    /// Parts that wait.
    waiting: BTreeMap<(Priority, u16), u32>,
    /// Attempts in flight with their lanes.
    flying: Vec<(String, u16)>,
    grants: u32,
    random: u64,
}

impl Scene {
    fn new(endpoint: &'static str, seed: u64) -> anyhow::Result<Self> {
        Ok(Self {
            store: store()?,
            endpoint,
            capacity: 5,
            lane_max: 0,
            paused: BTreeSet::new(),
            waiting: BTreeMap::new(),
            flying: Vec::new(),
            grants: 0,
            random: seed,
        })
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % end
    }

    async fn publish(&mut self, priority: Priority, lane: u16, parts: u32) -> Outcome {
        *self.waiting.entry((priority, lane)).or_default() += parts;
        Ok(self.store.mark_lane(self.endpoint, priority, lane).await?)
    }

    fn ask(&self, holder: &str, ttl: Duration) -> GrantAsk {
        GrantAsk {
            capacity: self.capacity,
            reported: 0,
            holder: holder.to_owned(),
            ttl,
            slot_for: SlotFor::Next,
            lane_max: self.lane_max,
            paused_lanes: self.paused.clone(),
        }
    }

    /// One grant and what follows from it; the lane that an attempt was submitted from.
    async fn submit(&mut self) -> anyhow::Result<Option<(Priority, u16)>> {
        loop {
            self.grants += 1;
            let holder = format!("h{}", self.grants);
            let ask = self.ask(&holder, Duration::from_mins(1));
            let granted = match self.store.grant(self.endpoint, &ask).await? {
                Grant::Granted { lane: Some(lane) } => lane,
                Grant::NoLane | Grant::Full => return Ok(None),
                other @ (Grant::Granted { lane: None } | Grant::TooYoung) => {
                    anyhow::bail!("{other:?}")
                }
            };
            let lane = (granted.priority, granted.lane);
            let left = self.waiting.entry(lane).or_default();
            if *left == 0 {
                self.store.free(self.endpoint, &holder).await?;
                self.store.clear_lane(self.endpoint, granted).await?;
                continue;
            }
            *left -= 1;
            let attempt = format!("acme/{}", self.grants);
            let ttl = Duration::from_mins(1);
            self.store
                .bind(self.endpoint, &holder, &attempt, ttl)
                .await?;
            self.flying.push((attempt, granted.lane));
            return Ok(Some(lane));
        }
    }

    /// Any attempt is over.
    async fn end_one(&mut self) -> Outcome {
        let at = self.below(self.flying.len());
        let (attempt, _) = self.flying.swap_remove(at);
        Ok(self.store.free(self.endpoint, &attempt).await?)
    }

    /// So many submits from lanes that never run dry; how many came from each.
    async fn shares(&mut self, submits: u32) -> anyhow::Result<BTreeMap<(Priority, u16), u32>> {
        let mut shares = BTreeMap::new();
        for _ in 0..submits {
            let lane = loop {
                if self.flying.len() as u32 >= self.capacity {
                    self.end_one().await?;
                }
                match self.submit().await? {
                    Some(lane) => break lane,
                    None => self.end_one().await?,
                }
            };
            *shares.entry(lane).or_default() += 1;
        }
        Ok(shares)
    }

    fn in_lane(&self, lane: u16) -> u32 {
        self.flying.iter().filter(|(_, at)| *at == lane).count() as u32
    }
}

#[tokio::test]
async fn high_overtakes_and_low_is_served_while_high_never_ends() -> Outcome {
    let mut scene = Scene::new("f1", 1)?;
    for (priority, lane) in LANES {
        scene.publish(priority, lane, 100_000).await?;
    }
    let shares = scene.shares(600).await?;
    let of = |priority| -> u32 {
        let mine = shares.iter().filter(|((p, _), _)| *p == priority);
        mine.map(|(_, count)| count).sum()
    };
    assert!((537..=543).contains(&of(Priority::High)), "{shares:?}");
    for (priority, lane) in LANES.into_iter().skip(2) {
        let share = shares[&(priority, lane)];
        assert!((12..=18).contains(&share), "{priority} {lane}: {shares:?}");
    }
    let high = LANES[..2].iter().map(|lane| shares[lane]);
    assert!(high.clone().max() <= high.min().map(|least| least + 3));
    Ok(())
}

#[tokio::test]
async fn a_tenant_with_one_part_is_next_however_many_another_has() -> Outcome {
    let mut scene = Scene::new("f2", 2)?;
    scene.publish(Priority::Normal, 9, 10_000).await?;
    scene.shares(37).await?;
    while scene.submit().await?.is_some() {}
    scene.publish(Priority::Normal, 4, 1).await?;
    assert_eq!(scene.submit().await?, None, "every slot is taken");
    scene.end_one().await?;
    assert_eq!(scene.submit().await?, Some((Priority::Normal, 4)));
    // Two that both have plenty share evenly, whatever the one has had before.
    scene.publish(Priority::Normal, 4, 10_000).await?;
    let shares = scene.shares(300).await?;
    let [one, other] = [4, 9].map(|lane| shares[&(Priority::Normal, lane)]);
    assert!(one.abs_diff(other) <= 5, "{shares:?}");
    Ok(())
}

#[tokio::test]
async fn a_capped_lane_never_exceeds_and_the_others_go_on() -> Outcome {
    for seed in 1..=3 {
        let mut scene = Scene::new("f3", seed)?;
        scene.capacity = 7;
        scene.lane_max = 2;
        let (mut submitted, mut most) = (BTreeMap::<u16, u32>::new(), 0);
        for _ in 0..400 {
            match scene.below(10) {
                0..=2 => {
                    let (priority, lane) = LANES[scene.below(LANES.len())];
                    let parts = scene.below(4) as u32;
                    scene.publish(priority, lane, parts).await?;
                }
                3..=5 if !scene.flying.is_empty() => scene.end_one().await?,
                _ => {
                    let free = scene.flying.len() < 7;
                    let may = |((_, lane), parts): (&(Priority, u16), &u32)| {
                        *parts > 0 && scene.in_lane(*lane) < 2
                    };
                    let expected = free && scene.waiting.iter().any(may);
                    let got = scene.submit().await?;
                    assert_eq!(got.is_some(), expected, "seed {seed}: {:?}", scene.waiting);
                    if let Some((_, lane)) = got {
                        *submitted.entry(lane).or_default() += 1;
                        most = most.max(scene.in_lane(lane));
                    }
                }
            }
        }
        assert_eq!(most, 2, "seed {seed}");
        assert_eq!(submitted.len(), 4, "every lane got on: {submitted:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_holders_and_attempts_leave_behind_counts_against_nobody() -> Outcome {
    let mut scene = Scene::new("f4", 4)?;
    scene.lane_max = 2;
    let (store, endpoint) = (scene.store.clone(), scene.endpoint);
    scene.publish(Priority::Low, 5, 100).await?;
    let brief = Duration::from_millis(30);
    for holder in ["dead 1", "dead 2"] {
        let granted = store.grant(endpoint, &scene.ask(holder, brief)).await?;
        assert!(matches!(granted, Grant::Granted { .. }), "{granted:?}");
    }
    let again = store.grant(endpoint, &scene.ask("next", brief)).await?;
    assert_eq!(again, Grant::NoLane, "both slots of the lane are granted");
    // Nobody gives them back: they end by themselves.
    let granted = || async {
        let ask = scene.ask("next", Duration::from_mins(1));
        matches!(store.grant(endpoint, &ask).await, Ok(Grant::Granted { .. }))
    };
    wait_until(Duration::from_secs(5), "a grant", granted).await?;
    // Asked for by name it is no other: a retry that goes to another endpoint counts there.
    let named = |holder, lane| GrantAsk {
        slot_for: SlotFor::Lane(lane),
        ..scene.ask(holder, Duration::from_mins(1))
    };
    let second = store.grant(endpoint, &named("named", 5)).await?;
    assert_eq!(second, Grant::Granted { lane: None });
    assert_eq!(store.grant(endpoint, &named("late", 5)).await?, Grant::Full);
    store.free(endpoint, "named").await?;
    // An attempt for which nobody vouches counts until it is freed, once however often.
    store.bind(endpoint, "next", "attempt", brief).await?;
    store.renew(endpoint, "attempt", brief).await?;
    store.renew(endpoint, "attempt", brief).await?;
    assert!(scene.submit().await?.is_some());
    assert_eq!(scene.submit().await?, None, "two of two");
    store.free(endpoint, "attempt").await?;
    store.free(endpoint, "attempt").await?;
    assert!(scene.submit().await?.is_some());
    assert_eq!(scene.submit().await?, None, "two of two");
    // One that was in flight when Redis was emptied counts for the endpoint alone.
    store.renew(endpoint, "from before", brief).await?;
    scene.end_one().await?;
    assert!(scene.submit().await?.is_some());
    let kinds = store.slots(endpoint).await?;
    assert!(kinds.iter().all(|slot| slot.kind == SlotKind::Attempt) && kinds.len() == 3);
    Ok(())
}
