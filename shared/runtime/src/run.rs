//! The life of a process: arguments, settings, telemetry, build, run until told, drain.
//!
//! Guarantee: exit code 0 only after a clean end. 78: the settings are wrong. 1: anything else.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _, Subcommand as _};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::aside::Aside;
use crate::config::{self, ConfigErrors, Loaded, ProcessSettings, Sources};
use crate::http::Limits;
use crate::telemetry::{LogLevel, Telemetry, install_crypto, metrics_handle};
use crate::{Clock, Health, Ports, Shutdown, Tasks, admin, http, tasks};

const EXIT_CONFIG: u8 = 78; // EX_CONFIG of sysexits.h
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);
/// What one who asks the admin port may take.
const ADMIN_LIMITS: Limits = Limits {
    connections_max: 100,
    connections_per_address_max: 100,
    head: Duration::from_secs(30),
    write: Duration::from_secs(30),
};

/// The arguments that every service has. Flatten them into a command line of one's own for [`run_with`].
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to write the real addresses of all sockets, as JSON
    #[arg(long, value_name = "FILE")]
    pub ports_file: Option<PathBuf>,
    /// Check the settings, say every error, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the settings in effect, secrets hidden, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// What a process is: its name, the embedded defaults of its settings `S`, and how they are checked.
#[derive(Debug, Clone)]
pub struct Service<S> {
    name: &'static str,
    defaults: String,
    aliases: Vec<(String, String)>,
    overrides: Vec<(String, String)>,
    check: fn(&S) -> Vec<String>,
}

impl<S> Service<S> {
    /// `defaults` is commented TOML that names every key of `S` (see [`crate::config`]).
    pub fn new(name: &'static str, defaults: &str) -> Self {
        Self {
            name,
            defaults: defaults.to_owned(),
            aliases: Vec::new(),
            overrides: Vec::new(),
            check: |_| Vec::new(),
        }
    }

    /// Adds the defaults of a section that a shared crate owns.
    #[must_use]
    pub fn with_defaults(mut self, defaults: &str) -> Self {
        self.defaults.push('\n');
        self.defaults.push_str(defaults);
        self
    }

    /// Variable names that users have already, each with the path it stands for: `("RUNPOD_API_KEY",
    /// "runpod.api_key")`.
    #[must_use]
    pub fn env_aliases(mut self, aliases: &[(&str, &str)]) -> Self {
        let owned = aliases
            .iter()
            .map(|(name, path)| ((*name).to_owned(), (*path).to_owned()));
        self.aliases.extend(owned);
        self
    }

    /// A value that wins over everything: for a process's own flags.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<String>) -> Self {
        self.overrides.push((path.to_owned(), value.into()));
        self
    }

    /// Rules over several fields: returns every error, one sentence each, with the path first.
    #[must_use]
    pub fn checked_by(mut self, check: fn(&S) -> Vec<String>) -> Self {
        self.check = check;
        self
    }

    /// The settings of this process's environment, not yet typed.
    pub(crate) fn loaded(self, file: Option<PathBuf>) -> Result<Loaded, ConfigErrors> {
        config::load_tree(&Sources {
            defaults: self.defaults,
            file,
            env: config::environment(),
            aliases: self.aliases,
            overrides: self.overrides,
        })
    }
}

/// What `build` wires a service with. Clones share one state.
#[derive(Debug, Clone)]
pub struct Context {
    /// The service's name.
    pub name: &'static str,
    /// Random, new in every process.
    pub instance: String,
    /// Spawns everything.
    pub tasks: Tasks,
    /// Tells of the end.
    pub shutdown: Shutdown,
    /// Collects readiness checks.
    pub health: Health,
    /// The time of day.
    pub clock: Clock,
    /// Binds sockets.
    pub ports: Ports,
}

impl Context {
    /// A context of its own for running a service inside a test: nothing listens to signals; end it with
    /// `context.tasks.drain(…)`.
    pub fn detached(name: &'static str) -> Self {
        Self::new(name, Ports::default())
    }

    fn new(name: &'static str, ports: Ports) -> Self {
        let shutdown = Shutdown::new();
        Self {
            name,
            instance: format!("{:016x}", rand::random::<u64>()),
            tasks: Tasks::new(shutdown.clone()),
            shutdown,
            health: Health::new(),
            clock: Clock::system(),
            ports,
        }
    }
}

/// Runs a service until it is told to end: parses the command line, loads the settings, calls `build`, which wires
/// everything and returns when it runs.
pub fn run<S, F, Fut>(service: Service<S>, build: F) -> ExitCode
where
    S: DeserializeOwned + Debug,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let binary = format!("photofinish-{}", service.name);
    let command = clap::Command::new(service.name)
        .bin_name(&binary)
        .display_name(&binary)
        .version(env!("CARGO_PKG_VERSION"))
        .args_conflicts_with_subcommands(true);
    let command = RunArgs::augment_args(Aside::augment_subcommands(command));
    let matches = command.subcommand_required(false).get_matches();
    if matches.subcommand().is_some() {
        return match Aside::from_arg_matches(&matches) {
            Ok(asked) => asked.run(service),
            Err(error) => error.exit(),
        };
    }
    match RunArgs::from_arg_matches(&matches) {
        Ok(args) => run_with(service, args, build),
        Err(error) => error.exit(),
    }
}

