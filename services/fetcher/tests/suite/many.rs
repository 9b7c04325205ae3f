//! As many watches as one process takes.

use std::time::Duration;

use photofinish_broker::{Outgoing, Route, Target, WorkQueue};
use photofinish_contract::messages::{PartSubmitted, WatchState};
use photofinish_kit::wait_for;
use photofinish_model::{AttemptRef, Nonce, Operation};

use crate::house::{ENDPOINT, House, SOON, now};
use crate::pulls::memory_peak;

const WATCHES: u16 = 2000;
/// Bytes that one watch may cost, all polling at once, in a build without optimisation.
const WATCH_BYTES_MAX: u64 = 96 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_watches_are_held_in_little_memory_and_handed_back() -> anyhow::Result<()> {
    // Room for them all, and for the one that the dispatcher makes.
    let mut house = House::with(&[("fetcher.watches_max", "2000")]).await?;
    house.start("photofinish-fetcher").await?;
    let job = house.submit(1, 600).await?;
    let _taken = house.take().await?;
    let pid = house.processes["photofinish-fetcher"].pid();
    let before = memory_peak(pid);
    for part in 1..=WATCHES {
        let message = PartSubmitted {
            attempt: AttemptRef {
                tenant: house.tenant.clone(),
                job: job.clone(),
                run: 1,
                part,
                attempt: 1,
                nonce: Nonce::from_random(u128::from(part)),
            },
            endpoint: ENDPOINT.to_owned(),
            // Its submit was never answered: it waits for a worker to call home.
            runpod_id: None,
            operation: Operation::Img2vid,
            items: vec![0],
            submitted_at: now(),
            budget_s: 600.0,
            fails_at_once: false,
            state: None,
            watch: WatchState::default(),
        };
        let outgoing = Outgoing::json(Target::Pipeline(Route::PartSubmitted), &message)?;
        house.broker.publisher().publish(outgoing).await?;
    }
    let held = wait_for(SOON, "all but one are held", || async {
        (house.broker.depth(WorkQueue::Watch).await.ok()? <= 1).then_some(())
    });
    held.await.map_err(|error| error.context(house.logs()))?;
    let growth = memory_peak(pid) - before;
    assert!(
        growth < u64::from(WATCHES) * WATCH_BYTES_MAX,
        "grew by {growth} bytes"
    );
    let fetcher = house.processes.remove("photofinish-fetcher").unwrap();
    let ended = fetcher.terminate(Duration::from_secs(35)).await?;
    assert!(ended.success(), "{ended:?}: {}", fetcher.log_tail());
    let back = wait_for(SOON, "every watch is back in the queue", || async {
        (house.broker.depth(WorkQueue::Watch).await.ok()? == u32::from(WATCHES) + 1).then_some(())
    });
    back.await
        .map_err(|error| error.context(fetcher.log_tail()))
}
