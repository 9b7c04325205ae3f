//! What operators have paused gets nothing, others do; and what a tenant used in its day.

use photofinish_contract::messages::{JobAccepted, PlanMessage};
use photofinish_kit::{Redis, wait_for};
use photofinish_model::Tenant;
use photofinish_model::quota::day;
use photofinish_objects::{DayUsage, PausesRecord, TenantRecord};

use crate::house::{ENDPOINT, FURTHER, House, SOON, now};
use crate::scripted::Report;

/// As ingest does it: the record, then the copy.
async fn pause(house: &House, version: Option<u64>, pauses: &PausesRecord) -> anyhow::Result<u64> {
    let (kind, id) = (PausesRecord::KIND, PausesRecord::ID);
    let version = house.objects.system_put(kind, id, version, pauses).await?;
    house
        .jobstore
        .keep_system_copy(kind, id, version, Some(pauses))
        .await;
    Ok(version)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_gets_nothing_and_others_go_on() -> anyhow::Result<()> {
    let redis = Redis::fresh()?;
    let settings = [
        ("runpod.further_endpoints", "ep-more usd_per_gpu_second=0.5"),
        ("usage.usd_per_gpu_second", "0.5"),
        ("broker.lanes", "2"),
    ];
    let mut house = House::empty(&redis.url, &redis.prefix, &settings).await?;
    let (solo, shared): (Tenant, Tenant) = ("solo".parse()?, "shared".parse()?);
    for (lane, tenant) in [(0, &house.tenant), (1, &solo), (1, &shared)] {
        let record = TenantRecord::new(tenant.clone(), lane, String::new(), now());
        let (kind, id) = (TenantRecord::KIND, tenant.as_str());
        house.objects.system_put(kind, id, None, &record).await?;
    }
    let pauses = PausesRecord {
        tenants: [house.tenant.clone(), shared.clone()].into(),
        lanes: [0].into(),
        endpoints: [ENDPOINT.to_owned()].into(),
    };
    let version = pause(&house, None, &pauses).await?;
    house.start("photofinish-dispatcher").await?;
    house.submit(1, 600).await?;
    for tenant in [&shared, &solo] {
        let accepted = JobAccepted {
            tenant: tenant.clone(),
            ..house.accepted(1, 600)
        };
        house.publish(&PlanMessage::JobAccepted(accepted)).await?;
    }
    // The one that is not paused gets the endpoint that is not paused.
    house.jobs_reach(FURTHER, 1).await?;
    let watch = house.watch().await?;
    assert_eq!(
        (&watch.attempt.tenant, watch.endpoint.as_str()),
        (&solo, FURTHER)
    );
    assert!(house.jobs_at(ENDPOINT).await?.is_empty());

    house.report(&watch, Report::lost("w1", &[])).await?;
    let today = day(now());
    let counted = wait_for(SOON, "the attempt is counted for its tenant", || async {
        let (standing, based) = house.jobstore.standing(&solo, &today).await.ok()?;
        based.then_some(standing)
    });
    let standing = counted.await?;
    assert_eq!((standing.gpu_seconds, standing.cost_usd), (10.0, 5.0));
    let written = wait_for(SOON, "it is written down", || async {
        house.objects.usage_of_day(&solo, &today).await.ok()?
    });
    let expected = DayUsage {
        gpu_seconds: 10.0,
        cost_usd: 5.0,
    };
    assert_eq!(written.await?, expected);

    pause(&house, Some(version), &PausesRecord::default()).await?;
    let watched = wait_for(SOON, "the paused tenant's part", || async {
        let watch = house.watch().await.ok()?;
        (watch.attempt.tenant == house.tenant).then_some(watch)
    });
    watched.await?;
    let noted = house.jobstore.endpoints_noted().await?;
    assert_eq!(noted.len(), 2, "{noted:?}");
    Ok(())
}
