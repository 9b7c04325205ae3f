//! Every message twice.

use photofinish_chaos::{Doubler, Setup, Stage, laws};

/// A watch lasts several turns.
const TURN_S: &str = "1";
/// A copy of a part that was submitted finds its submit begun, and its watch waits so long for a worker to call home.
const UNKNOWN_S: &str = "8";

/// Every message between the services comes twice, first publishes, turns and retries alike, at once or late: each
/// output is stored once, no attempt is submitted twice, and everybody is told one end.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_comes_twice_and_nothing_happens_twice() -> anyhow::Result<()> {
    let setup = Setup::stand_in("doubled")
        .split("4", "2")
        .with("fetcher", "fetcher.turn_max_s", TURN_S)
        .with("fetcher", "fetcher.run_unknown_s", UNKNOWN_S);
    let stage = Stage::set(setup).await?;
    let doubler = Doubler::start(&stage.rabbit).await?;
    let (emulator, wiring) = (stage.emulator()?, stage.stack.wiring()?);
    let long = stage
        .submit(stage.ask("long", &["", "ms=700", "ms=700", "", "ms=700", "ms=700"]))
        .await?;
    // Its only part is made twice, since the first attempt at an item fails.
    let fails = stage.submit(stage.ask("fails", &["", "fail=1"])).await?;
    let (long_ended, fails_ended) = (
        stage.follow(wiring, &long).await?,
        stage.follow(wiring, &fails).await?,
    );
    laws::completed(&stage, wiring, &long, &long_ended).await?;
    laws::completed(&stage, wiring, &fails, &fails_ended).await?;
    laws::billed(&stage, &long, |_| 1)?;
    laws::billed(&stage, &fails, |item| if item == 1 { 2 } else { 1 })?;
    laws::quiet(&stage).await?;
    assert_eq!(
        (long_ended.usage.attempts, fails_ended.usage.attempts),
        (2, 2)
    );
    assert_eq!(
        emulator.calls("run").await?,
        4,
        "two parts, and two attempts"
    );
    let copied = doubler.copied();
    for key in [
        "job.accepted",
        "part.submitted",
        "part.finished",
        "job.event",
        "delivery.due",
        "fetcher.watch",
    ] {
        assert!(copied.contains_key(key), "no {key} was copied: {copied:?}");
    }
    assert!(
        copied
            .keys()
            .any(|key| key.starts_with("dispatcher.submit.")),
        "{copied:?}"
    );
    stage.end().await
}
