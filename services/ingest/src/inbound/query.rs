//! Query strings: each parameter known, each fault named; pages and their cursors.
//!
//! A cursor is opaque to clients: base64 of where the next page begins. One that we did not give out is refused.

use crate::error::Refusal;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use photofinish_contract::problem::{Problem, ProblemError};
use photofinish_model::Code;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

/// Rows of a page when nothing else is said.
const LIMIT: usize = 50;
/// Rows of a page at most.
const LIMIT_MAX: usize = 200;

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// The rows.
    pub(super) data: Vec<T>,
    /// Where the next page begins; null after the last one.
    #[schema(required = true)]
    pub(super) next_cursor: Option<String>,
}

/// The parameters of every call that answers with a page.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters, which `Params` reads")]
pub(super) struct PageParams {
    /// Rows of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// As `next_cursor` of the page before gave it.
    cursor: Option<String>,
}

impl<T> Page<T> {
    /// The cursor of a place.
    pub(super) fn cursor(place: &str) -> String {
        URL_SAFE_NO_PAD.encode(place)
    }

    /// The page of rows that are all at hand, in the order of their keys (ascending, each once), after the key `after`.
    pub(super) fn cut(rows: Vec<(String, T)>, limit: usize, after: Option<&str>) -> Self {
        let mut rows = rows
            .into_iter()
            .skip_while(|(key, _)| after.is_some_and(|after| key.as_str() <= after))
            .peekable();
        let (mut data, mut last) = (Vec::new(), None);
        for (key, row) in rows.by_ref().take(limit) {
            data.push(row);
            last = Some(key);
        }
        let more = rows.peek().is_some();
        let next_cursor = last.filter(|_| more).map(|key| Self::cursor(&key));
        Self { data, next_cursor }
    }
}

/// The parameters of a call; those that were read are taken out.
#[derive(Debug, Default)]
pub(super) struct Params {
    left: Vec<(String, String)>,
    errors: Vec<ProblemError>,
}

/// The parameters as axum reads them.
pub(super) type RawQuery = Result<Query<Vec<(String, String)>>, QueryRejection>;

impl Params {
    pub(super) fn of(query: RawQuery) -> Result<Self, Refusal> {
        let Query(left) = query
            .map_err(|_| Refusal::new(400, Code::Malformed, "the query string cannot be read"))?;
        Ok(Self {
            left,
            errors: Vec::new(),
        })
    }

    /// A parameter's text; empty counts as not given.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.left.iter().position(|(found, _)| found == name)?;
        Some(self.left.remove(place).1).filter(|text| !text.is_empty())
    }

    /// A parameter in its type.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            self.fault(name, Code::NotAllowed, format!("must be {wanted}"));
        }
        value
    }

    /// A parameter that is one of the words of a type.
    pub(super) fn word<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &str,
        wanted: &str,
    ) -> Option<T> {
        self.read(name, wanted, |text| {
            serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
        })
    }

    /// True or false, false when it is not given. Anything else is a fault, the empty text as well: a misspelt
    /// `dry_run` must not run the job.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let Some(place) = self.left.iter().position(|(found, _)| found == name) else {
            return false;
        };
        let (_, text) = self.left.remove(place);
        text.parse().unwrap_or_else(|_| {
            self.fault(name, Code::NotAllowed, "must be true or false".to_owned());
            false
        })
    }

    /// Rows of the page.
    pub(super) fn limit(&mut self) -> usize {
        let wanted = format!("1 to {LIMIT_MAX}");
        let in_bounds = |number: &usize| (1..=LIMIT_MAX).contains(number);
        self.read("limit", &wanted, |text| text.parse().ok().filter(in_bounds))
            .unwrap_or(LIMIT)
    }

    /// Where the page begins, as it stands in the cursor.
    pub(super) fn cursor(&mut self) -> Option<String> {
        self.read("cursor", "as `next_cursor` gave it", |text| {
            String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        })
    }

    /// Where the page begins in a list that never changes its order.
    pub(super) fn place(&mut self) -> usize {
        let place = self.cursor().map(|text| text.parse());
        if let Some(Err(_)) = place {
            self.fault(
                "cursor",
                Code::NotAllowed,
                "must be as `next_cursor` gave it".to_owned(),
            );
        }
        place.and_then(Result::ok).unwrap_or(0)
    }

    /// Every parameter that begins so, without its beginning.
    pub(super) fn all_under(&mut self, prefix: &str) -> Vec<(String, String)> {
        let left = std::mem::take(&mut self.left);
        let (under, left) = left
            .into_iter()
            .partition(|(name, _)| name.starts_with(prefix));
        self.left = left;
        let under: Vec<(String, String)> = under;
        under
            .into_iter()
            .map(|(name, value)| (name[prefix.len()..].to_owned(), value))
            .collect()
    }

    fn fault(&mut self, name: &str, code: Code, detail: String) {
        self.errors.push(ProblemError {
            pointer: format!("?{name}"),
            code,
            detail,
        });
    }

    /// Every fault at once, unknown parameters included.
    pub(super) fn done(mut self) -> Result<(), Refusal> {
        for (name, _) in std::mem::take(&mut self.left) {
            let detail = "no parameter of this call has this name".to_owned();
            self.fault(&name, Code::UnknownField, detail);
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        let problem = Problem::new(422, Code::InvalidRequest, "`errors` names each parameter");
        Err(problem.with_errors(self.errors).into())
    }
}
