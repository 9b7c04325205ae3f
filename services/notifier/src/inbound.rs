//! One file for each queue.

mod deliver;
mod events;
mod webhooks;
