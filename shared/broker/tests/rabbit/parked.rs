//! Parked messages: looked at, sent back, dropped.

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use photofinish_broker::{
    Disposition, Family, Outgoing, ParkedIn, ParkedMessage, REJECTED_CODE, Target, WorkQueue,
};

use crate::rig::{Outside, Process, SOON, next, one};

async fn park(process: &Process, id: &str, origin: &str) -> anyhow::Result<()> {
    let message = Outgoing::new(Target::Dead(Family::Plan), format!("body of {id}"))
        .message_id(id)
        .header("x-parked-code", "internal_error")
        .header("x-parked-reason", "it could not be read")
        .header("x-parked-origin", origin)
        .header("x-first-exchange", "photofinish.pipeline")
        .header("x-first-routing-key", "job.command");
    Ok(process.broker.publisher().publish(message).await?)
}

async fn lying(process: &Process) -> anyhow::Result<Vec<ParkedMessage>> {
    Ok(process
        .broker
        .parked(ParkedIn::Dead(Family::Plan), 100)
        .await?)
}

#[tokio::test]
async fn parked_messages_are_looked_at_replayed_and_dropped_and_none_is_lost() -> anyhow::Result<()>
{
    let (_rabbit, process) = one().await?;
    for id in ["m1", "m2", "m3"] {
        park(&process, id, "dispatcher.plan").await?;
    }
    park(&process, "lost", "dispatcher.submit.high.9").await?;
    let seen = lying(&process).await?;
    let ids: Vec<_> = seen
        .iter()
        .filter_map(|one| one.message_id.as_deref())
        .collect();
    assert_eq!(ids, ["m1", "m2", "m3", "lost"]);
    assert_eq!(
        (seen[0].code.as_str(), seen[0].origin.as_str()),
        ("internal_error", "dispatcher.plan")
    );
    assert!(seen[0].at_s.is_some() && seen[0].id.starts_with("dispatcher.plan."));
    let again: Vec<String> = lying(&process)
        .await?
        .into_iter()
        .map(|one| one.id)
        .collect();
    let first: Vec<String> = seen.iter().map(|one| one.id.clone()).collect();
    assert_eq!(again, first, "a look leaves everything where it is");
    assert_eq!(
        process
            .broker
            .parked(ParkedIn::Dead(Family::Plan), 2)
            .await?
            .len(),
        2
    );

    assert_eq!(
        process.broker.parked_one(&seen[1].id).await?.as_ref(),
        Some(&seen[1])
    );

    assert!(process.broker.parked_replay(&seen[1].id).await?);
    assert!(
        !process.broker.parked_replay(&seen[1].id).await?,
        "it is there no more"
    );
    let back = process.broker.get(WorkQueue::Plan).await?.unwrap();
    let incoming = back.incoming();
    assert_eq!(
        (&incoming.body[..], incoming.attempt),
        (b"body of m2".as_slice(), 0)
    );
    assert_eq!(
        (
            incoming.routing_key.as_str(),
            incoming.message_id.as_deref()
        ),
        ("job.command", Some("m2"))
    );

    assert!(process.broker.parked_drop(&seen[0].id).await?);
    let missing = format!("dispatcher.plan.{}", "0".repeat(32));
    for unknown in [missing.as_str(), "nonsense", "photofinish.x.1", ""] {
        assert!(!process.broker.parked_drop(unknown).await?, "{unknown}");
        assert!(
            process.broker.parked_one(unknown).await?.is_none(),
            "{unknown}"
        );
    }
    // What cannot be published stays where it lies.
    assert!(process.broker.parked_replay(&seen[3].id).await.is_err());
    let left: Vec<_> = lying(&process)
        .await?
        .into_iter()
        .filter_map(|one| one.message_id)
        .collect();
    assert_eq!(left, ["m3", "lost"]);
    Ok(())
}

#[tokio::test]
async fn a_refused_submission_is_handled_anew_as_its_tenants() -> anyhow::Result<()> {
    let (_rabbit, process) = one().await?;
    let refused = Outgoing::new(Target::Rejected, "{}")
        .message_id("order-1")
        .header(REJECTED_CODE, "quota_exceeded")
        .header("x-photofinish-tenant", "acme")
        .header("x-first-routing-key", "job.submit");
    process.broker.publisher().publish(refused).await?;
    let seen = process.broker.parked(ParkedIn::Rejected, 100).await?;
    assert_eq!(
        (seen[0].code.as_str(), seen[0].submitter.as_deref()),
        ("quota_exceeded", Some("acme"))
    );
    let mut submissions = process.collect(WorkQueue::Submissions, 1);
    assert!(process.broker.parked_replay(&seen[0].id).await?);
    let incoming = crate::rig::next(&mut submissions)
        .await?
        .answer(photofinish_broker::Disposition::Ack);
    assert_eq!(incoming.submitter(), Some("acme"));
    assert_eq!(
        (
            incoming.routing_key.as_str(),
            incoming.message_id.as_deref()
        ),
        ("job.submit", Some("order-1"))
    );
    Ok(())
}

/// What RabbitMQ itself gives up still has the headers of whoever sent it.
#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_rabbitmq_gives_up_says_nothing_of_itself() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let outside = Outside::connect(&rabbit.url()).await?;
    let mut forged = FieldTable::default();
    for (name, value) in [
        ("x-photofinish-tenant", "somebody-else"),
        ("x-parked-origin", "dispatcher.plan"),
        ("x-first-routing-key", "job.cancel"),
    ] {
        forged.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default().with_headers(forged);
    outside
        .publish("photofinish.jobs", "job.submit", "{}", properties)
        .await?;
    for _ in 0..=photofinish_broker::topology::DELIVERY_LIMIT {
        let get = || async {
            let options = BasicGetOptions::default();
            let got = outside
                .channel
                .basic_get("ingest.submissions".into(), options);
            got.await.ok().flatten()
        };
        let message = photofinish_kit::wait_for(SOON, "it again", get).await?;
        let again = BasicRejectOptions { requeue: true };
        message.acker.reject(again).await?;
    }
    let mut parked = process.collect(WorkQueue::Parked, 1);
    let given_up = next(&mut parked).await?.answer(Disposition::Ack);
    let why = given_up.parked().expect("why");
    assert_eq!(
        (why.family, why.origin.as_str()),
        (Family::Submissions, "ingest.submissions")
    );
    assert_eq!(given_up.routing_key, "job.submit");
    assert_eq!(given_up.submitter(), None);
    assert_eq!(given_up.header("x-photofinish-tenant"), None);
    Ok(())
}
