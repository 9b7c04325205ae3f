//! Both sides against servers that answer exactly what a test wants: cuts, silence, edge pages,
//! and the order of a worker's posts. The whole protocol is tested against the emulator there.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

mod breaker;
mod client;
mod direct;
mod ending;
mod faults;
mod logs;
mod polls;
mod server;
mod speed;
mod worker;
mod working;
