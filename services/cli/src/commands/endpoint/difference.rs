//! A difference, as a person and as a program read it. Pure.

use photofinish_runpod::management::{
    Change, Effect, Endpoint, EndpointSpec, Field, Shown, WorkerStage, Workers, diff,
};
use serde_json::{Value, json};

use crate::table::plain as table;

const RECREATE: &str = "cannot be changed: needs another endpoint";

/// Where a difference is found.
#[derive(Debug)]
pub(crate) struct Difference {
    /// What shall be.
    pub(crate) desired: EndpointSpec,
    /// What is, if there is one.
    pub(crate) actual: Option<Endpoint>,
    /// Who works there now; `None` if RunPod did not say.
    pub(crate) workers: Option<Workers>,
    /// What differs; all of it, when there is no endpoint yet.
    pub(crate) changes: Vec<Change>,
}

impl Difference {
    /// Compares.
    pub(crate) fn new(
        desired: EndpointSpec,
        actual: Option<Endpoint>,
        workers: Option<Workers>,
    ) -> Self {
        let changes = match &actual {
            Some(actual) => diff(&desired, &actual.spec),
            None => Vec::new(),
        };
        Self {
            desired,
            actual,
            workers,
            changes,
        }
    }

    /// Whether RunPod has just what the file says.
    pub(crate) fn is_nothing(&self) -> bool {
        self.actual.is_some() && self.changes.is_empty()
    }

    /// What cannot be changed, only made anew.
    pub(crate) fn recreates(&self) -> Vec<String> {
        let fields = self.changes.iter();
        fields
            .filter(|change| change.effect == Effect::Recreate)
            .map(|change| change.field.to_string())
            .collect()
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let endpoint = self
            .actual
            .as_ref()
            .map(|one| json!({"id": one.id, "name": one.spec.name}));
        let changes: Vec<Value> = self
            .changes
            .iter()
            .map(|change| {
                json!({"field": change.field.to_string(), "from": shown(&change.from),
                       "to": shown(&change.to), "hidden": is_hidden(change),
                       "effect": change.effect.as_str(), "workers": self.consequence(change)})
            })
            .collect();
        json!({"name": self.desired.name, "endpoint": endpoint, "exists": self.actual.is_some(),
               "differs": !self.is_nothing(), "changes": changes})
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let Some(actual) = &self.actual else {
            return self.creation();
        };
        let title = format!("{} ({})", actual.spec.name, actual.id);
        if self.changes.is_empty() {
            return format!("{title} is as the file says\n");
        }
        let rows: Vec<Vec<String>> = self
            .changes
            .iter()
            .map(|change| {
                vec![
                    change.field.to_string(),
                    change.from.to_string(),
                    change.to.to_string(),
                    self.consequence(change),
                ]
            })
            .collect();
        let count = match rows.len() {
            1 => "1 setting differs".to_owned(),
            many => format!("{many} settings differ"),
        };
        let rows = table(&["setting", "is", "shall be", "running workers"], &rows);
        format!("{title}: {count}\n\n{rows}")
    }

    fn creation(&self) -> String {
        let spec = &self.desired;
        let gpus = spec.gpu.as_ref().map(|gpu| {
            let pools: Vec<&str> = gpu.pools.iter().map(String::as_str).collect();
            pools.join(", ")
        });
        let env: Vec<String> = spec
            .env
            .iter()
            .map(|(name, value)| {
                let shown = Some(value.expose()).filter(|_| value.is_shown());
                format!("{name}={}", shown.unwrap_or("(hidden)"))
            })
            .collect();
        let ports: Vec<&str> = spec.ports.iter().map(String::as_str).collect();
        let rows = [
            ("image", spec.image.clone()),
            ("args", format!("{:?}", spec.args)),
            ("disk", format!("{} GB", spec.disk_gb)),
            ("ports", ports.join(", ")),
            ("env", env.join(" ")),
            ("gpu", gpus.unwrap_or_default()),
            (
                "workers",
                format!("{} to {}", spec.workers.min, spec.workers.max),
            ),
            ("scaling", spec.scaling.to_string()),
            (
                "timeout",
                format!("{} s", spec.execution_timeout_ms as f64 / 1000.0),
            ),
            ("flashboot", spec.flashboot.as_str().to_owned()),
        ];
        let lines = rows.iter().fold(String::new(), |text, (name, value)| {
            format!("{text}  {name:<10}{value}\n")
        });
        format!(
            "RunPod has no endpoint named {}; it would be made:\n\n{lines}",
            spec.name
        )
    }

    /// What a change does to the workers that there are now.
    fn consequence(&self, change: &Change) -> String {
        let Some(workers) = &self.workers else {
            return match change.effect {
                Effect::Immediate => "holds at once".to_owned(),
                Effect::Release => {
                    "idle ones replaced at once, busy ones after their job".to_owned()
                }
                Effect::Recreate => RECREATE.to_owned(),
            };
        };
        let busy = workers.count(&WorkerStage::Running);
        let others = workers.rows.len() - busy;
        match change.effect {
            Effect::Immediate if change.field == Field::WorkersMax => {
                let surplus = (workers.rows.len() as u64).saturating_sub(self.desired.workers.max);
                match surplus {
                    0 => at_once(workers),
                    surplus => format!("{surplus} too many: they stop, busy ones after their job"),
                }
            }
            Effect::Immediate => at_once(workers),
            Effect::Release => match (others, busy) {
                (0, 0) => "none is up; the next ones have it".to_owned(),
                (others, 0) => format!("{others} replaced at once"),
                (0, busy) => format!("{busy} replaced after their job"),
                (others, busy) => {
                    format!("{others} replaced at once, {busy} after their job")
                }
            },
            Effect::Recreate => RECREATE.to_owned(),
        }
    }
}

fn at_once(workers: &Workers) -> String {
    if workers.rows.is_empty() {
        "none is up; holds at once".to_owned()
    } else {
        "go on; holds at once".to_owned()
    }
}

fn is_hidden(change: &Change) -> bool {
    change.from == Shown::Hidden || change.to == Shown::Hidden
}

fn shown(value: &Shown) -> Value {
    match value {
        Shown::Value(text) => json!(text),
        Shown::Hidden | Shown::Nothing => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_are_not_known_are_not_taken_for_none() {
        let actual = json!({"id": "ep", "name": "w", "image": "o/w:1"});
        let actual = Endpoint::from_value(&actual).unwrap();
        let mut desired = actual.spec.clone();
        desired.image = "o/w:2".to_owned();
        let told =
            |workers| Difference::new(desired.clone(), Some(actual.clone()), workers).to_text();
        assert!(told(Some(Workers::default())).contains("none is up"));
        let told = told(None);
        assert!(
            !told.contains("none is up") && told.contains("busy ones after their job"),
            "{told}"
        );
    }
}
