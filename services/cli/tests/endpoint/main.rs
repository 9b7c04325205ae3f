//! `photofinish endpoint …` as a process, against the emulator of RunPod as a process, with real workers.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

mod bench;
mod change;
mod lossy;
mod watch;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
