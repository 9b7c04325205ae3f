//! The order and the number of a worker's posts.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use photofinish_runpod::worker::{Job, JobContext, JobOutcome, Worker, WorkerEnv, WorkerSettings};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A server with one job, which keeps all posts. Progress takes `progress_delay`.
#[derive(Debug, Clone)]
struct Server {
    job: Arc<Mutex<Option<Value>>>,
    posts: Arc<Mutex<Vec<(Instant, Value)>>>,
    polls: Arc<Mutex<Vec<Instant>>>,
    progress_delay: Duration,
    progress_faults: Arc<Mutex<u32>>,
}

impl Server {
    fn new(progress_delay: Duration, progress_faults: u32) -> Self {
        let job = json!({"id": "j1", "input": {"a": 1}});
        Self {
            job: Arc::new(Mutex::new(Some(job))),
            posts: Arc::default(),
            polls: Arc::default(),
            progress_delay,
            progress_faults: Arc::new(Mutex::new(progress_faults)),
        }
    }

    #[expect(clippy::unused_async, reason = "handlers are async")]
    async fn take(State(server): State<Self>, headers: HeaderMap) -> Response {
        assert_eq!(headers["authorization"], "wkey");
        server.polls.lock().unwrap().push(Instant::now());
        let job = server.job.lock().unwrap().take();
        job.map_or_else(
            || StatusCode::NO_CONTENT.into_response(),
            |job| Json(job).into_response(),
        )
    }

    async fn done(
        State(server): State<Self>,
        Path((_, job)): Path<(String, String)>,
        headers: HeaderMap,
        body: String,
    ) -> StatusCode {
        assert_eq!(headers["x-request-id"], job.as_str());
        assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
        let body: Value = serde_json::from_str(&body).unwrap();
        if body["status"] == "IN_PROGRESS" {
            tokio::time::sleep(server.progress_delay).await; // paced: a slow server
            let mut faults = server.progress_faults.lock().unwrap();
            if *faults > 0 {
                *faults -= 1;
                return StatusCode::BAD_GATEWAY;
            }
        }
        server.posts.lock().unwrap().push((Instant::now(), body));
        StatusCode::OK
    }

    /// Runs a worker with this handler until the result is in.
    async fn serve<H: photofinish_runpod::worker::Handler>(
        &self,
        handler: H,
    ) -> Vec<(Instant, Value)> {
        let routes = Router::new()
            .route("/job-take/{worker}", get(Self::take))
            .route("/job-stop/{worker}", get(std::future::pending::<()>))
            .route("/job-done/{worker}/{job}", post(Self::done))
            .route("/ping/{worker}", get(|| async { "pong" }))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut side = JoinSet::new();
        side.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let env = WorkerEnv::from_map([
            (
                "RUNPOD_WEBHOOK_GET_JOB",
                format!("{base}/job-take/$ID?gpu=x"),
            ),
            (
                "RUNPOD_WEBHOOK_POST_OUTPUT",
                format!("{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=x"),
            ),
            (
                "RUNPOD_WEBHOOK_PING",
                format!("{base}/ping/$RUNPOD_POD_ID?gpu=x"),
            ),
            ("RUNPOD_AI_API_KEY", "wkey".to_owned()),
            ("RUNPOD_POD_ID", "w1".to_owned()),
        ])
        .unwrap();
        let settings = WorkerSettings {
            progress_interval_min: Duration::from_millis(100),
            ..WorkerSettings::default()
        };
        let worker = Worker::start(env, settings).unwrap();
        let shutdown = CancellationToken::new();
        let mut working = JoinSet::new();
        working.spawn(worker.run(handler, shutdown.clone()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self
            .posts
            .lock()
            .unwrap()
            .iter()
            .any(|(_, body)| body.get("status").is_none())
        {
            assert!(Instant::now() < deadline, "no result");
            tokio::time::sleep(Duration::from_millis(10)).await; // paced: between two looks
        }
        shutdown.cancel();
        working.join_next().await.unwrap().unwrap();
        self.posts.lock().unwrap().clone()
    }
}

async fn hundred_steps(_: Job, context: JobContext) -> JobOutcome {
    for step in 0..100 {
        context.progress.send(&json!(step));
        tokio::time::sleep(Duration::from_millis(10)).await; // paced: the work
    }
    let late = context.progress.clone();
    late.send(&json!("never seen"));
    JobOutcome::done(json!("result"))
}

#[tokio::test]
async fn progress_is_ordered_thinned_out_and_over_before_the_result() {
    let server = Server::new(Duration::from_millis(30), 0);
    let posts = server.serve(hundred_steps).await;
    let (last, progress) = posts.split_last().unwrap();
    assert_eq!(
        last.1,
        json!({"output": "result"}),
        "nothing comes after the result"
    );
    let steps: Vec<i64> = progress
        .iter()
        .filter_map(|(_, body)| body["output"].as_i64())
        .collect();
    assert!(steps.len() >= 3 && steps.len() <= 15, "{steps:?}");
    assert!(steps.is_sorted() && steps[0] == 0, "{steps:?}");
    for pair in progress.windows(2) {
        assert!(
            pair[1].0 - pair[0].0 >= Duration::from_millis(80),
            "{progress:?}"
        );
    }
}

#[tokio::test]
async fn the_newest_progress_is_sent_again_after_a_fault() {
    let server = Server::new(Duration::ZERO, 2);
    let once = |_: Job, context: JobContext| async move {
        context.progress.send(&json!("only"));
        tokio::time::sleep(Duration::from_millis(1500)).await; // paced: the work
        JobOutcome::done(json!(1))
    };
    let posts = server.serve(once).await;
    assert_eq!(
        posts[0].1,
        json!({"status": "IN_PROGRESS", "output": "only"})
    );
    assert_eq!(posts.len(), 2, "{posts:?}");
}

#[tokio::test]
async fn a_server_that_does_not_hold_polls_is_not_flooded() {
    let server = Server::new(Duration::ZERO, 0);
    let slow = |_: Job, _: JobContext| async { JobOutcome::done(json!(1)) };
    *server.job.lock().unwrap() = None;
    let late = Arc::clone(&server.job);
    let mut side = JoinSet::new();
    side.spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await; // paced: the idle time that is measured
        *late.lock().unwrap() = Some(json!([{"id": "j1", "input": {}}, {"input": {}}]));
    });
    server.serve(slow).await;
    let polls = server.polls.lock().unwrap().len();
    assert!(polls <= 30, "{polls} polls");
}
