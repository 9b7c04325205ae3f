//! RunPod's serverless endpoints as things to be described, compared and changed: REST v2.
//!
//! Nouns: an [`EndpointSpec`] is what an endpoint shall be; an [`Endpoint`] is one that RunPod
//! has, read into the same shape; [`diff`] makes [`Change`]s of the two, each with its
//! [`Effect`] on running workers; [`patch_body`] makes the one call that carries them out. A
//! [`Template`] is container settings with a name; [`Workers`] and [`Releases`] say how far a
//! new version has got.
//!
//! Guarantee. Comparing reads no clock and no socket, and what is secret is shown by neither
//! [`Change`] nor `Debug`. Answers are read leniently: an unknown word is kept, a missing field
//! is RunPod's default. A question is asked again when RunPod stumbles; a call that changes
//! something is repeated only after a 429, which says that nothing was done. A create whose
//! answer never came is looked up by its name, never sent twice. The quota that RunPod tells
//! with each answer is kept to.
//!
//! GraphQL is left out: everything here has its call in REST v2, the only one of RunPod's three
//! management APIs that is not to be retired.
//!
//! Not for: running jobs ([`crate::client`]), or deciding when to change an endpoint.

mod answer;
mod client;
mod error;
mod plan;
mod quota;
mod read;
mod spec;

pub use self::client::{
    Created, DEFAULT_DATA_BASE_URL, DEFAULT_REST_BASE_URL, ManagementClient, ManagementSettings,
};
pub use self::error::ManagementError;
pub use self::plan::{Change, Effect, Field, Shown, create_body, diff, patch_body};
pub use self::read::{
    Endpoint, JobRow, ReleaseRow, Releases, Template, WorkerRow, WorkerStage, Workers,
};
pub use self::spec::{
    EndpointKind, EndpointSpec, EnvValue, FlashBoot, GpuSpec, Scaling, WorkerBounds,
};
