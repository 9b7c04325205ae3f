//! The machine as this container may use it: processors, memory, GPU, disks.
//!
//! Guarantee: processors and memory are those of the container's quota, not the host's; nothing
//! here writes to a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::media::ffmpeg::{Args, Bounds, Running};

const ASK_GPU_LIMIT: Duration = Duration::from_secs(10);
/// NVIDIA's number among the makers of PCI devices.
const NVIDIA: &str = "0x10de";

/// What the container's control groups allow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Quota {
    /// Processors, fractions too.
    pub(crate) cpus: Option<f64>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
}

impl Quota {
    /// The quota of this process under `root`, `/` but in tests; control groups of either version.
    pub(crate) fn read(root: &Path) -> Self {
        let own = text(&root.join("proc/self/cgroup")).unwrap_or_default();
        let mut quota = Self::default();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let has = |name: &str| controllers.split(',').any(|it| it == name);
            let base = root.join("sys/fs/cgroup");
            if controllers.is_empty() {
                for dir in upwards(&base, path) {
                    quota.narrow(cpus_v2(&dir), bytes(&dir.join("memory.max")));
                }
            }
            if has("cpu") {
                for dir in upwards(&base.join("cpu"), path) {
                    quota.narrow(cpus_v1(&dir), None);
                }
            }
            if has("memory") {
                for dir in upwards(&base.join("memory"), path) {
                    quota.narrow(None, bytes(&dir.join("memory.limit_in_bytes")));
                }
            }
        }
        quota
    }

    /// Each group on the way to the root may take something away.
    fn narrow(&mut self, cpus: Option<f64>, memory: Option<u64>) {
        self.cpus = [self.cpus, cpus].into_iter().flatten().reduce(f64::min);
        self.memory = [self.memory, memory].into_iter().flatten().min();
    }
}

/// `base` joined with `path` and all that lies above, down to `base` itself. Inside a container the
/// path may be the host's: what does not exist says nothing.
fn upwards(base: &Path, path: &str) -> Vec<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative
        .ancestors()
        .filter(|path| !path.components().any(|part| part.as_os_str() == ".."))
        .map(|path| base.join(path))
        .collect()
}

fn cpus_v2(dir: &Path) -> Option<f64> {
    let line = text(&dir.join("cpu.max"))?;
    let (quota, period) = line.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

fn cpus_v1(dir: &Path) -> Option<f64> {
    let number = |name| text(&dir.join(name))?.trim().parse::<f64>().ok();
    let quota: f64 = number("cpu.cfs_quota_us")?;
    (quota > 0.0).then_some(quota / number("cpu.cfs_period_us")?)
}

fn bytes(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Processors that this process may use: affinity and the cgroup's quota are counted in.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processors of the host.
pub(crate) fn cpus_of_host() -> usize {
    text(Path::new("/proc/cpuinfo")).map_or(0, |text| text.matches("processor\t").count())
}

/// Processors that this process is not kept away from, such as `0-3`.
pub(crate) fn affinity() -> Option<String> {
    proc_line("/proc/self/status", "Cpus_allowed_list:")
}

/// Bytes of the host's memory.
pub(crate) fn memory_of_host() -> Option<u64> {
    let line = proc_line("/proc/meminfo", "MemTotal:")?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Bytes that this container may use, if there is a limit, else those of the machine.
pub(crate) fn memory() -> Option<u64> {
    let quota = Quota::read(Path::new("/")).memory;
    [quota, memory_of_host()].into_iter().flatten().min()
}

fn proc_line(file: &str, name: &str) -> Option<String> {
    let text = text(Path::new(file))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// Bytes free for us on the disk of a directory, which may not exist yet.
pub(crate) fn disk_free(dir: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(existing(dir))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// The directory itself, or what of the way to it exists.
pub(crate) fn existing(dir: &Path) -> &Path {
    let there = dir.ancestors().find(|path| path.exists());
    there.unwrap_or(Path::new("."))
}

/// Name, driver and memory of each GPU, as its own tool says, if that is here.
pub(crate) async fn gpu() -> Option<String> {
    let args = Args::words("--query-gpu=name,driver_version,memory.total --format=csv,noheader");
    let (bounds, root) = (Bounds::of(ASK_GPU_LIMIT), Path::new("/"));
    let running = Running::start("nvidia-smi", root, &args, false, bounds).ok()?;
    let said = running.finish(4096, &CancellationToken::new()).await.ok()?;
    let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
    (!said.is_empty()).then_some(said)
}

/// Whether a GPU of NVIDIA's is in the machine, whatever its driver says.
pub(crate) fn gpu_in_machine() -> bool {
    let device = |dir: PathBuf| {
        let is = |name: &str, what: &str| {
            text(&dir.join(name)).is_some_and(|text| text.starts_with(what))
        };
        // Class 3: displays and what computes like one.
        is("vendor", NVIDIA) && is("class", "0x03")
    };
    let listed = fs::read_dir("/sys/bus/pci/devices");
    Path::new("/dev/nvidiactl").exists()
        || listed.is_ok_and(|mut list| list.any(|entry| entry.is_ok_and(|it| device(it.path()))))
}

/// Logs what the machine is.
pub(crate) async fn report() {
    let gpu = gpu().await;
    tracing::info!(
        cpus = cpus(),
        cpus_of_host = cpus_of_host(),
        memory_mib = memory().map(|bytes| bytes / (1024 * 1024)),
        gpu = gpu.as_deref().unwrap_or("none"),
        "machine"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_quota_is_the_least_on_the_way_to_the_root() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/pod/worker\n"),
            ("sys/fs/cgroup/pod/cpu.max", "250000 100000\n"),
            ("sys/fs/cgroup/pod/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/worker/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/worker/memory.max", "1073741824\n"),
        ]);
        let quota = Quota::read(root.path());
        assert_eq!((quota.cpus, quota.memory), (Some(2.5), Some(1_073_741_824)));
    }

    #[test]
    fn the_first_version_is_read_as_a_container_sees_it() {
        let root = tree(&[
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n1:name=systemd:/x\n",
            ),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
        ]);
        let quota = Quota::read(root.path());
        assert_eq!((quota.cpus, quota.memory), (Some(4.0), Some(536_870_912)));
    }

    #[test]
    fn without_limits_there_is_no_quota() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/\n4:cpu:/\n7::/../../etc\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(Quota::read(root.path()), Quota::default());
        assert_eq!(Quota::read(Path::new("/nowhere")), Quota::default());
    }

    #[test]
    fn a_directory_that_is_not_there_yet_lies_on_a_disk() {
        assert!(disk_free(Path::new("/tmp/not/there/yet")).unwrap() > 0);
        assert_eq!(
            existing(Path::new("/proc/nothing/here")),
            Path::new("/proc")
        );
    }
}
