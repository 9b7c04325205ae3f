//! Log lines: one JSON object each for machines, or one readable line each for people.
//!
//! Nouns: a line's *own fields* are its event's; its *ids* are the fields of the spans around it, such as `job`,
//! `tenant` and `trace_id`.
//!
//! Guarantee: a JSON line can be read alone: it has the ids of every span around it, the inner ones winning, its own
//! fields before all. Fields with a dot in their names are for traces and stand in no line.

use std::fmt;
use std::io::Write as _;

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use crate::Clock;

/// Whether a field stands in log lines.
fn is_told(name: &str) -> bool {
    !name.contains('.')
}

/// Fields in their order; a later one of the same name replaces the earlier.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        if !is_told(name) {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), json!(format!("{value:?}")));
    }
}

/// Writes a JSON object for each event.
#[derive(Debug)]
pub(crate) struct JsonLines<W> {
    /// Where to.
    pub(crate) out: W,
}

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        let around = context.event_scope(event).map(Scope::from_root);
        for span in around.into_iter().flatten() {
            if let Some(ids) = span.extensions().get::<Fields>() {
                for (name, value) in &ids.0 {
                    fields.put(name, value.clone());
                }
            }
        }
        event.record(&mut fields);
        let line = line(event, &fields);
        // A line that cannot be written cannot be told of either.
        let _written = self.out.make_writer().write_all(line.as_bytes());
    }
}

fn line(event: &Event<'_>, fields: &Fields) -> String {
    let about = event.metadata();
    let mut line = format!(
        "{{\"timestamp\":\"{:.6}\",\"level\":\"{}\"",
        Clock::system().now(),
        about.level()
    );
    let mut put = |name: &str, value: &Value| {
        line.push(',');
        line.push_str(&Value::from(name).to_string());
        line.push(':');
        line.push_str(&value.to_string());
    };
    let message = fields.0.iter().find(|(name, _)| *name == "message");
    if let Some((name, message)) = message {
        put(name, message);
    }
    put("target", &Value::from(about.target()));
    let taken = ["timestamp", "level", "message", "target"];
    for (name, value) in &fields.0 {
        if !taken.contains(name) {
            put(name, value);
        }
    }
    line.push_str("}\n");
    line
}

/// Fields of readable lines.
#[derive(Debug)]
pub(crate) struct Readable;

impl<'writer> FormatFields<'writer> for Readable {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut told = Told {
            writer,
            any: false,
            outcome: Ok(()),
        };
        fields.record(&mut told);
        told.outcome
    }
}

struct Told<'writer> {
    writer: Writer<'writer>,
    any: bool,
    outcome: fmt::Result,
}

impl Visit for Told<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.outcome.is_err() || !is_told(field.name()) {
            return;
        }
        let space = if std::mem::replace(&mut self.any, true) {
            " "
        } else {
            ""
        };
        self.outcome = match field.name() {
            "message" => write!(self.writer, "{space}{value:?}"),
            name => write!(self.writer, "{space}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// As a handler is run: its span has ids, some of them told later, and things happen in spans of its own.
    fn work() {
        let span = tracing::error_span!(
            "process",
            "messaging.system" = "rabbitmq",
            queue = "dispatcher.plan",
            tenant = tracing::field::Empty,
            job = tracing::field::Empty,
        );
        span.in_scope(|| {
            crate::trace::about("acme", "job_1");
            tracing::info!("not asked for");
            tracing::info_span!("inner", job = "job_2").in_scope(|| {
                tracing::warn!(queue = "own", part = 3, late = true, "it \"broke\"");
            });
        });
        tracing::warn!("outside");
    }

    fn written(
        layer: impl FnOnce(Paper) -> Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>,
    ) -> String {
        let paper = Paper::default();
        let lines = layer(paper.clone()).with_filter(EnvFilter::new("warn"));
        let _guard = tracing_subscriber::registry().with(lines).set_default();
        work();
        paper.text()
    }

    #[test]
    fn a_json_line_has_the_ids_of_the_spans_around_it() {
        let text = written(|paper| {
            JsonLines {
                out: move || paper.clone(),
            }
            .boxed()
        });
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        let broke = &lines[0];
        for (name, value) in [
            ("level", json!("WARN")),
            ("message", json!("it \"broke\"")),
            ("tenant", json!("acme")),
            // The span `inner` is of a level that is not written: its fields are not, either.
            ("job", json!("job_1")),
            ("queue", json!("own")),
            ("part", json!(3)),
            ("late", json!(true)),
        ] {
            assert_eq!(broke[name], value, "{name} in {text}");
        }
        let at: jiff::Timestamp = broke["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(at.as_second() > 1_700_000_000);
        assert!(!text.contains("rabbitmq"), "{text}");
        assert_eq!(lines[1].get("job"), None, "{text}");
    }

    #[test]
    fn a_readable_line_leaves_out_what_is_for_traces() {
        let text = written(|paper| {
            let layer = tracing_subscriber::fmt::layer().fmt_fields(Readable);
            layer
                .with_ansi(false)
                .with_writer(move || paper.clone())
                .boxed()
        });
        assert!(
            text.contains("it \"broke\" queue=\"own\" part=3 late=true"),
            "{text}"
        );
        assert!(text.contains("tenant=acme job=job_1"), "{text}");
        assert!(!text.contains("rabbitmq"), "{text}");
    }
}
