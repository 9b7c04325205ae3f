//! Slots, lanes and the age of Redis.

use super::*;
use futures_util::{StreamExt, TryStreamExt};
use photofinish_jobstore::{Grant, GrantAsk, JobStore, LaneGrant, Settings, SlotFor, SlotKind};
use photofinish_kit::{Redis, wait_until};
use photofinish_model::Priority;
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::time::Duration;

fn ask(capacity: u32, holder: &str) -> GrantAsk {
    GrantAsk {
        capacity,
        reported: 0,
        holder: holder.to_owned(),
        ttl: Duration::from_mins(1),
        slot_for: SlotFor::Next,
        lane_max: 0,
        paused_lanes: BTreeSet::new(),
    }
}

async fn granted(store: &JobStore, endpoint: &str) -> anyhow::Result<LaneGrant> {
    let grant = store.grant(endpoint, &ask(1000, "h")).await?;
    store.free(endpoint, "h").await?;
    match grant {
        Grant::Granted { lane: Some(lane) } => Ok(lane),
        other @ (Grant::Granted { lane: None } | Grant::NoLane | Grant::Full | Grant::TooYoung) => {
            anyhow::bail!("{other:?}")
        }
    }
}

#[tokio::test]
async fn urgent_lanes_go_first_in_turn_and_none_starves() -> Outcome {
    let store = store()?;
    let endpoint = "e1";
    assert_eq!(store.grant(endpoint, &ask(1, "h")).await?, Grant::NoLane);
    store.mark_lane(endpoint, Priority::Low, 9).await?;
    for lane in [1, 4, 30] {
        store.mark_lane(endpoint, Priority::High, lane).await?;
    }
    let mut order = Vec::new();
    for _ in 0..20 {
        let lane = granted(&store, endpoint).await?;
        order.push((lane.priority, lane.lane));
    }
    let high: Vec<u16> = order
        .iter()
        .filter(|(priority, _)| *priority == Priority::High)
        .map(|(_, l)| *l)
        .collect();
    assert!(high.starts_with(&[1, 4, 30, 1, 4, 30]), "{order:?}");
    let low = order
        .iter()
        .filter(|(priority, _)| *priority == Priority::Low)
        .count();
    assert!(
        (1..=2).contains(&low),
        "every tenth goes to the longest unserved: {order:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_mark_that_is_newer_than_the_grant_stays() -> Outcome {
    let store = store()?;
    let endpoint = "e2";
    store.mark_lane(endpoint, Priority::Normal, 3).await?;
    let seen = granted(&store, endpoint).await?;
    store.mark_lane(endpoint, Priority::Normal, 3).await?;
    assert!(
        !store.clear_lane(endpoint, seen).await?,
        "published since: not empty any more"
    );
    let seen = granted(&store, endpoint).await?;
    assert!(store.clear_lane(endpoint, seen).await?);
    assert_eq!(store.grant(endpoint, &ask(1, "h")).await?, Grant::NoLane);
    Ok(())
}

#[tokio::test]
async fn who_passes_nobody_by_gets_a_slot_only_while_nothing_waits() -> Outcome {
    let store = store()?;
    let endpoint = "e4";
    let unawaited = |holder: &str, lane_max| GrantAsk {
        slot_for: SlotFor::Unawaited(Priority::Normal, 3),
        lane_max,
        ..ask(2, holder)
    };
    let slot = Grant::Granted { lane: None };
    assert_eq!(store.grant(endpoint, &unawaited("a", 1)).await?, slot);
    let grant = store.grant(endpoint, &unawaited("b", 1)).await?;
    assert_eq!(grant, Grant::Full, "it counts for its lane");
    store.mark_lane(endpoint, Priority::Low, 9).await?;
    let grant = store.grant(endpoint, &unawaited("b", 0)).await?;
    assert_eq!(grant, Grant::NoLane, "somebody waits");
    let paused = GrantAsk {
        paused_lanes: [9].into(),
        ..unawaited("b", 0)
    };
    assert_eq!(store.grant(endpoint, &paused).await?, slot, "for nothing");
    store.free(endpoint, "b").await?;
    let seen = granted(&store, endpoint).await?;
    assert!(store.clear_lane(endpoint, seen).await?);
    assert_eq!(store.grant(endpoint, &unawaited("b", 0)).await?, slot);
    let grant = store.grant(endpoint, &unawaited("c", 0)).await?;
    assert_eq!(grant, Grant::Full);
    let slots = store.slots(endpoint).await?;
    assert!(slots.iter().all(|slot| slot.kind == SlotKind::Attempt));
    store.free(endpoint, "a").await?;
    assert_eq!(store.slots(endpoint).await?.len(), 1);
    for lane in [3, 5] {
        store.mark_lane(endpoint, Priority::Normal, lane).await?;
    }
    assert_eq!(
        granted(&store, endpoint).await?.lane,
        5,
        "3 has had its turn"
    );
    Ok(())
}

#[tokio::test]
async fn no_more_slots_than_the_endpoint_has() -> Outcome {
    let store = store()?;
    let endpoint = "e3";
    store.mark_lane(endpoint, Priority::Normal, 0).await?;
    let asks = (0..30).map(|n| {
        let store = store.clone();
        async move { store.grant(endpoint, &ask(7, &format!("h{n}"))).await }
    });
    let grants: Vec<Grant> = futures_util::stream::iter(asks)
        .buffer_unordered(30)
        .try_collect()
        .await?;
    let got = grants
        .iter()
        .filter(|grant| matches!(grant, Grant::Granted { .. }))
        .count();
    assert_eq!(got, 7);
    assert!(
        grants
            .iter()
            .all(|grant| matches!(grant, Grant::Granted { .. } | Grant::Full))
    );
    let holder = store.slots(endpoint).await?[0].name.clone();
    assert!(
        store
            .bind(endpoint, &holder, "attempt 1", Duration::from_mins(1))
            .await?
    );
    assert_eq!(
        store.slots(endpoint).await?.len(),
        7,
        "a bound grant is one slot, not two"
    );
    assert_eq!(store.grant(endpoint, &ask(7, "late")).await?, Grant::Full);
    store.free(endpoint, "attempt 1").await?;
    store.free(endpoint, "attempt 1").await?;
    let full = GrantAsk {
        reported: 7,
        ..ask(7, "late")
    };
    assert_eq!(
        store.grant(endpoint, &full).await?,
        Grant::Full,
        "RunPod counts more"
    );
    assert!(matches!(
        store.grant(endpoint, &ask(7, "late")).await?,
        Grant::Granted { .. }
    ));
    Ok(())
}

#[tokio::test]
async fn grants_expire_and_attempts_do_not() -> Outcome {
    let store = store()?;
    let endpoint = "e4";
    let short = Duration::from_millis(50);
    let slot_only = |holder: &str| GrantAsk {
        ttl: short,
        slot_for: SlotFor::Nobody,
        ..ask(2, holder)
    };
    assert_eq!(
        store.grant(endpoint, &slot_only("a")).await?,
        Grant::Granted { lane: None }
    );
    assert_eq!(
        store.grant(endpoint, &slot_only("b")).await?,
        Grant::Granted { lane: None }
    );
    assert!(store.bind(endpoint, "b", "attempt b", short).await?);
    let expired = || async {
        store
            .slots(endpoint)
            .await
            .is_ok_and(|slots| slots.iter().all(|slot| slot.left_ms == 0))
    };
    wait_until(Duration::from_secs(5), "both expire", expired).await?;
    assert_eq!(
        store.grant(endpoint, &slot_only("c")).await?,
        Grant::Granted { lane: None }
    );
    assert_eq!(store.grant(endpoint, &slot_only("d")).await?, Grant::Full);
    let kinds: Vec<SlotKind> = store
        .slots(endpoint)
        .await?
        .into_iter()
        .map(|slot| slot.kind)
        .collect();
    assert_eq!(
        kinds,
        [SlotKind::Attempt, SlotKind::Grant],
        "the expired attempt still counts"
    );
    store
        .renew(endpoint, "attempt b", Duration::from_mins(1))
        .await?;
    store
        .renew(endpoint, "forgotten", Duration::from_mins(1))
        .await?;
    let named = store.slots(endpoint).await?;
    let attempts = named.iter().filter(|slot| slot.kind == SlotKind::Attempt);
    assert!(attempts.clone().all(|slot| slot.left_ms > 50_000) && attempts.count() == 2);
    Ok(())
}

#[tokio::test]
async fn an_empty_redis_grants_nothing_before_it_can_know() -> Outcome {
    let redis = Redis::fresh()?;
    let connect = |age| {
        JobStore::connect(&Settings {
            url: SecretString::from(redis.url.as_str()),
            prefix: redis.prefix.clone(),
            epoch_age_min: age,
            ..Settings::default()
        })
    };
    let store = connect(Duration::from_millis(300))?;
    store.mark_lane("e5", Priority::Normal, 0).await?;
    assert_eq!(store.grant("e5", &ask(1, "h")).await?, Grant::TooYoung);
    let grants = || async {
        matches!(
            store.grant("e5", &ask(1, "h")).await,
            Ok(Grant::Granted { .. })
        )
    };
    wait_until(Duration::from_secs(5), "a grant", grants).await
}
