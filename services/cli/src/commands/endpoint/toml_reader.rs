//! TOML, read value by value so that every fault is found, each with its line and key.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

/// A table of the document, or its absence.
#[derive(Debug)]
pub(crate) struct Section<'t> {
    /// `workers.`, or nothing for the document itself.
    prefix: String,
    table: Option<&'t DeTable<'t>>,
    /// Where it begins.
    at: usize,
}

impl<'t> Section<'t> {
    /// The document itself.
    pub(crate) fn root(table: &'t DeTable<'t>) -> Self {
        Self {
            prefix: String::new(),
            table: Some(table),
            at: 0,
        }
    }

    /// Whether the file has it.
    pub(crate) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether it has the key, with whatever value.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Its keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        let table = self.table.into_iter().flat_map(|table| table.keys());
        table.map(|key| key.get_ref().to_string()).collect()
    }

    fn value(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        let mut pairs = self.table?.iter();
        let found = pairs.find(|(name, _)| name.get_ref().as_ref() == key);
        found.map(|(_, value)| value)
    }
}

/// Reads values and collects what is wrong with them.
pub(crate) struct Reader<'a> {
    text: &'a str,
    shell: &'a dyn Fn(&str) -> Option<String>,
    /// Where in the file, and what.
    faults: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    /// Parses the text; else every fault of its syntax.
    pub(crate) fn document(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<String>> {
        let (document, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(document);
        }
        let told = errors.iter().map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            format!("line {}: {}", line_of(text, at), error.message())
        });
        Err(told.collect())
    }

    /// A reader of this text; `shell` looks up environment variables.
    pub(crate) fn new(text: &'a str, shell: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            text,
            shell,
            faults: Vec::new(),
        }
    }

    /// What is wrong, in the order of the file.
    pub(crate) fn into_faults(mut self) -> Vec<String> {
        self.faults.sort();
        self.faults.dedup();
        self.faults.into_iter().map(|(_, told)| told).collect()
    }

    /// Notes a fault of a key.
    pub(crate) fn fault(&mut self, section: &Section<'_>, key: &str, what: &str) {
        let at = section.value(key).map(|value| value.span().start);
        let at = at.unwrap_or(section.at);
        self.note(at, &format!("{}{key}", section.prefix), what);
    }

    /// Notes that a key is needed.
    pub(crate) fn missing(&mut self, section: &Section<'_>, key: &str) {
        self.fault(section, key, "is needed");
    }

    /// Whether a fault of the key was noted.
    pub(crate) fn has_fault_at(&self, section: &Section<'_>, key: &str) -> bool {
        let start = section.value(key).map(|value| value.span().start);
        self.faults.iter().any(|(at, _)| Some(*at) == start)
    }

    /// Notes every key that means nothing.
    pub(crate) fn only(&mut self, section: &Section<'_>, known: &[&str]) {
        let pairs = section.table.into_iter().flat_map(|table| table.iter());
        for (key, _) in pairs {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let what = format!("is no key of this file; known here: {}", known.join(", "));
                self.note(
                    key.span().start,
                    &format!("{}{name}", section.prefix),
                    &what,
                );
            }
        }
    }

    /// A table within a table.
    pub(crate) fn section<'t>(&mut self, parent: &Section<'t>, key: &str) -> Section<'t> {
        let value = parent.value(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        if value.is_some() && table.is_none() {
            self.fault(parent, key, "is a table");
        }
        Section {
            prefix: format!("{key}."),
            table,
            at: value.map_or(0, |value| value.span().start),
        }
    }

    /// A text, or what the shell has under `{ env = "NAME" }`.
    pub(crate) fn text(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        self.text_and_origin(section, key).map(|(text, _)| text)
    }

    /// A text, and whether it came from the shell.
    pub(crate) fn text_and_origin(
        &mut self,
        section: &Section<'_>,
        key: &str,
    ) -> Option<(String, bool)> {
        let value = section.value(key)?.get_ref();
        if let Some(text) = value.as_str() {
            return Some((text.to_owned(), false));
        }
        let table = value.as_table().filter(|table| table.len() == 1);
        let name = table.and_then(|table| {
            let (name, value) = table.iter().next()?;
            value.get_ref().as_str().filter(|_| name.get_ref() == "env")
        });
        let Some(name) = name else {
            self.fault(section, key, "is a text, or { env = \"NAME\" }");
            return None;
        };
        let found = (self.shell)(name).filter(|value| !value.is_empty());
        if found.is_none() {
            let what = format!("comes from the environment variable {name}, which is not set");
            self.fault(section, key, &what);
        }
        Some((found?, true))
    }

    /// A text that has to be there.
    pub(crate) fn required_text(&mut self, section: &Section<'_>, key: &str) -> String {
        let text = self.text(section, key);
        let empty = text.as_ref().is_some_and(String::is_empty);
        if empty || !section.has(key) {
            self.missing(section, key);
        }
        text.unwrap_or_default()
    }

    /// One of a few words.
    pub(crate) fn choice(
        &mut self,
        section: &Section<'_>,
        key: &str,
        words: &[&'static str],
    ) -> Option<&'static str> {
        let text = self.text(section, key)?;
        let found = words.iter().find(|word| **word == text).copied();
        if found.is_none() {
            let what = format!("{text:?} is none of {}", words.join(", "));
            self.fault(section, key, &what);
        }
        found
    }

    /// A whole number in a range.
    pub(crate) fn whole(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = section.value(key)?.get_ref();
        let number = value
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let what = format!(
                "is a whole number from {} to {}",
                range.start(),
                range.end()
            );
            self.fault(section, key, &what);
        }
        number
    }

    /// Seconds, with a fraction or without, from `min` on.
    pub(crate) fn seconds(&mut self, section: &Section<'_>, key: &str, min: f64) -> Option<f64> {
        let value = section.value(key)?.get_ref();
        let text = value
            .as_float()
            .map(DeFloat::as_str)
            .or_else(|| value.as_integer().map(DeInteger::as_str));
        let number = text
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|number| number.is_finite() && *number >= min);
        if number.is_none() {
            self.fault(
                section,
                key,
                &format!("is a number of seconds, at least {min}"),
            );
        }
        number
    }

    /// A list of texts, as a set; doubles are a fault.
    pub(crate) fn list(&mut self, section: &Section<'_>, key: &str) -> Option<BTreeSet<String>> {
        let value = section.value(key)?.get_ref();
        let rows = value.as_array().map(|rows| {
            let texts = rows
                .iter()
                .map(|row| row.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        });
        let Some(Some(rows)) = rows else {
            self.fault(section, key, "is a list of texts");
            return None;
        };
        let count = rows.len();
        let set: BTreeSet<String> = rows.into_iter().collect();
        if set.len() < count {
            self.fault(section, key, "names something twice");
        }
        Some(set)
    }

    fn note(&mut self, at: usize, key: &str, what: &str) {
        let line = line_of(self.text, at);
        self.faults.push((at, format!("line {line}: {key} {what}")));
    }
}

/// Lines count from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}
