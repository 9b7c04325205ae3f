//! `keys`: API keys of tenants and of operators.

use crate::args::{KeyOwner, KeysCommand, PageArgs};
use crate::client::Client;
use crate::commands::pages;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use crate::settings::file::nearest;
use crate::settings::shown;
use serde_json::{Value, json};

/// What begins as a key does and is longer is the key itself.
const PREFIX_CHARS_MAX: usize = 16;

/// Does one of the commands.
pub(crate) async fn run(
    client: &Client,
    command: &KeysCommand,
    output: &mut Output,
) -> Result<(), CliError> {
    let look = output.look();
    match command {
        KeysCommand::Create { owner, description } => {
            let body = match description {
                Some(description) => json!({"description": description}),
                None => json!({}),
            };
            let answer = client.send(&path_of(owner), &body).await?;
            output.answer(&answer, |answer| render::pairs(answer, look))?;
            output.remark("Keep the key: it is not shown again.");
            Ok(())
        }
        KeysCommand::List { owner } => {
            let answer = all(client, owner).await?;
            output.answer(&answer, |page| render::keys(page, look))
        }
        KeysCommand::Revoke { owner, key } => {
            let keys = all(client, owner).await?;
            let id = meant(&keys, key)?;
            let mut path = path_of(owner);
            path.push(&id);
            client.delete(&path).await?;
            let answer = json!({"id": id, "revoked": true});
            let key = spoken(key);
            output.answer(&answer, |_| {
                format!("{key} is revoked: refused within 30 s everywhere\n")
            })
        }
    }
}

/// Every key: the one that is meant may stand on any page.
async fn all(client: &Client, owner: &KeyOwner) -> Result<Value, CliError> {
    let page = PageArgs {
        all: true,
        ..PageArgs::default()
    };
    pages::read(client, &path_of(owner), Vec::new(), &page).await
}

fn path_of(owner: &KeyOwner) -> Vec<&str> {
    match &owner.tenant {
        Some(tenant) => vec!["admin", "tenants", tenant, "keys"],
        None => vec!["admin", "operator-keys"],
    }
}

/// What was typed, or its beginning if it is a whole key: one that leaked is revoked, not written down once more.
fn spoken(typed: &str) -> String {
    if typed.starts_with("pf_") && typed.chars().count() > PREFIX_CHARS_MAX {
        shown(typed)
    } else {
        typed.to_owned()
    }
}

/// The id of the one key whose id or prefix begins so.
fn meant(keys: &Value, typed: &str) -> Result<String, CliError> {
    let rows = keys["data"].as_array().map(Vec::as_slice);
    let rows = rows.unwrap_or_default();
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let fits = |row: &&Value| {
        text(row, "id").starts_with(typed)
            || (!text(row, "prefix").is_empty() && typed.starts_with(&text(row, "prefix")))
            || text(row, "prefix").starts_with(typed)
    };
    let mut found = rows.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(text(one, "id")),
        (Some(_), Some(_)) => Err(CliError::NotMeant(format!(
            "{} is the beginning of more than one key: give more of the id",
            spoken(typed)
        ))),
        (None, _) => {
            let prefixes: Vec<String> = rows.iter().map(|row| text(row, "prefix")).collect();
            let known: Vec<&str> = prefixes.iter().map(String::as_str).collect();
            let hint = nearest(typed, &known).map(|near| format!(": did you mean {near}?"));
            Err(CliError::NotMeant(format!(
                "there is no key {}{}",
                spoken(typed),
                hint.unwrap_or_default()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_meant_by_id_prefix_or_the_key_itself() {
        let keys = json!({"data": [{"id": "aa11", "prefix": "pf_abc"},
                                   {"id": "aa22", "prefix": "pf_xyz"}]});
        for typed in ["aa11", "aa1", "pf_abc", "pf_a", "pf_abcdefghijkl"] {
            assert_eq!(meant(&keys, typed).unwrap(), "aa11", "{typed}");
        }
        let many = meant(&keys, "aa").unwrap_err().to_string();
        assert!(many.contains("more than one"), "{many}");
        let whole = "pf_0123456789abcdefghijk";
        let unknown = meant(&keys, whole).unwrap_err().to_string();
        assert!(!unknown.contains(whole), "{unknown}");
        let none = meant(&keys, "pf_ayz").unwrap_err().to_string();
        assert!(none.contains("did you mean pf_xyz"), "{none}");
    }
}
