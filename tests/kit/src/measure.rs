//! Figures of benchmarks: printed, and kept in `target/bench/results.json`.

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::root;

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name, for ever.
    pub name: &'static str,
    /// What was measured.
    pub value: f64,
    /// `x` is a ratio.
    pub unit: &'static str,
    /// What it must reach.
    pub goal: Goal,
    /// What it was measured against, and how.
    pub against: String,
}

impl Figure {
    /// Whether it reaches its goal.
    pub fn met(&self) -> bool {
        match self.goal {
            Goal::AtLeast(least) => self.value >= least,
            Goal::AtMost(most) => self.value <= most,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtLeast(least) => format!(">= {least}"),
            Goal::AtMost(most) => format!("<= {most}"),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "value": self.value, "unit": self.unit, "goal": self.goal(),
            "met": self.met(), "against": self.against,
        })
    }
}

/// The measurements that the command line names, of these; all where it names none.
pub fn chosen(all: &[&'static str]) -> Vec<&'static str> {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let chosen = all.iter().copied();
    chosen
        .filter(|name| wanted.is_empty() || wanted.iter().any(|one| one == name))
        .collect()
}

/// Prints figures and puts them into the list in `target/bench/results.json`, each in the place of one of its name.
pub fn record(figures: &[Figure]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for figure in figures {
        let met = if figure.met() { "met" } else { "NOT MET" };
        let Figure {
            name,
            value,
            unit,
            against,
            ..
        } = figure;
        writeln!(
            out,
            "{name:<40} {value:>10.4} {unit:<4} {:<10} {met:<8} {against}",
            figure.goal()
        )?;
    }
    let path = root().join("target/bench/results.json");
    std::fs::create_dir_all(root().join("target/bench"))?;
    let before = std::fs::read(&path).ok();
    let before: Option<Vec<Value>> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut all = before.unwrap_or_default();
    for figure in figures {
        all.retain(|other| other["name"] != figure.name);
        all.push(figure.json());
    }
    let text = serde_json::to_string_pretty(&all)?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_met_from_their_side() {
        let figure = |value, goal| Figure {
            name: "n",
            value,
            unit: "x",
            goal,
            against: String::new(),
        };
        assert!(
            figure(12.0, Goal::AtLeast(12.0)).met() && !figure(11.9, Goal::AtLeast(12.0)).met()
        );
        assert!(figure(1.0, Goal::AtMost(1.0)).met() && !figure(1.1, Goal::AtMost(1.0)).met());
        assert_eq!(figure(1.1, Goal::AtMost(1.0)).json()["goal"], "<= 1");
    }
}
