//! Logs, traces, metrics and the crypto provider: set up once per process.
//!
//! Guarantee: spans have ids whether or not they are exported; what was recorded is flushed at the end.

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogFormat, ProcessSettings};

const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Edges of all histograms named `…_seconds`.
const SECONDS_BUCKETS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0,
];

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
}

impl Telemetry {
    /// Call it outside of any async context: the exporter's HTTP client is a blocking one.
    pub(crate) fn install(
        name: &'static str,
        instance: &str,
        settings: &ProcessSettings,
    ) -> Result<Self, TelemetryError> {
        let filter = EnvFilter::try_new(&settings.log.level)?;
        let provider = provider(name, instance, settings.otlp.endpoint.as_deref())?;
        let spans = spans_layer(&provider);
        let json = match settings.log.format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => !std::io::stdout().is_terminal(),
        };
        let lines = if json {
            tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .boxed()
        } else {
            tracing_subscriber::fmt::layer().with_target(false).boxed()
        };
        let subscriber = tracing_subscriber::registry()
            .with(spans)
            .with(lines.with_filter(filter));
        // Fails when a test has set one: then that one is used.
        let _already = subscriber.try_init();
        Ok(Self { provider })
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
        .with_tracer(tracer)
        .with_filter(LevelFilter::INFO)
}

fn provider(
    name: &'static str,
    instance: &str,
    endpoint: Option<&str>,
) -> Result<SdkTracerProvider, TelemetryError> {
    let resource = Resource::builder()
        .with_service_name(format!("photofinish-{name}"))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = endpoint else {
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
        let builder = PrometheusBuilder::new();
        let recorder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .expect("the list of buckets is not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Fails when a test has set one: then /metrics stays empty.
        let _already = metrics::set_global_recorder(recorder);
        handle
    };
    HANDLE.get_or_init(install).clone()
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
    fn the_endpoint_is_a_base_or_the_whole_url() {
        let whole = "http://collector:4318/v1/traces";
        for given in ["http://collector:4318", "http://collector:4318/", whole] {
            assert_eq!(traces_url(given), whole);
        }
    }
}
