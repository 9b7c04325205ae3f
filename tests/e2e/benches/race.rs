//! The race and the split, over the whole product with stand-in workers: what GPUs wait, what splitting gains, and how
//! often RunPod is called.
//!
//! | figure | what | goal |
//! |---|---|---|
//! | `split_speedup_equal` | one job of 200 and one of 300 items, on 1 worker / on 3, items of equal length | ≥ 2.9 |
//! | `split_speedup_unequal` | the same, lengths drawn from 1 to 10 s | ≥ 2.7 |
//! | `linger_share` | GPU seconds lingered / seconds of making, over a mixed run | ≤ 0.02 |
//! | `linger_p99_s` | of the same jobs, outputs up to 50 MB, with signals | ≤ 1 |
//! | `runpod_calls_per_job_vs_seed` | calls of RunPod's API for a one-part job / the old system's polling of the same job | ≤ 0.5 |

use std::time::{Duration, Instant};

use anyhow::Context as _;
use photofinish_contract::job::Job;
use photofinish_demo::jobs;
use photofinish_demo::stack::{Options, Stack};
use photofinish_demo::wiring::{ENDPOINT_ID, RunPod, Servers, Setting};
use photofinish_kit::measure::{Figure, Goal, record};
use photofinish_kit::{Rabbit, Redis, wait_for};
use serde_json::{Value, json};

/// A second of a clip takes a stand-in so long: a 50th of what it would take at 30 frames a second.
const SECONDS_PER_CLIP_SECOND: f64 = 0.02;
const FRAME_RATE: f64 = 30.0;
const EQUAL_CLIP_S: f64 = 5.0;
const SPLIT_ITEMS: [usize; 2] = [200, 300];
const MIXED_JOBS: usize = 48;
const MIXED_WORKERS: &str = "6";
const BYTES_MIN: f64 = 10_000.0;
const BYTES_MAX: f64 = 50_000_000.0;
/// Jobs whose calls are counted, each of this length on a worker of its own.
const CALLED_JOBS: usize = 6;
const CALLED_MS: u64 = 30_000;
const JOB_DEADLINE: Duration = Duration::from_mins(4);

/// The whole product, running.
struct Bed {
    stack: Stack,
    _rabbit: Rabbit,
}

impl Bed {
    async fn start(name: &str, workers: &str, jobs_in_flight: &str) -> anyhow::Result<Self> {
        let (rabbit, redis) = (Rabbit::fresh().await?, Redis::fresh()?);
        let per_frame = SECONDS_PER_CLIP_SECOND / FRAME_RATE;
        let runpod = RunPod::stand_in()
            .flag("--workers-max", workers)
            .flag("--workers-min", workers)
            .flag("--idle-timeout", "10m")
            .env("BATCH_SIZE", "1")
            .env("STAND_IN_SECONDS_PER_FRAME", per_frame.to_string());
        let mut stack = Stack::claim(Options {
            dir: photofinish_kit::root().join("target/bench").join(name),
            lasting: false,
            tenant: format!("{name}-{}", &rabbit.vhost()[2..10]),
            servers: Some(Servers {
                amqp_url: rabbit.url(),
                rabbitmq_api: rabbit.api().to_owned(),
                vhost: rabbit.vhost().to_owned(),
                redis_url: redis.url,
                redis_prefix: redis.prefix,
            }),
            settings: vec![Setting::new(
                "dispatcher",
                "runpod.workers_max",
                jobs_in_flight,
            )],
            runpod,
        })?;
        stack.start().await?;
        let bed = Self {
            stack,
            _rabbit: rabbit,
        };
        let wanted: usize = workers.parse()?;
        wait_for(JOB_DEADLINE, "the workers are up", || async {
            let state = bed.emulator().await.ok()?;
            let up = state["workers"].as_array()?.iter();
            (up.filter(|worker| worker["state"] == "idle").count() == wanted).then_some(())
        })
        .await?;
        Ok(bed)
    }

    async fn emulator(&self) -> anyhow::Result<Value> {
        let url = format!("{}/_sim/state", self.stack.wiring()?.runpod);
        Ok(self.stack.http().get(url).send().await?.json().await?)
    }

    /// Submits a job of clips of these lengths, each with the query that its stand-in reads; its id.
    async fn submit(&self, clips: &[(f64, String)]) -> anyhow::Result<String> {
        let images: Vec<_> = clips
            .iter()
            .enumerate()
            .map(|(place, (seconds, query))| {
                let url = format!("http://pictures.example/{place}?{query}");
                json!({"id": format!("item-{place}"), "image_url": url, "duracao": seconds})
            })
            .collect();
        let request = json!({"operation": "img2vid", "frame_rate": FRAME_RATE, "images": images});
        let wiring = self.stack.wiring()?;
        let call = self.stack.http().post(format!("{}/v1/jobs", wiring.ingest));
        let call = call.bearer_auth(&wiring.client.api_key).json(&request);
        let answer = call.send().await?.error_for_status()?;
        let job: Value = answer.json().await?;
        Ok(job["id"].as_str().context("a job has an id")?.to_owned())
    }

