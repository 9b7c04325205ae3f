//! `rebuild`: Redis made again from the bucket, call after call until all is done.

use crate::client::{Client, read};
use crate::error::CliError;
use crate::output::Output;
use crate::verdict::Verdict;
use photofinish_contract::upkeep::Rebuilt;
use std::fmt::Write as _;
use std::time::Duration;

/// Calls in a row that may go unanswered before it is given up: it goes on where it stood.
const FAILURES_MAX: u32 = 10;
/// The pause after one.
const AGAIN: Duration = Duration::from_secs(3);

/// Calls until nothing is left, and says what was found.
pub(crate) async fn rebuild(client: &Client, output: &mut Output) -> Result<Verdict, CliError> {
    let mut sum = Rebuilt::default();
    let mut failures = 0;
    loop {
        match next(client, sum.next_cursor.clone()).await {
            Ok(found) => {
                failures = 0;
                sum = sum.and(found);
            }
            Err(error) if error.is_passing() && failures < FAILURES_MAX => {
                failures += 1;
                output.remark(&format!("{error}: once more"));
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        if sum.next_cursor.is_none() {
            break;
        }
        output.remark(&format!("{} jobs looked at", sum.jobs));
    }
    let answer = serde_json::to_value(&sum).unwrap_or_default();
    output.answer(&answer, |_| text(&sum))?;
    Ok(if sum.unreadable.is_empty() {
        Verdict::Well
    } else {
        Verdict::Unwell
    })
}

async fn next(client: &Client, cursor: Option<String>) -> Result<Rebuilt, CliError> {
    let query: Vec<_> = cursor
        .into_iter()
        .map(|cursor| ("cursor".to_owned(), cursor))
        .collect();
    let answer = client
        .post(&["admin", "rebuild"], &query, None, None)
        .await?;
    read("/v1/admin/rebuild", answer)
}

fn text(sum: &Rebuilt) -> String {
    let Rebuilt {
        tenants,
        jobs,
        known,
        restored,
        corrected,
        expired,
        open,
        unreadable,
        next_cursor: _,
    } = sum;
    let mut text = format!(
        "{jobs} jobs of {tenants} tenants, {open} of them open\n\
         {known} were known, {restored} were made again, {corrected} were put right\n"
    );
    if *expired > 0 {
        let _infallible = writeln!(text, "{expired} ended too long ago to be listed");
    }
    for job in unreadable {
        let _infallible = writeln!(text, "{job} cannot be read: ingest's log says why");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_told_and_what_cannot_be_read_is_named() {
        let sum = Rebuilt {
            tenants: 2,
            jobs: 9,
            known: 3,
            restored: 4,
            expired: 1,
            open: 2,
            unreadable: vec!["job_x".to_owned()],
            ..Rebuilt::default()
        };
        let text = text(&sum);
        for part in [
            "9 jobs of 2 tenants",
            "4 were made again",
            "1 ended",
            "job_x cannot",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
