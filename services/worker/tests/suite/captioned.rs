//! Videos as people have them, captioned: pictures, times and sound are what players want.

use std::collections::HashMap;
use std::path::Path;

use photofinish_contract::request::CaptionStyle;

use crate::captions::{burn, inks, large};
use crate::support::{ffmpeg, probe, tool};

/// A video of many kinds, captioned: what ffprobe says, and the ink of its frames.
async fn kind(words: &str, name: &str) -> (tempfile::TempDir, HashMap<String, String>) {
    let dir = tempfile::tempdir().unwrap();
    ffmpeg(
        dir.path(),
        &format!(
            "{} {name}",
            words.split_whitespace().collect::<Vec<_>>().join(" ")
        ),
    );
    let video = std::fs::read(dir.path().join(name)).unwrap();
    burn(dir.path(), &video, b"00:00 --> 00:10\nHello", &large())
        .await
        .unwrap();
    let said = probe(
        &dir.path().join("out.mp4"),
        "stream=width,height,pix_fmt,color_range,color_space,color_transfer,color_primaries,\
         field_order,sample_aspect_ratio,nb_read_packets,start_time",
    );
    (dir, said)
}

fn is(said: &HashMap<String, String>, wanted: &[(&str, &str)]) {
    for (key, value) in wanted {
        assert_eq!(said[*key], *value, "{key} of {said:?}");
    }
}

const GREY: &str = "-f lavfi -i color=gray:s=640x360:r=10:d=0.5";
const FAST: &str = "-c:v libx264 -preset ultrafast";

#[tokio::test]
async fn pictures_of_every_kind_come_out_as_players_want_them() {
    let sdr = [("pix_fmt", "yuv420p"), ("color_range", "tv")];
    let rec709 = [
        ("color_space", "bt709"),
        ("color_transfer", "bt709"),
        ("color_primaries", "bt709"),
    ];
    // Brighter than such pictures can be, with ten bits.
    let (_dir, said) = kind(
        &format!("{GREY} {FAST} -pix_fmt yuv420p10le -color_range tv -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc"),
        "hdr.mp4",
    )
    .await;
    is(&said, &sdr);
    is(&said, &rec709);
    // RGB.
    let (_dir, said) = kind(
        &format!("{GREY} -c:v libx264rgb -preset ultrafast -pix_fmt rgb24"),
        "rgb.mkv",
    )
    .await;
    is(&said, &sdr);
    is(&said, &rec709);
    // All of the range, as old cameras have it; ten bits of it; more chroma.
    for format in [
        "yuvj420p",
        "yuv422p10le -vf scale=out_range=pc -color_range pc",
        "yuv444p -color_range tv -colorspace bt709",
    ] {
        let white = GREY.replace("gray", "white");
        let (dir, said) = kind(&format!("{white} {FAST} -pix_fmt {format}"), "range.mp4").await;
        is(&said, &sdr[..1]);
        // Not said is the same as this.
        assert!(["tv", "unknown"].contains(&said["color_range"].as_str()));
        let luma = ffmpeg(dir.path(), "-i out.mp4 -vf extractplanes=y -f rawvideo -");
        assert!(
            luma[0].abs_diff(235) < 3,
            "white is {} of {format}",
            luma[0]
        );
        if format.contains("bt709") {
            is(&said, &rec709[..1]);
        }
    }
    // Sides that 4:2:0 cannot have.
    let (_dir, said) = kind(
        "-f lavfi -i color=gray:s=321x181:r=10:d=0.5 -c:v ffv1 -pix_fmt yuv444p",
        "odd.mkv",
    )
    .await;
    is(&said, &[("width", "320"), ("height", "180")]);
    // Wide pixels.
    let (_dir, said) = kind(&format!("{GREY},setsar=3/2 {FAST}"), "wide.mp4").await;
    is(
        &said,
        &[
            ("width", "960"),
            ("height", "360"),
            ("sample_aspect_ratio", "1:1"),
        ],
    );
    // Two fields a frame, of which something moves.
    let (dir, said) = kind(
        &format!("-f lavfi -i testsrc2=s=320x180:r=50:d=0.5,interlace {FAST} -flags +ilme+ildct"),
        "fields.mp4",
    )
    .await;
    let frames = times(dir.path(), "fields.mp4").len().to_string();
    is(
        &said,
        &[
            ("field_order", "progressive"),
            ("nb_read_packets", frames.as_str()),
        ],
    );
}

