//! Lists, copies, turns, deadlines.

use super::*;
use jiff::SignedDuration;
use photofinish_jobstore::{JobStoreError, ListFilter, Turn};
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
