//! How runs end: by a person, by their deadline, before they began; and what is owed after a crash.

use photofinish_contract::messages::{
    Command, JobAccepted, PartSubmitted, PlanMessage, RequestRef,
};
use photofinish_jobstore::Key;
use photofinish_kit::wait_for;
use photofinish_model::part::{Part, Phase};
use photofinish_model::{Code, JobStatus, OutputSource};
use photofinish_objects::{OutputMeta, RunDoc};

use crate::house::{House, SOON, in_seconds, now};
use crate::scripted::Report;

/// The first run of a job, without a plan.
fn first_run(accepted: &JobAccepted) -> anyhow::Result<RunDoc> {
    let RequestRef::Inline(request) = &accepted.request else {
        anyhow::bail!("a large request")
    };
    Ok(RunDoc {
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
    })
}

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
    // Ingest has recorded it; the dispatcher has not seen it.
    let record = first_run(&accepted)?.initial_snapshot();
    let _made = house.jobstore.create(&record).await?;
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

/// A run that goes on from outputs which are gone would promise them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_a_deletion_of_the_outputs_overtook_begins_nothing() -> anyhow::Result<()> {
    let house = House::open().await?;
    let job = house.submit(1, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    house.command(&job, 1, Command::Cancel).await?;
    house.end(&job, 1).await?;
    let (tenant, accepted_at) = (&house.tenant, now());
    wait_for(SOON, "the run is closed", || async {
        let open = house.objects.is_open(tenant, &job, 1).await.ok()?;
        (!open).then_some(())
    })
    .await?;
    house
        .objects
        .mark_outputs_deleted(tenant, &job, accepted_at)
        .await?;
    house
        .command(&job, 1, Command::Retry { accepted_at })
        .await?;
    // What comes after it is done: so was it.
    house.submit(1, 600).await?;
    wait_for(SOON, "the other job at RunPod", || async {
        let jobs = house.sim_jobs().await.ok()?;
        (jobs.len() == 2).then_some(())
    })
    .await?;
    assert!(house.objects.run(tenant, &job, 2).await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_what_other_parts_cost_but_not_for_long() -> anyhow::Result<()> {
    let settings = [
        ("plan.split_over", "1"),
        ("plan.parallel_max", "2"),
        ("runpod.workers_max", "20"),
    ];
    let house = House::with(&settings).await?;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let job = house.submit(2, 600).await?;
        let mut parts = [house.watch().await?, house.watch().await?];
        parts.sort_by_key(|watch| watch.attempt.part);
        jobs.push((job, parts));
    }
    let [(told, first), (silent, second), (late, third)] = &jobs[..] else {
        unreachable!()
    };
    // Of this one a part is lost, and what it had made is found before it runs again.
    house.report(&third[1], Report::lost("w1", &[])).await?;
    wait_for(SOON, "its part is to run again", || async {
        (house.jobstore.job(late).await.ok()??.usage.attempts == 1).then_some(())
    })
    .await?;
    for watch in first.iter().chain(second).chain(third) {
        house.store(watch, &watch.items).await?;
    }
    for watch in [&first[0], &second[0], &first[1]] {
        house.report(watch, Report::completed("w1")).await?;
    }
    wait_for(SOON, "nothing is left of its part", || async {
        let text = house.jobstore.part(late, 1, 1).await.ok()??;
        let part: Part = serde_json::from_str(&text).ok()?;
        (part.phase == Phase::Done).then_some(())
    })
    .await?;
    house.report(&third[0], Report::completed("w1")).await?;
    for (job, attempts) in [(told, 2), (silent, 1), (late, 2)] {
        let end = house.end(job, 1).await?;
        assert_eq!(end.status, JobStatus::Completed);
        assert_eq!(end.usage.attempts, attempts, "{:?}", end.usage);
    }
    // What did not tell in time does not run on.
    let id = second[1].runpod_id.as_ref().map(ToString::to_string);
    let cancelled = house.sim_status("CANCELLED").await?;
    assert_eq!(cancelled["id"].as_str(), id.as_deref());
    Ok(())
}

/// Redis was emptied, and one of the open runs is damaged.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_run_that_cannot_be_read_keeps_no_other_from_being_known() -> anyhow::Result<()> {
    let redis = photofinish_kit::Redis::fresh()?;
    let mut house = House::empty(&redis.url, &redis.prefix, &[]).await?;
    let (damaged, sound) = (house.accepted(1, 600), house.accepted(1, 600));
    house.objects.open(&"aaa".parse()?, &damaged.job, 1).await?;
    let head = Key::Head(&damaged.job).name(&redis.prefix);
    let fields = ["run", "1", "final", "0", "total", "1", "doc", "no JSON"];
    let written = std::process::Command::new("redis-cli")
        .args(["-u", &redis.url, "HSET", &head])
        .args(fields)
        .output()?;
    assert!(written.status.success(), "{written:?}");
    house.objects.put_run(&first_run(&sound)?).await?;
    house.start("photofinish-dispatcher").await?;
    wait_for(SOON, "the sound one is known", || async {
        house.jobstore.job(&sound.job).await.ok()?
    })
    .await?;
    Ok(())
}

/// Puts an output into the bucket that no record knows, and gives its key.
async fn leave_behind(house: &House, watch: &PartSubmitted) -> anyhow::Result<String> {
    let attempt = &watch.attempt;
    let meta = OutputMeta {
        tenant: attempt.tenant.clone(),
        job: attempt.job.clone(),
        run: attempt.run,
        index: 0,
        item: "left".to_owned(),
        attempt: attempt.attempt,
        sha256: "6b23c0d5f35d1b11f9b683f0b0a617355deb11277d91ae091d399c655b87940d".to_owned(),
        bytes: 1,
        duration_s: 1.0,
        source: OutputSource::PulledInProgress,
    };
    let mut upload = house.objects.begin_output(meta);
    upload.write(b"C".as_slice().into()).await?;
    upload.finish().await?;
    Ok(upload.key().to_owned())
}

/// The bucket is asked for leftovers unless there can be none: one attempt, which pushed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_looked_for_where_there_can_be_some() -> anyhow::Result<()> {
    let house = House::with(&[("runpod.workers_max", "20")]).await?;
    for (nothing_pushed, retried) in [(true, false), (false, false), (true, true)] {
        let job = house.submit(1, 600).await?;
        let mut watch = house.watch().await?;
        if retried {
            house.report(&watch, Report::lost("w1", &[])).await?;
            watch = house.watch().await?;
        }
        let key = leave_behind(&house, &watch).await?;
        house.store(&watch, &[0]).await?;
        let report = Report {
            nothing_pushed,
            ..Report::completed("w1")
        };
        house.report(&watch, report).await?;
        house.end(&job, 1).await?;
        wait_for(SOON, "the run is closed", || async {
            let open = house.objects.is_open(&house.tenant, &job, 1).await;
            (!open.ok()?).then_some(())
        })
        .await?;
        let looked = !house.objects.output_exists(&key).await?;
        assert_eq!(
            looked,
            !nothing_pushed || retried,
            "{nothing_pushed} {retried}"
        );
    }
    Ok(())
}
