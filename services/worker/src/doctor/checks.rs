//! What the doctor looks at, one function each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use photofinish_render::kernel::Simd;
use photofinish_runpod::worker::{EnvError, WorkerEnv};
use photofinish_runtime::config::{Sources, environment, load};
use tokio_util::sync::CancellationToken;

use super::{Check, State};
use crate::config::{Config, DEFAULTS, ENV_ALIASES, Settings};
use crate::machine::{self, Quota};
use crate::media::encoder::{self, Choice, Encoder};
use crate::media::ffmpeg::{Args, Bounds, FfmpegError, Running};
use crate::operations::fonts;

const ASK_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// The oldest ffmpeg that this was tried with.
const FFMPEG_MIN: (u32, u32) = (5, 1);
/// What each kind of list must have: the option that prints it, and names.
const PARTS: [(&str, &str, &[&str]); 6] = [
    (
        "filters",
        "-filters",
        &[
            "ass",
            "bwdif",
            "crop",
            "extractplanes",
            "format",
            "fps",
            "scale",
            "setparams",
            "setpts",
            "setsar",
            "tonemap",
            "tpad",
            "trim",
            "zscale",
        ],
    ),
    ("encoders", "-encoders", &["libx264", "aac"]),
    (
        "decoders",
        "-decoders",
        &["h264", "hevc", "vp9", "libdav1d", "aac", "mp3", "opus"],
    ),
    ("muxers", "-muxers", &["mp4", "null"]),
    (
        "demuxers",
        "-demuxers",
        &["mov", "matroska", "rawvideo", "ivf", "mp3", "wav", "ass"],
    ),
    ("bitstream filters", "-bsfs", &["setts"]),
];
/// A letter of each script that captions are likely to need.
const SCRIPTS: [(&str, char); 12] = [
    ("Latin", 'é'),
    ("Greek", 'Ω'),
    ("Cyrillic", 'ж'),
    ("Arabic", 'ع'),
    ("Hebrew", 'ש'),
    ("Devanagari", 'ह'),
    ("Bengali", 'ক'),
    ("Thai", 'ก'),
    ("Chinese", '漢'),
    ("Japanese", 'あ'),
    ("Korean", '한'),
    ("emoji", '😀'),
];
/// Memory of the process without any item, and with each.
const MEMORY_BASE: u64 = 256 * MIB;
/// An encode of 1080p and a picture of 12 megapixels.
const MEMORY_PER_ITEM: u64 = 384 * MIB;
/// Less room than this is soon filled by a few outputs.
const DISK_MIN: u64 = 2 * 1024 * MIB;
const MIB: u64 = 1024 * 1024;

/// Looks at everything.
pub(super) async fn all(file: Option<PathBuf>) -> Vec<Check> {
    let (config, settings) = settings(file);
    let mut checks = vec![settings];
    let Some(config) = config else {
        return checks;
    };
    let studio = &config.studio;
    checks.push(ffmpeg(&studio.ffmpeg, &studio.ffprobe).await);
    let gpu = machine::gpu().await;
    checks.push(encoder(&studio.ffmpeg, studio.encoder).await);
    checks.push(graphics(gpu, machine::gpu_in_machine()));
    checks.push(faces().await);
    checks.push(processors(Quota::read(Path::new("/"))));
    checks.push(Check::ok(
        "renderer",
        format!("{} instructions", Simd::best().name()),
    ));
    checks.push(memory(machine::memory(), studio.batch as u64));
    checks.push(disk("work_dir", "WORK_DIR", &config.worker.work_dir));
    checks.push(disk("output_dir", "OUTPUT_DIR", &config.worker.output_dir));
    checks.push(runpod(&environment()));
    checks
}

fn settings(file: Option<PathBuf>) -> (Option<Config>, Check) {
    let sources = Sources {
        defaults: DEFAULTS.to_owned(),
        file,
        env: environment(),
        aliases: ENV_ALIASES
            .iter()
            .map(|&(a, b)| (a.to_owned(), b.to_owned()))
            .collect(),
        overrides: Vec::new(),
    };
    let loaded = load::<Settings>(&sources)
        .map_err(|errors| errors.0)
        .and_then(|settings| settings.config(machine::cpus()));
    match loaded {
        Ok(config) => {
            let found = format!("{} item(s) at once", config.studio.batch);
            (Some(config), Check::ok("settings", found))
        }
        Err(faults) => {
            let advice = "correct these; photofinish-worker --print-config shows all in effect";
            let check = Check::bad("settings", State::Wrong, faults.join("; "), advice);
            (None, check)
        }
    }
}

