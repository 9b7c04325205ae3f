use std::path::PathBuf;

use super::*;

const QUARTERS: [[u8; 3]; 4] = [[220, 40, 30], [40, 170, 60], [30, 60, 200], [230, 210, 70]];

fn shipped(name: &str) -> Vec<u8> {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/render/tests/zoo");
    std::fs::read(zoo.join(name)).unwrap()
}

/// Develops a file of these bytes; the directory must hold nothing else afterwards.
async fn develop(bytes: &[u8]) -> Result<RgbImage, Halt> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("image"), bytes).unwrap();
    let stop = CancellationToken::new();
    let room = Darkroom {
        ffmpeg: "ffmpeg",
        dir: dir.path(),
        stop: &stop,
    };
    let seen = room.develop("image").await;
    if seen.is_ok() {
        let left: Vec<PathBuf> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(left, [dir.path().join("image")]);
    }
    seen
}

async fn shows(name: &str, size: (u32, u32), expected: [[u8; 3]; 4], tolerance: u8) {
    let picture = develop(&shipped(name)).await.unwrap();
    let (w, h) = picture.dimensions();
    assert_eq!((w, h), size, "{name}");
    let seen =
        [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| picture.get_pixel(w * x / 4, h * y / 4).0);
    for (seen, expected) in seen.iter().zip(expected) {
        let good = seen
            .iter()
            .zip(expected)
            .all(|(&a, b)| a.abs_diff(b) <= tolerance);
        assert!(good, "{name}: {seen:?} instead of {expected:?}");
    }
}

fn refused(result: Result<RgbImage, Halt>) -> (Code, String) {
    match result {
        Err(Halt::Fault(fault)) => {
            assert!(fault.permanent);
            (fault.fault.code, fault.fault.detail)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn avif_in_every_coding_of_colour() {
    for name in [
        "plain.avif",
        "full444.avif",
        "limited.avif",
        "ten.avif",
        "animated.avif",
    ] {
        shows(name, (64, 48), QUARTERS, 6).await;
    }
    // Made with another matrix and little colour resolution.
    shows("bt709.avif", (64, 48), QUARTERS, 10).await;
}

#[tokio::test]
async fn avif_with_alpha_lies_on_black() {
    // Alpha 255, 128, 0, 255.
    let on_black = [QUARTERS[0], [20, 85, 30], [0; 3], QUARTERS[3]];
    shows("alpha.avif", (64, 48), on_black, 8).await;
}

#[tokio::test]
async fn avif_of_tiles_turned_and_mirrored() {
    let [a, b, c, d] = QUARTERS;
    // Tiles of 64 x 64, of which 120 x 90 are shown.
    shows("grid.avif", (120, 90), [a, b, c, d], 4).await;
    // A quarter turn against the clock.
    shows("grid_turned.avif", (90, 120), [b, d, a, c], 4).await;
    shows("grid_mirrored.avif", (120, 90), [b, a, d, c], 4).await;
    // The edge between the tiles is where it should be.
    let picture = develop(&shipped("grid.avif")).await.unwrap();
    let near = |x, y, colour: [u8; 3]| {
        let pixel = picture.get_pixel(x, y).0;
        assert!(
            pixel.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) < 5),
            "{x},{y}: {pixel:?}"
        );
    };
    for (x, y, colour) in [
        (63, 63, a),
        (64, 63, b),
        (63, 64, c),
        (64, 64, d),
        (119, 89, d),
    ] {
        near(x, y, colour);
    }
    // EXIF is not what turns an AVIF.
    shows("turned.avif", (48, 64), [c, a, d, b], 6).await;
}

#[tokio::test]
async fn other_pictures_are_developed_too() {
    shows("lossless.webp", (64, 48), QUARTERS, 0).await;
    shows("interlaced.png", (64, 48), QUARTERS, 0).await;
    shows("baseline420.jpg", (64, 48), QUARTERS, 4).await;
}

#[tokio::test]
async fn an_avif_that_lies_about_its_size_is_refused() {
    let mut bytes = shipped("plain.avif");
    let at = bytes.windows(4).position(|w| w == b"ispe").unwrap();
    // Larger than it says: not even decoded. Smaller: too few bytes.
    for (width, words) in [(32, "damaged"), (128, "damaged")] {
        bytes[at + 8..at + 12].copy_from_slice(&u32::to_be_bytes(width));
        let (code, detail) = refused(develop(&bytes).await);
        assert_eq!(code, Code::NotAnImage);
        assert!(detail.contains(words), "{detail}");
    }
    bytes[at + 8..at + 12].copy_from_slice(&u32::to_be_bytes(60_000));
    let (code, detail) = refused(develop(&bytes).await);
    assert_eq!(code, Code::InputTooLarge);
    assert!(detail.contains("60000x48"), "{detail}");
}

#[tokio::test]
async fn an_avif_that_is_cut_off_or_broken_is_refused() {
    let whole = shipped("grid.avif");
    for cut in [40, 200, whole.len() / 2, whole.len() - 1] {
        let (code, _) = refused(develop(&whole[..cut]).await);
        assert_eq!(code, Code::NotAnImage, "cut at {cut}");
    }
    let mut broken = shipped("plain.avif");
    let at = broken.windows(4).position(|w| w == b"mdat").unwrap();
    broken[at + 4..].fill(0xA5);
    let (code, detail) = refused(develop(&broken).await);
    assert_eq!(code, Code::NotAnImage);
    assert!(detail.contains("save it anew"), "{detail}");
}

#[tokio::test]
async fn what_is_no_picture_is_refused_with_what_to_do() {
    let cases: [(&[u8], &str); 4] = [
        (b"<!doctype html><title>Log in", "web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "save it as JPEG"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "AVIF picture"),
        (b"ffconcat version 1.0\nfile other.avif\n", "AVIF picture"),
    ];
    for (bytes, words) in cases {
        let (code, detail) = refused(develop(bytes).await);
        assert_eq!(code, Code::NotAnImage);
        assert!(detail.contains(words), "{detail}");
    }
    let cut = shipped("baseline420.jpg");
    let (code, detail) = refused(develop(&cut[..cut.len() / 2]).await);
    assert_eq!((code, detail.contains("cut off")), (Code::NotAnImage, true));
}

#[tokio::test]
async fn a_decoder_that_panics_spoils_its_own_picture_only() {
    let broken = blocking(|| -> Result<(), Halt> { panic!("a decoder's bug") }).await;
    let Err(Halt::Fault(fault)) = broken else {
        panic!("{broken:?}");
    };
    assert_eq!(fault.fault.code, Code::NotAnImage);
}

#[tokio::test]
async fn the_end_of_the_work_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("image"), shipped("plain.avif")).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let room = Darkroom {
        ffmpeg: "ffmpeg",
        dir: dir.path(),
        stop: &stop,
    };
    assert_eq!(room.develop("image").await, Err(Halt::Stopped));
}
