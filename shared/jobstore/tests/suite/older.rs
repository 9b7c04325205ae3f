//! What older versions keep in Redis is still read: what a Redis held while they worked and when they were done, each
//! recorded from a real run (`scripts/upgrade-test.sh --record`), is put into a real Redis and asked for by the calls of
//! this version.

use crate::{Outcome, store_at};
use anyhow::Context as _;
use jiff::Timestamp;
use photofinish_jobstore::{
    DeliveryFilter, GrantAsk, JobStore, KeptOf, ListFilter, SlotFor, SlotKind, Turn,
};
use photofinish_kit::Redis;
use photofinish_model::part::Part;
use photofinish_model::{ItemIndex, ItemState, JobId, Operation, Tenant};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// A row of the record: the value of a key.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    String(String),
    Hash(BTreeMap<String, String>),
    Set(Vec<String>),
    Zset(BTreeMap<String, String>),
}

/// Everything that a Redis held, by the names without their prefix.
type Everything = BTreeMap<String, Kept>;

impl Kept {
    fn text(&self) -> anyhow::Result<&str> {
        match self {
            Self::String(text) => Ok(text),
            Self::Hash(_) | Self::Set(_) | Self::Zset(_) => anyhow::bail!("it is no string"),
        }
    }

    /// Fields or members.
    fn names(&self) -> Vec<&str> {
        match self {
            Self::String(_) => Vec::new(),
            Self::Hash(pairs) | Self::Zset(pairs) => pairs.keys().map(String::as_str).collect(),
            Self::Set(members) => members.iter().map(String::as_str).collect(),
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        match self {
            Self::Hash(fields) => fields.get(name).map(String::as_str),
            Self::String(_) | Self::Set(_) | Self::Zset(_) => None,
        }
    }
}

fn records() -> anyhow::Result<Vec<PathBuf>> {
    let root = photofinish_kit::root().join("tests/chaos/fixtures");
    let mut files = Vec::new();
    for version in std::fs::read_dir(&root).context("read the fixtures")? {
        let folder = version?.path().join("redis");
        // The first versions were recorded without.
        if folder.is_dir() {
            for file in std::fs::read_dir(folder)? {
                files.push(file?.path());
            }
        }
    }
    Ok(files)
}

fn put(url: &str, prefix: &str, everything: &Everything) -> Outcome {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let mut pipe = redis::pipe();
    for (name, kept) in everything {
        let key = format!("{prefix}{name}");
        match kept {
            Kept::String(text) => pipe.set(key, text).ignore(),
            Kept::Hash(fields) => {
                let fields: Vec<_> = fields.iter().collect();
                pipe.hset_multiple(key, &fields).ignore()
            }
            Kept::Set(members) => pipe.sadd(key, members).ignore(),
            Kept::Zset(members) => {
                let members: Vec<_> = members.iter().map(|(name, at)| (at, name)).collect();
                pipe.zadd_multiple(key, &members).ignore()
            }
        };
    }
    let () = pipe.query(&mut connection)?;
    Ok(())
}

async fn of_a_job(store: &JobStore, job: &JobId, what: &str, kept: &Kept) -> Outcome {
    let snapshot = store.job(job).await?.context("no job is read")?;
    let settled = |wanted: fn(&ItemState) -> bool| {
        let items = snapshot.items.iter();
        items.filter(|row| wanted(&row.state)).count()
    };
    match what {
        "head" => {
            let counts = store.header(job).await?.context("no head is read")?.counts;
            let (all, run) = (0..counts.total as ItemIndex, snapshot.run);
            let told = (snapshot.items.len(), snapshot.run.to_string());
            assert_eq!(told.0, counts.total as usize);
            assert_eq!(Some(told.1.as_str()), kept.field("run"));
            let items: Vec<ItemIndex> = all.collect();
            let _wanted = store.pending_items(job, run, &items).await?;
        }
        "items" => assert_eq!(
            settled(|state| *state != ItemState::Pending),
            kept.names().len()
        ),
        "stored" => assert_eq!(
            settled(|state| matches!(state, ItemState::Stored(_))),
            kept.names().len()
        ),
        "failed" => assert_eq!(
            settled(|state| matches!(state, ItemState::Failed(_))),
            kept.names().len()
        ),
        "usage" => assert!(snapshot.usage.attempts as usize >= kept.names().len()),
        "parts" => {
            for field in kept.names() {
                let (run, part) = field.split_once('.').context("no run, no part")?;
                let text = store.part(job, run.parse()?, part.parse()?).await?;
                let _part: Part = serde_json::from_str(&text.context("no part")?)?;
            }
        }
        "events" => assert_eq!(store.events_after(job, 0).await?.len(), kept.names().len()),
        "uploads" => assert_eq!(store.kept_uploads(job).await?.len(), kept.names().len()),
        // Of a moment.
        "pace" | "gone" => {}
        other => anyhow::bail!("nobody reads {other}"),
    }
    Ok(())
}

async fn of_a_tenant(store: &JobStore, tenant: &Tenant, what: &str, kept: &Kept) -> Outcome {
    let many = kept.names().len();
    match what {
        "jobs" => {
            let all = ListFilter::default();
            let page = store.list(tenant, &all, 100, None).await?;
            assert_eq!(page.rows.len(), many);
        }
        "deliveries" => {
            let all = DeliveryFilter::default();
            let page = store.deliveries(tenant, &all, 100, None).await?;
            assert_eq!(page.rows.len(), many);
        }
        "open" => assert_eq!(store.standing(tenant, "today").await?.0.jobs as usize, many),
        "ended:outputs" | "ended:jobs" => {
            let list = match what {
                "ended:jobs" => KeptOf::Jobs,
                _ => KeptOf::Outputs,
            };
            let ended = store.ended_before(tenant, list, Timestamp::MAX, 100);
            assert_eq!(ended.await?.len(), many);
        }
        "ended:walked" => assert!(store.ended_is_whole(tenant).await?),
        day if day.starts_with("day:") => {
            let (_, day) = day.split_once(':').unwrap_or_default();
            let Some(day) = day.strip_suffix(":counted") else {
                let used = store.standing(tenant, day).await?.0.gpu_seconds;
                assert!((used - kept.field("g").unwrap_or("0").parse::<f64>()?).abs() < 1e-9);
                return Ok(());
            };
            let before = store.standing(tenant, day).await?.0.gpu_seconds;
            for attempt in kept.names() {
                let after = store.add_to_day(tenant, day, attempt, (1.0, 1.0)).await?;
                assert!((after.gpu_seconds - before).abs() < 1e-9, "counted twice");
            }
        }
        // Of a moment.
        rate if rate.starts_with("rate:") => {}
        other => anyhow::bail!("nobody reads {other}"),
    }
    Ok(())
}

async fn of_an_endpoint(store: &JobStore, endpoint: &str, what: &str, kept: &Kept) -> Outcome {
    let slots = store.slots(endpoint).await?;
    let taken = |kind| slots.iter().filter(|slot| slot.kind == kind).count();
    match what {
        "slots" => assert_eq!(taken(SlotKind::Attempt), kept.names().len()),
        "grants" => assert_eq!(taken(SlotKind::Grant), kept.names().len()),
        "epoch" | "count" => {
            kept.text()?.parse::<u64>()?;
        }
        "waiting" | "marks" | "served" | "lanes" => {}
        other => anyhow::bail!("nobody reads {other}"),
    }
    Ok(())
}

/// Asks for what a key holds; gives its kind.
async fn reads(store: &JobStore, name: &str, kept: &Kept) -> anyhow::Result<String> {
    let (tag, what) = name
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'))
        .context("no tag")?;
    let what = what.trim_start_matches(':');
    let (kind, id) = tag.split_once(':').unwrap_or((tag, ""));
    let many = kept.names().len();
    match kind {
        job if job.starts_with("job_") => {
            of_a_job(store, &job.parse()?, what, kept).await?;
            return Ok(format!("job {what}"));
        }
        "tenant" => {
            of_a_tenant(store, &id.parse()?, what, kept).await?;
            let what = what.split_once(':').map_or(what, |(first, _)| first);
            return Ok(format!("tenant {what}"));
        }
        "endpoint" => {
            of_an_endpoint(store, id, what, kept).await?;
            return Ok(format!("endpoint {what}"));
        }
        delivery if delivery.starts_with("dlv_") => {
            let view = store.delivery(delivery).await?.context("no delivery")?;
            let tries = kept.names().into_iter().filter(|field| {
                let number = field.strip_prefix('a');
                number.is_some_and(|number| number.parse::<u16>().is_ok())
            });
            assert_eq!(view.attempts.len(), tries.count());
            return Ok("delivery".to_owned());
        }
        failing if failing.starts_with("whe_") => {
            let streak = store.endpoint_failing(failing).await?;
            anyhow::ensure!(streak.is_some(), "no streak");
            return Ok("failing".to_owned());
        }
        "turn" => {
            let (turn, turn_id) = kept.text()?.split_once(':').context("no turn")?;
            let turn: u64 = turn.parse()?;
            assert_eq!(store.register_turn(id, turn, "another").await?, Turn::Drop);
            assert_eq!(store.register_turn(id, turn, turn_id).await?, Turn::Pass);
        }
        "flight" => assert_eq!(store.jobs_in_flight().await? as usize, many),
        "deadlines" => assert!(store.deadlines_due(100).await?.len() <= many),
        "estimates" => {
            let estimates = store.estimates().await?;
            for operation in kept.names() {
                let operation: Operation = serde_json::from_value(operation.into())?;
                anyhow::ensure!(estimates.learned(operation).is_some(), "forgotten");
            }
        }
        "keys" => {
            let used = store.keys_used(&kept.names()).await?;
            assert!(used.iter().all(Option::is_some));
        }
        "endpoints" => assert_eq!(store.endpoints_noted().await?.len(), many),
        // Older than it may be believed; the bucket is asked.
        "sys" => {
            let (kind, id) = id.split_once(':').context("no kind")?;
            assert_eq!(store.cached_system(kind, id).await?, None);
        }
        // Of a moment.
        "sweep" => {}
        other => anyhow::bail!("nobody reads {other}"),
    }
    Ok(kind.to_owned())
}

/// The scripts of slots go on over what is there.
async fn grants(store: &JobStore, everything: &Everything) -> Outcome {
    let endpoints = everything.keys().filter_map(|name| {
        let id = name.strip_prefix("{endpoint:")?;
        id.strip_suffix("}:epoch")
    });
    for endpoint in endpoints {
        let ask = GrantAsk {
            capacity: 100,
            reported: 0,
            holder: "this version".to_owned(),
            ttl: Duration::from_mins(1),
            slot_for: SlotFor::Nobody,
            lane_max: 0,
            paused_lanes: BTreeSet::new(),
        };
        let _granted = store.grant(endpoint, &ask).await?;
        let held = store.slots(endpoint).await?;
        assert!(held.iter().any(|slot| slot.name == "this version"));
    }
    Ok(())
}

#[tokio::test]
async fn what_older_versions_keep_is_read() -> Outcome {
    let mut kinds = BTreeSet::new();
    for file in records()? {
        let redis = Redis::fresh()?;
        let everything: Everything = serde_json::from_slice(&std::fs::read(&file)?)?;
        put(&redis.url, &redis.prefix, &everything)?;
        let store = store_at(&redis.url, &redis.prefix);
        for (name, kept) in &everything {
            let kind = reads(&store, name, kept).await;
            kinds.insert(kind.with_context(|| format!("{name} of {}", file.display()))?);
        }
        grants(&store, &everything).await?;
    }
    for wanted in [
        "job head",
        "job items",
        "job stored",
        "job failed",
        "job usage",
        "job parts",
        "job events",
        "tenant jobs",
        "tenant deliveries",
        "tenant open",
        "tenant day",
        "endpoint slots",
        "endpoint epoch",
        "delivery",
        "turn",
        "flight",
        "deadlines",
        "estimates",
        "keys",
        "sys",
    ] {
        assert!(kinds.contains(wanted), "no {wanted} in {kinds:?}");
    }
    Ok(())
}
