//! JSON values as YAML that people can read: blocks for objects and arrays, JSON's own spelling for the rest.

use serde_json::Value;
use std::fmt::{self, Write as _};

/// The value as a YAML document.
pub(crate) fn text(value: &Value) -> Result<String, fmt::Error> {
    let mut out = String::new();
    block(&mut out, value, 0)?;
    Ok(out)
}

/// An object or array in lines of their own, at this depth.
fn block(out: &mut String, value: &Value, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                write!(out, "{indent}{}:", key(name))?;
                after(out, value, depth)?;
            }
        }
        Value::Array(values) => {
            for value in values {
                write!(out, "{indent}-")?;
                after(out, value, depth)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            writeln!(out, "{indent}{value}")?;
        }
    }
    Ok(())
}

/// What comes after a key or a dash.
fn after(out: &mut String, value: &Value, depth: usize) -> fmt::Result {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    if is_block {
        out.push('\n');
        return block(out, value, depth + 1);
    }
    // JSON is YAML.
    writeln!(out, " {value}")
}

/// A key as it is when it is a plain word, else in quotes.
fn key(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic());
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if plain && !is_word.contains(&name.to_ascii_lowercase().as_str()) {
        return name.to_owned();
    }
    Value::from(name).to_string()
}
