//! Containers, recognised by what is in the file: what ffmpeg is then forced to read it as.
//!
//! Guarantee: a playlist, a concat script or any other format that names other files is never
//! recognised, whatever the file is called. What is certainly no media file is named as a
//! [`Foreign`].

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// How far a first MPEG audio frame is looked for behind what does not belong there; ffmpeg looks
/// as far.
const JUNK_BYTES_MAX: usize = 64 * 1024;
/// Enough to recognise all but MPEG audio behind junk.
const HEAD_BYTES: usize = 1024;
/// ID3 tags before the first frame, one after the other.
const TAGS_MAX: usize = 4;
/// MPEG audio frames in a row that are no accident.
const FRAMES_IN_ROW: usize = 3;

/// A container that we let ffmpeg read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MP4, QuickTime, M4A, 3GP, in fragments or not.
    Mov,
    /// Matroska, WebM.
    Matroska,
    /// AVI.
    Avi,
    /// MPEG transport stream.
    MpegTs,
    /// MPEG program stream.
    Mpeg,
    /// Flash video.
    Flv,
    /// Windows Media.
    Asf,
    /// Ogg.
    Ogg,
    /// MPEG audio layer 1 to 3.
    Mp3,
    /// AAC in ADTS frames.
    Aac,
    /// Dolby Digital, plus or not, without a container.
    Ac3,
    /// RIFF WAVE, RF64 included.
    Wav,
    /// Sony's 64-bit WAVE.
    W64,
    /// FLAC.
    Flac,
    /// AIFF, AIFF-C.
    Aiff,
    /// Apple's Core Audio.
    Caf,
    /// Adaptive multi-rate, as telephones record.
    Amr,
}

/// What people send in a media file's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Nothing.
    Empty,
    /// A web page.
    WebPage,
    /// Packed by gzip.
    Gzip,
    /// A ZIP archive.
    Zip,
}

impl Foreign {
    /// Recognises it by its first bytes.
    pub fn recognise(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(&head[..head.len().min(HEAD_BYTES)]).to_lowercase();
        let text = text.trim_start_matches('\u{FEFF}').trim_start();
        let page = text.starts_with("<!doctype html")
            || text.starts_with("<html")
            || (text.starts_with("<?xml") || text.starts_with("<!--")) && text.contains("<html");
        match head {
            [] => Some(Self::Empty),
            [0x1F, 0x8B, 8, ..] => Some(Self::Gzip),
            [b'P', b'K', 3, 4, ..] => Some(Self::Zip),
            _ => page.then_some(Self::WebPage),
        }
    }

    /// What is wrong with it, for a client.
    pub fn why(self) -> &'static str {
        match self {
            Self::Empty => "the file is empty",
            Self::WebPage => {
                "the address gives a web page, not the file itself (a page to log in, or one about the file)"
            }
            Self::Gzip => "the file is packed (gzip)",
            Self::Zip => "the file is an archive (zip)",
        }
    }
}

