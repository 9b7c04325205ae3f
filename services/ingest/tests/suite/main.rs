//! Ingest against real RabbitMQ, Redis and S3, through both doors. One binary for all of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod house;

mod amqp;
mod anything;
mod crowd;
mod doctor;
mod edge;
mod estimates;
mod hooks;
mod isolation;
mod jobs;
mod limits;
mod outputs;
mod records;
mod refusals;
mod secrets;
mod streams;
mod table;
mod tenants;
mod upkeep;
mod webhooks;
