//! One file for each queue.

mod deliver;
mod events;
mod webhooks;

pub(crate) use deliver::in_whole_seconds;
