//! The tree of settings: unknown keys, types after the defaults, hiding of secrets. Pure.

use serde_json::{Map, Number, Value};

/// The value at `a.b.c`.
pub(super) fn lookup<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |value, key| value.get(key))
}

/// Brings every value of `tree` to the type of its default and names what is unknown or does not fit.
pub(super) fn check(tree: &mut Value, defaults: &Value, errors: &mut Vec<String>) {
    walk(tree, defaults, "", errors);
}

fn walk(value: &mut Value, default: &Value, path: &str, errors: &mut Vec<String>) {
    match (default, &mut *value) {
        // An empty table in the defaults is open: what is in it is the service's to check.
        (Value::Object(known), Value::Object(_)) if known.is_empty() => {}
        (Value::Object(known), Value::Object(given)) => {
            for (key, inner) in given.iter_mut() {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match known.get(key) {
                    Some(default) => walk(inner, default, &path, errors),
                    None => errors.push(format!("{path}: unknown key; known are {}", names(known))),
                }
            }
        }
        _ => match fitted(value, default) {
            Ok(fit) => *value = fit,
            Err(wanted) => errors.push(format!("{path}: {wanted} expected")),
        },
    }
}

fn names(table: &Map<String, Value>) -> String {
    table
        .keys()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// `value` as the type of `default`, or the name of that type.
fn fitted(value: &Value, default: &Value) -> Result<Value, &'static str> {
    match default {
        Value::Null => Ok(value.clone()),
        Value::Bool(_) => as_bool(value).map(Value::Bool).ok_or("true or false"),
        Value::Number(number) if number.is_f64() => as_float(value).ok_or("a number"),
        Value::Number(_) => as_integer(value).ok_or("a whole number"),
        Value::String(_) => value.as_str().map(Value::from).ok_or("a text"),
        Value::Array(_) => as_list(value).ok_or("a list, or a text with commas"),
        Value::Object(_) => Err("a table"),
    }
}

fn as_bool(value: &Value) -> Option<bool> {
    match value.as_str().map(str::trim) {
        Some("true" | "1" | "yes" | "on") => Some(true),
        Some("false" | "0" | "no" | "off") => Some(false),
        Some(_) => None,
        None => value.as_bool(),
    }
}

fn as_float(value: &Value) -> Option<Value> {
    let number = match value.as_str() {
        Some(text) => text.trim().parse().ok()?,
        None => value.as_f64()?,
    };
    Number::from_f64(number).map(Value::Number)
}

fn as_integer(value: &Value) -> Option<Value> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    if let Ok(number) = text.parse::<i64>() {
        return Some(Value::from(number));
    }
    text.parse::<u64>().ok().map(Value::from)
}

fn as_list(value: &Value) -> Option<Value> {
    let text = match value {
        Value::Array(_) => return Some(value.clone()),
        Value::String(text) => text.trim(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    if text.starts_with('[') {
        return serde_json::from_str::<Vec<Value>>(text)
            .ok()
            .map(Value::Array);
    }
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    Some(items.map(Value::from).collect())
}

const HIDDEN: &str = "(hidden)";

/// A copy in which secrets are hidden: keys named `*_key`, `*_keys`, `*password*`, `*secret*`, `*token*`, and the
/// user-info of URLs. Empty values are shown, so that a missing secret is seen.
pub fn hidden(tree: &Value) -> Value {
    match tree {
        Value::Object(table) => table
            .iter()
            .map(|(key, value)| {
                let shown = if is_secret(key) {
                    masked(value)
                } else {
                    hidden(value)
                };
                (key.clone(), shown)
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(hidden).collect(),
        Value::String(text) => Value::String(without_user_info(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => tree.clone(),
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let parts = ["password", "secret", "token"];
    key.ends_with("_key")
        || key.ends_with("_keys")
        || key == "key"
        || parts.iter().any(|part| key.contains(part))
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) if !text.is_empty() => HIDDEN.into(),
        Value::Array(items) if !items.is_empty() => HIDDEN.into(),
        Value::Object(table) => table
            .iter()
            .map(|(key, value)| (key.clone(), masked(value)))
            .collect::<Map<_, _>>()
            .into(),
        // Numbers and booleans are settings about secrets (lifetimes, switches), never the secret itself.
        Value::String(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {
            value.clone()
        }
    }
}

fn without_user_info(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}
