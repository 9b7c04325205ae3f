//! AMQP users of tenants, on the real broker.

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use photofinish_broker::topology::{EVENTS, JOBS, PIPELINE};
use photofinish_broker::{Grants, Management, ManagementError, Outgoing, Settings, Target};
use photofinish_kit::Method;
use serde_json::json;

use crate::rig::{Outside, one, settings};

/// A connection of a tenant, with a channel for each thing that it tries: a refusal closes it.
struct Client(Connection);

impl Client {
    async fn channel(&self) -> lapin::Result<Channel> {
        let channel = self.0.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    async fn declare(&self, queue: &str) -> lapin::Result<()> {
        let declared = self.channel().await?;
        let options = QueueDeclareOptions::durable();
        declared
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .map(drop)
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
        let channel = self.channel().await?;
        let (options, table) = (QueueBindOptions::default(), FieldTable::default());
        channel
            .queue_bind(queue.into(), exchange.into(), key.into(), options, table)
            .await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the test plays a client without our crate"
    )]
    async fn publish(&self, exchange: &str, key: &str, user: &str) -> lapin::Result<()> {
        let channel = self.channel().await?;
        let properties = BasicProperties::default().with_user_id(user.into());
        let (exchange, key, options) =
            (exchange.into(), key.into(), BasicPublishOptions::default());
        let published = channel.basic_publish(exchange, key, options, b"{}", properties);
        published.await?.await.map(drop)
    }

    async fn get(&self, queue: &str) -> lapin::Result<()> {
        let channel = self.channel().await?;
        let options = BasicGetOptions { no_ack: true };
        channel.basic_get(queue.into(), options).await.map(drop)
    }
}

/// Whatever a tenant's user may not do.
async fn refused(client: &Client, tenant: &str, queue: &str) {
    let another = format!("{tenant}x");
    let tries: [(&str, lapin::Result<()>); 12] = [
        (
            "a queue of another",
            client.declare(&format!("{another}.events")).await,
        ),
        ("a queue of ours", client.declare("ingest.more").await),
        (
            "another's events",
            client.bind(queue, EVENTS, &format!("{another}.#")).await,
        ),
        ("everybody's events", client.bind(queue, EVENTS, "#").await),
        (
            "anybody's events",
            client.bind(queue, EVENTS, "*.job.caption.completed").await,
        ),
        ("what others submit", client.bind(queue, JOBS, "#").await),
        (
            "what we tell us",
            client.bind(queue, PIPELINE, "job.accepted").await,
        ),
        (
            "an event",
            client
                .publish(EVENTS, &format!("{tenant}.job.caption.failed"), tenant)
                .await,
        ),
        (
            "into the pipeline",
            client.publish(PIPELINE, "job.accepted", tenant).await,
        ),
        (
            "into a queue",
            client.publish("", "dispatcher.plan", tenant).await,
        ),
        (
            "read what is submitted",
            client.get("ingest.submissions").await,
        ),
        (
            "as somebody else",
            client.publish(JOBS, "job.submit", "guest").await,
        ),
    ];
    for (what, outcome) in tries {
        assert!(outcome.is_err(), "{what}");
    }
}