/// [`run`] for a process with a command line of its own.
pub fn run_with<S, F, Fut>(service: Service<S>, args: RunArgs, build: F) -> ExitCode
where
    S: DeserializeOwned + Debug,
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    install_crypto();
    let name = service.name;
    let (loaded, settings, process) = match load(service, &args) {
        Ok(parts) => parts,
        Err(errors) => {
            say(std::io::stderr(), &errors.to_string());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.print_config {
        say(std::io::stdout(), &loaded.shown());
        return ExitCode::SUCCESS;
    }
    if args.check_config {
        say(std::io::stdout(), "the settings are in order");
        return ExitCode::SUCCESS;
    }
    let ports_file = args
        .ports_file
        .or(process.runtime.ports_file.clone().map(PathBuf::from));
    let context = Context::new(name, Ports::new(ports_file));
    match live(settings, &process, context, build) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(std::io::stderr(), &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn load<S: DeserializeOwned>(
    service: Service<S>,
    args: &RunArgs,
) -> Result<(Loaded, S, ProcessSettings), ConfigErrors> {
    let check = service.check;
    let loaded = service.loaded(args.config.clone())?;
    let process = loaded.process()?;
    let settings = loaded.service()?;
    let mut errors = check(&settings);
    errors.extend(process.admin.tls.load("admin.tls").err());
    if errors.is_empty() {
        Ok((loaded, settings, process))
    } else {
        Err(ConfigErrors(errors))
    }
}

/// From telemetry to its flush. `true` is a clean end.
fn live<S, F, Fut>(
    settings: S,
    process: &ProcessSettings,
    context: Context,
    build: F,
) -> anyhow::Result<bool>
where
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let telemetry = Telemetry::install(context.name, &context.instance, process)?;
    log_panics();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if process.runtime.threads > 0 {
        builder.worker_threads(process.runtime.threads);
    }
    let runtime = builder.enable_all().build()?;
    let level = telemetry.level();
    let clean = runtime.block_on(serve(settings, process, context, level, build));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = telemetry.flush() {
        tracing::warn!(%error, "flush traces");
    }
    Ok(clean)
}

async fn serve<S, F, Fut>(
    settings: S,
    process: &ProcessSettings,
    context: Context,
    level: LogLevel,
    build: F,
) -> bool
where
    F: FnOnce(S, Context) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let started = context.health.register("started");
    let mut signals = match prepare(process, &context, level).await {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "start");
            return false;
        }
    };
    let built = tokio::select! {
        built = build(settings, context.clone()) => built.and_then(|()| Ok(context.ports.write()?)),
        () = signals.next() => Ok(()),
    };
    let mut healthy = match built {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "start");
            false
        }
    };
    if healthy {
        started.ok();
        tracing::info!(
            service = context.name,
            instance = context.instance,
            "running"
        );
        healthy = wait_for_the_end(&context, &mut signals).await;
    }
    started.failing("stopping");
    tokio::select! {
        clean = drain(process, &context) => healthy && clean,
        () = signals.next() => {
            tracing::error!(left = context.tasks.count(), "second signal: ended at once");
            false
        }
    }
}

/// Signals and the admin server.
async fn prepare(
    process: &ProcessSettings,
    context: &Context,
    level: LogLevel,
) -> anyhow::Result<Signals> {
    let signals = Signals::new()?;
    let metrics = metrics_handle();
    let tls = process.admin.tls.load("admin.tls");
    let tls = tls.map_err(anyhow::Error::msg)?;
    let listener = context.ports.listen("admin", &process.admin.listen).await?;
    let router = admin::router(context.health.clone(), metrics.clone(), level);
    // Its tasks hang on a tracker that nobody drains: they must outlive the drain, and end with the runtime.
    let lasting = Tasks::new(Shutdown::new());
    if let Some(tls) = &tls {
        tls.watch(&lasting);
    }
    http::serve(&lasting, "admin", listener, router, ADMIN_LIMITS, tls);
    untracked(async move {
        let mut period = tokio::time::interval(UPKEEP_PERIOD);
        loop {
            period.tick().await;
            metrics.run_upkeep();
        }
    });
    metrics::gauge!("photofinish_build_info", "service" => context.name,
        "version" => env!("CARGO_PKG_VERSION"))
    .set(1.0);
    Ok(signals)
}

#[expect(
    clippy::disallowed_methods,
    reason = "it must outlive the drain, and ends with the runtime"
)]
fn untracked(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Whether the end was wanted.
async fn wait_for_the_end(context: &Context, signals: &mut Signals) -> bool {
    tokio::select! {
        () = signals.next() => true,
        () = context.shutdown.wait() => true,
        name = context.tasks.critical_ended() => {
            tracing::error!(task = name, "a critical task ended: the process ends");
            false
        }
    }
}

async fn drain(process: &ProcessSettings, context: &Context) -> bool {
    tracing::info!(tasks = context.tasks.count(), "stopping");
    let left = context.tasks.drain(process.runtime.drain_timeout).await;
    if left == 0 {
        tracing::info!("clean shutdown");
    } else {
        tracing::error!(left, "shutdown deadline passed, {left} tasks left");
    }
    left == 0
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        let name = tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "signal");
    }
}

fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = tasks::panic_message(info.payload());
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic = message, place, "panic");
    }));
}

/// Writes for people; a closed pipe is theirs to know.
pub(crate) fn say(mut to: impl std::io::Write, text: &str) {
    let _closed = writeln!(to, "{text}");
}
