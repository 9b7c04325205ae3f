//! Every route that the served document names, called by whom it is not for: a route that is added is asked as well.

use crate::house::{House, OPERATOR, SOON, ask, job};
use crate::jobs::half_done;
use photofinish_kit::{Method, wait_for};
use photofinish_model::delivery::DeliveryStatus;
use photofinish_model::{JobId, JobStatus};
use photofinish_runtime::Clock;
use serde_json::{Value, json};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A call that the document describes.
#[derive(Debug)]
struct Route {
    method: Method,
    path: String,
    /// The security schemes that let one in; none: everybody.
    schemes: Vec<String>,
    has_body: bool,
}

impl Route {
    fn is_open(&self) -> bool {
        self.schemes.is_empty()
    }

    fn is_for_operators(&self) -> bool {
        self.schemes.iter().any(|scheme| scheme == "operator")
    }

    /// The path with its parameters replaced; panics on one that this test does not know.
    fn filled(&self, things: &Things) -> String {
        let parts = self.path.split('/').scan("", |before, part| {
            let filled = match part {
                "{id}" if *before == "webhook-endpoints" => things.endpoint.clone(),
                "{id}" if *before == "deliveries" => things.delivery.clone(),
                "{id}" | "{job}" if ["jobs", "job"].contains(before) => things.job.clone(),
                "{item}" => "image1".to_owned(),
                "{operation}" => "caption".to_owned(),
                "{tenant}" => things.tenant.clone(),
                parameter if parameter.starts_with('{') => {
                    assert!(
                        self.is_for_operators() || self.is_open(),
                        "teach this test {self:?}"
                    );
                    "x".to_owned()
                }
                plain => plain.to_owned(),
            };
            *before = part;
            Some(filled)
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

/// What belongs to the tenant who is not asking.
struct Things {
    tenant: String,
    job: String,
    endpoint: String,
    delivery: String,
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            let Some(operation) = item.get(method) else {
                continue;
            };
            let schemes = operation["security"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let schemes = schemes
                .iter()
                .flat_map(|one| one.as_object().unwrap().keys().cloned());
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                schemes: schemes.collect(),
                has_body: operation.get("requestBody").is_some(),
            });
        }
    }
    routes
}

/// A good body where one is needed: isolation must not hide behind validation.
fn body(path: &str) -> Value {
    match path {
        "/v1/jobs" => job(1),
        "/video/{operation}" => {
            json!({"url_video": "https://e.com/v", "url_srt": "https://e.com/s"})
        }
        "/v1/webhook-endpoints" => json!({"url": "https://example.com/stranger"}),
        "/v1/webhook-endpoints/{id}" => json!({"enabled": false}),
        "/v1/admin/tenants" => json!({"id": "made-by-a-stranger"}),
        _ => json!({}),
    }
}

async fn call(house: &House, route: &Route, path: &str, key: Option<&str>) -> (u16, Value) {
    let mut call = house.call(route.method.clone(), path);
    if let Some(key) = key {
        call = call.bearer_auth(key);
    }
    if route.has_body {
        call = call.json(&body(&route.path));
    }
    ask(call).await
}

/// A job with an output, an endpoint and a delivery of the house's tenant.
async fn things(house: &House) -> Things {
    let job = half_done(house).await.job;
    let wish = json!({"url": "https://example.com/mine"});
    let (status, endpoint) = house.post("/v1/webhook-endpoints", &wish).await;
    assert_eq!(status, 201, "{endpoint}");
    let endpoint = endpoint["id"].as_str().unwrap().to_owned();
    let delivery = "dlv_of_the_house".to_owned();
    let at = Clock::system().now();
    crate::webhooks::delivery(house, &endpoint, &delivery, at, DeliveryStatus::Failed).await;
    Things {
        tenant: house.tenant.to_string(),
        job: job.to_string(),
        endpoint,
        delivery,
    }
}

#[tokio::test]
async fn nobody_reaches_what_is_not_his() {
    let house = House::open().await;
    let (_, stranger) = house
        .make_tenant(&format!("s-{}", uuid::Uuid::new_v4().simple()))
        .await;
    let things = things(&house).await;
    let document = house
        .call(Method::GET, "/openapi.json")
        .send()
        .await
        .unwrap();
    let document: Value = document.json().await.unwrap();
    assert_eq!(
        document,
        photofinish_ingest::openapi(),
        "what is served is what is committed"
    );
    let routes = routes(&document);
    assert!(routes.len() > 25, "{}", routes.len());
    let mut wrong = Vec::new();
    for route in routes.iter().filter(|route| !route.is_open()) {
        let path = route.filled(&things);
        let is_of_one = route.path.contains("{id}") || route.path.contains("{item}");
        let mut check = |who: &str, (status, answer): (u16, Value), wanted: &[u16]| {
            if !wanted.contains(&status) {
                wrong.push(format!("{who}: {} {path}: {status} {answer}", route.method));
            }
            answer
        };
        check("nobody", call(&house, route, &path, None).await, &[401]);
        check(
            "a wrong key",
            call(&house, route, &path, Some("pf_wrong")).await,
            &[401],
        );
        if route.is_for_operators() {
            check(
                "a tenant",
                call(&house, route, &path, Some(&house.key)).await,
                &[403],
            );
            continue;
        }
        check(
            "the operator",
            call(&house, route, &path, Some(OPERATOR)).await,
            &[403],
        );
        let answered = call(&house, route, &path, Some(&stranger)).await;
        if is_of_one {
            check("another tenant", answered, &[404]);
        } else if route.method == Method::GET {
            let page = check("another tenant", answered, &[200]);
            assert_eq!(page["data"], json!([]), "{path}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    untouched(&house, &things).await;
    // What was refused is there for its owner: it was not merely missing.
    for route in routes.iter().filter(|route| {
        let of_one = route.path.contains("{id}") || route.path.contains("{item}");
        of_one && route.method == Method::GET && !route.is_for_operators() && !route.is_open()
    }) {
        let path = route.filled(&things);
        let own = house.mine(Method::GET, &path).header("accept", "*/*");
        let own = own.send().await.unwrap();
        assert!(
            [200, 302].contains(&own.status().as_u16()),
            "{path}: {}",
            own.status()
        );
    }
}

/// Everything is as it was.
async fn untouched(house: &House, things: &Things) {
    let job: JobId = things.job.parse().unwrap();
    let shown = wait_for(SOON, "the job", || async {
        house.jobstore.job(&job).await.ok()?
    });
    let shown = shown.await.unwrap();
    assert_eq!(shown.tenant, house.tenant);
    assert_eq!((shown.status, shown.run), (JobStatus::Failed, 1));
    assert!(shown.outputs_deleted_at.is_none());
    let (_, endpoint) = house
        .get(&format!("/v1/webhook-endpoints/{}", things.endpoint))
        .await;
    assert_eq!(endpoint["enabled"], true, "{endpoint}");
    let (_, endpoints) = house.get("/v1/webhook-endpoints").await;
    assert_eq!(
        endpoints["data"].as_array().unwrap().len(),
        1,
        "{endpoints}"
    );
}
