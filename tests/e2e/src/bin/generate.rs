//! `make generate`: writes what is made from the code, `deploy/rabbitmq/definitions.json` and `docs/config.md`.
//!
//! Nouns: a *text* is the embedded defaults of a service or of a shared crate; it is cut into sections and keys with
//! their comments.
//!
//! Guarantee: the same code gives the same files, and a test compares what lies in the repository with them.

#[path = "generate/contracts.rs"]
mod contracts;
#[path = "generate/monitoring.rs"]
mod monitoring;
#[path = "generate/yaml.rs"]
mod yaml;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use photofinish_broker::topology::Topology;
use serde_json::Value;

/// `lanes` of the section `[broker]`; the unit test compares them.
const LANES: u16 = 32;
const DEFINITIONS: &str = "deploy/rabbitmq/definitions.json";
const OPENAPI: &str = "docs/contracts/openapi.json";
const CONFIG: &str = "docs/config.md";

const EVERY_SERVICE: &str = include_str!("../../../../shared/runtime/src/defaults.toml");
const STORES: [&str; 3] = [
    photofinish_broker::DEFAULTS,
    include_str!("../../../../shared/jobstore/src/defaults.toml"),
    include_str!("../../../../shared/objects/src/defaults.toml"),
];
const OWN: [(&str, &str); 5] = [
    (
        "ingest",
        include_str!("../../../../services/ingest/src/defaults.toml"),
    ),
    (
        "dispatcher",
        include_str!("../../../../services/dispatcher/src/defaults.toml"),
    ),
    (
        "fetcher",
        include_str!("../../../../services/fetcher/src/defaults.toml"),
    ),
    (
        "notifier",
        include_str!("../../../../services/notifier/src/defaults.toml"),
    ),
    (
        "worker",
        include_str!("../../../../services/worker/src/defaults.toml"),
    ),
];

const HEAD: &str = "# Configuration

Made by `make generate` from the defaults that are embedded in each service; do not edit.

A key `section.key` is set, the later winning, by its embedded default, by a TOML file (`--config FILE`), by the
variable `PHOTOFINISH__SECTION__KEY`. With `_FILE` after its name a variable names a file that holds the value: the way
for secrets. Lists are written with commas between. An unknown key is an error, and all errors are named at once.
`--check-config` checks and exits, `--print-config` shows what is in effect with secrets hidden. Times whose names
end in `_s` are seconds, sizes bytes. The emulator has flags instead: `runpod-sim --help`.
";

