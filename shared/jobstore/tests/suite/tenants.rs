//! What tenants use, and which of their ended jobs are kept for a while.

use super::*;
use photofinish_jobstore::KeptOf;

const DAY: &str = "2026-11-23";

#[tokio::test]
async fn a_rate_lets_a_seconds_worth_pass_and_those_that_reserve_queue_up() -> Outcome {
    let (store, acme, solo) = (store()?, tenant(), "solo".parse()?);
    let mut remaining = Vec::new();
    for _ in 0..5 {
        let rated = store.take_rate(&acme, "http", 5, false).await?;
        assert_eq!(rated.wait, Duration::ZERO);
        remaining.push(rated.remaining);
    }
    // Time goes on meanwhile, so there may be one more.
    assert!(
        remaining.first() >= Some(&4) && remaining.last() <= Some(&1),
        "{remaining:?}"
    );
    let mut waits = Vec::new();
    for _ in 0..20 {
        waits.push(
            store
                .take_rate(&acme, "http", 5, false)
                .await?
                .wait
                .as_millis(),
        );
    }
    assert!(waits.iter().all(|wait| *wait <= 200), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 0), "{waits:?}");
    assert_eq!(
        store.take_rate(&solo, "http", 5, false).await?.wait,
        Duration::ZERO
    );

    let mut waits = Vec::new();
    for _ in 0..15 {
        waits.push(store.take_rate(&acme, "amqp", 5, true).await?.wait);
    }
    assert_eq!(
        waits[..5],
        [Duration::ZERO; 5],
        "the other door is another rate"
    );
    // Each takes its own place: 5 in a second, however many there are.
    let last = waits[14];
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert!(
        last > Duration::from_secs(1) && last <= Duration::from_secs(2),
        "{waits:?}"
    );
    Ok(())
}

#[tokio::test]
async fn open_jobs_are_counted_by_name_until_they_end() -> Outcome {
    let store = store()?;
    let job = snapshot(1, 1, 1);
    let first = store.reserve(&job.tenant, &job.job, DAY).await?;
    assert_eq!(
        (first.added, first.standing.jobs, first.based),
        (true, 1, false)
    );
    let again = store.reserve(&job.tenant, &job.job, DAY).await?;
    assert_eq!((again.added, again.standing.jobs), (false, 1));
    let late = JobSnapshot {
        deadline_at: Timestamp::MAX,
        ..job.clone()
    };
    let _created = store.create(&late).await?;
    let other = JobId::from_random(2);
    assert_eq!(
        store.reserve(&job.tenant, &other, DAY).await?.standing.jobs,
        2
    );
    store.release(&job.tenant, &other).await?;
    let ended = JobSnapshot {
        status: JobStatus::Completed,
        ..late.clone()
    };
    let _finished = store.finish(&ended).await?;
    assert_eq!(store.standing(&job.tenant, DAY).await?.0.jobs, 0);
    // Made once more by a message that comes late, it is still over.
    let _exists = store.create(&late).await?;
    assert_eq!(store.standing(&job.tenant, DAY).await?.0.jobs, 0);
    Ok(())
}

#[tokio::test]
async fn a_day_counts_each_attempt_once_and_what_the_bucket_knew_once() -> Outcome {
    let (store, acme) = (store()?, tenant());
    let first = store.add_to_day(&acme, DAY, "n1", (10.0, 0.5)).await?;
    assert_eq!(
        (first.gpu_seconds, first.based, first.save),
        (10.0, false, false)
    );
    assert!(store.base_day(&acme, DAY, (100.0, 5.0)).await?);
    assert!(!store.base_day(&acme, DAY, (100.0, 5.0)).await?);
    let again = store.add_to_day(&acme, DAY, "n1", (10.0, 0.5)).await?;
    assert_eq!((again.gpu_seconds, again.cost_usd), (110.0, 5.5));
    assert!(again.save, "the first write of a based day is due at once");
    let more = store.add_to_day(&acme, DAY, "n2", (1.0, 0.0)).await?;
    assert_eq!((more.gpu_seconds, more.save), (111.0, false));
    let (standing, based) = store.standing(&acme, DAY).await?;
    assert_eq!(
        (standing.gpu_seconds, standing.cost_usd, based),
        (111.0, 5.5, true)
    );
    let (other, based) = store.standing(&acme, "2026-11-24").await?;
    assert_eq!((other.gpu_seconds, based), (0.0, false));
    Ok(())
}

#[tokio::test]
async fn ended_jobs_are_due_by_their_latest_end() -> Outcome {
    let (store, acme) = (store()?, tenant());
    let (one, two) = (JobId::from_random(1), JobId::from_random(2));
    store
        .note_ended(&acme, &one, time("2026-11-22T10:00:00Z"))
        .await?;
    store
        .note_ended(&acme, &two, time("2026-11-22T11:00:00Z"))
        .await?;
    store
        .note_ended(&acme, &one, time("2026-11-22T12:00:00Z"))
        .await?;
    let due = async |at: &str| {
        store
            .ended_before(&acme, KeptOf::Outputs, time(at), 10)
            .await
    };
    assert_eq!(
        due("2026-11-22T11:00:00Z").await?,
        std::slice::from_ref(&two)
    );
    assert_eq!(
        due("2026-11-22T12:00:00Z").await?,
        [two.clone(), one.clone()]
    );
    store.strike_ended(&acme, KeptOf::Outputs, &two).await?;
    assert_eq!(
        due("2026-11-22T12:00:00Z").await?,
        std::slice::from_ref(&one)
    );
    let jobs = store
        .ended_before(&acme, KeptOf::Jobs, time("2026-11-22T12:00:00Z"), 10)
        .await?;
    assert_eq!(jobs, [two, one.clone()], "the other list is its own");
    assert!(!store.ended_is_whole(&acme).await?);
    store.set_ended_whole(&acme, true).await?;
    assert!(store.ended_is_whole(&acme).await?);
    store.forget_job(&acme, &one).await?;
    assert!(store.is_gone(&one).await?);
    assert!(due("2026-11-23T00:00:00Z").await?.is_empty());
    assert!(store.take_sweep_turn(Duration::from_secs(60)).await?);
    assert!(!store.take_sweep_turn(Duration::from_secs(60)).await?);
    Ok(())
}

#[tokio::test]
async fn redis_says_how_it_stands_and_when_keys_were_used() -> Outcome {
    let store = store()?;
    let health = store.health().await?;
    assert!(
        health.version.contains('.') && health.memory_used > 0,
        "{health:?}"
    );
    assert_eq!(health.eviction, "noeviction");
    let at = time("2026-11-22T10:00:00Z");
    store.key_used("a", at).await?;
    assert_eq!(store.keys_used(&["a", "b"]).await?, [Some(at), None]);
    store.key_revoked("a").await?;
    assert_eq!(store.keys_used(&["a"]).await?, [None]);
    store.note_endpoint("e2", "{}").await?;
    store.note_endpoint("e1", "{}").await?;
    let noted: Vec<String> = store
        .endpoints_noted()
        .await?
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(noted, ["e1", "e2"]);
    Ok(())
}
