//! What the deployment stands on, and what to do about what is amiss, with the operator's key.

use crate::client::Client;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use crate::verdict::Verdict;
use photofinish_contract::doctor::{Diagnosis, State};
use serde_json::Value;
use std::fmt::Write as _;

/// Asks, shows, and says by its verdict whether something is wrong.
pub(crate) async fn doctor(client: &Client, output: &mut Output) -> Result<Verdict, CliError> {
    let answer = client.get(&["admin", "doctor"], &[]).await?;
    output.answer(&answer, text)?;
    let wrong = serde_json::from_value::<Diagnosis>(answer).is_ok_and(|found| found.is_wrong());
    Ok(if wrong {
        Verdict::Unwell
    } else {
        Verdict::Well
    })
}

fn text(answer: &Value) -> String {
    let Ok(diagnosis) = serde_json::from_value::<Diagnosis>(answer.clone()) else {
        return format!("{answer:#}\n");
    };
    let rows: Vec<Vec<String>> = diagnosis
        .checks
        .iter()
        .map(|check| {
            vec![
                check.state.as_str().to_owned(),
                check.name.clone(),
                check.found.clone(),
            ]
        })
        .collect();
    let mut text = render::table(&["STATE", "CHECK", "FOUND"], &rows);
    for check in &diagnosis.checks {
        if let (State::Unknown | State::Warning | State::Wrong, Some(advice)) =
            (check.state, &check.advice)
        {
            let _infallible = write!(text, "\n{}: {advice}\n", check.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use photofinish_contract::doctor::Check;
    use photofinish_kit::{Answer, Receiver, install_crypto};

    async fn verdict_of(state: State) -> Verdict {
        install_crypto();
        let ingest = Receiver::start().await.unwrap();
        let diagnosis = Diagnosis {
            checks: vec![
                Check::ok("bucket", "answers"),
                Check::not("rules", state, "none", "Make one."),
            ],
        };
        ingest.always(Answer {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: serde_json::to_string(&diagnosis).unwrap(),
            ..Answer::default()
        });
        let url = ingest.url("/").parse().unwrap();
        let client = Client::new(&url, "operator").unwrap();
        let mut output = Output::into_writer(Box::new(std::io::sink()), false);
        let verdict = doctor(&client, &mut output).await.unwrap();
        assert_eq!(
            ingest.received()[0].header("authorization"),
            "Bearer operator"
        );
        verdict
    }

    #[tokio::test]
    async fn only_what_is_wrong_ends_in_1() {
        assert_eq!(verdict_of(State::Wrong).await, Verdict::Unwell);
        assert_eq!(verdict_of(State::Warning).await, Verdict::Well);
        assert_eq!(verdict_of(State::Unknown).await, Verdict::Well);
    }

    #[test]
    fn each_finding_comes_with_what_to_do() {
        let diagnosis = Diagnosis {
            checks: vec![
                Check::ok("bucket", "answers"),
                Check::not("rules", State::Warning, "none", "Make one."),
            ],
        };
        let shown = text(&serde_json::to_value(diagnosis).unwrap());
        assert!(shown.contains("warning  rules"), "{shown}");
        assert!(shown.ends_with("\nrules: Make one.\n"), "{shown}");
    }
}
