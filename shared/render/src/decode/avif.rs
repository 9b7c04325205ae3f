//! AVIF, taken apart for an AV1 decoder that is not ours, and put together again.
//!
//! Nouns: a [`Still`] is the picture of a file: a [`Sheet`] of tiles for its colour and perhaps one
//! for its alpha, each tile a frame of AV1; [`Sheet::ivf`] is a sheet as a stream of such frames.
//!
//! Guarantee: sizes are known and checked before anything is decoded; what is put together has the
//! size that was checked. Grids, alpha (straight or premultiplied), turned and mirrored pictures,
//! P3 and ICC profiles come out right; HDR and cropped ones are refused.
//!
//! Not for: decoding AV1, animation (the still of an animated file is taken).

mod boxes;

use image::RgbImage;
use image::metadata::Orientation;
use moxcms::ColorProfile;

use self::boxes::Meta;
use super::colour::{Layout, Paint};
use super::{AREA_PX_MAX, DecodeError, Kind, Stored, bytes_of, check_size, turn};

/// Tiles of a grid.
const TILES_MAX: usize = 1024;
const ALPHA: [&[u8]; 2] = [
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
];
/// The transfer functions of HDR: PQ and HLG.
const HDR: [u16; 2] = [16, 18];
/// Display P3's primaries.
const P3: u16 = 12;

fn damaged(what: &'static str) -> DecodeError {
    DecodeError::Damaged {
        kind: Kind::Avif,
        source: what.into(),
    }
}

fn rare(what: &'static str) -> DecodeError {
    let kind = Kind::Avif;
    DecodeError::Rare { kind, what }
}

/// Tiles of one size, row by row.
#[derive(Debug)]
pub struct Sheet {
    /// Pixels of a tile.
    pub tile_width: u32,
    /// Pixels of a tile.
    pub tile_height: u32,
    columns: u32,
    width: u32,
    height: u32,
    tiles: Vec<Vec<u8>>,
}

/// How the colours of a picture are coded, in the numbers of ITU-T H.273.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    primaries: u16,
    transfer: u16,
    /// The matrix that made luma and chroma; 0 is RGB itself.
    pub matrix: u16,
    /// Whether values go from 0 to the top.
    pub full_range: bool,
}

/// The picture of an AVIF file.
#[derive(Debug)]
pub struct Still {
    /// Its colours.
    pub colour: Sheet,
    /// Its transparency, when it has some and the colours are not scaled by it already.
    pub alpha: Option<Sheet>,
    /// As the file says; else as the frames say.
    pub coding: Option<Coding>,
    profile: Option<Vec<u8>>,
    orientation: Orientation,
}

impl Still {
    /// Takes a file apart.
    pub fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let meta = Meta::read(bytes).ok_or_else(|| damaged("its boxes are broken"))?;
        let primary = meta.primary;
        let colour = Sheet::of(&meta, primary)?;
        if meta.property(primary, *b"clap").is_some() {
            return Err(rare("cropped by its container"));
        }
        let (coding, profile) = colours(&meta, primary);
        if coding.is_some_and(|coding| HDR.contains(&coding.transfer)) {
            return Err(rare("HDR; save it as SDR"));
        }
        // On black, colours that are scaled by alpha already are right as they are.
        let alpha = alpha_of(&meta)
            .filter(|&alpha| !meta.refers(*b"prem", primary, alpha))
            .map(|alpha| Sheet::of(&meta, alpha))
            .transpose()?;
        if let Some(alpha) = &alpha
            && (alpha.width, alpha.height) != (colour.width, colour.height)
        {
            return Err(rare("its transparency has another size"));
        }
        Ok(Self {
            colour,
            alpha,
            coding,
            profile,
            orientation: orientation(&meta, primary),
        })
    }

    /// The upright picture, from the decoded tiles one after the other: RGB of the colours, one
    /// byte a pixel of the alpha.
    pub fn assemble(
        &self,
        colour: Vec<u8>,
        alpha: Option<Vec<u8>>,
    ) -> Result<RgbImage, DecodeError> {
        let (width, height) = (self.colour.width, self.colour.height);
        let mut rgb = self.colour.join(colour, 3)?;
        let p3 = self.coding.filter(|coding| coding.primaries == P3);
        let p3 = p3.and_then(|_| ColorProfile::new_display_p3().encode().ok());
        let profile = self.profile.as_deref().or(p3.as_deref());
        Paint::new(profile, Layout::Rgb8).in_place(&mut rgb, width);
        if let (Some(sheet), Some(alpha)) = (&self.alpha, alpha) {
            let alpha = sheet.join(alpha, 1)?;
            for (pixel, &alpha) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(&alpha) {
                *pixel = super::colour::on_black(*pixel, alpha);
            }
        }
        Ok(turn::upright(Stored {
            width,
            height,
            rgb,
            orientation: self.orientation,
        }))
    }
}

