//! `containers`: the demo's three jobs through a system that others started, with a mishap on the way.
//!
//! Guarantee: exit code 0 only if the mishap came while the split job ran and every check held all the same.
//! Nothing of the system is started or stopped here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use photofinish_kit::wait_for;

use crate::checks::{self, Report, Sources};
use crate::demo;
use crate::jobs::{self, Finished, Submitted};
use crate::receiver::{Ear, Files};
use crate::samples::{PICTURES, Samples};
use crate::say::say;
use crate::stack::{self, Options, Stack};
use crate::wiring::{Client, RunPod, Secrets, Servers, Wiring};
use crate::{progress, tables, up};

/// Workers in containers share the machine with everything else.
const JOBS_DEADLINE: Duration = Duration::from_mins(5);
const UNDER_WAY_DEADLINE: Duration = Duration::from_mins(2);

/// Where the system is.
#[derive(Debug, clap::Args)]
pub struct Containers {
    /// Where outputs are kept
    #[arg(long)]
    dir: PathBuf,
    /// Ingest, as this machine reaches it
    #[arg(long)]
    ingest: String,
    /// The broker, as this machine reaches it: host:port
    #[arg(long)]
    amqp: String,
    /// The S3 server, as this machine reaches it
    #[arg(long)]
    s3: String,
    /// Its name in presigned URLs
    #[arg(long)]
    s3_name: String,
    /// The directory of secrets that deploy/compose/secrets.sh made
    #[arg(long)]
    secrets: PathBuf,
    /// An address of this machine that the containers reach
    #[arg(long)]
    own_address: IpAddr,
    /// A program that is run while the split job is under way; repeated: its arguments
    #[arg(long)]
    on_the_way: Vec<String>,
}

