//! As many webhooks as it takes, and the same with the notifier killed on the way.

use std::time::{Duration, Instant};

use photofinish_kit::measure::{Figure, Goal};

use crate::direct;
use crate::house::House;

const WARM: usize = 1000;
const EVENTS: usize = 10_000;
const KILLED_AMID: usize = 2000;
const DIRECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let house = House::start(0).await?;
    let warm = house.ready(WARM).await?;
    house.tell_all(&warm).await?;
    house.receiver.wait(WARM, PATIENCE).await?;
    let ready = house.ready(EVENTS).await?;
    let (begun, cpu) = (Instant::now(), house.cpu_s()?);
    house.tell_all(&ready).await?;
    house.receiver.wait(WARM + EVENTS, PATIENCE).await?;
    let rate = EVENTS as f64 / begun.elapsed().as_secs_f64();
    let cpu = (house.cpu_s()? - cpu) * 1000.0 / EVENTS as f64;
    let direct = direct::rate(house.receiver.addr, DIRECT).await?;
    let note = format!(
        "{EVENTS} events of 20 tenants with one endpoint each, body about 1 KiB, all on this machine; a generator \
         straight at the receiver: {direct:.0}/s"
    );
    let figure = |name, value, unit, goal| Figure {
        name,
        value,
        unit,
        goal,
        against: note.clone(),
    };
    Ok(vec![
        figure("webhooks_per_s", rate, "/s", Goal::AtLeast(2000.0)),
        figure(
            "webhooks_share_of_direct",
            rate / direct,
            "x",
            Goal::AtLeast(0.025),
        ),
        figure("webhook_cpu_s_per_1000", cpu, "s", Goal::AtMost(0.9)),
    ])
}

pub(crate) async fn killed() -> anyhow::Result<Vec<Figure>> {
    let mut house = House::start(0).await?;
    let ready = house.ready(KILLED_AMID).await?;
    house.tell_all(&ready).await?;
    house.receiver.wait(KILLED_AMID / 4, PATIENCE).await?;
    let before = house.receiver.count();
    let restarted = house.kill().await?;
    house.receiver.wait(KILLED_AMID, PATIENCE).await?;
    let seen = house.receiver.seen();
    let last = seen.values().map(|(at, _)| *at).max().unwrap_or(restarted);
    let doubled = seen.values().filter(|(_, times)| *times > 1).count();
    Ok(vec![Figure {
        name: "webhook_kill_late_s",
        value: last.saturating_duration_since(restarted).as_secs_f64(),
        unit: "s",
        goal: Goal::AtMost(10.0),
        against: format!(
            "from the start after kill -9 at {before} of {KILLED_AMID} to the last one; {doubled} came twice"
        ),
    }])
}
