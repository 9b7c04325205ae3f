//! Webhooks under load: one notifier, its broker, its Redis, the receiver and the generator, all on this machine.
//!
//! | figure | |
//! |---|---|
//! | `webhooks_per_s`, `webhooks_share_of_direct`, `webhook_cpu_s_per_1000` | as many events as it takes, against a generator straight at the receiver |
//! | `webhook_p99_ms_at_500` | from an event's publish to its arrival, 500 events/s whatever comes back |
//! | `webhook_p99_shift_with_10pct_hung` | the same of healthy endpoints, with 2 of 20 endpoints that never answer, against none |
//! | `webhook_kill_late_s` | kill -9 amid 2,000 deliveries: the last one after the restart |
//! | `webhook_waiting_memory_growth` | the notifier's memory with 100,000 deliveries that wait for their retry, against 1,000 |
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a bench has no runtime of ours around it and says how far it is"
)]

mod direct;
mod house;
mod latency;
mod receiver;
mod rush;
mod waiting;

use photofinish_kit::measure::{Figure, chosen, record};

/// The figures by the name that may be given to have one alone.
const ALL: [&str; 5] = ["rush", "latency", "hung", "kill", "waiting"];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    for name in chosen(&ALL) {
        eprintln!("{name}");
        let figures: Vec<Figure> = runtime.block_on(async {
            match name {
                "rush" => rush::measure().await,
                "latency" => latency::steady().await,
                "hung" => latency::hung().await,
                "kill" => rush::killed().await,
                _ => waiting::measure().await,
            }
        })?;
        record(&figures)?;
    }
    Ok(())
}
