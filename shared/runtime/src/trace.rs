//! Trace context: W3C `traceparent` and `tracestate` out of and into spans.
//!
//! Guarantee: works whether or not traces are exported, so a trace passes through a process that exports none.
//! Wrong or foreign text is ignored, never an error.

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use std::fmt::Display;
use std::str::FromStr as _;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Longest `tracestate` that is passed on; the specification asks for this much.
const TRACESTATE_BYTES_MAX: usize = 512;

/// The `traceparent` of the current span; `None` outside of any.
pub fn current_traceparent() -> Option<String> {
    traceparent_of(&Span::current())
}

/// Logs to the test's own output and gives spans their ids, as a process of ours does; exports nothing. Doing it again
/// changes nothing.
pub fn install_for_tests() {
    crate::telemetry::install_for_tests();
}

/// The `tracestate` of the current span: what the client's tracing system put beside its `traceparent`.
pub fn current_tracestate() -> Option<String> {
    let context = Span::current().context();
    let state = context.span().span_context().trace_state().header();
    (!state.is_empty()).then_some(state)
}

/// The `traceparent` of a span.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags().to_u8()
        )
    })
}

/// Links a span to the foreign one that queued its work; to nothing if the text is wrong.
pub fn link(span: &Span, traceparent: &str) {
    if let Some(origin) = parse(traceparent, TraceState::NONE) {
        span.add_link(origin);
    }
}

/// Says in the current span whose work it does and of which job: from now on every line that is logged inside of it
/// carries both. A span without the fields `tenant` and `job` stays as it is.
pub fn about(tenant: impl Display, job: impl Display) {
    let span = Span::current();
    span.record("tenant", tracing::field::display(tenant));
    span.record("job", tracing::field::display(job));
}

/// Notes the id of a span's trace in its field `trace_id`, for log lines.
pub fn note_id(span: &Span) {
    let context = span.context();
    let id = context.span().span_context().trace_id();
    if id != TraceId::INVALID {
        span.record("trace_id", tracing::field::display(id));
    }
}

/// Marks a span as one that failed; `why` is a stable word.
pub fn failed(span: &Span, why: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", why);
}

/// Makes `span` a child of the foreign span: call it before the span is entered.
pub fn continue_from(span: &Span, traceparent: &str) {
    continue_with(span, traceparent, None);
}

/// The same with the foreign span's `tracestate`, if it has one; one that is wrong or too long is left out.
pub fn continue_with(span: &Span, traceparent: &str, tracestate: Option<&str>) {
    let state = tracestate.filter(|text| text.len() <= TRACESTATE_BYTES_MAX);
    let state = state.and_then(|text| TraceState::from_str(text).ok());
    if let Some(parent) = parse(traceparent, state.unwrap_or(TraceState::NONE)) {
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        // Fails only when no tracing layer is installed or the span has begun: then there is nothing to continue.
        let _outcome = span.set_parent(context);
    }
}

fn parse(traceparent: &str, state: TraceState) -> Option<SpanContext> {
    let mut fields = traceparent.trim().split('-');
    let (version, trace, span, flags) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let lengths = (version.len(), trace.len(), span.len(), flags.len());
    if lengths != (2, 32, 16, 2) || version == "ff" {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        state,
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn only_well_formed_text_is_taken() {
        let parse = |text| parse(text, TraceState::NONE);
        assert!(parse(PARENT).is_some());
        for wrong in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz",
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_span_continues_a_foreign_trace() {
        let _guard = crate::telemetry::test_subscriber();
        let span = tracing::info_span!("consume");
        continue_from(&span, PARENT);
        let own = traceparent_of(&span).unwrap();
        assert!(
            own.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
            "{own}"
        );
        assert!(!own.contains("b7ad6b7169203331"));
        assert_eq!(span.in_scope(current_traceparent), Some(own));
    }

    #[test]
    fn the_state_of_a_foreign_trace_goes_on_and_a_wrong_one_is_left_out() {
        let _guard = crate::telemetry::test_subscriber();
        let state_after = |state: &str| {
            let span = tracing::info_span!("consume");
            continue_with(&span, PARENT, Some(state));
            assert!(traceparent_of(&span).unwrap().contains("0af7651916cd43dd"));
            span.in_scope(|| tracing::info_span!("inner").in_scope(current_tracestate))
        };
        let good = "vendor=abc,other=1";
        assert_eq!(state_after(good).as_deref(), Some(good));
        assert_eq!(state_after("no equals sign"), None);
        assert_eq!(state_after(&format!("a={}", "x".repeat(600))), None);
    }
}
