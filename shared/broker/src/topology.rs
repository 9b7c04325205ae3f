//! Exchanges, queues and bindings, as data: the one definition from which everything is declared.
//!
//! Guarantee: the safety of a queue (quorum, delivery limit, dead-lettering at least once, no silent drop) is in its
//! arguments, so a broker without any policy of ours is safe. Queues that receive turns or retries have no length
//! limit: a turn that is refused could never be acknowledged.
//! Not for: tunables, which belong in policies of the operator.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use serde_json::json;

use crate::error::TopologyError;
use crate::names::{Family, Route, WorkQueue};

/// Where clients publish (topic).
pub const JOBS: &str = "photofinish.jobs";
/// Takes what [`JOBS`] cannot route, so that an unknown routing key is answered and not lost (fanout).
pub const UNROUTED: &str = "photofinish.unrouted";
/// Internal messages (direct).
pub const PIPELINE: &str = "photofinish.pipeline";
/// Workers' signals to every fetcher (fanout).
pub const SIGNALS: &str = "photofinish.signals";
/// Events for anyone with the right (topic).
pub const EVENTS: &str = "photofinish.events";
/// What is given up, by family (topic), all of it to [`WorkQueue::Parked`].
pub const DEAD: &str = "photofinish.dead";
/// The queue of refused submissions, for the operator.
pub const REJECTED: &str = "photofinish.rejected";

/// After so many deliveries RabbitMQ itself parks a message of a work queue.
pub const DELIVERY_LIMIT: i64 = 20;
/// Queues for people: looking at a message counts as a delivery, and 4.x drops at 20 when nothing is said.
const DELIVERY_LIMIT_FOR_PEOPLE: i64 = 1_000_000;

/// One fixed wait: an exchange and a queue `photofinish.retry.{name}` with a time to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// The name of its exchange and of its queue.
    pub name: &'static str,
    /// How long a message lies there.
    pub wait: Duration,
}

impl Tier {
    /// All tiers, the shortest first.
    pub const ALL: [Self; 7] = [
        Self {
            name: "photofinish.retry.1s",
            wait: Duration::from_secs(1),
        },
        Self {
            name: "photofinish.retry.5s",
            wait: Duration::from_secs(5),
        },
        Self {
            name: "photofinish.retry.30s",
            wait: Duration::from_secs(30),
        },
        Self {
            name: "photofinish.retry.2m",
            wait: Duration::from_mins(2),
        },
        Self {
            name: "photofinish.retry.10m",
            wait: Duration::from_mins(10),
        },
        Self {
            name: "photofinish.retry.1h",
            wait: Duration::from_hours(1),
        },
        Self {
            name: "photofinish.retry.6h",
            wait: Duration::from_hours(6),
        },
    ];

    /// The longest tier that is not longer than `wait`; `None` below one second, which is waited in hand.
    pub fn within(wait: Duration) -> Option<Self> {
        Self::ALL.into_iter().rfind(|tier| tier.wait <= wait)
    }
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// By the whole key.
    Direct,
    /// By patterns over the key's words.
    Topic,
    /// To all.
    Fanout,
}

impl Routing {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Topic => "topic",
            Self::Fanout => "fanout",
        }
    }

    const fn kind(self) -> ExchangeKind {
        match self {
            Self::Direct => ExchangeKind::Direct,
            Self::Topic => ExchangeKind::Topic,
            Self::Fanout => ExchangeKind::Fanout,
        }
    }
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl Argument {
    fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn amqp(&self) -> AMQPValue {
        match self {
            Self::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Self::Number(number) => AMQPValue::LongLongInt(*number),
        }
    }

    fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
        }
    }
}

/// Arguments by name.
pub type Arguments = Vec<(&'static str, Argument)>;

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it routes.
    pub routing: Routing,
    /// Its arguments.
    pub arguments: Arguments,
}

/// A durable quorum queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Arguments,
}

/// A way from an exchange to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// From.
    pub exchange: String,
    /// To.
    pub queue: String,
    /// By which key or pattern.
    pub routing_key: String,
}

