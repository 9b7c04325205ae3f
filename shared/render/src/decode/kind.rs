//! What a file is, told from its first bytes.
//!
//! Guarantee: the name of a file and what a server said of it play no part; everything that people
//! give as a picture by mistake is named, with what to do about it.

use std::fmt;

/// Bytes from the start that are looked at for text formats.
const TEXT_BYTES_MAX: usize = 1024;

/// A picture format that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JPEG.
    Jpeg,
    /// PNG, animated too.
    Png,
    /// WebP, animated too.
    WebP,
    /// GIF, animated too.
    Gif,
    /// AVIF, animated too.
    Avif,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Avif => "AVIF",
        })
    }
}

/// What is no picture for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// No byte at all.
    Empty,
    /// HEIC, as iPhones make them.
    Heic,
    /// JPEG XL.
    JpegXl,
    /// JPEG 2000.
    Jpeg2000,
    /// TIFF, and the raw files of cameras built on it.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// Windows icon.
    Icon,
    /// Photoshop document.
    Psd,
    /// SVG drawing.
    Svg,
    /// PDF document.
    Pdf,
    /// HTML page.
    Html,
    /// JSON or XML, mostly an error message.
    Message,
    /// ZIP, and the office documents built on it.
    Zip,
    /// Video.
    Video,
    /// Nothing that we know.
    Unknown,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the file is empty; check that the address gives the picture itself",
            Self::Heic => {
                "the file is a HEIC photo, as iPhones take them; save it as JPEG (on the iPhone: Settings, Camera, Formats, Most Compatible)"
            }
            Self::JpegXl => "the file is a JPEG XL picture; save it as JPEG or PNG",
            Self::Jpeg2000 => "the file is a JPEG 2000 picture; save it as JPEG or PNG",
            Self::Tiff => "the file is a TIFF picture or a camera's raw photo; save it as JPEG or PNG",
            Self::Bmp => "the file is a BMP picture; save it as PNG",
            Self::Icon => "the file is an icon; save it as PNG",
            Self::Psd => "the file is a Photoshop document; save it as JPEG or PNG",
            Self::Svg => "the file is an SVG drawing; save it as PNG in the size of the video",
            Self::Pdf => "the file is a PDF document; save the page as JPEG or PNG",
            Self::Html => {
                "the file is a web page (HTML), often a page to log in or to confirm a download; give the address of the picture itself, open to everyone"
            }
            Self::Message => {
                "the file is JSON or XML, often a server's error message; check that the address gives the picture itself and has not expired"
            }
            Self::Zip => "the file is a ZIP archive or an office document; give the picture itself",
            Self::Video => "the file is a video; give a picture, or save one frame as JPEG",
            Self::Unknown => {
                "the file is no JPEG, PNG, WebP, GIF or AVIF picture; save it as one of these and check that the address gives the picture itself"
            }
        })
    }
}

impl Kind {
    /// What a file is, from its first bytes.
    pub fn of(bytes: &[u8]) -> Result<Self, Foreign> {
        let starts = |magic: &[u8]| bytes.starts_with(magic);
        let holds = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|b| b.starts_with(magic));
        if starts(b"\xFF\xD8\xFF") {
            Ok(Self::Jpeg)
        } else if starts(b"\x89PNG\r\n\x1A\n") {
            Ok(Self::Png)
        } else if starts(b"RIFF") && holds(8, b"WEBP") {
            Ok(Self::WebP)
        } else if starts(b"GIF87a") || starts(b"GIF89a") {
            Ok(Self::Gif)
        } else if holds(4, b"ftyp") {
            of_brands(bytes)
        } else {
            Err(foreign(bytes))
        }
    }
}

/// A file of ISO boxes: its brands say for what it is made.
fn of_brands(bytes: &[u8]) -> Result<Kind, Foreign> {
    let size = bytes.first_chunk().copied().map_or(0, u32::from_be_bytes) as usize;
    let brands = bytes
        .get(8..size.min(256).min(bytes.len()))
        .unwrap_or_default();
    let has = |wanted: &[&[u8; 4]]| {
        let mut brands = brands.chunks_exact(4);
        brands.any(|brand| wanted.iter().any(|&wanted| brand == wanted))
    };
    if has(&[b"avif", b"avis"]) {
        Ok(Kind::Avif)
    } else if has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
    ]) {
        Err(Foreign::Heic)
    } else if has(&[b"crx "]) {
        Err(Foreign::Tiff)
    } else {
        Err(Foreign::Video)
    }
}

fn foreign(bytes: &[u8]) -> Foreign {
    const MAGIC: [(&[u8], Foreign); 13] = [
        (b"\xFF\x0A", Foreign::JpegXl),
        (b"\0\0\0\x0CJXL ", Foreign::JpegXl),
        (b"\0\0\0\x0CjP  ", Foreign::Jpeg2000),
        (b"\xFF\x4F\xFF\x51", Foreign::Jpeg2000),
        (b"II*\0", Foreign::Tiff),
        (b"II+\0", Foreign::Tiff),
        (b"MM\0*", Foreign::Tiff),
        (b"BM", Foreign::Bmp),
        (b"\0\0\x01\0", Foreign::Icon),
        (b"8BPS", Foreign::Psd),
        (b"PK\x03\x04", Foreign::Zip),
        (b"\x1A\x45\xDF\xA3", Foreign::Video),
        (b"%PDF", Foreign::Pdf),
    ];
    if bytes.is_empty() {
        return Foreign::Empty;
    }
    let found = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
    found.map_or_else(|| text(bytes), |&(_, foreign)| foreign)
}

/// Markup and messages, with or without a byte order mark, in ASCII's neighbourhood or UTF-16.
fn text(bytes: &[u8]) -> Foreign {
    let start: Vec<u8> = bytes[..bytes.len().min(TEXT_BYTES_MAX)]
        .iter()
        .filter(|&&byte| byte != 0)
        .map(u8::to_ascii_lowercase)
        .collect();
    let skipped = [&b"\xEF\xBB\xBF"[..], b"\xFE\xFF", b"\xFF\xFE"];
    let start = skipped
        .iter()
        .find_map(|mark| start.strip_prefix(*mark))
        .unwrap_or(&start)
        .trim_ascii_start();
    let has = |word: &[u8]| start.windows(word.len()).any(|window| window == word);
    match start.first() {
        Some(b'<') if has(b"<svg") => Foreign::Svg,
        Some(b'<') if has(b"<html") || has(b"<!doctype html") || has(b"<head") || has(b"<body") => {
            Foreign::Html
        }
        Some(b'<') if has(b"<?xml") || has(b"<error") => Foreign::Message,
        Some(b'<') => Foreign::Html,
        Some(b'{' | b'[') => Foreign::Message,
        Some(b'%') if has(b"%pdf") => Foreign::Pdf,
        Some(_) | None => Foreign::Unknown,
    }
}