impl Container {
    /// ffmpeg's demuxer for it.
    pub fn demuxer(self) -> &'static str {
        match self {
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::Avi => "avi",
            Self::MpegTs => "mpegts",
            Self::Mpeg => "mpeg",
            Self::Flv => "flv",
            Self::Asf => "asf",
            Self::Ogg => "ogg",
            Self::Mp3 => "mp3",
            Self::Aac => "aac",
            // It reads both kinds.
            Self::Ac3 => "eac3",
            Self::Wav => "wav",
            Self::W64 => "w64",
            Self::Flac => "flac",
            Self::Aiff => "aiff",
            Self::Caf => "caf",
            Self::Amr => "amr",
        }
    }

    /// Recognises a container by its first bytes; not MPEG audio behind junk.
    pub fn recognise(head: &[u8]) -> Option<Self> {
        const ATOMS: [&[u8]; 9] = [
            b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"wide", b"free", b"skip", b"pnot",
        ];
        const ASF: &[u8] = b"\x30\x26\xB2\x75\x8E\x66\xCF\x11";
        const W64: &[u8] = b"riff\x2E\x91\xCF\x11";
        let at = |from: usize, what: &[u8]| head.get(from..from + what.len()) == Some(what);
        // Packets of 188 bytes, or of 192 with a time stamp before each, as cameras write.
        let packets = |from: usize, step: usize| (0..3).all(|n| at(from + n * step, b"\x47"));
        if ATOMS.iter().any(|atom| at(4, atom)) {
            return Some(Self::Mov);
        }
        match head {
            [0x1A, 0x45, 0xDF, 0xA3, ..] => Some(Self::Matroska),
            [b'R', b'I', b'F', b'F', ..] if at(8, b"AVI ") => Some(Self::Avi),
            [b'R', b'I', b'F', b'F', ..] | [b'R', b'F', b'6', b'4', ..] if at(8, b"WAVE") => {
                Some(Self::Wav)
            }
            [b'F', b'O', b'R', b'M', ..] if at(8, b"AIFF") || at(8, b"AIFC") => Some(Self::Aiff),
            [b'O', b'g', b'g', b'S', ..] => Some(Self::Ogg),
            [b'f', b'L', b'a', b'C', ..] => Some(Self::Flac),
            [b'F', b'L', b'V', 1, ..] => Some(Self::Flv),
            [b'c', b'a', b'f', b'f', 0, ..] => Some(Self::Caf),
            [b'#', b'!', b'A', b'M', b'R', ..] => Some(Self::Amr),
            [0, 0, 1, 0xBA, ..] => Some(Self::Mpeg),
            [0x0B, 0x77, ..] => Some(Self::Ac3),
            _ if at(0, ASF) => Some(Self::Asf),
            _ if at(0, W64) => Some(Self::W64),
            // ADTS has layer 0; MPEG audio one of 1 to 3.
            [0xFF, second, ..] if second & 0xF6 == 0xF0 => Some(Self::Aac),
            _ if frame_bytes(head).is_some() => Some(Self::Mp3),
            _ if packets(0, 188) || packets(4, 192) => Some(Self::MpegTs),
            _ => None,
        }
    }

    /// Recognises the container of a file, behind ID3 tags and junk as well.
    pub fn of_file(path: &Path) -> std::io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let (mut at, mut tagged) = (0, false);
        for _ in 0..TAGS_MAX {
            let head = read_at(&mut file, at, HEAD_BYTES)?;
            let Some(bytes) = tag_bytes(&head) else { break };
            (at, tagged) = (at + bytes, true);
        }
        let head = read_at(&mut file, at, JUNK_BYTES_MAX)?;
        let found = Self::recognise(&head);
        Ok(match found {
            // Behind a tag there is nothing else.
            Some(Self::Mp3 | Self::Aac | Self::Flac | Self::Ac3) => found,
            Some(_) if !tagged => found,
            Some(_) | None => has_frames(&head).then_some(Self::Mp3),
        })
    }
}

/// The bytes of an ID3 tag, itself included.
fn tag_bytes(head: &[u8]) -> Option<u64> {
    let &[b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] = head else {
        return None;
    };
    let size = [a, b, c, d]
        .iter()
        .fold(0, |size, byte| size << 7 | u64::from(byte & 0x7F));
    let footer = if flags & 0x10 == 0 { 0 } else { 10 };
    Some(10 + size + footer)
}

