//! The two routes to a worker: its exposed TCP port with pinned TLS, and RunPod's proxy.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use photofinish_contract::announcement::Address;
use photofinish_kit::{Fault, FaultProxy, wait_for};
use photofinish_model::{JobId, JobStatus};
use serde_json::json;

use crate::house::{House, SOON, Taken};
use crate::pulls::{GROWTH_BYTES_MAX, MIB, memory_peak, noise, pulled};
use crate::rendering_worker::RenderingWorker;
use crate::tls::Tls;

/// Seconds that a fetcher waits for a worker where one hangs, and where none does: a busy machine
/// is not to be taken for a worker that hangs.
const HASTY: &str = "2";
const PATIENT: &str = "20";

/// A worker with both routes, each through a proxy that can spoil it.
struct Scene {
    house: House,
    worker: RenderingWorker,
    tls: Tls,
    direct: FaultProxy,
    job: JobId,
    taken: Taken,
}

impl Scene {
    /// With `items` outputs to be made, on loopback; called if `allow` names it.
    async fn open(items: usize, allow: &str, patience: &str) -> anyhow::Result<Self> {
        Self::behind(items, allow, patience, RenderingWorker::template).await
    }

    /// The same, with another proxy.
    async fn behind(
        items: usize,
        allow: &str,
        patience: &str,
        template: impl Fn(SocketAddr) -> String,
    ) -> anyhow::Result<Self> {
        let mut worker = RenderingWorker::start().await?;
        let tls = Tls::start(worker.addr).await?;
        let direct = FaultProxy::start(tls.addr.to_string()).await?;
        worker.addresses = vec![tls.announced(direct.addr())];
        let template = template(worker.addr);
        let settings = [
            ("runpod.proxy_url", template.as_str()),
            ("outbound.workers.allow", allow),
            ("fetcher.stall_max_s", patience),
            ("fetcher.direct_connect_timeout_s", patience),
        ];
        let mut house = House::with(&settings).await?;
        house.start("photofinish-fetcher").await?;
        let job = house.submit(items, 600).await?;
        let taken = house.take().await?;
        Ok(Self {
            house,
            worker,
            tls,
            direct,
            job,
            taken,
        })
    }

    async fn pull(&self, index: u16, content: Bytes) -> anyhow::Result<()> {
        let bytes = content.len() as u64;
        let (house, worker) = (&self.house, &self.worker);
        let stored = pulled(house, &self.job, &self.taken, worker, index, content).await?;
        assert_eq!(stored.bytes, bytes);
        Ok(())
    }

    /// The last output is in: the job is complete.
    async fn complete(&self) -> anyhow::Result<()> {
        self.house
            .tell_runpod(&self.taken.id, json!({"output": {}}))
            .await?;
        let end = self.house.end(&self.job, 1).await?;
        assert_eq!(end.status, JobStatus::Completed);
        Ok(())
    }

    /// Bytes pulled by a route, as the fetcher counts them.
    async fn bytes_by(&self, route: &str) -> anyhow::Result<u64> {
        self.metric(&format!(
            "photofinish_pulled_bytes_total{{route=\"{route}\"}}"
        ))
        .await
    }

    async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        crate::pulls::metric(&self.house, name).await
    }
}

