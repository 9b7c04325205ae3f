//! Quotas and retention as an operator writes them: a field that is not given stays as it is, null takes it away.

use super::Body;
use photofinish_model::Code;
use photofinish_model::quota::{Quotas, Retention};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// The most that a number of things may be.
const NUMBER_MAX: u64 = 1_000_000_000;
/// The most that an amount of seconds or money may be.
const AMOUNT_MAX: f64 = 1e12;

/// Limits of a tenant; null: the deployment's.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
pub(super) struct QuotasWish {
    /// Requests in a second over HTTP, and as many submissions over AMQP.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    requests_per_s: Option<u32>,
    /// Jobs that have not ended.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    jobs_waiting_max: Option<u32>,
    /// Items of one job.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    items_per_job_max: Option<u32>,
    /// Seconds of GPU in a day (UTC).
    #[schema(minimum = 0)]
    gpu_seconds_per_day: Option<f64>,
    /// Estimated US dollars in a day (UTC).
    #[schema(minimum = 0)]
    cost_per_day_usd: Option<f64>,
}

/// How long a tenant's files are kept after the end of their job, in seconds; null: until they are deleted.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read by hand")]
pub(super) struct RetentionWish {
    /// The outputs.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    outputs_s: Option<u64>,
    /// Everything of the job, its idempotency key included.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    jobs_s: Option<u64>,
}

/// Nothing: it was not given. Nothing inside: it was null.
type Given<T> = Option<Option<T>>;

/// What is to be changed of a tenant's limits.
#[derive(Debug, Default)]
pub(super) struct LimitsWish {
    requests_per_s: Given<u32>,
    jobs_waiting_max: Given<u32>,
    items_per_job_max: Given<u32>,
    gpu_seconds_per_day: Given<f64>,
    cost_per_day_usd: Given<f64>,
    outputs_s: Given<u64>,
    jobs_s: Given<u64>,
}

impl LimitsWish {
    /// Reads `quotas` and `retention`; every fault goes to the body's.
    pub(super) fn read(body: &mut Body) -> Self {
        let quotas = [
            "requests_per_s",
            "jobs_waiting_max",
            "items_per_job_max",
            "gpu_seconds_per_day",
            "cost_per_day_usd",
        ];
        let mut quotas = Fields::of(body, "quotas", &quotas);
        let small =
            |number: Given<u64>| number.map(|number| number.and_then(|n| u32::try_from(n).ok()));
        let requests_per_s = small(quotas.number(body, "requests_per_s", 1));
        let jobs_waiting_max = small(quotas.number(body, "jobs_waiting_max", 0));
        let items_per_job_max = small(quotas.number(body, "items_per_job_max", 1));
        let gpu_seconds_per_day = quotas.amount(body, "gpu_seconds_per_day");
        let cost_per_day_usd = quotas.amount(body, "cost_per_day_usd");
        let mut retention = Fields::of(body, "retention", &["outputs_s", "jobs_s"]);
        Self {
            requests_per_s,
            jobs_waiting_max,
            items_per_job_max,
            gpu_seconds_per_day,
            cost_per_day_usd,
            outputs_s: retention.number(body, "outputs_s", 0),
            jobs_s: retention.number(body, "jobs_s", 0),
        }
    }

    /// True when nothing is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        self.requests_per_s.is_none()
            && self.jobs_waiting_max.is_none()
            && self.items_per_job_max.is_none()
            && self.gpu_seconds_per_day.is_none()
            && self.cost_per_day_usd.is_none()
            && self.outputs_s.is_none()
            && self.jobs_s.is_none()
    }

    /// What is there with what was wished.
    pub(super) fn applied(&self, quotas: Quotas, retention: Retention) -> (Quotas, Retention) {
        let quotas = Quotas {
            requests_per_s: self.requests_per_s.unwrap_or(quotas.requests_per_s),
            jobs_waiting_max: self.jobs_waiting_max.unwrap_or(quotas.jobs_waiting_max),
            items_per_job_max: self.items_per_job_max.unwrap_or(quotas.items_per_job_max),
            gpu_seconds_per_day: self
                .gpu_seconds_per_day
                .unwrap_or(quotas.gpu_seconds_per_day),
            cost_per_day_usd: self.cost_per_day_usd.unwrap_or(quotas.cost_per_day_usd),
        };
        let retention = Retention {
            outputs_s: self.outputs_s.unwrap_or(retention.outputs_s),
            jobs_s: self.jobs_s.unwrap_or(retention.jobs_s),
        };
        (quotas, retention)
    }
}

/// The fields of an object inside of a body.
struct Fields {
    place: &'static str,
    fields: Map<String, Value>,
}

impl Fields {
    fn of(body: &mut Body, place: &'static str, known: &[&str]) -> Self {
        let fields = match body.take(place) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(_) => {
                body.fault(place, Code::WrongType, "must be an object".to_owned());
                Map::new()
            }
        };
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let detail = format!("no such field here; known are {}", known.join(", "));
            body.fault(&format!("{place}/{name}"), Code::UnknownField, detail);
        }
        Self { place, fields }
    }

    fn number(&mut self, body: &mut Body, name: &str, min: u64) -> Given<u64> {
        let value = self.fields.remove(name)?;
        if value.is_null() {
            return Some(None);
        }
        let place = format!("{}/{name}", self.place);
        match value.as_u64() {
            Some(number) if (min..=NUMBER_MAX).contains(&number) => Some(Some(number)),
            None if !value.is_number() => {
                body.fault(
                    &place,
                    Code::WrongType,
                    "must be a whole number or null".to_owned(),
                );
                None
            }
            Some(_) | None => {
                let detail = format!("must be a whole number from {min} to {NUMBER_MAX}, or null");
                body.fault(&place, Code::OutOfRange, detail);
                None
            }
        }
    }

    fn amount(&mut self, body: &mut Body, name: &str) -> Given<f64> {
        let value = self.fields.remove(name)?;
        if value.is_null() {
            return Some(None);
        }
        let place = format!("{}/{name}", self.place);
        match value.as_f64() {
            Some(amount) if (0.0..=AMOUNT_MAX).contains(&amount) => Some(Some(amount)),
            Some(_) => {
                let detail = format!("must be 0 to {AMOUNT_MAX}, or null");
                body.fault(&place, Code::OutOfRange, detail);
                None
            }
            None => {
                body.fault(
                    &place,
                    Code::WrongType,
                    "must be a number or null".to_owned(),
                );
                None
            }
        }
    }
}