impl Sheet {
    fn of(meta: &Meta<'_>, item: u32) -> Result<Self, DecodeError> {
        match meta.kind(item) {
            Some(b"av01") => {
                let (width, height) = size_of(meta, item)?;
                Ok(Self {
                    tile_width: width,
                    tile_height: height,
                    columns: 1,
                    width,
                    height,
                    tiles: vec![data_of(meta, item)?],
                })
            }
            Some(b"grid") => Self::of_grid(meta, item),
            Some(_) | None => Err(rare("no AV1 picture")),
        }
    }

    fn of_grid(meta: &Meta<'_>, item: u32) -> Result<Self, DecodeError> {
        let layout = data_of(meta, item)?;
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u32::from(byte))
        };
        let (rows, columns, sides) = match *layout.as_slice() {
            [0, flags, rows, columns, ref sides @ ..] if sides.len() >= 4 << (flags & 1) => {
                let side = 2 << (flags & 1);
                let (width, height) = (number(&sides[..side]), number(&sides[side..2 * side]));
                (u32::from(rows) + 1, u32::from(columns) + 1, (width, height))
            }
            _ => return Err(damaged("its grid is broken")),
        };
        check_size(Kind::Avif, sides.0, sides.1)?;
        let parts = meta.referred(*b"dimg", item);
        if parts.len() != (rows * columns) as usize || parts.len() > TILES_MAX {
            return Err(damaged("its grid has too few or too many tiles"));
        }
        let (tile_width, tile_height) = size_of(meta, parts[0])?;
        let fits = |tile: u32, tiles: u32, side: u32| {
            u64::from(tile) * u64::from(tiles) >= u64::from(side)
                && u64::from(tile) * u64::from(tiles - 1) < u64::from(side)
        };
        if !fits(tile_width, columns, sides.0) || !fits(tile_height, rows, sides.1) {
            return Err(damaged("its tiles do not make its size"));
        }
        // All of them are decoded, also what reaches over the edges: up to four times the picture.
        let decoded = u64::from(tile_width) * u64::from(tile_height) * parts.len() as u64;
        if decoded > AREA_PX_MAX {
            return Err(rare("its tiles reach far over its edges"));
        }
        let mut tiles = Vec::with_capacity(parts.len());
        for &part in &parts {
            if meta.kind(part) != Some(b"av01") || size_of(meta, part)? != (tile_width, tile_height)
            {
                return Err(rare("tiles of several sorts"));
            }
            tiles.push(data_of(meta, part)?);
        }
        Ok(Self {
            tile_width,
            tile_height,
            columns,
            width: sides.0,
            height: sides.1,
            tiles,
        })
    }

    /// How many tiles.
    pub fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// The tiles as an IVF stream, one frame each.
    pub fn ivf(&self) -> Vec<u8> {
        /// A temporal delimiter, which AVIF leaves out and streams begin with.
        const DELIMITER: [u8; 2] = [0x12, 0x00];
        let mut out = b"DKIF\0\0\x20\0AV01".to_vec();
        out.extend((self.tile_width as u16).to_le_bytes());
        out.extend((self.tile_height as u16).to_le_bytes());
        // One frame a second.
        out.extend([1, 0, 0, 0, 1, 0, 0, 0]);
        out.extend((self.tiles.len() as u32).to_le_bytes());
        out.extend([0; 4]);
        for (n, tile) in self.tiles.iter().enumerate() {
            out.extend(((tile.len() + DELIMITER.len()) as u32).to_le_bytes());
            out.extend((n as u64).to_le_bytes());
            out.extend(DELIMITER);
            out.extend(tile);
        }
        out
    }

    /// Decoded tiles of `each` bytes a pixel to one picture.
    fn join(&self, tiles: Vec<u8>, each: usize) -> Result<Vec<u8>, DecodeError> {
        let tile = bytes_of(self.tile_width, self.tile_height, each);
        if tiles.len() != tile * self.tiles.len() {
            return Err(damaged("its frames do not have the size that it says"));
        }
        if self.tiles.len() == 1 && (self.tile_width, self.tile_height) == (self.width, self.height)
        {
            return Ok(tiles);
        }
        let (stride, line) = (self.width as usize * each, self.tile_width as usize * each);
        let mut out = vec![0; bytes_of(self.width, self.height, each)];
        for (n, tile) in tiles.chunks_exact(tile).enumerate() {
            let left = (n % self.columns as usize) * line;
            let top = (n / self.columns as usize) * self.tile_height as usize;
            let shown = line.min(stride - left);
            let rows = out.chunks_exact_mut(stride).skip(top);
            for (row, line) in rows.zip(tile.chunks_exact(line)) {
                row[left..left + shown].copy_from_slice(&line[..shown]);
            }
        }
        Ok(out)
    }
}

