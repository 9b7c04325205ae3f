//! Logs, traces, metrics and the crypto provider: set up once per process.
//!
//! Guarantee: spans have ids whether or not they are exported; what was recorded is flushed at the end.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::config::{LogFormat, OtlpSection, ProcessSettings};
use crate::log_lines::{JsonLines, Readable};

const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Edges of the histograms named `…seconds`.
const SECONDS_BUCKETS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
];
/// Edges of those that may take hours: of waiting, of lag, of whole runs.
const LONG_BUCKETS: [f64; 15] = [
    0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0,
    43_200.0, 86_400.0,
];
/// How those end. Of several endings that fit, the exporter takes the first by the alphabet, in which `_` comes before `s`.
const LONG: [&str; 3] = ["_duration_seconds", "_lag_seconds", "_wait_seconds"];
const SHORT: &str = "seconds";

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    #[error("log.level")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    #[error("build the trace exporter for otlp.endpoint")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Installs ring as the process's TLS crypto; doing it again changes nothing.
pub fn install_crypto() {
    // An error means that a provider is there already.
    let _already = rustls::crypto::ring::default_provider().install_default();
}

/// What must be flushed at the end.
#[derive(Debug)]
pub(crate) struct Telemetry {
    provider: SdkTracerProvider,
    level: LogLevel,
}

/// A log level could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LevelError {
    #[error("read the log level")]
    Directives(#[from] tracing_subscriber::filter::ParseError),
    #[error("set the log level")]
    Gone(#[from] reload::Error),
}

/// What is logged; spans are traced whatever it is. Clones share one state.
#[derive(Clone)]
pub(crate) struct LogLevel(Arc<Level>);

struct Level {
    configured: String,
    now: Mutex<String>,
    apply: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&self.now()).finish()
    }
}

impl LogLevel {
    /// The directives in force.
    pub(crate) fn now(&self) -> String {
        let now = self.0.now.lock();
        now.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets directives; empty: those of the settings. Gives what is in force then.
    pub(crate) fn set(&self, asked: &str) -> Result<String, LevelError> {
        let wanted = if asked.is_empty() {
            &self.0.configured
        } else {
            asked
        };
        let filter = EnvFilter::try_new(wanted)?;
        // Before, because the new level may let nothing of it through.
        tracing::warn!(
            from = self.now(),
            to = wanted,
            "the log level is changed at run time"
        );
        (self.0.apply)(filter)?;
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.clone_into(&mut now);
        Ok(now.clone())
    }
}

impl Telemetry {
    /// Call it outside of any async context: the exporter's HTTP client is a blocking one.
    pub(crate) fn install(
        name: &'static str,
        instance: &str,
        settings: &ProcessSettings,
    ) -> Result<Self, TelemetryError> {
        let (filter, handle) = reload::Layer::new(EnvFilter::try_new(&settings.log.level)?);
        let provider = provider(name, instance, &settings.otlp)?;
        let spans = spans_layer(&provider);
        let json = match settings.log.format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => !std::io::stdout().is_terminal(),
        };
        let lines = if json {
            let out = std::io::stdout;
            JsonLines { out }.boxed()
        } else {
            let lines = tracing_subscriber::fmt::layer().fmt_fields(Readable);
            lines.with_target(false).boxed()
        };
        let subscriber = tracing_subscriber::registry()
            .with(spans)
            .with(lines.with_filter(filter));
        // Fails when a test has set one: then that one is used.
        let _already = subscriber.try_init();
        let level = LogLevel(Arc::new(Level {
            configured: settings.log.level.clone(),
            now: Mutex::new(settings.log.level.clone()),
            apply: Box::new(move |filter| handle.reload(filter)),
        }));
        Ok(Self { provider, level })
    }

    /// What is logged, to be changed at run time.
    pub(crate) fn level(&self) -> LogLevel {
        self.level.clone()
    }

