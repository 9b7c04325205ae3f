//! The dispatcher as a process, against real servers and the emulator.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

mod cancelling;
mod ending;
mod endpoints;
mod fairness;
#[expect(dead_code, reason = "shared with the suite of the fetcher")]
mod house;
mod isolation;
mod pausing;
mod planning;
mod scripted;
mod starting;
mod submitting;
