//! The camera: which rectangle of the picture is seen in frame `n` of `N`.
//!
//! Guarantee: one function of plain numbers; the first frame is exactly at the start of the way,
//! the last exactly at its end, and no rectangle ever leaves the picture.

use photofinish_contract::request::{Motion, View};

/// How far the default zoom goes and how close pans stand, as in the old system.
pub const ZOOM_END: f64 = 1.324;

/// A rectangle in pixels of some plane; edges between pixels are whole numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Distance of the left edge.
    pub left: f64,
    /// Distance of the top edge.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// The two ends of the way, each moved so far that its view lies inside the picture.
///
/// Between them zoom and centre change in a straight line. No view in between leaves the picture:
/// the least centre that a zoom allows, `1 / (2 zoom)`, is a convex curve, and a chord of two
/// points above it stays above it.
pub fn ends(motion: &Motion) -> (View, View) {
    let view = |zoom, x, y| View { zoom, x, y };
    let wide = view(1.0, 0.5, 0.5);
    let close = view(ZOOM_END, 0.5, 0.5);
    let (near, far) = (0.5 / ZOOM_END, 1.0 - 0.5 / ZOOM_END);
    let (from, to) = match *motion {
        Motion::ZoomIn => (wide, close),
        Motion::ZoomOut => (close, wide),
        Motion::PanLeft => (view(ZOOM_END, far, 0.5), view(ZOOM_END, near, 0.5)),
        Motion::PanRight => (view(ZOOM_END, near, 0.5), view(ZOOM_END, far, 0.5)),
        Motion::PanUp => (view(ZOOM_END, 0.5, far), view(ZOOM_END, 0.5, near)),
        Motion::PanDown => (view(ZOOM_END, 0.5, near), view(ZOOM_END, 0.5, far)),
        Motion::Still => (wide, wide),
        Motion::Path { from, to } => (from, to),
    };
    (inside(from), inside(to))
}

fn inside(view: View) -> View {
    let zoom = view.zoom.max(1.0);
    let half = 0.5 / zoom;
    View {
        zoom,
        x: view.x.clamp(half, 1.0 - half),
        y: view.y.clamp(half, 1.0 - half),
    }
}

/// The closest zoom of a motion: how much detail of the source can be seen.
pub fn zoom_max(motion: &Motion) -> f64 {
    let (from, to) = ends(motion);
    from.zoom.max(to.zoom)
}

/// What frame `n` of `frames` (from 0) shows of `base`, the rectangle that zoom 1 shows.
pub fn rectangle(motion: &Motion, n: u32, frames: u32, base: Rect) -> Rect {
    let (from, to) = ends(motion);
    let t = match frames {
        0 | 1 => 0.0,
        _ => f64::from(n.min(frames - 1)) / f64::from(frames - 1),
    };
    // Exact at both ends, which `from + (to - from) * t` is not.
    let mix = |a: f64, b: f64| a * (1.0 - t) + b * t;
    let zoom = mix(from.zoom, to.zoom);
    let (width, height) = (base.width / zoom, base.height / zoom);
    let left = mix(from.x, to.x) * base.width - width / 2.0;
    let top = mix(from.y, to.y) * base.height - height / 2.0;
    Rect {
        left: base.left + left.clamp(0.0, base.width - width),
        top: base.top + top.clamp(0.0, base.height - height),
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Rect = Rect {
        left: 10.0,
        top: 20.0,
        width: 1920.0,
        height: 1080.0,
    };

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    fn all() -> Vec<Motion> {
        let corner = |zoom, x, y| View { zoom, x, y };
        vec![
            Motion::ZoomIn,
            Motion::ZoomOut,
            Motion::PanLeft,
            Motion::PanRight,
            Motion::PanUp,
            Motion::PanDown,
            Motion::Still,
            Motion::Path {
                from: corner(1.0, 0.0, 1.0),
                to: corner(4.0, 1.0, 0.0),
            },
        ]
    }

    #[test]
    fn zoom_in_begins_with_everything_and_ends_exactly_at_its_end() {
        assert_eq!(rectangle(&Motion::ZoomIn, 0, 60, BASE), BASE);
        let end = rectangle(&Motion::ZoomIn, 59, 60, BASE);
        assert!(near(end.width, 1920.0 / ZOOM_END));
        assert!(near(end.left, 10.0 + (1920.0 - 1920.0 / ZOOM_END) / 2.0));
        assert!(near(end.top, 20.0 + (1080.0 - 1080.0 / ZOOM_END) / 2.0));
        assert_eq!(rectangle(&Motion::ZoomOut, 0, 60, BASE), end);
        assert_eq!(rectangle(&Motion::ZoomOut, 59, 60, BASE), BASE);
    }

    #[test]
    fn pans_go_across_the_whole_way() {
        let (right, bottom) = (10.0 + 1920.0, 20.0 + 1080.0);
        let (first, last) = (0, 29);
        let at = |motion, n| rectangle(&motion, n, 30, BASE);
        assert!(near(at(Motion::PanRight, first).left, 10.0));
        let end = at(Motion::PanRight, last);
        assert!(near(end.left + end.width, right));
        assert!(near(at(Motion::PanLeft, last).left, 10.0));
        assert!(near(at(Motion::PanDown, first).top, 20.0));
        let end = at(Motion::PanDown, last);
        assert!(near(end.top + end.height, bottom));
        assert!(near(at(Motion::PanUp, last).top, 20.0));
    }

    #[test]
    fn no_view_leaves_the_picture_and_steps_are_even() {
        for motion in all() {
            let rects: Vec<Rect> = (0..90).map(|n| rectangle(&motion, n, 90, BASE)).collect();
            for rect in &rects {
                assert!(rect.left >= BASE.left && rect.top >= BASE.top, "{motion:?}");
                assert!(rect.left + rect.width <= BASE.left + BASE.width + 1e-9);
                assert!(rect.top + rect.height <= BASE.top + BASE.height + 1e-9);
                assert!(near(rect.width / rect.height, 1920.0 / 1080.0));
            }
            let zooms: Vec<f64> = rects.iter().map(|r| BASE.width / r.width).collect();
            for w in zooms.windows(3) {
                assert!((w[2] - 2.0 * w[1] + w[0]).abs() < 1e-9, "{motion:?}");
            }
        }
    }

    #[test]
    fn a_clip_of_one_frame_stands_at_the_start() {
        assert_eq!(rectangle(&Motion::ZoomIn, 0, 1, BASE), BASE);
    }
}
