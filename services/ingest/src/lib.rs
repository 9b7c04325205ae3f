//! Ingest: where jobs come in, by HTTP and by AMQP, and where clients ask about them.
//!
//! Both doors share one admission ([`admission`]): the body is repaired and checked, every fault named at once;
//! addresses that may never be called are refused; with an idempotency key the job's id follows from tenant and key,
//! so that a second admission is the same job whatever was lost in between. Then the one durable effect: one
//! confirmed message, `job.accepted`, to the dispatcher (a large request lies in the bucket first, under its hash).
//! The record in Redis follows, as far as Redis is there; the answer is given from what is known.
//!
//! A cancel and a retry are one confirmed command message each. Everything else that a client may ask is read: from
//! Redis, else rebuilt from the bucket and put back.
//!
//! A submission over AMQP is acknowledged when its job is admitted, or when it lies in `photofinish.rejected` with
//! the reason; when a dependency is away it waits in a retry tier.
//!
//! Workers and RunPod call `/hooks/runpod/{token}`: what they say is passed on as a signal, which may be lost, and
//! answered with the items that still count. Unknown never means unwanted.
//!
//! Guarantee: a 202, or `job.accepted`, is given only after the dispatcher's message was confirmed. Nothing is tried
//! again in here: the client, or the queue, owns the retry.
//!
//! Not for: what becomes of a job (dispatcher), telling anybody about it (notifier).

pub mod admission;
pub mod app;
mod audit;
mod auth;
mod bodies;
mod canonical;
mod commands;
pub mod config;
mod core;
mod error;
mod estimates;
mod in_flight;
mod inbound;
mod problems;
mod quotas;
mod reading;
mod rebuild;
mod records;
mod retention;
mod streams;
mod tenants;
mod view;

/// The OpenAPI 3.1 document of everything that ingest serves.
pub fn openapi() -> serde_json::Value {
    inbound::docs::document()
}
