//! `bucket`: its lifecycle rules.

use crate::args::BucketCommand;
use crate::client::{Client, read};
use crate::error::CliError;
use crate::look::Look;
use crate::output::Output;
use crate::table::{Kind, table};
use crate::verdict::Verdict;
use photofinish_contract::upkeep::{BucketLifecycle, BucketRule, LifecycleState};
use std::fmt::Write as _;

/// Does one of the commands.
pub(crate) async fn run(
    client: &Client,
    command: &BucketCommand,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let BucketCommand::Lifecycle { apply } = command;
    let path = ["admin", "bucket", "lifecycle"];
    let answer = if *apply {
        client.put(&path).await?
    } else {
        client.get(&path, &[]).await?
    };
    let found: BucketLifecycle = read("/v1/admin/bucket/lifecycle", answer.clone())?;
    let look = output.look();
    output.answer(&answer, |_| text(&found, look))?;
    match found.state {
        LifecycleState::InForce => return Ok(Verdict::Well),
        LifecycleState::Missing => {
            output.remark("`photofinish bucket lifecycle --apply` puts what is missing.");
        }
        LifecycleState::NotKnown => output.remark(
            "Look after the rules by hand, where the bucket has them; where it has none, delete what is old by a \
             timer of your own (docs/operations/backup.md).",
        ),
    }
    Ok(Verdict::Unwell)
}

fn text(lifecycle: &BucketLifecycle, look: Look) -> String {
    let columns = [
        ("rule", Kind::Whole),
        ("prefix", Kind::Text),
        ("deletes after", Kind::Text),
        ("aborts uploads after", Kind::Text),
    ];
    let days = |days: Option<u32>| days.map_or_else(String::new, |days| format!("{days} d"));
    let row = |rule: &BucketRule| {
        vec![
            rule.id.clone(),
            rule.prefix.clone(),
            days(rule.expire_days),
            days(rule.abort_days),
        ]
    };
    let mut text = format!("{}\n", lifecycle.state.as_str());
    if let Some(detail) = &lifecycle.detail {
        let _infallible = writeln!(text, "{detail}");
    }
    for (title, rules) in [
        ("in force", &lifecycle.found),
        ("wanted", &lifecycle.wanted),
    ] {
        if !rules.is_empty() {
            let rows: Vec<_> = rules.iter().map(row).collect();
            let _infallible = write!(text, "\n{title}\n{}", table(&columns, &rows, look));
        }
    }
    text
}
