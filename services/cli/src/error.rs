//! What can go wrong, which exit code that is, and what to do next.

use crate::endpoint_error::EndpointError;
use crate::exit::{FAILED, INTERRUPTED, UNREACHABLE, USAGE, WELL};
use photofinish_model::JobStatus;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Why a command did not go well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The service refused, and says why.
    #[error("{0}")]
    Problem(ProblemDoc),
    /// Something answered, but not the service, or not as this version knows it.
    #[error("the answer to {call} ({status}) is not one of Photofinish's: {text}")]
    Foreign {
        call: String,
        status: u16,
        text: String,
    },
    /// Nothing answered.
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: reqwest::Error },
    /// The service answers errors for longer than a watch puts up with.
    #[error("{url} has had no answer for {seconds} s")]
    Gone { url: String, seconds: u64 },
    /// The job ended otherwise than well.
    #[error("{id} is {}{}", .status.as_str(), .detail.as_deref().unwrap_or_default())]
    JobEnded {
        id: String,
        status: JobStatus,
        detail: Option<String>,
    },
    /// The job has not ended, so its outputs are not complete.
    #[error("{id} has {missing} output(s) that are not stored yet")]
    Incomplete { id: String, missing: usize },
    /// A key is needed.
    #[error("no key: set {variable} or give {flag}")]
    NoKey {
        variable: &'static str,
        flag: &'static str,
    },
    /// The request file cannot be used.
    #[error("read {}", .path.display())]
    Request {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The request file is not JSON.
    #[error("{} is not JSON", .path.display())]
    NotJson {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// An argument cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be written or read.
    #[error("write {}", .path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The configuration file has faults.
    #[error("{} cannot be used: {}", .path.display(), .faults.join("; "))]
    Config { path: PathBuf, faults: Vec<String> },
    /// An upload broke off again and again.
    #[error("upload {}: {why}", .path.display())]
    Upload { path: PathBuf, why: String },
    /// Nothing, or more than one thing, is meant by what was typed.
    #[error("{0}")]
    NotMeant(String),
    /// Ctrl-C while a job was followed.
    #[error("{id} goes on")]
    Interrupted { id: String },
    /// Whoever read standard output has read enough.
    #[error("nobody reads on")]
    ReaderGone,
    /// A download broke off again and again.
    #[error("download {item}: {why}")]
    Download { item: String, why: String },
    /// The output of this command cannot be written.
    #[error("write the output")]
    Output(#[from] std::io::Error),
    /// The HTTP client cannot be built: no CA certificates, most often.
    #[error("build the HTTP client (are CA certificates installed?)")]
    Client(#[source] reqwest::Error),
    /// About the RunPod endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// A problem document, read leniently: a newer service may have codes that this version does not know.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ProblemDoc {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) detail: String,
    #[serde(default)]
    pub(crate) errors: Vec<ProblemRow>,
}

/// One fault of a request.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct ProblemRow {
    pub(crate) pointer: String,
    pub(crate) code: String,
    pub(crate) detail: String,
}

impl std::fmt::Display for ProblemDoc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)?;
        for row in &self.errors {
            let pointer = if row.pointer.is_empty() {
                "the body"
            } else {
                &row.pointer
            };
            write!(f, "\n  {pointer}: {} ({})", row.detail, row.code)?;
        }
        Ok(())
    }
}