    /// Sends what is left. Call it outside of any async context.
    pub(crate) fn flush(self) -> Result<(), opentelemetry_sdk::error::OTelSdkError> {
        self.provider.shutdown_with_timeout(EXPORT_TIMEOUT)
    }
}

/// Spans have a filter of their own, so that a trace passes through a process that logs warnings only.
fn spans_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let tracer = provider.tracer("photofinish");
    tracing_opentelemetry::layer()
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // Nobody asks OpenTelemetry for its own current context, and each poll of a future would set it.
        .with_context_activation(false)
        .with_tracer(tracer)
        .with_filter(LevelFilter::INFO)
}

fn provider(
    name: &'static str,
    instance: &str,
    settings: &OtlpSection,
) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(format!("photofinish-{name}"))
        .with_attribute(KeyValue::new("service.namespace", "photofinish"))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    // Whoever has begun a trace has decided already.
    let begun_here = Sampler::TraceIdRatioBased(settings.sample_ratio);
    let builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(begun_here)));
    let Some(endpoint) = settings.endpoint.as_deref() else {
        return Ok(builder.build());
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(traces_url(endpoint))
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    Ok(builder.with_batch_exporter(exporter).build())
}

fn traces_url(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.ends_with("/v1/traces") {
        endpoint.to_owned()
    } else {
        format!("{endpoint}/v1/traces")
    }
}

/// The metrics of the process, for `/metrics`. The recorder is installed on the first call.
pub(crate) fn metrics_handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = with_edges(PrometheusBuilder::new()).build_recorder();
        let handle = recorder.handle();
        // Fails when a test has set one: then /metrics stays empty.
        let _already = metrics::set_global_recorder(recorder);
        handle
    };
    HANDLE.get_or_init(install).clone()
}

fn with_edges(builder: PrometheusBuilder) -> PrometheusBuilder {
    let long = LONG.map(|suffix| (suffix, &LONG_BUCKETS));
    long.into_iter()
        .chain([(SHORT, &SECONDS_BUCKETS)])
        .fold(builder, |builder, (suffix, edges)| {
            builder
                .set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), edges)
                .expect("the list of buckets is not empty")
        })
}

/// See [`crate::trace::install_for_tests`].
pub(crate) fn install_for_tests() {
    let provider = SdkTracerProvider::builder().build();
    let lines = tracing_subscriber::fmt::layer().with_test_writer();
    let subscriber = tracing_subscriber::registry()
        .with(spans_layer(&provider))
        .with(lines.with_filter(LevelFilter::INFO));
    // An error means that a test before has done it.
    let _done = subscriber.try_init();
}

#[cfg(test)]
pub(crate) fn test_subscriber() -> tracing::subscriber::DefaultGuard {
    let provider = SdkTracerProvider::builder().build();
    tracing_subscriber::registry()
        .with(spans_layer(&provider))
        .set_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_take_hours_has_edges_of_hours() {
        let recorder = with_edges(PrometheusBuilder::new()).build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            for name in [
                "a_wait_seconds",
                "a_lag_seconds",
                "a_duration_seconds",
                "a_seconds",
            ] {
                metrics::histogram!(name).record(1000.0);
            }
        });
        let text = handle.render();
        let within =
            |name: &str, edge: &str| text.contains(&format!("{name}_bucket{{le=\"{edge}\"}} 1"));
        for long in ["a_wait_seconds", "a_lag_seconds", "a_duration_seconds"] {
            assert!(within(long, "1800"), "{text}");
        }
        assert!(
            within("a_seconds", "+Inf") && !within("a_seconds", "300"),
            "{text}"
        );
    }

    #[test]
    fn the_endpoint_is_a_base_or_the_whole_url() {
        let whole = "http://collector:4318/v1/traces";
        for given in ["http://collector:4318", "http://collector:4318/", whole] {
            assert_eq!(traces_url(given), whole);
        }
    }
}
