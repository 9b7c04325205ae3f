//! `docs/contracts/schemas` and `docs/contracts/asyncapi.yaml`: the same types as in the OpenAPI document, as JSON
//! Schemas by themselves, and as messages on RabbitMQ.
//!
//! Guarantee: no type is described here; the wire types describe themselves, and the job request stands beside its
//! parser.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use photofinish_broker::topology::{EVENTS, JOBS, REJECTED};
use photofinish_broker::{REJECTED_CODE, REJECTED_DETAIL};
use photofinish_contract::event::{CloudEvent, EventType, WebhookBody};
use photofinish_contract::job::Job;
use photofinish_contract::problem::Problem;
use photofinish_contract::request::schema as request;
use photofinish_contract::webhook::{Delivery, EndpointCloudEvent, EndpointEventBody};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::yaml;

const FOLDER: &str = "docs/contracts";
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const COMPONENTS: &str = "#/components/schemas/";

/// A type with all that it refers to, by name.
struct Described {
    own: Value,
    others: BTreeMap<String, Value>,
}

impl Described {
    fn of<T: ToSchema>() -> anyhow::Result<Self> {
        let mut others = Vec::new();
        T::schemas(&mut others);
        let others = others
            .into_iter()
            .map(|(name, schema)| Ok((name, serde_json::to_value(schema)?)));
        Ok(Self {
            own: serde_json::to_value(T::schema())?,
            others: others.collect::<anyhow::Result<_>>()?,
        })
    }

    /// The job request, which describes itself whole.
    fn request() -> Self {
        Self {
            own: request::schema(),
            others: BTreeMap::new(),
        }
    }

    /// A JSON Schema that needs nothing else.
    fn alone(self, title: &str) -> Value {
        let mut schema = Map::from_iter([
            ("$schema".to_owned(), DIALECT.into()),
            ("title".to_owned(), title.into()),
        ]);
        if let Value::Object(own) = self.own {
            schema.extend(own);
        }
        if !self.others.is_empty() {
            schema.insert("$defs".to_owned(), self.others.into_iter().collect());
        }
        let mut schema = Value::Object(schema);
        refer(&mut schema, "#/$defs/");
        schema
    }
}

/// Points every reference to where the types lie.
fn refer(value: &mut Value, place: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref") {
                *target = target.replace(COMPONENTS, place);
            }
            map.values_mut().for_each(|value| refer(value, place));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| refer(value, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The body of `job.cancel`.
fn cancel() -> Value {
    json!({"type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {"id": {"type": "string", "description": "The job.", "pattern": "^job_"}},
        "examples": [{"id": "job_0123456789abcdef0123456789abcdef"}]})
}

/// Each file, by its path from the root of the repository.
pub(crate) fn files() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let cancel = Described {
        own: cancel(),
        others: BTreeMap::new(),
    };
    let schemas = [
        ("job-request", "JobRequest", Described::request()),
        ("job-cancel", "JobCancel", cancel),
        ("job", "Job", Described::of::<Job>()?),
        (
            "webhook-event",
            "WebhookBody",
            Described::of::<WebhookBody>()?,
        ),
        ("cloud-event", "CloudEvent", Described::of::<CloudEvent>()?),
        (
            "endpoint-webhook-event",
            "EndpointEventBody",
            Described::of::<EndpointEventBody>()?,
        ),
        (
            "endpoint-cloud-event",
            "EndpointCloudEvent",
            Described::of::<EndpointCloudEvent>()?,
        ),
        ("problem", "Problem", Described::of::<Problem>()?),
        ("delivery", "Delivery", Described::of::<Delivery>()?),
    ];
    let mut files = Vec::new();
    for (file, title, described) in schemas {
        let text = serde_json::to_string_pretty(&described.alone(title))?;
        let path = format!("{FOLDER}/schemas/{file}.json");
        files.push((path.into(), format!("{text}\n")));
    }
    files.push((format!("{FOLDER}/asyncapi.yaml").into(), asyncapi()?));
    Ok(files)
}

