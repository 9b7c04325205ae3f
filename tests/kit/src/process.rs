//! Programs as processes of their own: started with a log file, waited for by their ports file, never left over.
//!
//! Guarantee: a process ends when its handle is dropped (its whole process group is killed) and when this process
//! dies in whatever way (the kernel's parent-death signal, set by `setpriv`). [`ProcessSpec::detached`] lifts both.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait_for;

/// The directory of the workspace's built programs: where this program's own directory is.
pub fn bin_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("find the directory of the programs")?;
    let dir = own.parent().context("a program lies in a directory")?;
    // Tests and benchmarks lie in `deps`, examples in `examples`.
    let dir = if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.to_path_buf())
}

/// A built program of the workspace by name.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = bin_dir()?.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins` (`make test` does)",
        path.display()
    );
    Ok(path)
}

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct ProcessSpec {
    /// For messages and the names of the log and ports file.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments; `--ports-file` is added when `wants_ports` is set.
    pub args: Vec<String>,
    /// Variables, on top of a nearly empty environment (PATH, HOME, TMPDIR, LANG).
    pub env: BTreeMap<String, String>,
    /// Where `{name}.log` and `{name}.ports.json` are written.
    pub dir: PathBuf,
    /// Whether the program writes a ports file.
    pub wants_ports: bool,
    /// Whether it goes on after this process and the handle (no kill on drop).
    pub detached: bool,
}

impl ProcessSpec {
    /// A service of the workspace that writes a ports file.
    pub fn service(name: &str, dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            program: binary(name)?,
            dir: dir.to_path_buf(),
            wants_ports: true,
            ..Self::default()
        })
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Lets it go on after this process and the handle.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }
}

/// A started program.
#[derive(Debug)]
pub struct Process {
    spec: ProcessSpec,
    running: Guarded,
}

impl Process {
    /// Starts a program; its output is appended to `{dir}/{name}.log`.
    pub fn start(spec: ProcessSpec) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&spec.dir)?;
        let ports = spec.dir.join(format!("{}.ports.json", spec.name));
        // A file of an earlier start must not be taken for this one's.
        let _none = std::fs::remove_file(&ports);
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_path(&spec))?;
        let mut command = if spec.detached {
            Command::new(&spec.program)
        } else {
            guarded(&spec.program)
        };
        command.args(&spec.args);
        if spec.wants_ports {
            command.arg("--ports-file").arg(&ports);
        }
        command.env_clear();
        for name in ["PATH", "HOME", "TMPDIR", "LANG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .envs(&spec.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let kill_on_drop = !spec.detached;
        let running =
            spawn(command, kill_on_drop).with_context(|| format!("start {}", spec.name))?;
        Ok(Self { spec, running })
    }

    /// Starts a program and waits for its ports file.
    pub async fn start_ready(
        spec: ProcessSpec,
        within: Duration,
    ) -> anyhow::Result<(Self, BTreeMap<String, SocketAddr>)> {
        let mut process = Self::start(spec)?;
        let ports = process.ports(within).await?;
        Ok((process, ports))
    }

    /// Waits for the ports file: name to address. An error with the end of the log if the process ends before.
    pub async fn ports(
        &mut self,
        within: Duration,
    ) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let file = self.spec.dir.join(format!("{}.ports.json", self.spec.name));
        let what = format!("{} writes its ports file", self.spec.name);
        let running = &self.running;
        let text = wait_for(within, &what, || async {
            match std::fs::read_to_string(&file) {
                Ok(text) => Some(Some(text)),
                Err(_) if running.ended().is_some() => Some(None),
                Err(_) => None,
            }
        })
        .await;
        match text {
            Ok(Some(text)) => serde_json::from_str(&text).context("read a ports file"),
            Ok(None) => anyhow::bail!("{} ended early:\n{}", self.spec.name, self.log_tail()),
            Err(error) => Err(error.context(self.log_tail())),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid
    }

    /// What it was started with, for starting it again.
    pub fn spec(&self) -> &ProcessSpec {
        &self.spec
    }

    /// Its exit status, if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.running.ended()
    }

    /// SIGTERM, then waits for the end.
    pub async fn terminate(&self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.running.signal(Signal::TERM);
        let what = format!("{} ends after SIGTERM", self.spec.name);
        wait_for(within, &what, || async { self.ended() }).await
    }

    /// kill -9 of this process alone (not of its children), and waits until it is gone.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.running.signal(Signal::KILL);
        let what = format!("{} ends after SIGKILL", self.spec.name);
        wait_for(Duration::from_secs(5), &what, || async { self.ended() })
            .await
            .map(drop)
    }

    /// Stops it (SIGSTOP) without ending it.
    pub fn freeze(&self) {
        self.running.signal(Signal::STOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.running.signal(Signal::CONT);
    }

    /// Where its output goes.
    pub fn log_path(&self) -> PathBuf {
        log_path(&self.spec)
    }

    /// The last 40 lines of its output.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn log_path(spec: &ProcessSpec) -> PathBuf {
    spec.dir.join(format!("{}.log", spec.name))
}

/// A child in a process group of its own.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Mutex<Child>,
    pid: u32,
    kill_on_drop: bool,
}

impl Guarded {
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().ok()?.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        // A process that was waited for has no id of its own any more: never signal that number.
        if self.ended().is_none()
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            let _gone = kill_process(pid, signal);
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.kill_on_drop {
            return;
        }
        if let Some(group) = Pid::from_raw(self.pid.cast_signed()) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        if let Ok(mut child) = self.child.lock() {
            let _status = child.wait();
        }
    }
}

/// A command whose process dies with this one: the kernel's parent-death signal.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts a command in a process group of its own.
pub(crate) fn spawn(mut command: Command, kill_on_drop: bool) -> anyhow::Result<Guarded> {
    command.process_group(0);
    let child = spawn_on_lasting_thread(command)?;
    let pid = child.id();
    Ok(Guarded {
        child: Mutex::new(child),
        pid,
        kill_on_drop,
    })
}

type Request = (Command, SyncSender<std::io::Result<Child>>);

/// The parent-death signal follows the thread that spawned, not the process: so one thread that never ends does it.
fn spawn_on_lasting_thread(command: Command) -> anyhow::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = sync_channel::<Request>(16);
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _gone = answer.send(command.spawn());
            }
        });
        requests
    });
    let (answer, child) = sync_channel(1);
    spawner
        .send((command, answer))
        .context("reach the spawning thread")?;
    Ok(child.recv().context("hear from the spawning thread")??)
}
