//! GraphQL as the official tools write it: fields, arguments and variables; no fragments.

use serde_json::{Map, Number, Value};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 16;

/// One field that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// What it is to be called in the answer.
    pub(super) alias: String,
    /// Its arguments.
    pub(super) args: Map<String, Value>,
    /// What is wanted of it; empty: it is a plain value.
    pub(super) fields: Vec<Field>,
}

/// The fields of the first operation; else what could not be read.
pub(super) fn parse(text: &str, variables: &Value) -> Result<Vec<Field>, String> {
    let mut reader = Reader {
        rest: text,
        variables,
    };
    reader.space();
    // `query`, `mutation`, a name and the declaration of variables say nothing that is needed.
    let begin = match reader.rest.split_once('(') {
        Some((before, _)) if !before.contains('{') => {
            let after = reader.rest.find(')').ok_or("an open (")?;
            after + 1
        }
        _ => 0,
    };
    let begin = begin + reader.rest[begin..].find('{').ok_or("no {")?;
    reader.rest = &reader.rest[begin..];
    reader.fields(0)
}

/// `value` with just the fields that were asked for.
pub(super) fn select(value: &Value, fields: &[Field]) -> Value {
    match value {
        Value::Array(rows) => rows.iter().map(|row| select(row, fields)).collect(),
        Value::Object(_) if !fields.is_empty() => {
            let picked = fields.iter().map(|field| {
                let value = value.get(&field.name).unwrap_or(&Value::Null);
                (field.alias.clone(), select(value, &field.fields))
            });
            Value::Object(picked.collect())
        }
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            value.clone()
        }
    }
}

#[derive(Debug)]
struct Reader<'a> {
    rest: &'a str,
    variables: &'a Value,
}

impl Reader<'_> {
    /// Spaces, commas and comments mean nothing.
    fn space(&mut self) {
        loop {
            let ignored = |c: char| c.is_whitespace() || c == ',' || c == '\u{feff}';
            self.rest = self.rest.trim_start_matches(ignored);
            if !self.rest.starts_with('#') {
                return;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
    }

    fn eat(&mut self, mark: char) -> bool {
        self.space();
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn need(&mut self, mark: char) -> Result<(), String> {
        if self.eat(mark) {
            return Ok(());
        }
        let here: String = self.rest.chars().take(20).collect();
        Err(format!("expected {mark} before {here:?}"))
    }

    fn word(&mut self) -> Result<String, String> {
        self.space();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        if end == 0 {
            let here: String = self.rest.chars().take(20).collect();
            return Err(format!("expected a name before {here:?}"));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word.to_owned())
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, String> {
        if depth > DEPTH_MAX {
            return Err("too deep".to_owned());
        }
        self.need('{')?;
        let mut fields = Vec::new();
        while !self.eat('}') {
            let mut name = self.word()?;
            let alias = name.clone();
            if self.eat(':') {
                name = self.word()?;
            }
            let args = if self.eat('(') {
                self.pairs(')', depth)?
            } else {
                Map::new()
            };
            self.space();
            let inner = if self.rest.starts_with('{') {
                self.fields(depth + 1)?
            } else {
                Vec::new()
            };
            fields.push(Field {
                name,
                alias,
                args,
                fields: inner,
            });
        }
        Ok(fields)
    }

    fn pairs(&mut self, end: char, depth: usize) -> Result<Map<String, Value>, String> {
        let mut pairs = Map::new();
        while !self.eat(end) {
            let name = self.word()?;
            self.need(':')?;
            pairs.insert(name, self.value(depth + 1)?);
        }
        Ok(pairs)
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err("too deep".to_owned());
        }
        if self.eat('{') {
            return Ok(Value::Object(self.pairs('}', depth)?));
        }
        if self.eat('[') {
            let mut rows = Vec::new();
            while !self.eat(']') {
                rows.push(self.value(depth + 1)?);
            }
            return Ok(Value::Array(rows));
        }
        if self.eat('$') {
            let name = self.word()?;
            return Ok(self.variables.get(&name).cloned().unwrap_or_default());
        }
        if self.rest.starts_with('"') {
            return self.text();
        }
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || ",)]}".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Ok(match word {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            "" => return Err("expected a value".to_owned()),
            // Else a word of an enumeration.
            _ => number(word).unwrap_or_else(|| Value::String(word.to_owned())),
        })
    }

    fn text(&mut self) -> Result<Value, String> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find_map(|(at, c)| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end.then_some(at + 1)
        });
        let (text, rest) = self.rest.split_at(end.ok_or("an open text")?);
        self.rest = rest;
        // Escapes are those of JSON; a raw line break is let pass.
        let text = text.replace('\n', "\\n");
        serde_json::from_str(&text).map_err(|error| format!("the text {text}: {error}"))
    }
}

fn number(word: &str) -> Option<Value> {
    let whole = word.parse::<i64>().ok().map(Value::from);
    let float = || Number::from_f64(word.parse().ok()?).map(Value::Number);
    whole.or_else(float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_python_sdk_writes_is_read() {
        let text = r#"
    mutation {
        saveEndpoint(
            input: {
                flashBootType: FLASHBOOT, name: "w \"1\"", idleTimeout: 5, env: [{ key: "A", value: "1" }], on: true
            }
        ) {
            id
            env { key }
        }
    }"#;
        let fields = parse(text, &Value::Null).unwrap();
        assert_eq!(fields[0].name, "saveEndpoint");
        assert_eq!(
            fields[0].args["input"],
            json!({"flashBootType": "FLASHBOOT", "name": "w \"1\"", "idleTimeout": 5,
                   "env": [{"key": "A", "value": "1"}], "on": true})
        );
        let value = json!({"id": "e", "env": [{"key": "A", "value": "1"}], "more": 1});
        assert_eq!(
            select(&value, &fields[0].fields),
            json!({"id": "e", "env": [{"key": "A"}]})
        );
    }

    #[test]
    fn variables_are_put_in() {
        let text = "mutation M($id: String!) { gone: deleteEndpoint(id: $id) }";
        let fields = parse(text, &json!({"id": "ep"})).unwrap();
        assert_eq!(
            (fields[0].alias.as_str(), &fields[0].args["id"]),
            ("gone", &json!("ep"))
        );
        let plain = parse(
            "query Query {\n  myself { endpoints { id } }\n}",
            &Value::Null,
        )
        .unwrap();
        assert_eq!(plain[0].fields[0].name, "endpoints");
    }

    #[test]
    fn nonsense_is_no_query() {
        for text in ["", "{", "{ a(", "{ a(x: ) }", "{ a(x: \"open) }", "query ("] {
            assert!(parse(text, &Value::Null).is_err(), "{text}");
        }
        let deep = "{a".repeat(100);
        assert!(parse(&deep, &Value::Null).is_err());
    }
}