/// Runs the jobs and checks them: an error if anything does not hold.
pub async fn run(given: Containers) -> anyhow::Result<()> {
    let began = Instant::now();
    let http = http(&given)?;
    let mut wiring = wiring(&given)?;
    let made = up::make_tenant(&http, &wiring).await?;
    wiring.client = Client {
        amqp_url: through(&made.amqp_url, &given.amqp)?,
        ..made
    };
    let mut stack = Stack::claim(Options {
        dir: given.dir.clone(),
        lasting: true,
        tenant: up::TENANT.to_owned(),
        servers: None,
        settings: Vec::new(),
        runpod: RunPod::default(),
    })?;
    stack.adopt(wiring, http);
    let samples_dir = tempfile::tempdir().context("make a directory for the samples")?;
    let samples = Samples::make(samples_dir.path(), PICTURES).await?;
    let files = Files::start_at(samples.dir.clone(), given.own_address).await?;
    let ear = Ear::start_at(given.own_address).await?;

    say("three jobs: two over AMQP, one over HTTP");
    let mut submitted = Vec::new();
    for ask in demo::asks(&samples, &files, &ear).await? {
        submitted.push(jobs::submit(stack.http(), stack.wiring()?, ask).await?);
    }
    let mishap = mishap(&stack, &submitted, &given.on_the_way);
    let followed = progress::follow(
        stack.http(),
        stack.wiring()?,
        submitted.clone(),
        JOBS_DEADLINE,
    );
    let (mishap, finished) = tokio::join!(mishap, followed);
    mishap?;
    let held = check(&stack, &ear, &finished?).await?;
    say(format!(
        "all {held} checks held; {:.0} s in all",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A client for loopback that finds the S3 server under the name of its presigned URLs.
fn http(given: &Containers) -> anyhow::Result<reqwest::Client> {
    let place = given.s3.trim_start_matches("http://");
    let place: SocketAddr = place
        .parse()
        .with_context(|| format!("read the address in {}", given.s3))?;
    let forwarded = stack::http_builder().resolve(&given.s3_name, place);
    forwarded.build().context("build the HTTP client")
}

fn wiring(given: &Containers) -> anyhow::Result<Wiring> {
    let secret = |name: &str| secret(&given.secrets, name);
    let servers = Servers {
        amqp_url: String::new(),
        rabbitmq_api: String::new(),
        vhost: "/".to_owned(),
        redis_url: String::new(),
        redis_prefix: String::new(),
    };
    let mut wiring = Wiring::new(servers, up::TENANT);
    wiring.ingest.clone_from(&given.ingest);
    wiring.s3.clone_from(&given.s3);
    wiring.secrets = Secrets {
        operator_key: secret("operator_key")?,
        s3_key_id: secret("s3_access_key_id")?,
        s3_secret: secret("s3_secret_access_key")?,
        ..Secrets::random()
    };
    wiring.admin = BTreeMap::new();
    Ok(wiring)
}

fn secret(dir: &Path, name: &str) -> anyhow::Result<String> {
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// A broker's URL with another host and port.
fn through(url: &str, place: &str) -> anyhow::Result<String> {
    let unreadable = || format!("the tenant's AMQP URL has no user or no host: {place}");
    let (user, rest) = url.split_once('@').with_context(unreadable)?;
    let (_, vhost) = rest.split_once('/').with_context(unreadable)?;
    Ok(format!("{user}@{place}/{vhost}"))
}

/// Runs the program once the first job has its first output and has not ended.
async fn mishap(stack: &Stack, submitted: &[Submitted], program: &[String]) -> anyhow::Result<()> {
    let (Some(job), Some((name, arguments))) = (submitted.first(), program.split_first()) else {
        return Ok(());
    };
    let (http, wiring) = (stack.http(), stack.wiring()?);
    let what = format!("{} has an output", job.ask.name);
    let seen = wait_for(UNDER_WAY_DEADLINE, &what, || async {
        let job = jobs::get(http, wiring, &job.id).await.ok()?;
        (job.progress.items_done > 0).then_some(job)
    })
    .await?;
    anyhow::ensure!(
        !seen.status.is_final(),
        "{} had ended before anything could happen to it",
        job.ask.name
    );
    let (done, all) = (seen.progress.items_done, seen.progress.items_total);
    say(format!(
        "  at {done} of {all} outputs: {}",
        program.join(" ")
    ));
    let ran = tokio::process::Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .status()
        .await
        .with_context(|| format!("run {name}"))?;
    anyhow::ensure!(ran.success(), "{} failed: {ran}", program.join(" "));
    Ok(())
}

/// Gives how many checks held; an error if one did not.
async fn check(stack: &Stack, ear: &Ear, finished: &[Finished]) -> anyhow::Result<usize> {
    say("checking every file, hash and webhook");
    let mut report = Report::default();
    let mut rows: Vec<(&Finished, Sources)> = Vec::new();
    for job in finished {
        rows.push((job, checks::check_job(stack, ear, job, &mut report).await?));
    }
    report.check_in_progress(rows.iter().map(|(_, sources)| sources));
    say(tables::jobs(&rows));
    report.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The compose file, the Dockerfiles and the code agree; `deploy/check.py` also breaks them itself, and fails if it
    /// does not notice.
    #[test]
    fn what_is_deployed_agrees_with_the_code() {
        let check = photofinish_kit::root().join("deploy/check.py");
        let mut command = std::process::Command::new(photofinish_kit::python());
        let ran = command.arg(&check).arg("--self").output();
        let ran = ran.unwrap_or_else(|error| panic!("{}: {error}", check.display()));
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let advice = "if PyYAML is missing: scripts/k8s-test.sh tools";
        assert!(
            ran.status.success(),
            "{}{}{advice}",
            told(&ran.stdout),
            told(&ran.stderr)
        );
    }

    #[test]
    fn the_broker_is_reached_by_another_way() {
        let url = through("amqp://demo:secret@rabbitmq:5672/%2f", "127.0.0.1:15673");
        assert_eq!(url.unwrap(), "amqp://demo:secret@127.0.0.1:15673/%2f");
        assert!(through("amqp://rabbitmq", "127.0.0.1:1").is_err());
    }
}
