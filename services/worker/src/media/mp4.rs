//! The length of an MP4 that we have just made, from its own index.
//!
//! Guarantee: a file that was cut off, or whose index is missing, has no length. Not for strangers'
//! files: those are ffprobe's.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Top-level boxes that are looked at: ours have four.
const BOXES_MAX: usize = 16;

/// Seconds, as the movie header says.
pub fn duration_s(path: &Path) -> io::Result<f64> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let (mut at, mut duration) = (0, None);
    for _ in 0..BOXES_MAX {
        if at == length {
            break;
        }
        let mut head = [0; 16];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head[..8])?;
        let size = match word(&head, 0) {
            // The size follows in 64 bits.
            1 => {
                file.read_exact(&mut head[8..])?;
                u64::from(word(&head, 8)) << 32 | u64::from(word(&head, 12))
            }
            size => u64::from(size),
        };
        if size < 8 || size > length - at {
            return Err(unsound("a box is cut off"));
        }
        if &head[4..8] == b"moov" {
            duration = Some(movie_header(&mut file)?);
        }
        at += size;
    }
    let duration = duration.filter(|_| at == length);
    duration.ok_or_else(|| unsound("there is no movie header"))
}

/// The movie header is the first box in `moov`, where the file stands.
fn movie_header(file: &mut File) -> io::Result<f64> {
    let mut bytes = [0; 40];
    file.read_exact(&mut bytes)?;
    if &bytes[4..8] != b"mvhd" {
        return Err(unsound("the movie header is not the first"));
    }
    let (scale, ticks) = match bytes[8] {
        0 => (word(&bytes, 20), u64::from(word(&bytes, 24))),
        _ => (
            word(&bytes, 28),
            u64::from(word(&bytes, 32)) << 32 | u64::from(word(&bytes, 36)),
        ),
    };
    if scale == 0 {
        return Err(unsound("the time scale is zero"));
    }
    Ok(ticks as f64 / f64::from(scale))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn unsound(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u8) -> Vec<u8> {
        let mut header = vec![0; 112];
        header[3] = 112;
        header[4..8].copy_from_slice(b"mvhd");
        header[8] = version;
        let (scale, ticks) = if version == 0 { (20, 24) } else { (28, 36) };
        header[scale + 2..scale + 4].copy_from_slice(&1000_u16.to_be_bytes());
        header[ticks + 2..ticks + 4].copy_from_slice(&2500_u16.to_be_bytes());
        let mut bytes = b"\0\0\0\x08ftyp\0\0\0\x78moov".to_vec();
        bytes.extend(header);
        // In 64 bits, as data above 4 GiB is.
        bytes.extend(b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x14abcd");
        bytes
    }

    #[test]
    fn the_header_says_how_long_a_whole_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made.mp4");
        for version in [0, 1] {
            let whole = file(version);
            std::fs::write(&path, &whole).unwrap();
            assert!((duration_s(&path).unwrap() - 2.5).abs() < 1e-9);
            for cut in [0, 4, 8, 12, 60, whole.len() - 19, whole.len() - 1] {
                std::fs::write(&path, &whole[..cut]).unwrap();
                assert!(duration_s(&path).is_err(), "{cut} bytes");
            }
        }
    }
}
