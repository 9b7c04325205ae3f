//! The notifier's memory while many deliveries wait for their retry.

use std::time::Duration;

use photofinish_kit::measure::{Figure, Goal};
use photofinish_kit::wait_until;

use crate::house::House;

const FEW: usize = 1000;
const MANY: usize = 100_000;
const DEADLINE: Duration = Duration::from_mins(15);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let house = House::start(0).await?;
    house.receiver.answer(500);
    fill(&house, FEW).await?;
    let few = house.memory()?;
    fill(&house, MANY).await?;
    let many = house.memory()?;
    Ok(vec![Figure {
        name: "webhook_waiting_memory_growth",
        value: many / few,
        unit: "x",
        goal: Goal::AtMost(1.2),
        against: format!(
            "resident memory with {MANY} deliveries waiting for a retry {many:.1} MiB, with {FEW} {few:.1} MiB"
        ),
    }])
}

/// Tells events until so many have been refused by the receiver, and nothing is under way but what waits.
async fn fill(house: &House, events: usize) -> anyhow::Result<()> {
    let missing = events.saturating_sub(house.receiver.count());
    let ready = house.ready(missing).await?;
    house.tell_all(&ready).await?;
    let what = format!("{events} deliveries wait");
    wait_until(DEADLINE, &what, || async {
        let queues = house.rabbit.queues().await.unwrap_or_default();
        let under_way: u64 = queues
            .iter()
            .filter(|queue| queue["name"].as_str() == Some("notifier.events"))
            .filter_map(|queue| queue["messages"].as_u64())
            .sum();
        house.receiver.count() >= events && under_way == 0
    })
    .await
}
