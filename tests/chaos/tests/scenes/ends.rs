//! Ends from outside, in the middle of a run.

use std::time::Duration;

use photofinish_chaos::{Setup, Stage, laws};
use photofinish_demo::jobs::Submitted;
use photofinish_kit::wait_until;
use photofinish_model::{Code, JobStatus};
use photofinish_stand_in::diary::Word;
use serde_json::json;

const DEADLINE_S: u32 = 12;
const SOON: Duration = Duration::from_secs(20);

/// One job is cancelled and the deadline of another passes, both with outputs stored, items being made and items not
/// begun. At RunPod their runs are CANCELLED, no GPU works on, and what was not stored by then never is.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_and_a_deadline_in_mid_run_reach_the_workers() -> anyhow::Result<()> {
    let setup =
        Setup::stand_in("ends")
            .split("4", "2")
            .with("dispatcher", "runpod.per_worker", "2");
    let mut setup = setup;
    setup.runpod = setup
        .runpod
        .env("PHOTOFINISH__WORKER__JOBS_MAX", "2")
        .env("BATCH_SIZE", "4");
    let stage = Stage::set(setup).await?;
    let (emulator, wiring) = (stage.emulator()?, stage.stack.wiring()?);
    let queries = ["", "held", "held", "", "held", "held"];
    let cancelled = stage.submit(stage.ask("cancelled", &queries)).await?;
    let mut ask = stage.ask("overdue", &["", "held", "held"]);
    ask.request["deadline_s"] = json!(DEADLINE_S);
    let overdue = stage.submit(ask).await?;
    // What is stored and not yet told at the end of a run is swept.
    stage.settled_at_least(&cancelled, 2).await?;
    stage.settled_at_least(&overdue, 1).await?;
    for item in [1, 4] {
        stage.done(&cancelled, Word::Begun, item).await?;
    }
    stage.cancel(&cancelled).await?;

    let one = stage.follow(wiring, &cancelled).await?;
    let other = stage.follow(wiring, &overdue).await?;
    wait_until(SOON, "all three runs are CANCELLED at RunPod", || async {
        let statuses = emulator.statuses().await.unwrap_or_default();
        statuses.len() == 3 && statuses.iter().all(|status| status == "CANCELLED")
    })
    .await?;
    for job in [&cancelled, &overdue] {
        everything_stopped(&stage, job).await?;
    }
    // Were a worker still at it, it would make them now.
    stage.open()?;
    laws::over(&stage, wiring, &cancelled, &one, JobStatus::Cancelled).await?;
    laws::over(&stage, wiring, &overdue, &other, JobStatus::Failed).await?;
    let code = other.error.as_ref().map(|error| error.code);
    assert_eq!(code, Some(Code::DeadlineExceeded));
    let late = (other.finished_at.unwrap_or(other.created_at)).duration_since(other.deadline_at);
    assert!(
        late.as_secs_f64() >= 0.0 && late.as_secs_f64() < 5.0,
        "it ended {late:?} after its deadline"
    );
    laws::quiet(&stage).await?;
    for (job, stored) in [(&cancelled, 2), (&overdue, 1)] {
        laws::billed(&stage, job, |_| 1)?;
        assert_eq!(stage.stored(job)?.len(), stored, "{}", job.ask.name);
        for (item, query) in job.ask.request["images"]
            .as_array()
            .iter()
            .flat_map(|images| images.iter().enumerate())
        {
            let held = query["image_url"]
                .as_str()
                .is_some_and(|url| url.ends_with("held"));
            let made = stage.times(job, Word::Made, item)?;
            assert_eq!(made, usize::from(!held), "item {item} of {}", job.ask.name);
        }
    }
    stage.end().await
}

/// Every making of a job that was begun has ended.
async fn everything_stopped(stage: &Stage, job: &Submitted) -> anyhow::Result<()> {
    wait_until(SOON, "no worker works on it", || async {
        let lines = stage.diary(job).unwrap_or_default();
        let count = |word| lines.iter().filter(|line| line.word == word).count();
        count(Word::Begun) == count(Word::Made) + count(Word::Stopped)
    })
    .await
}
