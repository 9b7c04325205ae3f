//! Where the service is and which keys open it: flags, then the environment, then a profile of the configuration
//! file, then defaults.
//!
//! Guarantee: each value knows where it came from, for `photofinish config`; a key is never shown whole.

pub(crate) mod file;

use crate::args::Args;
use crate::client::Client;
use crate::environment;
use crate::error::CliError;
use file::{ConfigFile, DEFAULT_PROFILE};
use std::path::PathBuf;
use url::Url;

/// Where a service answers when nobody says where.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Characters of a key that are shown.
const SHOWN_CHARS: usize = 8;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A flag.
    Flag(&'static str),
    /// A variable.
    Variable(&'static str),
    /// The file's profile.
    File,
    /// Nobody said.
    Default,
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Valued {
    /// Its text.
    pub(crate) text: String,
    /// Where from.
    pub(crate) source: Source,
}

/// Everything that is not about one command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The file, if there is a place for one.
    pub(crate) path: Option<PathBuf>,
    /// Whether it is there.
    pub(crate) found: bool,
    /// The profile that counts.
    pub(crate) profile: String,
    /// Every profile of the file.
    pub(crate) profiles: Vec<String>,
    /// Where the service answers.
    pub(crate) url: Valued,
    /// A tenant's key.
    pub(crate) api_key: Option<Valued>,
    /// An operator's key.
    pub(crate) operator_key: Option<Valued>,
    /// The RunPod account's key.
    pub(crate) runpod_api_key: Option<Valued>,
    /// The RunPod endpoint.
    pub(crate) runpod_endpoint_id: Option<Valued>,
    /// What to tell on standard error.
    pub(crate) warnings: Vec<String>,
}

/// A setting's names: in the file, as a variable, as a flag.
struct Names {
    key: &'static str,
    variable: &'static str,
    flag: &'static str,
}

impl Settings {
    /// What flags, environment and file say together.
    pub(crate) fn of(args: &Args) -> Result<Self, CliError> {
        let named = args.config.clone();
        let path = named.clone().or_else(default_path);
        let file = match &path {
            Some(path) => ConfigFile::read(path)?,
            None => None,
        };
        if let (Some(path), None) = (&named, &file) {
            return Err(CliError::Usage(format!(
                "{} is not there (--config or PHOTOFINISH_CONFIG names it)",
                path.display()
            )));
        }
        let found = file.is_some();
        let warning = path.as_deref().filter(|_| found);
        let warnings = warning.and_then(file::readable_by_others);
        let file = file.unwrap_or_default();
        let profile = chosen(args, &file)?;
        let of_profile = file.profiles.get(&profile).cloned().unwrap_or_default();
        let pick = |names: &Names, typed: Option<&String>| -> Result<Option<Valued>, CliError> {
            let of_shell = environment::variable(names.variable);
            let typed = typed.filter(|text| !text.is_empty()).cloned();
            if let Some(text) = typed.or_else(|| of_shell.clone()) {
                let source = if of_shell.as_ref() == Some(&text) {
                    Source::Variable(names.variable)
                } else {
                    Source::Flag(names.flag)
                };
                return Ok(Some(Valued { text, source }));
            }
            let in_file = of_profile.get(names.key).cloned();
            let beside = of_profile.get(&format!("{}_file", names.key));
            let text = match (in_file, beside) {
                (Some(text), _) => Some(text),
                (None, Some(path)) => Some(file::secret_of(&file::home(path))?),
                (None, None) => None,
            };
            let source = Source::File;
            Ok(text.map(|text| Valued { text, source }))
        };
        let url = pick(&URL, args.url.as_ref())?.unwrap_or_else(|| Valued {
            text: DEFAULT_URL.to_owned(),
            source: Source::Default,
        });
        let runpod = args.runpod();
        Ok(Self {
            path,
            found,
            profiles: file.profiles.keys().cloned().collect(),
            url,
            api_key: pick(&API_KEY, args.api_key.as_ref())?,
            operator_key: pick(&OPERATOR_KEY, args.operator_key.as_ref())?,
            runpod_api_key: pick(&RUNPOD_API_KEY, runpod.0)?,
            runpod_endpoint_id: pick(&RUNPOD_ENDPOINT_ID, runpod.1)?,
            warnings: warnings.into_iter().collect(),
            profile,
        })
    }

    /// A client with the tenant's key.
    pub(crate) fn tenant_client(&self) -> Result<Client, CliError> {
        self.client(self.api_key.as_ref(), &API_KEY)
    }

    /// A client with the operator's key.
    pub(crate) fn operator_client(&self) -> Result<Client, CliError> {
        self.client(self.operator_key.as_ref(), &OPERATOR_KEY)
    }

    fn client(&self, key: Option<&Valued>, names: &Names) -> Result<Client, CliError> {
        let key = key.ok_or(CliError::NoKey {
            variable: names.variable,
            flag: names.flag,
        })?;
        Client::new(&self.base()?, &key.text)
    }

    /// Where the service answers, as a URL.
    pub(crate) fn base(&self) -> Result<Url, CliError> {
        let text = &self.url.text;
        text.parse()
            .map_err(|error| CliError::Usage(format!("{text} is not a URL: {error}")))
    }
}

const URL: Names = Names {
    key: "url",
    variable: "PHOTOFINISH_URL",
    flag: "--url",
};
const API_KEY: Names = Names {
    key: "api_key",
    variable: "PHOTOFINISH_API_KEY",
    flag: "--api-key",
};
const OPERATOR_KEY: Names = Names {
    key: "operator_key",
    variable: "PHOTOFINISH_OPERATOR_KEY",
    flag: "--operator-key",
};
const RUNPOD_API_KEY: Names = Names {
    key: "runpod_api_key",
    variable: "RUNPOD_API_KEY",
    flag: "--runpod-api-key",
};
const RUNPOD_ENDPOINT_ID: Names = Names {
    key: "runpod_endpoint_id",
    variable: "RUNPOD_ENDPOINT_ID",
    flag: "--id",
};

fn default_path() -> Option<PathBuf> {
    Some(environment::config_home()?.join("photofinish/config.toml"))
}

/// The profile that is asked for, else the file's own, else `default`.
fn chosen(args: &Args, file: &ConfigFile) -> Result<String, CliError> {
    let Some(wanted) = &args.profile else {
        let own = file.profile.clone();
        return Ok(own.unwrap_or_else(|| DEFAULT_PROFILE.to_owned()));
    };
    if file.profiles.contains_key(wanted) {
        return Ok(wanted.clone());
    }
    let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
    let advice = match (file::nearest(wanted, &known), known.is_empty()) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, false) => format!("there are {}", known.join(", ")),
        (None, true) => "the configuration file has none".to_owned(),
    };
    Err(CliError::Usage(format!(
        "there is no profile {wanted}: {advice}"
    )))
}

/// A key as it may be shown: its beginning.
pub(crate) fn shown(key: &str) -> String {
    let head: String = key.chars().take(SHOWN_CHARS).collect();
    if key.chars().count() > SHOWN_CHARS * 2 {
        format!("{head}…")
    } else {
        "…".to_owned()
    }
}

impl Source {
    /// Where that is, for people.
    pub(crate) fn tell(&self, profile: &str) -> String {
        match self {
            Self::Flag(flag) => (*flag).to_owned(),
            Self::Variable(name) => (*name).to_owned(),
            Self::File => format!("[profiles.{profile}]"),
            Self::Default => "default".to_owned(),
        }
    }
}
