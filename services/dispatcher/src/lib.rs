//! The dispatcher: plans jobs, submits attempts, decides what follows a failed one, ends runs.
//!
//! A job comes by `dispatcher.plan`. Its plan is put into the bucket once and for all
//! (`run-{n}.json`). A part whose slot is free while nothing waits is submitted at once
//! (`starting`); the others are queued in their tenant's lane, and the submit loop takes one
//! message for each slot that the endpoint has free. Either way: grant first, then the
//! compare-and-swap of the part to *submitting* under a fresh nonce, then the one POST, to the first
//! of RunPod's endpoints that is well (`endpoints`; a retry prefers another than the last). What came
//! of the POST decides: an id and a watch; a definite refusal and another try later; or nobody
//! knows, and then the watch finds out and nothing is ever posted again under that nonce.
//!
//! The fetcher reports each attempt's end to `dispatcher.outcome`. Only what is missing runs
//! again. When every item is settled, or a person or the deadline says so, the run is ended: the
//! put-if-absent of `end-{n}.json` is the arbiter, and everything after it is a function of that
//! document, so whoever comes second only repeats.
//!
//! A slot that nobody vouches for any more is asked after (`sweep`), and an emptied Redis is filled
//! again from the bucket (`rebuild`).
//!
//! Every handler is load → decide → persist → perform → settle; the acknowledgement is last.

pub mod app;
pub mod config;
mod core;
mod deadlines;
mod ending;
mod endpoints;
mod error;
mod inbound;
mod input;
mod lanes;
mod learning;
mod parts;
mod pauses;
mod planning;
mod posting;
mod rebuild;
mod reported;
mod starting;
mod submitting;
mod sweep;
mod telemetry;
mod tenants;
mod uploads;
