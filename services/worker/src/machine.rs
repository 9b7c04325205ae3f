//! The machine as this container may use it: processors, memory, GPU.
//!
//! Guarantee: processors are counted by the container's quota, not by the host's number.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::media::ffmpeg::{Args, Running};

const ASK_GPU_LIMIT: Duration = Duration::from_secs(10);

/// Processors that this process may use: affinity and the cgroup's quota are counted in.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes that this container may use, if there is a limit, else those of the machine.
pub(crate) fn memory_bytes() -> Option<u64> {
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let limit = limits
        .iter()
        .find_map(|path| read(path)?.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    });
    match (limit, machine) {
        (Some(limit), Some(machine)) => Some(limit.min(machine)),
        (limit, machine) => limit.or(machine),
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Logs what the machine is.
pub(crate) async fn report() {
    let host = read("/proc/cpuinfo").map_or(0, |text| text.matches("processor\t").count());
    let gpu = gpu().await;
    tracing::info!(
        cpus = cpus(),
        cpus_of_host = host,
        memory_mib = memory_bytes().map(|bytes| bytes / (1024 * 1024)),
        gpu = gpu.as_deref().unwrap_or("none"),
        "machine"
    );
}

/// Name, driver and memory of the GPU, as its own tool says.
async fn gpu() -> Option<String> {
    let args = Args::words("--query-gpu=name,driver_version,memory.total --format=csv,noheader");
    let running = Running::start("nvidia-smi", Path::new("/"), &args, false).ok()?;
    let said = running
        .finish(4096, ASK_GPU_LIMIT, &CancellationToken::new())
        .await
        .ok()?;
    Some(String::from_utf8_lossy(&said).trim().to_owned())
}
