//! A JSON value in one spelling, and its hash: two bodies that are equal as JSON values have the same.

use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

/// Whole numbers below this are the same as floats, too.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// SHA-256 of a body as a JSON value: order of keys, white space and the spelling of numbers (`3`, `3.0`) do not count.
pub(crate) fn body_sha256(body: &Value) -> String {
    let mut text = String::new();
    write(body, &mut text);
    hex::encode(Sha256::digest(text))
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_unstable();
            out.push('{');
            for name in names {
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write(&map[name], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for value in values {
                write(value, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(number) => out.push_str(&plain(number)),
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn plain(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < EXACT_MAX => {
            (float as i64).to_string()
        }
        Some(_) | None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_values_have_one_hash() {
        let hash = |text: &str| body_sha256(&serde_json::from_str(text).unwrap());
        let one = hash(r#"{"a": 3, "b": [1.5, "x", null, {"c": true, "d": -0.0}]}"#);
        assert_eq!(
            one,
            hash(r#"{ "b":[1.50,"\u0078",null,{"d":0,"c":true}],"a":3.0 }"#)
        );
        for other in [
            r#"{"a": 3, "b": [1.5, "x", null, {"c": true, "d": 1}]}"#,
            r#"{"a": "3", "b": [1.5, "x", null, {"c": true, "d": 0}]}"#,
            r#"{"a": 3, "b": ["x", 1.5, null, {"c": true, "d": 0}]}"#,
            r#"{"a": 3}"#,
        ] {
            assert_ne!(one, hash(other), "{other}");
        }
        assert_ne!(
            body_sha256(&json!([["a"], "b"])),
            body_sha256(&json!([["a", "b"]]))
        );
    }
}
