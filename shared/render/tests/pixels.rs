//! Frames against an exact resample in f64.

use image::RgbImage;
use photofinish_contract::request::{Fit, Motion, View};
use photofinish_kit::exact::{self, Steps};
use photofinish_kit::{detailed, dots};
use photofinish_render::camera::{self, Rect};
use photofinish_render::kernel::Simd;
use photofinish_render::pump::{Shot, pump};
use photofinish_render::stage::{Aim, Stage};
use tokio_util::sync::CancellationToken;

fn film(stage: &Stage, rect: Rect) -> Vec<u8> {
    let mut camera = stage.camera();
    let mut aim = Aim::default();
    aim.set(stage, rect);
    let bands = stage.bands();
    let mut frame = Vec::new();
    for band in &bands {
        let mut out = vec![0; band.bytes()];
        camera.film(stage, &aim, band, &mut out);
        frame.extend(out);
    }
    frame
}

/// Decibels of the three planes of a frame against an exact resample of `picture` at `rect`.
fn decibels(picture: &RgbImage, rect: Rect, size: (usize, usize), frame: &[u8]) -> [f64; 3] {
    let (width, height) = size;
    let (across, down) = (rect.width / width as f64, rect.height / height as f64);
    let steps = |first, step, len| Steps { first, step, len };
    let luma = (
        steps(rect.left + across / 2.0, across, width),
        steps(rect.top + down / 2.0, down, height),
    );
    // Left-sited: at the middle of the left luma sample of the pair.
    let chroma = (
        steps(rect.left + across / 2.0, 2.0 * across, width / 2),
        steps(rect.top + down, 2.0 * down, height / 2),
    );
    let (bright, colour) = frame.split_at(width * height);
    let (blue, red) = colour.split_at(width * height / 4);
    let [exact_luma, exact_blue, exact_red] = exact::planes(picture);
    [
        exact_luma.resampled(luma.0, luma.1).psnr(bright, 8),
        exact_blue.resampled(chroma.0, chroma.1).psnr(blue, 8),
        exact_red.resampled(chroma.0, chroma.1).psnr(red, 8),
    ]
}

#[test]
fn frames_are_an_exact_resample_at_their_sub_pixel_box() {
    let kept = detailed(400, 225);
    // Twice what can be seen: reduced once before.
    let reduced = detailed(848, 477);
    for (picture, motion, n, least) in [
        (&kept, Motion::ZoomIn, 0, (55.0, 52.0)),
        (&kept, Motion::ZoomIn, 13, (55.0, 52.0)),
        (&kept, Motion::ZoomIn, 29, (55.0, 52.0)),
        (&kept, Motion::PanRight, 13, (55.0, 52.0)),
        (&reduced, Motion::PanRight, 13, (50.0, 50.0)),
    ] {
        let stage = Stage::set(picture, 320, 180, Fit::Cover, camera::ZOOM_END);
        let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
        let whole = Rect {
            left: 0.0,
            top: 0.0,
            width,
            height,
        };
        let rect = camera::rectangle(&motion, n, 30, whole);
        let frame = film(&stage, camera::rectangle(&motion, n, 30, stage.base));
        let db = decibels(picture, rect, (320, 180), &frame);
        println!("{width}: {motion:?} {n}: {db:.1?} dB");
        assert!(db[0] > least.0, "{width}: {motion:?} {n}: {db:.1?} dB");
        assert!(
            db[1].min(db[2]) > least.1,
            "{width}: {motion:?} {n}: {db:.1?} dB"
        );
    }
}

#[test]
fn all_instructions_make_the_same_frames() {
    let picture = detailed(500, 300);
    let path = Motion::Path {
        from: View {
            zoom: 1.0,
            x: 0.5,
            y: 0.5,
        },
        to: View {
            zoom: 3.7,
            x: 0.9,
            y: 0.2,
        },
    };
    for motion in [Motion::ZoomIn, path] {
        let zoom = camera::zoom_max(&motion);
        for fit in [Fit::Cover, Fit::Contain] {
            let frames: Vec<Vec<u8>> = Simd::all()
                .iter()
                .map(|&simd| Shot {
                    stage: Stage::set_with(simd, &picture, 96, 160, fit, zoom),
                    motion,
                    frames: 3,
                })
                .map(|shot| (0..3).flat_map(|n| shot.frame(n)).collect())
                .collect();
            assert!(
                frames.iter().all(|other| *other == frames[0]),
                "{motion:?} {fit:?}"
            );
        }
    }
}

#[test]
fn dots_move_as_smoothly_as_the_camera() {
    let (w, h) = (960, 540);
    let stage = Stage::set(&dots::dotted(w, h), w, h, Fit::Cover, camera::ZOOM_END);
    let (mut square, mut worst, mut count) = (0.0, 0.0_f64, 0.0);
    let mut before: Vec<f64> = Vec::new();
    for n in 0..60 {
        let rect = camera::rectangle(&Motion::ZoomIn, n, 60, stage.base);
        let frame = film(&stage, rect);
        let mut from_middle = Vec::new();
        for (x, y) in dots::dots(w, h) {
            let place =
                |at: f64, from: f64, length: f64, size: u32| (at - from) / length * f64::from(size);
            let ideal = (
                place(x, rect.left, rect.width, w),
                place(y, rect.top, rect.height, h),
            );
            let inside = ideal.0 > 20.0 && ideal.0 < 940.0 && ideal.1 > 20.0 && ideal.1 < 520.0;
            if !inside {
                from_middle.push(f64::NAN);
                continue;
            }
            let (left, top) = dots::centre(&frame, w as usize, ideal, 16);
            let off = (left - ideal.0).hypot(top - ideal.1);
            (square, worst, count) = (square + off * off, worst.max(off), count + 1.0);
            from_middle.push((left - 480.0).hypot(top - 270.0));
        }
        let back = before
            .iter()
            .zip(&from_middle)
            .filter(|(a, b)| b < a)
            .count();
        assert_eq!(back, 0, "dots that went back at frame {n}");
        before = from_middle;
    }
    let rms = f64::sqrt(square / count);
    println!("jitter: {rms:.4} px RMS, {worst:.4} px at most");
    assert!(
        rms <= 0.02 && worst <= 0.06,
        "{rms:.4} RMS, {worst:.4} at most"
    );
}