#[tokio::test]
async fn a_tenants_user_submits_and_hears_its_own_and_nothing_else() -> anyhow::Result<()> {
    photofinish_kit::install_crypto();
    let (rabbit, process) = one().await?;
    // AMQP users belong to the whole node.
    let tenant = format!("t-{}", uuid::Uuid::new_v4().simple());
    let settings = Settings {
        management_url: rabbit.api().to_owned(),
        ..settings(&rabbit.url())
    };
    let management = Management::of(&settings)?.unwrap();
    let grants = Grants::of(&tenant).unwrap();
    management.put_user(&tenant, "first", &grants).await?;
    management.put_user(&tenant, "second", &grants).await?;
    let connect = |password: &str| {
        let url = rabbit.url_as(&tenant, password);
        async move { Connection::connect(&url, ConnectionProperties::default()).await }
    };
    assert!(
        connect("first").await.is_err(),
        "a new password replaces the old one"
    );
    let client = Client(connect("second").await?);

    // One that nobody knows comes to us as well: it is refused, told and kept.
    for key in ["job.submit", "job.cancel", "job.submitted"] {
        client.publish(JOBS, key, &tenant).await?;
    }
    let queue = format!("{tenant}.events");
    client.declare(&queue).await?;
    client.bind(&queue, EVENTS, &format!("{tenant}.#")).await?;
    let routing_key = format!("{tenant}.job.caption.completed");
    let event = Outgoing::new(Target::Events { routing_key }, "news");
    process.broker.publisher().publish(event).await?;
    let heard = Outside::connect(&rabbit.url_as(&tenant, "second")).await?;
    assert_eq!(heard.take(&queue).await?.delivery.data, b"news");

    refused(&client, &tenant, &queue).await;
    // The connection itself was never in doubt.
    client.publish(JOBS, "job.submit", &tenant).await?;

    management.delete_user(&tenant, &grants).await?;
    management.delete_user(&tenant, &grants).await?;
    assert!(connect("second").await.is_err());
    let health = management.health().await?;
    assert!(
        health.version.starts_with(['3', '4']) && health.alarms.is_empty(),
        "{health:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_user_that_somebody_else_made_is_left_as_it_is() -> anyhow::Result<()> {
    photofinish_kit::install_crypto();
    // 4.3 takes no rule about keys of an exchange that is not there.
    let (rabbit, _process) = one().await?;
    let settings = Settings {
        management_url: rabbit.api().to_owned(),
        ..settings(&rabbit.url())
    };
    let management = Management::of(&settings)?.unwrap();
    let name = format!("t-{}", uuid::Uuid::new_v4().simple());
    let grants = Grants::of(&name).unwrap();
    let refused = async || {
        let put = management.put_user(&name, "mine", &grants).await;
        let deleted = management.delete_user(&name, &grants).await;
        [put, deleted]
            .iter()
            .all(|outcome| matches!(outcome, Err(ManagementError::NotOurs(_))))
    };
    // Without tags and with rights of its own, without any, and with a tag.
    rabbit.user(&name, "theirs", (".*", ".*", ".*")).await?;
    assert!(refused().await, "rights of its own");
    let user = format!("/api/users/{name}");
    let make = async |tags: &str| {
        rabbit.call(Method::DELETE, &user, None).await?;
        let body = json!({"password": "theirs", "tags": tags});
        rabbit.call(Method::PUT, &user, Some(body)).await
    };
    make("").await?;
    assert!(refused().await, "no rights");
    // As a call leaves it that breaks off.
    rabbit.call(Method::DELETE, &user, None).await?;
    let half_made = json!({"password_hash": "", "tags": ""});
    rabbit.call(Method::PUT, &user, Some(half_made)).await?;
    management.put_user(&name, "mine", &grants).await?;
    let shown = rabbit.call(Method::GET, &user, None).await?;
    assert_ne!(shown["password_hash"], "", "{shown}");
    make("monitoring").await?;
    assert!(refused().await, "an operator's");
    let guest = management.put_user("guest", "mine", &grants).await;
    assert!(
        matches!(guest, Err(ManagementError::NotOurs(_))),
        "{guest:?}"
    );
    // One that was made here, by an older version.
    let own = (
        grants.configure.as_str(),
        grants.write.as_str(),
        grants.read.as_str(),
    );
    make("").await?;
    rabbit.user(&name, "old", own).await?;
    management.put_user(&name, "new", &grants).await?;
    let shown = rabbit.call(Method::GET, &user, None).await?;
    assert_eq!(shown["limits"]["max-connections"], 500, "{shown}");
    // An operator's limit outlives a new password.
    let limit = format!("/api/user-limits/{name}/max-connections");
    let seven = json!({"value": 7});
    rabbit.call(Method::PUT, &limit, Some(seven)).await?;
    management.put_user(&name, "newer", &grants).await?;
    let shown = rabbit.call(Method::GET, &user, None).await?;
    assert_eq!(shown["limits"]["max-connections"], 7, "{shown}");
    management.delete_user(&name, &grants).await?;
    assert!(
        rabbit.call(Method::GET, &user, None).await.is_err(),
        "it is gone"
    );
    Ok(())
}
