//! Workers' ports by TCP, from outside.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// A worker that is up and answers on its port, and the port of ours that leads there.
async fn up(bench: &Bench) -> u16 {
    let worker = bench.worker_in("idle").await;
    let port = u16::try_from(worker["tcpPort"].as_u64().unwrap()).unwrap();
    assert_ne!(worker["port"], worker["tcpPort"]);
    wait_for("the worker's server", async || {
        let hello = bench.http.get(format!("http://127.0.0.1:{port}/hello"));
        hello
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)
    })
    .await;
    port
}

/// All bytes until the end of the connection.
async fn ask(port: u16, path: &str) -> Vec<u8> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    // A cut may show as an error.
    drop(tcp.read_to_end(&mut all).await);
    all
}

#[tokio::test]
async fn raw_tcp_leads_to_the_workers_port_and_ends_with_it() {
    let bench = Bench::start(&["--workers-min", "1", "--workers-max", "1"]).await;
    let port = up(&bench).await;
    let answer = ask(port, "/blob").await;
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > 3_000_000);
    let workers = bench.sim.workers("ep-sim");
    bench.signal(&workers[0].id, "KILL").await;
    wait_for("a refused connection", async || {
        TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
            .then_some(())
    })
    .await;
    bench.sim.stop().await;
}

#[tokio::test]
async fn workers_are_told_where_tcp_reaches_them() {
    let bench = Bench::start(&["--workers-min", "1", "--workers-max", "1"]).await;
    let port = up(&bench).await;
    let worker = bench.worker_in("idle").await;
    let id = bench.submit(json!({"env": "RUNPOD_"})).await;
    let output = bench.ended(&id).await.output.unwrap();
    let own = format!("RUNPOD_TCP_PORT_{}", worker["port"]);
    assert_eq!(output["env"]["RUNPOD_PUBLIC_IP"], "127.0.0.1");
    assert_eq!(
        output["env"]["RUNPOD_TCP_PORT_8000"],
        json!(port.to_string())
    );
    assert_eq!(output["env"][own], json!(port.to_string()));
    bench.sim.stop().await;
    let bench = Bench::start(&["--workers-min", "1", "--tcp-ports", "off"]).await;
    let id = bench.submit(json!({"env": "RUNPOD_"})).await;
    let output = bench.ended(&id).await.output.unwrap();
    assert!(output["env"]["RUNPOD_POD_ID"].is_string());
    assert!(output["env"]["RUNPOD_PUBLIC_IP"].is_null());
    bench.sim.stop().await;
}

#[tokio::test]
async fn tcp_is_cut_after_so_many_bytes_before_the_first_or_never_answers() {
    let bench = Bench::start(&["--workers-min", "1"]).await;
    let port = up(&bench).await;
    bench
        .fault(json!({"operation": "tcp", "cut_after_bytes": 100_000}))
        .await;
    assert_eq!(ask(port, "/blob").await.len(), 100_000);
    bench
        .fault(json!({"operation": "tcp", "cut": "before"}))
        .await;
    assert_eq!(ask(port, "/blob").await.len(), 0);
    bench.fault(json!({"operation": "tcp", "hang": true})).await;
    let hanging = tokio::time::timeout(Duration::from_millis(300), ask(port, "/hello"));
    assert!(hanging.await.is_err());
    assert!(
        ask(port, "/blob").await.len() > 3_000_000,
        "and then all is well"
    );
    bench.sim.stop().await;
}
