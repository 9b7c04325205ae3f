//! Lists that the service gives page by page.

use crate::args::PageArgs;
use crate::client::Client;
use crate::error::CliError;
use serde_json::{Value, json};

/// Rows that the service gives at once.
const PAGE_ROWS_MAX: u32 = 200;

/// As many rows as were asked for, however many pages that is, as one page.
pub(crate) async fn read(
    client: &Client,
    path: &[&str],
    filters: Vec<(String, String)>,
    page: &PageArgs,
) -> Result<Value, CliError> {
    let mut wanted = if page.all { Some(u32::MAX) } else { page.limit };
    let (mut rows, mut cursor) = (Vec::new(), page.cursor.clone());
    loop {
        let mut query = filters.clone();
        if let Some(wanted) = wanted {
            query.push(("limit".to_owned(), wanted.min(PAGE_ROWS_MAX).to_string()));
        }
        query.extend(cursor.take().map(|cursor| ("cursor".to_owned(), cursor)));
        let mut answer = client.get(path, &query).await?;
        let Some(data) = answer["data"].as_array_mut() else {
            return Ok(answer);
        };
        let got = u32::try_from(data.len()).unwrap_or(u32::MAX);
        rows.append(data);
        cursor = answer["next_cursor"].as_str().map(str::to_owned);
        wanted = wanted.map(|wanted| wanted.saturating_sub(got));
        // A page may be empty and not be the last.
        if cursor.is_none() || wanted.is_none_or(|wanted| wanted == 0) {
            return Ok(json!({"data": rows, "next_cursor": cursor}));
        }
    }
}

/// The filters that are set.
pub(crate) fn query<'a>(
    filters: impl IntoIterator<Item = (&'static str, Option<&'a String>)>,
) -> Vec<(String, String)> {
    let set = filters
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    set.map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
}
