//! Every code that a client or an operator can see, in one enum; `docs/problems.md` has a section
//! for each.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, schema::Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident => $text:literal),+ $(,)?) => {
        /// A stable code: what happened, as a machine reads it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as it stands in documents and events.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

codes! {
    // Requests
    /// The body is not JSON, or not an object.
    Malformed => "malformed",
    /// The body is larger than 1 MiB.
    BodyTooLarge => "body_too_large",
    /// The head of an HTTP request, its headers and its address, is larger than 64 KiB.
    HeadTooLarge => "head_too_large",
    /// The request breaks one or more rules; `errors` names each.
    InvalidRequest => "invalid_request",
    /// A field that must be there is not.
    Required => "required",
    /// A field that the schema does not know.
    UnknownField => "unknown_field",
    /// A field of the wrong JSON type.
    WrongType => "wrong_type",
    /// A value outside its limits.
    OutOfRange => "out_of_range",
    /// A value that is not one of those allowed.
    NotAllowed => "not_allowed",
    /// Two items of one job share an id.
    DuplicateId => "duplicate_id",
    /// Two fields that exclude each other.
    Conflicting => "conflicting_fields",
    /// A URL that is not an http or https URL.
    InvalidUrl => "invalid_url",
    /// A URL whose address may never be called.
    AddressRefused => "address_refused",
    /// No or a wrong API key.
    Unauthorized => "unauthorized",
    /// The key may not do this.
    Forbidden => "forbidden",
    /// No such thing, or not yours.
    NotFound => "not_found",
    /// The path is there, the method is not.
    MethodNotAllowed => "method_not_allowed",
    /// The idempotency key was used with another body.
    IdempotencyKeyReused => "idempotency_key_reused",
    /// The idempotency key is too long or not text.
    InvalidIdempotencyKey => "invalid_idempotency_key",
    /// The job has ended; it cannot be cancelled.
    JobFinished => "job_finished",
    /// The job has not ended; it cannot be retried yet.
    JobNotFinished => "job_not_finished",
    /// Every item has succeeded.
    NothingToRetry => "nothing_to_retry",
    /// More jobs in flight than the deployment takes.
    TooManyJobs => "too_many_jobs",
    /// A hard quota of the tenant is used up.
    QuotaExceeded => "quota_exceeded",
    /// More requests than the tenant may send in a second.
    RateLimited => "rate_limited",
    /// The outputs of the job were deleted.
    OutputDeleted => "output_deleted",
    /// None of the types that the client takes is one that there is.
    NotAcceptable => "not_acceptable",
    /// The request took longer than it may.
    RequestTimeout => "request_timeout",
    /// More event streams than the tenant, or the process, has.
    TooManyStreams => "too_many_streams",
    /// The webhook endpoint is disabled.
    EndpointDisabled => "endpoint_disabled",
    /// A dependency is away; try again.
    Unavailable => "unavailable",
    /// An AMQP message with a routing key that nobody knows.
    UnknownRoutingKey => "unknown_routing_key",
    /// An AMQP message without a user, and no default tenant.
    UnknownTenant => "unknown_tenant",
    /// A reply queue that is not the publisher's.
    InvalidReplyTo => "invalid_reply_to",

    // Items and jobs
    /// The input could not be fetched: the server said no.
    InputNotFound => "input_not_found",
    /// The input could not be fetched in time or not whole.
    InputUnreachable => "input_unreachable",
    /// The input is larger than the limit.
    InputTooLarge => "input_too_large",
    /// The input's address may never be called.
    InputRefused => "input_refused",
    /// The input is no picture that can be decoded.
    NotAnImage => "not_an_image",
    /// The input is no video that can be read.
    NotAVideo => "not_a_video",
    /// The input has no usable audio.
    NotAudio => "not_audio",
    /// The captions cannot be read.
    NotCaptions => "not_captions",
    /// The worker has no font that the captions need.
    FontMissing => "font_missing",
    /// Rendering failed.
    RenderFailed => "render_failed",
    /// Encoding took longer than its limit.
    RenderTimeout => "render_timeout",
    /// The output is larger than the limit.
    OutputTooLarge => "output_too_large",
    /// The worker's RunPod job is none of ours.
    UnsupportedInput => "unsupported_input",
    /// The worker was told to stop.
    WorkerStopping => "worker_stopping",
    /// The item was tried as often as the policy allows and its worker failed each time.
    AttemptsExhausted => "attempts_exhausted",
    /// The job was not done by its deadline.
    DeadlineExceeded => "deadline_exceeded",
    /// At least one item failed for good.
    ItemFailed => "item_failed",
    /// The job was cancelled before this item was done.
    Cancelled => "cancelled",
    /// Something of ours failed; the operator has the evidence.
    InternalError => "internal_error",
}

/// A word, and no list of words: a reader must take a code that a later version knows.
impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[a-z0-9_]+$"))
            .description(Some(
                "A stable code; docs/problems.md explains each, and there may be more one day.",
            ))
            .examples([Self::InvalidRequest.as_str()])
            .into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Code")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with a job or an item, as the client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The stable code.
    pub code: Code,
    /// A sentence that says what to do.
    pub detail: String,
}

impl Fault {
    /// A fault with its code and its sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}
