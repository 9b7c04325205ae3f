//! How runs end: by a person, by their deadline, before they began; and what is owed after a crash.

use photofinish_contract::messages::{Command, PlanMessage, RequestRef};
use photofinish_kit::wait_for;
use photofinish_model::{Code, JobStatus};
use photofinish_objects::RunDoc;

use crate::house::{House, SOON, in_seconds, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_runpod_and_ends_the_job() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(2, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    house.take().await?;
    house.command(&job, 1, Command::Cancel).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(end.status, JobStatus::Cancelled);
    house.sim_status("CANCELLED").await?;
    let manifest = house.objects.manifest(&house.tenant, &job).await?;
    assert_eq!(manifest.unwrap().status, JobStatus::Cancelled);
    let known = wait_for(SOON, "Redis knows it", || async {
        let known = house.jobstore.job(&job).await.ok()??;
        known.status.is_final().then_some(known)
    });
    assert_eq!(known.await?.status, JobStatus::Cancelled);
    // Too late: what has ended stays as it ended.
    house.command(&job, 1, Command::Deadline).await?;
    house.command(&job, 1, Command::Cancel).await?;
    let again = house.end(&job, 1).await?;
    assert_eq!(again, end);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_job_and_what_runs_for_it() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(2, 5).await?;
    house.sim_status("IN_QUEUE").await?;
    house.take().await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(end.status, JobStatus::Failed);
    assert_eq!(end.error.unwrap().code, Code::DeadlineExceeded);
    house.sim_status("CANCELLED").await?;
    Ok(())
}

/// A client that cancels at once overtakes its own job; nobody may wait for its end for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_comes_before_the_plan_ends_the_job_in_full() -> anyhow::Result<()> {
    let house = House::open().await?;
    let accepted = house.accepted(1, 600);
    let RequestRef::Inline(request) = &accepted.request else {
        panic!("a small request")
    };
    // Ingest has recorded it; the dispatcher has not seen it.
    let record = RunDoc {
        job: accepted.job.clone(),
        tenant: accepted.tenant.clone(),
        run: 1,
        plan: Vec::new(),
        forecast: photofinish_model::estimate::Forecast::default(),
        request: (**request).clone(),
        receivers: Vec::new(),
        accepted_at: now(),
        deadline_at: in_seconds(600),
        created_at: now(),
        body_sha256: accepted.body_sha256.clone(),
        carried: Vec::new(),
    };
    let _made = house.jobstore.create(&record.initial_snapshot()).await?;
    house.command(&accepted.job, 1, Command::Cancel).await?;
    house
        .publish(&PlanMessage::JobAccepted(accepted.clone()))
        .await?;
    let end = house.end(&accepted.job, 1).await?;
    assert_eq!(end.status, JobStatus::Cancelled);
    assert!(
        house
            .objects
            .manifest(&house.tenant, &accepted.job)
            .await?
            .is_some()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_whose_process_died_half_way_is_carried_on() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    house.command(&job, 1, Command::Cancel).await?;
    house.end(&job, 1).await?;
    // The plan of run 2 and its record are there, and its message was never acknowledged.
    let first = house.objects.run(&house.tenant, &job, 1).await?.unwrap();
    let second = RunDoc {
        run: 2,
        accepted_at: now(),
        deadline_at: in_seconds(600),
        ..first
    };
    house.objects.put_run(&second).await?;
    let _made = house.jobstore.create(&second.initial_snapshot()).await?;
    let accepted_at = now();
    house
        .command(&job, 1, Command::Retry { accepted_at })
        .await?;
    wait_for(SOON, "a second job of RunPod", || async {
        let jobs = house.sim_jobs().await.ok()?;
        (jobs.len() == 2).then_some(())
    })
    .await?;
    Ok(())
}
