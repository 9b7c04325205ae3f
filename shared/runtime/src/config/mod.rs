//! Settings: embedded defaults, then a file, then the environment; typed by the defaults.
//!
//! Nouns: a *path* is `section.key`; the *tree* holds all values; an *alias* is a variable name that users have
//! already, such as `RUNPOD_API_KEY`, and the path it stands for.
//!
//! Guarantee: every key stands in the embedded defaults, so an unknown one is an error; all errors are told at
//! once, each with its path and where it came from. The type of a default decides how the text of a variable is
//! read: `00123` for a text stays `00123`. A table that is empty in the defaults takes any keys.
//!
//! Variables are `PHOTOFINISH__SECTION__KEY`; `…__KEY_FILE` reads the value from a file (for secrets).
//! Not for anything that changes at run time: after start-up constructors get values.

pub mod de;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use tree::hidden;

const PREFIX: &str = "PHOTOFINISH__";
const RUNTIME_DEFAULTS: &str = include_str!("../defaults.toml");
const RUNTIME_SECTIONS: [&str; 4] = ["runtime", "log", "otlp", "admin"];

/// Everything that is wrong with the settings, one sentence each, at least one.
#[derive(Debug, thiserror::Error)]
#[error("the settings have {} error(s):\n  {}", .0.len(), .0.join("\n  "))]
pub struct ConfigErrors(pub Vec<String>);

/// The environment of this process, read in this one place. Variables that are not UTF-8 are left out.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Commented TOML that names every key.
    pub defaults: String,
    /// A TOML file, if any.
    pub file: Option<PathBuf>,
    /// The environment ([`environment`]).
    pub env: BTreeMap<String, String>,
    /// Variable names that users have already, each with the path it stands for.
    pub aliases: Vec<(String, String)>,
    /// Paths and values that win over everything (command-line flags).
    pub overrides: Vec<(String, String)>,
}

