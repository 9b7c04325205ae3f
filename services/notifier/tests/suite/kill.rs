//! Redis, the notifier and RabbitMQ, each killed in the middle of 2,000 deliveries: every one arrives, with the same
//! id on every attempt.

use crate::house::{ENDPOINT_SECRET, KEY, SOON, event, run_doc, seal, stored, verified};
use photofinish_broker::{Broker, Outgoing, Route, Target};
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_kit::{Process, ProcessSpec, RabbitNode, Receiver, RedisServer, S3, wait_until};
use photofinish_model::sequence::{Moment, event_id};
use photofinish_model::{JobSnapshot, JobStatus, Tenant};
use photofinish_objects::{Objects, WebhookEndpointRecord};
use photofinish_runtime::Context;
use photofinish_runtime::config::{Sources, load};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const JOBS: usize = 40;
const ENDPOINTS: usize = 50;
const DELIVERIES: usize = JOBS * ENDPOINTS;
/// What is left may wait for RabbitMQ to come back, and for a first retry.
const LONG: Duration = Duration::from_secs(90);

/// The notifier's settings, by path.
fn settings(amqp: &str, redis: &str, s3: &S3) -> Vec<(&'static str, String)> {
    let credentials = s3.credentials();
    vec![
        ("broker.url", amqp.to_owned()),
        ("broker.lanes", "1".to_owned()),
        ("redis.url", redis.to_owned()),
        ("redis.timeout_s", "1".to_owned()),
        ("s3.endpoint", s3.endpoint()),
        ("s3.bucket", s3.bucket().to_owned()),
        ("s3.access_key_id", credentials.access_key.clone()),
        ("s3.secret_access_key", credentials.secret_key.clone()),
        ("secrets.key", KEY.to_owned()),
        ("outbound.receivers.allow", "127.0.0.0/8".to_owned()),
    ]
}

fn spec(dir: &std::path::Path, settings: &[(&str, String)]) -> ProcessSpec {
    let spec = ProcessSpec::service("photofinish-notifier", dir).unwrap();
    let spec = spec.env("PHOTOFINISH__ADMIN__LISTEN", "127.0.0.1:0");
    settings.iter().fold(spec, |spec, (path, value)| {
        let name = path.to_uppercase().replace('.', "__");
        spec.env(&format!("PHOTOFINISH__{name}"), value.clone())
    })
}

/// A job that ended well, and its final event.
async fn ended(objects: &Objects, tenant: &Tenant) -> JobEvent {
    let run = run_doc(tenant, 1, None);
    objects.put_run(&run).await.unwrap();
    let job = run.initial_snapshot();
    let mut end = JobSnapshot {
        status: JobStatus::Completed,
        finished_at: Some(job.created_at),
        ..job.clone()
    };
    end.items[0].state = stored(tenant, &job.job, 0);
    objects.put_end(&end).await.unwrap();
    event(&job, EventType::JobCompleted, Moment::Final)
}

async fn reached(receiver: &Receiver, count: usize) {
    let what = format!("{count} webhooks");
    wait_until(LONG, &what, || async { receiver.count() >= count })
        .await
        .unwrap();
}

async fn make_endpoints(objects: &Objects, tenant: &Tenant, receiver: &Receiver) {
    for number in 0..ENDPOINTS {
        let (id, url) = (format!("whe_{number}"), receiver.url(&format!("/{number}")));
        let at = crate::house::at();
        let record =
            WebhookEndpointRecord::new(id.clone(), tenant.clone(), url, seal(ENDPOINT_SECRET), at);
        let id = WebhookEndpointRecord::record_id(tenant, &id);
        let kind = WebhookEndpointRecord::KIND;
        objects.system_put(kind, &id, None, &record).await.unwrap();
    }
}

/// Publishes the final events of so many jobs; gives their ids.
async fn publish_events(broker: &Broker, objects: &Objects, tenant: &Tenant) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for _ in 0..JOBS {
        let event = ended(objects, tenant).await;
        ids.insert(event_id(&event.job, 1, "job.completed", event.sequence));
        let outgoing = Outgoing::json(Target::Pipeline(Route::JobEvent), &event).unwrap();
        broker.publisher().publish(outgoing).await.unwrap();
    }
    ids
}

/// Waits until every endpoint has every event, each under its one id.
async fn all_arrive(receiver: &Receiver, ids: &BTreeSet<String>, log: impl Fn() -> String) {
    let told = || {
        let mut told = BTreeMap::<String, BTreeSet<String>>::new();
        for one in receiver.received() {
            let id = one.header("webhook-id").to_owned();
            told.entry(one.uri.path().to_owned())
                .or_default()
                .insert(id);
        }
        told
    };
    wait_until(LONG, "every delivery", || async {
        receiver.count() >= DELIVERIES
            && told().values().map(BTreeSet::len).sum::<usize>() >= DELIVERIES
    })
    .await
    .unwrap_or_else(|error| panic!("{error}: {} came\n{}", receiver.count(), log()));
    let told = told();
    assert_eq!(told.len(), ENDPOINTS);
    assert!(
        told.values().all(|told| told == ids),
        "no other id was ever used"
    );
    for one in receiver.received() {
        verified(&one, ENDPOINT_SECRET);
    }
    let doubled = receiver.count() - DELIVERIES;
    assert!(doubled <= 1000, "{doubled} came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_whatever_is_killed_amid_two_thousand() {
    photofinish_kit::install_crypto();
    let (node, mut redis, s3) = (
        RabbitNode::start().await.unwrap(),
        RedisServer::start().await.unwrap(),
        S3::start().await.unwrap(),
    );
    let (rabbit, receiver) = (
        node.vhost().await.unwrap(),
        Receiver::start().await.unwrap(),
    );
    let paths = settings(&rabbit.url(), &redis.url(), &s3);
    let overrides = paths
        .iter()
        .map(|(path, value)| ((*path).to_owned(), value.clone()));
    let sources = Sources {
        defaults: photofinish_notifier::config::defaults(),
        overrides: overrides.collect(),
        ..Sources::default()
    };
    let config: photofinish_notifier::config::Settings = load(&sources).unwrap();
    let objects = Objects::connect(&config.s3.settings().unwrap()).unwrap();
    let tester = Context::detached("tester");
    let broker = Broker::connect(&config.broker, "tester", &tester.tasks, &tester.health).unwrap();
    let tenant: Tenant = "acme".parse().unwrap();
    make_endpoints(&objects, &tenant, &receiver).await;
    let dir = tempfile::tempdir().unwrap();
    let start = || Process::start_ready(spec(dir.path(), &paths), SOON);
    let (mut notifier, _) = start().await.unwrap();

    let ids = publish_events(&broker, &objects, &tenant).await;
    reached(&receiver, DELIVERIES / 8).await;
    redis.kill();
    reached(&receiver, DELIVERIES / 4).await;
    redis.restart().await.unwrap();
    reached(&receiver, DELIVERIES / 2).await;
    notifier.kill().await.unwrap();
    (notifier, _) = start().await.unwrap();
    reached(&receiver, DELIVERIES * 3 / 4).await;
    assert!(receiver.count() < DELIVERIES, "killed in the middle");
    node.kill().await.unwrap();
    node.restart().await.unwrap();

    all_arrive(&receiver, &ids, || notifier.log_tail()).await;
    notifier.terminate(SOON).await.unwrap();
    tester.shutdown.cut();
}
