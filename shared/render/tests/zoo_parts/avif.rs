//! AVIF taken apart and put together; its frames are decoded by others.

use photofinish_render::decode::DecodeError;
use photofinish_render::decode::avif::Still;

use super::{QUARTERS, shipped};

#[test]
fn a_plain_still_is_one_tile() {
    let still = Still::read(&shipped("plain.avif")).unwrap();
    assert_eq!(
        (still.colour.tile_width, still.colour.tile_height),
        (64, 48)
    );
    assert_eq!((still.colour.tiles(), still.alpha.is_some()), (1, false));
    let coding = still.coding.unwrap();
    assert_eq!((coding.matrix, coding.full_range), (6, true));
    let ivf = still.colour.ivf();
    assert!(ivf.starts_with(b"DKIF\0\0\x20\0AV01\x40\0\x30\0"));
    // One frame, as long as it says.
    let frame = u32::from_le_bytes(*ivf[32..].first_chunk().unwrap()) as usize;
    assert_eq!(ivf.len(), 32 + 12 + frame);
    let picture = still.assemble(vec![7; 64 * 48 * 3], None).unwrap();
    assert_eq!(
        (picture.dimensions(), picture.get_pixel(63, 47).0),
        ((64, 48), [7; 3])
    );
}

#[test]
fn alpha_is_a_sheet_of_its_own() {
    let still = Still::read(&shipped("alpha.avif")).unwrap();
    assert_eq!(still.alpha.as_ref().unwrap().tiles(), 1);
    let mut alpha = vec![255; 64 * 48];
    alpha[0] = 128;
    let picture = still.assemble(vec![200; 64 * 48 * 3], Some(alpha)).unwrap();
    assert_eq!(
        (picture.get_pixel(0, 0).0, picture.get_pixel(1, 0).0),
        ([100; 3], [200; 3])
    );
}

#[test]
fn a_grid_is_put_together_and_cut_at_its_edges() {
    let still = Still::read(&shipped("grid_turned.avif")).unwrap();
    assert_eq!((still.colour.tiles(), still.colour.tile_width), (4, 64));
    let tiles: Vec<u8> = QUARTERS
        .iter()
        .flat_map(|colour| colour.repeat(64 * 64))
        .collect();
    let picture = still.assemble(tiles.clone(), None).unwrap();
    // 120 x 90, turned against the clock: what was on the right is above.
    assert_eq!(picture.dimensions(), (90, 120));
    let [a, b, c, d] = QUARTERS;
    for (x, y, colour) in [
        (0, 0, b),
        (63, 55, b),
        (63, 56, a),
        (64, 55, d),
        (89, 119, c),
    ] {
        assert_eq!(picture.get_pixel(x, y).0, colour, "{x},{y}");
    }
    let short = still.assemble(tiles[1..].to_vec(), None);
    assert!(matches!(short, Err(DecodeError::Damaged { .. })));
}

#[test]
fn hdr_and_cropped_ones_are_refused() {
    let mut bytes = shipped("plain.avif");
    let at = bytes.windows(4).position(|w| w == b"nclx").unwrap();
    // The transfer function of HDR10.
    bytes[at + 7] = 16;
    match Still::read(&bytes) {
        Err(error @ DecodeError::Rare { .. }) => assert!(error.to_string().contains("HDR")),
        other => panic!("{other:?}"),
    }
    let mut bytes = shipped("grid_turned.avif");
    let at = bytes.windows(4).position(|w| w == b"irot").unwrap();
    bytes[at..at + 4].copy_from_slice(b"clap");
    assert!(matches!(Still::read(&bytes), Err(DecodeError::Rare { .. })));
}

#[test]
fn broken_boxes_are_refused_wherever_they_break() {
    for name in ["plain.avif", "alpha.avif", "grid.avif"] {
        let whole = shipped(name);
        for cut in 0..whole.len() {
            assert!(Still::read(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

/// A box of HEIF.
fn boxed(name: [u8; 4], body: &[u8]) -> Vec<u8> {
    let size = body.len() as u32 + 8;
    [&size.to_be_bytes(), name.as_slice(), body].concat()
}

#[test]
fn lists_that_take_no_bytes_take_no_memory() {
    // 200 items of 65,535 parts each, whose places and lengths are numbers of no bytes.
    let mut iloc = vec![1, 0, 0, 0, 0, 0, 0, 200];
    for item in 0..200 {
        iloc.extend([0, item, 0, 0, 0, 0, 0xFF, 0xFF]);
    }
    let meta = [
        vec![0; 4],
        boxed(*b"pitm", &[0, 0, 0, 0, 0, 1]),
        boxed(*b"iinf", &[0; 6]),
        boxed(*b"iloc", &iloc),
        boxed(*b"iprp", &boxed(*b"ipco", &[])),
    ];
    let file = [
        boxed(*b"ftyp", b"avif\0\0\0\0avif"),
        boxed(*b"meta", &meta.concat()),
    ];
    match Still::read(&file.concat()) {
        Err(error @ DecodeError::Damaged { .. }) => {
            let cause = std::error::Error::source(&error).unwrap();
            assert!(cause.to_string().contains("boxes"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tiles_that_reach_far_over_the_edges_are_not_decoded() {
    let mut bytes = shipped("grid.avif");
    // Four tiles of 9,999 for 10,000 a side: four times the picture.
    let sizes: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&at| bytes[at..].starts_with(b"ispe"))
        .collect();
    for at in sizes {
        let side = if bytes[at + 11] == 64 { 9_999 } else { 10_000 };
        for side_at in [at + 8, at + 12] {
            bytes[side_at..side_at + 4].copy_from_slice(&u32::to_be_bytes(side));
        }
    }
    let grid = [0, 0, 1, 1, 0, 120, 0, 90];
    let at = bytes.windows(8).position(|w| w == grid).unwrap();
    bytes[at + 4..at + 8].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    match Still::read(&bytes) {
        Err(error @ DecodeError::Rare { .. }) => assert!(error.to_string().contains("tiles")),
        other => panic!("{other:?}"),
    }
}
