//! One table of good and bad requests, each row through both doors: the same body with the same key is the same job,
//! and a fault is told with the same code and places whichever way it came.

mod every_job;
mod img2vid;
mod raw;
mod videos;

use crate::house::{House, SOON};
use photofinish_kit::stranger::{Properties, Stranger};
use photofinish_kit::{Method, wait_for};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const REPLIES: &str = "my.replies";
/// Messages that are taken from a queue in one call.
const TAKEN_MAX: u32 = 500;

/// What a row comes to.
#[derive(Debug, Clone)]
enum Expected {
    Accepted,
    /// `invalid_request` with exactly these places and codes.
    Faults(Vec<(&'static str, &'static str)>),
    /// Another status and code.
    Refused(u16, &'static str),
}

/// One request.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    body: Vec<u8>,
    expected: Expected,
}

fn good(name: &str, body: &Value) -> Row {
    Row {
        name: name.to_owned(),
        body: body.to_string().into_bytes(),
        expected: Expected::Accepted,
    }
}

fn bad(name: &str, body: &Value, faults: &[(&'static str, &'static str)]) -> Row {
    Row {
        name: name.to_owned(),
        body: body.to_string().into_bytes(),
        expected: Expected::Faults(faults.to_vec()),
    }
}

/// An object with some fields set, or, with null, still there as null.
fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

fn picture() -> Value {
    json!({"image_url": "https://example.com/a.jpg", "duracao": 2.0})
}

fn img2vid(more: Value) -> Value {
    with(json!({"operation": "img2vid", "images": [picture()]}), more)
}

/// A job of one picture with some fields set.
fn image(more: Value) -> Value {
    img2vid(json!({"images": [with(picture(), more)]}))
}

fn caption(more: Value) -> Value {
    let base = json!({"operation": "caption", "url_video": "https://example.com/v.mp4",
        "url_srt": "https://example.com/s.srt"});
    with(base, more)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "called as those around it are"
)]
fn style(more: Value) -> Value {
    caption(json!({"style": more}))
}

fn addaudio(more: Value) -> Value {
    let base = json!({"operation": "addaudio", "url_video": "https://example.com/v.mp4",
        "url_audio": "https://example.com/a.mp3"});
    with(base, more)
}

/// What one door said of a row.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Job(Value),
    Problem(u16, String, BTreeSet<(String, String)>),
}

