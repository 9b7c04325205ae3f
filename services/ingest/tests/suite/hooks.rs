//! What workers and RunPod tell us.

use crate::house::{House, KEY, SOON, ask, job};
use photofinish_contract::announcement::{Announcement, AnnouncementKind, Spent};
use photofinish_contract::messages::{Heard, PlanMessage, Signal};
use photofinish_contract::token::{Purpose, TokenKeys};
use photofinish_jobstore::Swap;
use photofinish_kit::{Method, wait_for};
use photofinish_model::part::{Part, Phase};
use photofinish_model::{AttemptRef, Code, Fault, ItemState, JobId, JobStatus, Nonce};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

fn attempt(house: &House, job: JobId) -> AttemptRef {
    AttemptRef {
        tenant: house.tenant.clone(),
        job,
        run: 1,
        part: 0,
        attempt: 1,
        nonce: Nonce::from_random(7),
    }
}

fn announcement(attempt: &AttemptRef) -> Announcement {
    Announcement {
        kind: AnnouncementKind::Started,
        run_id: "r-1".to_owned(),
        nonce: attempt.nonce.clone(),
        worker_id: "w-1".to_owned(),
        boot: "b-1".to_owned(),
        addresses: Vec::new(),
        outputs: Vec::new(),
        rescued: Vec::new(),
        errors: Vec::new(),
        rendering: Vec::new(),
        spent: Spent::default(),
        nothing_pushed: false,
    }
}

fn hook(purpose: Purpose, attempt: &AttemptRef) -> String {
    format!(
        "/hooks/runpod/{}",
        TokenKeys::from_base64(KEY).unwrap().mint(purpose, attempt)
    )
}

async fn say(house: &House, attempt: &AttemptRef, body: &Value) -> (u16, Value) {
    ask(house
        .call(Method::POST, &hook(Purpose::Hook, attempt))
        .json(body))
    .await
}

#[tokio::test]
async fn announcements_are_passed_on_and_answered_with_what_counts() {
    let house = House::open().await;
    house.submit(None, &job(3)).await;
    let (PlanMessage::JobAccepted(told), _) = house.planned().await else {
        unreachable!("no job")
    };
    let heard: Arc<Mutex<Vec<Signal>>> = Arc::default();
    let into = heard.clone();
    house.broker.consume_signals(100, move |incoming| {
        into.lock().unwrap().push(incoming.json().unwrap());
        async {}
    });
    let attempt = attempt(&house, told.job.clone());
    let announcement = announcement(&attempt);
    let body = serde_json::to_value(&announcement).unwrap();
    // A signal before the queue is bound is lost, which is harmless: say it until it is heard.
    let first = wait_for(SOON, "the signal", || async {
        assert_eq!(
            say(&house, &attempt, &body).await,
            (200, json!({"wanted": [0, 1, 2]}))
        );
        heard.lock().unwrap().first().cloned()
    });
    let first = first.await.unwrap();
    assert_eq!(first.attempt, attempt);
    assert_eq!(first.heard, Heard::Announcement(Box::new(announcement)));

    let failed = ItemState::Failed(Fault::new(Code::NotAnImage, "x"));
    let _settled = house
        .jobstore
        .settle_item(&told.job, 1, 1, &failed)
        .await
        .unwrap();
    heard.lock().unwrap().clear();
    let over = json!({"id": "r-1", "status": "COMPLETED", "output": {}});
    assert_eq!(
        say(&house, &attempt, &over).await,
        (200, json!({"wanted": [0, 2]}))
    );
    let next = wait_for(SOON, "the signal", || async {
        let heard = heard.lock().unwrap();
        heard
            .iter()
            .find(|signal| signal.heard == Heard::Completed)
            .cloned()
    });
    assert_eq!(next.await.unwrap().attempt, attempt);

    let mut end = house.jobstore.job(&told.job).await.unwrap().unwrap();
    end.status = JobStatus::Cancelled;
    let _recorded = house.jobstore.finish(&end).await.unwrap();
    assert_eq!(
        say(&house, &attempt, &body).await,
        (200, json!({"wanted": []}))
    );
}

/// Its submit was never answered, the part was submitted again, and now it calls home after all.
#[tokio::test]
async fn an_attempt_whose_part_runs_under_another_nonce_is_told_that_nothing_is_wanted() {
    let house = House::open().await;
    house.submit(None, &job(2)).await;
    let (PlanMessage::JobAccepted(told), _) = house.planned().await else {
        unreachable!("no job")
    };
    let late = attempt(&house, told.job.clone());
    let current = AttemptRef {
        nonce: Nonce::from_random(8),
        ..late.clone()
    };
    let mut part = Part::new(0..2);
    part.phase = Phase::InFlight {
        nonce: current.nonce.clone(),
        runpod_id: None,
    };
    let text = serde_json::to_string(&part).unwrap();
    let swap = house.jobstore.part_cas(&told.job, 1, 0, None, &text);
    assert_eq!(swap.await.unwrap(), Swap::Swapped);
    for (attempt, wanted) in [(late, json!([])), (current, json!([0, 1]))] {
        let body = serde_json::to_value(announcement(&attempt)).unwrap();
        let answer = say(&house, &attempt, &body).await;
        assert_eq!(answer, (200, json!({"wanted": wanted})));
    }
}

#[tokio::test]
async fn unknown_never_means_unwanted_and_no_token_opens_more_than_its_attempt() {
    let house = House::open().await;
    let stranger = attempt(&house, JobId::from_random(99));
    let body = serde_json::to_value(announcement(&stranger)).unwrap();
    let (status, answer) = say(&house, &stranger, &body).await;
    assert_eq!(status, 200);
    assert_eq!(answer["wanted"].as_array().unwrap().len(), 1000);

    let other = AttemptRef {
        nonce: Nonce::from_random(8),
        ..stranger.clone()
    };
    assert_eq!(say(&house, &other, &body).await.0, 403);
    let foreign = house
        .call(Method::POST, &hook(Purpose::Output, &stranger))
        .json(&body);
    assert_eq!(ask(foreign).await.0, 401);
    let nonsense = house.call(Method::POST, "/hooks/runpod/a.b").json(&body);
    assert_eq!(ask(nonsense).await.0, 401);
}
