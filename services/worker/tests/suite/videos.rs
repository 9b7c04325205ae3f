//! caption and addaudio, from addresses to a file.

use std::path::Path;

use photofinish_contract::request::{CaptionStyle, Position, Timing};
use photofinish_worker::error::Halt;
use photofinish_worker::operations::addaudio::{AddaudioJob, addaudio};
use photofinish_worker::operations::caption::{CaptionJob, caption};
use photofinish_worker::operations::inputs::Inputs;
use photofinish_worker::operations::progress::Progress;
use photofinish_worker::operations::studio::Studio;
use photofinish_worker::operations::{Made, video::Desk};
use tokio_util::sync::CancellationToken;

use crate::support::{Server, ffmpeg, probe, studio, tool};

const SRT: &str = "1\n00:00:00,500 --> 00:00:01,500\nHello {\\pos(1,1)} <b>world</b>\n";

/// What ffmpeg made of these arguments, the last of which is a file's name.
pub(crate) fn made(dir: &Path, args: &str) -> Vec<u8> {
    let words = args.split_whitespace().collect::<Vec<_>>().join(" ");
    ffmpeg(dir, &words);
    std::fs::read(dir.join(words.rsplit(' ').next().unwrap())).unwrap()
}

/// A clip of 60 frames with B-frames and sound.
pub(crate) fn video(dir: &Path, args: &str) -> Vec<u8> {
    let source = "-f lavfi -i testsrc2=s=160x90:r=30:d=2 -f lavfi -i sine=r=48000:d=2";
    let codecs = "-c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p -c:a aac";
    made(dir, &format!("{source} {codecs} {args}"))
}

pub(crate) fn audio(dir: &Path, seconds: f64, args: &str) -> Vec<u8> {
    made(dir, &format!("-f lavfi -i sine=r=44100:d={seconds} {args}"))
}

pub(crate) async fn fit(
    studio: &Studio,
    dir: &Path,
    url_video: &str,
    url_audio: &str,
    timing: Timing,
) -> Result<Made, Halt> {
    let desk = Desk {
        studio,
        inputs: &Inputs::default(),
        dir,
        stop: &CancellationToken::new(),
        progress: &Progress::default(),
    };
    let job = AddaudioJob {
        url_video,
        url_audio,
        timing,
    };
    Box::pin(addaudio(desk, job, &dir.join("out.mp4"))).await
}

pub(crate) async fn burn(
    studio: &Studio,
    dir: &Path,
    url_video: &str,
    url_srt: &str,
) -> Result<Made, Halt> {
    let desk = Desk {
        studio,
        inputs: &Inputs::default(),
        dir,
        stop: &CancellationToken::new(),
        progress: &Progress::default(),
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

/// Seconds at which the streams end, video and audio; both begin at zero.
fn ends(file: &Path) -> (f64, f64) {
    let words = "-v error -show_entries stream=codec_type,start_time,duration -of csv=p=0 -i";
    let words = format!("{words} {}", file.display());
    let said = String::from_utf8(tool("ffprobe", Path::new("/"), &words)).unwrap();
    let end = |kind: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(kind));
        let (start, duration) = line.unwrap().split_once(',').unwrap();
        let (start, duration): (f64, f64) = (start.parse().unwrap(), duration.parse().unwrap());
        assert!(start.abs() < 0.001, "{kind}: {said}");
        start + duration
    };
    (end("video,"), end("audio,"))
}

fn frames(file: &Path) -> String {
    probe(file, "stream=nb_read_packets -select_streams v:0")["nb_read_packets"].clone()
}

fn pictures(dir: &Path, file: &str) -> Vec<u8> {
    ffmpeg(
        dir,
        &format!("-i {file} -map 0:v:0 -fps_mode passthrough -f md5 -"),
    )
}

/// With new timestamps: nothing encoded, ends within a millisecond.
async fn is_kept(dir: &Path, source: &[u8], sound: Vec<u8>, seconds: f64, what: &str) {
    let (server, studio) = (Server::start().await, studio());
    let url = server.put("v", source.to_vec());
    let sound = server.put("a", sound);
    let made = fit(&studio, dir, &url, &sound, Timing::Auto).await;
    let made = made.unwrap_or_else(|halt| panic!("{what}: {halt}"));
    assert_eq!(made.encoder, None, "{what}: nothing is encoded");
    let (shown, heard) = ends(&dir.join("out.mp4"));
    assert!((shown - heard).abs() <= 0.001, "{what}: {shown} {heard}");
    assert!((heard - seconds).abs() < 0.06, "{what}: {heard}");
    assert!((made.duration_s - shown).abs() < 0.002, "{what}: {made:?}");
}