/// Everything that is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// All exchanges, in an order in which they can be declared.
    pub exchanges: Vec<Exchange>,
    /// All queues.
    pub queues: Vec<Queue>,
    /// All bindings.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// The topology of a deployment with so many submit lanes a priority.
    pub fn new(lanes: u16) -> Self {
        let mut topology = Self {
            exchanges: exchanges(),
            queues: Vec::new(),
            bindings: Vec::new(),
        };
        for queue in WorkQueue::all(lanes) {
            topology.queue(queue.to_string(), work_arguments(queue.family()));
        }
        for family in Family::ALL {
            topology.queue(family.dead_queue(), people_arguments());
        }
        topology.queue(REJECTED.to_owned(), people_arguments());
        let submissions = WorkQueue::Submissions.to_string();
        for key in ["job.submit", "job.cancel"] {
            topology.bind(JOBS, submissions.clone(), key.to_owned());
        }
        topology.bind(UNROUTED, submissions, String::new());
        for route in Route::all(lanes) {
            topology.bind(PIPELINE, route.queue().to_string(), route.to_string());
        }
        topology.bind(DEAD, WorkQueue::Parked.to_string(), "#".to_owned());
        for tier in Tier::ALL {
            topology.queue(tier.name.to_owned(), tier_arguments(tier));
            topology.bind(tier.name, tier.name.to_owned(), String::new());
        }
        topology
    }

    fn queue(&mut self, name: String, arguments: Arguments) {
        self.queues.push(Queue { name, arguments });
    }

    fn bind(&mut self, exchange: &str, queue: String, routing_key: String) {
        self.bindings.push(Binding {
            exchange: exchange.to_owned(),
            queue,
            routing_key,
        });
    }

    /// Declares all of it; what is there already with the same arguments stays as it is.
    pub async fn declare(&self, channel: &Channel) -> Result<(), TopologyError> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.declare_exchanges(channel, options).await?;
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.declare_queues(channel, options).await?;
        for Binding {
            exchange,
            queue,
            routing_key,
        } in &self.bindings
        {
            let (from, to, key) = (short(exchange)?, short(queue)?, short(routing_key)?);
            channel
                .queue_bind(
                    to,
                    from,
                    key,
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .map_err(|source| TopologyError::Declare {
                    name: queue.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    /// Only checks that exchanges and queues are there, for users who may not declare. Bindings cannot be asked for.
    pub async fn check(&self, channel: &Channel) -> Result<(), TopologyError> {
        let options = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        self.declare_exchanges(channel, options).await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        self.declare_queues(channel, options).await
    }

    async fn declare_exchanges(
        &self,
        channel: &Channel,
        options: ExchangeDeclareOptions,
    ) -> Result<(), TopologyError> {
        for Exchange {
            name,
            routing,
            arguments,
        } in &self.exchanges
        {
            channel
                .exchange_declare(short(name)?, routing.kind(), options, table(arguments)?)
                .await
                .map_err(|source| TopologyError::Declare {
                    name: name.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    async fn declare_queues(
        &self,
        channel: &Channel,
        options: QueueDeclareOptions,
    ) -> Result<(), TopologyError> {
        for Queue { name, arguments } in &self.queues {
            channel
                .queue_declare(short(name)?, options, table(arguments)?)
                .await
                .map_err(|source| TopologyError::Declare {
                    name: name.clone(),
                    source,
                })?;
        }
        Ok(())
    }

    /// The same as a RabbitMQ definitions file for one virtual host.
    pub fn definitions(&self, vhost: &str) -> serde_json::Value {
        let arguments = |arguments: &Arguments| -> serde_json::Map<String, serde_json::Value> {
            arguments
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.json()))
                .collect()
        };
        json!({
            "exchanges": self.exchanges.iter().map(|exchange| json!({
                "name": exchange.name, "vhost": vhost, "type": exchange.routing.as_str(), "durable": true,
                "auto_delete": false, "internal": false, "arguments": arguments(&exchange.arguments),
            })).collect::<Vec<_>>(),
            "queues": self.queues.iter().map(|queue| json!({
                "name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
                "arguments": arguments(&queue.arguments),
            })).collect::<Vec<_>>(),
            "bindings": self.bindings.iter().map(|binding| json!({
                "source": binding.exchange, "vhost": vhost, "destination": binding.queue,
                "destination_type": "queue", "routing_key": binding.routing_key, "arguments": {},
            })).collect::<Vec<_>>(),
        })
    }
}

fn exchanges() -> Vec<Exchange> {
    let plain = |name: &str, routing| Exchange {
        name: name.to_owned(),
        routing,
        arguments: Arguments::new(),
    };
    let mut exchanges = vec![
        plain(UNROUTED, Routing::Fanout),
        Exchange {
            arguments: vec![("alternate-exchange", Argument::text(UNROUTED))],
            ..plain(JOBS, Routing::Topic)
        },
        plain(PIPELINE, Routing::Direct),
        plain(SIGNALS, Routing::Fanout),
        plain(EVENTS, Routing::Topic),
        plain(DEAD, Routing::Topic),
    ];
    exchanges.extend(Tier::ALL.map(|tier| plain(tier.name, Routing::Fanout)));
    exchanges
}

/// Quorum, and dead-lettering that loses nothing: both parts of it are needed for "at least once".
fn safe(mut more: Arguments) -> Arguments {
    more.extend([
        ("x-queue-type", Argument::text("quorum")),
        ("x-dead-letter-strategy", Argument::text("at-least-once")),
        ("x-overflow", Argument::text("reject-publish")),
    ]);
    more
}

fn work_arguments(family: Family) -> Arguments {
    // What fails even in parking goes straight to people: a way back into parking would be a circle.
    let (exchange, key) = match family {
        Family::Parked => ("", family.dead_queue()),
        Family::Submissions
        | Family::Plan
        | Family::Submit
        | Family::Watch
        | Family::Outcome
        | Family::Events
        | Family::Deliver => (DEAD, family.to_string()),
    };
    safe(vec![
        ("x-delivery-limit", Argument::Number(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", Argument::text(exchange)),
        ("x-dead-letter-routing-key", Argument::text(key)),
    ])
}

fn tier_arguments(tier: Tier) -> Arguments {
    let ttl = i64::try_from(tier.wait.as_millis()).unwrap_or(i64::MAX);
    safe(vec![
        ("x-message-ttl", Argument::Number(ttl)),
        // The default exchange, and the routing key kept: it names the queue to return to.
        ("x-dead-letter-exchange", Argument::text("")),
    ])
}

fn people_arguments() -> Arguments {
    vec![
        ("x-queue-type", Argument::text("quorum")),
        (
            "x-delivery-limit",
            Argument::Number(DELIVERY_LIMIT_FOR_PEOPLE),
        ),
    ]
}

fn table(arguments: &Arguments) -> Result<FieldTable, TopologyError> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(short(name)?, value.amqp());
    }
    Ok(table)
}

fn short(name: &str) -> Result<ShortString, TopologyError> {
    ShortString::try_new(name).map_err(|_too_long| TopologyError::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_takes_the_longest_tier_that_fits() {
        let name = |millis| Tier::within(Duration::from_millis(millis)).map(|tier| tier.name);
        assert_eq!(name(0), None);
        assert_eq!(name(999), None);
        assert_eq!(name(1_000), Some("photofinish.retry.1s"));
        assert_eq!(name(29_999), Some("photofinish.retry.5s"));
        assert_eq!(name(7_200_000), Some("photofinish.retry.1h"));
        assert_eq!(name(u64::MAX / 2), Some("photofinish.retry.6h"));
    }

    #[test]
    fn every_binding_and_dead_letter_has_a_home() {
        let topology = Topology::new(2);
        let queue = |name: &str| topology.queues.iter().any(|queue| queue.name == name);
        let exchange = |name: &str| topology.exchanges.iter().any(|other| other.name == name);
        for binding in &topology.bindings {
            assert!(
                exchange(&binding.exchange) && queue(&binding.queue),
                "{binding:?}"
            );
        }
        let mut people = Family::ALL.map(Family::dead_queue).to_vec();
        people.push(REJECTED.to_owned());
        for Queue { name, arguments } in &topology.queues {
            let text = |wanted: &str| {
                arguments.iter().find_map(|(name, value)| match value {
                    Argument::Text(text) if *name == wanted => Some(text.clone()),
                    Argument::Text(_) | Argument::Number(_) => None,
                })
            };
            assert_eq!(text("x-queue-type").as_deref(), Some("quorum"), "{name}");
            match text("x-dead-letter-exchange").as_deref() {
                None => assert!(people.contains(name), "{name}"),
                Some("") => {
                    assert!(text("x-dead-letter-routing-key").is_none_or(|key| queue(&key)));
                }
                Some(other) => assert!(exchange(other), "{name}"),
            }
        }
    }

    #[test]
    fn definitions_hold_everything() {
        let topology = Topology::new(2);
        let definitions = topology.definitions("/");
        let count = |what: &str| definitions[what].as_array().map_or(0, Vec::len);
        assert_eq!(count("exchanges"), topology.exchanges.len());
        assert_eq!(count("queues"), topology.queues.len());
        assert_eq!(count("bindings"), topology.bindings.len());
    }
}
