//! RunPod's own faults.

use std::time::Duration;

use photofinish_chaos::{Setup, Stage, laws};
use photofinish_kit::wait_until;
use photofinish_stand_in::diary::Word;
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);
/// RunPod's webhook comes so late.
const LATE_MS: u64 = 4000;

/// RunPod loses a job, does one twice at once, and tells late of one: nothing is lost and nothing doubled.
#[tokio::test(flavor = "multi_thread")]
async fn runpod_loses_a_job_does_one_twice_and_tells_late() -> anyhow::Result<()> {
    let setup = Setup::stand_in("runpod");
    let stage = Stage::set(setup).await?;
    let (emulator, wiring) = (stage.emulator()?, stage.stack.wiring()?);

    emulator.fault("queue", json!({"double": 1})).await?;
    let double = stage.submit(stage.ask("double", &["ms=300"; 3])).await?;
    wait_until(SOON, "two workers have the job", || async {
        let lines = stage.diary(&double).unwrap_or_default();
        let pids: std::collections::BTreeSet<_> = lines.iter().map(|line| line.pid).collect();
        pids.len() == 2
    })
    .await?;
    let ended = stage.follow(wiring, &double).await?;
    laws::completed(&stage, wiring, &double, &ended).await?;
    // Each of the two may have made everything, and what neither handed over is made once more.
    laws::billed(&stage, &double, |_| 3)?;

    emulator.fault("queue", json!({"lose": 1})).await?;
    let lost = stage.submit(stage.ask("lost", &[""; 3])).await?;
    let ended = stage.follow(wiring, &lost).await?;
    laws::completed(&stage, wiring, &lost, &ended).await?;
    laws::billed(&stage, &lost, |_| 1)?;
    assert_eq!(ended.usage.attempts, 2, "the one that was lost, and one");

    let slow = json!({"operation": "status", "count": 3, "delay_ms": 1500});
    emulator.fault("", slow).await?;
    let stale = json!({"operation": "status", "count": 3, "set": {"status": "IN_QUEUE"}, "remove": ["output", "workerId"]});
    emulator.fault("", stale).await?;
    emulator
        .fault("webhook", json!({"delay_ms": LATE_MS, "copies": 2}))
        .await?;
    let told = emulator.calls("webhook").await?;
    let late = stage.submit(stage.ask("late", &["ms=50"; 3])).await?;
    let ended = stage.follow(wiring, &late).await?;
    wait_until(SOON, "the late webhooks have come", || async {
        emulator
            .calls("webhook")
            .await
            .is_ok_and(|now| now >= told + 2)
    })
    .await?;
    laws::completed(&stage, wiring, &late, &ended).await?;
    laws::billed(&stage, &late, |_| 1)?;
    assert_eq!(stage.times(&late, Word::Made, 0)?, 1);

    laws::quiet(&stage).await?;
    stage.end().await
}
