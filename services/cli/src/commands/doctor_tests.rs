use super::*;
use crate::settings::{Source, Valued};
use photofinish_kit::{Answer, Receiver, install_crypto};

fn valued(text: &str) -> Valued {
    Valued {
        text: text.to_owned(),
        source: Source::Default,
    }
}

fn settings(url: &str) -> Settings {
    Settings {
        path: None,
        found: false,
        profile: "default".to_owned(),
        profiles: Vec::new(),
        url: valued(url),
        api_key: Some(valued("tenant")),
        operator_key: Some(valued("operator")),
        runpod_api_key: None,
        runpod_endpoint_id: None,
        warnings: Vec::new(),
    }
}

fn json(body: &Value) -> Answer {
    Answer {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string(),
        ..Answer::default()
    }
}

async fn verdict_of(state: State) -> Verdict {
    install_crypto();
    let ingest = Receiver::start().await.unwrap();
    let own = serde_json::json!({"info": {"version": env!("CARGO_PKG_VERSION")}});
    let diagnosis = Diagnosis {
        checks: vec![
            Check::ok("bucket", "answers"),
            Check::not("rules", state, "none", "Make one."),
        ],
    };
    let page = serde_json::json!({"data": [], "next_cursor": null});
    ingest.script([
        json(&own),
        json(&page),
        json(&serde_json::to_value(diagnosis).unwrap()),
    ]);
    let mut output = Output::into_writer(Box::new(std::io::sink()), false);
    let verdict = doctor(&settings(&ingest.url("/")), &mut output).await;
    let keys: Vec<String> = ingest
        .received()
        .iter()
        .map(|call| call.header("authorization").to_owned())
        .collect();
    assert_eq!(keys[1..], ["Bearer tenant", "Bearer operator"]);
    verdict.unwrap()
}

#[tokio::test]
async fn only_what_is_wrong_ends_in_1() {
    assert_eq!(verdict_of(State::Wrong).await, Verdict::Unwell);
    assert_eq!(verdict_of(State::Warning).await, Verdict::Well);
    assert_eq!(verdict_of(State::Unknown).await, Verdict::Well);
}

#[tokio::test]
async fn a_refused_key_is_wrong_and_a_missing_one_is_told() {
    install_crypto();
    let ingest = Receiver::start().await.unwrap();
    let problem =
        serde_json::json!({"status": 401, "code": "unauthorized", "detail": "no such key"});
    ingest.always(Answer {
        status: 401,
        ..json(&problem)
    });
    let mut asked = settings(&ingest.url("/"));
    asked.operator_key = None;
    let check = tenant(&asked).await.unwrap();
    assert_eq!(check.state, State::Wrong);
    assert!(check.found.contains("no such key"), "{check:?}");
    let checks = operator(&asked).await.unwrap();
    assert_eq!(checks[0].state, State::Unknown);
}

#[test]
fn clocks_and_versions_are_compared() {
    assert_eq!(clock(Some(-30)).state, State::Ok);
    let ahead = clock(Some(-31));
    assert_eq!(ahead.state, State::Warning);
    assert!(ahead.found.contains("31 s ahead"), "{ahead:?}");
    assert!(clock(Some(99)).found.contains("99 s behind"));
    assert_eq!(version(Some("0.0.0")).state, State::Warning);
    assert_eq!(version(None).state, State::Unknown);
}

#[test]
fn each_finding_comes_with_what_to_do() {
    let diagnosis = Diagnosis {
        checks: vec![
            Check::ok("bucket", "answers"),
            Check::not("rules", State::Warning, "none", "Make one."),
        ],
    };
    let shown = text(&diagnosis, Look::PLAIN);
    assert!(shown.contains("warning  rules"), "{shown}");
    assert!(shown.ends_with("\nrules: Make one.\n"), "{shown}");
}
