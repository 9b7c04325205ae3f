//! A JSON object with its place in the body, and the list of faults found so far.

use crate::problem::ProblemError;
use photofinish_model::Code;
use serde_json::{Map, Value};
use std::fmt::Display;

/// Faults that are named at most; a body of 1 MiB could hold a hundred thousand.
pub(super) const FAULTS_MAX: usize = 1000;

/// Faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    errors: Vec<ProblemError>,
}

impl Faults {
    pub(super) fn add(&mut self, pointer: &str, code: Code, detail: impl Into<String>) {
        if self.errors.len() < FAULTS_MAX {
            let detail = detail.into();
            self.errors.push(ProblemError {
                pointer: pointer.to_owned(),
                code,
                detail,
            });
        }
    }

    pub(super) fn wrong_type(&mut self, pointer: &str, wanted: &str) {
        self.add(pointer, Code::WrongType, format!("must be {wanted}"));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn into_errors(self) -> Vec<ProblemError> {
        self.errors
    }
}

/// One value with its place.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub(super) value: &'a Value,
    pub(super) pointer: String,
}

/// An object with its place. A field that is null counts as not given.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    pub(super) pointer: String,
}

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value, pointer: String, faults: &mut Faults) -> Option<Self> {
        if let Some(map) = value.as_object() {
            return Some(Self { map, pointer });
        }
        faults.wrong_type(&pointer, "an object");
        None
    }

    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Field {
            value,
            pointer: at(&self.pointer, name),
        })
    }

    pub(super) fn require(&self, name: &str, what: &str, faults: &mut Faults) -> Option<Field<'a>> {
        let field = self.get(name);
        if field.is_none() {
            faults.add(
                &at(&self.pointer, name),
                Code::Required,
                format!("missing: {what}"),
            );
        }
        field
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
        faults: &mut Faults,
    ) -> Option<T> {
        word(&self.get(name)?, words, faults)
    }

    pub(super) fn refuse_unknown(
        &self,
        known: impl Fn(&str) -> bool,
        of: Option<&str>,
        faults: &mut Faults,
    ) {
        for name in self.map.keys().filter(|name| !known(name)) {
            let whose = of.map(|of| format!(" of {of}")).unwrap_or_default();
            let detail = format!("no field{whose} has this name; mend it or leave it out");
            faults.add(&at(&self.pointer, name), Code::UnknownField, detail);
        }
    }
}

pub(super) fn word<T: Copy>(
    field: &Field<'_>,
    words: &[(&str, T)],
    faults: &mut Faults,
) -> Option<T> {
    let list = || {
        words
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some(text) = field.value.as_str() else {
        faults.wrong_type(&field.pointer, &format!("one of {}", list()));
        return None;
    };
    let found = words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, meaning)| *meaning);
    if found.is_none() {
        faults.add(
            &field.pointer,
            Code::NotAllowed,
            format!("must be one of {}", list()),
        );
    }
    found
}

/// A JSON pointer one step further.
pub(super) fn at(pointer: &str, step: impl Display) -> String {
    let step = step.to_string().replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{step}")
}
