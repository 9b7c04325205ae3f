//! The bytes of an output: they follow from the item's id and the length alone.

use std::io::{self, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

const BLOCK_BYTES: u64 = 64 * 1024;

/// All bytes of an output, a block at a time: each begins with its number, so no two of them are alike.
pub fn content(item: &str, bytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let seed = Sha256::digest(item);
    let block: Vec<u8> = seed
        .iter()
        .copied()
        .cycle()
        .take(BLOCK_BYTES as usize)
        .collect();
    (0..bytes.div_ceil(BLOCK_BYTES)).map(move |number| {
        let mut block = block.clone();
        block[..8].copy_from_slice(&number.to_be_bytes());
        let left = bytes - number * BLOCK_BYTES;
        block.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        block
    })
}

/// The SHA-256 of an output, in hex.
pub fn sha256_of(item: &str, bytes: u64) -> String {
    let mut hash = Sha256::new();
    for block in content(item, bytes) {
        hash.update(block);
    }
    hex::encode(hash.finalize())
}

/// Writes an output.
pub(crate) fn write(item: &str, bytes: u64, out: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(out)?;
    for block in content(item, bytes) {
        file.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_asked_for_and_each_item_has_its_own() {
        for bytes in [0, 1, 7, 8, 65_535, 65_536, 65_537, 200_000] {
            let all: Vec<u8> = content("a", bytes).flatten().collect();
            assert_eq!(all.len() as u64, bytes);
        }
        assert_eq!(sha256_of("a", 5000), sha256_of("a", 5000));
        assert_ne!(sha256_of("a", 5000), sha256_of("b", 5000));
        let mut blocks = content("a", 200_000);
        assert_ne!(blocks.next(), blocks.next());
    }
}