#[tokio::test]
async fn new_timestamps_keep_the_pictures_of_every_container() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let sound = audio(at, 2.5, "a.m4a");
    for args in [
        "v.mp4",
        "v.mov",
        "v.mkv",
        "v.ts",
        "v.flv",
        "-movflags frag_keyframe+empty_moov fragments.mp4",
        "-output_ts_offset 5 -muxdelay 0 late.ts",
        "-output_ts_offset 3 late.mp4",
        "-an mute.mp4",
        "-map 0 -map 1 -map 1 several.mkv",
        "-c:v libx265 -x265-params log-level=none:pools=1 -tag:v hev1 hevc.mp4",
        "-c:v libx265 -x265-params log-level=none:pools=1 hevc.mkv",
    ] {
        let source = video(at, args);
        is_kept(at, &source, sound.clone(), 2.5, args).await;
        std::fs::write(at.join("given"), source).unwrap();
        assert_eq!(pictures(at, "given"), pictures(at, "out.mp4"), "{args}");
    }
}

#[tokio::test]
async fn new_timestamps_end_with_whatever_audio_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let source = video(at, "v.mp4");
    ffmpeg(at, "-f lavfi -i color=s=64x64 -frames:v 1 cover.png");
    let cover = "-i cover.png -map 0 -map 1 -c:v copy -disposition:v attached_pic";
    for (seconds, args) in [
        (1.6, "constant.mp3"),
        (2.3, "-q:a 4 -write_xing 0 -id3v2_version 0 variable.mp3"),
        (2.5, "-ar 22050 -ac 1 low.mp3"),
        (2.5, "-ar 8000 -ac 1 lowest.mp3"),
        (2.5, &format!("{cover} -id3v2_version 3 cover.mp3")),
        (2.5, &format!("{cover} cover.m4a")),
        (2.71, "-c:a aac frames.aac"),
        (1.7, "-ac 6 -ar 96000 -c:a pcm_s24le six.wav"),
        (2.5, "-ar 8000 -ac 1 phone.wav"),
        (1.9, "-c:a libopus speech.ogg"),
        (2.2, "-c:a libvorbis music.ogg"),
        (2.5, "free.flac"),
        (2.5, "-c:a ac3 theatre.ac3"),
        (2.5, "apple.aiff"),
        (2.5, "-c:a alac apple.caf"),
        (2.5, "windows.wma"),
        (2.5, "-c:a aac stream.ts"),
        (2.5, "-c:a aac matroska.mka"),
        (2.5, "-c:a libopus web.webm"),
        (2.5, "-rf64 always large.wav"),
        (3.0, "-c:a mp2 -f mp2 old.mp3"),
    ] {
        let sound = audio(at, seconds, args);
        is_kept(at, &source, sound, seconds, args).await;
    }
    // A header that does not know the length: written to a pipe.
    let piped = ffmpeg(at, "-f lavfi -i sine=d=2.4 -f wav pipe:1");
    assert_eq!(piped[4..8], [0xFF; 4]);
    is_kept(at, &source, piped, 2.4, "a piped WAV").await;
    let mut cut = audio(at, 3.0, "-c:a libvorbis cut.ogg");
    cut.truncate(cut.len() * 2 / 3);
    let dir = tempfile::tempdir().unwrap();
    let (server, studio) = (Server::start().await, studio());
    let (url, sound) = (server.put("v", source.clone()), server.put("a", cut));
    let made = fit(&studio, dir.path(), &url, &sound, Timing::Auto).await;
    assert!((1.0..2.9).contains(&made.unwrap().duration_s));
    let mut junk = vec![0; 3000];
    junk.extend(audio(at, 2.5, "-write_xing 0 -id3v2_version 0 plain.mp3"));
    is_kept(at, &source, junk, 2.5, "an MP3 behind zeros").await;
    // A tag of 200 kB before the first frame.
    let mut tagged = b"ID3\x04\0\0\0\x0C\x1A\x40".to_vec();
    tagged.resize(200_010, 0);
    tagged.extend(std::fs::read(at.join("plain.mp3")).unwrap());
    is_kept(at, &source, tagged, 2.5, "an MP3 behind a long tag").await;
}

