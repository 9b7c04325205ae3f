//! Many items, and two tenants.

use std::collections::BTreeMap;
use std::time::Duration;

use photofinish_chaos::{Setup, Stage, laws};
use photofinish_demo::jobs::{self, Submitted};
use photofinish_demo::wiring::Wiring;
use photofinish_kit::wait_for;
use photofinish_stand_in::diary::Word;
use serde_json::{Value, json};

const ITEMS: usize = 1000;
/// Of the tenant who asks for much, so long that a part holds few of them.
const FLOOD: usize = 240;
const FLOOD_CLIP_S: f64 = 60.0;
const SOON: Duration = Duration::from_secs(60);

/// Two tenants side by side, then a thousand items over three workers.
#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_do_not_wait_for_each_other_and_a_thousand_items_come_whole_and_in_order()
-> anyhow::Result<()> {
    let mut setup = Setup::stand_in("thousand");
    // One item after the other, so that a part takes its time.
    setup.runpod = setup.runpod.env("BATCH_SIZE", "1");
    let stage = Stage::set(setup).await?;
    two_tenants(&stage).await?;
    a_thousand(&stage).await?;
    laws::quiet(&stage).await?;
    stage.end().await
}

async fn two_tenants(stage: &Stage) -> anyhow::Result<()> {
    let http = stage.stack.http();
    let (one, other) = (stage.stack.wiring()?, &stage.tenant("other").await?);
    let mut ask = stage.ask("flood", &["ms=60"; FLOOD]);
    ask.request["frame_rate"] = json!(30);
    (ask.request["width"], ask.request["height"]) = (json!(1920), json!(1080));
    for image in ask.request["images"].as_array_mut().into_iter().flatten() {
        image["duracao"] = json!(FLOOD_CLIP_S);
    }
    let flood = stage.submit(ask).await?;
    stage.stored_at_least(&flood, 1).await?;
    let small = jobs::submit(http, other, stage.ask("small", &["ms=25"; 2])).await?;
    let small_ended = stage.follow(other, &small).await?;
    let flooding = jobs::get(http, one, &flood.id).await?;
    let done = flooding.progress.items_done as usize;
    assert!(
        !flooding.status.is_final() && done < FLOOD * 3 / 4,
        "the small job of the other tenant waited for {done} of {FLOOD}"
    );
    // Each sees its own and nothing else.
    assert_eq!(ids(stage, one).await?, [flood.id.as_str()]);
    assert_eq!(ids(stage, other).await?, [small.id.as_str()]);
    for (wiring, stranger) in [(one, &small), (other, &flood)] {
        let url = format!("{}/v1/jobs/{}", wiring.ingest, stranger.id);
        for path in ["", "/outputs"] {
            let call = http.get(format!("{url}{path}"));
            let answer = call.bearer_auth(&wiring.client.api_key).send().await?;
            assert_eq!(answer.status(), 404, "{path} of a stranger's job");
        }
    }
    let ended = stage.follow(one, &flood).await?;
    laws::completed(stage, one, &flood, &ended).await?;
    laws::completed(stage, other, &small, &small_ended).await?;
    laws::billed(stage, &flood, |_| 1)?;
    laws::billed(stage, &small, |_| 1)
}

/// The ids of a tenant's jobs, once there is one.
async fn ids(stage: &Stage, wiring: &Wiring) -> anyhow::Result<Vec<String>> {
    let http = stage.stack.http();
    wait_for(SOON, "the list has a job", || async {
        let call = http.get(format!("{}/v1/jobs", wiring.ingest));
        let answer = call.bearer_auth(&wiring.client.api_key).send().await.ok()?;
        let list: Value = answer.json().await.ok()?;
        let rows = list["data"].as_array()?;
        let ids = rows
            .iter()
            .filter_map(|job| job["id"].as_str().map(str::to_owned));
        let ids: Vec<_> = ids.collect();
        (!ids.is_empty()).then_some(ids)
    })
    .await
}

async fn a_thousand(stage: &Stage) -> anyhow::Result<()> {
    let (http, wiring) = (stage.stack.http(), stage.stack.wiring()?);
    let runs = stage.emulator()?.calls("run").await?;
    let job = stage.submit(stage.ask("thousand", &[""; ITEMS])).await?;
    let ended = stage.follow(wiring, &job).await?;
    laws::completed(stage, wiring, &job, &ended).await?;
    laws::billed(stage, &job, |_| 1)?;
    assert_eq!(ended.progress.items_done as usize, ITEMS);
    assert_eq!(stage.stored(&job)?.len(), ITEMS, "each is stored once");
    assert_eq!(ended.usage.parts, 3);
    assert_eq!(stage.emulator()?.calls("run").await?, runs + 3);
    // Three parts of equal work, each on a worker of its own.
    let mut workers: BTreeMap<u32, (String, usize)> = BTreeMap::new();
    for line in stage.diary(&job)? {
        if line.word == Word::Made {
            let (nonce, made) = workers.entry(line.pid).or_default();
            assert!(
                nonce.is_empty() || *nonce == line.nonce,
                "a worker did two parts"
            );
            *nonce = line.nonce;
            *made += 1;
        }
    }
    let made: Vec<_> = workers.values().map(|(_, made)| *made).collect();
    assert!(
        made.len() == 3 && made.iter().all(|made| made.abs_diff(ITEMS / 3) <= 1),
        "{made:?}"
    );
    let told = told(http, wiring, &job).await?;
    assert_eq!(told, job.ask.expected.items, "in the order of the request");
    Ok(())
}

/// The items of all pages of a job's outputs.
async fn told(
    http: &reqwest::Client,
    wiring: &Wiring,
    job: &Submitted,
) -> anyhow::Result<Vec<String>> {
    let base = format!("{}/v1/jobs/{}/outputs?limit=100", wiring.ingest, job.id);
    let (mut told, mut url) = (Vec::new(), base.clone());
    loop {
        let call = http.get(&url).bearer_auth(&wiring.client.api_key);
        let page: Value = call.send().await?.error_for_status()?.json().await?;
        let rows = page["data"].as_array().into_iter().flatten();
        told.extend(rows.filter_map(|row| row["item"].as_str().map(str::to_owned)));
        let Some(cursor) = page["next_cursor"].as_str() else {
            return Ok(told);
        };
        url = format!("{base}&cursor={cursor}");
    }
}
