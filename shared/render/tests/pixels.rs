//! Frames against an exact resample in f64.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use fast_image_resize::Resizer;
use image::RgbImage;
use photofinish_contract::request::{Fit, Motion};
use photofinish_kit::detailed;
use photofinish_render::camera::{self, Rect};
use photofinish_render::pump::{Shot, pump};
use photofinish_render::stage::Stage;
use tokio_util::sync::CancellationToken;

/// Planes of BT.709 limited-range values, unrounded.
fn planes(picture: &RgbImage) -> [Vec<f64>; 3] {
    let rows = [
        [0.2126, 0.7152, 0.0722, 219.0, 16.0],
        [-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5, 224.0, 128.0],
        [0.5, -0.7152 / 1.5748, -0.0722 / 1.5748, 224.0, 128.0],
    ];
    rows.map(|[r, g, b, span, offset]| {
        let value = |p: &image::Rgb<u8>| {
            let [red, green, blue] = p.0.map(f64::from);
            (r * red + g * green + b * blue) / 255.0 * span + offset
        };
        picture.pixels().map(value).collect()
    })
}

fn lanczos(x: f64) -> f64 {
    if x.abs() < 1e-12 {
        return 1.0;
    }
    if x.abs() >= 3.0 {
        return 0.0;
    }
    let p = std::f64::consts::PI * x;
    3.0 * p.sin() * (p / 3.0).sin() / (p * p)
}

/// Weights of one output sample at `centre`, each `step` source pixels wide.
fn weights(centre: f64, step: f64, size: usize) -> Vec<(usize, f64)> {
    let scale = step.max(1.0);
    let taps: Vec<(usize, f64)> = (0..size)
        .map(|n| (n, lanczos((n as f64 + 0.5 - centre) / scale)))
        .filter(|&(_, w)| w != 0.0)
        .collect();
    let sum: f64 = taps.iter().map(|&(_, w)| w).sum();
    taps.into_iter().map(|(n, w)| (n, w / sum)).collect()
}

/// Samples a plane at centres `first + n * step` on both axes.
fn exact(
    plane: &[f64],
    (w, h): (usize, usize),
    (ow, oh): (usize, usize),
    x: (f64, f64),
    y: (f64, f64),
) -> Vec<f64> {
    let across: Vec<_> = (0..ow)
        .map(|n| weights(x.0 + n as f64 * x.1, x.1, w))
        .collect();
    let down: Vec<_> = (0..oh)
        .map(|n| weights(y.0 + n as f64 * y.1, y.1, h))
        .collect();
    let rows: Vec<f64> = plane
        .chunks_exact(w)
        .flat_map(|row| {
            across
                .iter()
                .map(|t| t.iter().map(|&(n, k)| row[n] * k).sum::<f64>())
        })
        .collect();
    down.iter()
        .flat_map(|t| {
            (0..ow)
                .map(|c| t.iter().map(|&(n, k)| rows[n * ow + c] * k).sum())
                .collect::<Vec<f64>>()
        })
        .collect()
}

/// PSNR without an 8-pixel border.
fn psnr(got: &[u8], wanted: &[f64], width: usize) -> f64 {
    let height = got.len() / width;
    let mut sum = 0.0;
    let mut count = 0.0;
    for y in 8..height - 8 {
        for x in 8..width - 8 {
            let n = y * width + x;
            sum += (f64::from(got[n]) - wanted[n].clamp(0.0, 255.0)).powi(2);
            count += 1.0;
        }
    }
    10.0 * (255.0 * 255.0 / (sum / count)).log10()
}

fn film(stage: &Stage, rect: Rect) -> Vec<u8> {
    let mut frame = vec![0; stage.frame_bytes()];
    stage.film(&mut Resizer::new(), rect, &mut frame).unwrap();
    frame
}

