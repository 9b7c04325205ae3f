//! The configuration file: several deployments, each a profile. Pure but for the reading.
//!
//! Guarantee: an unknown key is refused with the nearest one that is known, and every fault is named at once.

use crate::error::CliError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What a profile may say.
pub(crate) const KEYS: [&str; 7] = [
    "url",
    "api_key",
    "api_key_file",
    "operator_key",
    "operator_key_file",
    "runpod_api_key",
    "runpod_endpoint_id",
];
/// The profile of a file that names none.
pub(crate) const DEFAULT_PROFILE: &str = "default";
/// Letters that a misspelt key may differ by to be recognised, as `strsim` measures it.
const LIKENESS_MIN: f64 = 0.7;

/// The file, read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ConfigFile {
    /// The profile that counts when none is asked for.
    pub(crate) profile: Option<String>,
    /// Settings by profile.
    pub(crate) profiles: BTreeMap<String, BTreeMap<String, String>>,
}

impl ConfigFile {
    /// Reads it; none if it is not there.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, CliError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(CliError::Request {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let faulty = |faults: Vec<String>| CliError::Config {
            path: path.to_owned(),
            faults,
        };
        let table: Table = text
            .parse()
            .map_err(|error| faulty(vec![unreadable(&text, &error)]))?;
        Self::of(&table).map(Some).map_err(faulty)
    }

    fn of(table: &Table) -> Result<Self, Vec<String>> {
        let (mut file, mut faults) = (Self::default(), Vec::new());
        for (name, value) in table {
            match (name.as_str(), value) {
                ("profile", Value::String(profile)) => file.profile = Some(profile.clone()),
                ("profiles", Value::Table(profiles)) => {
                    for (name, value) in profiles {
                        let settings = profile(name, value, &mut faults);
                        file.profiles.insert(name.clone(), settings);
                    }
                }
                ("profile", _) => faults.push("profile must be a text".to_owned()),
                ("profiles", _) => faults.push("profiles must be a table of tables".to_owned()),
                (other, _) => faults.push(unknown(other, "", &["profile", "profiles"])),
            }
        }
        if let Some(wanted) = &file.profile
            && !file.profiles.contains_key(wanted)
        {
            faults.push(format!(
                "profile = \"{wanted}\": there is no [profiles.{wanted}]"
            ));
        }
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(faults)
        }
    }
}

/// Where the file is no TOML, and why; not the line itself, in which a key may stand.
fn unreadable(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    let place = line.map_or_else(String::new, |line| format!("line {line}: "));
    format!("{place}{}", error.message())
}

fn profile(name: &str, value: &Value, faults: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let place = format!("profiles.{name}.");
    let Value::Table(table) = value else {
        faults.push(format!("profiles.{name} must be a table"));
        return settings;
    };
    for (key, value) in table {
        match value {
            _ if !KEYS.contains(&key.as_str()) => faults.push(unknown(key, &place, &KEYS)),
            Value::String(text) => {
                settings.insert(key.clone(), text.clone());
            }
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_)
            | Value::Table(_) => faults.push(format!("{place}{key} must be a text")),
        }
    }
    settings
}

fn unknown(key: &str, place: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("{place}{key} is not known: did you mean {near}?"),
        None => format!("{place}{key} is not known; known are {}", known.join(", ")),
    }
}

/// The known word that is meant, if one is near.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |other: &str| strsim::jaro_winkler(word, other);
    let best = known
        .iter()
        .copied()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKENESS_MIN).then_some(best)
}

/// What is wrong with who may read the file, which holds keys.
pub(crate) fn readable_by_others(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        format!(
            "warning: others can read {} (mode {mode:o}), which may hold keys: chmod 600 {}",
            path.display(),
            path.display()
        )
    })
}

/// A key that lies in a file of its own, without the line's end.
pub(crate) fn secret_of(path: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path).map_err(|source| CliError::Request {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

/// `~/` as a shell reads it.
pub(crate) fn home(path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => crate::environment::variable("HOME").map_or_else(
            || PathBuf::from(path),
            |home| PathBuf::from(home).join(rest),
        ),
        None => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        ConfigFile::of(&text.parse().unwrap()).unwrap_err()
    }

    #[test]
    fn profiles_are_read() {
        let text = "profile = 'b'\n[profiles.a]\nurl = 'http://a'\n[profiles.b]\napi_key = 'k'\n";
        let file = ConfigFile::of(&text.parse().unwrap()).unwrap();
        assert_eq!(file.profile.as_deref(), Some("b"));
        assert_eq!(file.profiles["a"]["url"], "http://a");
        assert_eq!(file.profiles["b"]["api_key"], "k");
    }

    #[test]
    fn every_fault_is_named_with_the_nearest_key() {
        let said = faults(
            "profil = 'x'\n[profiles.a]\napi_kye = 'k'\ncolour = 'x'\nurl = 7\n[profiles]\nb = 1\n",
        );
        assert_eq!(said.len(), 5, "{said:?}");
        let said = said.join("\n");
        for part in [
            "profil is not known: did you mean profile?",
            "profiles.a.api_kye is not known: did you mean api_key?",
            "profiles.a.colour is not known; known are url,",
            "profiles.a.url must be a text",
            "profiles.b must be a table",
        ] {
            assert!(said.contains(part), "{part} in\n{said}");
        }
        assert!(faults("profile = 'x'")[0].contains("[profiles.x]"));
    }

    #[test]
    fn a_broken_file_is_told_of_without_the_key_in_it() {
        let text = "[profiles.a]\nurl = 'http://a'\napi_key = pf_secret\n";
        let said = unreadable(text, &text.parse::<Table>().unwrap_err());
        assert!(said.starts_with("line 3: "), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }

    #[test]
    fn a_file_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "").unwrap();
        for (mode, warned) in [(0o644, true), (0o640, true), (0o600, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(readable_by_others(&path).is_some(), warned, "{mode:o}");
        }
    }
}
