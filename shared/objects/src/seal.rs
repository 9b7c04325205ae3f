//! Secrets that we must be able to use again (webhook signing secrets), sealed at rest.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;

/// Bytes of a sealing key.
const KEY_BYTES: usize = 32;

/// Why a secret cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is not 32 bytes in base64.
    #[error("the sealing key is not {KEY_BYTES} bytes in base64")]
    Key,
    /// The sealed text is not ours, was changed, or is under another key.
    #[error("open a sealed secret")]
    Open,
}

/// Seals and opens secrets: AES-256-GCM with a random nonce.
pub struct Sealer {
    key: LessSafeKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(hidden)")
    }
}

impl Sealer {
    /// From a key of 32 bytes in base64, white space around it allowed.
    pub fn new(key_base64: &str) -> Result<Self, SealError> {
        let key = STANDARD
            .decode(key_base64.trim())
            .map_err(|_| SealError::Key)?;
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Key)?;
        Ok(Self {
            key: LessSafeKey::new(key),
        })
    }

    /// Seals a secret into text.
    pub fn seal(&self, secret: &str) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = secret.as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .expect("a secret is shorter than the 64 GiB that AES-GCM seals");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Sealer::seal`] made.
    pub fn open(&self, sealed: &str) -> Result<String, SealError> {
        let mut bytes = URL_SAFE_NO_PAD
            .decode(sealed)
            .map_err(|_| SealError::Open)?;
        if bytes.len() < NONCE_LEN {
            return Err(SealError::Open);
        }
        let mut secret = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| SealError::Open)?;
        let secret = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut secret)
            .map_err(|_| SealError::Open)?;
        String::from_utf8(secret.to_vec()).map_err(|_| SealError::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_secrets_open_under_their_key_alone() {
        let sealer = Sealer::new(&STANDARD.encode([7; 32])).unwrap();
        let other = Sealer::new(&STANDARD.encode([8; 32])).unwrap();
        let sealed = sealer.seal("whsec_abc");
        assert_ne!(
            sealed,
            sealer.seal("whsec_abc"),
            "the nonce is new each time"
        );
        assert!(!sealed.contains("whsec"));
        assert_eq!(sealer.open(&sealed).unwrap(), "whsec_abc");
        assert_eq!(other.open(&sealed), Err(SealError::Open));
        let mut changed = sealed.into_bytes();
        changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
        assert_eq!(
            sealer.open(&String::from_utf8(changed).unwrap()),
            Err(SealError::Open)
        );
        assert_eq!(sealer.open(""), Err(SealError::Open));
        assert!(Sealer::new("c2hvcnQ=").is_err());
    }
}
