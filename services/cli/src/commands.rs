//! One file for each group of commands.

pub(crate) mod admin;
pub(crate) mod doctor;
pub(crate) mod endpoint;
pub(crate) mod fetch;
pub(crate) mod jobs;
pub(crate) mod watch;
pub(crate) mod webhooks;