#[tokio::test]
async fn a_video_on_its_side_stands_upright_with_its_captions() {
    let (dir, said) = kind(&format!("{GREY} {FAST}"), "flat.mp4").await;
    is(&said, &[("width", "640"), ("height", "360")]);
    ffmpeg(
        dir.path(),
        "-i flat.mp4 -c copy -metadata:s:v rotate=90 turned.mp4",
    );
    let video = std::fs::read(dir.path().join("turned.mp4")).unwrap();
    burn(dir.path(), &video, b"00:00 --> 00:10\nHello", &large())
        .await
        .unwrap();
    let said = probe(&dir.path().join("out.mp4"), "stream=width,height");
    is(&said, &[("width", "360"), ("height", "640")]);
    let ink = inks(dir.path(), "out.mp4", (360, 640)).remove(1);
    let (columns, rows) = ink.bounds();
    assert!(
        columns.len() > rows.len() && rows.start > 500,
        "{columns:?} {rows:?}"
    );
}

/// Seconds at which each frame is shown.
fn times(dir: &Path, file: &str) -> Vec<f64> {
    let words =
        format!("-v error -select_streams v -show_entries frame=pts_time -of csv=p=0 {file}");
    let said = String::from_utf8(tool("ffprobe", dir, &words)).unwrap();
    said.lines()
        .filter_map(|line| line.trim_end_matches(',').parse().ok())
        .collect()
}

#[tokio::test]
async fn frames_keep_their_times_however_uneven() {
    let dir = tempfile::tempdir().unwrap();
    // Frames 17 ms to 83 ms apart, none on a grid.
    ffmpeg(
        dir.path(),
        &format!(
            "-f lavfi -i testsrc2=s=128x72:r=20:d=2 -vf settb=1/90000,setpts=PTS+1490*sin(N*N) {FAST} -fps_mode passthrough -enc_time_base 1:90000 -video_track_timescale 90000 uneven.mp4"
        ),
    );
    let video = std::fs::read(dir.path().join("uneven.mp4")).unwrap();
    burn(dir.path(), &video, b"00:00 --> 00:10\nHello", &large())
        .await
        .unwrap();
    let (before, after) = (
        times(dir.path(), "uneven.mp4"),
        times(dir.path(), "out.mp4"),
    );
    assert_eq!(before.len(), 40);
    let gaps = before.windows(2).map(|two| two[1] - two[0]);
    let (least, most) = gaps.fold((1.0_f64, 0.0_f64), |(a, b), gap| (a.min(gap), b.max(gap)));
    assert!(least < 0.03 && most > 0.065, "{least} {most}");
    assert_eq!(after.len(), 40);
    let shift = before[0] - after[0];
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after - shift).abs() < 0.001, "{before} {after}");
    }
}

#[tokio::test]
async fn captions_count_from_the_start_of_the_video_wherever_its_clock_stands() {
    let dir = tempfile::tempdir().unwrap();
    ffmpeg(
        dir.path(),
        &format!("-f lavfi -i color=gray:s=128x72:r=10:d=2 {FAST} -output_ts_offset 30 late.ts"),
    );
    assert!(times(dir.path(), "late.ts")[0] > 30.0);
    let video = std::fs::read(dir.path().join("late.ts")).unwrap();
    burn(
        dir.path(),
        &video,
        b"00:00:01,000 --> 00:00:01,500\nxxxx",
        &large(),
    )
    .await
    .unwrap();
    let inks = inks(dir.path(), "out.mp4", (128, 72));
    let shown: Vec<usize> = (0..inks.len()).filter(|&n| inks[n].all() > 0).collect();
    assert_eq!((inks.len(), shown), (20, vec![10, 11, 12, 13, 14]));
    assert!(times(dir.path(), "out.mp4")[0] < 0.1);
}