    /// Waits until its end is written down; asking ingest for hundreds of rows would cost more than the job.
    async fn end_of(&self, id: &str) -> anyhow::Result<Job> {
        let wiring = self.stack.wiring()?;
        let bucket = self.stack.dir().join("s3").join("photofinish");
        let manifest = bucket.join(format!("{}/{id}/manifest.json", wiring.client.tenant));
        wait_for(JOB_DEADLINE, "the job ends", || async {
            manifest.exists().then_some(())
        })
        .await?;
        let job = wait_for(JOB_DEADLINE, "the job is told to have ended", || async {
            let job = jobs::get(self.stack.http(), wiring, id).await.ok()?;
            job.status.is_final().then_some(job)
        });
        let job = job.await?;
        anyhow::ensure!(
            job.progress.items_done == job.progress.items_total,
            "{id} ended as {}",
            job.status.as_str()
        );
        Ok(job)
    }

    /// From the submission of a job to its end, in seconds.
    async fn timed(&self, clips: &[(f64, String)]) -> anyhow::Result<f64> {
        let began = Instant::now();
        let id = self.submit(clips).await?;
        self.end_of(&id).await?;
        Ok(began.elapsed().as_secs_f64())
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.stack.stop().await?;
        std::fs::remove_dir_all(self.stack.dir()).context("remove the bench's directory")
    }
}

/// Numbers from 0 to 1 that are the same in every run (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.next()
    }
}

fn equal(items: usize) -> Vec<(f64, String)> {
    vec![(EQUAL_CLIP_S, String::new()); items]
}

fn unequal(items: usize) -> Vec<(f64, String)> {
    let mut draw = Draw(7);
    let clip = |_| {
        (
            (draw.between(1.0, 10.0) * 10.0).round() / 10.0,
            String::new(),
        )
    };
    (0..items).map(clip).collect()
}

/// Seconds of the four jobs on so many workers.
async fn split(workers: &str) -> anyhow::Result<Vec<f64>> {
    let bed = Bed::start(&format!("split-{workers}"), workers, workers).await?;
    // What is done for the first time takes longer.
    bed.timed(&equal(3)).await?;
    let mut took = Vec::new();
    for clips in [equal, unequal] {
        for items in SPLIT_ITEMS {
            took.push(bed.timed(&clips(items)).await?);
        }
    }
    bed.end().await?;
    Ok(took)
}

async fn splits() -> anyhow::Result<[Figure; 2]> {
    let (one, three) = (split("1").await?, split("3").await?);
    let gains: Vec<_> = one
        .iter()
        .zip(&three)
        .map(|(one, three)| one / three)
        .collect();
    let said = |from: usize| {
        let pairs = (from..from + 2).map(|at| {
            let items = SPLIT_ITEMS[at - from];
            format!(
                "{items}: {:.2} s / {:.2} s = {:.3}",
                one[at], three[at], gains[at]
            )
        });
        pairs.collect::<Vec<_>>().join(", ")
    };
    let figure = |name, from: usize, least, lengths: &str| Figure {
        name,
        value: gains[from].min(gains[from + 1]),
        unit: "x",
        goal: Goal::AtLeast(least),
        against: format!(
            "the smaller of two: a job of so many items, submit to end, on 1 worker / on 3, 3 parts, one item at a \
             time, {lengths}, a second scaled to 20 ms of a stand-in's making, workers up: {}",
            said(from)
        ),
    };
    Ok([
        figure("split_speedup_equal", 0, 2.9, "clips of 5 s"),
        figure(
            "split_speedup_unequal",
            2,
            2.7,
            "clips of 1 to 10 s, one seed",
        ),
    ])
}

