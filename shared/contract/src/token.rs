//! Tokens that carry their own proof: which attempt they are for, under an HMAC-SHA256.
//!
//! A token is a capability for one attempt and one purpose, needs no store to be checked, and is
//! never logged ([`TokenKeys`] and tokens print as nothing).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use photofinish_model::AttemptRef;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;

/// The shortest key that is taken, in bytes.
pub const KEY_BYTES_MIN: usize = 32;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Telling us about an attempt: `/hooks/runpod/{token}`.
    Hook,
    /// Fetching outputs off the worker.
    Output,
}

/// Why a token or a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is not of the form that we make.
    #[error("malformed token")]
    Malformed,
    /// The proof is wrong, or the purpose is another.
    #[error("token is not valid here")]
    Invalid,
    /// A key is not base64.
    #[error("token key is not base64")]
    KeyForm,
    /// A key is too short.
    #[error("token key has fewer than {KEY_BYTES_MIN} bytes")]
    WeakKey,
}

/// The keys tokens are made with (the first) and checked with (all: two while rotating).
#[derive(Clone)]
pub struct TokenKeys(Vec<Vec<u8>>);

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({} hidden)", self.0.len())
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(rename = "p")]
    purpose: Purpose,
    #[serde(rename = "a")]
    attempt: AttemptRef,
}

impl TokenKeys {
    /// Keys in the order of preference.
    pub fn new(keys: Vec<Vec<u8>>) -> Result<Self, TokenError> {
        if keys.is_empty() || keys.iter().any(|key| key.len() < KEY_BYTES_MIN) {
            return Err(TokenError::WeakKey);
        }
        Ok(Self(keys))
    }

    /// Keys in base64, separated by commas, as they stand in a configuration.
    pub fn from_base64(text: &str) -> Result<Self, TokenError> {
        let decode = |key: &str| STANDARD.decode(key.trim()).map_err(|_| TokenError::KeyForm);
        Self::new(text.split(',').map(decode).collect::<Result<_, _>>()?)
    }

    /// A token for one attempt and one purpose; URL-safe text.
    pub fn mint(&self, purpose: Purpose, attempt: &AttemptRef) -> String {
        let claims = Claims {
            purpose,
            attempt: attempt.clone(),
        };
        let body = URL_SAFE_NO_PAD
            .encode(serde_json::to_vec(&claims).expect("claims are strings and numbers"));
        let proof = URL_SAFE_NO_PAD.encode(mac(&self.0[0], &body).finalize().into_bytes());
        format!("{body}.{proof}")
    }

    /// The attempt that a token is for, if it is ours and for this purpose.
    pub fn verify(&self, purpose: Purpose, token: &str) -> Result<AttemptRef, TokenError> {
        let (body, proof) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let proof = URL_SAFE_NO_PAD
            .decode(proof)
            .map_err(|_| TokenError::Malformed)?;
        if !self
            .0
            .iter()
            .any(|key| mac(key, body).verify_slice(&proof).is_ok())
        {
            return Err(TokenError::Invalid);
        }
        let claims = URL_SAFE_NO_PAD
            .decode(body)
            .map_err(|_| TokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenError::Malformed)?;
        if claims.purpose == purpose {
            Ok(claims.attempt)
        } else {
            Err(TokenError::Invalid)
        }
    }
}

fn mac(key: &[u8], body: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_model::{JobId, Nonce};

    fn attempt() -> AttemptRef {
        AttemptRef {
            tenant: "acme".parse().unwrap(),
            job: JobId::from_random(1),
            run: 1,
            part: 0,
            attempt: 1,
            nonce: Nonce::from_random(2),
        }
    }

    #[test]
    fn a_token_is_good_for_its_attempt_and_purpose_alone() {
        let old = TokenKeys::new(vec![vec![1; 32]]).unwrap();
        let rotating = TokenKeys::new(vec![vec![2; 32], vec![1; 32]]).unwrap();
        let other = TokenKeys::new(vec![vec![3; 32]]).unwrap();
        let token = old.mint(Purpose::Hook, &attempt());
        assert_eq!(old.verify(Purpose::Hook, &token), Ok(attempt()));
        assert_eq!(rotating.verify(Purpose::Hook, &token), Ok(attempt()));
        assert_eq!(
            other.verify(Purpose::Hook, &token),
            Err(TokenError::Invalid)
        );
        assert_eq!(
            old.verify(Purpose::Output, &token),
            Err(TokenError::Invalid)
        );
    }

    #[test]
    fn a_changed_token_is_refused() {
        let keys = TokenKeys::new(vec![vec![1; 32]]).unwrap();
        let token = keys.mint(Purpose::Hook, &attempt());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last character of a part may carry unused bits only.
            if URL_SAFE_NO_PAD
                .decode(changed.rsplit('.').next().unwrap_or(""))
                .is_ok()
            {
                assert!(keys.verify(Purpose::Hook, &changed).is_err(), "{at}");
            }
        }
        assert!(TokenKeys::new(vec![vec![1; 31]]).is_err());
    }
}