/// The middle luma value of the four corners' and the centre's neighbourhood.
fn luma_at(frame: &[u8], width: usize, x: usize, y: usize) -> u8 {
    frame[y * width + x]
}

#[test]
fn fits_do_what_they_say() {
    // White picture with a black left half, twice as wide as high.
    let picture = RgbImage::from_fn(400, 200, |x, _| {
        image::Rgb([if x < 200 { 0 } else { 255 }; 3])
    });
    let still = |fit| {
        let stage = Stage::set(&picture, 160, 160, fit, 1.0);
        film(&stage, stage.base)
    };
    let (white, black) = (235, 16);
    let across = |frame: &[u8], y: usize| -> Vec<u8> {
        [20, 78, 81, 140].map(|x| luma_at(frame, 160, x, y)).into()
    };
    let near = |seen: &[u8], wanted: &[u8]| {
        // Within the ripple of an edge two pixels off.
        let near = seen.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) < 24);
        assert!(near, "{seen:?} instead of {wanted:?}");
    };
    // The middle of the picture is in the middle of the frame.
    let halves = [black, black, white, white];
    for (fit, rows) in [
        (Fit::Cover, 0..160),
        (Fit::Stretch, 0..160),
        (Fit::Contain, 41..119),
    ] {
        let frame = still(fit);
        for y in 0..160 {
            match y {
                y if rows.contains(&y) => near(&across(&frame, y), &halves),
                y if rows.contains(&(y + 2)) || rows.contains(&y.saturating_sub(2)) => {}
                y => near(&across(&frame, y), &[black; 4]),
            }
        }
    }
}

#[test]
fn huge_tiny_and_thin_pictures_fill_the_frame() {
    for (w, h) in [(4000, 3000), (64, 64), (1, 1), (3000, 7), (5, 2000)] {
        for fit in [Fit::Cover, Fit::Contain, Fit::Stretch] {
            if fit == Fit::Contain && w.min(h) < 8 && w.max(h) > 8 {
                continue; // a line between two bars
            }
            let grey = RgbImage::from_pixel(w, h, image::Rgb([128; 3]));
            let stage = Stage::set(&grey, 320, 180, fit, camera::ZOOM_END);
            for n in [0, 5, 9] {
                let rect = camera::rectangle(&Motion::ZoomIn, n, 10, stage.base);
                let frame = film(&stage, rect);
                let middle = luma_at(&frame, 320, 160, 90);
                assert!(
                    middle.abs_diff(126) <= 1,
                    "{w}x{h} {fit:?} frame {n}: {middle}"
                );
                assert!(frame[320 * 180..].iter().all(|c| c.abs_diff(128) <= 1));
            }
        }
    }
}

#[test]
fn threads_change_nothing_and_stop_when_told_or_not_read() {
    let make = |motion| Shot {
        stage: Stage::set(&detailed(200, 120), 160, 90, Fit::Cover, 1.324),
        motion,
        frames: 17,
    };
    let go = CancellationToken::new();
    for motion in [Motion::ZoomOut, Motion::Still] {
        let shot = make(motion);
        let (mut one, mut many) = (Vec::new(), Vec::new());
        pump(&shot, 1, &mut one, &go).unwrap();
        pump(&shot, 5, &mut many, &go).unwrap();
        assert_eq!(one.len(), 17 * shot.stage.frame_bytes());
        assert!(one == many, "{motion:?}");
    }
    let stopped = CancellationToken::new();
    stopped.cancel();
    for (motion, threads) in [(Motion::ZoomIn, 3), (Motion::ZoomIn, 1), (Motion::Still, 3)] {
        let shot = make(motion);
        let filmed = pump(&shot, threads, &mut Vec::new(), &stopped);
        assert!(filmed.is_err(), "{motion:?} {threads}");
        // A reader that goes away in the third frame: threads that wait for it would wait for ever.
        let mut room = vec![0; shot.stage.frame_bytes() * 5 / 2];
        let filmed = pump(&shot, threads, &mut room.as_mut_slice(), &go);
        assert!(filmed.is_err(), "{motion:?} {threads}");
    }
}

/// Frames of a few small bands: threads run many frames apart, and none waits for another that waits for it.
#[test]
fn many_threads_film_tiny_frames_in_order() {
    let shot = Shot {
        stage: Stage::set(&detailed(90, 80), 64, 64, Fit::Cover, 1.324),
        motion: Motion::ZoomIn,
        frames: 600,
    };
    let go = CancellationToken::new();
    let mut one = Vec::new();
    pump(&shot, 1, &mut one, &go).unwrap();
    assert_eq!(one.len(), 600 * shot.stage.frame_bytes());
    for threads in [2, 16, 48] {
        let mut many = Vec::new();
        pump(&shot, threads, &mut many, &go).unwrap();
        assert!(one == many, "{threads} threads");
    }
}