#[test]
fn frames_are_an_exact_resample_at_their_sub_pixel_box() {
    let (ow, oh) = (320_u32, 180_u32);
    let picture = detailed(400, 225);
    let [luma, blue, red] = planes(&picture);
    let stage = Stage::set(picture, ow, oh, Fit::Cover, camera::ZOOM_END).unwrap();
    let (out, half) = ((320, 180), (160, 90));
    for (motion, n) in [Motion::ZoomIn, Motion::PanRight]
        .into_iter()
        .flat_map(|m| [(m, 0), (m, 13), (m, 29)])
    {
        let rect = camera::rectangle(&motion, n, 30, stage.base);
        let frame = film(&stage, rect);
        let (across, down) = (rect.width / f64::from(ow), rect.height / f64::from(oh));
        let start = (rect.left + across / 2.0, rect.top + down / 2.0);
        // Left-sited: at the middle of the left luma sample of the pair.
        let sited = (rect.left + across / 2.0, rect.top + down);
        let (got, rest) = frame.split_at(out.0 * out.1);
        let (got_blue, got_red) = rest.split_at(half.0 * half.1);
        let wanted = exact(&luma, (400, 225), out, (start.0, across), (start.1, down));
        let luma_db = psnr(got, &wanted, out.0);
        let chroma_db = [(got_blue, &blue), (got_red, &red)].map(|(got, plane)| {
            let steps = ((sited.0, 2.0 * across), (sited.1, 2.0 * down));
            psnr(
                got,
                &exact(plane, (400, 225), half, steps.0, steps.1),
                half.0,
            )
        });
        println!("{motion:?} {n}: Y {luma_db:.1} UV {chroma_db:.1?} dB");
        assert!(luma_db > 52.0, "{motion:?} frame {n}: {luma_db:.1} dB");
        assert!(
            chroma_db.iter().all(|&db| db > 47.0),
            "{motion:?} {n}: {chroma_db:?}"
        );
    }
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
        let stage = Stage::set(picture.clone(), 160, 160, fit, 1.0).unwrap();
        film(&stage, stage.base)
    };
    let (white, black) = (235, 16);
    let cover = still(Fit::Cover);
    assert_eq!(
        (luma_at(&cover, 160, 20, 5), luma_at(&cover, 160, 140, 155)),
        (black, white)
    );
    let contain = still(Fit::Contain);
    assert_eq!(
        (
            luma_at(&contain, 160, 140, 10),
            luma_at(&contain, 160, 140, 150)
        ),
        (black, black)
    );
    assert_eq!(
        (
            luma_at(&contain, 160, 140, 80),
            luma_at(&contain, 160, 20, 80)
        ),
        (white, black)
    );
    assert_eq!(
        (
            luma_at(&contain, 160, 140, 45),
            luma_at(&contain, 160, 140, 114)
        ),
        (white, white)
    );
    let stretch = still(Fit::Stretch);
    assert_eq!(
        (
            luma_at(&stretch, 160, 70, 5),
            luma_at(&stretch, 160, 90, 155)
        ),
        (black, white)
    );
}

#[test]
fn huge_tiny_and_thin_pictures_fill_the_frame() {
    for (w, h) in [(4000, 3000), (64, 64), (1, 1), (3000, 7), (5, 2000)] {
        for fit in [Fit::Cover, Fit::Contain, Fit::Stretch] {
            if fit == Fit::Contain && w.min(h) < 8 && w.max(h) > 8 {
                continue; // a line between two bars
            }
            let grey = RgbImage::from_pixel(w, h, image::Rgb([128; 3]));
            let stage = Stage::set(grey, 320, 180, fit, camera::ZOOM_END).unwrap();
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
fn threads_change_nothing_and_stop_at_once() {
    let make = |motion| Shot {
        stage: Stage::set(detailed(200, 120), 160, 90, Fit::Cover, 1.324).unwrap(),
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
    go.cancel();
    assert!(pump(&make(Motion::ZoomIn), 3, &mut Vec::new(), &go).is_err());
}
