//! The notifier's memory while many deliveries wait for their retry.

use std::time::Duration;

use photofinish_kit::measure::{Figure, Goal};
use photofinish_kit::wait_until;

use crate::house::House;

/// Delivered first: buffers and pools have their working size before anything is compared.
const WARM: usize = 20_000;
const FEW: usize = 1000;
const MANY: usize = 100_000;
const DEADLINE: Duration = Duration::from_mins(15);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let house = House::start(0).await?;
    let idle = house.memory()?;
    let warm = house.ready(WARM).await?;
    house.tell_all(&warm).await?;
    house.receiver.wait(WARM, PATIENCE).await?;
    house.receiver.answer(500);
    fill(&house, FEW, FEW).await?;
    let few = house.memory()?;
    fill(&house, MANY - FEW, MANY).await?;
    let many = house.memory()?;
    Ok(vec![Figure {
        name: "webhook_waiting_memory_growth",
        value: many / few,
        unit: "x",
        goal: Goal::AtMost(1.2),
        against: format!(
            "resident memory with {MANY} deliveries waiting for a retry {many:.1} MiB, with {FEW} {few:.1} MiB; {WARM} \
             were delivered before, and when nothing was {idle:.1} MiB"
        ),
    }])
}

/// Tells more events, until so many deliveries wait in the tiers: the receiver refuses them all.
async fn fill(house: &House, more: usize, all: usize) -> anyhow::Result<()> {
    let ready = house.ready(more).await?;
    house.tell_all(&ready).await?;
    let what = format!("{all} deliveries wait");
    wait_until(DEADLINE, &what, || async {
        let queues = house.rabbit.queues().await.unwrap_or_default();
        let in_queues = |which: &dyn Fn(&str) -> bool| -> u64 {
            let named = |queue: &&serde_json::Value| queue["name"].as_str().is_some_and(which);
            let chosen = queues.iter().filter(named);
            chosen.filter_map(|queue| queue["messages"].as_u64()).sum()
        };
        let wait = in_queues(&|name| name.starts_with("photofinish.retry."));
        let events = in_queues(&|name| name == "notifier.events");
        // Some are always on their way from one tier to the next.
        events == 0 && wait >= all as u64 * 95 / 100
    })
    .await
}
