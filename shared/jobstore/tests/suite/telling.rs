//! What an event is told from.

use super::*;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_jobstore::{Asked, Created, Logged};

#[tokio::test]
async fn an_events_log_its_job_and_a_copy_come_in_one_go() -> Outcome {
    let redis = Redis::fresh()?;
    let store = store_at(&redis.url, &redis.prefix);
    let job = snapshot(5, 1, 2);
    assert_eq!(store.create(&job).await?, Created::Created);
    let event = |bits| JobEvent {
        job: JobId::from_random(bits),
        tenant: tenant(),
        run: 1,
        event: EventType::JobAccepted,
        sequence: 10_000_000,
        at: time("2026-11-22T10:00:00Z"),
        changed: Vec::new(),
    };
    let asked = Asked {
        log: true,
        job: true,
        copy: ("kind", "id"),
    };
    // As after a restart, which forgets scripts: it is told them again, and the answer is the same.
    let mut connection = redis::Client::open(redis.url.as_str())?.get_connection()?;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut connection)?;
    let first = store.begin_telling(&event(5), asked).await?;
    assert_eq!((first.logged, first.job?), (Some(Logged::New), Some(job)));
    assert_eq!(first.copy, None);
    assert!(store.cache_system("kind", "id", 3, Some("{}")).await?);
    let again = store.begin_telling(&event(5), asked).await?;
    assert_eq!(again.logged, Some(Logged::Stands));
    assert_eq!(again.copy.map(|copy| copy.version), Some(3));
    assert_eq!(store.events_after(&event(5).job, 0).await?, [event(5)]);

    let unknown = store.begin_telling(&event(6), asked).await?;
    assert_eq!((unknown.logged, unknown.job?), (Some(Logged::New), None));
    let asked = Asked {
        log: false,
        job: false,
        ..asked
    };
    let little = store.begin_telling(&event(7), asked).await?;
    assert_eq!((little.logged, little.job?), (None, None));
    assert!(little.copy.is_some());
    assert_eq!(store.events_after(&event(7).job, 0).await?, []);
    Ok(())
}