fn data_of(meta: &Meta<'_>, item: u32) -> Result<Vec<u8>, DecodeError> {
    let kind = Kind::Avif;
    meta.data(item).ok_or(DecodeError::CutOff { kind })
}

fn size_of(meta: &Meta<'_>, item: u32) -> Result<(u32, u32), DecodeError> {
    let size = meta.property(item, *b"ispe").and_then(|size| {
        let width = u32::from_be_bytes(*size.get(4..)?.first_chunk()?);
        let height = u32::from_be_bytes(*size.get(8..)?.first_chunk()?);
        Some((width, height))
    });
    let (width, height) = size.ok_or_else(|| damaged("it does not say its size"))?;
    check_size(Kind::Avif, width, height)?;
    Ok((width, height))
}

/// The item that is the primary one's alpha.
fn alpha_of(meta: &Meta<'_>) -> Option<u32> {
    meta.referring(*b"auxl", meta.primary).find(|&item| {
        let kind = meta.property(item, *b"auxC").and_then(|aux| aux.get(4..));
        kind.and_then(|kind| kind.split(|&byte| byte == 0).next())
            .is_some_and(|kind| ALPHA.contains(&kind))
    })
}

fn colours(meta: &Meta<'_>, item: u32) -> (Option<Coding>, Option<Vec<u8>>) {
    let (mut coding, mut profile) = (None, None);
    for colr in meta.properties(item, *b"colr") {
        match colr {
            [b'n', b'c', b'l', b'x', p, p2, t, t2, m, m2, range, ..] => {
                coding = Some(Coding {
                    primaries: u16::from_be_bytes([*p, *p2]),
                    transfer: u16::from_be_bytes([*t, *t2]),
                    matrix: u16::from_be_bytes([*m, *m2]),
                    full_range: range & 0x80 != 0,
                });
            }
            [b'p', b'r', b'o', b'f', icc @ ..] | [b'r', b'I', b'C', b'C', icc @ ..] => {
                profile = Some(icc.to_vec());
            }
            _ => {}
        }
    }
    (coding, profile)
}

/// A turn against the clock, and then a mirror.
fn orientation(meta: &Meta<'_>, item: u32) -> Orientation {
    let value = |name| meta.property(item, name).and_then(|p| p.first().copied());
    let turn = value(*b"irot").map_or(0, |turn| turn & 3);
    // 0: top and bottom change places; else left and right.
    let mirror = value(*b"imir").map(|axis| axis & 1 == 0);
    match (turn, mirror) {
        (0, None) => Orientation::NoTransforms,
        (1, None) => Orientation::Rotate270,
        (2, None) => Orientation::Rotate180,
        (_, None) => Orientation::Rotate90,
        (0, Some(true)) | (2, Some(false)) => Orientation::FlipVertical,
        (0, Some(false)) | (2, Some(true)) => Orientation::FlipHorizontal,
        (1, Some(true)) | (3.., Some(false)) => Orientation::Rotate90FlipH,
        (1, Some(false)) | (3.., Some(true)) => Orientation::Rotate270FlipH,
    }
}
