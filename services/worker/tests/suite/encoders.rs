//! The encoder plan where a GPU would be: a script in front of the real ffmpeg plays a machine with
//! NVENC, which works, fails or is busy as a test says.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use photofinish_contract::attempt_input::PictureItem;
use photofinish_contract::request::{CaptionStyle, Fit, Motion, Timing};
use photofinish_kit::wait_until;
use photofinish_model::Code;
use photofinish_worker::error::Halt;
use photofinish_worker::media::encoder::{Choice, Encoder};
use photofinish_worker::media::ffmpeg::FfmpegError;
use photofinish_worker::media::rate::Rate;
use photofinish_worker::operations::addaudio::{AddaudioJob, addaudio};
use photofinish_worker::operations::caption::{CaptionJob, caption};
use photofinish_worker::operations::img2vid::{self, ClipFormat};
use photofinish_worker::operations::inputs::Inputs;
use photofinish_worker::operations::progress::Progress;
use photofinish_worker::operations::studio::{Studio, StudioSettings};
use photofinish_worker::operations::{Made, video::Desk};
use tokio_util::sync::CancellationToken;

use crate::support::{Server, detailed, ffmpeg, png, probe, settings, studio_of};

/// Writes down its arguments; what is for NVENC is done by x264, unless a file says otherwise:
/// `broken`: all but the trial fails, `hung`: it never ends, `dead`: the trial fails as well,
/// `asleep`: the trial never ends,
/// `short`: of a clip only five frames are encoded. A second run for NVENC while one is going on is
/// told in the file `overlap`.
const GPU_BOX: &str = r#"#!/bin/sh
here=$(dirname "$0")
printf '%s\n' "$*" >> "$here/said"
if [ -e "$here/short" ]; then
    for arg do
        shift
        [ "$arg" = -an ] && set -- "$@" -vf "select=lt(n\\,5)"
        set -- "$@" "$arg"
    done
fi
case " $* " in
*" h264_nvenc "*) ;;
*) exec ffmpeg "$@" ;;
esac
case " $* " in
*" lavfi "*)
    [ -e "$here/dead" ] && exit 1
    [ -e "$here/asleep" ] && exec sleep 600 ;;
*)
    if [ -e "$here/broken" ]; then
        echo "OpenEncodeSessionEx failed: out of memory (10)" >&2
        exit 1
    fi
    [ -e "$here/hung" ] && exec sleep 600 ;;
esac
next=
for arg do
    shift
    case "$next$arg" in
    -preset*) [ "$next" ] && arg=ultrafast ;;
    -cq*) if [ "$next" ]; then arg=23; else set -- "$@" -crf; next=-cq; continue; fi ;;
    h264_nvenc | -c:vh264_nvenc) arg=libx264 ;;
    -tune* | -rc* | -b:v*) if [ "$next" ]; then next=; else next=$arg; fi; continue ;;
    esac
    if [ "$next" ]; then next=; else case $arg in -preset) next=$arg ;; esac; fi
    set -- "$@" "$arg"
done
mkdir "$here/busy" 2>/dev/null || echo again >> "$here/overlap"
ffmpeg "$@"
status=$?
rmdir "$here/busy" 2>/dev/null
exit $status
"#;

struct GpuBox {
    dir: tempfile::TempDir,
    inputs: Inputs,
    studio: Studio,
}

