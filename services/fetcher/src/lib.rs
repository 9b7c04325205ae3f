//! The fetcher: watches every attempt and pulls each output off its worker the moment it is
//! ready, straight through into the bucket, then acknowledges it to the worker.
//!
//! A watch is a message on `fetcher.watch`. It is held for one turn, then published again to its
//! own queue with what was learnt ([`photofinish_contract::messages::WatchState`]); a register in
//! Redis drops the copies that a crash leaves behind. Within a turn three things come in, a poll's
//! answer, a signal, the end of a pull, and each is one event for `model::attempt`, which says
//! what to do.
//!
//! A pull is one pass: ranged GET from the worker → SHA-256 → the bucket, resumed where it broke,
//! never on disk, in bounded memory. There are two routes to a worker, its exposed TCP port with
//! pinned TLS and RunPod's proxy; a transfer that breaks on one goes on by the other. Only what has
//! the announced length and hash is finished; then it is recorded, then `DELETE` tells the worker
//! that it may free the file. So many pulls go on at once in all, and so many off one worker.
//!
//! Before anything is called lost the rescue prefixes of all attempts of the part are listed: what
//! a worker pushed itself is pulled through to its key in the same way.

pub mod app;
pub mod config;
mod core;
mod error;
mod hub;
mod inbound;
mod permits;
mod pull;
mod report;
mod routes;
mod telemetry;
mod transfer;
mod turn;
mod watching;
mod worker;
