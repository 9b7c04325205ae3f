//! What waiting jobs cost: the memory of each service with few and with many jobs that wait for a slot.

use std::time::Duration;

use anyhow::Context as _;
use photofinish_demo::wiring::{RunPod, SERVICES, Setting};
use photofinish_kit::measure::{Figure, Goal};
use photofinish_kit::wait_until;

use crate::client::Client;
use crate::house::House;

const FEW: usize = 1000;
const MANY: usize = 100_000;
const SETTLED_DEADLINE: Duration = Duration::from_mins(20);

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let settings = vec![
        Setting::new("dispatcher", "runpod.workers_max", "1"),
        Setting::new("dispatcher", "runpod.backlog", "0"),
        Setting::new("ingest", "admission.jobs_in_flight_max", "1000000"),
    ];
    let runpod = RunPod::stand_in().flag("--workers-max", "0");
    let house = House::start("waiting", runpod, settings).await?;
    let client = Client::connect(&house).await?;
    client.submit(FEW).await?;
    wait_for_depth(&house, FEW).await?;
    let few = memory(&house)?;
    client.submit(MANY - FEW).await?;
    wait_for_depth(&house, MANY).await?;
    let many = memory(&house)?;
    house.end().await?;
    let growth = |n: usize| many[n] / few[n];
    let worst = (0..SERVICES.len()).map(growth).fold(0.0, f64::max);
    let each: Vec<String> = SERVICES
        .iter()
        .enumerate()
        .map(|(n, name)| format!("{name} {:.1} to {:.1} MiB", few[n], many[n]))
        .collect();
    Ok(vec![Figure {
        name: "inflight_100k_memory_growth",
        value: worst,
        unit: "x",
        goal: Goal::AtMost(1.2),
        against: format!(
            "resident memory of the worst service with {MANY} jobs waiting for a slot, against {FEW}: {}",
            each.join(", ")
        ),
    }])
}

/// Waits until all jobs but the one that has the slot lie in the lanes and no event is left to be told.
async fn wait_for_depth(house: &House, jobs: usize) -> anyhow::Result<()> {
    wait_until(SETTLED_DEADLINE, "every job waits in its lane", || async {
        let queues = house.rabbit.queues().await.unwrap_or_default();
        let depth = |of: &dyn Fn(&str) -> bool| -> u64 {
            queues
                .iter()
                .filter(|queue| queue["name"].as_str().is_some_and(of))
                .filter_map(|queue| queue["messages"].as_u64())
                .sum()
        };
        let waiting = depth(&|name| name.starts_with("dispatcher.submit."));
        let under_way = depth(&|name| name == "notifier.events" || name == "ingest.submissions");
        waiting as usize + 1 >= jobs && under_way == 0
    })
    .await
}

/// MiB of each service, in the order of [`SERVICES`].
fn memory(house: &House) -> anyhow::Result<Vec<f64>> {
    SERVICES
        .iter()
        .map(|name| {
            let pid = house.stack.service(name)?.pid();
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib: f64 = line
                .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
                .context("no VmRSS")?;
            Ok(kib / 1024.0)
        })
        .collect()
}
