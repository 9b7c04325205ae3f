//! Headers: the names that are ours, and the allow-list of what a republish carries.
//!
//! Guarantee: nothing that RabbitMQ or a client put into a message survives a republish unless it is listed here:
//! not CC, BCC, `x-death` or any routing trick.

use lapin::types::{AMQPValue, FieldTable, ShortString};
use uuid::Uuid;

pub(crate) const ATTEMPT: &str = "x-attempt";
pub(crate) const TURN: &str = "x-turn";
pub(crate) const TURN_ID: &str = "x-turn-id";
pub(crate) const REMAINING_MS: &str = "x-remaining-ms";
/// Milliseconds since 1970 at which it came, or is to come, out of its wait: for numbers alone.
pub(crate) const READY_MS: &str = "x-ready-ms";
/// Exchange and key of the first publish: a turn comes back through the default exchange, a retry through a tier.
pub(crate) const FIRST_EXCHANGE: &str = "x-first-exchange";
/// See the exchange; also on refused submissions, for whoever takes one up again.
pub const FIRST_KEY: &str = "x-first-routing-key";
pub(crate) const PARKED_CODE: &str = "x-parked-code";
pub(crate) const PARKED_REASON: &str = "x-parked-reason";
pub(crate) const PARKED_ORIGIN: &str = "x-parked-origin";
pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";
/// The AMQP user who published a submission, kept when ingest republishes it.
pub const TENANT: &str = "x-photofinish-tenant";
/// Headers of refused submissions; see the public contract.
pub const REJECTED_CODE: &str = "x-rejected-code";
/// See [`REJECTED_CODE`].
pub const REJECTED_DETAIL: &str = "x-rejected-detail";

const OURS: [&str; 14] = [
    ATTEMPT,
    TURN,
    TURN_ID,
    REMAINING_MS,
    READY_MS,
    FIRST_EXCHANGE,
    FIRST_KEY,
    PARKED_CODE,
    PARKED_REASON,
    PARKED_ORIGIN,
    TRACEPARENT,
    TRACESTATE,
    REJECTED_CODE,
    REJECTED_DETAIL,
];

/// Whether a republish carries this header. Services may add their own under `x-photofinish-`.
pub(crate) fn allowed(name: &str) -> bool {
    OURS.contains(&name) || name.starts_with("x-photofinish-")
}

/// Reads a text, whatever kind of string it is.
pub(crate) fn text(table: &FieldTable, name: &str) -> Option<String> {
    let value = table.inner().get(name)?;
    if let Some(text) = value.as_long_string() {
        return Some(String::from_utf8_lossy(text.as_bytes()).into_owned());
    }
    value.as_short_string().map(ToString::to_string)
}

/// Reads a whole number, whatever width it came with; a negative one counts as absent.
pub(crate) fn number(table: &FieldTable, name: &str) -> Option<u64> {
    let value = table.inner().get(name)?;
    let signed = value
        .as_long_long_int()
        .or_else(|| value.as_long_int().map(i64::from))
        .or_else(|| value.as_short_int().map(i64::from))
        .or_else(|| value.as_short_short_int().map(i64::from))
        .or_else(|| value.as_long_uint().map(i64::from))
        .or_else(|| value.as_short_uint().map(i64::from))
        .or_else(|| value.as_short_short_uint().map(i64::from));
    signed.and_then(|signed| u64::try_from(signed).ok())
}

/// Reads an id.
pub(crate) fn uuid(table: &FieldTable, name: &str) -> Option<Uuid> {
    text(table, name)?.parse().ok()
}

/// Writes a text. Names are ours or checked before, so they are short.
pub(crate) fn put_text(table: &mut FieldTable, name: &'static str, text: &str) {
    table.insert(short(name), AMQPValue::LongString(text.into()));
}

/// Writes a whole number.
pub(crate) fn put_number(table: &mut FieldTable, name: &'static str, number: u64) {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    table.insert(short(name), AMQPValue::LongLongInt(number));
}

/// A table without one header.
pub(crate) fn without(table: &FieldTable, names: &[&str]) -> FieldTable {
    keep(table, |name| !names.contains(&name))
}

/// A table with only the headers that a condition allows.
pub(crate) fn keep(table: &FieldTable, condition: impl Fn(&str) -> bool) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in table.inner() {
        if condition(name.as_str()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

fn short(name: &'static str) -> ShortString {
    ShortString::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ours_pass() {
        for name in [
            "CC",
            "BCC",
            "x-death",
            "x-delivery-count",
            "x-first-death-queue",
            "expiration",
        ] {
            assert!(!allowed(name), "{name}");
        }
        for name in [
            "x-attempt",
            "traceparent",
            "x-photofinish-tenant",
            "x-rejected-code",
        ] {
            assert!(allowed(name), "{name}");
        }
    }

    #[test]
    fn numbers_of_every_width_are_read() {
        let mut table = FieldTable::default();
        table.insert("a".into(), AMQPValue::ShortShortInt(3));
        table.insert("b".into(), AMQPValue::LongUInt(4));
        table.insert("c".into(), AMQPValue::LongLongInt(-1));
        assert_eq!(number(&table, "a"), Some(3));
        assert_eq!(number(&table, "b"), Some(4));
        assert_eq!(number(&table, "c"), None);
        put_text(&mut table, ATTEMPT, "9");
        assert_eq!(number(&table, ATTEMPT), None);
    }
}
