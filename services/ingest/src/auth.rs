//! Who calls: the tenant of an API key, or an operator.
//!
//! A key carries a tag that only this deployment can make, so one that somebody has invented is refused without a
//! look anywhere. Keys from before there were tags are still good; of those, a process asks the bucket about a few a
//! second only, so that nobody can make it list the bucket as fast as he can invent them.

use crate::core::Ingest;
use crate::error::Refusal;
use crate::problems::BodyOf;
use crate::quotas::Door;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use photofinish_model::{Code, Tenant};
use photofinish_objects::{KeyRecord, KeyScope};
use secrecy::ExposeSecret as _;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What every API key begins with.
const KEY_PREFIX: &str = "pf_";
/// Characters of a key that are kept for people.
pub(crate) const SHOWN_CHARS: usize = 8;
/// Random bytes of a key, and bytes of its tag.
const RANDOM_BYTES: usize = 32;
const TAG_BYTES: usize = 6;
/// A key's use is noted at most so often.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// Keys whose last note is remembered; above it all are forgotten, and noted once more.
const NOTED_MAX: usize = 10_000;
/// Unknown keys without a tag that the bucket is asked about in a second.
const ASKED_PER_S: u32 = 20;

/// A caller with a tenant's key.
#[derive(Debug, Clone)]
pub(crate) struct AsTenant(pub(crate) Tenant);

/// A caller with an operator's key.
#[derive(Debug, Clone)]
pub(crate) struct AsOperator {
    /// The prefix of the key, or `configured`.
    pub(crate) operator: String,
    /// The request, for the log of acts.
    pub(crate) request_id: Option<String>,
}

/// Makes the tags of keys.
#[derive(Clone)]
pub(crate) struct KeyTags(Hmac<Sha256>);

impl std::fmt::Debug for KeyTags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyTags")
    }
}

/// What a key's shape says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Made here.
    Tagged,
    /// Made before there were tags, or invented.
    Untagged,
    /// No key at all.
    Nonsense,
}

impl KeyTags {
    /// Bound to the deployment's own secret.
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    pub(crate) fn new(secret: &str) -> Self {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes());
        Self(mac.expect("an HMAC takes a key of any length"))
    }

    fn mac(&self, random: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(b"api key");
        mac.update(random);
        mac
    }

    fn tag(&self, random: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&self.mac(random).finalize().into_bytes()[..TAG_BYTES]);
        tag
    }

    /// Whether it is the tag of these bytes, in a time that tells nothing of the right one.
    fn is_tag(&self, random: &[u8], tag: &[u8]) -> bool {
        tag.len() == TAG_BYTES && self.mac(random).verify_truncated_left(tag).is_ok()
    }

    /// A new API key.
    pub(crate) fn new_key(&self) -> String {
        let random = rand::random::<[u8; RANDOM_BYTES]>();
        let whole = [&random[..], &self.tag(&random)].concat();
        format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(whole))
    }

    fn shape(&self, key: &str) -> Shape {
        let whole = key
            .strip_prefix(KEY_PREFIX)
            .and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
        match whole
            .as_deref()
            .and_then(|whole| whole.split_at_checked(RANDOM_BYTES))
        {
            Some((_, [])) => Shape::Untagged,
            Some((random, tag)) if self.is_tag(random, tag) => Shape::Tagged,
            Some(_) | None => Shape::Nonsense,
        }
    }

    /// Whether two secrets are the same, in a time that tells nothing of either.
    fn same(&self, one: &str, other: &str) -> bool {
        let mut mac = self.0.clone();
        mac.update(other.as_bytes());
        let other = mac.finalize().into_bytes();
        let mut mac = self.0.clone();
        mac.update(one.as_bytes());
        mac.verify(&other).is_ok()
    }
}

/// Under what a key is kept. Keys are 256 random bits, so a plain hash is enough.
pub(crate) fn key_hash(key: &str) -> String {
    hex::encode(Sha256::digest(key))
}

/// What a process remembers of keys, for a moment: none of it says whether one is good.
#[derive(Debug, Default)]
pub(crate) struct KeyNotes {
    /// When the use of a key was last noted.
    noted: Mutex<HashMap<String, Instant>>,
    /// How many unknown keys the bucket was asked about since then.
    asked: Mutex<Option<(Instant, u32)>>,
}

impl KeyNotes {
    /// Whether it is time to note a key's use; who is told so does it.
    fn is_due(&self, hash: &str, now: Instant) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = noted
            .get(hash)
            .is_some_and(|at| now.saturating_duration_since(*at) < NOTED_EVERY);
        if !recent {
            if noted.len() >= NOTED_MAX {
                noted.clear();
            }
            noted.insert(hash.to_owned(), now);
        }
        !recent
    }

    /// Whether a key was good a while ago: those that invent keys must not shut it out.
    fn was_good(&self, hash: &str) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.contains_key(hash)
    }

    /// Whether the bucket may be asked about one more unknown key.
    fn may_ask(&self, now: Instant) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = asked
            .filter(|(since, _)| now.saturating_duration_since(*since) < Duration::from_secs(1))
            .unwrap_or((now, 0));
        *asked = Some((since, count.saturating_add(1)));
        count < ASKED_PER_S
    }
}

/// Whose key it is.
struct Caller {
    scope: KeyScope,
    /// The prefix of the key, or `configured`.
    name: String,
}

