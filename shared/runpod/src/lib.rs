//! RunPod serverless, from both sides: the [`client`] that submits runs and asks after them, and
//! the [`worker`] that runs inside a container, takes jobs and posts their results.
//!
//! Guarantees. The client never repeats a call by itself and tells a *refused* submit from one
//! whose outcome is *unknown*: whoever owns the attempt decides. It stays below RunPod's limits at
//! each of its endpoints, and gives one that keeps failing a rest. The worker posts every result
//! until it arrives or its deadline is over, sends progress in order and none after the result,
//! and goes on pinging whatever the job does to the other threads.
//!
//! Not for: deciding whether to submit again, what an output means, or anything else of ours.
//! Inputs and outputs are plain JSON here.

pub mod client;
pub mod direct;
pub mod management;
pub mod port;
pub mod proxy;
pub mod worker;

/// Installs ring as the process-wide TLS provider, if nobody did so before.
///
/// Building an HTTP client without one panics; doing it twice is harmless.
fn install_tls_provider() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Everything but RFC 3986's unreserved characters.
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An id as one path segment or query value, whatever characters it has.
fn encode_segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, SEGMENT).to_string()
}
