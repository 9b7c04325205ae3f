//! Field helpers for settings: durations, optional texts. Use them with `#[serde(deserialize_with = "…")]`.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer};

/// Seconds as a number, such as `2.5`; negative or endless is an error.
pub fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(from)?;
    Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)
}

/// Milliseconds as a whole number.
pub fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_millis)
}

/// A text whose empty value means "not set": the way to write an optional key in the defaults.
pub fn optional_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok((!text.is_empty()).then_some(text))
}

/// A secret text whose empty value means "not set".
pub fn optional_secret<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<secrecy::SecretString>, D::Error> {
    optional_text(from).map(|text| text.map(secrecy::SecretString::from))
}

/// A number whose 0 means "not set".
pub fn optional_count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = u64::deserialize(from)?;
    Ok((number > 0).then_some(number))
}
