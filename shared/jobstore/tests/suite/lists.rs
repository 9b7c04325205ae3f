//! Lists, deliveries, copies, turns, deadlines.

use super::*;
use jiff::SignedDuration;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{JobEvent, Receiver};
use photofinish_jobstore::{
    AttemptLog, DeliveryFilter, DeliveryRecord, JobStoreError, ListFilter, Recorded, Turn,
};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::{JobId, Operation};

#[tokio::test]
async fn of_a_turning_message_one_copy_lives() -> Outcome {
    let store = store()?;
    let cases = [
        (5, "a", Turn::Pass),
        (5, "a", Turn::Pass),
        (5, "b", Turn::Drop),
        (4, "a", Turn::Drop),
        (6, "c", Turn::Pass),
        (5, "a", Turn::Drop),
        (6, "c", Turn::Pass),
        (10, "d", Turn::Pass),
        (9, "e", Turn::Drop),
    ];
    for (turn, id, expected) in cases {
        assert_eq!(
            store.register_turn("watch", turn, id).await?,
            expected,
            "{turn} {id}"
        );
    }
    assert_eq!(store.register_turn("other", 1, "a").await?, Turn::Pass);
    Ok(())
}

#[tokio::test]
async fn deadlines_come_when_redis_says_so_and_stay_until_cleared() -> Outcome {
    let store = store()?;
    let (past, future) = (JobId::from_random(6), JobId::from_random(7));
    store
        .deadline_set(&past, &tenant(), 1, time("2020-01-01T00:00:00Z"))
        .await?;
    store
        .deadline_set(&future, &tenant(), 1, time("2999-01-01T00:00:00Z"))
        .await?;
    assert_eq!(
        store.deadlines_due(10).await?,
        vec![(tenant(), past.clone(), 1)]
    );
    assert!(
        store.deadlines_due(10).await?.is_empty(),
        "shown again after a pause only"
    );
    store.deadline_clear(&past, &tenant(), 1).await?;
    store.deadline_clear(&past, &tenant(), 1).await?;
    // One that was brought near stays near, whoever makes the record again.
    for at in ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
        store.deadline_set(&future, &tenant(), 1, time(at)).await?;
    }
    assert_eq!(store.deadlines_due(10).await?, vec![(tenant(), future, 1)]);
    Ok(())
}

