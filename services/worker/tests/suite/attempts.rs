//! Whole attempts: outputs served, acknowledged, lingered for, rescued.

use std::time::{Duration, Instant};

use photofinish_contract::announcement::{Announcement, AnnouncementKind, Wanted};
use photofinish_contract::attempt_input::{AttemptInput, Work};
use photofinish_kit::wait_until;
use photofinish_model::{Code, ItemIndex};
use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, SOON};

#[tokio::test]
async fn outputs_are_pulled_acknowledged_and_gone_and_faults_disturb_nobody() {
    let bench = Bench::start().await;
    bench.picture("a b/../c");
    bench.picture("good");
    let run = bench.run(bench.input(&["good", "missing"]));
    let outputs = run.outputs(1).await;
    assert_eq!(outputs[0].name, "0000-good.mp4");
    let seen: Announcement = bench.get("").send().await.unwrap().json().await.unwrap();
    assert_eq!(seen.outputs, outputs);
    bench.fetch(&outputs[0]).await;
    let told = run.told.clone();
    let last = run.ended().await.unwrap();
    assert_eq!(last.kind, AnnouncementKind::Final);
    assert_eq!(told.lock().unwrap()[0].kind, AnnouncementKind::Started);
    assert_eq!(
        (last.outputs.len(), last.errors.len(), last.rescued.len()),
        (1, 1, 0)
    );
    assert_eq!(
        (last.errors[0].index, last.errors[0].fault.code),
        (1, Code::InputNotFound)
    );
    assert!(last.spent.linger_s < 5.0 && last.spent.taken_s > last.spent.linger_s);
    assert_eq!(
        bench.get("").send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    bench.nothing_left();
}

#[tokio::test]
async fn the_server_knows_tokens_ranges_and_conditions() {
    let bench = Bench::start().await;
    bench.picture("a");
    let run = bench.run(bench.input(&["a"]));
    let output = run.outputs(1).await.remove(0);
    let rest = format!("/outputs/{}", output.name);
    for token in ["", "wrong", "secretx", "secre"] {
        let answer = bench
            .http
            .get(bench.url(&rest))
            .bearer_auth(token)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    let other = bench.http.get(bench.url(&rest)).send().await.unwrap();
    assert_eq!(other.status(), StatusCode::UNAUTHORIZED);
    let whole = bench.get(&rest).send().await.unwrap();
    assert_eq!(whole.headers()["etag"], format!("\"{}\"", output.sha256));
    let whole = whole.bytes().await.unwrap();
    let part = bench
        .get(&rest)
        .header("range", "bytes=100-")
        .send()
        .await
        .unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(
        part.headers()["content-range"],
        format!("bytes 100-{}/{}", whole.len() - 1, whole.len())
    );
    assert_eq!(part.bytes().await.unwrap(), whole[100..]);
    let stale = bench
        .get(&rest)
        .header("range", "bytes=100-")
        .header("if-range", "\"old\"");
    assert_eq!(stale.send().await.unwrap().status(), StatusCode::OK);
    let beyond = bench
        .get(&rest)
        .header("range", "bytes=99999999-")
        .send()
        .await
        .unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let head = bench
        .http
        .head(bench.url(&rest))
        .bearer_auth("secret")
        .send()
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], whole.len().to_string());
    for name in ["nothing.mp4", "..%2F..%2Fetc%2Fpasswd"] {
        let answer = bench.get(&format!("/outputs/{name}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
    bench.fetch(&output).await;
    assert!(run.ended().await.is_some());
}

#[tokio::test]
async fn lingering_ends_with_a_rescue() {
    let bench = Bench::start().await;
    bench.picture("a");
    let run = bench.run(AttemptInput {
        linger_s: 0.5,
        ..bench.input(&["a"])
    });
    let output = run.outputs(1).await.remove(0);
    assert_eq!(bench.get("").send().await.unwrap().status(), StatusCode::OK);
    let last = run.ended().await.unwrap();
    assert_eq!(last.rescued, [0]);
    let pushed = bench.inputs.get("rescue-0").unwrap();
    assert_eq!(hex::encode(Sha256::digest(&pushed)), output.sha256);
    let report: Announcement =
        serde_json::from_slice(&bench.inputs.get("report").unwrap()).unwrap();
    assert_eq!(
        (report.kind, report.rescued),
        (AnnouncementKind::Rescued, vec![0])
    );
    assert!(last.spent.linger_s >= 0.4, "{:?}", last.spent);
    bench.nothing_left();
}

#[tokio::test]
async fn every_read_puts_the_end_of_lingering_off() {
    let bench = Bench::start().await;
    bench.picture("a");
    let run = bench.run(AttemptInput {
        linger_s: 3.0,
        ..bench.input(&["a"])
    });
    let output = run.outputs(1).await.remove(0);
    tokio::time::sleep(Duration::from_secs(1)).await; // paced: the reader comes late
    let read = bench.get(&format!("/outputs/{}", output.name)).send().await;
    let read = read.unwrap();
    assert_eq!(read.status(), StatusCode::OK);
    // Who leaves before the first byte has read nothing.
    assert!(!read.bytes().await.unwrap().is_empty());
    let last = run.ended().await.unwrap();
    assert!(last.spent.linger_s > 3.9, "{:?}", last.spent);
}

#[tokio::test]
async fn who_has_no_token_is_no_contact() {
    let bench = Bench::start().await;
    bench.picture("a");
    let run = bench.run(AttemptInput {
        first_contact_s: 3.0,
        ..bench.input(&["a"])
    });
    run.outputs(1).await;
    let stranger = bench.http.get(bench.url("")).bearer_auth("wrong");
    let answer = stranger.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(run.ended().await.unwrap().rescued, [0]);
}

#[tokio::test]
async fn without_contact_outputs_are_pushed_and_nothing_lingers() {
    let bench = Bench::start().await;
    bench.picture("a");
    bench.picture("b");
    let run = bench.run(AttemptInput {
        first_contact_s: 0.0,
        ..bench.input(&["a", "b"])
    });
    let last = run.ended().await.unwrap();
    assert_eq!(last.rescued, [0, 1]);
    assert!(last.spent.linger_s < 5.0, "{:?}", last.spent);
}

#[tokio::test]
async fn sigterm_pushes_what_is_ready_and_ends_soon() {
    let bench = Bench::start().await;
    bench.picture("a");
    // One that never ends, beside the one that does: the studio makes two at once, in any order.
    let mut input = bench.input(&["a", "a"]);
    if let Work::Img2vid { items, .. } = &mut input.work {
        items[1].frames = 500_000;
    }
    let run = bench.run(input);
    run.outputs(1).await;
    let asked = Instant::now();
    run.taken.stopping.cancel();
    let last = run.ended().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(last.rescued, [0]);
    let codes: Vec<Code> = last.errors.iter().map(|error| error.fault.code).collect();
    assert_eq!(codes, [Code::WorkerStopping]);
    assert!(last.errors.iter().all(|error| !error.permanent));
    bench.nothing_left();
}

#[tokio::test]
async fn the_end_of_the_budget_stops_rendering_and_pushes() {
    let bench = Bench::start().await;
    bench.picture("a");
    let mut input = AttemptInput {
        budget_s: 8.0,
        rescue_reserve_s: 5.0,
        ..bench.input(&["a", "a"])
    };
    if let Work::Img2vid { items, .. } = &mut input.work {
        items[1].frames = 500_000;
    }
    let last = bench.run(input).ended().await.unwrap();
    assert_eq!(last.rescued, [0]);
    assert_eq!(last.errors[0].fault.code, Code::RenderTimeout);
    assert!(last.spent.taken_s < 8.0);
}

/// A store that takes connections and answers nothing holds up neither the result nor a SIGTERM.
#[tokio::test]
async fn a_store_that_hangs_never_outlasts_the_budget_or_the_stop() {
    let bench = Bench::start().await;
    bench.picture("a");
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!("http://{}/x", hanging.local_addr().unwrap());
    // The outputs are pushed, then each of their reports hangs.
    let late = bench.run(AttemptInput {
        budget_s: 8.0,
        rescue_reserve_s: 3.0,
        report_put_url: hanging.clone(),
        ..bench.input(&["a", "a"])
    });
    let last = late.ended().await.unwrap();
    assert_eq!(last.rescued, [0, 1]);
    assert!(last.spent.taken_s < 7.5, "{:?}", last.spent);
    // The push itself hangs, and it began before the stop.
    let mut input = AttemptInput {
        first_contact_s: 0.0,
        ..bench.input(&["a"])
    };
    input.rescue[0].put_url = hanging;
    let run = bench.run(input);
    run.outputs(1).await;
    let asked = Instant::now();
    run.taken.stopping.cancel();
    let last = run.ended().await.unwrap();
    assert_eq!((last.outputs.len(), last.rescued.len()), (1, 0));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    bench.nothing_left();
}

#[tokio::test]
async fn a_cancelled_attempt_tells_nothing_and_leaves_nothing() {
    let bench = Bench::start().await;
    bench.picture("a");
    let run = bench.run(bench.input(&["a"]));
    run.outputs(1).await;
    run.taken.cancelled.cancel();
    assert_eq!(run.ended().await, None);
    bench.nothing_left();
    assert!(bench.inputs.get("rescue-0").is_none());
}

#[tokio::test]
async fn callers_may_ask_for_a_push_and_call_work_off() {
    let bench = Bench::start().await;
    bench.picture("a");
    let mut input = bench.input(&["a", "a"]);
    if let Work::Img2vid { items, .. } = &mut input.work {
        items[1].frames = 500_000;
    }
    let run = bench.run(input);
    run.outputs(1).await;
    let post = |rest: &str| bench.http.post(bench.url(rest)).bearer_auth("secret");
    assert_eq!(
        post("/rescue").send().await.unwrap().status(),
        StatusCode::ACCEPTED
    );
    wait_until(SOON, "a push", || async {
        bench.inputs.get("rescue-0").is_some()
    })
    .await
    .unwrap();
    for body in [
        "",
        "{}",
        "[]",
        &format!("{{\"wanted\": [{}0]}}", "0,".repeat(200_000)),
    ] {
        let answer = post("/wanted").body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
    let none = post("/wanted")
        .json(&Wanted { wanted: Vec::new() })
        .send()
        .await
        .unwrap();
    assert_eq!(none.status(), StatusCode::NO_CONTENT);
    let last = run.ended().await.unwrap();
    assert_eq!((last.outputs.len(), last.errors.len()), (1, 0));
}

#[tokio::test]
async fn a_signal_is_posted_and_its_answer_obeyed() {
    let bench = Bench::start().await;
    bench.picture("a");
    let receiver = photofinish_kit::Receiver::start().await.unwrap();
    receiver.always(photofinish_kit::Answer {
        body: r#"{"wanted": [0]}"#.to_owned(),
        ..photofinish_kit::Answer::status(200)
    });
    let mut input = AttemptInput {
        signal_url: Some(receiver.url("/hooks/runpod/x")),
        ..bench.input(&["a", "a"])
    };
    if let Work::Img2vid { items, .. } = &mut input.work {
        items[1].frames = 500_000;
    }
    let run = bench.run(input);
    let output = run.outputs(1).await.remove(0);
    bench.fetch(&output).await;
    let last = run.ended().await.unwrap();
    assert_eq!((last.outputs.len(), last.errors.len()), (1, 0));
    let first: Announcement = serde_json::from_slice(&receiver.received()[0].body).unwrap();
    assert_eq!(
        (first.kind, first.run_id.as_str()),
        (AnnouncementKind::Started, "run-1")
    );
}

/// An attempt that was superseded calls home too late: there is nothing to do for it.
#[tokio::test]
async fn an_attempt_of_which_nothing_is_wanted_returns_at_once() {
    let bench = Bench::start().await;
    bench.picture("a");
    let receiver = photofinish_kit::Receiver::start().await.unwrap();
    receiver.always(photofinish_kit::Answer {
        body: r#"{"wanted": []}"#.to_owned(),
        ..photofinish_kit::Answer::status(200)
    });
    let mut input = AttemptInput {
        signal_url: Some(receiver.url("/hooks/runpod/x")),
        ..bench.input(&["a", "missing"])
    };
    if let Work::Img2vid { items, .. } = &mut input.work {
        items[0].frames = 500_000;
    }
    let last = bench.run(input).ended().await.unwrap();
    assert!(
        last.outputs.is_empty() && last.rescued.is_empty(),
        "{last:?}"
    );
    assert!(last.spent.taken_s < 10.0, "{:?}", last.spent);
    bench.nothing_left();
}

#[tokio::test]
async fn two_takings_of_one_attempt_do_not_disturb_each_other() {
    let bench = Bench::start().await;
    bench.picture("a");
    let older = bench.run(AttemptInput {
        linger_s: 1.0,
        ..bench.input(&["a"])
    });
    older.outputs(1).await;
    let newer = bench.run(bench.input(&["a"]));
    let output = newer.outputs(1).await.remove(0);
    assert_eq!(
        older.ended().await.unwrap().rescued,
        [0],
        "nobody can reach the older one"
    );
    bench.fetch(&output).await;
    assert_eq!(
        newer.ended().await.unwrap().rescued,
        Vec::<ItemIndex>::new()
    );
    bench.nothing_left();
}
