//! Ingest: the two doors. Jobs come over HTTP and over AMQP and pass the same admission.
//!
//! Admission repairs and checks the request, gives it its id, publishes one confirmed command
//! message to the dispatcher, records the job for queries, and answers. The confirmed message is
//! the acceptance; everything else follows from it and may be lost and made again.
//!
//! The same process answers questions about jobs (from Redis, else rebuilt from the bucket),
//! takes cancels and retries (again one command message each), keeps tenants, API keys and
//! webhook endpoints, and hears workers and RunPod on `/hooks/runpod/{token}`.

mod admit;
pub mod app;
mod auth;
pub mod config;
mod core;
mod error;
mod inbound;
mod refusal;
mod views;
