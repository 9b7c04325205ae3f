//! The one HTTP client for addresses that a stranger chose: inputs of jobs and receivers of webhooks.
//!
//! Nouns: a [`Policy`] says which private networks are allowed after all; a [`Guard`] checks URLs and addresses
//! against it; [`Outbound`] fetches, downloads and posts within [`Limits`].
//!
//! Guarantee: no connection is ever opened to a loopback, private, link-local, metadata or otherwise special
//! address that the policy does not allow, in whatever spelling and whatever DNS says at that moment: the host is
//! checked after parsing, names are resolved here, every address is checked, and only what was checked is connected
//! to. No proxy, no redirect that was not checked, no body above the cap, no wait without a limit. No retries,
//! but for the bounded resumption of a download that was cut.
//!
//! Not for our own servers (S3, RunPod): those have clients of their own. Before the first [`Outbound::new`] the
//! process must have installed a TLS crypto provider (`runtime` does).

mod body;
mod client;
mod download;
mod error;
mod guard;
mod ranges;
mod timing;

pub use body::Body;
pub use client::{Limits, Outbound, PostOutcome, Posted, Response, Timing};
pub use download::Downloaded;
pub use error::{BuildError, Class, OutboundError, Phase};
pub use guard::{Guard, Policy, Refused};
pub use timing::Opening;
pub use url::Url;
