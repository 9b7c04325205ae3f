//! Ids that cannot be mistaken for one another.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

/// An id that does not have the form it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {value:?}")]
pub struct IdError {
    what: &'static str,
    value: String,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) { Ok(Self(value)) } else { Err(IdError { what: $what, value }) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some($pattern))
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

text_id!(
    /// A job: `job_` and 32 lower-case hexadecimal digits.
    JobId,
    "job id",
    "^job_[0-9a-f]{32}$",
    |text| text.strip_prefix("job_").is_some_and(|rest| rest.len() == 32 && lower_hex(rest))
);
text_id!(
    /// A tenant: `[a-z0-9-]{1,63}`.
    Tenant,
    "tenant",
    "^[a-z0-9-]{1,63}$",
    |text| (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b'-')
);
text_id!(
    /// The fencing token of one submission: 32 lower-case hexadecimal digits, new at each POST.
    Nonce,
    "nonce",
    "^[0-9a-f]{32}$",
    |text| text.len() == 32 && lower_hex(text)
);
text_id!(
    /// RunPod's own id of a submitted attempt; opaque.
    RunPodId,
    "RunPod job id",
    "^[!-~]{1,256}$",
    |text| (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

impl JobId {
    /// A job id from 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("job_{bits:032x}"))
    }

    /// The job id of an idempotency key: a second admission under the key is the same job,
    /// whatever was lost in between.
    pub fn derived(tenant: &Tenant, idempotency_key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"photofinish job\0");
        hash.update(tenant.as_str());
        hash.update(b"\0");
        hash.update(idempotency_key);
        Self(format!("job_{}", hex::encode(&hash.finalize()[..16])))
    }
}

impl Nonce {
    /// A nonce from 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }
}

/// The place of an item in the request, from 0.
pub type ItemIndex = u16;

/// One attempt, named in full: which submission of which part of which run of which job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AttemptRef {
    /// Whose job it is.
    pub tenant: Tenant,
    /// The job.
    pub job: JobId,
    /// The run, from 1.
    pub run: u32,
    /// The part, from 0.
    pub part: u16,
    /// The attempt, from 1.
    pub attempt: u16,
    /// The fencing token of this submission.
    pub nonce: Nonce,
}

impl fmt::Display for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} run {} part {} attempt {}",
            self.job, self.run, self.part, self.attempt
        )
    }
}

/// The name of a slot: which part of which run holds it, under which token. Whoever finds one that
/// nobody vouches for can look up what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlotName {
    /// Whose job it is.
    pub tenant: Tenant,
    /// The job.
    pub job: JobId,
    /// The run, from 1.
    pub run: u32,
    /// The part, from 0.
    pub part: u16,
    /// The fencing token of the submission.
    pub nonce: Nonce,
}

impl From<&AttemptRef> for SlotName {
    fn from(attempt: &AttemptRef) -> Self {
        Self {
            tenant: attempt.tenant.clone(),
            job: attempt.job.clone(),
            run: attempt.run,
            part: attempt.part,
            nonce: attempt.nonce.clone(),
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tenant,
            job,
            run,
            part,
            nonce,
        } = self;
        write!(f, "{tenant}/{job}/{run}/{part}/{nonce}")
    }
}

impl std::str::FromStr for SlotName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let mut fields = text.split('/');
            let slot = Self {
                tenant: fields.next()?.parse().ok()?,
                job: fields.next()?.parse().ok()?,
                run: fields.next()?.parse().ok()?,
                part: fields.next()?.parse().ok()?,
                nonce: fields.next()?.parse().ok()?,
            };
            fields.next().is_none().then_some(slot)
        };
        parse().ok_or_else(|| IdError {
            what: "slot name",
            value: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_form() {
        for good in ["a", "tenant-1", &"x".repeat(63)] {
            assert!(good.parse::<Tenant>().is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad}");
        }
        assert!("job_../../etc".parse::<JobId>().is_err());
        assert_eq!(JobId::from_random(7).as_str().len(), 36);
    }

    #[test]
    fn a_slots_name_tells_whose_it_is() {
        let slot = SlotName {
            tenant: "acme".parse().unwrap(),
            job: JobId::from_random(1),
            run: 2,
            part: 3,
            nonce: Nonce::from_random(4),
        };
        assert_eq!(slot.to_string().parse(), Ok(slot.clone()));
        for bad in [
            "",
            "x",
            &format!("{slot}/5"),
            Nonce::from_random(1).as_str(),
        ] {
            assert!(bad.parse::<SlotName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_gives_one_job_for_each_tenant() {
        let (a, b): (Tenant, Tenant) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(JobId::derived(&a, "k"), JobId::derived(&a, "k"));
        assert_ne!(JobId::derived(&a, "k"), JobId::derived(&b, "k"));
        assert_ne!(JobId::derived(&a, "k"), JobId::derived(&a, "l"));
    }
}
