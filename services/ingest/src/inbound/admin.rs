//! `/v1/admin`: for operators. A file for each thing that they look after.

mod amqp;
mod audit;
mod endpoints;
mod keys;
mod limits;
mod parked;
mod tenants;
mod upkeep;

use super::Routes;
use crate::error::Refusal;
use photofinish_contract::problem::{Problem, ProblemError};
use photofinish_model::Code;
use serde_json::{Map, Value};

pub(super) fn routes() -> Routes {
    Routes::default()
        .merge(tenants::routes())
        .merge(keys::routes())
        .merge(amqp::routes())
        .merge(endpoints::routes())
        .merge(parked::routes())
        .merge(audit::routes())
        .merge(upkeep::routes())
}

/// A small body: each field known, each fault named.
#[derive(Debug)]
pub(super) struct Body {
    fields: Map<String, Value>,
    errors: Vec<ProblemError>,
}

impl Body {
    pub(super) fn of(body: &Value, known: &[&str]) -> Result<Self, Refusal> {
        let Some(fields) = body.as_object() else {
            return Err(Refusal::new(
                422,
                Code::InvalidRequest,
                "the body must be an object",
            ));
        };
        let mut body = Self {
            fields: fields.clone(),
            errors: Vec::new(),
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let detail = format!("no such field here; known are {}", known.join(", "));
            body.fault(name, Code::UnknownField, detail);
        }
        Ok(body)
    }

    /// A field; null counts as not given.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &str, required: bool) -> Option<bool> {
        match self.take(name) {
            Some(Value::Bool(flag)) => return Some(flag),
            Some(_) => self.fault(name, Code::WrongType, "must be true or false".to_owned()),
            None if required => self.fault(name, Code::Required, "missing".to_owned()),
            None => {}
        }
        None
    }

    pub(super) fn text(&mut self, name: &str, required: bool) -> Option<String> {
        match self.take(name) {
            Some(Value::String(text)) => return Some(text),
            Some(_) => self.fault(name, Code::WrongType, "must be a text".to_owned()),
            None if required => self.fault(name, Code::Required, "missing".to_owned()),
            None => {}
        }
        None
    }

    pub(super) fn fault(&mut self, name: &str, code: Code, detail: String) {
        self.errors.push(ProblemError {
            pointer: format!("/{name}"),
            code,
            detail,
        });
    }

    /// Every fault at once.
    pub(super) fn done(self) -> Result<(), Refusal> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let problem = Problem::new(422, Code::InvalidRequest, "`errors` names each field");
        Err(problem.with_errors(self.errors).into())
    }
}