/// Settings of the process around the service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessSettings {
    pub(crate) runtime: RuntimeSection,
    pub(crate) log: LogSection,
    pub(crate) otlp: OtlpSection,
    pub(crate) admin: AdminSection,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeSection {
    #[serde(rename = "drain_timeout_s", deserialize_with = "de::seconds")]
    pub(crate) drain_timeout: std::time::Duration,
    pub(crate) threads: usize,
    #[serde(rename = "config_file")]
    _config_file: String,
    #[serde(deserialize_with = "de::optional_text")]
    pub(crate) ports_file: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSection {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Auto,
    Json,
    Text,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtlpSection {
    #[serde(deserialize_with = "de::optional_text")]
    pub(crate) endpoint: Option<String>,
    pub(crate) sample_ratio: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminSection {
    pub(crate) listen: String,
    pub(crate) tls: crate::tls::TlsSection,
}

/// Loaded settings, not yet typed: the whole tree, the process's own sections included.
#[derive(Debug, Clone)]
pub struct Loaded {
    tree: Value,
}

impl Loaded {
    /// The tree as TOML with secrets hidden, for people.
    pub fn shown(&self) -> String {
        toml::to_string_pretty(&hidden(&self.tree)).unwrap_or_else(|error| error.to_string())
    }

    /// The service's own settings.
    pub fn service<S: DeserializeOwned>(&self) -> Result<S, ConfigErrors> {
        let mut own = self.tree.clone();
        if let Value::Object(sections) = &mut own {
            sections.retain(|name, _| !RUNTIME_SECTIONS.contains(&name.as_str()));
        }
        typed(own)
    }

    pub(crate) fn process(&self) -> Result<ProcessSettings, ConfigErrors> {
        let mut own = self.tree.clone();
        if let Value::Object(sections) = &mut own {
            sections.retain(|name, _| RUNTIME_SECTIONS.contains(&name.as_str()));
        }
        typed(own)
    }
}

fn typed<T: DeserializeOwned>(tree: Value) -> Result<T, ConfigErrors> {
    serde_path_to_error::deserialize(tree).map_err(|error| {
        let path = error.path().to_string();
        ConfigErrors(vec![format!("{path}: {}", error.into_inner())])
    })
}

/// Loads the service's settings from its embedded defaults and the given sources: for tests and for processes that
/// do not go through [`crate::run`].
pub fn load<S: DeserializeOwned>(sources: &Sources) -> Result<S, ConfigErrors> {
    load_tree(sources)?.service()
}

/// Merges all sources and checks keys and types.
pub fn load_tree(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let defaults = defaults_tree(&sources.defaults)?;
    let mut errors = Vec::new();
    let env = effective_env(sources, &defaults, &mut errors);
    let mut builder = Config::builder()
        .add_source(File::from_str(RUNTIME_DEFAULTS, FileFormat::Toml))
        .add_source(File::from_str(&sources.defaults, FileFormat::Toml));
    let named = sources.file.clone().or_else(|| {
        let path = sources.env.get("PHOTOFINISH__RUNTIME__CONFIG_FILE")?;
        (!path.is_empty()).then(|| PathBuf::from(path))
    });
    if let Some(path) = &named {
        match read_file(path) {
            Ok(text) => builder = builder.add_source(File::from_str(&text, FileFormat::Toml)),
            Err(error) => errors.push(error),
        }
    }
    let environment = Environment::with_prefix("PHOTOFINISH")
        .prefix_separator("__")
        .separator("__")
        .source(Some(env.into_iter().collect()));
    builder = builder.add_source(environment);
    for (path, value) in &sources.overrides {
        builder = builder
            .set_override(path, value.as_str())
            .map_err(|error| ConfigErrors(vec![format!("{path}: {error}")]))?;
    }
    let mut tree = build_tree(builder, &mut errors);
    tree::check(&mut tree, &defaults, &mut errors);
    if errors.is_empty() {
        Ok(Loaded { tree })
    } else {
        Err(ConfigErrors(errors))
    }
}

fn defaults_tree(defaults: &str) -> Result<Value, ConfigErrors> {
    let mut errors = Vec::new();
    let builder = Config::builder()
        .add_source(File::from_str(RUNTIME_DEFAULTS, FileFormat::Toml))
        .add_source(File::from_str(defaults, FileFormat::Toml));
    let tree = build_tree(builder, &mut errors);
    if errors.is_empty() {
        Ok(tree)
    } else {
        Err(ConfigErrors(errors))
    }
}

fn build_tree(
    builder: config::ConfigBuilder<config::builder::DefaultState>,
    errors: &mut Vec<String>,
) -> Value {
    builder
        .build()
        .and_then(Config::try_deserialize)
        .unwrap_or_else(|error| {
            errors.push(error.to_string());
            Value::Object(serde_json::Map::new())
        })
}

fn read_file(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))
}

/// The `PHOTOFINISH__…` variables after aliases and `_FILE` are resolved. An explicit name wins over an alias.
fn effective_env(
    sources: &Sources,
    defaults: &Value,
    errors: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (alias, path) in &sources.aliases {
        let name = variable(path);
        // An empty foreign variable counts as unset: shells and compose files leave such behind.
        if let Some(value) = sources.env.get(alias).filter(|value| !value.is_empty()) {
            env.insert(name, value.clone());
        } else if let Some(file) = sources.env.get(&format!("{alias}_FILE")) {
            insert_secret(&mut env, name, file, errors);
        }
    }
    for (name, value) in sources
        .env
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
    {
        let path = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        let known = tree::lookup(defaults, &path).is_some();
        match name.strip_suffix("_FILE") {
            Some(secret) if !known => insert_secret(&mut env, secret.to_owned(), value, errors),
            Some(_) | None => {
                env.insert(name.clone(), value.clone());
            }
        }
    }
    env
}

fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

fn insert_secret(
    env: &mut BTreeMap<String, String>,
    name: String,
    file: &str,
    errors: &mut Vec<String>,
) {
    match read_file(Path::new(file)) {
        Ok(text) => {
            env.insert(name, text.trim_end_matches(['\n', '\r']).to_owned());
        }
        Err(error) => errors.push(format!("{name}_FILE: {error}")),
    }
}

#[cfg(test)]
mod tests;
