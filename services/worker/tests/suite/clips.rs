//! img2vid, from an address to a file.

use photofinish_contract::attempt_input::PictureItem;
use photofinish_contract::request::{Fit, Motion};
use photofinish_model::Code;
use photofinish_worker::error::Halt;
use photofinish_worker::media::rate::Rate;
use photofinish_worker::operations::Made;
use photofinish_worker::operations::img2vid::{self, ClipFormat};
use photofinish_worker::operations::inputs::Inputs;
use photofinish_worker::operations::progress::Progress;
use photofinish_worker::operations::studio::Studio;
use photofinish_worker::operations::video::Desk;
use tokio_util::sync::CancellationToken;

use crate::support::{Server, detailed, ffmpeg, png, probe, studio};

fn format(fps: f64) -> ClipFormat {
    ClipFormat {
        rate: Rate::of(fps),
        width: 320,
        height: 180,
        fit: Fit::Cover,
        items: 1,
        nth: 0,
    }
}

fn picture(url: &str) -> PictureItem {
    PictureItem {
        index: 0,
        item: "a".to_owned(),
        image_url: url.to_owned(),
        frames: 37,
        motion: Motion::ZoomIn,
    }
}

async fn clip(studio: &Studio, url: &str, dir: &std::path::Path) -> Result<Made, Halt> {
    clip_at(29.97, studio, url, dir).await
}

async fn clip_at(
    fps: f64,
    studio: &Studio,
    url: &str,
    dir: &std::path::Path,
) -> Result<Made, Halt> {
    let stop = CancellationToken::new();
    let desk = Desk {
        studio,
        inputs: &Inputs::default(),
        dir,
        stop: &stop,
        progress: &Progress::default(),
    };
    img2vid::clip(desk, format(fps), &picture(url), &dir.join("out.mp4")).await
}

#[tokio::test]
async fn a_clip_has_the_frames_size_rate_and_tags_asked_for() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let url = server.put("a", png(&detailed(640, 480)));
    let made = clip(&studio, &url, dir.path()).await.unwrap();
    assert!((made.duration_s - 37.0 * 1.001 / 30.0).abs() < 1e-9);
    let out = dir.path().join("out.mp4");
    assert!(!dir.path().join("out.part").exists());
    let said = probe(&out, "stream:format=duration,nb_streams");
    let is = |key: &str, value: &str| assert_eq!(said[key], value, "{key}");
    is("codec_name", "h264");
    is("nb_read_packets", "37");
    is("width", "320");
    is("height", "180");
    is("avg_frame_rate", "30000/1001");
    is("pix_fmt", "yuv420p");
    is("color_space", "bt709");
    is("color_primaries", "bt709");
    is("color_transfer", "bt709");
    is("color_range", "tv");
    is("chroma_location", "left");
    is("nb_streams", "1");
    // +faststart: the index lies before the pictures.
    let bytes = std::fs::read(&out).unwrap();
    let at = |what: &[u8]| bytes.windows(4).position(|w| w == what).unwrap();
    assert!(at(b"moov") < at(b"mdat"));
    let frames = ffmpeg(dir.path(), "-i out.mp4 -f rawvideo -");
    assert_eq!(frames.len(), 37 * 320 * 180 * 3 / 2);
}

#[tokio::test]
async fn each_bad_picture_has_its_code_and_says_what_to_do() {
    let (server, studio) = (Server::start().await, studio());
    let whole = png(&detailed(64, 64));
    let cases = [
        (server.url("missing"), Code::InputNotFound, true),
        (
            server.put("html", "<html>not found</html>"),
            Code::NotAnImage,
            true,
        ),
        (
            server.put("list", "#EXTM3U\n/etc/passwd\n"),
            Code::NotAnImage,
            true,
        ),
        (
            server.put("cut", whole[..whole.len() / 2].to_vec()),
            Code::NotAnImage,
            true,
        ),
        (
            server.put("large", vec![0; 8_000_001]),
            Code::InputTooLarge,
            true,
        ),
        (
            "http://169.254.169.254/latest".to_owned(),
            Code::InputRefused,
            true,
        ),
        (
            "http://127.0.0.1:9/".to_owned(),
            Code::InputUnreachable,
            false,
        ),
        ("file:///etc/passwd".to_owned(), Code::InputRefused, true),
    ];
    for (url, code, permanent) in cases {
        let dir = tempfile::tempdir().unwrap();
        let Err(Halt::Fault(fault)) = clip(&studio, &url, dir.path()).await else {
            panic!("{url} gave no fault");
        };
        assert_eq!(
            (fault.fault.code, fault.permanent),
            (code, permanent),
            "{url}: {fault}"
        );
        assert!(fault.fault.detail.len() > 20 && !fault.fault.detail.contains(&server.base));
        assert!(!dir.path().join("out.mp4").exists());
    }
}

#[tokio::test]
async fn a_stop_ends_a_clip_at_once() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let item = PictureItem {
        frames: 100_000,
        ..picture(&server.put("a", png(&detailed(640, 360))))
    };
    let out = dir.path().join("out.mp4");
    let progress = Progress::default();
    let desk = Desk {
        studio: &studio,
        inputs: &Inputs::default(),
        dir: dir.path(),
        stop: &stop,
        progress: &progress,
    };
    let making = img2vid::clip(desk, format(29.97), &item, &out);
    let stopping = async {
        let part = dir.path().join("out.part");
        photofinish_kit::wait_until(std::time::Duration::from_secs(20), "encoding", || async {
            part.exists()
        })
        .await
        .unwrap();
        stop.cancel();
        std::time::Instant::now()
    };
    let (made, stopped_at) = tokio::join!(making, stopping);
    assert_eq!(made, Err(Halt::Stopped));
    // To its end it would take minutes.
    assert!(stopped_at.elapsed() < std::time::Duration::from_secs(10));
    assert!(!out.exists());
}

#[tokio::test]
async fn a_clip_has_exactly_the_rate_that_was_meant() {
    let (server, studio) = (Server::start().await, studio());
    let url = server.put("a", png(&detailed(64, 64)));
    let rates = [
        (23.976, "24000/1001"),
        (59.94, "60000/1001"),
        (12.5, "25/2"),
        (7.25, "29/4"),
        (1.0, "1/1"),
    ];
    for (fps, rate) in rates {
        let dir = tempfile::tempdir().unwrap();
        let made = clip_at(fps, &studio, &url, dir.path()).await.unwrap();
        let out = dir.path().join("out.mp4");
        let said = probe(
            &out,
            "stream=r_frame_rate,avg_frame_rate,nb_frames,duration",
        );
        assert_eq!(
            (
                said["r_frame_rate"].as_str(),
                said["avg_frame_rate"].as_str()
            ),
            (rate, rate)
        );
        assert_eq!(said["nb_frames"], "37", "{fps}");
        let seconds: f64 = said["duration"].parse().unwrap();
        assert!((seconds - made.duration_s).abs() < 1e-4, "{fps}: {seconds}");
    }
}
