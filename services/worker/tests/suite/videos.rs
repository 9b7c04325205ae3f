//! caption and addaudio, from addresses to a file.

use std::path::Path;
use std::process::Command;

use futures_util::{StreamExt as _, stream};
use photofinish_contract::request::{CaptionStyle, Position, Timing};
use photofinish_worker::error::Halt;
use photofinish_worker::operations::addaudio::{AddaudioJob, addaudio};
use photofinish_worker::operations::caption::{CaptionJob, caption};
use photofinish_worker::operations::inputs::Inputs;
use photofinish_worker::operations::progress::Progress;
use photofinish_worker::operations::studio::Studio;
use photofinish_worker::operations::{Made, video::Desk};
use tempfile::TempDir;
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

fn pictures(dir: &Path, file: &str) -> Vec<u8> {
    ffmpeg(
        dir,
        &format!("-i {file} -map 0:v:0 -fps_mode passthrough -f md5 -"),
    )
}

/// Runs the cases, two at once.
async fn each<F>(cases: impl Iterator<Item = F>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let done = stream::iter(cases).map(tokio::spawn).buffer_unordered(2);
    done.for_each(async |case| case.unwrap()).await;
}

/// One run of ffmpeg makes all of a zoo: starting it is what costs. The words before the files',
/// which all have their own; what it wrote to standard output.
fn zoo<'a>(dir: &Path, before: &str, files: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let words = files.fold(before.to_owned(), |words, file| words + " " + file);
    ffmpeg(dir, &words.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The bytes of the file that these words end with.
fn made_file(dir: &Path, words: &str) -> Vec<u8> {
    std::fs::read(dir.join(words.rsplit(' ').next().unwrap())).unwrap()
}

/// With new timestamps: nothing encoded, ends within a millisecond. `out.mp4` is in the directory.
async fn is_kept(source: Vec<u8>, sound: Vec<u8>, seconds: f64, what: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (server, studio) = (Server::start().await, studio());
    let (url, sound) = (server.put("v", source), server.put("a", sound));
    let made = fit(&studio, dir.path(), &url, &sound, Timing::Auto).await;
    let made = made.unwrap_or_else(|halt| panic!("{what}: {halt}"));
    assert_eq!(made.encoder, None, "{what}: nothing is encoded");
    let (shown, heard) = ends(&dir.path().join("out.mp4"));
    assert!((shown - heard).abs() <= 0.001, "{what}: {shown} {heard}");
    assert!((heard - seconds).abs() < 0.06, "{what}: {heard}");
    assert!((made.duration_s - shown).abs() < 0.002, "{what}: {made:?}");
    dir
}

/// Words for each file; input 0 is H.264, 1 HEVC.
const CONTAINERS: [&str; 12] = [
    "-map 0 -c copy v.mp4",
    "-map 0 -c copy v.mov",
    "-map 0 -c copy v.mkv",
    "-map 0 -c copy v.ts",
    "-map 0 -c copy v.flv",
    "-map 0 -c copy -movflags frag_keyframe+empty_moov fragments.mp4",
    "-map 0 -c copy -output_ts_offset 5 -muxdelay 0 late.ts",
    "-map 0 -c copy -output_ts_offset 3 late.mp4",
    "-map 0:v -c copy mute.mp4",
    "-map 0 -map 0:a -map 0:a -c copy several.mkv",
    "-map 1 -c copy -tag:v hev1 hevc.mp4",
    "-map 1 -c copy hevc.mkv",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_timestamps_keep_the_pictures_of_every_container() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    video(
        at,
        "-map 0 -map 1 avc.mkv -map 0 -map 1 -c:v libx265 -x265-params log-level=none:pools=1 -c:a aac hevc.mkv",
    );
    let as_shown = ["avc.mkv", "hevc.mkv"].map(|file| pictures(at, file));
    std::fs::rename(at.join("hevc.mkv"), at.join("x265.mkv")).unwrap();
    zoo(at, "-i avc.mkv -i x265.mkv", CONTAINERS.into_iter());
    let sound = audio(at, 2.5, "a.m4a");
    each(CONTAINERS.into_iter().map(|words| {
        let (source, sound) = (made_file(at, words), sound.clone());
        let expected = as_shown[usize::from(words.starts_with("-map 1"))].clone();
        async move {
            let out = is_kept(source, sound, 2.5, words).await;
            assert_eq!(pictures(out.path(), "out.mp4"), expected, "{words}");
        }
    }))
    .await;
}

#[test]
fn new_timestamps_need_no_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    video(at, "v.mp4");
    audio(at, 2.5, "a.m4a");
    let job = r#"{"operation": "addaudio", "url_video": "v.mp4", "url_audio": "a.m4a"}"#;
    std::fs::write(at.join("job.json"), job).unwrap();
    // One that few machines have.
    let done = Command::new(env!("CARGO_BIN_EXE_photofinish-worker"))
        .args(["run", "--input", "job.json", "--out", "out"])
        .current_dir(at)
        .env("PHOTOFINISH__ENCODER__CHOICE", "nvenc")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(at.join("v.mp4").exists() && at.join("out/0000-video.mp4").exists());
}

