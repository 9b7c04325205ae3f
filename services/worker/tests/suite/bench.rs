//! A worker in this process, and whole attempts run on it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use photofinish_contract::announcement::{Announcement, ReadyOutput};
use photofinish_contract::attempt_input::{AttemptInput, PictureItem, RescueTarget, Work};
use photofinish_contract::request::{Fit, Motion};
use photofinish_kit::wait_for;
use photofinish_model::{AttemptRef, ItemIndex, JobId, Nonce};
use photofinish_runtime::Context;
use photofinish_worker::attempt::directories::Roots;
use photofinish_worker::attempt::registry::Registry;
use photofinish_worker::attempt::rescue::OwnClient;
use photofinish_worker::attempt::{Attempts, Taken};
use photofinish_worker::inbound::door::{Door, Limits};
use photofinish_worker::inbound::outputs;
use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::support::{Server, detailed, png, studio};

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A worker in this process with its output server, and servers for inputs and pushes.
pub(crate) struct Bench {
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) inputs: Server,
    pub(crate) base: String,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) http: reqwest::Client,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let studio = studio();
        let context = Context::detached("worker");
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::default();
        let listener = context.ports.listen("http", "127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let routes = outputs::router(registry.clone());
        Door::new(routes, None, Limits::default()).serve(&context.tasks, listener);
        let (work, output) = (dir.path().join("work"), dir.path().join("output"));
        let attempts = Attempts {
            maker: Arc::new(studio),
            registry,
            roots: Roots::new(&work, &output, "boot").unwrap(),
            client: OwnClient::new().unwrap(),
            boot: "boot".to_owned(),
            addresses: Vec::new(),
            tasks: context.tasks.clone(),
        };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            attempts: Arc::new(attempts),
            inputs: Server::start().await,
            base,
            dir,
            http,
        }
    }

    /// An attempt over the pictures `names`; the names that have no file will fail.
    pub(crate) fn input(&self, names: &[&str]) -> AttemptInput {
        let item = |(index, name): (ItemIndex, &&str)| PictureItem {
            index,
            item: (*name).to_owned(),
            image_url: self.inputs.url(name),
            frames: 10,
            motion: Motion::PanUp,
        };
        let indices = (0..).take(names.len());
        AttemptInput {
            photofinish: 1,
            attempt: AttemptRef {
                tenant: "acme".parse().unwrap(),
                job: JobId::from_random(1),
                run: 1,
                part: 0,
                attempt: 1,
                nonce: Nonce::from_random(7),
            },
            work: Work::Img2vid {
                frame_rate: 10.0,
                width: 160,
                height: 90,
                fit: Fit::Cover,
                items: (0..).zip(names).map(item).collect(),
            },
            output_token: "secret".to_owned(),
            signal_url: None,
            budget_s: 600.0,
            linger_s: 60.0,
            first_contact_s: 60.0,
            rescue_reserve_s: 60.0,
            rescue: indices
                .map(|index| RescueTarget {
                    index,
                    put_url: self.inputs.url(&format!("rescue-{index}")),
                })
                .collect(),
            report_put_url: self.inputs.url("report"),
            traceparent: None,
            tracestate: None,
        }
    }

    /// Starts an attempt; what it announces is kept.
    pub(crate) fn run(&self, input: AttemptInput) -> Run {
        let taken = Taken {
            run_id: "run-1".to_owned(),
            worker_id: "pod".to_owned(),
            since: Instant::now(),
            cancelled: CancellationToken::new(),
            stopping: CancellationToken::new(),
        };
        let told: Arc<Mutex<Vec<Announcement>>> = Arc::default();
        let (attempts, given, kept) = (self.attempts.clone(), taken.clone(), told.clone());
        let done = tokio::spawn(async move {
            let progress = move |news: &Announcement| kept.lock().unwrap().push(news.clone());
            attempts.run(&input, &given, progress).await.unwrap()
        });
        Run { taken, told, done }
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("{}/attempts/{}{rest}", self.base, Nonce::from_random(7))
    }

    pub(crate) fn get(&self, rest: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(rest)).bearer_auth("secret")
    }

    pub(crate) async fn fetch(&self, output: &ReadyOutput) {
        let rest = format!("/outputs/{}", output.name);
        let answer = self.get(&rest).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let bytes = answer.bytes().await.unwrap();
        assert_eq!(hex::encode(Sha256::digest(&bytes)), output.sha256);
        assert_eq!(bytes.len() as u64, output.bytes);
        let delete = || {
            self.http
                .delete(self.url(&rest))
                .bearer_auth("secret")
                .send()
        };
        assert_eq!(delete().await.unwrap().status(), StatusCode::NO_CONTENT);
        // The last acknowledgement ends the attempt, and nothing answers for it any more.
        let again = delete().await.unwrap().status();
        assert!(again == StatusCode::NO_CONTENT || again == StatusCode::NOT_FOUND);
        let after = self.get(&rest).send().await.unwrap().status();
        assert!(after == StatusCode::GONE || after == StatusCode::NOT_FOUND);
    }

    pub(crate) fn nothing_left(&self) {
        for part in ["work", "output"] {
            let home = format!("{part}/boot-{part}.worker");
            let left = std::fs::read_dir(self.dir.path().join(home))
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            assert_eq!(left.collect::<Vec<_>>(), ["lock"], "{part}");
        }
    }

    pub(crate) fn picture(&self, name: &str) {
        self.inputs.put(name, png(&detailed(320, 200)));
    }
}

pub(crate) struct Run {
    pub(crate) taken: Taken,
    pub(crate) told: Arc<Mutex<Vec<Announcement>>>,
    pub(crate) done: tokio::task::JoinHandle<Option<Announcement>>,
}

impl Run {
    pub(crate) async fn outputs(&self, count: usize) -> Vec<ReadyOutput> {
        wait_for(SOON, "outputs", || async {
            let told = self.told.lock().unwrap();
            let newest = told.last()?.outputs.clone();
            (newest.len() >= count).then_some(newest)
        })
        .await
        .unwrap()
    }

    pub(crate) async fn ended(self) -> Option<Announcement> {
        tokio::time::timeout(SOON, self.done)
            .await
            .expect("the attempt ends")
            .unwrap()
    }
}
