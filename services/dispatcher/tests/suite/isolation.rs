//! A picture that kills its worker takes nobody with it.

use photofinish_contract::announcement::ItemError;
use photofinish_contract::messages::{Command, JobAccepted, PlanMessage, RequestRef};
use photofinish_contract::request::Task;
use photofinish_model::{Code, Fault, ItemIndex, ItemState, JobStatus, OnItemError};

use crate::house::House;
use crate::scripted::Report;

const POISON: ItemIndex = 2;

fn skipping(house: &House, items: usize) -> JobAccepted {
    let mut accepted = house.accepted(items, 600);
    if let RequestRef::Inline(request) = &mut accepted.request
        && let Task::Img2vid(task) = &mut request.task
    {
        task.on_item_error = OnItemError::Skip;
    }
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_picture_is_isolated_and_given_up_with_its_evidence() -> anyhow::Result<()> {
    let house = House::open().await?;
    let accepted = skipping(&house, 6);
    let job = accepted.job.clone();
    house.publish(&PlanMessage::JobAccepted(accepted)).await?;
    let mut posts: Vec<Vec<ItemIndex>> = Vec::new();
    for turn in 0.. {
        let watch = house.watch().await?;
        posts.push(watch.items.clone());
        let worker = format!("w{turn}");
        if watch.items.contains(&POISON) {
            // It had done the first, and was at two when it died.
            if watch.items.len() > 1 {
                house.store(&watch, &watch.items[..1]).await?;
            }
            let report = Report::lost(&worker, &[POISON, POISON + 1]);
            house.report(&watch, report).await?;
        } else {
            house.store(&watch, &watch.items).await?;
            house.report(&watch, Report::completed(&worker)).await?;
        }
        let poisoned = posts.iter().filter(|items| items.contains(&POISON));
        if poisoned.count() == 3 {
            break;
        }
    }
    // All, the innocent, one suspect that is sound, and twice the one that is not, alone.
    let together: Vec<ItemIndex> = (0..6).collect();
    assert_eq!(posts[0], together);
    assert_eq!(posts[1], [1, 4, 5]);
    let mut alone = posts[2..].to_vec();
    alone.sort();
    assert_eq!(alone, [vec![POISON], vec![POISON], vec![POISON + 1]]);
    let end = house.end(&job, 1).await?;
    assert_eq!(end.status, JobStatus::Completed, "{:?}", end.items);
    let counts = end.counts();
    assert_eq!((counts.stored, counts.failed), (5, 1));
    let ItemState::Failed(fault) = &end.items[usize::from(POISON)].state else {
        panic!("{:?}", end.items)
    };
    assert_eq!(fault.code, Code::AttemptsExhausted);
    assert_eq!(
        fault.detail.matches("on worker w").count(),
        3,
        "{}",
        fault.detail
    );
    assert_eq!(end.usage.attempts as usize, posts.len());
    let records = house.objects.part_records(&house.tenant, &job, 1).await?;
    let evidence = &records[0].errors[0].evidence;
    assert!(
        evidence.contains("w0") && evidence.contains("it is gone"),
        "{evidence}"
    );
    Ok(())
}

/// What a part has been through is known to its messages: an emptied Redis gives no item a try more.
#[tokio::test(flavor = "multi_thread")]
async fn tries_and_suspicions_survive_an_emptied_redis() -> anyhow::Result<()> {
    let redis = photofinish_kit::RedisServer::start().await?;
    let mut house = House::empty(&redis.url(), "", &[]).await?;
    house.start("photofinish-dispatcher").await?;
    house.submit(3, 600).await?;
    let first = house.watch().await?;
    house.report(&first, Report::lost("w0", &[1])).await?;
    let second = house.watch().await?;
    assert_eq!(second.items, [0, 2]);
    redis.flush()?;
    house.report(&second, Report::lost("w1", &[0])).await?;
    let third = house.watch().await?;
    assert_eq!(third.items, [2], "what is not under suspicion");
    let state = third.state.unwrap();
    assert_eq!((state.open[&0], state.open[&1], state.open[&2]), (1, 1, 0));
    assert_eq!(state.ends.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_as_a_whole_ends_with_the_first_fault_that_is_told() -> anyhow::Result<()>
{
    let house = House::open().await?;
    let job = house.submit(3, 600).await?;
    house.sim_status("IN_QUEUE").await?;
    house.take().await?;
    let watch = house.watch().await?;
    assert!(watch.fails_at_once);
    let told = Command::ItemsFailed {
        attempt: Box::new(watch.attempt.clone()),
        errors: vec![ItemError {
            index: 1,
            fault: Fault::new(Code::NotAnImage, "no picture"),
            permanent: true,
        }],
    };
    house.command(&job, 1, told.clone()).await?;
    let end = house.end(&job, 1).await?;
    assert_eq!(end.error.as_ref().unwrap().code, Code::ItemFailed);
    house.sim_status("CANCELLED").await?;
    house.command(&job, 1, told).await?;
    assert_eq!(house.end(&job, 1).await?, end);

    // A job that skips what is bad goes on.
    let accepted = skipping(&house, 2);
    house.publish(&PlanMessage::JobAccepted(accepted)).await?;
    let watch = house.watch().await?;
    assert!(!watch.fails_at_once);
    Ok(())
}
