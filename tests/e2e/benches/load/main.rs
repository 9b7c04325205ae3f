//! The product under load, each figure by the whole stack of real processes on a broker and a Redis of its own: how
//! soon an accepted job reaches RunPod, how many jobs a second go all the way, and what waiting jobs cost.
//!
//! RunPod is emulated; its workers are stand-ins, which answer at once with a small file. Everything, this program
//! included, shares the processors of one machine.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a bench has no runtime of ours around it and says how far it is"
)]

mod accept;
mod admitted;
mod bare;
mod chain;
mod client;
mod house;
mod recorder;
mod submits;
mod waiting;

use photofinish_kit::measure::{Figure, chosen, record};

/// The figures by the name that may be given to have one alone.
const ALL: [&str; 5] = ["accept", "admitted", "chain", "submits", "waiting"];

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    for name in chosen(&ALL) {
        let figures: Vec<Figure> = runtime.block_on(async {
            match name {
                "accept" => accept::measure().await,
                "admitted" => admitted::measure().await,
                "chain" => chain::measure().await,
                "submits" => submits::measure().await,
                _ => waiting::measure().await,
            }
        })?;
        record(&figures)?;
    }
    Ok(())
}
