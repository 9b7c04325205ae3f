//! What can go wrong with the RunPod endpoint, which exit code that is, and what to do next.

use crate::error::CliError;
use crate::exit::{FAILED, UNREACHABLE, USAGE};
use photofinish_runpod::client::StatusError;
use photofinish_runpod::management::ManagementError;
use std::path::PathBuf;

/// Why an `endpoint` command did not go well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// RunPod's management API.
    #[error(transparent)]
    Management(ManagementError),
    /// RunPod's data plane.
    #[error(transparent)]
    Data(StatusError),
    /// `endpoint.toml` has faults.
    #[error("{} has {} fault(s):\n  {}", .path.display(), .faults.len(), .faults.join("\n  "))]
    File { path: PathBuf, faults: Vec<String> },
    /// RunPod has no endpoint of that name.
    #[error("RunPod has no endpoint named {name}")]
    NotThere { name: String },
    /// Somebody has to agree, and nobody can be asked.
    #[error("this has to be agreed to, and standard input is no terminal")]
    NobodyToAsk { flag: &'static str },
    /// Settings that an endpoint keeps for life.
    #[error("RunPod cannot change {} of an endpoint", .fields.join(", "))]
    CannotChange { fields: Vec<String> },
    /// RunPod answered well and has something else.
    #[error("RunPod did not take {} as the file has it", .fields.join(", "))]
    NotTaken { fields: Vec<String> },
    /// A tag that is pushed again and again.
    #[error("{image} names no image for good")]
    MovingTag { image: String },
    /// Workers of an older version are left.
    #[error("not every worker runs it after {seconds} s: {state}")]
    NotRolledOut { seconds: u64, state: String },
    /// Jobs are left.
    #[error("jobs are left after {seconds} s ({state}); nothing was deleted")]
    NotDrained { seconds: u64, state: String },
    /// Another name was typed.
    #[error("{typed:?} is not the name of the endpoint, which is {name:?}; nothing was deleted")]
    WrongName { name: String, typed: String },
}

impl From<ManagementError> for CliError {
    fn from(error: ManagementError) -> Self {
        Self::Endpoint(EndpointError::Management(error))
    }
}

impl From<StatusError> for CliError {
    fn from(error: StatusError) -> Self {
        Self::Endpoint(EndpointError::Data(error))
    }
}

impl EndpointError {
    /// 1 RunPod refused or it did not come about, 3 RunPod cannot be reached, 64 usage.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Management(ManagementError::Setup(_))
            | Self::File { .. }
            | Self::NobodyToAsk { .. }
            | Self::MovingTag { .. } => USAGE,
            Self::Management(error) if is_out_of_reach(error) => UNREACHABLE,
            Self::Data(error) if error.is_transient() && !error.is_refusal() => UNREACHABLE,
            Self::Management(_)
            | Self::Data(_)
            | Self::NotThere { .. }
            | Self::CannotChange { .. }
            | Self::NotTaken { .. }
            | Self::NotRolledOut { .. }
            | Self::NotDrained { .. }
            | Self::WrongName { .. } => FAILED,
        }
    }

    /// What to do next, if there is something to say.
    pub(crate) fn next_step(&self) -> Option<String> {
        let text = match self {
            Self::Management(error) => return management_step(error).map(str::to_owned),
            Self::Data(StatusError::Unauthorized { .. }) => KEY_STEP,
            Self::NobodyToAsk { flag } => return Some(format!("Give {flag} to agree to it.")),
            Self::File { .. } => "Correct every row above; nothing was asked of RunPod.",
            Self::NotThere { .. } => {
                "`photofinish endpoint apply` makes it; --id names another one."
            }
            Self::CannotChange { .. } => {
                "Give the file another name and apply it, move the clients to the new id, then delete the old one."
            }
            Self::NotTaken { .. } => "`photofinish endpoint diff` shows what RunPod has instead.",
            Self::MovingTag { .. } => {
                "Push a tag of its own, or give a digest: hosts go on using the copy of a tag that they have. \
                 --allow-latest takes it all the same."
            }
            Self::NotRolledOut { .. } => {
                "Workers go on being replaced; the same command waits again. `photofinish endpoint health` shows them."
            }
            Self::NotDrained { .. } => {
                "The same command waits again; --now lets RunPod cancel what is left."
            }
            Self::Data(_) | Self::WrongName { .. } => return None,
        };
        Some(text.to_owned())
    }
}

const KEY_STEP: &str = "Check RUNPOD_API_KEY: it needs to be allowed for this endpoint.";

fn is_out_of_reach(error: &ManagementError) -> bool {
    let is_limit = matches!(error, ManagementError::RateLimited { .. });
    !is_limit && (error.is_transient() || error.is_unknown())
}

fn management_step(error: &ManagementError) -> Option<&'static str> {
    match error {
        ManagementError::Unauthorized { .. } => Some(KEY_STEP),
        ManagementError::NotFound { .. } => Some(
            "Check --id (or RUNPOD_ENDPOINT_ID), and that the key is of the account whose it is.",
        ),
        ManagementError::NameTaken { .. } => Some("Say with --id which one is meant."),
        ManagementError::CreateUnknown { .. } => Some(
            "It may still appear: look with `photofinish endpoint diff` before applying again, \
             or two are made.",
        ),
        ManagementError::Refused { .. } => Some("Correct endpoint.toml; nothing was changed."),
        ManagementError::RateLimited { .. } => Some("Try again in a minute."),
        ManagementError::Unavailable { .. } | ManagementError::Cut { .. } => {
            Some("`photofinish endpoint diff` shows whether something was changed.")
        }
        ManagementError::NotSent { .. } => {
            Some("Check RUNPOD_REST_API_URL and the connection; nothing was changed.")
        }
        ManagementError::Setup(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_every_fault_and_what_to_do() {
        let error = EndpointError::Management(ManagementError::Refused {
            call: "POST /v2/serverless".into(),
            status: 422,
            detail: "validation failed".into(),
            errors: vec!["name: is required".into(), "gpu: is required".into()],
        });
        let text = error.to_string();
        for part in [
            "422",
            "validation failed",
            "\n  name: is required",
            "\n  gpu:",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(error.exit_code(), 1);
        assert!(error.next_step().unwrap().contains("endpoint.toml"));
    }

    #[test]
    fn exit_codes_are_as_promised() {
        let faulty = EndpointError::File {
            path: "e.toml".into(),
            faults: vec!["line 1: name is needed".into()],
        };
        assert_eq!(faulty.exit_code(), 64);
        assert_eq!(EndpointError::NobodyToAsk { flag: "--yes" }.exit_code(), 64);
        let lost = EndpointError::Management(ManagementError::Unavailable {
            call: "c".into(),
            status: 502,
            detail: String::new(),
        });
        assert_eq!(lost.exit_code(), 3);
    }
}