fn asyncapi() -> anyhow::Result<String> {
    let mut types: BTreeMap<String, Value> = BTreeMap::new();
    for (name, described) in [
        ("Job", Described::of::<Job>()?),
        ("CloudEvent", Described::of::<CloudEvent>()?),
        ("EndpointCloudEvent", Described::of::<EndpointCloudEvent>()?),
        ("Problem", Described::of::<Problem>()?),
        ("JobRequest", Described::request()),
    ] {
        types.extend(described.others);
        types.insert(name.to_owned(), described.own);
    }
    types.insert("JobCancel".to_owned(), cancel());
    types.insert("TraceHeaders".to_owned(), trace_headers());
    let document = json!({
        "asyncapi": "3.0.0",
        "info": info(),
        "defaultContentType": "application/json",
        "servers": {"rabbitmq": {
            "host": "rabbitmq.example.com:5671", "protocol": "amqps", "protocolVersion": "0.9.1",
            "description": "RabbitMQ 3.10 and every 4.x. An operator makes a tenant's user.",
            "security": [{"$ref": "#/components/securitySchemes/user"}],
        }},
        "channels": channels(),
        "operations": operations(),
        "components": {
            "messages": messages(),
            "schemas": types,
            "securitySchemes": {"user": {"type": "userPassword",
                "description": "The AMQP user is the tenant: RabbitMQ verifies the property user_id."}},
        },
    });
    let text = yaml::text(&document).context("write YAML")?;
    Ok(format!(
        "# Made by `make generate` from the code; do not edit.\n{text}"
    ))
}

fn info() -> Value {
    json!({
        "title": "Photofinish over AMQP",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Submit and cancel jobs, and follow them, over RabbitMQ. The same jobs as over HTTP: openapi.json.",
        "license": {"name": "Apache-2.0"},
    })
}

fn trace_headers() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    json!({"type": "object", "properties": {
        "traceparent": text("W3C trace context: the job's trace goes on from here."),
        "tracestate": text("See traceparent."),
    }})
}

/// A channel of a routing key on an exchange of ours.
fn routed(exchange: &str, key: &str, what: &str, messages: &[&str]) -> Value {
    json!({
        "address": key, "description": what, "messages": named(messages),
        "bindings": {"amqp": {"is": "routingKey", "bindingVersion": "0.3.0", "exchange": {
            "name": exchange, "type": "topic", "durable": true, "autoDelete": false, "vhost": "/"}}},
    })
}

fn named(messages: &[&str]) -> Value {
    let rows = messages.iter().map(|name| {
        let target = format!("#/components/messages/{name}");
        ((*name).to_owned(), json!({"$ref": target}))
    });
    Value::Object(rows.collect())
}

fn channels() -> Value {
    let events: Vec<&str> = told().map(EventType::as_str).collect();
    let mut followed = routed(
        EVENTS,
        "{tenant}.job.{operation}.{event}",
        "What happens to jobs. Bind a queue of one's own; nobody listening is no fault.",
        &events,
    );
    let words: Vec<&str> = told().map(EventType::last_word).collect();
    followed["parameters"] = json!({
        "tenant": {"description": "One's own: permissions let a tenant bind no other."},
        "operation": {"description": "The canonical name.", "enum": ["img2vid", "caption", "addaudio"]},
        "event": {"description": "The last word of the event's type.", "enum": words},
    });
    json!({
        "submit": routed(JOBS, "job.submit", "Jobs. Publish persistent, with a confirm.", &["jobSubmit"]),
        "cancel": routed(JOBS, "job.cancel", "Stop a job's run.", &["jobCancel"]),
        "events": followed,
        "endpointEvents": endpoint_events(),
        "replies": {
            "address": null,
            "description": "The queue that a message names in reply_to, by the default exchange.",
            "messages": named(&["jobAccepted", "jobCancelling", "jobRejected"]),
            "bindings": {"amqp": {"is": "queue", "bindingVersion": "0.3.0",
                "queue": {"name": "", "durable": false, "exclusive": true, "autoDelete": true, "vhost": "/"}}},
        },
        "rejected": {
            "address": REJECTED,
            "description": "Every refused message, for the operator.",
            "messages": named(&["refused"]),
            "bindings": {"amqp": {"is": "queue", "bindingVersion": "0.3.0",
                "queue": {"name": REJECTED, "durable": true, "exclusive": false, "autoDelete": false, "vhost": "/"}}},
        },
    })
}