#[tokio::test]
async fn a_list_shows_every_job_once_in_pages() -> Outcome {
    let store = store()?;
    for n in 0..250u128 {
        let mut job = snapshot(10_000 + n, 1, 1);
        // Many jobs of one instant, so that pages end among equals.
        let age = SignedDuration::from_secs((n / 60) as i64);
        job.created_at = job.created_at.checked_add(age)?;
        job.metadata = serde_json::from_str(&format!(r#"{{"order":"A-{}","n":{n}}}"#, n % 2))?;
        if n % 5 == 0 {
            job.operation = Operation::Caption;
        }
        let _ = store.create(&job).await?;
    }
    let mut seen = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = store
            .list(&tenant(), &ListFilter::default(), 40, cursor.as_deref())
            .await?;
        seen.extend(
            page.rows
                .into_iter()
                .map(|header| (header.job.created_at, header.job.job)),
        );
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 250);
    assert!(
        seen.windows(2).all(|pair| pair[0] > pair[1]),
        "newest first, each once"
    );
    let filter = ListFilter {
        operation: Some(Operation::Caption),
        metadata: vec![("order".to_owned(), "A-0".to_owned())],
        created_after: Some(time("2026-11-22T10:00:01Z")),
        ..ListFilter::default()
    };
    let page = store.list(&tenant(), &filter, 200, None).await?;
    assert_eq!(page.rows.len(), 19, "of 60..250 every tenth");
    let numbered = ListFilter {
        metadata: vec![("n".to_owned(), "33".to_owned())],
        ..ListFilter::default()
    };
    assert_eq!(
        store.list(&tenant(), &numbered, 10, None).await?.rows.len(),
        1
    );
    let bad = store
        .list(&tenant(), &ListFilter::default(), 10, Some("nonsense"))
        .await;
    assert!(matches!(bad, Err(JobStoreError::Cursor)));
    let other = "other".parse()?;
    assert!(
        store
            .list(&other, &ListFilter::default(), 10, None)
            .await?
            .rows
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn what_outlived_its_record_leaves_the_list() -> Outcome {
    let store = store()?;
    let mut old = snapshot(41, 1, 1);
    old.created_at = time("2026-09-01T10:00:00Z");
    let _ = store.create(&old).await?;
    let _ = store.create(&snapshot(42, 1, 1)).await?;
    let page = store
        .list(&tenant(), &ListFilter::default(), 10, None)
        .await?;
    let jobs: Vec<JobId> = page.rows.into_iter().map(|row| row.job.job).collect();
    assert_eq!(jobs, [JobId::from_random(42)]);

    let mut old = record("dlv_old", "whe_1", "00");
    old.created_at = time("2026-11-01T10:00:00Z");
    store.delivery_create("dlv_old", &old).await?;
    store
        .delivery_create("dlv_new", &record("dlv_new", "whe_1", "00"))
        .await?;
    let page = store
        .deliveries(&tenant(), &DeliveryFilter::default(), 10, None)
        .await?;
    let deliveries: Vec<String> = page.rows.into_iter().map(|row| row.record.id).collect();
    assert_eq!(deliveries, ["dlv_new"]);
    Ok(())
}

fn record(id: &str, endpoint: &str, second: &str) -> DeliveryRecord {
    DeliveryRecord {
        id: id.to_owned(),
        event_id: "evt_1".to_owned(),
        event: JobEvent {
            job: JobId::from_random(8),
            tenant: tenant(),
            run: 1,
            event: EventType::JobCompleted,
            sequence: 1,
            at: time("2026-11-22T10:00:00Z"),
            changed: Vec::new(),
        },
        receiver: Receiver::Endpoint {
            id: endpoint.to_owned(),
        },
        created_at: time(&format!("2026-11-22T10:00:{second}Z")),
    }
}

fn attempt(number: u16) -> AttemptLog {
    AttemptLog {
        number,
        at: time("2026-11-22T10:00:01Z"),
        status_code: Some(500),
        error: None,
        duration_ms: 12,
        timing: None,
        response: Some("no".to_owned()),
    }
}

#[tokio::test]
async fn deliveries_keep_their_attempts() -> Outcome {
    let store = store()?;
    assert_eq!(store.delivery("dlv_1").await?, None);
    let early = store
        .delivery_attempt("dlv_1", &attempt(1), DeliveryStatus::Pending)
        .await?;
    assert_eq!(early, Recorded::Missing);
    assert!(
        store
            .delivery_create("dlv_1", &record("dlv_1", "whe_1", "01"))
            .await?
    );
    assert!(
        !store
            .delivery_create("dlv_1", &record("dlv_1", "whe_9", "01"))
            .await?
    );
    assert!(
        store
            .delivery_create("dlv_2", &record("dlv_2", "whe_2", "02"))
            .await?
    );
    // Made again later: neither its record nor its place changes.
    store
        .delivery_create("dlv_1", &record("dlv_1", "whe_1", "09"))
        .await?;
    for number in [1, 10, 2, 2] {
        let noted = store
            .delivery_attempt("dlv_1", &attempt(number), DeliveryStatus::Delivered)
            .await?;
        assert_eq!(noted, Recorded::Recorded);
    }
    let view = store.delivery("dlv_1").await?.unwrap();
    assert_eq!(view.record, record("dlv_1", "whe_1", "01"));
    assert_eq!(view.status, DeliveryStatus::Delivered);
    assert_eq!(
        view.attempts.iter().map(|a| a.number).collect::<Vec<_>>(),
        [1, 2, 10]
    );
    let all = store
        .deliveries(&tenant(), &DeliveryFilter::default(), 10, None)
        .await?;
    assert_eq!(
        all.rows
            .iter()
            .map(|d| d.record.id.as_str())
            .collect::<Vec<_>>(),
        ["dlv_2", "dlv_1"]
    );
    let pending = DeliveryFilter {
        status: Some(DeliveryStatus::Pending),
        endpoint: Some("whe_2".to_owned()),
        job: Some(JobId::from_random(8)),
        ..DeliveryFilter::default()
    };
    let some = store.deliveries(&tenant(), &pending, 10, None).await?;
    assert_eq!(some.rows.len(), 1);
    let first = store
        .deliveries(&tenant(), &DeliveryFilter::default(), 1, None)
        .await?;
    let rest = store
        .deliveries(
            &tenant(),
            &DeliveryFilter::default(),
            1,
            first.next_cursor.as_deref(),
        )
        .await?;
    assert_eq!(rest.rows[0].record.id, "dlv_1");
    Ok(())
}

#[tokio::test]
async fn a_copy_never_grows_older() -> Outcome {
    let store = store()?;
    assert_eq!(store.cached_system("key", "abc").await?, None);
    assert!(store.cache_system("key", "abc", 0, None).await?);
    let none = store.cached_system("key", "abc").await?.unwrap();
    assert_eq!((none.version, none.json), (0, None));
    assert!(store.cache_system("key", "abc", 2, Some("{}")).await?);
    assert!(store.cache_system("key", "abc", 2, Some("{}")).await?);
    assert!(!store.cache_system("key", "abc", 1, Some("[]")).await?);
    let copy = store.cached_system("key", "abc").await?.unwrap();
    assert_eq!((copy.version, copy.json.as_deref()), (2, Some("{}")));
    Ok(())
}
