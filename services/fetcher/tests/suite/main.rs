//! The fetcher as a process with a dispatcher, against real servers and the emulator; the worker's
//! own port is played by the test.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

#[expect(dead_code, reason = "shared with the suite of the dispatcher")]
#[path = "../../../dispatcher/tests/suite/house.rs"]
mod house;
mod large;
mod late;
mod many;
mod pulls;
mod rendering_worker;
mod routes;
mod tls;
mod watches;