fn main() -> anyhow::Result<()> {
    for (path, text) in generated()? {
        let path = photofinish_kit::root().join(path);
        let folder = path.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Each file, by its path from the root of the repository.
fn generated() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut files = vec![
        (DEFINITIONS.into(), definitions()?),
        (CONFIG.into(), config()?),
        (OPENAPI.into(), openapi()?),
    ];
    files.extend(contracts::files()?);
    files.extend(monitoring::files()?);
    Ok(files)
}

/// The API as ingest serves it.
fn openapi() -> anyhow::Result<String> {
    let document = serde_json::to_string_pretty(&photofinish_ingest::openapi())?;
    Ok(document + "\n")
}

/// Exchanges, queues and bindings as `rabbitmqctl import_definitions` takes them, one a line.
fn definitions() -> anyhow::Result<String> {
    let all = Topology::new(LANES).definitions("/");
    let lists = all.as_object().context("definitions are an object")?;
    let mut blocks = Vec::new();
    for (name, list) in lists {
        let name = Value::from(name.as_str());
        let block = match list {
            Value::Array(rows) => {
                let rows: Vec<_> = rows.iter().map(|row| format!("    {row}")).collect();
                format!("  {name}: [\n{}\n  ]", rows.join(",\n"))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => {
                format!("  {name}: {list}")
            }
        };
        blocks.push(block);
    }
    Ok(format!("{{\n{}\n}}\n", blocks.join(",\n")))
}

fn config() -> anyhow::Result<String> {
    let mut page = HEAD.to_owned();
    chapter(&mut page, "Every service", "", EVERY_SERVICE)?;
    let shared = "The same in `ingest`, `dispatcher`, `fetcher` and `notifier`.";
    chapter(
        &mut page,
        "RabbitMQ, Redis and the bucket",
        shared,
        &STORES.concat(),
    )?;
    for (service, text) in OWN {
        chapter(&mut page, &format!("`photofinish-{service}`"), "", text)?;
    }
    Ok(page)
}

fn chapter(page: &mut String, title: &str, more: &str, text: &str) -> anyhow::Result<()> {
    let (intro, sections) = sections(text)?;
    write!(page, "\n## {title}\n")?;
    for line in [more, &intro].into_iter().filter(|line| !line.is_empty()) {
        write!(page, "\n{line}\n")?;
    }
    for section in sections {
        write!(page, "\n### `[{}]`\n\n", section.path)?;
        if !section.intro.is_empty() {
            write!(page, "{}\n\n", section.intro)?;
        }
        page.push_str("| key | default | variable | what it is |\n|---|---|---|---|\n");
        for row in section.rows {
            let path = format!("{}.{}", section.path, row.key);
            let variable = format!("PHOTOFINISH__{}", path.replace('.', "__").to_uppercase());
            let (value, comment) = (
                row.value.replace('|', "\\|"),
                row.comment.replace('|', "\\|"),
            );
            writeln!(
                page,
                "| `{}` | `{value}` | `{variable}` | {comment} |",
                row.key
            )?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Section {
    path: String,
    intro: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    key: String,
    value: String,
    comment: String,
}

/// The text's own introduction and its sections. A comment is of the section or of the keys right below it, up to
/// the next comment or empty line.
fn sections(text: &str) -> anyhow::Result<(String, Vec<Section>)> {
    let (mut intro, mut comment) = (String::new(), String::new());
    let mut sections: Vec<Section> = Vec::new();
    let mut after_key = false;
    for line in text.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix('#') {
            if std::mem::take(&mut after_key) {
                comment.clear();
            }
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(more.trim());
        } else if line.is_empty() {
            let above = std::mem::take(&mut comment);
            if sections.is_empty() && intro.is_empty() {
                intro = above;
            }
        } else if let Some(path) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            let (path, intro) = (path.to_owned(), std::mem::take(&mut comment));
            sections.push(Section {
                path,
                intro,
                rows: Vec::new(),
            });
            after_key = false;
        } else {
            let (key, value) = line
                .split_once('=')
                .with_context(|| format!("not a key: {line}"))?;
            let section = sections
                .last_mut()
                .with_context(|| format!("no section: {line}"))?;
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            section.rows.push(Row {
                key,
                value,
                comment: comment.clone(),
            });
            after_key = true;
        }
    }
    Ok((intro, sections))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_here_is_what_is_generated() {
        for (path, text) in generated().unwrap() {
            let here = std::fs::read_to_string(photofinish_kit::root().join(&path));
            let here = here.unwrap_or_default();
            assert!(
                here == text,
                "{} has drifted: run `make generate`",
                path.display()
            );
        }
    }

    #[test]
    fn the_lanes_are_those_of_the_default() {
        let broker: toml::Table = photofinish_broker::DEFAULTS.parse().unwrap();
        assert_eq!(broker["broker"]["lanes"].as_integer(), Some(LANES.into()));
    }

    #[test]
    fn every_key_is_there_and_explained() {
        let texts = OWN.map(|(_, text)| text).into_iter().chain(STORES);
        for text in texts.chain([EVERY_SERVICE]) {
            let table: toml::Table = text.parse().unwrap();
            let (_, sections) = sections(text).unwrap();
            let rows: Vec<_> = sections.iter().flat_map(|section| &section.rows).collect();
            let values = |table: &toml::Table| leaves(table);
            assert_eq!(rows.len(), values(&table), "{text}");
            let silent: Vec<_> = rows.iter().filter(|row| row.comment.is_empty()).collect();
            assert!(silent.is_empty(), "without a comment: {silent:?}");
        }
    }

    fn leaves(table: &toml::Table) -> usize {
        let count = |value: &toml::Value| value.as_table().map_or(1, leaves);
        table.values().map(count).sum()
    }

    #[test]
    fn a_comment_is_of_the_keys_below_it() {
        let text =
            "# All.\n\n# Where.\n[a.b]\n# Two\n# lines.\nx = 1\ny = 2\n# Another.\nz = \"|\"\n";
        let (intro, sections) = sections(text).unwrap();
        assert_eq!(
            (intro.as_str(), sections[0].intro.as_str()),
            ("All.", "Where.")
        );
        let comments: Vec<_> = sections[0]
            .rows
            .iter()
            .map(|row| row.comment.as_str())
            .collect();
        assert_eq!(comments, ["Two lines.", "Two lines.", "Another."]);
    }
}