impl GpuBox {
    fn new(choice: Choice, change: impl FnOnce(&mut StudioSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("ffmpeg");
        std::fs::write(&program, GPU_BOX).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings = settings();
        program.to_str().unwrap().clone_into(&mut settings.ffmpeg);
        settings.encoder = choice;
        change(&mut settings);
        let studio = studio_of(settings);
        Self {
            dir,
            inputs: Inputs::default(),
            studio,
        }
    }

    fn is(&self, state: &str) {
        std::fs::write(self.dir.path().join(state), "").unwrap();
    }

    fn is_no_longer(&self, state: &str) {
        std::fs::remove_file(self.dir.path().join(state)).unwrap();
    }

    /// The arguments of every run but trials that had `word` among them.
    fn said(&self, word: &str) -> Vec<String> {
        let said = std::fs::read_to_string(self.dir.path().join("said")).unwrap_or_default();
        let own = |line: &&str| line.contains(word) && !line.contains("lavfi");
        said.lines().filter(own).map(str::to_owned).collect()
    }

    async fn clip(&self, url: &str, name: &str, side: u32) -> Result<Made, Halt> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let item = PictureItem {
            index: 0,
            item: name.to_owned(),
            image_url: url.to_owned(),
            frames: 12,
            motion: Motion::ZoomIn,
        };
        let format = ClipFormat {
            rate: Rate::of(30.0),
            width: side,
            height: side,
            fit: Fit::Cover,
            items: 1,
            nth: 0,
        };
        let (stop, progress) = (CancellationToken::new(), Progress::default());
        let desk = self.desk(&dir, &stop, &progress);
        let made = img2vid::clip(desk, format, &item, &dir.join("out.mp4")).await;
        if made.is_ok() {
            let said = probe(&dir.join("out.mp4"), "stream=codec_name,nb_read_packets");
            assert_eq!(
                (
                    said["codec_name"].as_str(),
                    said["nb_read_packets"].as_str()
                ),
                ("h264", "12")
            );
            assert!((progress.get() - 1.0).abs() < 1e-6, "{progress:?}");
        }
        made
    }

    fn desk<'a>(
        &'a self,
        dir: &'a Path,
        stop: &'a CancellationToken,
        progress: &'a Progress,
    ) -> Desk<'a> {
        Desk {
            studio: &self.studio,
            dir,
            inputs: &self.inputs,
            stop,
            progress,
        }
    }
}

async fn picture() -> (Server, String) {
    let server = Server::start().await;
    let url = server.put("a", png(&detailed(240, 240)));
    (server, url)
}

#[tokio::test]
async fn what_the_gpus_encoder_fails_at_the_cpus_does_at_once() {
    let (_server, url) = picture().await;
    let gpu = GpuBox::new(Choice::Auto, |_| {});
    let made = gpu.clip(&url, "works", 192).await.unwrap();
    assert_eq!(made.encoder, Some(Encoder::Nvenc));
    gpu.is("broken");
    let made = gpu.clip(&url, "rescued", 192).await.unwrap();
    assert_eq!(made.encoder, Some(Encoder::X264));
    assert_eq!(gpu.said("h264_nvenc").len(), 2);
    assert_eq!(gpu.said("libx264").len(), 1);
}

#[tokio::test]
async fn a_gpu_that_hangs_in_the_middle_costs_time_and_no_item() {
    let (_server, url) = picture().await;
    let gpu = GpuBox::new(Choice::Auto, |settings| {
        settings.encode_timeout_base = Duration::from_secs(4);
    });
    gpu.is("hung");
    let made = gpu.clip(&url, "rescued", 192).await.unwrap();
    assert_eq!(made.encoder, Some(Encoder::X264));
    assert_eq!(gpu.said("h264_nvenc").len(), 1);
}

#[tokio::test]
async fn an_encoder_that_keeps_failing_is_given_up() {
    let (_server, url) = picture().await;
    let gpu = GpuBox::new(Choice::Auto, |_| {});
    gpu.is("broken");
    for name in ["1", "2"] {
        gpu.clip(&url, name, 192).await.unwrap();
    }
    gpu.is_no_longer("broken");
    gpu.clip(&url, "good", 192).await.unwrap();
    gpu.is("broken");
    for name in ["3", "4", "5", "6", "7"] {
        let made = gpu.clip(&url, name, 192).await.unwrap();
        assert_eq!(made.encoder, Some(Encoder::X264));
    }
    // Two and a good one, then three in a row; after that nobody asks the GPU.
    assert_eq!(gpu.said("h264_nvenc").len(), 6);
    assert_eq!(gpu.studio.encoder().await.unwrap(), Encoder::X264);
}

