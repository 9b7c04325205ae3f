//! What monitoring rests on: the list of metrics, the alerts, the dashboards, and that they fit the code.
//!
//! Guarantee: the rules for a Prometheus without its operator are those of the PrometheusRule; a dashboard or an alert
//! that names a metric or a label which there is not fails a test.

use std::path::PathBuf;

use anyhow::Context as _;

const OPERATOR_RULES: &str = "k8s/components/monitoring/prometheus-rule.yaml";
const RULES: &str = "deploy/monitoring/rules.yaml";
const RULES_HEAD: &str =
    "# Made by `make generate` from k8s/components/monitoring/prometheus-rule.yaml; do not edit.\n";

/// Each file, by its path from the root of the repository.
pub fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    Ok(vec![(RULES.into(), rules()?)])
}

/// The rules as Prometheus itself reads them: what stands under `spec`.
fn rules() -> anyhow::Result<String> {
    let text = read(OPERATOR_RULES)?;
    let (_, spec) = text
        .split_once("\nspec:\n")
        .context("no spec in the PrometheusRule")?;
    let lines = spec
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    let rules: String = lines.flat_map(|line| [line, "\n"]).collect();
    Ok(RULES_HEAD.to_owned() + &rules)
}

fn read(path: &str) -> anyhow::Result<String> {
    let whole = photofinish_kit::root().join(path);
    std::fs::read_to_string(&whole).with_context(|| format!("read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    const DASHBOARDS: [&str; 4] = ["overview", "race", "webhooks", "runpod"];
    /// Labels that Prometheus puts on whatever it scrapes, and the one of buckets.
    const OUTSIDE: [&str; 2] = ["job", "le"];
    const WORD: &str = "photofinish_";

    /// Type and labels of each metric of docs/metrics.md.
    fn listed() -> BTreeMap<String, (String, BTreeSet<String>)> {
        let page = read("docs/metrics.md").unwrap();
        let rows = page
            .lines()
            .filter(|line| line.starts_with("| `photofinish_"));
        let row = |line: &str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let labels = cells[3].split(',').map(|label| label.trim().to_owned());
            let labels = labels.filter(|label| !label.is_empty()).collect();
            let name = cells[1].trim_matches('`').to_owned();
            assert!(!cells[4].is_empty(), "{name} is not explained");
            (name, (cells[2].to_owned(), labels))
        };
        rows.map(row).collect()
    }

    fn is_name(letter: char) -> bool {
        letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'
    }

    /// Every metric that a file names in one of the three macros' places: as a text of its own.
    fn named(text: &str, into: &mut BTreeMap<String, String>) {
        for (at, _) in text.match_indices("\"photofinish_") {
            let rest = &text[at + 1..];
            let name: String = rest.chars().take_while(|letter| is_name(*letter)).collect();
            if !rest[name.len()..].starts_with('"') {
                continue;
            }
            let before = text[..at].trim_end();
            let kind = ["counter", "gauge", "histogram"].into_iter().find(|kind| {
                // `gauge` is a closure of a macro in one place.
                [format!("{kind}!("), format!("{kind}(")]
                    .iter()
                    .any(|call| before.ends_with(call.as_str()))
            });
            let kind = kind.unwrap_or_else(|| panic!("{name} is named outside of a macro"));
            into.insert(name, kind.to_owned());
        }
    }

    fn walk(dir: &Path, into: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|end| end == "rs") {
                named(&std::fs::read_to_string(&path).unwrap(), into);
            }
        }
    }

    #[test]
    fn the_list_of_metrics_is_that_of_the_code() {
        let mut code = BTreeMap::new();
        for side in ["services", "shared"] {
            for entry in std::fs::read_dir(photofinish_kit::root().join(side)).unwrap() {
                let sources = entry.unwrap().path().join("src");
                if sources.is_dir() {
                    walk(&sources, &mut code);
                }
            }
        }
        let page: BTreeMap<_, _> = listed()
            .into_iter()
            .map(|(name, (kind, _))| (name, kind))
            .collect();
        for (name, kind) in &code {
            assert_eq!(page.get(name), Some(kind), "{name} in docs/metrics.md");
            let counts = name.ends_with("_total");
            assert_eq!(counts, kind == "counter", "{name} is a {kind}");
        }
        let gone: Vec<_> = page
            .keys()
            .filter(|name| !code.contains_key(*name))
            .collect();
        assert!(
            gone.is_empty(),
            "docs/metrics.md lists what no code names: {gone:?}"
        );
    }

    /// Panics if an expression names a metric or a label that there is not.
    fn check(place: &str, expression: &str) {
        let known = listed();
        let mut all: BTreeSet<String> = OUTSIDE.map(str::to_owned).into();
        let mut found = 0;
        for (at, _) in expression.match_indices(WORD) {
            let rest = &expression[at..];
            let name: String = rest.chars().take_while(|letter| is_name(*letter)).collect();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
                let base = name.strip_suffix(end)?;
                (known.get(base)?.0 == "histogram").then_some(base)
            });
            let metric = known.get(base.unwrap_or(&name));
            let (kind, labels) = metric.unwrap_or_else(|| panic!("{place}: there is no {name}"));
            assert_eq!(
                kind == "histogram",
                base.is_some(),
                "{place}: {name} is a {kind}"
            );
            for label in selected(&rest[name.len()..]) {
                assert!(
                    labels.contains(&label),
                    "{place}: {name} has no label {label}"
                );
            }
            all.extend(labels.iter().cloned());
            found += 1;
        }
        assert!(
            found > 0,
            "{place}: {expression:?} asks for nothing of ours"
        );
        for words in ["by (", "on ("] {
            for (at, _) in expression.match_indices(words) {
                let list = expression[at + words.len()..].split(')').next().unwrap();
                for label in list.split(',').map(str::trim) {
                    assert!(all.contains(label), "{place}: nothing has a label {label}");
                }
            }
        }
    }

    /// The labels in a selector right behind a name.
    fn selected(rest: &str) -> Vec<String> {
        let Some(inside) = rest
            .strip_prefix('{')
            .and_then(|rest| rest.split('}').next())
        else {
            return Vec::new();
        };
        let label = |part: &str| part.split(['=', '!']).next().unwrap().trim().to_owned();
        // No value of ours has a comma in it.
        inside.split(',').map(label).collect()
    }

    #[test]
    fn dashboards_show_what_there_is() {
        let mut uids = BTreeSet::new();
        for name in DASHBOARDS {
            let text = read(&format!("k8s/components/monitoring/dashboards/{name}.json")).unwrap();
            let board: Value = serde_json::from_str(&text).unwrap();
            assert!(
                uids.insert(board["uid"].as_str().unwrap().to_owned()),
                "{name}"
            );
            let panels = board["panels"].as_array().unwrap();
            for panel in panels.iter().filter(|panel| panel["type"] != "row") {
                let place = format!("{name}: {}", panel["title"]);
                assert!(
                    panel["description"]
                        .as_str()
                        .is_some_and(|text| text.ends_with('.')),
                    "{place}"
                );
                for target in panel["targets"].as_array().unwrap() {
                    assert_eq!(target["datasource"]["uid"], "${datasource}", "{place}");
                    check(&place, target["expr"].as_str().unwrap());
                }
            }
        }
    }

    /// An alert as it stands in the rules.
    #[derive(Default)]
    struct Alert {
        name: String,
        expression: String,
        rest: String,
    }

    fn alerts() -> Vec<Alert> {
        let rules = rules().unwrap();
        let mut alerts: Vec<Alert> = Vec::new();
        let mut in_expression = false;
        for line in rules.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("- alert: ") {
                let name = name.to_owned();
                alerts.push(Alert {
                    name,
                    ..Alert::default()
                });
            }
            let Some(alert) = alerts.last_mut() else {
                continue;
            };
            in_expression = (in_expression || line == "expr: |-") && !line.starts_with("for:");
            let text = if in_expression {
                &mut alert.expression
            } else {
                &mut alert.rest
            };
            text.push_str(line);
            text.push('\n');
        }
        alerts
    }

    fn kebab(name: &str) -> String {
        let mut kebab = String::new();
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !kebab.is_empty() {
                kebab.push('-');
            }
            kebab.push(letter.to_ascii_lowercase());
        }
        kebab
    }

    #[test]
    fn every_alert_asks_for_what_there_is_and_says_what_to_do() {
        let alerts = alerts();
        assert!(alerts.len() > 10);
        let tests = read("deploy/monitoring/tests/alerts.yaml").unwrap();
        for alert in &alerts {
            let name = &alert.name;
            check(name, &alert.expression);
            for part in ["for: ", "severity: ", "summary: \"", "description: \""] {
                assert!(alert.rest.contains(part), "{name} lacks {part}");
            }
            let serious = ["severity: critical", "severity: warning"];
            assert!(
                serious.iter().any(|word| alert.rest.contains(word)),
                "{name}"
            );
            let page = format!("docs/runbooks/{}.md", kebab(name));
            assert!(
                alert.rest.contains(&format!("/{page}\n")),
                "{name}: runbook_url is not {page}"
            );
            let text = read(&page).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            for chapter in ["## What it means", "## Look", "## Mend", "## Escalate"] {
                assert!(text.contains(chapter), "{page} has no chapter {chapter:?}");
            }
            let tested = tests.matches(&format!("alertname: {name}\n")).count();
            assert!(tested >= 2, "{name} is not tested both ways");
        }
        let pages = std::fs::read_dir(photofinish_kit::root().join("docs/runbooks")).unwrap();
        for page in pages {
            let file = page.unwrap().file_name().into_string().unwrap();
            let known = file == "README.md"
                || alerts
                    .iter()
                    .any(|alert| format!("{}.md", kebab(&alert.name)) == file);
            assert!(known, "docs/runbooks/{file} is of no alert");
        }
    }
}
