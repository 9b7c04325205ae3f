//! Outputs by the worker's exposed TCP port, end to end: real worker, real fetcher, real TLS.

use photofinish_demo::checks::{Report, check_job};
use photofinish_demo::jobs::{self, Door};
use photofinish_demo::wiring::Setting;
use photofinish_e2e::{PAINTED, Site};
use serde_json::json;

/// Pulls that ended by a route, as the fetcher counts them.
async fn pulls(site: &Site, route: &str) -> anyhow::Result<u64> {
    let url = format!("{}/metrics", site.stack.wiring()?.admin["fetcher"]);
    let text = site.stack.http().get(url).send().await?.text().await?;
    let name = format!("photofinish_pulls_total{{route=\"{route}\"}}");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    Ok(line
        .map(|value| value.trim().parse())
        .transpose()?
        .unwrap_or(0))
}

async fn one_job(site: &Site) -> anyhow::Result<()> {
    let (files, hook) = (site.files.url(), site.ear.url());
    let mut ask = jobs::img2vid("direct", Door::Http, (4, PAINTED), &files, &hook);
    ask.request["width"] = json!(128);
    ask.request["height"] = json!(72);
    for image in 0..4 {
        ask.request["images"][image]["duracao"] = json!(0.5);
    }
    ask.expected.size = (128, 72);
    ask.expected.frames = 6;
    ask.expected.video_s = 0.5;
    let finished = site.run(vec![ask]).await?;
    let mut report = Report::default();
    check_job(&site.stack, &site.ear, &finished[0], &mut report).await?;
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_come_by_the_exposed_port_where_there_is_one() -> anyhow::Result<()> {
    // A busy machine is not to be taken for a port that hangs.
    let patient = Setting::new("fetcher", "fetcher.direct_connect_timeout_s", "20");
    let site = Site::start("direct", vec![patient]).await?;
    one_job(&site).await?;
    assert_eq!(pulls(&site, "direct").await?, 4);
    assert_eq!(pulls(&site, "proxy").await?, 0);
    site.end().await
}

/// The same, where the worker's network may not be called: the proxy is as good.
#[tokio::test(flavor = "multi_thread")]
async fn outputs_come_by_the_proxy_where_the_port_may_not_be_called() -> anyhow::Result<()> {
    let nowhere = Setting::new("fetcher", "outbound.workers.allow", "192.0.2.0/24");
    let site = Site::start("proxied", vec![nowhere]).await?;
    one_job(&site).await?;
    assert_eq!(pulls(&site, "direct").await?, 0);
    assert_eq!(pulls(&site, "proxy").await?, 4);
    site.end().await
}
