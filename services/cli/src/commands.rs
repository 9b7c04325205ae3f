//! One file for each command, and what several of them share: questions, pages, requests, uploads.

pub(crate) mod ask;
pub(crate) mod audit;
pub(crate) mod bucket;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod deliveries;
pub(crate) mod doctor;
pub(crate) mod endpoint;
pub(crate) mod estimate;
pub(crate) mod fetch;
pub(crate) mod get;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod outputs;
pub(crate) mod pages;
pub(crate) mod rebuild;
pub(crate) mod request;
pub(crate) mod retry;
pub(crate) mod submit;
pub(crate) mod tenants;
pub(crate) mod upload;
pub(crate) mod watch;
pub(crate) mod webhooks;
