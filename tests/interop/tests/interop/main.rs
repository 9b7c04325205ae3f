//! RunPod's official SDKs and Standard Webhooks' libraries, unmodified and newest: `make interop` installs them and runs this.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

mod examples;
mod house;
mod our_worker;
mod schemathesis;
mod sdk_clients;
mod sdk_worker;
mod webhooks;
