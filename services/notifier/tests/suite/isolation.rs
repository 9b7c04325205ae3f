//! Receivers that misbehave, and what others notice of it.

use crate::house::{House, SOON};
use photofinish_jobstore::{DeliveryFilter, DeliveryView};
use photofinish_kit::{Answer, Method, Receiver, wait_until};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_objects::WebhookEndpointRecord;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a receiver does to whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Takes the request and says nothing.
    Hangs,
    /// Sends its head a byte at a time.
    Drips,
    /// Sends its body so.
    DripsBody,
    /// Sends ten gigabytes.
    Endless,
    /// Sends headers without an end.
    EndlessHead,
    /// Sends what is no HTTP.
    Garbage,
}

#[derive(Debug, Default)]
struct Seen {
    calls: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    written: AtomicU64,
}

/// A receiver with bad manners, until the test is over.
struct Bad {
    addr: SocketAddr,
    seen: Arc<Seen>,
}

impl Bad {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own server ends with the test"
    )]
    async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let noted = noted.clone();
                tokio::spawn(async move {
                    let open = noted.open.fetch_add(1, Ordering::Relaxed) + 1;
                    noted.most.fetch_max(open, Ordering::Relaxed);
                    // It ends when the caller has enough.
                    let _ended = misbehave(socket, way, &noted).await;
                    noted.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { addr, seen }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }
}

async fn misbehave(mut socket: TcpStream, way: Way, seen: &Seen) -> std::io::Result<()> {
    let mut request = [0; 4096];
    if socket.read(&mut request).await? > 0 {
        seen.calls.fetch_add(1, Ordering::Relaxed);
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
    match way {
        Way::Hangs => while socket.read(&mut request).await? > 0 {},
        Way::Drips => drip(&mut socket, head.as_bytes()).await?,
        Way::DripsBody => {
            socket.write_all(head.as_bytes()).await?;
            drip(&mut socket, &[b'x'; 1000]).await?;
        }
        Way::Endless | Way::EndlessHead => {
            let piece = if way == Way::Endless {
                socket.write_all(head.as_bytes()).await?;
                "x".repeat(65_536)
            } else {
                socket.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                format!("x-{}: {}\r\n", "a".repeat(20), "b".repeat(2000))
            };
            loop {
                let written = socket.write(piece.as_bytes()).await?;
                seen.written.fetch_add(written as u64, Ordering::Relaxed);
            }
        }
        Way::Garbage => socket.write_all(b"hello, who is there?\r\n\r\n").await?,
    }
    Ok(())
}

async fn drip(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        socket.write_all(&[*byte]).await?;
        socket.flush().await?;
        tokio::time::sleep(Duration::from_millis(200)).await; // paced: a byte at a time
    }
    Ok(())
}

/// Ends so many jobs, and tells of them.
async fn jobs_end(house: &House, jobs: usize) {
    for _ in 0..jobs {
        let job = house.job(1, None).await;
        house.tell(&house.complete(&job).await).await;
    }
}

async fn deliveries(house: &House, endpoint: &str) -> Vec<DeliveryView> {
    let filter = DeliveryFilter {
        endpoint: Some(endpoint.to_owned()),
        ..DeliveryFilter::default()
    };
    let page = house.jobstore.deliveries(&house.tenant, &filter, 200, None);
    page.await.unwrap().rows
}

const JOBS: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(5);

/// What came of the calls of one with bad manners.
async fn got_no_more_than_its_share(house: &House, id: &str, way: Way, one: &Bad) {
    let what = format!("what {way:?} did is noted");
    wait_until(SOON, &what, || async {
        let all = deliveries(house, id).await;
        all.iter().any(|delivery| !delivery.attempts.is_empty())
    })
    .await
    .unwrap();
    let all = deliveries(house, id).await;
    let tried = all.iter().find_map(|delivery| delivery.attempts.first());
    let tried = tried.unwrap();
    let (most, calls) = (
        one.seen.most.load(Ordering::Relaxed),
        one.seen.calls.load(Ordering::Relaxed),
    );
    assert!(most <= 16, "{way:?}: {most} connections at once");
    let each = one.seen.written.load(Ordering::Relaxed) / calls.max(1) as u64;
    assert!(each < 16 * 1024 * 1024, "{way:?}: {each} bytes a call");
    match way {
        Way::Hangs | Way::Drips | Way::EndlessHead | Way::Garbage => {
            assert_eq!(tried.status_code, None, "{way:?}");
            assert!(
                tried.error.is_some() && tried.duration_ms < 7_000,
                "{way:?}"
            );
        }
        Way::DripsBody | Way::Endless => {
            assert_eq!(tried.status_code, Some(200), "{way:?}");
            assert!(tried.duration_ms < 4_000, "{way:?}: {}", tried.duration_ms);
            let kept = tried.response.as_ref().map_or(0, String::len);
            assert!(kept <= 1024, "{way:?}: {kept}");
        }
    }
}

