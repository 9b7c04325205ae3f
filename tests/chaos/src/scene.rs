//! A stage with a victim, and a job in the middle of which it is killed.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use photofinish_contract::job::Job;
use photofinish_demo::jobs::{self, Ask, Door, Submitted};
use photofinish_demo::samples::{self, Samples};
use photofinish_demo::wiring::RunPod;
use photofinish_kit::Answer;
use serde_json::json;

use crate::{Setup, Shelf, Stage};

/// Pictures of the job, each of which becomes one output.
pub const PICTURES: u32 = 12;

/// Pictures that are painted; the job uses them again and again.
const PAINTED: u32 = 3;
/// Every job with more items is split, in two: several workers are at work.
const SPLIT_OVER: &str = "4";
const PARTS: &str = "2";
/// The last pictures of each part are held back until after the fault.
const HELD: [usize; 4] = [4, 5, 10, 11];
/// Length of a clip.
const CLIP_S: f64 = 2.0;
/// The receiver takes so long to answer before the notifier is killed: deliveries are under way then.
const SLOW_RECEIVER: Duration = Duration::from_secs(12);

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// One of the four services.
    Service(&'static str),
    /// A worker that has an attempt; it renders, so its ffmpeg is to go with it.
    Worker,
    /// The broker.
    RabbitMq,
    /// Redis; its append-only file stays.
    Redis,
}

impl Victim {
    /// For names of directories and tenants.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service(name) => name,
            Self::Worker => "worker",
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
        }
    }
}

/// The whole product, running, with one victim.
#[derive(Debug)]
pub struct Scene {
    /// All that runs.
    pub stage: Stage,
    victim: Victim,
    pictures: Option<Pictures>,
}

/// What workers that render fetch.
#[derive(Debug)]
struct Pictures {
    shelf: Shelf,
    _samples: tempfile::TempDir,
}

impl Pictures {
    async fn paint() -> anyhow::Result<Self> {
        let samples = tempfile::tempdir().context("make a directory for the samples")?;
        let made = Samples::make(samples.path(), PAINTED).await?;
        Ok(Self {
            shelf: Shelf::start(made.dir).await?,
            _samples: samples,
        })
    }
}

impl Scene {
    /// Starts everything.
    pub async fn set(victim: Victim) -> anyhow::Result<Self> {
        let renders = victim == Victim::Worker;
        let setup = Setup {
            own_broker: victim == Victim::RabbitMq,
            runpod: if renders {
                RunPod::default()
            } else {
                RunPod::stand_in()
            },
            ..Setup::stand_in(victim.name())
        };
        let stage = Stage::set(setup.split(SPLIT_OVER, PARTS)).await?;
        if victim == Victim::Service("notifier") {
            stage.receiver.always(Answer {
                delay: SLOW_RECEIVER,
                ..Answer::default()
            });
        }
        let pictures = if renders {
            Some(Pictures::paint().await?)
        } else {
            None
        };
        Ok(Self {
            stage,
            victim,
            pictures,
        })
    }

    /// Submits the job.
    pub async fn submit(&self) -> anyhow::Result<Submitted> {
        let ask = if let Some(pictures) = &self.pictures {
            self.clips(&pictures.shelf)
        } else {
            let held = |place| {
                if HELD.contains(&place) {
                    "held"
                } else {
                    "ms=20"
                }
            };
            let queries: Vec<_> = (0..PICTURES as usize).map(held).collect();
            self.stage.ask("job", &queries)
        };
        self.stage.submit(ask).await
    }

    fn clips(&self, shelf: &Shelf) -> Ask {
        let (files, hook) = (shelf.url(), self.stage.receiver.url("/hooks"));
        let mut ask = jobs::img2vid("job", Door::Http, (PICTURES, PAINTED), &files, &hook);
        for (place, image) in (0..PICTURES as usize).zip(1_u32..) {
            let picture = &mut ask.request["images"][place];
            picture["duracao"] = json!(CLIP_S);
            if HELD.contains(&place) {
                let name = samples::picture_name(image % PAINTED);
                picture["image_url"] = json!(format!("{files}/pictures/{name}?held"));
            }
        }
        ask.expected.frames *= CLIP_S as u64;
        ask.expected.video_s = CLIP_S;
        ask
    }

    /// Waits until an output is stored; others cannot be, since they are held back.
    pub async fn middle(&self, job: &Submitted) -> anyhow::Result<()> {
        self.stage.stored_at_least(job, 1).await?;
        self.is_middle(job)
    }

    /// An error unless at least one output is stored and at least one is not.
    pub fn is_middle(&self, job: &Submitted) -> anyhow::Result<()> {
        let stored: BTreeSet<_> = self.stage.stored(job)?;
        let (stored, all) = (stored.len(), PICTURES as usize);
        let open = match &self.pictures {
            Some(pictures) => pictures.shelf.is_open(),
            None => self.stage.is_open(),
        };
        anyhow::ensure!(
            stored >= 1 && stored < all && !open,
            "not the middle: {stored} of {all} outputs are stored"
        );
        Ok(())
    }

    /// kill -9, with nothing tidied up.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        match self.victim {
            Victim::Service(name) => self.stage.stack.kill_service(name).await,
            Victim::Worker => self.stage.emulator()?.kill_busy().await,
            Victim::RabbitMq => {
                let node = self.stage.node.as_ref().context("a node of its own")?;
                node.kill().await
            }
            Victim::Redis => {
                self.stage.redis.kill();
                Ok(())
            }
        }
    }

    /// The job goes on as far as it can without the victim; then the victim is started again as it was.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        self.stage.receiver.always(Answer::default());
        match &self.pictures {
            Some(pictures) => pictures.shelf.open(),
            None => self.stage.open()?,
        }
        match self.victim {
            Victim::Service(name) => self.stage.stack.restart_service(name).await,
            // RunPod starts another by itself.
            Victim::Worker => Ok(()),
            Victim::RabbitMq => {
                let node = self.stage.node.as_ref().context("a node of its own")?;
                node.restart().await?;
                self.stage.stack.wait_ready().await
            }
            Victim::Redis => {
                self.stage.redis.restart().await?;
                self.stage.stack.wait_ready().await
            }
        }
    }

    /// Waits for the end of the job, as its client sees it.
    pub async fn follow(&self, job: &Submitted) -> anyhow::Result<Job> {
        self.stage.follow(self.stage.stack.wiring()?, job).await
    }
}
