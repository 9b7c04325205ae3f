//! From an event's publish to its arrival, at a steady rate that does not wait for answers.

use std::time::{Duration, Instant};

use photofinish_kit::measure::{Figure, Goal};
use tokio::task::JoinSet;

use crate::house::{House, Ready};

const RATE: u32 = 500;
const STEADY: Duration = Duration::from_secs(20);
const HUNG: Duration = Duration::from_secs(90);
/// Endpoints that never answer, of 20.
const HUNG_ENDPOINTS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn steady() -> anyhow::Result<Vec<Figure>> {
    let p99 = run(0, STEADY).await?;
    Ok(vec![Figure {
        name: "webhook_p99_ms_at_500",
        value: p99,
        unit: "ms",
        goal: Goal::AtMost(25.0),
        against: format!("{RATE} events/s for {} s", STEADY.as_secs()),
    }])
}

pub(crate) async fn hung() -> anyhow::Result<Vec<Figure>> {
    let (well, sick) = (run(0, HUNG).await?, run(HUNG_ENDPOINTS, HUNG).await?);
    Ok(vec![Figure {
        name: "webhook_p99_shift_with_10pct_hung",
        value: sick / well,
        unit: "x",
        goal: Goal::AtMost(1.1),
        against: format!(
            "p99 of healthy endpoints {sick:.1} ms with {HUNG_ENDPOINTS} of 20 that never answer, {well:.1} ms with none; \
             {RATE} events/s for {} s",
            HUNG.as_secs()
        ),
    }])
}

/// The 99th percentile in milliseconds of the endpoints that answer.
async fn run(hung: usize, during: Duration) -> anyhow::Result<f64> {
    let house = std::sync::Arc::new(House::start(hung).await?);
    let events = (f64::from(RATE) * during.as_secs_f64()) as usize;
    let warm = house.ready(RATE as usize).await?;
    house.tell_all(&warm).await?;
    let well = |events: usize| events - events * hung / 20;
    house.receiver.wait(well(warm.len()), PATIENCE).await?;
    let ready = house.ready(events).await?;
    let mut beats = tokio::time::interval(Duration::from_secs(1) / RATE);
    let (mut begun, mut telling) = (Vec::with_capacity(events), JoinSet::new());
    for one in ready {
        beats.tick().await;
        begun.push((one.id.clone(), Instant::now()));
        telling.spawn(tell(house.clone(), one));
    }
    while let Some(told) = telling.join_next().await {
        told??;
    }
    house
        .receiver
        .wait(well(warm.len() + events), PATIENCE)
        .await?;
    let seen = house.receiver.seen();
    let mut waits: Vec<Duration> = begun
        .iter()
        .filter_map(|(id, begun)| Some(seen.get(id)?.0.duration_since(*begun)))
        .collect();
    anyhow::ensure!(waits.len() == well(events), "{} came", waits.len());
    waits.sort();
    let p99 = waits.get(waits.len() * 99 / 100).copied();
    Ok(p99.unwrap_or_default().as_secs_f64() * 1000.0)
}

async fn tell(house: std::sync::Arc<House>, ready: Ready) -> anyhow::Result<()> {
    house.tell(&ready).await
}
