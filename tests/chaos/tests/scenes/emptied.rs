//! Redis emptied.

use photofinish_chaos::{Setup, Stage, laws};
use photofinish_demo::jobs;
use photofinish_stand_in::diary::Word;

const JOBS: usize = 20;
const NAMES: [&str; JOBS] = [
    "j00", "j01", "j02", "j03", "j04", "j05", "j06", "j07", "j08", "j09", "j10", "j11", "j12",
    "j13", "j14", "j15", "j16", "j17", "j18", "j19",
];

/// FLUSHALL in the middle of twenty jobs, of which some are done, some run and some wait: all of them end well, their
/// records come back, and nothing is made more often than once.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_emptied_in_the_middle_of_twenty_jobs() -> anyhow::Result<()> {
    let mut setup = Setup::stand_in("emptied").with("dispatcher", "runpod.per_worker", "4");
    setup.runpod = setup
        .runpod
        .env("PHOTOFINISH__WORKER__JOBS_MAX", "4")
        .env("BATCH_SIZE", "8");
    let stage = Stage::set(setup).await?;
    let wiring = stage.stack.wiring()?;
    let mut submitted = Vec::new();
    for (nth, name) in NAMES.into_iter().enumerate() {
        // The first three are done by then.
        let last = if nth < 3 { "" } else { "held" };
        submitted.push(stage.submit(stage.ask(name, &["", "", last])).await?);
    }
    for done in &submitted[..3] {
        stage.follow(wiring, done).await?;
    }
    stage.stored_at_least(&submitted[3], 2).await?;
    stage.done(&submitted[3], Word::Begun, 2).await?;
    let runs = stage.emulator()?.calls("run").await?;
    assert!(runs < JOBS as u64, "none of them waits any more");
    stage.flush_redis()?;
    for job in &submitted {
        let told = jobs::get(stage.stack.http(), wiring, &job.id).await?;
        assert_eq!(told.id.as_str(), job.id, "its record came back");
    }
    stage.open()?;
    for job in &submitted {
        let ended = stage.follow(wiring, job).await?;
        laws::completed(&stage, wiring, job, &ended).await?;
        laws::billed(&stage, job, |_| 1)?;
    }
    laws::quiet(&stage).await?;
    stage.end().await
}
