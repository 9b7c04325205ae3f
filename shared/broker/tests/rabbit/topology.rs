use photofinish_broker::topology::{Argument, Tier, Topology};
use photofinish_broker::{Route, Settings, Target, WorkQueue};
use photofinish_kit::Rabbit;

use crate::rig::{LANES, Process, SOON, one, settings};

#[tokio::test(flavor = "multi_thread")]
async fn declared_twice_and_every_argument_is_on_the_server() -> anyhow::Result<()> {
    let (rabbit, _first) = one().await?;
    let _second = Process::start(&rabbit.url()).await?;
    let on_server = rabbit.queues().await?;
    let topology = Topology::new(LANES);
    assert_eq!(on_server.len(), topology.queues.len());
    for queue in &topology.queues {
        let found = on_server
            .iter()
            .find(|found| found["name"] == queue.name.as_str());
        let found = found.unwrap_or_else(|| panic!("{} is missing", queue.name));
        assert_eq!(found["durable"], true);
        let arguments = found["arguments"].as_object().expect("arguments");
        assert_eq!(arguments.len(), queue.arguments.len(), "{}", queue.name);
        for (name, value) in &queue.arguments {
            match value {
                Argument::Text(text) => assert_eq!(arguments[*name], text.as_str()),
                Argument::Number(number) => assert_eq!(arguments[*name], *number),
            }
        }
    }
    let bindings = rabbit.bindings().await?;
    for binding in &topology.bindings {
        let found = bindings.iter().any(|found| {
            found["source"] == binding.exchange.as_str()
                && found["destination"] == binding.queue.as_str()
                && found["routing_key"] == binding.routing_key.as_str()
        });
        assert!(found, "{binding:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_laws_of_the_queues() {
    for queue in Topology::new(LANES).queues {
        let has = |name: &str| queue.arguments.iter().any(|(found, _)| *found == name);
        assert!(
            !has("x-max-length") && !has("x-max-length-bytes"),
            "{}",
            queue.name
        );
        let tier = Tier::ALL.iter().any(|tier| tier.name == queue.name);
        assert_eq!(has("x-message-ttl"), tier, "{}", queue.name);
        assert!(tier || has("x-delivery-limit"), "{}", queue.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_declare_it_only_checks() -> anyhow::Result<()> {
    let rabbit = Rabbit::fresh().await?;
    let passive = |url: &str| Settings {
        declare: false,
        ..settings(url)
    };
    let early = Process::launch(&passive(&rabbit.url()))?;
    photofinish_kit::wait_until(SOON, "the missing topology is named", || async {
        early
            .health
            .failing()
            .iter()
            .any(|(_, why)| why.contains("photofinish.unrouted"))
    })
    .await?;
    assert!(!early.broker.ready());
    let _declaring = Process::start(&rabbit.url()).await?;
    early.ready().await?;
    rabbit.user("least", "pw", ("^$", ".*", ".*")).await?;
    let least = Process::launch(&passive(&rabbit.url_as("least", "pw")))?;
    least.ready().await?;
    let outgoing = photofinish_broker::Outgoing::new(Target::Pipeline(Route::JobAccepted), "{}");
    least.broker.publisher().publish(outgoing).await?;
    assert!(least.broker.get(WorkQueue::Plan).await?.is_some());
    Ok(())
}
