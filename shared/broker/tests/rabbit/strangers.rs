use std::collections::BTreeSet;

use photofinish_broker::{Disposition, Outgoing, Route, Target, WorkQueue};
use photofinish_kit::stranger::{Properties, Stranger, header, nested};
use tracing::Instrument as _;

use crate::rig::{next, one};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn named(message_id: &[u8]) -> Properties {
    Properties {
        message_id: Some(message_id.to_vec()),
        user_id: Some(b"guest".to_vec()),
        persistent: true,
        ..Properties::default()
    }
}

/// A connection that ended would bring every message again, counted as delivered before.
#[tokio::test(flavor = "multi_thread")]
async fn no_bytes_of_a_stranger_end_the_connection() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let mut submissions = process.collect(WorkQueue::Submissions, 10);
    let cases = [
        named(b"\xff\xfe"),
        named(&[0xff; 255]),
        named(&[&[b'a'; 254][..], b"\xff"].concat()),
        Properties {
            content_type: Some(vec![0xc3]),
            reply_to: Some(vec![0xe2, 0x82]),
            ..named(b"types")
        },
        Properties {
            headers: Some(header(b"\xff", b"\xff\xff")),
            ..named(b"header")
        },
        Properties {
            headers: Some(nested(b"deep", 5_000)),
            ..named(b"nested")
        },
        named(b"good"),
    ];
    let mut stranger = Stranger::connect(&rabbit.url()).await?;
    for properties in &cases {
        stranger
            .publish("photofinish.jobs", b"job.submit", properties, b"{}")
            .await?;
    }
    stranger.flush().await?;
    let mut ids = BTreeSet::new();
    for _ in &cases {
        let incoming = next(&mut submissions).await?.answer(Disposition::Ack);
        assert!(!incoming.redelivered, "{:?}", incoming.message_id);
        ids.extend(incoming.message_id);
    }
    let unreadable = "\u{fffd}".repeat(85);
    let cut = format!("{}\u{fffd}", "a".repeat(252));
    let wanted = [
        "\u{fffd}\u{fffd}",
        &unreadable,
        &cut,
        "types",
        "header",
        "nested",
        "good",
    ];
    assert_eq!(ids, wanted.into_iter().map(str::to_owned).collect());
    Ok(())
}

/// From a client's message to what a handler publishes, and on to what is taken one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_through_every_message() -> anyhow::Result<()> {
    let (rabbit, process) = one().await?;
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let rows = [
        header(b"traceparent", parent.as_bytes()),
        header(b"tracestate", b"vendor=abc"),
    ];
    let properties = Properties {
        headers: Some(rows.concat()),
        ..named(b"m")
    };
    let publisher = process.broker.publisher();
    process.broker.consume(WorkQueue::Submissions, 1, move |_| {
        let publisher = publisher.clone();
        async move {
            let outgoing = Outgoing::new(Target::Pipeline(Route::JobAccepted), "{}");
            match publisher.publish(outgoing).await {
                Ok(()) => Disposition::Ack,
                Err(_) => Disposition::RetryLater(std::time::Duration::from_secs(1)),
            }
        }
    });
    let mut stranger = Stranger::connect(&rabbit.url()).await?;
    stranger
        .publish("photofinish.jobs", b"job.submit", &properties, b"{}")
        .await?;
    stranger.flush().await?;

    let ask = || async { process.broker.get(WorkQueue::Plan).await.ok().flatten() };
    let held = photofinish_kit::wait_for(crate::rig::SOON, "the job", ask).await?;
    let told = held.incoming().traceparent.clone().unwrap_or_default();
    assert!(told.contains(TRACE), "{told}");
    assert!(
        !told.contains("b7ad6b7169203331"),
        "a span of its own: {told}"
    );
    assert_eq!(held.incoming().tracestate.as_deref(), Some("vendor=abc"));

    let outgoing = Outgoing::new(Target::Pipeline(Route::JobEvent), "{}");
    let publisher = process.broker.publisher();
    publisher.publish(outgoing).instrument(held.span()).await?;
    held.settle(Disposition::Ack).await;
    let mut events = process.collect(WorkQueue::Events, 1);
    let event = next(&mut events).await?.answer(Disposition::Ack);
    let told = event.traceparent.unwrap_or_default();
    assert!(told.contains(TRACE), "{told}");
    assert_eq!(event.tracestate.as_deref(), Some("vendor=abc"));
    Ok(())
}