async fn ask(program: &str, words: &str) -> Result<String, FfmpegError> {
    let (args, root) = (Args::words(words), Path::new("/"));
    let running = Running::start(program, root, &args, false, Bounds::of(ASK_LIMIT))?;
    let stop = CancellationToken::new();
    let said = running.finish(ANSWER_BYTES_MAX, &stop).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

async fn ffmpeg(ffmpeg: &str, ffprobe: &str) -> Check {
    let wrong = |found: String, advice: &str| Check::bad("ffmpeg", State::Wrong, found, advice);
    let install = "install it (Debian: apt-get install ffmpeg), or name it in \
                   PHOTOFINISH__ENCODER__FFMPEG and PHOTOFINISH__ENCODER__FFPROBE";
    if let Err(error) = ask("true", "--").await {
        let found = format!("no program can be started in bounds: {}", chain(&error));
        let advice = "install util-linux 2.34 or newer: its setpriv and prlimit start every ffmpeg";
        return wrong(found, advice);
    }
    let mut versions = Vec::new();
    for program in [ffmpeg, ffprobe] {
        match ask(program, "-version").await {
            Ok(said) => versions.push(version(&said)),
            Err(error) => return wrong(chain(&error), install),
        }
    }
    let mut missing = Vec::new();
    for (kind, option, names) in PARTS {
        let said = match ask(ffmpeg, &format!("-hide_banner {option}")).await {
            Ok(said) => said,
            Err(error) => return wrong(chain(&error), install),
        };
        let lacks = names.iter().filter(|name| !lists(&said, name));
        let lacks: Vec<&str> = lacks.copied().collect();
        if !lacks.is_empty() {
            missing.push(format!("{kind} {}", lacks.join(", ")));
        }
    }
    let version = versions.swap_remove(0);
    if !missing.is_empty() {
        let advice =
            "install an ffmpeg that was built with libx264, libass, zimg and libdav1d; Debian's is";
        return wrong(format!("{version} lacks {}", missing.join("; ")), advice);
    }
    if numbers(&version).is_some_and(|numbers| numbers < FFMPEG_MIN) {
        let advice = "an ffmpeg of 5.1 or newer is what this was tried with";
        return Check::bad("ffmpeg", State::Warning, version, advice);
    }
    Check::ok("ffmpeg", format!("{version}, with libx264 and libass"))
}

/// `5.1.9-0+deb12u1` of `ffmpeg version 5.1.9-0+deb12u1 Copyright …`.
fn version(said: &str) -> String {
    said.split_whitespace()
        .nth(2)
        .unwrap_or("unknown")
        .to_owned()
}

/// Major and minor; builds from a repository have none.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether one of ffmpeg's lists has a name: the only word of a line, or the second.
fn lists(said: &str, name: &str) -> bool {
    said.lines().any(|line| {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        second.unwrap_or(first).split(',').any(|it| it == name)
    })
}

async fn encoder(program: &str, choice: Choice) -> Check {
    let gpu = match choice {
        Choice::Auto | Choice::Nvenc => encoder::trial(program, Encoder::Nvenc).await,
        Choice::X264 => Err(FfmpegError::Stopped),
    };
    let cpu = match choice {
        Choice::Auto | Choice::X264 => encoder::trial(program, Encoder::X264).await,
        Choice::Nvenc => Err(FfmpegError::Stopped),
    };
    judge_encoders(choice, gpu, cpu, machine::gpu_in_machine())
}

fn judge_encoders(
    choice: Choice,
    gpu: Result<(), FfmpegError>,
    cpu: Result<(), FfmpegError>,
    gpu_in_machine: bool,
) -> Check {
    let bad = |state, found: String, advice: &str| Check::bad("encoder", state, found, advice);
    let driver = "give the container the driver's libraries \
                  (NVIDIA_DRIVER_CAPABILITIES=video,compute) and check nvidia-smi in it";
    match (choice, gpu, cpu) {
        (Choice::Auto, Ok(()), Ok(())) => {
            Check::ok("encoder", "h264_nvenc; libx264 when that fails")
        }
        (Choice::Nvenc, Ok(()), _) => Check::ok("encoder", "h264_nvenc, as chosen"),
        (Choice::X264, _, Ok(())) => Check::ok("encoder", "libx264, as chosen"),
        (Choice::Auto, Err(error), Ok(())) if gpu_in_machine => {
            let found = format!("libx264, though a GPU is here: {}", chain(&error));
            bad(State::Warning, found, driver)
        }
        (Choice::Auto, Err(_), Ok(())) => {
            Check::ok("encoder", "libx264, on the CPU: no GPU is here")
        }
        (Choice::Nvenc, Err(error), _) => {
            let advice = format!("{driver}, or set PHOTOFINISH__ENCODER__CHOICE=auto");
            bad(
                State::Wrong,
                format!("h264_nvenc: {}", chain(&error)),
                &advice,
            )
        }
        (Choice::Auto | Choice::X264, _, Err(error)) => {
            let advice = "install an ffmpeg that was built with libx264; Debian's is";
            bad(State::Wrong, format!("libx264: {}", chain(&error)), advice)
        }
    }
}

fn graphics(gpu: Option<String>, in_machine: bool) -> Check {
    match (gpu, in_machine) {
        (Some(gpu), _) => Check::ok("GPU", gpu),
        (None, false) => Check::ok("GPU", "none"),
        (None, true) => Check::bad(
            "GPU",
            State::Warning,
            "a GPU is here, but nvidia-smi does not answer",
            "install NVIDIA's driver, or its container toolkit where this is a container",
        ),
    }
}

async fn faces() -> Check {
    let install = "scripts/fonts.sh of the source installs those of the image, or \
                   apt-get install fontconfig fonts-noto-core fonts-noto-cjk fonts-symbola";
    let fonts = match fonts::here().await {
        Ok(fonts) => fonts,
        Err(error) => return Check::bad("fonts", State::Wrong, chain(&error), install),
    };
    let families = fonts.families().len();
    if families == 0 {
        let found = "none: captions would be invisible";
        return Check::bad("fonts", State::Wrong, found, install);
    }
    let (drawn, missing): (Vec<_>, Vec<_>) = SCRIPTS
        .iter()
        .partition(|(_, letter)| fonts.can_draw(*letter));
    let names = |scripts: Vec<&(&'static str, char)>| {
        let names: Vec<&str> = scripts.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    };
    let found = format!("{families} families: {}", names(drawn));
    if missing.is_empty() {
        return Check::ok("fonts", found);
    }
    let found = format!("{found}; not {}", names(missing));
    Check::bad("fonts", State::Warning, found, install)
}

fn processors(quota: Quota) -> Check {
    let (usable, host) = (machine::cpus(), machine::cpus_of_host());
    let mut found = vec![format!("{usable} of the host's {host}")];
    found.extend(quota.cpus.map(|cpus| format!("a quota of {cpus:.2}")));
    found.extend(machine::affinity().map(|list| format!("allowed {list}")));
    Check::ok("processors", found.join(", "))
}

fn memory(bytes: Option<u64>, items: u64) -> Check {
    let Some(bytes) = bytes else {
        let advice = "is /proc mounted?";
        return Check::bad("memory", State::Warning, "unknown", advice);
    };
    let found = format!("{} MiB", bytes / MIB);
    let wanted = MEMORY_BASE + items * MEMORY_PER_ITEM;
    if bytes >= wanted {
        return Check::ok("memory", found);
    }
    let fits = (bytes.saturating_sub(MEMORY_BASE) / MEMORY_PER_ITEM).max(1);
    let advice = format!(
        "{items} items at once want {} MiB: give more, or set BATCH_SIZE={fits}",
        wanted / MIB
    );
    Check::bad("memory", State::Warning, found, advice)
}

fn disk(name: &'static str, variable: &str, dir: &Path) -> Check {
    let shown = dir.display();
    let there = machine::existing(dir);
    let elsewhere = format!("make room or set {variable} to another directory");
    if let Err(error) = tempfile::tempfile_in(there) {
        let found = format!("{shown}: cannot write in {}: {error}", there.display());
        let advice = format!("let this user write there, or set {variable} to another directory");
        return Check::bad(name, State::Wrong, found, advice);
    }
    match machine::disk_free(dir) {
        Err(error) => Check::bad(name, State::Warning, format!("{shown}: {error}"), elsewhere),
        Ok(free) if free < DISK_MIN => {
            let found = format!("{shown}: {} MiB free", free / MIB);
            Check::bad(name, State::Warning, found, elsewhere)
        }
        Ok(free) => Check::ok(
            name,
            format!("{shown}: {:.1} GiB free", free as f64 / MIB as f64 / 1024.0),
        ),
    }
}

fn runpod(env: &std::collections::BTreeMap<String, String>) -> Check {
    match WorkerEnv::from_map(env) {
        Ok(env) => {
            let found = format!("worker {} of endpoint {}", env.worker_id, env.endpoint_id);
            Check::ok("RunPod", found)
        }
        Err(EnvError::NotOnRunPod) => Check::ok(
            "RunPod",
            "not here: only jobs by hand (photofinish-worker run)",
        ),
        Err(error @ EnvError::Incomplete(_)) => Check::bad(
            "RunPod",
            State::Wrong,
            error.to_string(),
            "RunPod sets these itself; do not set them by hand, or set all of them",
        ),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(": ");
        said.push_str(&error.to_string());
        cause = error.source();
    }
    said.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), FfmpegError> {
        Err(FfmpegError::Failed {
            program: "ffmpeg".to_owned(),
            said: "Cannot load libnvidia-encode.so.1".to_owned(),
        })
    }

    #[test]
    fn an_encoder_is_judged_by_what_was_chosen_and_what_is_here() {
        let state = |choice, gpu, cpu, here| judge_encoders(choice, gpu, cpu, here).state;
        assert_eq!(state(Choice::Auto, Ok(()), Ok(()), true), State::Ok);
        assert_eq!(state(Choice::Auto, failed(), Ok(()), false), State::Ok);
        assert_eq!(state(Choice::Auto, failed(), failed(), false), State::Wrong);
        assert_eq!(state(Choice::X264, failed(), Ok(()), true), State::Ok);
        assert_eq!(state(Choice::Nvenc, failed(), Ok(()), true), State::Wrong);
        let wasted = judge_encoders(Choice::Auto, failed(), Ok(()), true);
        assert_eq!(wasted.state, State::Warning);
        assert!(wasted.found.contains("libnvidia-encode"), "{wasted:?}");
        assert!(
            wasted
                .advice
                .unwrap()
                .contains("NVIDIA_DRIVER_CAPABILITIES")
        );
    }

    #[test]
    fn lists_of_ffmpeg_are_read() {
        let said = "Filters:\n ... ass  V->V  Render\n D  mov,mp4,m4a QuickTime\nsetts\n";
        for name in ["ass", "mp4", "setts"] {
            assert!(lists(said, name), "{name}");
        }
        assert!(!lists(said, "as") && !lists(said, "Render"));
        assert_eq!(
            numbers(&version("ffmpeg version 5.1.9-0+deb12u1 Copy")),
            Some((5, 1))
        );
        assert_eq!(numbers(&version("ffmpeg version N-110-g1 Copy")), None);
        assert_eq!(numbers("n7.0"), None);
    }

    #[test]
    fn little_memory_says_how_many_items_fit() {
        assert_eq!(memory(Some(8192 * MIB), 8).state, State::Ok);
        let little = memory(Some(1100 * MIB), 8);
        assert_eq!(little.state, State::Warning);
        assert!(little.advice.unwrap().contains("BATCH_SIZE=2"));
    }

    #[test]
    fn half_an_environment_is_wrong_and_none_is_not() {
        let env = |name: &str| [(name.to_owned(), "http://x".to_owned())].into();
        assert_eq!(runpod(&env("HOME")).state, State::Ok);
        let half = runpod(&env("RUNPOD_WEBHOOK_GET_JOB"));
        assert_eq!(half.state, State::Wrong);
        assert!(half.found.contains("RUNPOD_POD_ID"), "{half:?}");
    }

    #[test]
    fn a_directory_where_nothing_can_be_written_is_wrong() {
        assert_eq!(
            disk("work_dir", "WORK_DIR", Path::new("/proc/x")).state,
            State::Wrong
        );
        assert_ne!(
            disk("work_dir", "WORK_DIR", Path::new("/tmp/x")).state,
            State::Wrong
        );
    }
}
