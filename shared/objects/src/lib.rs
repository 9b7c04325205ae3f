//! What is decided or done, at rest in S3: runs, requests, part records, ends, manifests, outputs,
//! rescued files and the operator's own records.
//!
//! The nouns: a [`RunDoc`] is the plan of a run, put once; an *end* is the whole final job of a
//! run, put once by whoever is first; a [`PartRecord`] is what failed in a finished part; the
//! *open marker* is there as long as a run is not closed; an [`OutputUpload`] is an output on its
//! way into the bucket; a *rescued* file is one that its worker pushed itself; a *system record*
//! is a numbered version of a tenant, a key or a webhook endpoint.
//!
//! The guarantee: whatever is put-if-absent has exactly one winner, and every caller gets to see
//! it; an output is at its key whole or not at all; nothing is tried twice in here: whoever calls
//! owns the retry and learns from [`ObjectsError::class`] whether it makes sense.
//!
//! Not for: what is in flight (RabbitMQ), what must be queried fast (`jobstore`), decisions.

pub mod config;
mod docs;
mod encryption;
mod error;
mod keys;
mod known_runs;
mod lifecycle;
mod operators;
mod outputs;
mod presign;
mod put;
mod removal;
mod rescue;
mod runs;
mod seal;
mod snapshot;
mod store;
mod system;
mod upload;

pub use docs::{ItemFault, PartRecord, RunDoc};
pub use encryption::DefaultEncryption;
pub use error::{Class, ObjectsError};
pub use lifecycle::{Lifecycle, LifecycleRule};
pub use operators::{AuditEntry, DayUsage, LaneClaim, PausesRecord};
pub use presign::UploadTarget;
pub use rescue::{RescueListing, Rescued};
pub use seal::{SealError, Sealer};
pub use store::{Encryption, Objects, Settings};
pub use system::{Disabled, KeyRecord, KeyScope, TenantRecord, WebhookEndpointRecord};
pub use upload::{OutputMeta, OutputUpload, PART_BYTES, WHOLE_BYTES_MAX};