/// What is encoded: ffmpeg's words for the source, seconds of sound, way, frames.
const ENCODED: [(&str, f64, Timing, u32); 11] = [
    // Too slow, too fast, a picture or two, and as told.
    ("-i clip.mp4 -c copy v.mp4", 7.0, Timing::Auto, 210),
    ("-i clip.mp4 -c copy v.mp4", 0.8, Timing::Auto, 24),
    ("-i clip.mp4 -c copy v.mp4", 0.05, Timing::Auto, 2),
    ("-i clip.mp4 -c copy v.mp4", 2.5, Timing::Reencode, 75),
    (
        "-i clip.mp4 -preset ultrafast -frames:v 2 -an two.mp4",
        9.0,
        Timing::Auto,
        270,
    ),
    // Codecs that not every player has in an MP4.
    (
        "-i clip.mp4 -preset ultrafast -c:v mpeg4 v.avi",
        2.5,
        Timing::Auto,
        75,
    ),
    (
        "-i clip.mp4 -preset ultrafast -c:v libvpx -deadline realtime -cpu-used 8 -an v.webm",
        2.5,
        Timing::Auto,
        75,
    ),
    // The first half second is hidden by an edit list.
    ("-ss 0.5 -i clip.mp4 -c copy cut.mp4", 1.8, Timing::Auto, 54),
    // Rates: NTSC's, none that is steady, a slide show's.
    (
        "-i clip.mp4 -preset ultrafast -r 30000/1001 ntsc.mp4",
        1.001,
        Timing::Reencode,
        30,
    ),
    (
        "-i clip.mp4 -preset ultrafast -vf select='not(mod(n,7))+lt(n,20)' -fps_mode vfr vfr.mp4",
        2.5,
        Timing::Reencode,
        75,
    ),
    (
        "-i clip.mp4 -preset ultrafast -vf fps=1 slides.mp4",
        6.0,
        Timing::Auto,
        72,
    ),
];

#[tokio::test]
async fn what_new_timestamps_cannot_do_is_encoded_anew() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    video(at, "clip.mp4");
    for (what, seconds, timing, count) in ENCODED {
        let source = made(at, what);
        let url = server.put("v", source);
        let sound = server.put("a", audio(at, seconds, "a.wav"));
        let made = fit(&studio, at, &url, &sound, timing).await;
        let made = made.unwrap_or_else(|halt| panic!("{what}: {halt}"));
        assert!(made.encoder.is_some(), "{what}");
        let out = at.join("out.mp4");
        let (shown, heard) = ends(&out);
        let said = probe(&out, "stream=avg_frame_rate -select_streams v:0");
        let (n, d) = said["avg_frame_rate"].split_once('/').unwrap();
        let rate = n.parse::<f64>().unwrap() / d.parse::<f64>().unwrap();
        assert!(
            (shown - heard).abs() <= 0.5 / rate + 0.001,
            "{what}: {shown} {heard}"
        );
        let frames: u32 = frames(&out).parse().unwrap();
        assert_eq!(frames, (seconds * rate).round() as u32, "{what} at {rate}");
        assert!((12.0..=60.0).contains(&rate), "{what}: {rate}");
        assert_eq!(frames, count, "{what} at {rate}");
    }
}

#[tokio::test]
async fn a_stretch_shows_each_picture_when_its_time_has_come() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    // Grey grows with time: 2 s, stretched to 5 s and squeezed to 0.5 s.
    let ramp = "-f lavfi -i color=s=64x64:r=30:d=2,format=gray,geq=lum='T*100' -pix_fmt yuv420p";
    let url = server.put(
        "v",
        made(at, &format!("{ramp} -c:v libx264 -qp 4 ramp.mp4")),
    );
    for (seconds, timing) in [
        (5.0, Timing::Reencode),
        (0.5, Timing::Reencode),
        (3.0, Timing::Auto),
    ] {
        let sound = server.put("a", audio(at, seconds, "a.wav"));
        fit(&studio, at, &url, &sound, timing).await.unwrap();
        let luma = ffmpeg(
            at,
            "-i out.mp4 -map 0:v -fps_mode passthrough -pix_fmt gray -f rawvideo -",
        );
        let count = luma.len() / 4096;
        for (n, frame) in luma.chunks(4096).enumerate() {
            let expected = 200.0 * n as f64 / count as f64;
            let is = f64::from(frame[2080]);
            assert!(
                (is - expected).abs() < 9.0,
                "{seconds}: frame {n} of {count}: {is} {expected}"
            );
        }
    }
}

#[tokio::test]
async fn a_picture_on_its_side_stays_so() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    video(at, "v.mp4");
    let source = made(at, "-i v.mp4 -c copy -metadata:s:v rotate=90 turned.mp4");
    let url = server.put("v", source);
    let sound = server.put("a", audio(at, 2.2, "a.wav"));
    for timing in [Timing::Auto, Timing::Reencode] {
        fit(&studio, at, &url, &sound, timing).await.unwrap();
        let shown = ffmpeg(at, "-i out.mp4 -map 0:v -frames:v 1 -f image2 -c:v png -");
        // Width and height in a PNG's head.
        assert_eq!((shown[19], shown[23]), (90, 160), "{timing:?}");
    }
}

#[tokio::test]
async fn captions_change_the_picture_where_and_when_they_are() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let url = server.put("v", video(dir.path(), "-s 320x180 source.mp4"));
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
