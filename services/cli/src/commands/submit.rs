//! `submit`: files up, the request in, and with `--watch` and `--fetch` to the end.
//!
//! Guarantee: one invocation is one job. It is sent under an idempotency key (a random one, if none was given), so
//! trying again after a lost answer gives the same job.

use crate::args::SubmitArgs;
use crate::client::Client;
use crate::commands::watch::{self, Known};
use crate::commands::{fetch, request, upload};
use crate::environment;
use crate::error::CliError;
use crate::output::Output;
use crate::render;
use serde_json::Value;
use std::error::Error as _;
use std::time::Duration;

/// Tries of one submit.
const TRIES_MAX: u32 = 4;
/// Before the second try; doubled before each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// Submits; follows and fetches if asked to.
pub(crate) async fn submit(
    client: &Client,
    args: &SubmitArgs,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut draft = request::read(&args.request)?;
    upload::files(client, &mut draft, environment::cache_home(), output).await?;
    let body = draft.body.to_string().into_bytes();
    let follow = args.watch || args.fetch.is_some();
    let key = args.idempotency_key.clone();
    let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let answer = send(client, body, &key, output).await?;
    let id = answer["id"].as_str().unwrap_or_default().to_owned();
    if args.quiet {
        output.raw(format!("{id}\n").as_bytes())?;
    } else if !follow {
        let look = output.look();
        return output.answer(&answer, |answer| render::accepted(answer, look));
    } else {
        output.remark(&format!(
            "{id} is {}",
            answer["status"].as_str().unwrap_or("taken")
        ));
    }
    if !follow {
        return Ok(());
    }
    let watched = watch::watch(client, &id, Known::NotYet, output).await;
    fetch::after(client, &id, args.fetch.as_deref(), watched, output).await
}

/// Sends the request; again where the answer may have been lost.
async fn send(
    client: &Client,
    body: Vec<u8>,
    key: &str,
    output: &Output,
) -> Result<Value, CliError> {
    let mut pause = PAUSE;
    for _try in 1..TRIES_MAX {
        match client
            .post(&["jobs"], &[], Some(body.clone()), Some(key))
            .await
        {
            Err(error) if error.is_passing() && !nobody_there(&error) => {
                output.note(&format!("{error}; trying again"));
            }
            decided => return decided,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    client.post(&["jobs"], &[], Some(body), Some(key)).await
}

/// Nothing was sent, and nothing will answer a second later: a wrong address, most often.
fn nobody_there(error: &CliError) -> bool {
    match error.source() {
        Some(cause) => cause
            .downcast_ref::<reqwest::Error>()
            .is_some_and(reqwest::Error::is_connect),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::Shared;
    use crate::render::tests::job_json;
    use photofinish_kit::{Answer, Receiver, install_crypto};

    async fn sent(script: Vec<Answer>) -> (Result<Value, CliError>, Vec<String>) {
        install_crypto();
        let service = Receiver::start().await.unwrap();
        service.script(script);
        service.always(Answer {
            status: 202,
            body: job_json("accepted", 0).to_string(),
            ..Answer::default()
        });
        let client = Client::new(&service.url("/").parse().unwrap(), "key").unwrap();
        let output = Output::into_writer(Box::new(Shared::default()), true);
        let answer = send(&client, b"{}".to_vec(), "one", &output).await;
        let keys = service.received().into_iter();
        let keys = keys.map(|call| call.header("idempotency-key").to_owned());
        (answer, keys.collect())
    }

    #[tokio::test]
    async fn a_lost_answer_is_asked_for_under_the_same_key() {
        let (answer, keys) = sent(vec![Answer::status(503), Answer::status(500)]).await;
        assert_eq!(answer.unwrap()["status"], "accepted");
        assert_eq!(keys, ["one", "one", "one"]);
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let problem = serde_json::json!({"status": 422, "code": "invalid_request", "detail": "d"});
        let refusal = Answer {
            status: 422,
            body: problem.to_string(),
            ..Answer::default()
        };
        let (answer, keys) = sent(vec![refusal]).await;
        assert_eq!(answer.unwrap_err().exit_code(), 1);
        assert_eq!(keys.len(), 1);
    }
}
