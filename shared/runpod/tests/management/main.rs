//! The management client against a server that answers exactly what a test wants. Against the emulator it is tested in
//! `services/cli/tests/endpoint`.

#![expect(clippy::unwrap_used, reason = "a test that is not answered fails")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use photofinish_runpod::management::{
    Endpoint, EndpointSpec, ManagementClient, ManagementError, ManagementSettings,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// One answer: status, headers, body.
type Answer = (u16, Vec<(&'static str, &'static str)>, String);

#[derive(Debug, Default)]
struct Script {
    /// Answers of each call in turn; the last one stays.
    answers: Mutex<Vec<Answer>>,
    seen: Mutex<Vec<(Method, String)>>,
}

struct Bench {
    client: ManagementClient,
    script: Arc<Script>,
    _serving: JoinSet<()>,
}

impl Bench {
    async fn start(answers: Vec<Answer>) -> Self {
        let script = Arc::new(Script {
            answers: Mutex::new(answers),
            ..Script::default()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let settings = ManagementSettings {
            rest_base_url: base.clone(),
            data_base_url: base,
            call_timeout: Duration::from_millis(500),
            retry_wait: Duration::from_millis(10),
            reconcile_for: Duration::from_millis(200),
            ..ManagementSettings::new("key".into())
        };
        Self {
            client: ManagementClient::new(settings).unwrap(),
            script,
            _serving: serving,
        }
    }

    fn seen(&self) -> Vec<(Method, String)> {
        self.script.seen.lock().unwrap().clone()
    }

    fn count(&self, method: &Method) -> usize {
        self.seen().iter().filter(|(one, _)| one == method).count()
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let place = request.uri().path_and_query().unwrap().to_string();
    let seen = (request.method().clone(), place);
    script.seen.lock().unwrap().push(seen);
    let (status, headers, body) = {
        let mut answers = script.answers.lock().unwrap();
        if answers.len() > 1 {
            answers.remove(0)
        } else {
            answers[0].clone()
        }
    };
    if status == 0 {
        // No answer within the client's patience.
        std::future::pending::<()>().await;
    }
    let mut answer = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        answer.headers_mut().insert(name, value.parse().unwrap());
    }
    answer
}

fn says(status: u16, body: &Value) -> Answer {
    (status, Vec::new(), body.to_string())
}

fn html() -> Answer {
    (502, Vec::new(), "<html>bad gateway</html>".to_owned())
}

fn none() -> Answer {
    says(200, &json!({"endpoints": []}))
}

fn one() -> Answer {
    says(200, &json!({"endpoints": [{"id": "ep", "name": "worker"}]}))
}

fn spec() -> EndpointSpec {
    let value = json!({"id": "x", "name": "worker", "image": "o/w:1", "gpu": {"pools": ["A"]}});
    Endpoint::from_value(&value).unwrap().spec
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_looked_up_and_never_sent_twice() {
    let hang: Answer = (0, Vec::new(), String::new());
    for lost in [
        html(),
        hang,
        says(200, &json!({"no": "id"})),
        (408, Vec::new(), String::new()),
    ] {
        let bench = Bench::start(vec![lost.clone(), none(), one()]).await;
        let created = bench.client.create_endpoint(&spec()).await.unwrap();
        assert_eq!(
            (created.endpoint.id.as_str(), created.was_found),
            ("ep", true),
            "{lost:?}"
        );
        assert_eq!(bench.count(&Method::POST), 1, "{lost:?}");
        let bench = Bench::start(vec![lost.clone(), none()]).await;
        let error = bench.client.create_endpoint(&spec()).await.unwrap_err();
        assert!(
            matches!(error, ManagementError::CreateUnknown { .. }),
            "{lost:?}: {error:?}"
        );
        assert_eq!(bench.count(&Method::POST), 1, "{lost:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_certain_and_names_its_faults() {
    let problem = json!({"title": "Unprocessable Entity", "status": 422, "detail": "no",
                         "errors": [{"field": "gpu", "message": "is required"}]});
    let bench = Bench::start(vec![says(422, &problem)]).await;
    let error = bench.client.create_endpoint(&spec()).await.unwrap_err();
    assert!(error.to_string().contains("gpu: is required"), "{error}");
    assert!(!error.is_unknown());
    assert_eq!(bench.seen().len(), 1, "nothing is looked for");
    let bench = Bench::start(vec![says(403, &json!({"detail": "access denied"}))]).await;
    let error = bench.client.list_endpoints().await.unwrap_err();
    assert!(
        matches!(error, ManagementError::Unauthorized { status: 403, .. }),
        "{error:?}"
    );
    assert_eq!(
        bench.seen().len(),
        1,
        "a key does not get better by asking again"
    );
}

#[tokio::test]
async fn questions_are_repeated_and_changes_are_not() {
    let bench = Bench::start(vec![html(), html(), one()]).await;
    assert_eq!(bench.client.list_endpoints().await.unwrap().len(), 1);
    let bench = Bench::start(vec![html()]).await;
    assert!(
        bench
            .client
            .list_endpoints()
            .await
            .unwrap_err()
            .is_transient()
    );
    assert_eq!(bench.count(&Method::GET), 4);
    let error = bench
        .client
        .patch_endpoint("ep", &json!({}))
        .await
        .unwrap_err();
    assert!(error.is_unknown(), "{error:?}");
    assert!(
        bench
            .client
            .delete_endpoint("ep")
            .await
            .unwrap_err()
            .is_unknown()
    );
    assert_eq!(
        (bench.count(&Method::PATCH), bench.count(&Method::DELETE)),
        (1, 1)
    );
    let gone = Bench::start(vec![says(404, &json!({}))]).await;
    gone.client.delete_endpoint("ep").await.unwrap();
}

#[tokio::test]
async fn limits_are_kept_to_even_before_they_are_broken() {
    let limited: Answer = (429, vec![("retry-after", "1")], "{}".to_owned());
    let made = says(201, &json!({"id": "ep", "name": "worker"}));
    let bench = Bench::start(vec![limited, made]).await;
    let began = Instant::now();
    let created = bench.client.create_endpoint(&spec()).await.unwrap();
    assert!(
        !created.was_found,
        "a 429 says that nothing was done, so it is sent again"
    );
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let used_up = vec![("ratelimit", "\"minute\";r=0;t=1")];
    let bench = Bench::start(vec![(200, used_up, none().2), none()]).await;
    bench.client.list_endpoints().await.unwrap();
    let began = Instant::now();
    bench.client.list_endpoints().await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let page = |id: &str, cursor: Value| {
        let more = !cursor.is_null();
        let pages = json!({"nextCursor": cursor, "hasNextPage": more});
        says(
            200,
            &json!({"endpoints": [{"id": id, "name": "worker"}], "pagination": pages}),
        )
    };
    let bench = Bench::start(vec![page("a", json!("c/1")), page("b", Value::Null)]).await;
    let error = bench.client.find_endpoint("worker").await.unwrap_err();
    assert!(
        error.to_string().contains("\n  a\n  b"),
        "two of one name: {error}"
    );
    let places: Vec<String> = bench.seen().into_iter().map(|(_, place)| place).collect();
    assert_eq!(places, ["/v2/serverless", "/v2/serverless?cursor=c%2F1"]);
    let strange = Bench::start(vec![says(200, &json!([1]))]).await;
    assert!(strange.client.list_endpoints().await.is_err());
    let jobs = Bench::start(vec![says(200, &json!({"count": 1}))]).await;
    assert_eq!(jobs.client.list_jobs("ep").await.unwrap(), None);
}
