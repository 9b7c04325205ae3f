//! What an older attempt's worker pushed when nobody expected it any more.

use photofinish_contract::announcement::AnnouncementKind;
use photofinish_kit::wait_for;
use photofinish_model::{ItemState, JobStatus, OutputSource};

use crate::house::{House, SOON, Taken};
use crate::pulls::{MIB, noise};
use crate::rendering_worker::{RenderingWorker, announcement};

/// Pushes an item and its report, as a worker does.
async fn push(
    worker: &RenderingWorker,
    taken: &Taken,
    content: axum::body::Bytes,
) -> anyhow::Result<()> {
    let output = worker.has(taken, 0, content.clone());
    let http = photofinish_kit::client()?;
    let put = http.put(&taken.input.rescue[0].put_url).body(content);
    assert!(put.send().await?.status().is_success());
    let mut report = announcement(taken, AnnouncementKind::Rescued, vec![output]);
    report.rescued = vec![0];
    let put = http.put(&taken.input.report_put_url).json(&report);
    assert!(put.send().await?.status().is_success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_attempt_pushed_late_is_taken() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let mut house = House::with(&[("runpod.proxy_url", &template)]).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    let first = house.take().await?;
    house.fail_job(&first.id).await?;
    let second = house.take().await?;
    assert_eq!(second.input.attempt.attempt, 2);
    // Given up, reported, replaced; and now it pushes.
    push(&worker, &first, noise(MIB, 4)).await?;
    house.fail_job(&second.id).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!((end.status, end.usage.attempts), (JobStatus::Completed, 2));
    let ItemState::Stored(stored) = &end.items[0].state else {
        panic!("{:?}", end.items)
    };
    assert_eq!(
        (stored.attempt, stored.source),
        (1, OutputSource::Rescued),
        "the older attempt's"
    );
    assert!(house.objects.output_exists(&stored.key).await?);
    let left = wait_for(SOON, "nothing is left under the rescue prefix", || async {
        let left = house
            .objects
            .list_rescued(&second.input.attempt)
            .await
            .ok()?;
        left.is_empty().then_some(())
    });
    left.await?;
    let outputs = house.objects.stored_outputs(&house.tenant, &job).await?;
    assert_eq!(outputs.len(), 1, "never doubled");
    Ok(())
}

/// One that is not what its report says is no output.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_attempt_pushed_is_verified() -> anyhow::Result<()> {
    let worker = RenderingWorker::start().await?;
    let template = RenderingWorker::template(worker.addr);
    let mut house = House::with(&[("runpod.proxy_url", &template)]).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    let first = house.take().await?;
    house.fail_job(&first.id).await?;
    let second = house.take().await?;
    push(&worker, &first, noise(1000, 4)).await?;
    let put = photofinish_kit::client()?.put(&first.input.rescue[0].put_url);
    let other = put.body(noise(1000, 6)).send().await?;
    assert!(other.status().is_success());
    house.fail_job(&second.id).await?;
    let third = house.take().await?;
    assert_eq!(third.input.attempt.attempt, 3, "it runs again");
    assert!(
        house
            .objects
            .stored_outputs(&house.tenant, &job)
            .await?
            .is_empty()
    );
    Ok(())
}