impl Ingest {
    async fn caller(&self, key: &str) -> Result<Caller, Refusal> {
        if let Some(operator) = &self.config.operator_key
            && self.config.key_tags.same(operator.expose_secret(), key)
        {
            return Ok(Caller {
                scope: KeyScope::Operator,
                name: "configured".to_owned(),
            });
        }
        let shape = self.config.key_tags.shape(key);
        let hash = match shape {
            Shape::Nonsense => return Err(unauthorized()),
            Shape::Tagged | Shape::Untagged => key_hash(key),
        };
        let kind = KeyRecord::KIND;
        let read = async || {
            let known = shape == Shape::Tagged || self.key_notes.was_good(&hash);
            if !known && !self.key_notes.may_ask(Instant::now()) {
                metrics::counter!("photofinish_ingest_keys_not_asked_total").increment(1);
                let detail = "too many unknown keys at the moment; try again in a while";
                return Err(Refusal::new(503, Code::Unavailable, detail));
            }
            let found: Option<(u64, KeyRecord)> = self.objects.system_get(kind, &hash).await?;
            Ok(found)
        };
        match self.jobstore.system_through_copy(kind, &hash, read).await? {
            Some(record) if !record.revoked => {
                self.note_use(&hash).await;
                Ok(Caller {
                    scope: record.scope,
                    name: record.prefix,
                })
            }
            Some(_) | None => Err(unauthorized()),
        }
    }

    /// Whether the key of a call that goes on still opens what is the tenant's. What is away says nothing of a key.
    pub(crate) async fn still_opens(&self, headers: &HeaderMap, tenant: &Tenant) -> bool {
        let Some(key) = key_of(headers) else {
            return false;
        };
        match self.caller(key).await {
            Ok(caller) => caller.scope == KeyScope::Tenant(tenant.clone()),
            Err(Refusal::Fault(_) | Refusal::Over(_)) => true,
            Err(Refusal::Problem(problem)) => problem.status != 401,
        }
    }

    /// Best effort: a use that is not noted is noted a minute later.
    async fn note_use(&self, hash: &str) {
        if !self.key_notes.is_due(hash, Instant::now()) {
            return;
        }
        if let Err(error) = self.jobstore.key_used(hash, self.now()).await {
            tracing::debug!(%error, "note a key's use");
        }
    }
}

fn unauthorized() -> Refusal {
    let detail = "send a valid API key as `Authorization: Bearer <key>`";
    Refusal::new(401, Code::Unauthorized, detail)
}

/// The key of a call: a bearer token, or `X-API-Key` as the old system had it.
fn key_of(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

impl FromRequestParts<Arc<Ingest>> for AsTenant {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, ingest: &Arc<Ingest>) -> Result<Self, Refusal> {
        let key = key_of(&parts.headers).ok_or_else(unauthorized)?;
        match ingest.caller(key).await?.scope {
            KeyScope::Tenant(tenant) => {
                tracing::Span::current().record("tenant", tenant.as_str());
                parts.extensions.insert(BodyOf(tenant.clone()));
                ingest.pace(&tenant, Door::Http).await?;
                Ok(Self(tenant))
            }
            KeyScope::Operator => {
                let detail = "this is an operator's key; use a key of the tenant";
                Err(Refusal::new(403, Code::Forbidden, detail))
            }
        }
    }
}

impl FromRequestParts<Arc<Ingest>> for AsOperator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, ingest: &Arc<Ingest>) -> Result<Self, Refusal> {
        let key = key_of(&parts.headers).ok_or_else(unauthorized)?;
        let caller = ingest.caller(key).await?;
        match caller.scope {
            KeyScope::Operator => {
                let id = parts.headers.get("x-request-id");
                Ok(Self {
                    operator: caller.name,
                    request_id: id.and_then(|id| id.to_str().ok()).map(str::to_owned),
                })
            }
            KeyScope::Tenant(_) => {
                let detail = "only an operator's key may do this";
                Err(Refusal::new(403, Code::Forbidden, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_ours_is_told_from_an_old_one_and_from_nonsense() {
        let tags = KeyTags::new("the secret");
        let key = tags.new_key();
        assert_eq!((key.len(), tags.shape(&key)), (54, Shape::Tagged));
        assert_eq!(KeyTags::new("another").shape(&key), Shape::Nonsense);
        let old = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode([7; RANDOM_BYTES]));
        assert_eq!(tags.shape(&old), Shape::Untagged);
        let invented = format!(
            "{KEY_PREFIX}{}",
            URL_SAFE_NO_PAD.encode([7; RANDOM_BYTES + TAG_BYTES])
        );
        for nonsense in [
            "",
            "pf_",
            "pf_short",
            "sk_live",
            &key[3..],
            &key[..50],
            &invented,
            "pf_ä",
        ] {
            assert_eq!(tags.shape(nonsense), Shape::Nonsense, "{nonsense}");
        }
        assert!(tags.same("one", "one") && !tags.same("one", "two"));
    }

    #[test]
    fn a_use_is_noted_once_a_minute_and_few_strangers_are_asked_after() {
        let (notes, now) = (KeyNotes::default(), Instant::now());
        assert!(notes.is_due("a", now) && notes.is_due("b", now));
        assert!(!notes.is_due("a", now + NOTED_EVERY / 2));
        assert!(notes.is_due("a", now + NOTED_EVERY));
        assert!(notes.was_good("a") && !notes.was_good("c"));
        let asked = (0..100).filter(|_| notes.may_ask(now)).count();
        assert_eq!(asked, 20);
        assert!(notes.may_ask(now + Duration::from_secs(1)));
    }
}