/// Seconds, and words for each file; input 0 is endless sound, 1 a picture.
const SOUNDS: [(f64, &str); 21] = [
    (1.6, "constant.mp3"),
    (2.3, "-q:a 4 -write_xing 0 -id3v2_version 0 variable.mp3"),
    (2.5, "-ar 22050 -ac 1 low.mp3"),
    (2.5, "-ar 8000 -ac 1 lowest.mp3"),
    (
        2.5,
        "-map 1 -c:v copy -disposition:v attached_pic -id3v2_version 3 cover.mp3",
    ),
    (
        2.5,
        "-map 1 -c:v copy -disposition:v attached_pic cover.m4a",
    ),
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
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_timestamps_end_with_whatever_audio_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let source = video(at, "v.mp4");
    ffmpeg(at, "-f lavfi -i color=s=64x64 -frames:v 1 cover.png");
    let files = SOUNDS.map(|(seconds, words)| format!("-map 0 -t {seconds} {words}"));
    let odd = [
        "-map 0 -t 3 -c:a libvorbis cut.ogg",
        "-map 0 -t 2.5 -write_xing 0 -id3v2_version 0 plain.mp3",
        // A header that does not know the length: written to a pipe.
        "-map 0 -t 2.4 -f wav pipe:1",
    ];
    let files = files.iter().map(String::as_str).chain(odd);
    let piped = zoo(at, "-f lavfi -i sine=r=44100 -i cover.png", files);
    assert_eq!(piped[4..8], [0xFF; 4]);
    let file = |words| made_file(at, words);
    let mut sounds = SOUNDS.map(|(s, words)| (s, words, file(words))).to_vec();
    sounds.push((2.4, "a piped WAV", piped));
    let mut junk = vec![0; 3000];
    junk.extend(file("plain.mp3"));
    sounds.push((2.5, "an MP3 behind zeros", junk));
    // A tag of 200 kB before the first frame.
    let mut tagged = b"ID3\x04\0\0\0\x0C\x1A\x40".to_vec();
    tagged.resize(200_010, 0);
    tagged.extend(file("plain.mp3"));
    sounds.push((2.5, "an MP3 behind a long tag", tagged));
    each(sounds.into_iter().map(|(seconds, words, sound)| {
        let source = source.clone();
        async move { drop(is_kept(source, sound, seconds, words).await) }
    }))
    .await;
    let mut cut = file("cut.ogg");
    cut.truncate(cut.len() * 2 / 3);
    let (server, studio) = (Server::start().await, studio());
    let (url, sound) = (server.put("v", source), server.put("a", cut));
    let made = fit(&studio, at, &url, &sound, Timing::Auto).await;
    assert!((1.0..2.9).contains(&made.unwrap().duration_s));
}

