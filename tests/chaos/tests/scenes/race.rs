//! Outputs against a worker's end.

use std::time::Duration;

use photofinish_chaos::{Setup, Signal, Stage, laws};
use photofinish_kit::wait_until;
use photofinish_stand_in::diary::Word;
use serde_json::json;

/// A worker waits so long for a fetcher that does not come.
const LINGER_S: &str = "2";
const SOON: Duration = Duration::from_secs(40);

/// A worker dies between the last frame and the first byte pulled: only what it had not handed over is made again.
/// Then the fetcher is dead for longer than the next worker lingers: everything is rescued and nothing made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_with_its_last_output_and_a_fetcher_outsleeps_the_linger()
-> anyhow::Result<()> {
    let mut setup = Setup::stand_in("race").with("dispatcher", "race.linger_s", LINGER_S);
    setup.runpod = setup.runpod.env("BATCH_SIZE", "8");
    let mut stage = Stage::set(setup).await?;
    dies_with_its_last_output(&stage).await?;
    stage.close()?;
    outsleeps_the_linger(&mut stage).await?;
    laws::quiet(&stage).await?;
    stage.end().await
}

async fn dies_with_its_last_output(stage: &Stage) -> anyhow::Result<()> {
    let job = stage
        .submit(stage.ask("dies", &["ms=1500", "ms=1500", "ms=1500", "held"]))
        .await?;
    stage.stored_at_least(&job, 3).await?;
    stage.done(&job, Word::Begun, 3).await?;
    let emulator = stage.emulator()?;
    // Not a byte of what is announced from here on is pulled.
    stage.signal("fetcher", Signal::STOP)?;
    emulator.fault("worker", json!({"at": "output"})).await?;
    stage.open()?;
    emulator.gone(|_| true).await?;
    assert_eq!(
        stage.times(&job, Word::Made, 3)?,
        1,
        "the last frame was there"
    );
    assert_eq!(stage.stored(&job)?.len(), 3, "and no byte of it was pulled");
    stage.signal("fetcher", Signal::CONT)?;
    let wiring = stage.stack.wiring()?;
    let ended = stage.follow(wiring, &job).await?;
    laws::completed(stage, wiring, &job, &ended).await?;
    // RunPod runs the lost job again by itself: its worker is told what is wanted before it has made anything else.
    laws::at_most(
        stage,
        &job,
        Word::Made,
        |item| if item == 3 { 3 } else { 1 },
    )?;
    assert!(stage.times(&job, Word::Made, 3)? >= 2);
    let usage = &ended.usage;
    assert_eq!((usage.attempts, usage.parts, usage.rescued), (2, 1, 0));
    Ok(())
}

async fn outsleeps_the_linger(stage: &mut Stage) -> anyhow::Result<()> {
    let queries = ["", "", "held", "held", "held&bytes=3000000"];
    let job = stage.submit(stage.ask("sleeps", &queries)).await?;
    // The worker knows its fetcher, so that it lingers; and Redis knows both outputs, or they would come again.
    stage.settled_at_least(&job, 2).await?;
    stage.done(&job, Word::Begun, 2).await?;
    stage.stack.kill_service("fetcher").await?;
    stage.open()?;
    let emulator = stage.emulator()?;
    wait_until(SOON, "the worker is done with it", || async {
        let statuses = emulator.statuses().await.unwrap_or_default();
        statuses.iter().filter(|s| *s == "COMPLETED").count() == 2
    })
    .await?;
    assert_eq!(
        stage.stored(&job)?.len(),
        2,
        "nobody fetched what came later"
    );
    stage.stack.restart_service("fetcher").await?;
    let wiring = stage.stack.wiring()?;
    let ended = stage.follow(wiring, &job).await?;
    laws::completed(stage, wiring, &job, &ended).await?;
    laws::billed(stage, &job, |_| 1)?;
    let usage = &ended.usage;
    assert_eq!((usage.attempts, usage.rescued), (1, 3));
    let linger: f64 = LINGER_S.parse()?;
    assert!(usage.linger_s >= linger, "it lingered {} s", usage.linger_s);
    Ok(())
}