fn said(body: &Value) -> Said {
    if body["id"].is_string() {
        return Said::Job(body["id"].clone());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let places = errors
        .iter()
        .map(|error| (text(&error["pointer"]), text(&error["code"])));
    let status = body["status"].as_u64().unwrap_or_default() as u16;
    Said::Problem(status, text(&body["code"]), places.collect())
}

impl Row {
    /// Why what a door said is not what the row expects.
    fn objection(&self, said: &Said) -> Option<String> {
        let as_expected = match (&self.expected, said) {
            (Expected::Accepted, Said::Job(_)) => true,
            (Expected::Faults(faults), Said::Problem(422, code, places)) => {
                let faults = faults
                    .iter()
                    .map(|(at, code)| (at.to_string(), code.to_string()));
                code == "invalid_request" && *places == faults.collect()
            }
            (Expected::Refused(status, code), Said::Problem(was, said, _)) => {
                (status, *code) == (was, said.as_str())
            }
            (Expected::Accepted | Expected::Faults(_) | Expected::Refused(..), _) => false,
        };
        (!as_expected).then(|| format!("{}: expected {:?}, was {said:?}", self.name, self.expected))
    }
}

impl House {
    /// A body through HTTP under a key.
    async fn by_http(&self, key: &str, body: Vec<u8>) -> (u16, Value) {
        let call = self.mine(Method::POST, "/v1/jobs").body(body);
        let call = call.header("Idempotency-Key", key);
        crate::house::ask(call.header("Content-Type", "application/json")).await
    }

    /// Takes messages until there are so many: the body of each, by its correlation id.
    pub(crate) async fn all_in(&self, queue: &str, count: usize) -> BTreeMap<String, Value> {
        let path = format!("/api/queues/{}/{queue}/get", self.rabbit.vhost());
        let ask = json!({"count": TAKEN_MAX, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let found = std::sync::Mutex::new(BTreeMap::new());
        let taken = wait_for(3 * SOON, queue, || async {
            let got = self.rabbit.call(Method::POST, &path, Some(ask.clone()));
            // Taken is taken: what a lost answer named would never come again.
            let got = got.await.unwrap();
            let mut found = found.lock().unwrap();
            for message in got.as_array()? {
                let id = message["properties"]["correlation_id"]
                    .as_str()
                    .unwrap_or("none");
                found.insert(id.to_owned(), message.clone());
            }
            (found.len() >= count).then_some(())
        });
        let outcome = taken.await;
        let found = found.into_inner().unwrap();
        assert!(outcome.is_ok(), "{queue}: {} of {count}", found.len());
        found
    }
}

fn rows() -> Vec<Row> {
    let tables = [
        every_job::rows(),
        img2vid::rows(),
        videos::rows(),
        raw::rows(),
    ];
    tables.concat()
}

#[tokio::test]
async fn every_row_comes_to_the_same_through_both_doors() {
    let rows = rows();
    assert!(rows.len() >= 120, "{} rows", rows.len());
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two rows have one name");
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    house.make_queue(REPLIES).await;
    house.broker.wait_ready().await;
    let url = house.rabbit.url_as(house.tenant.as_str(), "secret");
    let mut stranger = Stranger::connect(&url).await.unwrap();
    for (number, row) in rows.iter().enumerate() {
        let properties = Properties {
            content_type: Some(b"application/json".to_vec()),
            correlation_id: Some(number.to_string().into_bytes()),
            message_id: Some(format!("row-{number}").into_bytes()),
            reply_to: Some(REPLIES.into()),
            user_id: Some(house.tenant.as_str().into()),
            persistent: true,
            ..Properties::default()
        };
        stranger
            .publish("photofinish.jobs", b"job.submit", &properties, &row.body)
            .await
            .unwrap();
    }
    stranger.flush().await.unwrap();
    let mut objections = Vec::new();
    let mut by_http = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let (status, body) = house
            .by_http(&format!("row-{number}"), row.body.clone())
            .await;
        let said = said(&body);
        if let Said::Problem(told, ..) = &said {
            assert_eq!(*told, status, "{}", row.name);
        }
        objections.extend(row.objection(&said).map(|why| format!("HTTP: {why}")));
        by_http.push(said);
    }
    let replies = house.all_in(REPLIES, rows.len()).await;
    let refused: BTreeSet<String> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| !matches!(row.expected, Expected::Accepted))
        .map(|(number, _)| number.to_string())
        .collect();
    let rejected = house.all_in("photofinish.rejected", refused.len()).await;
    for (number, row) in rows.iter().enumerate() {
        let reply = &replies[&number.to_string()];
        let body: Value = serde_json::from_str(reply["payload"].as_str().unwrap()).unwrap();
        let said = said(&body);
        let kind = match said {
            Said::Job(_) => "job.accepted",
            Said::Problem(..) => "job.rejected",
        };
        assert_eq!(reply["properties"]["type"], kind, "{}", row.name);
        if said != by_http[number] {
            let http = &by_http[number];
            objections.push(format!("AMQP: {}: {said:?}, by HTTP {http:?}", row.name));
        }
        if let Said::Problem(_, code, _) = said
            && let Some(kept) = rejected.get(&number.to_string())
        {
            let told = &kept["properties"]["headers"]["x-rejected-code"];
            assert_eq!(*told, code, "{}", row.name);
        }
    }
    assert!(objections.is_empty(), "{}", objections.join("\n"));
    assert_eq!(rejected.into_keys().collect::<BTreeSet<_>>(), refused);
}