impl CliError {
    /// See `exit::TABLE`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(_)
            | Self::JobEnded { .. }
            | Self::Incomplete { .. }
            | Self::File { .. }
            | Self::Download { .. }
            | Self::Upload { .. }
            | Self::NotMeant(_)
            | Self::Output(_) => FAILED,
            Self::NoKey { .. }
            | Self::Request { .. }
            | Self::NotJson { .. }
            | Self::Config { .. }
            | Self::Usage(_) => USAGE,
            Self::Interrupted { .. } => INTERRUPTED,
            Self::ReaderGone => WELL,
            Self::Endpoint(error) => error.exit_code(),
            Self::Foreign { .. }
            | Self::Unreachable { .. }
            | Self::Gone { .. }
            | Self::Client(_) => UNREACHABLE,
        }
    }

    /// What to do next, if there is something to say.
    pub(crate) fn next_step(&self) -> Option<String> {
        let text = match self {
            Self::Problem(problem) => return problem_step(problem).map(str::to_owned),
            Self::Foreign { .. } => "Does PHOTOFINISH_URL name the ingest service itself?",
            Self::Unreachable { .. } | Self::Gone { .. } => {
                "Check PHOTOFINISH_URL (`photofinish config` shows it), and that the service is up (`make up` starts one here)."
            }
            Self::JobEnded {
                id,
                status: JobStatus::Failed | JobStatus::Cancelled,
                ..
            } => {
                return Some(format!(
                    "`photofinish get {id}` names each item's fault; `photofinish retry {id}` \
                     runs again what did not succeed."
                ));
            }
            Self::Incomplete { id, .. } => {
                return Some(format!(
                    "`photofinish watch {id}`, then fetch again: it goes on where it stopped."
                ));
            }
            Self::NoKey {
                variable: "PHOTOFINISH_API_KEY",
                ..
            } => "An operator makes keys: `photofinish keys create TENANT`.",
            Self::NoKey {
                variable: "RUNPOD_API_KEY",
                ..
            } => "RunPod's console makes keys, under Settings.",
            Self::Endpoint(error) => return error.next_step(),
            Self::NoKey { .. } => {
                "It is the deployment's `auth.operator_key`, or one of `photofinish keys create --operator`."
            }
            Self::Config { .. } => {
                "Mend it, or name another file with --config; the README lists what a profile may say."
            }
            Self::Interrupted { id } => {
                return Some(format!(
                    "`photofinish watch {id}` follows it again, `photofinish cancel {id}` stops it."
                ));
            }
            Self::Upload { .. } => {
                "Submit again: what is uploaded already is not uploaded once more."
            }
            Self::Download { .. } => "Fetch again: it goes on where it stopped.",
            Self::JobEnded { .. }
            | Self::Request { .. }
            | Self::NotJson { .. }
            | Self::Usage(_)
            | Self::File { .. }
            | Self::Output(_)
            | Self::NotMeant(_)
            | Self::ReaderGone
            | Self::Client(_) => return None,
        };
        Some(text.to_owned())
    }

    /// True for what may be otherwise a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => {
                // A hard quota is not otherwise a moment later.
                problem.status >= 500 || (problem.status == 429 && problem.code != "quota_exceeded")
            }
            Self::Foreign { status, .. } => *status >= 500,
            Self::Gone { .. }
            | Self::JobEnded { .. }
            | Self::Incomplete { .. }
            | Self::NoKey { .. }
            | Self::Request { .. }
            | Self::NotJson { .. }
            | Self::Usage(_)
            | Self::File { .. }
            | Self::Download { .. }
            | Self::Upload { .. }
            | Self::Config { .. }
            | Self::NotMeant(_)
            | Self::Interrupted { .. }
            | Self::ReaderGone
            | Self::Output(_)
            | Self::Client(_)
            | Self::Endpoint(_) => false,
        }
    }
}

fn problem_step(problem: &ProblemDoc) -> Option<&'static str> {
    let by_code = match problem.code.as_str() {
        "idempotency_key_reused" => Some("Use another --idempotency-key for another request."),
        "job_finished" => Some("It has ended; `photofinish get` shows how."),
        "job_not_finished" => Some("Wait for its end (`photofinish watch`) or cancel it first."),
        "nothing_to_retry" => Some("`photofinish fetch` gets its outputs."),
        "quota_exceeded" => Some(
            "An operator changes it: `photofinish tenants set`; `tenants usage` shows what is used.",
        ),
        "output_deleted" => Some("Its outputs are gone for good: submit the job anew."),
        _ => None,
    };
    by_code.or(match problem.status {
        400 | 422 if !problem.errors.is_empty() => {
            Some("Correct every row above and submit again.")
        }
        401 => Some("Check PHOTOFINISH_API_KEY (operators: PHOTOFINISH_OPERATOR_KEY)."),
        403 => {
            Some("This call needs another key: what is about operators needs PHOTOFINISH_OPERATOR_KEY, the rest a tenant's.")
        }
        404 => Some("Check the id, and that the key belongs to the tenant whose it is."),
        429 | 503 => Some("Try again in a moment; with an --idempotency-key that is harmless."),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = r#"{"type": "t", "title": "Unprocessable Content", "status": 422,
        "code": "a_code_of_tomorrow", "detail": "the request breaks 2 rules",
        "errors": [{"pointer": "/images/0/image_url", "code": "required", "detail": "give a URL"},
                   {"pointer": "", "code": "unknown_field", "detail": "no such field: colour"}]}"#;

    #[test]
    fn a_problem_names_every_row_and_the_next_step() {
        let problem: ProblemDoc = serde_json::from_str(REFUSAL).unwrap();
        let error = CliError::Problem(problem);
        let text = error.to_string();
        for part in [
            "breaks 2 rules",
            "/images/0/image_url: give a URL (required)",
            "the body: ",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(error.exit_code(), 1);
        assert!(error.next_step().unwrap().contains("every row"));
        assert!(!error.is_passing());
    }

    #[test]
    fn exit_codes_are_as_promised() {
        let ended = CliError::JobEnded {
            id: "j".into(),
            status: JobStatus::Failed,
            detail: None,
        };
        assert_eq!(ended.exit_code(), 1);
        assert!(ended.next_step().unwrap().contains("photofinish retry j"));
        assert_eq!(CliError::Usage("x".into()).exit_code(), 64);
        assert_eq!(
            CliError::Gone {
                url: "u".into(),
                seconds: 30
            }
            .exit_code(),
            3
        );
    }
}
