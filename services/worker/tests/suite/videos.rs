//! caption and addaudio, from addresses to a file.

use std::path::Path;

use photofinish_contract::request::{CaptionStyle, Position, Timing};
use photofinish_model::Code;
use photofinish_worker::error::Halt;
use photofinish_worker::operations::addaudio::{AddaudioJob, addaudio};
use photofinish_worker::operations::caption::{CaptionJob, caption};
use photofinish_worker::operations::studio::Studio;
use photofinish_worker::operations::{Made, video::Desk};
use tokio_util::sync::CancellationToken;

use crate::support::{Server, ffmpeg, probe, studio};

const SRT: &str = "1\n00:00:00,500 --> 00:00:01,500\nHello {\\pos(1,1)} <b>world</b>\n";

/// A clip of 60 frames with B-frames and sound.
fn video(dir: &Path, args: &str) -> Vec<u8> {
    let words = format!(
        "-f lavfi -i testsrc2=s=320x180:r=30:d=2 -f lavfi -i sine=r=48000:d=2 \
         -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac {args}"
    );
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    ffmpeg(dir, &words);
    std::fs::read(dir.join(args.rsplit(' ').next().unwrap())).unwrap()
}

fn audio(dir: &Path, seconds: f64, name: &str) -> Vec<u8> {
    ffmpeg(dir, &format!("-f lavfi -i sine=r=44100:d={seconds} {name}"));
    std::fs::read(dir.join(name)).unwrap()
}

async fn fit(
    studio: &Studio,
    dir: &Path,
    url_video: &str,
    url_audio: &str,
    timing: Timing,
) -> Result<Made, Halt> {
    let stop = CancellationToken::new();
    let desk = Desk {
        studio,
        dir,
        stop: &stop,
    };
    let job = AddaudioJob {
        url_video,
        url_audio,
        timing,
    };
    Box::pin(addaudio(desk, job, &dir.join("out.mp4"))).await
}

async fn burn(studio: &Studio, dir: &Path, url_video: &str, url_srt: &str) -> Result<Made, Halt> {
    let stop = CancellationToken::new();
    let desk = Desk {
        studio,
        dir,
        stop: &stop,
    };
    let style = CaptionStyle {
        size: Some(12.0),
        position: Some(Position::TopCenter),
        ..CaptionStyle::default()
    };
    let job = CaptionJob {
        url_video,
        url_srt,
        style: &style,
    };
    Box::pin(caption(desk, job, &dir.join("out.mp4"))).await
}

/// Seconds at which the streams end: video, audio.
fn ends(file: &Path) -> (f64, f64) {
    let end = |select: &str| {
        let words = format!(
            "-v error -select_streams {select} -show_entries packet=pts_time,duration_time -of csv=p=0 {}",
            file.display()
        );
        let said =
            String::from_utf8(crate::support::tool("ffprobe", Path::new("/"), &words)).unwrap();
        said.lines()
            .filter_map(|line| {
                let mut fields = line.split(',').map(|f| f.parse::<f64>().ok());
                Some(fields.next()?? + fields.next()??)
            })
            .fold(0.0, f64::max)
    };
    (end("v:0"), end("a:0"))
}

fn pictures(dir: &Path, file: &str) -> Vec<u8> {
    ffmpeg(
        dir,
        &format!("-i {file} -map 0:v -fps_mode passthrough -f md5 -"),
    )
}

#[tokio::test]
async fn new_timestamps_keep_the_pictures_and_end_with_the_audio() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let url = server.put("v", video(dir.path(), "source.mp4"));
    for (seconds, name) in [(2.5, "a.mp3"), (1.6, "a.m4a"), (3.0, "a.wav")] {
        let sound = server.put(name, audio(dir.path(), seconds, name));
        let made = fit(&studio, dir.path(), &url, &sound, Timing::Auto)
            .await
            .unwrap();
        let (shown, heard) = ends(&dir.path().join("out.mp4"));
        assert!((shown - heard).abs() < 0.06, "{name}: {shown} {heard}");
        assert!((made.duration_s - seconds).abs() < 0.1, "{name}: {made:?}");
        assert_eq!(
            pictures(dir.path(), "source.mp4"),
            pictures(dir.path(), "out.mp4"),
            "{name}"
        );
        let said = probe(
            &dir.path().join("out.mp4"),
            "stream=codec_name,nb_read_packets",
        );
        assert!(["aac", "mp3"].contains(&said["codec_name"].as_str()));
    }
}

