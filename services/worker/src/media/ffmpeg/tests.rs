use std::sync::Mutex;

use super::*;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn soon() -> Bounds {
    Bounds::of(Duration::from_secs(30))
}

async fn ffmpeg(words: &str, bounds: Bounds) -> Result<Vec<Moment>, FfmpegError> {
    let (dir, told) = (dir(), Mutex::new(Vec::new()));
    let args = Args::words("-nostdin -loglevel error -y").and(words);
    let tell = |moment| told.lock().unwrap().push(moment);
    let stop = CancellationToken::new();
    run("ffmpeg", dir.path(), &args, bounds, &tell, &stop).await?;
    Ok(told.into_inner().unwrap())
}

#[tokio::test]
async fn an_encode_tells_how_far_it_is() {
    let words = "-f lavfi -i testsrc2=s=320x180:r=25:d=2 -preset ultrafast -f mp4 out";
    let told = ffmpeg(words, soon()).await.unwrap();
    let last = told.last().unwrap();
    assert_eq!(last.frames, 50);
    assert!((1.9..=2.0).contains(&last.seconds), "{told:?}");
    assert!(last.bytes > 1000, "{told:?}");
}

#[tokio::test]
async fn a_child_that_burns_its_processor_time_is_ended_and_said_to_have() {
    let bounds = Bounds {
        cpu_max: Duration::from_secs(1),
        ..soon()
    };
    // ffmpeg ends by itself when told, ffprobe dies of it; both are named as what they are.
    let endless = "-f lavfi -i testsrc2=s=640x360 -f null -";
    let error = ffmpeg(endless, bounds).await.unwrap_err();
    assert!(matches!(error, FfmpegError::CpuUsedUp { .. }), "{error:?}");
    let args = Args::words("-v error -show_packets -f lavfi testsrc2=s=640x360");
    let running = Running::start("ffprobe", dir().path(), &args, false, bounds).unwrap();
    let error = running.finish(10, &CancellationToken::new()).await;
    assert!(
        matches!(error, Err(FfmpegError::CpuUsedUp { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_child_that_stands_back_is_nice_and_no_other_is() {
    let own = std::process::Command::new("nice").output().unwrap();
    let own: u8 = String::from_utf8(own.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    for (bounds, niceness) in [(soon().standing_back(), (own + 10).min(19)), (soon(), own)] {
        let args = Args::words("-c").arg(format!("test $(nice) = {niceness}"));
        let running = Running::start("sh", dir().path(), &args, false, bounds).unwrap();
        let ended = running.finish(0, &CancellationToken::new()).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}

#[tokio::test]
async fn time_stillness_memory_and_files_have_limits() {
    let short = Bounds::of(Duration::from_millis(300));
    let paced = "-re -f lavfi -i color=s=64x64:r=1000 -f null -";
    let error = ffmpeg(paced, short).await.unwrap_err();
    assert!(matches!(error, FfmpegError::TimedOut { .. }), "{error:?}");
    let impatient = soon().stalled_after(Duration::from_millis(900));
    // It reads a frame, then sleeps for an hour.
    let still = "-re -f lavfi -i color=s=64x64:r=1/3600 -f null -";
    let error = ffmpeg(still, impatient).await.unwrap_err();
    assert!(matches!(error, FfmpegError::Stalled { .. }), "{error:?}");
    let moving = "-re -f lavfi -i color=s=64x64:r=20:d=2 -f null -";
    assert!(ffmpeg(moving, impatient).await.is_ok());
    let small = soon().in_memory(100 * 1024 * 1024);
    let error = ffmpeg("-f lavfi -i color=d=1 -f null -", small).await;
    assert!(
        matches!(
            error,
            Err(FfmpegError::Failed { .. } | FfmpegError::Start { .. })
        ),
        "{error:?}"
    );
    let dir = dir();
    let args = Args::words("if=/dev/zero of=out bs=1M count=2 seek=4095");
    let running = Running::start("dd", dir.path(), &args, false, soon()).unwrap();
    let error = running.finish(0, &CancellationToken::new()).await;
    assert!(
        matches!(error, Err(FfmpegError::FileTooLarge { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_large_output_has_time_to_be_moved() {
    let impatient = soon().stalled_after(Duration::from_millis(500));
    for (bytes, in_time) in [(1_000_000, false), (40_000_000, true)] {
        // Silent at the end, as ffmpeg is then.
        let script = format!("echo total_size={bytes}; sleep 1.2");
        let args = Args::default().arg("-c").arg(script);
        let running = Running::start("sh", dir().path(), &args, false, impatient).unwrap();
        let done = running.watch(&|_| {}, &CancellationToken::new()).await;
        assert_eq!(done.is_ok(), in_time, "{bytes}: {done:?}");
    }
}

#[tokio::test]
async fn a_bound_that_cannot_be_set_is_not_the_inputs_fault() {
    // What a machine with fixed bounds of its own answers to whoever may not raise them.
    let said = "prlimit: failed to set the AS resource limit: Operation not permitted";
    let script = format!("echo '{said}' >&2; exit 1");
    let (dir, args) = (dir(), Args::default().arg("-c").arg(script));
    let running = Running::start("sh", dir.path(), &args, false, soon()).unwrap();
    let error = running.finish(0, &CancellationToken::new()).await;
    assert!(matches!(error, Err(FfmpegError::Start { .. })), "{error:?}");
}

#[tokio::test]
async fn a_program_that_is_not_there_could_not_be_started() {
    let (dir, stop) = (dir(), CancellationToken::new());
    let args = Args::words("-version");
    let run = run("no-such-ffmpeg", dir.path(), &args, soon(), &|_| {}, &stop);
    let error = run.await.unwrap_err();
    assert!(matches!(error, FfmpegError::Start { .. }), "{error:?}");
}

#[tokio::test]
async fn lines_come_whole_and_a_flood_is_passed_over() {
    let script = "printf 'one\ntwo\n'; head -c 200000 /dev/zero | tr '\\0' x; printf '\nthree\n'";
    let args = Args::default().arg("-c").arg(script);
    let running = Running::start("sh", dir().path(), &args, false, soon()).unwrap();
    let mut lines = Vec::new();
    let mut line = |line: &str| lines.push(line.to_owned());
    running
        .lines(&mut line, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(lines, ["one", "two", "three"]);
}
