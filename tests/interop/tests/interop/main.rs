//! RunPod's official SDKs, unmodified and newest: `make interop` installs them and runs this.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

mod our_worker;
mod sdk_clients;
mod sdk_worker;
