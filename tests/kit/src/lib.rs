//! What tests and the demo stand on: servers, processes, faults, receivers. It knows none of our services.
//!
//! Nouns: [`Rabbit`] is a virtual host of one's own on the running broker; [`Redis`] a key prefix of one's own, or
//! a server of one's own ([`RedisServer`]); [`S3`] an S3 server in this process; [`Process`] a program of the
//! workspace; [`FaultProxy`] a TCP proxy that delays and cuts; [`Receiver`] an HTTP server that stores what it is
//! sent and answers as told; an [`Authority`] signs certificates; a [`stranger`] publishes what no AMQP library would.
//!
//! Guarantee: nothing outlives the test that made it, and nothing is shared by two tests but the servers. A test
//! that finds no server fails with the command that starts one.
//!
//! Not for production: nothing here has limits.
#![expect(
    clippy::disallowed_methods,
    reason = "test support has no runtime of ours around it"
)]

mod captions;
pub mod dots;
pub mod exact;
pub mod measure;
pub mod otlp;
mod picture;
mod process;
mod proxy;
mod rabbit;
mod receiver;
mod redis;
mod s3;
mod servers;
pub mod stranger;
mod tls;
mod wait;

pub use captions::SAMPLES;
pub use picture::{detailed, png};
pub use process::{Process, ProcessSpec, bin_dir, binary};
pub use proxy::{Fault, FaultProxy};
pub use rabbit::{Rabbit, RabbitNode, RabbitTls};
pub use receiver::{Answer, Received, Receiver};
pub use redis::{Redis, RedisServer};
pub use reqwest::Method;
pub use s3::{CALLS, S3, S3Credentials};
pub use servers::{client, install_crypto, python, root, server_setting};
pub use tls::{Authority, TlsFront};
pub use wait::{free_port, wait_for, wait_until};
