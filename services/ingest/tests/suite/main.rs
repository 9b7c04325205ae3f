//! Ingest against real RabbitMQ, Redis and S3, through both doors. One binary for all of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod house;

mod amqp;
mod doctor;
mod estimates;
mod hooks;
mod jobs;
mod records;
mod refusals;