/// The codecs of the audio tracks of a captioned video, and whether the first one was copied.
async fn sound(words: &str, name: &str) -> (Vec<String>, bool) {
    let dir = tempfile::tempdir().unwrap();
    let tone = |hz| format!("-f lavfi -i sine=f={hz}:r=48000:d=0.5");
    let words = format!("{GREY} {} {} {words} {name}", tone(300), tone(500));
    ffmpeg(dir.path(), &words);
    let video = std::fs::read(dir.path().join(name)).unwrap();
    burn(
        dir.path(),
        &video,
        b"00:00 --> 00:10\nHello",
        &CaptionStyle::default(),
    )
    .await
    .unwrap();
    let words = "-v error -select_streams a -show_entries stream=codec_name -of csv=p=0 out.mp4";
    let said = String::from_utf8(tool("ffprobe", dir.path(), words)).unwrap();
    let packets = |file: &str| {
        ffmpeg(
            dir.path(),
            &format!("-i {file} -map 0:a:0 -c copy -f md5 -"),
        )
    };
    let copied = packets(name) == packets("out.mp4");
    let codecs = said
        .lines()
        .map(|line| line.trim_end_matches(',').to_owned());
    (codecs.filter(|codec| !codec.is_empty()).collect(), copied)
}

#[tokio::test]
async fn every_track_is_kept_and_copied_where_the_file_can_hold_it() {
    let video = format!("{FAST} -map 0:v");
    let both = "-map 1:a -map 2:a";
    let cases = [
        (
            format!("{video} {both} -c:a:0 aac -c:a:1 ac3"),
            "two.mp4",
            vec!["aac", "ac3"],
            true,
        ),
        (
            format!("{video} {both} -c:a:0 libmp3lame -c:a:1 flac"),
            "two.mkv",
            vec!["mp3", "aac"],
            true,
        ),
        (
            format!("{video} -map 1:a -c:a libopus"),
            "opus.mkv",
            vec!["aac"],
            false,
        ),
        (
            format!("{video} -map 1:a -c:a pcm_s16le"),
            "camera.mov",
            vec!["aac"],
            false,
        ),
        (
            format!("{video} -map 1:a -c:a aac"),
            "stream.ts",
            vec!["aac"],
            false,
        ),
        (video, "mute.mp4", vec![], true),
    ];
    for (words, name, codecs, copied) in cases {
        if codecs.is_empty() {
            let (dir, said) = kind(&format!("{GREY} {FAST}"), name).await;
            is(&said, &[("nb_read_packets", "5")]);
            drop(dir);
            continue;
        }
        let (said, same) = sound(&words, name).await;
        assert_eq!(said, codecs, "{name}");
        assert!(same == copied || name == "stream.ts", "{name}");
    }
}

#[tokio::test]
async fn a_track_that_nobody_decodes_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let words =
        format!("{GREY} -f lavfi -i sine=d=0.5 {FAST} -map 0 -map 1 -map 1 -c:a aac phone.mp4");
    ffmpeg(dir.path(), &words);
    let mut video = std::fs::read(dir.path().join("phone.mp4")).unwrap();
    // The second one becomes what newer phones record beside the plain sound.
    for (name, other) in [(b"mp4a", b"apac"), (b"esds", b"dapa")] {
        let at = video.windows(4).rposition(|four| four == name).unwrap();
        video[at..at + 4].copy_from_slice(other);
    }
    burn(dir.path(), &video, b"00:00 --> 00:10\nHello", &large())
        .await
        .unwrap();
    let words = "-v error -show_entries stream=codec_name -of csv=p=0 out.mp4";
    let said = String::from_utf8(tool("ffprobe", dir.path(), words)).unwrap();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["h264", "aac"]);
}