fn endpoint_events() -> Value {
    let disabled = EventType::EndpointDisabled.as_str();
    let what = "A webhook endpoint of the tenant was disabled.";
    let mut channel = routed(EVENTS, &format!("{{tenant}}.{disabled}"), what, &[disabled]);
    channel["parameters"] = json!({"tenant": {"description": "One's own."}});
    channel
}

/// The types that are told of jobs on the exchange of events.
fn told() -> impl Iterator<Item = EventType> {
    let all = EventType::ALL.iter().copied();
    all.filter(|event| event.as_str().starts_with("job."))
}

fn operations() -> Value {
    let channel = |name: &str| json!({"$ref": format!("#/channels/{name}")});
    let answered = |name: &str, what: &str, answers: [&str; 2]| {
        let messages =
            answers.map(|answer| json!({"$ref": format!("#/channels/replies/messages/{answer}")}));
        json!({
            "action": "receive", "channel": channel(name), "summary": what,
            "reply": {
                "address": {"location": "$message.header#/reply_to"},
                "channel": channel("replies"), "messages": messages,
            },
        })
    };
    let sent = |name: &str, what: &str| {
        json!({"action": "send", "channel": channel(name), "summary": what,
            "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": "0.3.0"}}})
    };
    json!({
        "submitJob": answered("submit", "A job is admitted or refused.", ["jobAccepted", "jobRejected"]),
        "cancelJob": answered("cancel", "A run is stopped, on RunPod too.", ["jobCancelling", "jobRejected"]),
        "tellEvent": sent("events", "Something happened to a job."),
        "tellEndpointEvent": sent("endpointEvents", "A webhook endpoint was disabled."),
        "keepRefused": sent("rejected", "A refused message is never lost."),
    })
}

fn messages() -> Value {
    let schema = |name: &str| json!({"$ref": format!("{COMPONENTS}{name}")});
    let message = |title: &str, payload: Value| {
        json!({"title": title, "contentType": "application/json", "headers": schema("TraceHeaders"), "payload": payload,
            "correlationId": {"location": "$message.header#/correlation_id"}})
    };
    let of_type = |mut message: Value, kind: &str| {
        message["bindings"] = json!({"amqp": {"messageType": kind, "bindingVersion": "0.3.0"}});
        message
    };
    let mut submit = message("A job", schema("JobRequest"));
    submit["description"] = "Properties: content_type application/json; delivery_mode 2; user_id, the AMQP user; message_id, \
        the idempotency key (shared with HTTP's Idempotency-Key); reply_to and correlation_id for an answer."
        .into();
    submit["examples"] = json!([
        {"name": "img2vid", "payload": request::example_img2vid()},
        {"name": "caption", "payload": request::example_caption()},
        {"name": "addaudio", "payload": request::example_addaudio()},
    ]);
    let mut refused = json!({"title": "A refused message, as it came", "payload": {}});
    refused["headers"] = json!({"type": "object", "required": [REJECTED_CODE, REJECTED_DETAIL], "properties": {
        REJECTED_CODE: {"type": "string", "description": "The problem's code."},
        REJECTED_DETAIL: {"type": "string", "description": "Its sentence, and the first faults."}}});
    let mut messages = Map::from_iter([
        ("jobSubmit".to_owned(), submit),
        (
            "jobCancel".to_owned(),
            message("A job to stop", schema("JobCancel")),
        ),
        (
            "jobAccepted".to_owned(),
            of_type(
                message("The job was admitted", schema("Job")),
                "job.accepted",
            ),
        ),
        (
            "jobCancelling".to_owned(),
            of_type(
                message("Its run is being stopped", schema("Job")),
                "job.cancelling",
            ),
        ),
        (
            "jobRejected".to_owned(),
            of_type(
                message("The message was refused", schema("Problem")),
                "job.rejected",
            ),
        ),
        ("refused".to_owned(), refused),
    ]);
    for (event, body) in told()
        .map(|event| (event, "CloudEvent"))
        .chain([(EventType::EndpointDisabled, "EndpointCloudEvent")])
    {
        let payload =
            json!({"allOf": [schema(body), {"properties": {"type": {"const": event.as_str()}}}]});
        let mut told = of_type(
            message(&format!("A {event} event"), payload),
            event.as_str(),
        );
        told["contentType"] = "application/cloudevents+json".into();
        messages.insert(event.as_str().to_owned(), told);
    }
    Value::Object(messages)
}
