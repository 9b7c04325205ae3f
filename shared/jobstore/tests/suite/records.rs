//! Job records, items, parts, and Redis emptied or gone.

use super::*;
use futures_util::{StreamExt, TryStreamExt};
use photofinish_jobstore::{
    Class, Created, Finished, GoesOn, JobStore, JobStoreError, KeptUpload, RunBegun, Settle,
    Started, Swap, Turn, Wanted,
};
use photofinish_kit::RedisServer;
use photofinish_model::{Counts, ItemIndex, ItemState, JobId, JobStatus, Nonce, Usage};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_record_comes_back_as_it_was() -> Outcome {
    let store = store()?;
    let mut job = snapshot(1, 1, 4);
    job.items[1].state = ItemState::Rendering;
    job.items[2].state = stored(1);
    job.items[3].state = failed("x");
    job.usage.gpu_seconds = 1.5;
    job.metadata = serde_json::from_str(r#"{"order":"A-17"}"#)?;
    assert_eq!(store.job(&job.job).await?, None);
    assert_eq!(store.header(&job.job).await?, None);
    assert_eq!(store.create(&job).await?, Created::Created);
    assert_eq!(store.create(&snapshot(1, 1, 9)).await?, Created::Exists);
    assert_eq!(store.job(&job.job).await?, Some(job.clone()));
    let header = store.header(&job.job).await?.unwrap();
    assert_eq!(
        header.counts,
        Counts {
            total: 4,
            stored: 1,
            failed: 1
        }
    );
    assert!(header.job.items.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_newer_run_replaces_an_older_one_and_never_the_other_way() -> Outcome {
    let store = store()?;
    let job = JobId::from_random(2);
    let _ = store.create(&snapshot(2, 1, 2)).await?;
    assert_eq!(store.jobs_in_flight().await?, 1);
    let ahead = store.settle_item(&job, 2, 0, &stored(1)).await?;
    assert_eq!(ahead, Settle::Missing, "a message ahead of the record");
    assert_eq!(store.restore(&snapshot(2, 2, 2)).await?, Created::Created);
    assert_eq!(store.restore(&snapshot(2, 1, 2)).await?, Created::Exists);
    assert_eq!(store.jobs_in_flight().await?, 1);
    assert_eq!(
        store.settle_item(&job, 1, 0, &stored(1)).await?,
        Settle::RunOver
    );
    assert_eq!(
        store.pending_items(&job, 1, &[0, 1]).await?,
        Wanted::RunOver
    );
    let mut end = snapshot(2, 2, 2);
    end.status = JobStatus::Failed;
    end.items[0].state = stored(7);
    assert_eq!(store.finish(&end).await?, Finished::Recorded);
    assert_eq!(store.finish(&end).await?, Finished::Recorded);
    assert_eq!(store.jobs_in_flight().await?, 0);
    assert_eq!(store.job(&job).await?, Some(end.clone()));
    assert_eq!(
        store.settle_item(&job, 2, 1, &stored(1)).await?,
        Settle::RunOver
    );
    assert_eq!(
        store.mark_started(&job, 2, end.created_at).await?,
        Started::RunOver
    );
    assert!(!store.mark_item(&job, 2, 1, &ItemState::Ready).await?);
    assert!(!store.add_usage(&job, 2, "a", Usage::default()).await?);
    let _ = store.create(&snapshot(2, 3, 2)).await?;
    assert_eq!(store.finish(&end).await?, Finished::Newer);
    Ok(())
}

#[tokio::test]
async fn a_run_that_begins_is_told_what_is_known_of_it() -> Outcome {
    let store = store()?;
    let job = snapshot(4, 1, 2);
    let due = || async { store.deadlines_due(10).await };
    assert_eq!(store.begin(&job).await?, RunBegun::Now);
    assert_eq!(due().await?, [(tenant(), job.job.clone(), 1)], "long past");
    assert_eq!(store.begin(&job).await?, RunBegun::Before);
    let other = snapshot(5, 1, 2);
    let _made = store.create(&other).await?;
    store.begin_end(&other.job, 1).await?;
    let begun = store.begin(&other).await?;
    assert_eq!(begun, RunBegun::UnderWay, "somebody is about to end it");
    let _over = store.finish_closed(&other).await?;
    let _marked = store.mark_item(&job.job, 1, 0, &ItemState::Ready).await?;
    assert_eq!(store.begin(&job).await?, RunBegun::UnderWay);
    let mut end = job.clone();
    end.status = JobStatus::Failed;
    assert_eq!(store.finish_closed(&end).await?, Finished::Recorded);
    assert_eq!(store.begin(&job).await?, RunBegun::Over);
    assert_eq!(store.jobs_in_flight().await?, 0);
    assert_eq!(store.begin(&snapshot(4, 2, 2)).await?, RunBegun::Now);
    assert_eq!(
        store.begin(&job).await?,
        RunBegun::Over,
        "a newer run is there"
    );
    assert_eq!(store.jobs_in_flight().await?, 1);
    let newer = (tenant(), job.job.clone(), 2);
    assert_eq!(due().await?, [newer], "what is over has no deadline");
    assert_eq!(store.finish_closed(&end).await?, Finished::Newer);
    Ok(())
}

#[tokio::test]
async fn of_fifty_at_once_the_first_output_of_an_item_wins() -> Outcome {
    let store = store()?;
    let job = snapshot(3, 1, 5);
    let _ = store.create(&job).await?;
    let calls = (0..50u16).map(|call| {
        let (store, id) = (store.clone(), job.job.clone());
        async move {
            let index: ItemIndex = call % 5;
            let state = if call % 3 == 0 {
                failed(&call.to_string())
            } else {
                stored(call)
            };
            let settled = store.settle_item(&id, 1, index, &state).await?;
            Ok::<_, JobStoreError>((index, state, settled))
        }
    });
    let settled: Vec<_> = futures_util::stream::iter(calls)
        .buffer_unordered(50)
        .try_collect()
        .await?;
    let mut winners = BTreeMap::new();
    for (index, state, outcome) in &settled {
        if matches!(outcome, Settle::First(_)) {
            assert_eq!(
                winners.insert(*index, state.clone()),
                None,
                "two winners for {index}"
            );
        }
    }
    assert_eq!(winners.len(), 5);
    for (index, _, outcome) in &settled {
        if let Settle::Already(_, winner) = outcome {
            assert_eq!(winner, &winners[index]);
        }
    }
    let all_seen = settled.iter().filter(|(_, _, outcome)| match outcome {
        Settle::First(counts) => counts.settled() == 5,
        Settle::Already(..) | Settle::Missing | Settle::RunOver => false,
    });
    assert_eq!(
        all_seen.count(),
        1,
        "exactly one call settles the last item"
    );
    let now = store.job(&job.job).await?.unwrap();
    assert_eq!(now.counts().settled(), 5);
    assert_eq!(store.header(&job.job).await?.unwrap().counts, now.counts());
    for row in &now.items {
        assert_eq!(row.state, winners[&row.index]);
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Act {
    Mark(ItemIndex, bool),
    Settle(ItemIndex, bool, u16),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let mark = (0u16..4, any::<bool>()).prop_map(|(index, ready)| Act::Mark(index, ready));
    let settle =
        (0u16..4, any::<bool>(), 1u16..9).prop_map(|(index, ok, n)| Act::Settle(index, ok, n));
    prop::collection::vec(prop_oneof![mark, settle], 0..25)
}

/// The record against a plain map: states never go backwards, what is settled stays, counts are
/// those of the set.
async fn compare(store: &JobStore, id: u128, acts: &[Act]) -> Outcome {
    let job = snapshot(id, 1, 4);
    let _ = store.create(&job).await?;
    let mut expected = vec![ItemState::Pending; 4];
    for act in acts {
        match act {
            Act::Mark(index, ready) => {
                let state = if *ready {
                    ItemState::Ready
                } else {
                    ItemState::Rendering
                };
                let slot = &mut expected[usize::from(*index)];
                let moves = match slot {
                    ItemState::Pending => true,
                    ItemState::Rendering => *ready,
                    ItemState::Ready | ItemState::Stored(_) | ItemState::Failed(_) => false,
                };
                assert_eq!(store.mark_item(&job.job, 1, *index, &state).await?, moves);
                if moves {
                    *slot = state;
                }
            }
            Act::Settle(index, ok, n) => {
                let state = if *ok {
                    stored(*n)
                } else {
                    failed(&n.to_string())
                };
                let slot = &mut expected[usize::from(*index)];
                let first = !slot.is_settled();
                if first {
                    *slot = state.clone();
                }
                match store.settle_item(&job.job, 1, *index, &state).await? {
                    Settle::First(_) => assert!(first),
                    Settle::Already(_, winner) => assert_eq!((first, &winner), (false, &*slot)),
                    other @ (Settle::Missing | Settle::RunOver) => panic!("{other:?}"),
                }
            }
        }
    }
    let now = store.job(&job.job).await?.unwrap();
    assert_eq!(
        now.items
            .iter()
            .map(|row| row.state.clone())
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(store.header(&job.job).await?.unwrap().counts, now.counts());
    let open: Vec<ItemIndex> = now
        .items
        .iter()
        .filter(|row| !row.state.is_settled())
        .map(|row| row.index)
        .collect();
    assert_eq!(
        store.pending_items(&job.job, 1, &[0, 1, 2, 3]).await?,
        Wanted::Items(open)
    );
    Ok(())
}

#[test]
fn items_go_forward_in_any_order_of_calls() -> Outcome {
    let runtime = tokio::runtime::Runtime::new()?;
    let store = runtime.block_on(async { store() })?;
    let ids = std::cell::Cell::new(1000u128);
    proptest!(ProptestConfig::with_cases(40), |(acts in acts())| {
        ids.set(ids.get() + 1);
        runtime.block_on(compare(&store, ids.get(), &acts)).unwrap();
    });
    Ok(())
}

#[tokio::test]
async fn starts_and_costs_count_once() -> Outcome {
    let store = store()?;
    let job = snapshot(4, 1, 1);
    let at = time("2026-11-22T10:00:05Z");
    assert_eq!(store.mark_started(&job.job, 1, at).await?, Started::Missing);
    let _ = store.create(&job).await?;
    assert_eq!(store.mark_started(&job.job, 1, at).await?, Started::First);
    assert_eq!(
        store
            .mark_started(&job.job, 1, time("2026-11-22T10:00:09Z"))
            .await?,
        Started::Already
    );
    let cost = Usage {
        gpu_seconds: 2.5,
        linger_s: 0.5,
        attempts: 1,
        rescued: 1,
        ..Usage::default()
    };
    assert!(store.add_usage(&job.job, 1, "0/1", cost).await?);
    assert!(!store.add_usage(&job.job, 1, "0/1", cost).await?);
    assert!(store.add_usage(&job.job, 1, "0/2", cost).await?);
    let now = store.job(&job.job).await?.unwrap();
    assert_eq!((now.status, now.started_at), (JobStatus::Running, Some(at)));
    assert_eq!(
        now.usage,
        Usage {
            gpu_seconds: 5.0,
            linger_s: 1.0,
            attempts: 2,
            rescued: 2,
            ..Usage::default()
        }
    );
    let outside = store
        .settle_item(&job.job, 1, 1, &stored(1))
        .await
        .unwrap_err();
    assert!(matches!(outside, JobStoreError::NoSuchItem { index: 1 }));
    assert_eq!(outside.class(), Class::Permanent);
    assert_eq!(
        store.pending_items(&job.job, 1, &[]).await?,
        Wanted::Items(Vec::new())
    );
    Ok(())
}

#[tokio::test]
async fn parts_are_swapped_only_against_what_was_read() -> Outcome {
    let store = store()?;
    let job = JobId::from_random(5);
    assert_eq!(store.part(&job, 1, 0).await?, None);
    assert_eq!(store.part_cas(&job, 1, 0, None, "a").await?, Swap::Swapped);
    assert_eq!(
        store.part_cas(&job, 1, 0, None, "b").await?,
        Swap::Lost(Some("a".to_owned()))
    );
    assert_eq!(
        store.part_cas(&job, 1, 0, Some("a"), "b").await?,
        Swap::Swapped
    );
    assert_eq!(
        store.part_cas(&job, 2, 0, Some("b"), "c").await?,
        Swap::Lost(None)
    );
    assert_eq!(store.part(&job, 1, 0).await?, Some("b".to_owned()));
    Ok(())
}

#[tokio::test]
async fn emptied_or_gone_redis_is_told_as_it_is() -> Outcome {
    let mut server = RedisServer::start().await?;
    let store = store_at(&server.url(), "x:");
    store.ping().await?;
    let job = snapshot(9, 1, 2);
    let _ = store.create(&job).await?;
    let mut direct = redis::Client::open(server.url())?
        .get_multiplexed_async_connection()
        .await?;
    let () = redis::cmd("FLUSHALL").query_async(&mut direct).await?;
    let () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut direct)
        .await?;

    assert_eq!(store.job(&job.job).await?, None);
    assert_eq!(
        store.settle_item(&job.job, 1, 0, &stored(1)).await?,
        Settle::Missing
    );
    assert_eq!(
        store.pending_items(&job.job, 1, &[0]).await?,
        Wanted::Missing
    );
    assert_eq!(
        store.mark_started(&job.job, 1, job.created_at).await?,
        Started::Missing
    );
    assert!(!store.add_usage(&job.job, 1, "a", Usage::default()).await?);
    assert_eq!(store.part(&job.job, 1, 0).await?, None);
    assert_eq!(store.register_turn("t", 7, "x").await?, Turn::Pass);
    assert_eq!(store.restore(&job).await?, Created::Created);
    assert!(matches!(
        store.settle_item(&job.job, 1, 0, &stored(1)).await?,
        Settle::First(_)
    ));

    server.kill();
    let gone = store.ping().await.unwrap_err();
    assert_eq!(gone.class(), Class::Transient, "{gone:?}");
    server.restart().await?;
    store.ping().await?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_ended_before_it_was_recorded_is_not_counted() -> Outcome {
    let store = store()?;
    let begun = snapshot(70, 1, 1);
    let mut end = begun.clone();
    end.status = JobStatus::Completed;
    assert_eq!(store.finish(&end).await?, Finished::Recorded);
    assert_eq!(store.create(&begun).await?, Created::Exists);
    assert_eq!(store.jobs_in_flight().await?, 0);
    // A second call of one that goes on takes nothing back.
    let open = snapshot(71, 2, 1);
    assert_eq!(store.create(&open).await?, Created::Created);
    assert_eq!(store.create(&open).await?, Created::Exists);
    assert_eq!(store.jobs_in_flight().await?, 1);
    assert_eq!(store.create(&snapshot(71, 1, 1)).await?, Created::Exists);
    assert_eq!(store.jobs_in_flight().await?, 1);
    Ok(())
}

#[tokio::test]
async fn an_upload_is_kept_until_it_is_forgotten() -> Outcome {
    let store = store()?;
    let job = JobId::from_random(77);
    assert!(store.kept_uploads(&job).await?.is_empty());
    let upload = |id: &str, index| KeptUpload {
        id: id.to_owned(),
        key: format!("acme/{job}/{index:04}-a.r1.00000000.mp4"),
        run: 1,
        index,
        nonce: Nonce::from_random(7),
    };
    let (one, other) = (upload("a", 3), upload("b", 4));
    store.keep_upload(&job, &one).await?;
    store.keep_upload(&job, &one).await?;
    store.keep_upload(&job, &other).await?;
    assert_eq!(store.kept_uploads(&job).await?, [one, other.clone()]);
    store.forget_upload(&job, "a").await?;
    store.forget_upload(&job, "a").await?;
    assert_eq!(store.kept_uploads(&job).await?, [other]);
    Ok(())
}

#[tokio::test]
async fn a_run_surely_goes_on_until_somebody_begins_to_end_it() -> Outcome {
    let store = store()?;
    let job = JobId::from_random(31);
    let output = |attempt| {
        let ItemState::Stored(output) = stored(attempt) else {
            panic!("not stored")
        };
        output
    };
    let _ = store.create(&snapshot(31, 1, 4)).await?;
    let settle = async |index| store.settle_output(&job, 1, index, &output(1)).await;
    assert!(matches!(
        settle(0).await?,
        (Settle::First(_), GoesOn::Surely)
    ));
    assert!(matches!(
        settle(0).await?,
        (Settle::Already(..), GoesOn::Surely)
    ));
    store.begin_end(&job, 2).await?;
    assert_eq!(settle(1).await?.1, GoesOn::Surely, "another run ends");
    store.begin_end(&job, 1).await?;
    assert!(matches!(
        settle(2).await?,
        (Settle::First(_), GoesOn::Unknown)
    ));
    // A record that was made again does not know whether somebody had begun.
    let (again, unknown) = (JobId::from_random(32), GoesOn::Unknown);
    let _ = store.restore(&snapshot(32, 1, 2)).await?;
    assert_eq!(
        store.settle_output(&again, 1, 0, &output(1)).await?.1,
        unknown
    );
    let _ = store.create(&snapshot(32, 1, 2)).await?;
    assert_eq!(
        store.settle_output(&again, 1, 1, &output(1)).await?.1,
        unknown
    );
    Ok(())
}

#[tokio::test]
async fn connections_are_shared_and_made_again() -> Outcome {
    let mut server = RedisServer::start().await?;
    let store = store_at(&server.url(), "");
    let many = async || {
        let asked = (0..200).map(async |_| store.ping().await);
        futures_util::future::join_all(asked).await
    };
    assert!(many().await.into_iter().all(|made| made.is_ok()));
    server.kill();
    let failed = many().await;
    let transient = |error: &JobStoreError| error.class() == Class::Transient;
    assert!(
        failed
            .iter()
            .all(|made| made.as_ref().is_err_and(transient))
    );
    server.restart().await?;
    photofinish_kit::wait_until(
        Duration::from_secs(10),
        "Redis is found again",
        async || many().await.into_iter().all(|made| made.is_ok()),
    )
    .await
}