#[tokio::test]
async fn without_a_working_trial_the_cpu_encodes_and_without_a_choice_there_is_no_rescue() {
    let (_server, url) = picture().await;
    let gpu = GpuBox::new(Choice::Auto, |_| {});
    gpu.is("dead");
    let made = gpu.clip(&url, "cpu", 192).await.unwrap();
    assert_eq!(made.encoder, Some(Encoder::X264));
    assert!(gpu.said("h264_nvenc").is_empty());

    let strict = GpuBox::new(Choice::Nvenc, |_| {});
    strict.is("broken");
    assert!(strict.clip(&url, "strict", 192).await.is_err());
    assert!(strict.said("libx264").is_empty());
}

#[tokio::test]
async fn a_clip_that_lacks_frames_is_never_kept() {
    let (_server, url) = picture().await;
    let gpu = GpuBox::new(Choice::X264, |_| {});
    gpu.is("short");
    let Err(Halt::Fault(fault)) = gpu.clip(&url, "cut", 192).await else {
        panic!("five of twelve frames went through");
    };
    assert_eq!(fault.fault.code, Code::RenderFailed);
    assert!(!gpu.dir.path().join("cut/out.mp4").exists());
}

#[tokio::test]
async fn pictures_too_small_for_the_gpus_encoder_do_not_count_against_it() {
    let (_server, url) = picture().await;
    let gpu = GpuBox::new(Choice::Auto, |_| {});
    let made = gpu.clip(&url, "small", 64).await.unwrap();
    assert_eq!(made.encoder, Some(Encoder::X264));
    assert!(gpu.said("h264_nvenc").is_empty());
    assert_eq!(gpu.studio.encoder().await.unwrap(), Encoder::Nvenc);
}

#[tokio::test]
async fn who_is_stopped_waits_for_no_trial_and_for_no_session() {
    let gpu = GpuBox::new(Choice::Auto, |settings| settings.nvenc_sessions = 1);
    let encoders = &gpu.studio.encoders;
    let stop = CancellationToken::new();
    gpu.is("asleep");
    let trial = encoders.turn((192, 192), 1, &stop);
    let said = gpu.dir.path().join("said");
    let stopping = async {
        wait_until(Duration::from_secs(20), "a trial", || async {
            said.exists()
        })
        .await
        .unwrap();
        stop.cancel();
        std::time::Instant::now()
    };
    let (turn, since) = tokio::join!(trial, stopping);
    assert!(matches!(turn, Err(FfmpegError::Stopped)), "{turn:?}");
    // The trial would have taken 20 s.
    assert!(since.elapsed() < Duration::from_secs(10));
    gpu.is_no_longer("asleep");
    let going_on = CancellationToken::new();
    let turn = encoders.turn((192, 192), 1, &going_on).await.unwrap();
    assert_eq!(turn.plan.encoder(), Encoder::Nvenc);
    let second = encoders.turn((192, 192), 1, &stop).await;
    assert!(matches!(second, Err(FfmpegError::Stopped)), "{second:?}");
    drop(turn);
    let third = encoders.turn((192, 192), 1, &going_on).await.unwrap();
    assert_eq!(third.plan.encoder(), Encoder::Nvenc);
}

#[tokio::test]
async fn no_more_items_and_no_more_sessions_than_allowed_go_at_once() {
    let (_server, url) = picture().await;
    for (batch, sessions) in [(4, 1), (1, 4)] {
        let gpu = GpuBox::new(Choice::Auto, |settings| {
            settings.batch = batch;
            settings.nvenc_sessions = sessions;
        });
        let clips = ["1", "2", "3"].map(|name| gpu.clip(&url, name, 192));
        for made in futures_util::future::join_all(clips).await {
            assert_eq!(made.unwrap().encoder, Some(Encoder::Nvenc));
        }
        let overlap = gpu.dir.path().join("overlap");
        assert!(!overlap.exists(), "{batch} items, {sessions} sessions");
    }
}