async fn lingers() -> anyhow::Result<[Figure; 2]> {
    let bed = Bed::start("linger", MIXED_WORKERS, MIXED_WORKERS).await?;
    let mut draw = Draw(11);
    let mut ids = Vec::new();
    for _ in 0..MIXED_JOBS {
        let items = draw.between(1.0, 7.0) as usize;
        let clips: Vec<_> = (0..items)
            .map(|_| {
                let bytes = (draw.between(BYTES_MIN.ln(), BYTES_MAX.ln()).exp()) as u64;
                let takes = draw.between(500.0, 3000.0) as u64;
                (2.0, format!("bytes={bytes}&ms={takes}"))
            })
            .collect();
        ids.push(bed.submit(&clips).await?);
    }
    let (mut lingered, mut gpu) = (Vec::new(), 0.0);
    for id in &ids {
        let job = bed.end_of(id).await?;
        anyhow::ensure!(job.usage.attempts == 1, "{id} took more than one attempt");
        lingered.push(job.usage.linger_s);
        gpu += job.usage.gpu_seconds;
    }
    bed.end().await?;
    lingered.sort_by(f64::total_cmp);
    let sum: f64 = lingered.iter().sum();
    let p99 = lingered[(MIXED_JOBS * 99).div_ceil(100) - 1];
    let about = format!(
        "{MIXED_JOBS} one-part jobs of 1 to 6 items on {MIXED_WORKERS} workers, each item 0.5 to 3 s of making and 10 kB \
         to 50 MB (log-uniform), signals on: {sum:.2} s lingered, {gpu:.1} s of GPU"
    );
    let figure = |name, value, unit, most| Figure {
        name,
        value,
        unit,
        goal: Goal::AtMost(most),
        against: about.clone(),
    };
    Ok([
        figure("linger_share", sum / (gpu - sum), "x", 0.02),
        figure("linger_p99_s", p99, "s", 1.0),
    ])
}

/// All calls of RunPod's client API that the emulator has counted.
fn calls(state: &Value) -> u64 {
    let counted = [
        "run",
        "runsync",
        "status",
        "status-sync",
        "cancel",
        "retry",
        "health",
        "requests",
    ];
    let of = |name: &str| state["calls"][name].as_u64().unwrap_or(0);
    counted.into_iter().map(of).sum()
}

/// Asks for a job as the old system does, until it has ended: at once, then after 3, 4.5, 6.75 s, then every 8 s.
async fn poll_as_of_old(http: &reqwest::Client, url: &str, key: &str) -> anyhow::Result<u64> {
    let mut wait = 2000.0_f64;
    for polls in 1..=60 {
        let answer = http.get(url).bearer_auth(key).send().await?;
        let job: Value = answer.json().await?;
        let status = job["status"].as_str().unwrap_or_default();
        if !["IN_QUEUE", "IN_PROGRESS"].contains(&status) {
            return Ok(polls);
        }
        wait = (wait * 1.5).min(8000.0);
        tokio::time::sleep(Duration::from_millis(wait as u64)).await; // paced: it is the rhythm that is compared
    }
    anyhow::bail!("the old system would have given up")
}

async fn called() -> anyhow::Result<Figure> {
    let workers = CALLED_JOBS.to_string();
    let bed = Bed::start("calls", &workers, &workers).await?;
    let (http, wiring) = (bed.stack.http(), bed.stack.wiring()?);
    let before = calls(&bed.emulator().await?);
    let mut ids = Vec::new();
    for _ in 0..CALLED_JOBS {
        ids.push(bed.submit(&[(2.0, format!("ms={CALLED_MS}"))]).await?);
    }
    let runs = wait_for(JOB_DEADLINE, "all are submitted", || async {
        let state = bed.emulator().await.ok()?;
        let runs = state["jobs"].as_array()?.clone();
        (runs.len() == CALLED_JOBS).then_some(runs)
    })
    .await?;
    let polls = runs.iter().filter_map(|run| run["id"].as_str()).map(|run| {
        let url = format!("{}/v2/{ENDPOINT_ID}/status/{run}", wiring.runpod);
        let key = &wiring.secrets.runpod_key;
        async move { poll_as_of_old(http, &url, key).await }
    });
    let polls: u64 = futures_util::future::try_join_all(polls)
        .await?
        .iter()
        .sum();
    for id in &ids {
        bed.end_of(id).await?;
    }
    let all = calls(&bed.emulator().await?) - before;
    bed.end().await?;
    let jobs = CALLED_JOBS as u64;
    let (ours, old) = ((all - polls) as f64, (polls + jobs) as f64);
    Ok(Figure {
        name: "runpod_calls_per_job_vs_seed",
        value: ours / old,
        unit: "x",
        goal: Goal::AtMost(0.5),
        against: format!(
            "{jobs} one-part jobs of {} s at once, signals on: run, status, cancel and health, {:.2} a job; the old \
             system's submit and polls of the same jobs: {:.2} a job",
            CALLED_MS / 1000,
            ours / jobs as f64,
            old / jobs as f64
        ),
    })
}

fn main() -> anyhow::Result<()> {
    photofinish_kit::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        record(&[called().await?])?;
        record(&lingers().await?)?;
        record(&splits().await?)
    })
}
