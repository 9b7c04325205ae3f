//! Containers, recognised by their first bytes: what ffmpeg is then forced to read them as.
//!
//! Guarantee: a playlist, a concat script or any other format that names other files is never
//! recognised, whatever the file is called.

use std::path::Path;

use tokio::io::AsyncReadExt as _;

const HEAD_BYTES: u64 = 512;

/// A container that we let ffmpeg read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MP4, QuickTime, M4A, 3GP.
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
    /// Ogg.
    Ogg,
    /// MPEG audio layer 1 to 3.
    Mp3,
    /// AAC in ADTS frames.
    Aac,
    /// RIFF WAVE.
    Wav,
    /// FLAC.
    Flac,
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
            Self::Ogg => "ogg",
            Self::Mp3 => "mp3",
            Self::Aac => "aac",
            Self::Wav => "wav",
            Self::Flac => "flac",
        }
    }

    /// Recognises a container by its first bytes.
    pub fn recognise(head: &[u8]) -> Option<Self> {
        const ATOMS: [&[u8]; 7] = [
            b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot",
        ];
        let at = |from: usize, what: &[u8]| head.get(from..from + what.len()) == Some(what);
        if ATOMS.iter().any(|atom| at(4, atom)) {
            return Some(Self::Mov);
        }
        match head {
            [0x1A, 0x45, 0xDF, 0xA3, ..] => Some(Self::Matroska),
            [b'R', b'I', b'F', b'F', ..] if at(8, b"AVI ") => Some(Self::Avi),
            [b'R', b'I', b'F', b'F', ..] if at(8, b"WAVE") => Some(Self::Wav),
            [b'O', b'g', b'g', b'S', ..] => Some(Self::Ogg),
            [b'f', b'L', b'a', b'C', ..] => Some(Self::Flac),
            [b'F', b'L', b'V', 1, ..] => Some(Self::Flv),
            [b'I', b'D', b'3', ..] => Some(Self::Mp3),
            [0, 0, 1, 0xBA, ..] => Some(Self::Mpeg),
            // ADTS has layer 0; MPEG audio one of 1 to 3, and no reserved rate.
            [0xFF, second, ..] if second & 0xF6 == 0xF0 => Some(Self::Aac),
            [0xFF, second, third, ..]
                if second & 0xE0 == 0xE0 && second & 0x06 != 0 && third & 0xF0 != 0xF0 =>
            {
                Some(Self::Mp3)
            }
            [0x47, ..] if head.get(188) == Some(&0x47) && head.get(376) == Some(&0x47) => {
                Some(Self::MpegTs)
            }
            _ => None,
        }
    }

    /// Recognises the container of a file.
    pub async fn of_file(path: &Path) -> std::io::Result<Option<Self>> {
        let mut head = Vec::new();
        tokio::fs::File::open(path)
            .await?
            .take(HEAD_BYTES)
            .read_to_end(&mut head)
            .await?;
        Ok(Self::recognise(&head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_containers_are_recognised() {
        let ts: Vec<u8> = (0..512)
            .map(|n| if n % 188 == 0 { 0x47 } else { 0 })
            .collect();
        let zoo: [(&[u8], Option<Container>); 13] = [
            (b"\0\0\0\x20ftypisom", Some(Container::Mov)),
            (b"\0\0\0\x08wide\0\0\0\0mdat", Some(Container::Mov)),
            (b"\x1A\x45\xDF\xA3rest", Some(Container::Matroska)),
            (b"RIFF\0\0\0\0AVI LIST", Some(Container::Avi)),
            (b"RIFF\0\0\0\0WAVEfmt ", Some(Container::Wav)),
            (b"RIFF\0\0\0\0WEBPVP8 ", None),
            (b"ID3\x04", Some(Container::Mp3)),
            (b"\xFF\xFB\x90\x64", Some(Container::Mp3)),
            (b"\xFF\xF1\x50\x80", Some(Container::Aac)),
            (&ts, Some(Container::MpegTs)),
            (b"#EXTM3U\n#EXT-X-VERSION:3\n", None),
            (b"ffconcat version 1.0\nfile x\n", None),
            (b"", None),
        ];
        for (head, kind) in zoo {
            assert_eq!(Container::recognise(head), kind, "{head:?}");
        }
    }
}
