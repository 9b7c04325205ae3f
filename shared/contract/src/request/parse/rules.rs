//! The rules for single values.

use super::fields::{Faults, Field};
use crate::request::METADATA_BYTES_MAX;
use photofinish_model::Code;
use serde_json::{Map, Value};

/// A number within limits.
pub(super) fn number(field: &Field<'_>, min: f64, max: f64, faults: &mut Faults) -> Option<f64> {
    let Some(number) = field.value.as_f64() else {
        faults.wrong_type(&field.pointer, "a number");
        return None;
    };
    if (min..=max).contains(&number) {
        return Some(number);
    }
    faults.add(
        &field.pointer,
        Code::OutOfRange,
        format!("must be {min} to {max}"),
    );
    None
}

/// A whole number within limits; `3.0` is one, too.
pub(super) fn whole(field: &Field<'_>, min: u64, max: u64, faults: &mut Faults) -> Option<u64> {
    let Some(number) = field.value.as_f64().filter(|number| number.fract() == 0.0) else {
        faults.wrong_type(&field.pointer, "a whole number");
        return None;
    };
    if (min as f64..=max as f64).contains(&number) {
        return Some(number as u64);
    }
    faults.add(
        &field.pointer,
        Code::OutOfRange,
        format!("must be {min} to {max}"),
    );
    None
}

/// A side of the picture: even, 64 to 3840 pixels.
pub(super) fn edge(field: &Field<'_>, faults: &mut Faults) -> Option<u32> {
    let pixels = whole(field, 64, 3840, faults)?;
    if pixels % 2 == 1 {
        faults.add(&field.pointer, Code::OutOfRange, "must be even");
        return None;
    }
    Some(pixels as u32)
}

/// A text of at least one character.
pub(super) fn text(field: &Field<'_>, chars_max: usize, faults: &mut Faults) -> Option<String> {
    let Some(text) = field.value.as_str() else {
        faults.wrong_type(&field.pointer, "a text");
        return None;
    };
    if (1..=chars_max).contains(&text.chars().count()) {
        return Some(text.to_owned());
    }
    let detail = format!("must have 1 to {chars_max} characters");
    faults.add(&field.pointer, Code::OutOfRange, detail);
    None
}

/// `#rrggbb` or `#rrggbbaa`.
pub(super) fn colour(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let good = field.value.as_str().filter(|text| {
        text.strip_prefix('#').is_some_and(|digits| {
            matches!(digits.len(), 6 | 8) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    if good.is_none() {
        let detail = "must be a colour such as #ffcc00 or, with opacity, #ffcc0080";
        let code = if field.value.is_string() {
            Code::NotAllowed
        } else {
            Code::WrongType
        };
        faults.add(&field.pointer, code, detail);
    }
    good.map(str::to_owned)
}

/// True or false.
pub(super) fn flag(field: &Field<'_>, faults: &mut Faults) -> Option<bool> {
    let flag = field.value.as_bool();
    if flag.is_none() {
        faults.wrong_type(&field.pointer, "true or false");
    }
    flag
}

/// The client's own data.
pub(super) fn metadata(field: &Field<'_>, faults: &mut Faults) -> Option<Map<String, Value>> {
    let Some(map) = field.value.as_object() else {
        faults.wrong_type(&field.pointer, "an object");
        return None;
    };
    let bytes = field.value.to_string().len();
    if bytes <= METADATA_BYTES_MAX {
        return Some(map.clone());
    }
    let detail = format!("has {bytes} bytes as JSON; at most {METADATA_BYTES_MAX} are kept");
    faults.add(&field.pointer, Code::OutOfRange, detail);
    None
}