/// A video and audio that lasts longer, in the new directory `dir`, as addresses.
fn video_and_sound(server: &Server, dir: &Path, size: &str) -> (String, String) {
    std::fs::create_dir(dir).unwrap();
    let source = format!(
        "-f lavfi -i testsrc2=s={size}:r=30:d=1 -f lavfi -i sine=d=1 -c:v libx264 \
         -preset ultrafast -pix_fmt yuv420p -c:a aac source.mp4"
    );
    ffmpeg(dir, &source);
    ffmpeg(dir, "-f lavfi -i sine=d=1.2 sound.wav");
    let put = |name: &str| server.put(name, std::fs::read(dir.join(name)).unwrap());
    (put("source.mp4"), put("sound.wav"))
}

const SRT: &str = "1\n00:00:00,000 --> 00:00:01,000\nHello\n";

#[tokio::test]
async fn videos_too_small_for_the_gpus_encoder_do_not_count_against_it() {
    let server = Server::start().await;
    let gpu = GpuBox::new(Choice::Auto, |_| {});
    let dir = gpu.dir.path().join("videos");
    let (video, sound) = video_and_sound(&server, &dir, "192x96");
    let srt = server.put("s", SRT);
    let (stop, progress) = (CancellationToken::new(), Progress::default());
    let desk = gpu.desk(&dir, &stop, &progress);
    let style = CaptionStyle::default();
    let job = CaptionJob {
        url_video: &video,
        url_srt: &srt,
        style: &style,
    };
    let captioned = Box::pin(caption(desk, job, &dir.join("captioned.mp4"))).await;
    let job = AddaudioJob {
        url_video: &video,
        url_audio: &sound,
        timing: Timing::Reencode,
    };
    let fitted = Box::pin(addaudio(desk, job, &dir.join("fitted.mp4"))).await;
    for made in [captioned, fitted] {
        assert_eq!(made.unwrap().encoder, Some(Encoder::X264));
    }
    assert!(gpu.said("h264_nvenc").is_empty());
    assert_eq!(gpu.studio.encoder().await.unwrap(), Encoder::Nvenc);
}

/// Frames in GPU memory cannot be read by the CPU's filters: that is what broke the old system.
#[tokio::test]
async fn no_operation_ever_asks_for_frames_in_gpu_memory() {
    let (server, url) = picture().await;
    let gpu = GpuBox::new(Choice::Auto, |_| {});
    gpu.clip(&url, "clip", 192).await.unwrap();
    let dir = gpu.dir.path().join("videos");
    let (video, sound) = video_and_sound(&server, &dir, "192x192");
    let srt = server.put("s", SRT);
    let (stop, progress) = (CancellationToken::new(), Progress::default());
    let desk = gpu.desk(&dir, &stop, &progress);
    let style = CaptionStyle::default();
    let job = CaptionJob {
        url_video: &video,
        url_srt: &srt,
        style: &style,
    };
    let made = Box::pin(caption(desk, job, &dir.join("captioned.mp4"))).await;
    assert_eq!(made.unwrap().encoder, Some(Encoder::Nvenc));
    for (timing, encoder) in [
        (Timing::Auto, None),
        (Timing::Reencode, Some(Encoder::Nvenc)),
    ] {
        let job = AddaudioJob {
            url_video: &video,
            url_audio: &sound,
            timing,
        };
        let made = Box::pin(addaudio(desk, job, &dir.join("fitted.mp4"))).await;
        assert_eq!(made.unwrap().encoder, encoder, "{timing:?}");
    }
    // And when the GPU fails in the middle of a job, that job too comes out.
    gpu.is("broken");
    let made = Box::pin(caption(desk, job, &dir.join("again.mp4"))).await;
    assert_eq!(made.unwrap().encoder, Some(Encoder::X264));

    let said = gpu.said("");
    assert_eq!(gpu.said("h264_nvenc").len(), 4, "{said:#?}");
    assert!(said.len() >= 6, "{said:#?}");
    for line in said {
        for word in ["hwaccel", "cuda", "cuvid", "hwupload", "hwdownload", "npp"] {
            assert!(!line.contains(word), "{word} in {line}");
        }
    }
}
