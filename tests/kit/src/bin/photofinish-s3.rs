//! The test kit's S3 server as a process of its own, for the demo, end-to-end tests and load.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use photofinish_kit::{S3, S3Credentials};
use tokio::signal::unix::{SignalKind, signal};

/// An S3 server over files, or in memory
#[derive(Debug, Parser)]
#[command(name = "photofinish-s3", version)]
struct Args {
    /// Directory of the buckets
    #[arg(long, required_unless_present = "memory")]
    root: Option<PathBuf>,
    /// Keep all objects in memory: whole ones, no uploads in parts
    #[arg(long, conflicts_with = "root")]
    memory: bool,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// The bucket, made if missing
    #[arg(long, default_value = "photofinish")]
    bucket: String,
    /// Access key id
    #[arg(long, default_value = "photofinish-local")]
    access_key: String,
    /// Secret access key
    #[arg(long, default_value = "photofinish-local-secret")]
    secret_key: String,
    /// Where to write the real address: {"http": "127.0.0.1:1234"}
    #[arg(long, alias = "port-file")]
    ports_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut term = signal(SignalKind::terminate())?;
    let credentials = S3Credentials {
        access_key: args.access_key,
        secret_key: args.secret_key,
        ..S3Credentials::default()
    };
    let (listen, bucket) = (&args.listen, &args.bucket);
    let server = match args.root {
        Some(root) => S3::start_at(&root, listen, bucket, credentials).await?,
        None => S3::start_in_memory(listen, bucket, credentials).await?,
    };
    if let Some(file) = args.ports_file {
        let part = file.with_extension("part");
        std::fs::write(&part, format!("{{\"http\": \"{}\"}}", server.addr()))
            .and_then(|()| std::fs::rename(&part, &file))
            .context("write the ports file")?;
    }
    tokio::select! {
        _ = term.recv() => {}
        outcome = tokio::signal::ctrl_c() => outcome?,
    }
    server.stop().await;
    Ok(())
}
