//! The proxy to a worker's port.

use super::*;

/// A worker that is up, and the URL of its port through the proxy.
async fn up(bench: &Bench) -> (String, String) {
    let worker = bench.worker_in("idle").await;
    let (id, port) = (
        worker["id"].as_str().unwrap(),
        worker["port"].as_u64().unwrap(),
    );
    let url = bench.sim.proxy_template();
    (
        url.replace("{pod}", id)
            .replace("{port}", &port.to_string()),
        id.to_owned(),
    )
}

#[tokio::test]
async fn whole_bodies_ranges_heads_and_uploads_go_through() {
    let bench = Bench::start(&["--workers-min", "1"]).await;
    let (url, _) = up(&bench).await;
    let blob = format!("{url}/blob");
    let whole = bench.http.get(&blob).send().await.unwrap();
    assert_eq!(
        (whole.status().as_u16(), whole.content_length()),
        (200, Some(3_000_000))
    );
    let whole = whole.bytes().await.unwrap();
    let range = bench
        .http
        .get(&blob)
        .header("Range", "bytes=2999000-")
        .send()
        .await
        .unwrap();
    assert_eq!(range.status(), 206);
    assert_eq!(
        range.headers()["content-range"],
        "bytes 2999000-2999999/3000000"
    );
    assert_eq!(range.bytes().await.unwrap(), whole.slice(2_999_000..));
    let head = bench.http.head(&blob).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "3000000");
    let mirror = bench
        .http
        .delete(format!("{url}/mirror?a=b%20c"))
        .body(whole.clone())
        .send();
    assert_eq!(mirror.await.unwrap().bytes().await.unwrap(), whole);
    let missing = bench
        .http
        .get(format!("{url}/nothing"))
        .send()
        .await
        .unwrap();
    assert_eq!(missing.status(), 404);
    assert_eq!(bench.calls("proxy").await, 5);
    bench.sim.stop().await;
}

#[tokio::test]
async fn unknown_pods_cold_pods_and_slow_pods() {
    let flags = ["--workers-min", "1", "--proxy-timeout", "300ms"];
    let bench = Bench::start(&flags).await;
    let (url, id) = up(&bench).await;
    let status = async |url: String| bench.http.get(url).send().await.unwrap().status().as_u16();
    assert_eq!(status(format!("{url}/slow")).await, 524);
    assert_eq!(status(bench.url("/proxy/nobody-8000/hello")).await, 404);
    assert_eq!(
        status(bench.url(&format!("/proxy/{id}-1/hello"))).await,
        404
    );
    assert_eq!(status(format!("{url}/hello")).await, 200);
    assert_eq!(
        status(bench.url(&format!("/proxy/{id}-8000/hello"))).await,
        200
    );
    bench.sim.stop().await;
    let cold = Bench::start(&["--workers-min", "1", "--cold-start", "10m"]).await;
    let worker = cold.worker_in("initializing").await;
    let url = cold.url(&format!(
        "/proxy/{}-8000/hello",
        worker["id"].as_str().unwrap()
    ));
    assert_eq!(cold.http.get(url).send().await.unwrap().status(), 502);
    cold.sim.stop().await;
}
