//! Spans out of what an OpenTelemetry exporter has sent: OTLP over HTTP, protobuf.

use std::collections::BTreeMap;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;

use crate::Received;

/// A span as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentSpan {
    /// `service.name` of the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: &'static str,
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits.
    pub id: String,
    /// The id of the span around it; empty: none.
    pub parent: String,
    /// Ids of the spans that it links to, those of its own trace alone.
    pub links: Vec<String>,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether it says that it failed.
    pub failed: bool,
}

/// All spans of what was posted to `/v1/traces`.
pub fn spans(received: &[Received]) -> anyhow::Result<Vec<SentSpan>> {
    let mut spans = Vec::new();
    let posts = received
        .iter()
        .filter(|post| post.uri.path() == "/v1/traces");
    for post in posts {
        let body = ExportTraceServiceRequest::decode(post.body.clone());
        for group in body.context("decode an export of spans")?.resource_spans {
            let resource = group.resource.unwrap_or_default();
            let about = texts(&resource.attributes);
            let service = about.get("service.name").cloned().unwrap_or_default();
            let all = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(all.map(|span| sent(&service, span)));
        }
    }
    Ok(spans)
}

fn sent(service: &str, span: Span) -> SentSpan {
    let own =
        |link: &&opentelemetry_proto::tonic::trace::v1::span::Link| link.trace_id == span.trace_id;
    let links = span.links.iter().filter(own);
    SentSpan {
        service: service.to_owned(),
        kind: match span.kind() {
            SpanKind::Server => "server",
            SpanKind::Client => "client",
            SpanKind::Producer => "producer",
            SpanKind::Consumer => "consumer",
            SpanKind::Internal | SpanKind::Unspecified => "internal",
        },
        links: links.map(|link| hex(&link.span_id)).collect(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: texts(&span.attributes),
        failed: span.status.as_ref().is_some_and(|status| status.code == 2),
        name: span.name,
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text =
        |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::BoolValue(flag)) => flag.to_string(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        };
    let pair = |attribute: &KeyValue| (attribute.key.clone(), text(&attribute.value));
    attributes.iter().map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
