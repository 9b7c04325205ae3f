//! Deliveries: attempts, rounds, copies, lists, and what is forgotten.

use super::*;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::{AnyEvent, JobEvent, Receiver};
use photofinish_jobstore::{
    AttemptLog, Begun, Counted, DeliveryFilter, DeliveryRecord, DeliveryView, Receipt, Recorded,
};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::webhook::Failing;

fn record(id: &str, endpoint: &str, second: &str) -> DeliveryRecord {
    DeliveryRecord {
        id: id.to_owned(),
        event_id: "evt_1".to_owned(),
        event: AnyEvent::Job(JobEvent {
            job: JobId::from_random(8),
            tenant: tenant(),
            run: 1,
            event: EventType::JobCompleted,
            sequence: 1,
            at: time("2026-11-22T10:00:00Z"),
            changed: Vec::new(),
        }),
        receiver: Receiver::Endpoint {
            id: endpoint.to_owned(),
        },
        created_at: time(&format!("2026-11-22T10:00:{second}Z")),
    }
}

/// A copy that is not there.
const COPY: (&str, &str) = ("tenants", "nobody");

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

async fn note(store: &JobStore, number: u16, status: DeliveryStatus) -> anyhow::Result<Recorded> {
    Ok(store
        .delivery_attempt("dlv_1", &attempt(number), status, None)
        .await?)
}

async fn ids(store: &JobStore, filter: DeliveryFilter) -> anyhow::Result<Vec<String>> {
    let page = store.deliveries(&tenant(), &filter, 200, None).await?;
    Ok(page.rows.into_iter().map(|row| row.record.id).collect())
}

