//! `config`: each setting and where it comes from.

use crate::error::CliError;
use crate::output::Output;
use crate::settings::{Settings, Valued, shown};
use crate::table::{Kind, aligned, table};
use serde_json::{Value, json};

/// Shows them; of a key only its beginning.
pub(crate) fn config(settings: &Settings, output: &mut Output) -> Result<(), CliError> {
    let rows = rows(settings);
    let path = settings
        .path
        .as_ref()
        .map(|path| path.display().to_string());
    let listed: Vec<Value> = rows
        .iter()
        .map(|[name, value, source]| json!({"name": name, "value": value, "source": source}))
        .collect();
    let answer = json!({"file": path, "found": settings.found, "profile": settings.profile,
        "profiles": settings.profiles, "settings": listed});
    let look = output.look();
    output.answer(&answer, |_| {
        let file = match (&path, settings.found) {
            (Some(path), true) => path.clone(),
            (Some(path), false) => format!("{path} (not there)"),
            (None, _) => "none: there is no home directory".to_owned(),
        };
        let mut head = vec![
            ("file".to_owned(), file),
            ("profile".to_owned(), settings.profile.clone()),
        ];
        if settings.profiles.len() > 1 {
            head.push(("profiles".to_owned(), settings.profiles.join(", ")));
        }
        let columns = [
            ("setting", Kind::Whole),
            ("value", Kind::Text),
            ("from", Kind::Whole),
        ];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.to_vec()).collect();
        format!("{}\n{}", aligned(&head, look), table(&columns, &rows, look))
    })
}

fn rows(settings: &Settings) -> Vec<[String; 3]> {
    let open = |valued: &Valued| valued.text.clone();
    let secret = |valued: &Valued| shown(&valued.text);
    let row = |name: &str, valued: Option<&Valued>, tell: &dyn Fn(&Valued) -> String| {
        let value = valued.map_or_else(|| "-".to_owned(), tell);
        let source = valued.map_or_else(
            || "-".to_owned(),
            |valued| valued.source.tell(&settings.profile),
        );
        [name.to_owned(), value, source]
    };
    vec![
        row("url", Some(&settings.url), &open),
        row("api_key", settings.api_key.as_ref(), &secret),
        row("operator_key", settings.operator_key.as_ref(), &secret),
        row("runpod_api_key", settings.runpod_api_key.as_ref(), &secret),
        row(
            "runpod_endpoint_id",
            settings.runpod_endpoint_id.as_ref(),
            &open,
        ),
    ]
}
