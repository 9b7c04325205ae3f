//! The kit checked against the real servers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use photofinish_kit::{
    Answer, Fault, FaultProxy, Method, Process, ProcessSpec, Rabbit, RabbitNode, Receiver, Redis,
    RedisServer, S3, client, wait_until,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_virtual_host_is_fresh_and_goes_away() -> anyhow::Result<()> {
    let (one, two) = (Rabbit::fresh().await?, Rabbit::fresh().await?);
    assert_ne!(one.url(), two.url());
    let queue = format!("/api/queues/{}/work", one.vhost());
    one.call(Method::PUT, &queue, Some(json!({"durable": true})))
        .await?;
    assert_eq!(one.queues().await?[0]["name"], "work");
    assert!(two.queues().await?.is_empty());
    one.user("acme", "secret", ("^$", "^photofinish[.]jobs$", "^$"))
        .await?;
    assert!(
        one.url_as("acme", "secret")
            .starts_with("amqp://acme:secret@127.0.0.1:")
    );
    let path = format!("/api/vhosts/{}", one.vhost());
    drop(one);
    assert!(two.call(Method::GET, &path, None).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_node_of_ones_own_is_killed_and_comes_back() -> anyhow::Result<()> {
    let node = RabbitNode::start().await?;
    let host = node.vhost().await?;
    let queue = format!("/api/queues/{}/work", host.vhost());
    host.call(Method::PUT, &queue, Some(json!({"durable": true})))
        .await?;
    node.kill().await?;
    assert!(host.queues().await.is_err());
    node.restart().await?;
    wait_until(SOON, "the queue is back", || async {
        host.queues().await.is_ok_and(|queues| queues.len() == 1)
    })
    .await
}

#[tokio::test]
async fn redis_of_ones_own_survives_kill_9() -> anyhow::Result<()> {
    let mut server = RedisServer::start().await?;
    let addr = server.url().replace("redis://", "");
    let ask = |command: &str| -> anyhow::Result<String> {
        let mut socket = TcpStream::connect(&addr)?;
        socket.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    assert!(ask("SET job running")?.starts_with("+OK"));
    assert!(
        ask("WAITAOF 1 0 1000").is_ok() && ask("CONFIG SET appendfsync always")?.starts_with("+OK")
    );
    assert!(ask("SET job finished")?.starts_with("+OK"));
    server.kill();
    assert!(ask("GET job").is_err());
    server.restart().await?;
    assert!(ask("GET job")?.contains("finished"));
    assert_ne!(Redis::fresh()?.prefix, Redis::fresh()?.prefix);
    Ok(())
}

#[tokio::test]
async fn the_s3_server_checks_signatures_and_comes_back() -> anyhow::Result<()> {
    let mut server = S3::start().await?;
    let url = format!("{}/{}/x", server.endpoint(), server.bucket());
    assert_eq!(client()?.get(&url).send().await?.status(), 403);
    server.stop().await;
    assert!(client()?.get(&url).send().await.is_err());
    server.restart().await?;
    assert_eq!(client()?.get(&url).send().await?.status(), 403);
    let root = server.root().to_path_buf();
    assert!(root.join(server.bucket()).is_dir());
    drop(server);
    wait_until(SOON, "the directory is gone", || async { !root.exists() }).await
}

#[tokio::test]
async fn a_process_says_its_ports_and_never_stays_behind() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = ProcessSpec::service("photofinish-s3", dir.path())?
        .arg("--root")
        .arg(dir.path().join("buckets").display().to_string());
    let (process, ports) = Process::start_ready(spec.clone(), SOON).await?;
    let url = format!("http://{}/photofinish/x", ports["http"]);
    assert_eq!(client()?.get(&url).send().await?.status(), 403);
    assert!(process.terminate(SOON).await?.success());

    let (process, ports) = Process::start_ready(spec.clone(), SOON).await?;
    process.kill().await?;
    assert!(TcpStream::connect(ports["http"]).is_err());

    let (process, ports) = Process::start_ready(spec, SOON).await?;
    drop(process);
    assert!(TcpStream::connect(ports["http"]).is_err());
    Ok(())
}

#[tokio::test]
async fn a_process_that_ends_early_shows_its_log() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let spec = ProcessSpec::service("photofinish-s3", dir.path())?.arg("--nonsense");
    let told = Process::start_ready(spec, SOON)
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("--nonsense"), "{told}");
    Ok(())
}

#[tokio::test]
async fn the_proxy_delays_cuts_and_refuses() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    receiver.always(Answer {
        body: "x".repeat(100_000),
        ..Answer::default()
    });
    let proxy = FaultProxy::start(receiver.addr().to_string()).await?;
    let url = format!("http://{}/", proxy.addr());
    // A new client each time: faults count from the beginning of a connection.
    let get = || async {
        let request = client()?.get(&url).timeout(Duration::from_secs(2));
        anyhow::Ok(request.send().await?.bytes().await?)
    };
    assert_eq!(get().await?.len(), 100_000);

    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let begun = Instant::now();
    assert_eq!(get().await?.len(), 100_000);
    assert!(begun.elapsed() >= Duration::from_millis(200));

    for fault in [Fault::CutAfter(50_000), Fault::Stall, Fault::Refuse] {
        proxy.set(fault);
        assert!(get().await.is_err(), "{fault:?}");
    }
    proxy.set(Fault::None);
    assert_eq!(get().await?.len(), 100_000);
    Ok(())
}

#[tokio::test]
async fn the_receiver_stores_requests_and_follows_its_script() -> anyhow::Result<()> {
    let receiver = Receiver::start().await?;
    let busy = Answer {
        headers: vec![("retry-after".into(), "7".into())],
        ..Answer::status(503)
    };
    receiver.script([busy, Answer::status(410)]);
    let http = client()?;
    let post = || {
        http.post(receiver.url("/hook?a=1"))
            .header("x-a", "b")
            .json(&json!({"n": 1}))
            .send()
    };
    let first = post().await?;
    assert_eq!(
        (
            first.status().as_u16(),
            first.headers()["retry-after"].to_str()?
        ),
        (503, "7")
    );
    assert_eq!(post().await?.status(), 410);
    assert_eq!(post().await?.status(), 200);
    let received = receiver.wait(3, SOON).await?;
    assert_eq!(received[0].uri.to_string(), "/hook?a=1");
    assert_eq!(
        (received[0].header("x-a"), received[0].header("none")),
        ("b", "")
    );
    assert_eq!(received[2].json()?, json!({"n": 1}));
    Ok(())
}
