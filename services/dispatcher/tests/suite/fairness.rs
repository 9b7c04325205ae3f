//! Tenants side by side: a flood of one is not felt by another.

use photofinish_broker::{Outgoing, Priority as Urgency, Target, WorkQueue};
use photofinish_contract::messages::{JobAccepted, PartReady, PlanMessage, RequestRef};
use photofinish_kit::wait_for;
use photofinish_model::{JobId, Priority, Tenant};
use photofinish_objects::TenantRecord;
use tokio::task::JoinSet;

use crate::house::{ENDPOINT, House, SOON, now};
use crate::scripted::Report;

/// Parts that wait behind those of the flood, to see what waiting costs.
const MORE: u32 = 3000;
/// What the dispatcher may grow by meanwhile, in KiB: its usual ups and downs.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

fn lane(lane: u16) -> WorkQueue {
    WorkQueue::Submit {
        priority: Urgency::Normal,
        lane,
    }
}

async fn depth_is(house: &House, queue: WorkQueue, depth: u32) -> anyhow::Result<()> {
    let what = format!("{depth} messages in {queue:?}");
    let found = wait_for(SOON, &what, || async {
        (house.broker.depth(queue).await.ok()? == depth).then_some(())
    });
    let found = found.await;
    found.map_err(|error| anyhow::anyhow!("{error}\n{}", house.logs()))
}

/// Makes the tenants of a test, each in its own lane; the house's own is in lane 0.
async fn second_tenant(house: &House) -> anyhow::Result<Tenant> {
    let second: Tenant = "solo".parse()?;
    for (lane, tenant) in [(0, &house.tenant), (1, &second)] {
        let record = TenantRecord::new(tenant.clone(), lane, String::new(), now());
        house
            .objects
            .system_put("tenant", tenant.as_str(), None, &record)
            .await?;
    }
    Ok(second)
}

async fn submit(house: &House, tenant: &Tenant, items: usize) -> anyhow::Result<JobId> {
    let mut accepted = JobAccepted {
        tenant: tenant.clone(),
        ..house.accepted(items, 3600)
    };
    let job = accepted.job.clone();
    if let RequestRef::Inline(request) = &accepted.request {
        let sha256 = house.objects.put_request(tenant, &job, request).await?;
        accepted.request = RequestRef::Stored { sha256 };
    }
    house.publish(&PlanMessage::JobAccepted(accepted)).await?;
    Ok(job)
}

/// A worker takes the attempt that has waited longest at RunPod, and fails with it.
async fn fail_one(house: &House) -> anyhow::Result<String> {
    let taken = house.take().await?;
    house.fail_job(&taken.id).await?;
    Ok(taken.id)
}

fn resident_kib(house: &House) -> u64 {
    let pid = house.processes["photofinish-dispatcher"].pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_pictures_of_one_tenant_delay_another_by_one_slot() -> anyhow::Result<()> {
    let house = House::with(&[("broker.lanes", "2")]).await?;
    let second = second_tenant(&house).await?;
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(submit(&house, &house.tenant, 1000).await?);
    }
    // Three parts each; three run, two more wait at RunPod.
    house.jobs_reach(ENDPOINT, 5).await?;
    depth_is(&house, lane(0), 25).await?;
    let before = resident_kib(&house);
    let ready = PartReady {
        job: flood[9].clone(),
        tenant: house.tenant.clone(),
        run: 1,
        part: 2,
        attempt: 1,
        priority: Priority::Normal,
        state: None,
    };
    let mut publishes = JoinSet::new();
    for _ in 0..MORE {
        let more = Outgoing::json(Target::Queue(lane(0)), &ready)?;
        let publisher = house.broker.publisher();
        publishes.spawn(async move { publisher.publish(more).await });
    }
    for published in publishes.join_all().await {
        published?;
    }
    depth_is(&house, lane(0), 25 + MORE).await?;

    let single = submit(&house, &second, 1).await?;
    depth_is(&house, lane(1), 1).await?;
    let grown = resident_kib(&house).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB for parts that wait");
    assert_eq!(house.jobs_at(ENDPOINT).await?.len(), 5);
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(house.watch().await?);
    }
    let failed = fail_one(&house).await?;
    let watch = watches.iter().find(|watch| {
        let id = watch.runpod_id.as_ref();
        id.is_some_and(|id| id.as_str() == failed)
    });
    house
        .report(watch.unwrap(), Report::lost("w1", &[]))
        .await?;
    let next = house.watch().await?;
    assert_eq!(next.attempt.job, single, "{}", house.logs());
    assert_eq!(house.jobs_at(ENDPOINT).await?.len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_no_more_slots_than_it_may_have_and_others_go_on() -> anyhow::Result<()> {
    let settings = [("broker.lanes", "2"), ("dispatcher.tenant_slots_max", "2")];
    let house = House::with(&settings).await?;
    let second = second_tenant(&house).await?;
    for _ in 0..4 {
        submit(&house, &house.tenant, 1).await?;
    }
    depth_is(&house, lane(0), 2).await?;
    house.jobs_reach(ENDPOINT, 2).await?;
    let flying = [house.watch().await?, house.watch().await?];
    let other = submit(&house, &second, 1).await?;
    assert_eq!(house.watch().await?.attempt.job, other, "slots are free");
    depth_is(&house, lane(0), 2).await?;
    assert_eq!(house.jobs_at(ENDPOINT).await?.len(), 3);
    house.store(&flying[0], &[0]).await?;
    house.report(&flying[0], Report::completed("w1")).await?;
    assert_eq!(house.watch().await?.attempt.tenant, house.tenant);
    depth_is(&house, lane(0), 1).await?;
    assert_eq!(house.jobs_at(ENDPOINT).await?.len(), 4);
    Ok(())
}