#[tokio::test]
async fn whatever_a_receiver_does_the_others_get_theirs_before_it_is_given_up() {
    let house = House::open_with(&[
        ("notifier.delivery_timeout_s", "5"),
        ("notifier.deliver_concurrency", "64"),
        ("notifier.events_concurrency", "16"),
    ])
    .await;
    let mut bad = Vec::new();
    for (number, way) in [
        Way::Hangs,
        Way::Drips,
        Way::DripsBody,
        Way::Endless,
        Way::EndlessHead,
        Way::Garbage,
    ]
    .into_iter()
    .enumerate()
    {
        let (id, one) = (format!("whe_bad_{number}"), Bad::start(way).await);
        house.endpoint(&id, &one.url(), &[]).await;
        bad.push((id, way, one));
    }
    let (well, elsewhere) = (
        Receiver::start().await.unwrap(),
        Receiver::start().await.unwrap(),
    );
    let turning = Receiver::start().await.unwrap();
    turning.always(Answer {
        status: 307,
        headers: vec![("location".to_owned(), elsewhere.url("/"))],
        ..Answer::default()
    });
    house.endpoint("whe_turns", &turning.url("/"), &[]).await;
    house.endpoint("whe_well", &well.url("/"), &[]).await;
    let begun = Instant::now();
    jobs_end(&house, JOBS).await;
    well.wait(JOBS, SOON).await.unwrap();
    let took = begun.elapsed();
    assert!(took < TIMEOUT, "the others waited for {took:?}");

    for (id, way, one) in &bad {
        got_no_more_than_its_share(&house, id, *way, one).await;
    }
    assert!(turning.count() > 0 && elsewhere.count() == 0);
}

#[tokio::test]
async fn a_receiver_that_keeps_failing_is_left_alone_and_then_gets_everything() {
    let house = House::open_with(&[
        ("notifier.receivers.rest_min_s", "1"),
        ("notifier.receivers.rest_max_s", "2"),
    ])
    .await;
    let receiver = Receiver::start().await.unwrap();
    receiver.always(Answer::status(500));
    house.endpoint("whe_1", &receiver.url("/"), &[]).await;
    jobs_end(&house, 30).await;
    house.settled().await;
    let calls = receiver.count();
    assert!(
        (5..=14).contains(&calls),
        "{calls} calls of a receiver that fails"
    );
    receiver.always(Answer::default());
    let all = || async { deliveries(&house, "whe_1").await };
    wait_until(SOON * 3, "all are delivered", || async {
        let all = all().await;
        all.len() == 31
            && all
                .iter()
                .all(|delivery| delivery.status == DeliveryStatus::Delivered)
    })
    .await
    .unwrap();
    let tries: usize = all().await.iter().map(|one| one.attempts.len()).sum();
    assert_eq!(tries, receiver.count(), "only calls are tries");
    assert!(tries <= 31 + 20, "{tries} tries for 31 deliveries");
}

#[tokio::test]
async fn a_receiver_is_called_no_faster_than_its_rate() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    house
        .endpoint_with("whe_1", &receiver.url("/"), |record| {
            WebhookEndpointRecord {
                calls_per_s: Some(5),
                ..record
            }
        })
        .await;
    jobs_end(&house, 16).await;
    let received = receiver.wait(16, SOON).await.unwrap();
    let mut times: Vec<Instant> = received.iter().map(|one| one.at).collect();
    times.sort();
    let took = times[15] - times[0];
    assert!(took >= Duration::from_millis(1800), "16 calls in {took:?}");
    for (at, from) in times.iter().enumerate() {
        let within = times[at..]
            .iter()
            .filter(|one| **one - *from < Duration::from_secs(1));
        assert!(within.count() <= 11, "in a second");
    }
}

