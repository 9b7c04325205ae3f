//! The notifier: tells the outside what happens to jobs, by events on RabbitMQ and by signed webhooks.
//!
//! A job event comes by `notifier.events`. It is small: job, run, type, sequence. The notifier reads the job (a
//! final event from `end-{n}.json` alone, so that it needs nothing from Redis; any other from the job store, or
//! rebuilt from the bucket), finds out who is to be told (the job's own `webhook_url`, frozen in its plan, and the
//! tenant's webhook endpoints that want the type), publishes the event to `photofinish.events`, and for each
//! receiver makes a delivery: one that is known to be well is called at once (`first`), for any other `delivery.due`
//! is published. Ids of events and deliveries are hashes of what they name, so that doing all of it twice comes to
//! the same.
//!
//! A delivery comes by `notifier.deliver`. It asks for a slot on its receiver's line (`lines`): one that hangs or fails
//! is left alone, and what waits for it waits in a retry tier. With a slot its body is built anew at each try, with URLs signed at that moment, and
//! signed by Standard Webhooks; the POST goes through `outbound`, which refuses private addresses. What follows is
//! decided by `model::delivery::after`: the message is acknowledged, or waits in a retry tier and comes again.
//! Every try is noted in the job store.
//!
//! What is wanted of a webhook endpoint comes by `notifier.events` as well: a test, that it is disabled (which the
//! calls themselves ask for, `streaks`), that its deliveries are sent again.
//!
//! `job.progress` is told at most once a second for each job; the newest state wins.
//!
//! Guarantee: an event is acknowledged only when all its deliveries are made or queued, a delivery only when it was taken,
//! given up or queued again. With Redis away, final events are delivered all the same; the notes of their tries are
//! lost, not they.
//!
//! Not for: deciding what happens to jobs, and anything that a client asks (ingest).

pub mod app;
pub mod config;
mod core;
mod destination;
mod error;
mod first;
mod gate;
mod handing;
mod in_hand;
mod inbound;
mod lines;
mod receivers;
mod records;
mod remembered;
mod replays;
mod sender;
pub mod sign;
mod snapshots;
mod streaks;
mod telemetry;
mod views;