#[tokio::test]
async fn deliveries_keep_their_newest_attempts() -> Outcome {
    let store = store()?;
    assert_eq!(store.delivery("dlv_1").await?, None);
    let early = note(&store, 1, DeliveryStatus::Pending).await?;
    assert_eq!(early, Recorded::Missing);
    let one = record("dlv_1", "whe_1", "01");
    assert!(store.delivery_create("dlv_1", &one).await?);
    let other = record("dlv_1", "whe_9", "01");
    assert!(!store.delivery_create("dlv_1", &other).await?);
    for number in [1, 10, 2, 2] {
        let noted = note(&store, number, DeliveryStatus::Delivered).await?;
        assert_eq!(noted, Recorded::Recorded);
    }
    let view = store.delivery("dlv_1").await?.unwrap();
    assert_eq!(
        (&view.record, view.status),
        (&one, DeliveryStatus::Delivered)
    );
    let numbers = |view: &DeliveryView| view.attempts.iter().map(|a| a.number).collect::<Vec<_>>();
    assert_eq!(numbers(&view), [1, 2, 10]);
    for number in 11..=80 {
        let _ = note(&store, number, DeliveryStatus::Pending).await?;
    }
    let view = store.delivery("dlv_1").await?.unwrap();
    assert_eq!(numbers(&view), (31..=80).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn deliveries_are_listed_by_every_filter() -> Outcome {
    let store = store()?;
    for (id, endpoint, second) in [
        ("dlv_1", "whe_1", "01"),
        ("dlv_2", "whe_2", "02"),
        ("dlv_3", "whe_1", "03"),
    ] {
        let record = record(id, endpoint, second);
        assert!(store.delivery_create(id, &record).await?);
    }
    // Made again later: its place does not change.
    let again = record("dlv_1", "whe_1", "09");
    assert!(!store.delivery_create("dlv_1", &again).await?);
    let _ = note(&store, 1, DeliveryStatus::Failed).await?;
    let all = DeliveryFilter::default;
    assert_eq!(ids(&store, all()).await?, ["dlv_3", "dlv_2", "dlv_1"]);
    let pending = DeliveryFilter {
        status: Some(DeliveryStatus::Pending),
        endpoint: Some("whe_1".to_owned()),
        job: Some(JobId::from_random(8)),
        event: Some(EventType::JobCompleted),
        ..all()
    };
    assert_eq!(ids(&store, pending).await?, ["dlv_3"]);
    let failed = DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..all()
    };
    assert_eq!(ids(&store, failed).await?, ["dlv_1"]);
    let between = DeliveryFilter {
        since: Some(time("2026-11-22T10:00:02Z")),
        until: Some(time("2026-11-22T10:00:03Z")),
        ..all()
    };
    assert_eq!(ids(&store, between).await?, ["dlv_2"]);
    let first = store.deliveries(&tenant(), &all(), 1, None).await?;
    let cursor = first.next_cursor.as_deref();
    let rest = store.deliveries(&tenant(), &all(), 1, cursor).await?;
    assert_eq!(rest.rows[0].record.id, "dlv_2");
    Ok(())
}

#[tokio::test]
async fn deliveries_are_counted_and_paged_without_their_attempts() -> Outcome {
    let store = store()?;
    for number in 0..250 {
        let id = format!("dlv_{number:03}");
        let mut made = record(&id, "whe_1", "00");
        made.created_at = Timestamp::from_millisecond(1_800_000_000_000 + number)?;
        let status = if number % 5 == 0 {
            DeliveryStatus::Failed
        } else {
            DeliveryStatus::Delivered
        };
        store
            .delivery_tried(&id, &made, status, &attempt(1))
            .await?;
    }
    let failed = DeliveryFilter {
        status: Some(DeliveryStatus::Failed),
        ..DeliveryFilter::default()
    };
    let counted = |found, all| Counted { found, all };
    let all = store.count_deliveries(&tenant(), &failed, 1000).await?;
    assert_eq!(all, counted(50, true));
    let some = store.count_deliveries(&tenant(), &failed, 200).await?;
    assert_eq!(some, counted(40, false), "no more were looked at");
    let page = store
        .deliveries_without_attempts(&tenant(), &failed, 30, None)
        .await?;
    assert_eq!((page.rows.len(), page.rows[0].attempts.len()), (30, 0));
    let whole = store.deliveries(&tenant(), &failed, 30, None).await?;
    assert_eq!(page.next_cursor, whole.next_cursor);
    assert_eq!(whole.rows[29].record, page.rows[29].record);
    assert_eq!(whole.rows[29].attempts, [attempt(1)]);
    Ok(())
}

#[tokio::test]
async fn a_first_try_is_noted_once_whoever_else_makes_the_delivery() -> Outcome {
    let store = store()?;
    let one = record("dlv_1", "whe_1", "01");
    assert!(store.delivery_create("dlv_1", &one).await?);
    let good = DeliveryStatus::Delivered;
    for _ in 0..2 {
        store
            .delivery_tried("dlv_1", &one, good, &attempt(1))
            .await?;
    }
    let view = store.delivery("dlv_1").await?.unwrap();
    assert_eq!(
        (view.status, view.attempts),
        (DeliveryStatus::Delivered, vec![attempt(1)])
    );
    Ok(())
}

/// A delivery as large as one is in life: what `redis.deliveries_max` of a tenant take in all.
#[tokio::test]
async fn a_delivery_takes_less_than_two_kilobytes() -> Outcome {
    let redis = Redis::fresh()?;
    let store = bounded(&redis, 1000, Duration::from_hours(1))?;
    let mut connection = redis::Client::open(redis.url.as_str())?.get_connection()?;
    let (job, endpoint) = (JobId::from_random(8), format!("whe_{:032x}", 1));
    for number in 0..100_u32 {
        let id = format!("dlv_{number:032x}");
        let mut made = record(&id, &endpoint, "01");
        made.event_id = format!("evt_{number:032x}");
        made.event = AnyEvent::Job(JobEvent {
            job: job.clone(),
            tenant: tenant(),
            run: 1,
            event: EventType::JobCompleted,
            sequence: 19_999_999,
            at: time("2026-11-22T10:00:00.123456Z"),
            changed: Vec::new(),
        });
        let good = DeliveryStatus::Delivered;
        store.delivery_tried(&id, &made, good, &attempt(1)).await?;
    }
    let mut bytes = 0;
    for key in keys(&redis)? {
        let mut asked = redis::cmd("MEMORY");
        bytes += asked
            .arg("USAGE")
            .arg(key)
            .arg("SAMPLES")
            .arg(0)
            .query::<u64>(&mut connection)?;
    }
    assert!(bytes / 100 < 2000, "{} bytes each", bytes / 100);
    Ok(())
}

#[tokio::test]
async fn of_copies_one_passes_and_a_replay_makes_older_ones_void() -> Outcome {
    let store = store()?;
    let begin = async |turn: u64, turn_id: &str, replay: Option<&str>| {
        let replay = replay.map(time);
        let receipt = Receipt {
            turn,
            turn_id,
            replay,
        };
        let begun = store.delivery_begin("dlv_1", receipt, COPY).await;
        begun.map(|(begun, _)| begun)
    };
    // Unknown, as after FLUSHALL: of its copies one passes all the same.
    assert_eq!(begin(0, "", None).await?, Begun::Pass(None));
    assert!(
        store
            .delivery_create("dlv_1", &record("dlv_1", "whe_1", "01"))
            .await?
    );
    for (turn, id, passes) in [
        (0, "", true),
        (1, "a", true),
        (1, "b", false),
        (0, "", false),
    ] {
        let begun = begin(turn, id, None).await?;
        assert_eq!(begun != Begun::Drop, passes, "{turn} {id}");
    }
    let _ = note(&store, 7, DeliveryStatus::Failed).await?;
    let replay = "2026-11-22T12:00:00Z";
    for (turn, id, at, passes) in [
        (0, "", Some(replay), true),
        (2, "c", None, false),
        (0, "", Some("2026-11-22T12:00:00.9Z"), false),
        (1, "d", Some(replay), true),
        (0, "", Some(replay), false),
        (0, "", Some("2026-11-22T12:00:01Z"), true),
    ] {
        let begun = begin(turn, id, at).await?;
        assert_eq!(begun != Begun::Drop, passes, "{turn} {id} {at:?}");
        if let Begun::Pass(view) = begun {
            let view = view.unwrap();
            assert_eq!(
                (view.status, view.before_round),
                (DeliveryStatus::Pending, 7)
            );
            assert_eq!(view.replayed_at, at.map(time));
        }
    }
    // What the first round still had in hand is noted, and ends nothing.
    let _ = note(&store, 8, DeliveryStatus::Delivered).await?;
    let view = store.delivery("dlv_1").await?.unwrap();
    assert_eq!(
        (view.status, view.attempts.len()),
        (DeliveryStatus::Pending, 2)
    );
    Ok(())
}

#[tokio::test]
async fn what_was_missed_is_listed_as_failed_with_the_reason() -> Outcome {
    let store = store()?;
    let missed = record("dlv_1", "whe_1", "01");
    assert!(store.delivery_missed("dlv_1", &missed, &attempt(1)).await?);
    assert!(!store.delivery_create("dlv_1", &missed).await?);
    let view = store.delivery("dlv_1").await?.unwrap();
    assert_eq!(view.status, DeliveryStatus::Failed);
    assert_eq!(view.attempts, [attempt(1)]);
    Ok(())
}

/// A store with other limits on its deliveries.
fn bounded(redis: &Redis, deliveries_max: u64, delivery_ttl: Duration) -> anyhow::Result<JobStore> {
    Ok(JobStore::connect(&Settings {
        url: SecretString::from(redis.url.as_str()),
        prefix: redis.prefix.clone(),
        deliveries_max,
        delivery_ttl,
        ..Settings::default()
    })?)
}

fn keys(redis: &Redis) -> anyhow::Result<Vec<String>> {
    let mut connection = redis::Client::open(redis.url.as_str())?.get_connection()?;
    let pattern = format!("{}*", redis.prefix);
    Ok(redis::cmd("KEYS").arg(pattern).query(&mut connection)?)
}

#[tokio::test]
async fn a_list_has_a_limit_and_the_oldest_go() -> Outcome {
    let store = bounded(&Redis::fresh()?, 10, Duration::from_hours(1))?;
    for number in 0..=210 {
        let id = format!("dlv_{number:03}");
        let mut made = record(&id, "whe_1", "00");
        made.created_at = Timestamp::from_millisecond(1_800_000_000_000 + number)?;
        assert!(store.delivery_create(&id, &made).await?);
    }
    let left = ids(&store, DeliveryFilter::default()).await?;
    assert_eq!((left.len(), left[0].as_str()), (11, "dlv_210"));
    assert_eq!(store.delivery("dlv_000").await?, None);
    assert!(store.delivery("dlv_200").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn after_its_time_nothing_of_a_delivery_is_left() -> Outcome {
    let redis = Redis::fresh()?;
    let store = bounded(&redis, 10, Duration::from_millis(300))?;
    let one = record("dlv_1", "whe_1", "01");
    assert!(store.delivery_create("dlv_1", &one).await?);
    let receipt = Receipt {
        turn: 0,
        turn_id: "",
        replay: None,
    };
    let (begun, _) = store.delivery_begin("dlv_1", receipt, COPY).await?;
    assert_ne!(begun, Begun::Drop);
    let _ = note(&store, 1, DeliveryStatus::Delivered).await?;
    photofinish_kit::wait_until(Duration::from_secs(10), "it is gone", || async {
        keys(&redis).unwrap().is_empty()
    })
    .await?;
    // The newer one throws the names of those out that are long gone.
    let old = record("dlv_old", "whe_1", "01");
    assert!(store.delivery_create("dlv_old", &old).await?);
    let mut new = record("dlv_new", "whe_1", "01");
    new.created_at = time("2026-11-23T10:00:00Z");
    assert!(store.delivery_create("dlv_new", &new).await?);
    assert_eq!(ids(&store, DeliveryFilter::default()).await?, ["dlv_new"]);
    Ok(())
}

#[tokio::test]
async fn a_streak_of_failed_calls_is_kept_and_ended() -> Outcome {
    let store = store()?;
    assert_eq!(store.endpoint_failing("whe_1").await?, None);
    let at = time("2026-11-22T10:00:00Z");
    let streak = Some(Failing {
        since: at,
        last: at,
    });
    store.keep_endpoint_failing("whe_1", streak).await?;
    assert_eq!(store.endpoint_failing("whe_1").await?, streak);
    store.keep_endpoint_failing("whe_1", None).await?;
    assert_eq!(store.endpoint_failing("whe_1").await?, None);
    Ok(())
}
