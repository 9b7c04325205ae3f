//! Inputs as strangers give them: servers that misbehave, files that are not what they seem.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use photofinish_contract::attempt_input::Work;
use photofinish_contract::request::Timing;
use photofinish_model::Code;
use photofinish_outbound::{Outbound, Policy};
use photofinish_worker::error::Halt;
use photofinish_worker::operations::inputs::{Fetch, InputLimits, Inputs, Kind};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::support::{Server, detailed, ffmpeg, png, settings, studio};
use crate::videos::{audio, burn, fit, made, video};

/// A server that counts what it is asked for and answers as the name says.
#[derive(Debug, Clone, Default)]
struct Rough {
    asked: Arc<Mutex<HashMap<String, usize>>>,
    film: Bytes,
}

impl Rough {
    async fn start(film: impl Into<Bytes>) -> (String, Self) {
        let rough = Self {
            film: film.into(),
            ..Self::default()
        };
        let router = Router::new()
            .route("/{name}", get(answer))
            .with_state(rough.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (base, rough)
    }

    fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }
}

async fn answer(State(rough): State<Rough>, UrlPath(name): UrlPath<String>) -> Response {
    let asked = {
        let mut asked = rough.asked.lock().unwrap();
        let asked = asked.entry(name.clone()).or_default();
        *asked += 1;
        *asked
    };
    let film = rough.film.clone();
    // Half the film, then what `rest` does.
    let half = film.slice(..film.len() / 2);
    let half = futures_util::stream::once(async move { Ok::<_, std::io::Error>(half) });
    let sized = [(header::CONTENT_LENGTH, film.len())];
    let page = "<!doctype html><html><body>Please log in</body></html>";
    match name.as_str() {
        "recovers" if asked < 3 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "slow" => {
            // paced: so that others ask while it is under way
            tokio::time::sleep(Duration::from_millis(200)).await;
            film.into_response()
        }
        "film" | "recovers" => film.into_response(),
        "cut" => {
            let cut = async { Err(std::io::Error::other("cut")) };
            let rest = futures_util::StreamExt::chain(half, futures_util::stream::once(cut));
            (sized, Body::from_stream(rest)).into_response()
        }
        "stalls" => {
            let rest = futures_util::StreamExt::chain(half, futures_util::stream::pending());
            (sized, Body::from_stream(rest)).into_response()
        }
        "silent" => std::future::pending().await,
        "private" => Redirect::temporary("http://10.0.0.1/").into_response(),
        "file" => Redirect::temporary("file:///etc/passwd").into_response(),
        "loop" => Redirect::temporary("/loop").into_response(),
        "login" => ([(header::CONTENT_TYPE, "text/html")], page).into_response(),
        "packed" => (
            [(header::CONTENT_ENCODING, "gzip")],
            &b"\x1F\x8B\x08\0\0\0\0\0"[..],
        )
            .into_response(),
        "archive" => (&b"PK\x03\x04rest"[..]).into_response(),
        "empty" => StatusCode::OK.into_response(),
        "large" => vec![0; 2_000_000].into_response(),
        "busy" => (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn limits() -> InputLimits {
    InputLimits {
        video_bytes_max: 1_000_000,
        download_timeout: Duration::from_secs(3),
        ..settings().inputs
    }
}

fn outbound() -> Outbound {
    photofinish_runtime::install_crypto();
    Outbound::new(Policy::from_texts(&["127.0.0.0/8"]).unwrap()).unwrap()
}

fn code<T: std::fmt::Debug>(done: Result<T, Halt>) -> (Code, bool, String) {
    match done {
        Err(Halt::Fault(fault)) => (fault.fault.code, fault.permanent, fault.fault.detail),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_way_to_fail_has_its_code_and_its_time() {
    let (base, rough) = Rough::start(vec![7; 100_000]).await;
    let (outbound, limits, dir) = (outbound(), limits(), tempfile::tempdir().unwrap());
    let stop = CancellationToken::new();
    let fetch = Fetch {
        outbound: &outbound,
        limits: &limits,
        kind: Kind::Video,
        stop: &stop,
    };
    let cases = [
        ("missing", Code::InputNotFound, true, "open to everyone"),
        ("cut", Code::InputUnreachable, false, "could not be fetched"),
        ("stalls", Code::InputUnreachable, false, "too long"),
        ("silent", Code::InputUnreachable, false, "too long"),
        ("busy", Code::InputUnreachable, false, "429"),
        ("private", Code::InputRefused, true, "public"),
        ("file", Code::InputRefused, true, "public"),
        ("loop", Code::InputNotFound, true, "final address"),
        ("login", Code::NotAVideo, true, "web page"),
        ("packed", Code::NotAVideo, true, "gzip"),
        ("archive", Code::NotAVideo, true, "zip"),
        ("empty", Code::NotAVideo, true, "empty"),
        ("large", Code::InputTooLarge, true, "1000000 bytes"),
    ];
    let inputs = Inputs::default();
    let all = cases.map(|(name, expected, permanent, words)| {
        let (url, path) = (format!("{base}/{name}"), dir.path().join(name));
        let (fetch, inputs) = (&fetch, &inputs);
        async move {
            let begun = Instant::now();
            let (code, is_permanent, detail) = code(inputs.fetch(*fetch, &url, &path).await);
            assert_eq!(
                (code, is_permanent),
                (expected, permanent),
                "{name}: {detail}"
            );
            assert!(detail.contains(words), "{name}: {detail}");
            assert!(!detail.contains("127.0.0.1"), "{name}: {detail}");
            // All tries together.
            assert!(begun.elapsed() < Duration::from_secs(5), "{name}");
        }
    });
    futures_util::future::join_all(all).await;
    assert_eq!((rough.asked("missing"), rough.asked("login")), (1, 1));
    assert!(rough.asked("busy") > 1 && rough.asked("cut") > 1);
    let (url, path) = (format!("{base}/recovers"), dir.path().join("recovers"));
    inputs.fetch(fetch, &url, &path).await.unwrap();
    assert_eq!(rough.asked("recovers"), 3);
}

/// Asks several times at once for the same address.
async fn ask(base: &str, name: &str, askers: usize, kind: Kind) -> Vec<Result<Bytes, Halt>> {
    let (outbound, limits, dir) = (outbound(), limits(), tempfile::tempdir().unwrap());
    let (url, stop) = (format!("{base}/{name}"), CancellationToken::new());
    let work = dir.path().to_owned();
    let inputs = Inputs::new(work.clone(), std::iter::repeat_n(url.as_str(), askers));
    let fetch = Fetch {
        outbound: &outbound,
        limits: &limits,
        kind,
        stop: &stop,
    };
    let all = (0..askers).map(|n| {
        let (path, inputs, url) = (work.join(format!("asker-{n}")), &inputs, &url);
        async move {
            inputs.fetch(fetch, url, &path).await?;
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            Ok(Bytes::from(bytes))
        }
    });
    let answers = futures_util::future::join_all(all).await;
    let left = std::fs::read_dir(&work).unwrap().count();
    assert_eq!(left, 0, "{name}: kept for nobody");
    answers
}

#[tokio::test]
async fn the_same_address_is_fetched_once() {
    let (base, rough) = Rough::start(vec![7; 100_000]).await;
    for answer in ask(&base, "slow", 8, Kind::Video).await {
        assert_eq!(answer.unwrap(), rough.film);
    }
    assert_eq!(rough.asked("slow"), 1);
    // What will not change is asked for once as well, what may is asked for again.
    for answer in ask(&base, "missing", 5, Kind::Image).await {
        assert_eq!(code(answer).0, Code::InputNotFound);
    }
    assert_eq!(rough.asked("missing"), 1);
    let answers = ask(&base, "busy", 2, Kind::Video).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(rough.asked("busy") >= 4, "{}", rough.asked("busy"));
}

#[tokio::test]
async fn who_leaves_does_not_spoil_a_download_for_others() {
    let (base, rough) = Rough::start(vec![7; 1000]).await;
    let (outbound, limits, dir) = (outbound(), limits(), tempfile::tempdir().unwrap());
    let url = format!("{base}/slow");
    let inputs = Inputs::new(dir.path().to_owned(), [url.as_str(), url.as_str()]);
    let (leaves, stays) = (CancellationToken::new(), CancellationToken::new());
    let fetch = |stop| Fetch {
        outbound: &outbound,
        limits: &limits,
        kind: Kind::Video,
        stop,
    };
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let leave = async {
        photofinish_kit::wait_until(Duration::from_secs(5), "a request", || async {
            rough.asked("slow") == 1
        })
        .await
        .unwrap();
        leaves.cancel();
    };
    let (left, stayed, ()) = tokio::join!(
        inputs.fetch(fetch(&leaves), &url, &first),
        inputs.fetch(fetch(&stays), &url, &second),
        leave
    );
    assert_eq!(left, Err(Halt::Stopped));
    stayed.unwrap();
    assert_eq!(std::fs::read(&second).unwrap(), rough.film);
}

#[tokio::test]
async fn what_names_other_files_is_refused_whatever_it_is_called() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let secret = video(at, "secret.mp4");
    let good = server.put("v", secret.clone());
    let sound = server.put("a", audio(at, 1.0, "a.mp3"));
    let here = at.display();
    let disguised = [
        format!("#EXTM3U\n#EXTINF:2,\n{here}/secret.mp4\n#EXT-X-ENDLIST\n"),
        format!("\u{FEFF}#EXTM3U\n#EXTINF:2,\nfile://{here}/secret.mp4\n"),
        "ffconcat version 1.0\nfile secret.mp4\n".to_owned(),
        format!("file '{here}/secret.mp4'\n"),
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"><Period/></MPD>"
            .to_owned(),
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n"
            .to_owned(),
        format!("[playlist]\nFile1={here}/secret.mp4\nNumberOfEntries=1\n"),
        "1\n00:00:00,000 --> 00:00:01,000\n../../etc/passwd\n".to_owned(),
        "[Script Info]\nScriptType: v4.00+\n".to_owned(),
        "GIF89a".to_owned(),
    ];
    let out = tempfile::tempdir().unwrap();
    for (n, text) in disguised.iter().enumerate() {
        let url = server.put(&format!("{n}.mp4"), text.clone());
        let as_video = code(fit(&studio, out.path(), &url, &sound, Timing::Auto).await);
        assert_eq!((as_video.0, as_video.1), (Code::NotAVideo, true), "{text}");
        let url = server.put(&format!("{n}.mp3"), text.clone());
        let as_audio = code(fit(&studio, out.path(), &good, &url, Timing::Auto).await);
        assert_eq!((as_audio.0, as_audio.1), (Code::NotAudio, true), "{text}");
    }
    let script = server.put("concat.srt", "ffconcat version 1.0\nfile other.srt\n");
    let refused = code(burn(&studio, out.path(), &good, &script).await);
    assert_eq!((refused.0, refused.1), (Code::NotCaptions, true));
    assert!(!out.path().join("out.mp4").exists());
}

#[tokio::test]
async fn damaged_and_absurd_files_are_refused_early() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let whole = video(at, "v.mp4");
    let (good, sound) = (
        server.put("v", whole.clone()),
        server.put("a", audio(at, 1.0, "a.mp3")),
    );
    let wide = "-f lavfi -i color=s=8200x16:r=5:d=1 -c:v libx264 -preset ultrafast wide.mp4";
    let area = "-f lavfi -i color=s=7000x7000:r=1 -frames:v 1 -c:v mpeg4 area.mp4";
    let videos = [
        ("cut", whole[..2000].to_vec(), Code::NotAVideo),
        (
            "half",
            made(at, "-i v.mp4 -an -c copy h.mkv")[..300].to_vec(),
            Code::NotAVideo,
        ),
        ("wide", made(at, wide), Code::NotAVideo),
        ("area", made(at, area), Code::NotAVideo),
        (
            "sound",
            std::fs::read(at.join("a.mp3")).unwrap(),
            Code::NotAVideo,
        ),
        (
            "days",
            made(at, "-itsscale 36000 -i v.mp4 -an -c copy days.mp4"),
            Code::InputTooLarge,
        ),
        (
            "rapid",
            made(at, "-itsscale 0.01 -i v.mp4 -an -c copy rapid.mp4"),
            Code::NotAVideo,
        ),
        (
            "random",
            (0..9000_u32).map(|n| (n * n / 7) as u8).collect(),
            Code::NotAVideo,
        ),
    ];
    let out = tempfile::tempdir().unwrap();
    for (name, bytes, expected) in videos {
        let url = server.put(name, bytes);
        let refused = code(fit(&studio, out.path(), &url, &sound, Timing::Auto).await);
        assert_eq!(
            (refused.0, refused.1),
            (expected, true),
            "{name}: {}",
            refused.2
        );
    }
    let mute = server.put("mute", made(at, "-i v.mp4 -an -c copy mute.mp4"));
    let refused = code(fit(&studio, out.path(), &good, &mute, Timing::Auto).await);
    assert_eq!((refused.0, refused.1), (Code::NotAudio, true));
    let long = made(at, "-stream_loop 60 -i a.mp3 -c copy long.wav.mp3");
    let brief = made(at, "-i v.mp4 -frames:v 1 -an brief.mp4");
    let (long, brief) = (server.put("l", long), server.put("b", brief));
    let refused = code(fit(&studio, out.path(), &brief, &long, Timing::Auto).await);
    assert_eq!((refused.0, refused.1), (Code::InputTooLarge, true));
    assert!(refused.2.contains("times as long"), "{}", refused.2);
    assert!(!out.path().join("out.mp4").exists());
}

#[tokio::test]
async fn a_picture_that_several_items_show_is_fetched_once_in_an_attempt() {
    let bench = Bench::start().await;
    let (base, rough) = Rough::start(png(&detailed(64, 64))).await;
    let mut input = bench.input(&["a", "b", "c"]);
    let Work::Img2vid { items, .. } = &mut input.work else {
        panic!("pictures");
    };
    for item in items {
        item.image_url = format!("{base}/slow");
    }
    let run = bench.run(input);
    for output in run.outputs(3).await {
        bench.fetch(&output).await;
    }
    run.ended().await;
    assert_eq!(rough.asked("slow"), 1);
    bench.nothing_left();
}

/// The MP4's first data reference, of any length, made one to another file.
fn pointing_to(mp4: &[u8], path: &str) -> Vec<u8> {
    // QuickTime's alias: volume and file name in fixed fields, then the path with colons.
    let mut alias = vec![0; 10];
    alias.extend([0; 28]);
    alias.extend([0; 12]);
    alias.extend([0; 64]);
    alias.extend([0; 16]);
    alias.extend([0, 0, 0, 0]);
    alias.extend([0; 16]);
    let mut name = path.replace('/', ":").into_bytes();
    alias.extend([0, 2]);
    alias.extend((name.len() as u16).to_be_bytes());
    name.resize(name.len().next_multiple_of(2), 0);
    alias.extend(name);
    alias.extend([0xFF, 0xFF, 0, 0]);
    alias.resize(alias.len().max(160), 0);
    let mut entry = ((alias.len() + 12) as u32).to_be_bytes().to_vec();
    entry.extend(b"alis\0\0\0\0");
    entry.extend(alias);
    let find = |what: &[u8], from: usize| {
        let found = mp4[from..].windows(4).position(|window| window == what);
        from + found.unwrap() - 4
    };
    let mut boxes = vec![find(b"moov", 0)];
    for name in [b"trak", b"mdia", b"minf", b"dinf", b"dref"] {
        boxes.push(find(name, boxes[boxes.len() - 1]));
    }
    let size = |at: usize| u32::from_be_bytes(mp4[at..at + 4].try_into().unwrap());
    let (old_from, dref) = (boxes[5] + 16, boxes[5]);
    let old_to = dref + size(dref) as usize;
    let grown = entry.len() as u32 - (old_to - old_from) as u32;
    let mut changed = mp4.to_vec();
    for at in boxes {
        changed[at..at + 4].copy_from_slice(&(size(at) + grown).to_be_bytes());
    }
    changed.splice(old_from..old_to, entry);
    changed
}

#[tokio::test]
async fn a_file_that_points_to_another_one_never_shows_it() {
    let (server, studio) = (Server::start().await, studio());
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    // The index lies behind the data, so that what is put into it moves nothing.
    let secret = made(
        at,
        "-f lavfi -i testsrc2=s=160x90:r=30:d=1 -c:v libx264 secret.mp4",
    );
    let secret_path = at.join("secret.mp4");
    let evil = pointing_to(&secret, secret_path.to_str().unwrap());
    // Without its own data: all that it could show is the other's.
    let data = secret
        .windows(4)
        .position(|window| window == b"mdat")
        .unwrap()
        + 4;
    let moov = evil
        .windows(4)
        .position(|window| window == b"moov")
        .unwrap()
        - 4;
    let mut evil = evil;
    evil[data..moov].fill(0);
    std::fs::write(at.join("evil.mp4"), &evil).unwrap();
    let pictures = |words: &str| ffmpeg(at, &format!("{words} -map 0:v -f md5 -"));
    let shown = pictures("-enable_drefs 1 -use_absolute_path 1 -i evil.mp4");
    assert_eq!(shown, pictures("-i secret.mp4"), "the trap is a real one");
    let sound = server.put("a", audio(at, 1.0, "a.mp3"));
    let url = server.put("evil", evil);
    let out = tempfile::tempdir().unwrap();
    for timing in [Timing::Auto, Timing::Reencode] {
        drop(fit(&studio, out.path(), &url, &sound, timing).await);
        let made = out.path().join("out.mp4");
        if made.exists() {
            let bytes = std::fs::read(&made).unwrap();
            let frame = &secret[data + 1000..data + 1100];
            assert!(!bytes.windows(frame.len()).any(|window| window == frame));
            std::fs::remove_file(&made).unwrap();
        }
    }
}