/// A proxy that answers 404 whatever the worker does.
fn nowhere(addr: SocketAddr) -> String {
    format!("http://{addr}/nowhere/{{worker}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_come_by_the_exposed_port_in_little_memory() -> anyhow::Result<()> {
    let scene = Scene::open(2, "127.0.0.0/8", PATIENT).await?;
    scene.pull(0, noise(100_000, 1)).await?;
    let pid = scene.house.processes["photofinish-fetcher"].pid();
    let before = memory_peak(pid);
    scene.pull(1, noise(64 * MIB, 2)).await?;
    let growth = memory_peak(pid) - before;
    assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");
    assert_eq!(scene.bytes_by("direct").await?, 100_000 + 64 * MIB as u64);
    assert_eq!(scene.bytes_by("proxy").await?, 0);
    assert_eq!(
        scene
            .metric("photofinish_pulls_total{route=\"direct\"}")
            .await?,
        2
    );
    let by_proxy = scene.worker.seen(|seen| seen.calls_by_proxy);
    assert_eq!(by_proxy, 0, "greeting and acknowledging went directly, too");
    scene.complete().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_closed_or_hangs_costs_little_and_is_not_tried_again() -> anyhow::Result<()>
{
    for fault in [Fault::Refuse, Fault::Stall] {
        let scene = Scene::open(3, "127.0.0.0/8", HASTY).await?;
        scene.direct.set(fault);
        let begun = std::time::Instant::now();
        scene.pull(0, noise(MIB, 1)).await?;
        assert!(begun.elapsed() < Duration::from_secs(10), "{fault:?}");
        // It would answer now, and is left alone: the other route works.
        scene.direct.set(Fault::None);
        scene.pull(1, noise(MIB, 2)).await?;
        scene.pull(2, noise(MIB, 3)).await?;
        assert_eq!(scene.bytes_by("direct").await?, 0, "{fault:?}");
        assert_eq!(scene.bytes_by("proxy").await?, 3 * MIB as u64, "{fault:?}");
        assert_eq!(scene.tls.handshakes(), 0, "{fault:?}");
        scene.complete().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_goes_on_by_the_other_route_where_it_stood() -> anyhow::Result<()> {
    let scene = Scene::open(2, "127.0.0.0/8", PATIENT).await?;
    scene.pull(0, noise(1000, 1)).await?;
    assert_eq!(scene.bytes_by("direct").await?, 1000);
    scene.direct.set(Fault::CutAfter(3 * MIB as u64));
    scene.pull(1, noise(12 * MIB, 2)).await?;
    let direct = scene.bytes_by("direct").await? - 1000;
    let proxy = scene.bytes_by("proxy").await?;
    assert!(direct > 0 && proxy > 0, "{direct} and {proxy}");
    assert_eq!(direct + proxy, 12 * MIB as u64, "no byte came twice");
    let ranges = scene.worker.seen(|seen| seen.ranges_by_proxy.clone());
    assert_eq!(ranges, [direct], "it began where the other one broke");
    scene.complete().await
}

/// RunPod's proxy answers 404 for some workers: their port is the only way there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_cut_goes_on_where_it_stood_though_the_proxy_leads_nowhere()
-> anyhow::Result<()> {
    let scene = Scene::behind(1, "127.0.0.0/8", PATIENT, nowhere).await?;
    // No connection carries the whole of it.
    scene.direct.set(Fault::CutAfter(3 * MIB as u64));
    scene.pull(0, noise(8 * MIB, 1)).await?;
    assert_eq!(
        scene.bytes_by("direct").await?,
        8 * MIB as u64,
        "no byte came twice"
    );
    assert_eq!(scene.bytes_by("proxy").await?, 0);
    scene.complete().await
}

/// A worker that is not told lingers, at the price of a GPU.
#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_hangs_is_made_again_though_the_proxy_leads_nowhere()
-> anyhow::Result<()> {
    let scene = Scene::behind(1, "127.0.0.0/8", HASTY, nowhere).await?;
    scene.worker.hang_once();
    scene.pull(0, noise(1000, 1)).await?;
    scene.complete().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_hangs_goes_on_by_the_other_route_where_it_stood() -> anyhow::Result<()> {
    let scene = Scene::open(1, "127.0.0.0/8", HASTY).await?;
    // So slow that it is under way when it begins to hang.
    scene.direct.set(Fault::Delay(Duration::from_millis(40)));
    let hang = async {
        wait_for(SOON, "the transfer begins", || async {
            scene.worker.seen(|seen| seen.reads > 0).then_some(())
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(500)).await; // paced: some bytes are to pass
        scene.direct.set(Fault::Stall);
        anyhow::Ok(())
    };
    tokio::try_join!(scene.pull(0, noise(64 * MIB, 1)), hang)?;
    let direct = scene.bytes_by("direct").await?;
    let proxy = scene.bytes_by("proxy").await?;
    assert!(direct > 0 && proxy > 0, "{direct} and {proxy}");
    assert_eq!(direct + proxy, 64 * MIB as u64, "no byte came twice");
    scene.complete().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_with_another_certificate_gets_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::open(1, "127.0.0.0/8", PATIENT).await?;
    scene.worker.addresses[0].tls_sha256 = Some("5a".repeat(32));
    scene.pull(0, noise(MIB, 1)).await?;
    assert!(scene.tls.connections() > 0, "it was tried");
    assert_eq!(scene.tls.handshakes(), 0, "and nothing was said");
    assert_eq!(scene.bytes_by("proxy").await?, MIB as u64);
    scene.complete().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_allowed_is_never_connected_to() -> anyhow::Result<()> {
    let mut scene = Scene::open(1, "", PATIENT).await?;
    // A second one behind it is not better, and one without a certificate is nobody's.
    let mut mapped = scene.worker.addresses[0].clone();
    let port = scene.direct.addr().port();
    mapped.url = format!("https://[::ffff:127.0.0.1]:{port}");
    scene.worker.addresses.push(mapped);
    scene.worker.addresses.push(Address {
        url: format!("https://127.0.0.1:{port}"),
        tls_sha256: None,
    });
    scene.pull(0, noise(MIB, 1)).await?;
    assert_eq!(scene.tls.connections(), 0);
    assert_eq!(scene.bytes_by("proxy").await?, MIB as u64);
    let refused = "photofinish_direct_refused_total{reason=\"address\"}";
    assert_eq!(scene.metric(refused).await?, 2);
    scene.complete().await
}