fn read_at(file: &mut File, at: u64, max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The length of the MPEG audio frame that begins here.
fn frame_bytes(head: &[u8]) -> Option<usize> {
    const V1: [[u32; 15]; 3] = [
        [
            0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
        ],
        [
            0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
        ],
        [
            0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
        ],
    ];
    const V2: [[u32; 15]; 2] = [
        [
            0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
        ],
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    ];
    let &[0xFF, second, third, ..] = head else {
        return None;
    };
    let (version, layer) = (second >> 3 & 3, 4 - (second >> 1 & 3));
    let (kbps, rate) = (usize::from(third >> 4), usize::from(third >> 2 & 3));
    if second & 0xE0 != 0xE0 || version == 1 || layer == 4 || kbps == 15 || rate == 3 {
        return None;
    }
    let first = version == 3;
    let rows: &[[u32; 15]] = if first { &V1 } else { &V2 };
    let row = rows[usize::from(layer - 1).min(rows.len() - 1)];
    // Versions 2 and 2.5 have half and a quarter of the rate.
    let divisor = match version {
        3 => 1,
        2 => 2,
        _ => 4,
    };
    let hertz = [44_100, 48_000, 32_000][rate] / divisor;
    let padding = u32::from(third >> 1 & 1);
    let bits = row[kbps] * 1000;
    // Zero is a rate of the file's own: nothing is known of the length.
    let bytes = match layer {
        1 => (12 * bits / hertz + padding) * 4,
        3 if !first => 72 * bits / hertz + padding,
        _ => 144 * bits / hertz + padding,
    };
    (bytes > 4).then_some(bytes as usize)
}

/// Whether several MPEG audio frames in a row begin somewhere in these bytes.
fn has_frames(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|start| {
        let mut at = start;
        (0..FRAMES_IN_ROW).all(|_| {
            let next = bytes.get(at..).and_then(frame_bytes);
            at += next.unwrap_or(0);
            next.is_some()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_containers_are_recognised() {
        let ts: Vec<u8> = (0..600)
            .map(|n| if n % 188 == 0 { 0x47 } else { 0 })
            .collect();
        let m2ts: Vec<u8> = (0..600)
            .map(|n| if n % 192 == 4 { 0x47 } else { 0 })
            .collect();
        let zoo: [(&[u8], Option<Container>); 24] = [
            (b"\0\0\0\x20ftypisom", Some(Container::Mov)),
            (b"\0\0\0\x08wide\0\0\0\0mdat", Some(Container::Mov)),
            (b"\0\0\0\x18stypmsdh", Some(Container::Mov)),
            (b"\x1A\x45\xDF\xA3rest", Some(Container::Matroska)),
            (b"RIFF\0\0\0\0AVI LIST", Some(Container::Avi)),
            (b"RIFF\0\0\0\0WAVEfmt ", Some(Container::Wav)),
            (b"RF64\xFF\xFF\xFF\xFFWAVEds64", Some(Container::Wav)),
            (b"RIFF\0\0\0\0WEBPVP8 ", None),
            (b"FORM\0\0\0\0AIFC", Some(Container::Aiff)),
            (b"caff\0\x01\0\0desc", Some(Container::Caf)),
            (b"#!AMR\n", Some(Container::Amr)),
            (b"\x0B\x77\0\0", Some(Container::Ac3)),
            (
                b"\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9",
                Some(Container::Asf),
            ),
            (b"\xFF\xFB\x90\x64", Some(Container::Mp3)),
            (b"\xFF\xF1\x50\x80", Some(Container::Aac)),
            (&ts, Some(Container::MpegTs)),
            (&m2ts, Some(Container::MpegTs)),
            (b"#EXTM3U\n#EXT-X-VERSION:3\n", None),
            (b"ffconcat version 1.0\nfile x\n", None),
            (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", None),
            (b"<?xml version=\"1.0\"?><MPD>", None),
            (b"[playlist]\nFile1=x\n", None),
            (b"1\n00:00:00,000 --> 00:00:01,000\n", None),
            (b"", None),
        ];
        for (head, kind) in zoo {
            assert_eq!(Container::recognise(head), kind, "{head:?}");
        }
    }

    #[test]
    fn frames_have_the_length_that_their_head_says() {
        // 128 kbit/s at 44,100 Hz; 64 kbit/s at 22,050 Hz; layer II at 192 kbit/s, 48,000 Hz.
        assert_eq!(frame_bytes(&[0xFF, 0xFB, 0x90, 0]), Some(417));
        assert_eq!(frame_bytes(&[0xFF, 0xF3, 0x80, 0]), Some(208));
        assert_eq!(frame_bytes(&[0xFF, 0xFD, 0xA4, 0]), Some(576));
        // A reserved version, layer, bit rate, rate.
        for bad in [[0xEB, 0x90], [0xF9, 0x90], [0xFB, 0xF0], [0xFB, 0x9C]] {
            assert_eq!(frame_bytes(&[0xFF, bad[0], bad[1]]), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_media_at_all_is_named() {
        let zoo: [(&[u8], Option<Foreign>); 9] = [
            (b"", Some(Foreign::Empty)),
            (
                b"\xEF\xBB\xBF\n <!DOCTYPE html><html>",
                Some(Foreign::WebPage),
            ),
            (b"<HTML lang=\"en\">", Some(Foreign::WebPage)),
            (
                b"<?xml version=\"1.0\"?>\n<html xmlns=",
                Some(Foreign::WebPage),
            ),
            (b"<?xml version=\"1.0\"?><tt>", None),
            (b"<i>1</i>", None),
            (b"\x1F\x8B\x08\0", Some(Foreign::Gzip)),
            (b"PK\x03\x04", Some(Foreign::Zip)),
            (b"1\n00:00:00,000", None),
        ];
        for (head, foreign) in zoo {
            assert_eq!(Foreign::recognise(head), foreign, "{head:?}");
        }
    }
}