#[tokio::test]
async fn what_new_timestamps_cannot_do_is_encoded_anew() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let url = server.put("v", video(dir.path(), "source.mkv"));
    let mp4 = server.put("m", video(dir.path(), "source.mp4"));
    let cases = [
        (&url, 2.5, Timing::Auto, 75),
        (&mp4, 0.8, Timing::Auto, 24),
        (&mp4, 7.0, Timing::Auto, 210),
        (&mp4, 2.5, Timing::Reencode, 75),
    ];
    for (url, seconds, timing, frames) in cases {
        let sound = server.put("a", audio(dir.path(), seconds, "a.wav"));
        fit(&studio, dir.path(), url, &sound, timing).await.unwrap();
        let (shown, heard) = ends(&dir.path().join("out.mp4"));
        assert!((shown - heard).abs() < 0.05, "{seconds}: {shown} {heard}");
        let said = probe(
            &dir.path().join("out.mp4"),
            "stream=index,nb_read_packets,avg_frame_rate",
        );
        let packets = ffmpeg(dir.path(), "-i out.mp4 -map 0:v -f framecrc -");
        let count = String::from_utf8(packets)
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("0,"))
            .count();
        assert_eq!(count, frames, "{seconds} {timing:?} {said:?}");
    }
}

#[tokio::test]
async fn captions_change_the_picture_where_and_when_they_are() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let url = server.put("v", video(dir.path(), "source.mp4"));
    let srt = server.put("s", SRT);
    let made = burn(&studio, dir.path(), &url, &srt).await.unwrap();
    assert!((made.duration_s - 2.0).abs() < 0.1);
    let luma = |file: &str| {
        ffmpeg(
            dir.path(),
            &format!("-i {file} -map 0:v -pix_fmt gray -f rawvideo -"),
        )
    };
    let (before, after) = (luma("source.mp4"), luma("out.mp4"));
    let frame = 320 * 180;
    assert_eq!(before.len(), 60 * frame);
    assert_eq!(after.len(), before.len());
    // Mean difference of a band of rows in one frame.
    let changed = |n: usize, rows: std::ops::Range<usize>| {
        let band = n * frame + rows.start * 320..n * frame + rows.end * 320;
        let sum: u32 = before[band.clone()]
            .iter()
            .zip(&after[band.clone()])
            .map(|(a, b)| u32::from(a.abs_diff(*b)))
            .sum();
        f64::from(sum) / band.len() as f64
    };
    assert!(
        changed(30, 5..40) > 8.0,
        "text at the top: {}",
        changed(30, 5..40)
    );
    assert!(
        changed(30, 120..175) < 4.0,
        "nothing below: {}",
        changed(30, 120..175)
    );
    assert!(
        changed(5, 5..40) < 4.0 && changed(55, 5..40) < 4.0,
        "neither before nor after"
    );
    // The sound is as it was.
    let sound = |file: &str| ffmpeg(dir.path(), &format!("-i {file} -map 0:a -c copy -f md5 -"));
    assert_eq!(sound("source.mp4"), sound("out.mp4"));
}

#[tokio::test]
async fn disguised_and_damaged_files_are_refused() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let whole = video(dir.path(), "source.mp4");
    let good = server.put("v", whole.clone());
    let sound = server.put("a", audio(dir.path(), 1.0, "a.mp3"));
    let srt = server.put("s", SRT);
    let list = server.put(
        "list.mp4",
        format!("#EXTM3U\n#EXTINF:2,\n{}/source.mp4\n", dir.path().display()),
    );
    let script = server.put("concat.srt", "ffconcat version 1.0\nfile other.srt\n");
    let cut = server.put("cut.mp4", whole[..2000].to_vec());
    let mute = ffmpeg(dir.path(), "-i source.mp4 -an -c copy -f mp4 mute.mp4");
    assert!(mute.is_empty());
    let mute = server.put("mute", std::fs::read(dir.path().join("mute.mp4")).unwrap());
    let code = |made: Result<Made, Halt>| match made {
        Err(Halt::Fault(fault)) => (fault.fault.code, fault.permanent),
        other => panic!("{other:?}"),
    };
    let work = tempfile::tempdir().unwrap();
    let at = work.path();
    assert_eq!(
        code(burn(&studio, at, &list, &srt).await),
        (Code::NotAVideo, true)
    );
    assert_eq!(
        code(burn(&studio, at, &cut, &srt).await),
        (Code::NotAVideo, true)
    );
    assert_eq!(
        code(burn(&studio, at, &good, &script).await),
        (Code::NotCaptions, true)
    );
    let auto = Timing::Auto;
    assert_eq!(
        code(fit(&studio, at, &sound, &sound, auto).await),
        (Code::NotAVideo, true)
    );
    assert_eq!(
        code(fit(&studio, at, &good, &mute, auto).await),
        (Code::NotAudio, true)
    );
    assert_eq!(
        code(fit(&studio, at, &good, &srt, auto).await),
        (Code::NotAudio, true)
    );
    assert_eq!(
        code(fit(&studio, at, &good, &list, auto).await),
        (Code::NotAudio, true)
    );
    assert!(!at.join("out.mp4").exists());
}