/// What is encoded: ffmpeg's words for the source, of which input 0 is the clip and 1 the clip
/// without its beginning; seconds of sound, way, frames.
const ENCODED: [(&str, f64, Timing, u32); 11] = [
    // Too slow, too fast, a picture or two, and as told.
    ("-map 0 -c copy slow.mp4", 7.0, Timing::Auto, 210),
    ("-map 0 -c copy fast.mp4", 0.8, Timing::Auto, 24),
    ("-map 0 -c copy brief.mp4", 0.05, Timing::Auto, 2),
    ("-map 0 -c copy told.mp4", 2.5, Timing::Reencode, 75),
    (
        "-map 0:v -preset ultrafast -frames:v 2 two.mp4",
        9.0,
        Timing::Auto,
        270,
    ),
    // Codecs that not every player has in an MP4.
    ("-map 0 -c:v mpeg4 v.avi", 2.5, Timing::Auto, 75),
    (
        "-map 0:v -c:v libvpx -deadline realtime -cpu-used 8 v.webm",
        2.5,
        Timing::Auto,
        75,
    ),
    // The first half second is hidden by an edit list.
    ("-map 1 -c copy cut.mp4", 1.8, Timing::Auto, 54),
    // Rates: NTSC's, none that is steady, a slide show's.
    (
        "-map 0 -preset ultrafast -r 30000/1001 ntsc.mp4",
        1.001,
        Timing::Reencode,
        30,
    ),
    (
        "-map 0 -preset ultrafast -vf select='not(mod(n,7))+lt(n,20)' -fps_mode vfr vfr.mp4",
        2.5,
        Timing::Reencode,
        75,
    ),
    (
        "-map 0 -preset ultrafast -vf fps=1 slides.mp4",
        6.0,
        Timing::Auto,
        72,
    ),
];

async fn is_encoded(
    source: Vec<u8>,
    sound: Vec<u8>,
    what: &str,
    seconds: f64,
    timing: Timing,
) -> u32 {
    let dir = tempfile::tempdir().unwrap();
    let (server, studio) = (Server::start().await, studio());
    let (url, sound) = (server.put("v", source), server.put("a", sound));
    let made = fit(&studio, dir.path(), &url, &sound, timing).await;
    let made = made.unwrap_or_else(|halt| panic!("{what}: {halt}"));
    assert!(made.encoder.is_some(), "{what}");
    let out = dir.path().join("out.mp4");
    let (shown, heard) = ends(&out);
    let said = probe(
        &out,
        "stream=avg_frame_rate,nb_read_packets -select_streams v:0",
    );
    let (n, d) = said["avg_frame_rate"].split_once('/').unwrap();
    let rate = n.parse::<f64>().unwrap() / d.parse::<f64>().unwrap();
    assert!(
        (shown - heard).abs() <= 0.5 / rate + 0.001,
        "{what}: {shown} {heard}"
    );
    let frames: u32 = said["nb_read_packets"].parse().unwrap();
    assert_eq!(frames, (seconds * rate).round() as u32, "{what} at {rate}");
    assert!((12.0..=60.0).contains(&rate), "{what}: {rate}");
    frames
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_new_timestamps_cannot_do_is_encoded_anew() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    video(at, "clip.mp4");
    let words = ENCODED.iter().map(|(words, ..)| *words);
    zoo(at, "-i clip.mp4 -ss 0.5 -i clip.mp4", words);
    let sounds: Vec<String> = (0..)
        .zip(ENCODED)
        .map(|(n, (_, seconds, ..))| format!("-t {seconds} {n}.wav"))
        .collect();
    let words = sounds.iter().map(String::as_str);
    zoo(at, "-f lavfi -i sine=r=44100", words);
    let cases = sounds.into_iter().zip(ENCODED);
    each(cases.map(|(sound, (what, seconds, timing, count))| {
        let (source, sound) = (made_file(at, what), made_file(at, &sound));
        async move {
            let frames = is_encoded(source, sound, what, seconds, timing).await;
            assert_eq!(frames, count, "{what}");
        }
    }))
    .await;
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