/// Takes the way from events to the queue of deliveries away.
async fn unbind(house: &House) {
    let all = house.rabbit.bindings().await.unwrap();
    let ours = all.iter().find(|one| {
        one["destination"] == "notifier.deliver" && one["source"] == "photofinish.pipeline"
    });
    let props = ours.expect("it is bound")["properties_key"]
        .as_str()
        .unwrap();
    let path = format!(
        "/api/bindings/{}/e/photofinish.pipeline/q/notifier.deliver/{props}",
        house.rabbit.vhost()
    );
    house
        .rabbit
        .call(Method::DELETE, &path, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_receiver_that_is_well_is_called_at_once_and_what_it_refuses_is_queued() {
    let (house, receiver) = (House::open().await, Receiver::start().await.unwrap());
    let url = receiver.url("/job");
    // The first one by the queue: nothing is known of the receiver.
    let first = house.job(1, Some(&url)).await;
    house.tell(&house.complete(&first).await).await;
    house.delivery(&first.job, DeliveryStatus::Delivered).await;
    unbind(&house).await;
    let second = house.job(1, Some(&url)).await;
    house.tell(&house.complete(&second).await).await;
    let done = house.delivery(&second.job, DeliveryStatus::Delivered).await;
    assert_eq!(done.attempts.len(), 1);
    // What is refused goes through the tiers, which need no binding.
    receiver.script([Answer {
        status: 503,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        ..Answer::default()
    }]);
    let third = house.job(1, Some(&url)).await;
    house.tell(&house.complete(&third).await).await;
    let done = house.delivery(&third.job, DeliveryStatus::Delivered).await;
    let tried = done.attempts.iter();
    let tried: Vec<_> = tried.map(|one| (one.number, one.status_code)).collect();
    assert_eq!(tried, [(1, Some(503)), (2, Some(200))]);
    let received = receiver.received();
    assert_eq!(received.len(), 4);
    let id = |at: usize| received[at].header("webhook-id");
    assert_eq!(id(2), id(3), "the same id on every attempt");
}

#[tokio::test]
async fn what_one_tenant_is_sent_does_not_keep_another_waiting() {
    let house = House::open_with(&[("notifier.deliver_concurrency", "16")]).await;
    let hangs = Bad::start(Way::Hangs).await;
    for number in 0..4 {
        let id = format!("whe_{number}");
        house.endpoint(&id, &hangs.url(), &[]).await;
    }
    // Four receivers that hang, and four times as many messages as there is room for.
    jobs_end(&house, 16).await;
    wait_until(SOON, "its share is used up", || async {
        hangs.seen.open.load(Ordering::Relaxed) >= 4
    })
    .await
    .unwrap();
    let receiver = Receiver::start().await.unwrap();
    let begun = Instant::now();
    house.job_ends_of("other", &receiver.url("/job")).await;
    receiver.wait(1, SOON).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "it waited for {took:?}");
    assert!(hangs.seen.most.load(Ordering::Relaxed) <= 4, "its share");
}

/// Longer than a receiver may take that is to be called at once.
const SLOW: Duration = Duration::from_secs(4);

#[tokio::test]
async fn receivers_that_answer_slowly_do_not_take_the_place_of_others() {
    let house = House::open_with(&[
        ("notifier.deliver_concurrency", "16"),
        ("notifier.events_concurrency", "16"),
    ])
    .await;
    let slow = Receiver::start().await.unwrap();
    slow.always(Answer {
        delay: SLOW,
        ..Answer::default()
    });
    // Of two tenants: each may hold half of all there is, were its receivers well.
    for number in 0..4 {
        let id = format!("whe_slow_{number}");
        house.endpoint(&id, &slow.url("/"), &[]).await;
    }
    for number in 0..16 {
        let url = slow.url(&format!("/{number}"));
        house.job_ends_of("second", &url).await;
        jobs_end(&house, 1).await;
    }
    wait_until(SOON, "each has answered", || async {
        let all = deliveries(&house, "whe_slow_0").await;
        all.iter()
            .any(|delivery| delivery.status == DeliveryStatus::Delivered)
    })
    .await
    .unwrap();
    let receiver = Receiver::start().await.unwrap();
    let begun = Instant::now();
    house.job_ends_of("third", &receiver.url("/job")).await;
    receiver.wait(1, SOON).await.unwrap();
    let took = begun.elapsed();
    assert!(took < SLOW, "it waited for {took:?}");
}
