//! Waiting for a state, with a deadline; free ports.

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context as _;

const POLL: Duration = Duration::from_millis(20);

/// A port that was free a moment ago. Better: let the program bind port 0 and write a ports file.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until `condition` is true, asking every 20 ms; an error that says `what` after `within`.
pub async fn wait_until<F, Fut>(
    within: Duration,
    what: &str,
    mut condition: F,
) -> anyhow::Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    wait_for(within, what, || {
        let asked = condition();
        async move { asked.await.then_some(()) }
    })
    .await
}

/// Waits until `condition` gives something, asking every 20 ms; an error that says `what` after `within`.
pub async fn wait_for<T, F, Fut>(
    within: Duration,
    what: &str,
    mut condition: F,
) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = condition().await {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(POLL).await; // paced: the interval of a poll that has a deadline
    }
}
