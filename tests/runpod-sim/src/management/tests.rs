//! The management APIs over HTTP, without workers; `services/cli` and `make interop` have some.

use clap::Parser as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{Config, Sim};

struct Bench {
    sim: Sim,
    http: reqwest::Client,
}

impl Bench {
    async fn start(flags: &[&str]) -> Self {
        let fixed = [
            "runpod-sim",
            "--listen",
            "127.0.0.1:0",
            "--api-key",
            "secret",
        ];
        let config = Config::try_parse_from(fixed.iter().chain(flags)).unwrap();
        let sim = Sim::start(config).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sim, http }
    }

    async fn send(&self, key: &str, method: Method, path: &str, body: &Value) -> Response {
        let base = self.sim.base_url();
        let base = base.trim_end_matches("/v2");
        let call = self.http.request(method, format!("{base}/{path}"));
        let call = call.header("authorization", key).json(body);
        call.send().await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let answer = self.send("Bearer secret", method, path, &body).await;
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, Value::Null).await
    }

    async fn graphql(&self, query: &str) -> Value {
        let (status, answer) = self
            .call(Method::POST, "graphql", json!({"query": query}))
            .await;
        assert_eq!(status, 200, "errors come with 200 too");
        answer
    }
}

fn worker() -> Value {
    json!({"name": "w", "type": "QUEUE", "image": "o/w:1", "gpu": {"pools": ["AMPERE_16"]},
           "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4}, "env": {"A": "1"}})
}

#[tokio::test]
async fn an_endpoint_is_made_read_changed_and_deleted() {
    let bench = Bench::start(&[]).await;
    let (status, made) = bench.call(Method::POST, "v2/serverless", worker()).await;
    assert_eq!(status, 201);
    assert_eq!(
        made["workers"],
        json!({"min": 0, "max": 3, "idleTimeout": 10})
    );
    assert_eq!(
        (&made["timeout"], &made["flashboot"]),
        (&json!(300_000), &json!("OFF"))
    );
    let path = format!("v2/serverless/{}", made["id"].as_str().unwrap());
    assert_eq!(bench.get(&path).await, (200, made.clone()));
    let all = bench.get("v2/serverless").await.1;
    assert_eq!(
        all["endpoints"].as_array().unwrap().len(),
        2,
        "the flags' own is there too"
    );
    assert_eq!(all["pagination"]["hasNextPage"], false);
    let run = made["requestUrls"]["run"].as_str().unwrap();
    let answer = bench
        .http
        .post(run)
        .bearer_auth("secret")
        .json(&json!({"input": {}}));
    assert_eq!(
        answer.send().await.unwrap().status(),
        200,
        "its queue works"
    );
    let scale = json!({"workers": {"max": 5}, "timeout": 9000});
    let (status, changed) = bench.call(Method::PATCH, &path, scale).await;
    assert_eq!((status, &changed["workers"]["max"]), (200, &json!(5)));
    assert_eq!(changed["workers"]["min"], 0, "what is not named stays");
    assert_eq!(
        bench.get(&format!("{path}/releases")).await.1["endpointVersion"],
        1
    );
    let image = json!({"image": "o/w:2", "env": {"B": "2"}});
    let (_, changed) = bench.call(Method::PATCH, &path, image).await;
    assert_eq!(
        changed["env"],
        json!({"B": "2"}),
        "the environment is replaced"
    );
    let releases = bench.get(&format!("{path}/releases")).await.1;
    assert_eq!(releases["endpointVersion"], 2);
    let fields: Vec<&Value> = releases["releases"][0]["diff"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["field"])
        .collect();
    assert_eq!(fields, ["template.imageName", "template.env"]);
    let workers = bench.get(&format!("{path}/workers")).await.1;
    assert_eq!(
        (&workers["summary"]["total"], &workers["endpointVersion"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(bench.call(Method::DELETE, &path, Value::Null).await.0, 204);
    assert_eq!(bench.get(&path).await.0, 404);
    assert_eq!(bench.call(Method::DELETE, &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_body_that_breaks_rules_changes_nothing_and_names_them_all() {
    let bench = Bench::start(&[]).await;
    let answer = bench
        .send("Bearer secret", Method::POST, "v2/serverless", &json!({}))
        .await;
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["errors"].as_array().unwrap().len(), 5, "{problem}");
    let (_, made) = bench.call(Method::POST, "v2/serverless", worker()).await;
    let path = format!("v2/serverless/{}", made["id"].as_str().unwrap());
    for (body, status) in [
        (json!({"type": "LOAD_BALANCER"}), 400),
        (json!({"cpu": [{"id": "cpu3c", "vcpuCount": 2}]}), 400),
        (json!({"gpu": {"excludedTypes": ["NVIDIA RTX A4000"]}}), 400),
        (
            json!({"gpu": {"minCudaVersion": "12.1", "allowedCudaVersions": ["12.4"]}}),
            400,
        ),
        (json!({"workers": {"idleTimeout": 4000}}), 422),
        (json!({"templateId": "none"}), 404),
        (json!([1]), 400),
    ] {
        assert_eq!(
            bench.call(Method::PATCH, &path, body.clone()).await.0,
            status,
            "{body}"
        );
    }
    let by_count = json!({"scaling": {"type": "REQUEST_COUNT", "requestCount": 2}});
    let (status, changed) = bench.call(Method::PATCH, &path, by_count).await;
    assert_eq!((status, changed["workers"].get("idleTimeout")), (200, None));
    let idle = json!({"workers": {"idleTimeout": 10}});
    assert_eq!(bench.call(Method::PATCH, &path, idle).await.0, 400);
}

#[tokio::test]
async fn keys_and_the_quota_are_checked() {
    let bench = Bench::start(&["--rate-limits", "0.1", "--read-only-key", "looks"]).await;
    let get = |key: &'static str| bench.send(key, Method::GET, "v2/serverless", &Value::Null);
    assert_eq!(
        get("secret").await.status(),
        401,
        "raw keys are the data plane's"
    );
    assert_eq!(get("Bearer wrong").await.status(), 401);
    assert_eq!(get("Bearer looks").await.status(), 200);
    let made = bench
        .send("Bearer looks", Method::POST, "v2/serverless", &worker())
        .await;
    assert_eq!(made.status(), 403);
    let mut last = get("Bearer secret").await;
    while last.status() == 200 {
        last = get("Bearer secret").await;
    }
    assert_eq!(last.status(), 429);
    let wait: u64 = last.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let told = last.headers()["ratelimit"].to_str().unwrap();
    assert!(told.starts_with("\"minute\";r=0;t="), "{told}");
}

#[tokio::test]
async fn a_template_is_applied_once() {
    let bench = Bench::start(&[]).await;
    let template = json!({"name": "base", "image": "o/base:1", "serverless": true,
                          "env": {"A": "theirs", "B": "theirs"}});
    let (status, made) = bench
        .call(Method::POST, "v2/templates", template.clone())
        .await;
    assert_eq!((status, &made["startSsh"]), (201, &json!(true)));
    assert_eq!(
        bench.call(Method::POST, "v2/templates", template).await.0,
        409
    );
    let id = made["id"].as_str().unwrap().to_owned();
    let mut body = worker();
    body["templateId"] = json!(id);
    body.as_object_mut().unwrap().remove("image");
    let (status, endpoint) = bench
        .call(Method::POST, "v2/serverless", body.clone())
        .await;
    assert_eq!((status, &endpoint["image"]), (201, &json!("o/base:1")));
    assert_eq!(endpoint["env"], json!({"A": "1", "B": "theirs"}));
    assert_eq!(endpoint.get("templateId"), None, "no link is kept");
    let path = format!("v2/templates/{id}");
    let pods = json!({"serverless": false});
    assert_eq!(bench.call(Method::PATCH, &path, pods).await.0, 200);
    assert_eq!(bench.call(Method::POST, "v2/serverless", body).await.0, 422);
    assert_eq!(bench.call(Method::DELETE, &path, Value::Null).await.0, 204);
    assert_eq!(bench.get(&path).await.0, 404);
}

#[tokio::test]
async fn graphql_does_what_the_python_sdk_asks() {
    let bench = Bench::start(&[]).await;
    let template = bench
        .graphql(
            r#"mutation { saveTemplate(input: {name: "base", imageName: "o/w:1", dockerArgs: "",
               containerDiskInGb: 15, volumeInGb: 0, ports: "8000/http", isServerless: true,
               env: [{ key: "A", value: "1" }]}) { id name } }"#,
        )
        .await;
    let id = template["data"]["saveTemplate"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let made = bench
        .graphql(&format!(
            r#"mutation {{ saveEndpoint(input: {{ name: "ep", templateId: "{id}", locations: "",
               gpuIds: "AMPERE_16,-NVIDIA RTX A4000", idleTimeout: 5, scalerType: "QUEUE_DELAY",
               scalerValue: 4, workersMin: 0, workersMax: 2 }}) {{ id gpuIds workersMax }} }}"#
        ))
        .await;
    let endpoint = &made["data"]["saveEndpoint"];
    assert_eq!(endpoint["gpuIds"], "AMPERE_16,-NVIDIA RTX A4000");
    assert_eq!(
        endpoint.as_object().unwrap().len(),
        3,
        "what was asked for and no more"
    );
    let endpoint = endpoint["id"].as_str().unwrap();
    let rest = bench.get(&format!("v2/serverless/{endpoint}")).await.1;
    assert_eq!(
        (&rest["disk"], &rest["env"]),
        (&json!(15), &json!({"A": "1"}))
    );
    let delete = format!(r#"mutation {{ deleteEndpoint(id: "{endpoint}") }}"#);
    let refused = bench.graphql(&delete).await;
    let message = refused["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("workersMax"), "{message}");
    let rename = r#"mutation { saveEndpoint(input: { id: "ID", name: "ep", templateId: "TEMPLATE",
        gpuIds: "AMPERE_16", workersMin: 0, workersMax: 0 }) { workersMax } }"#;
    let rename = rename.replace("ID\", name", &format!("{endpoint}\", name"));
    let replaced = bench.graphql(&rename.replace("TEMPLATE", &id)).await;
    assert_eq!(
        replaced["data"]["saveEndpoint"]["workersMax"], 0,
        "{replaced}"
    );
    assert_eq!(
        bench.graphql(&delete).await["data"]["deleteEndpoint"],
        Value::Null
    );
    assert_eq!(bench.get(&format!("v2/serverless/{endpoint}")).await.0, 404);
    let list = bench
        .graphql("query { myself { endpoints { id name } } }")
        .await;
    assert_eq!(
        list["data"]["myself"]["endpoints"],
        json!([{"id": "ep-sim", "name": "ep-sim"}])
    );
    let gone = bench
        .graphql(r#"mutation { deleteTemplate(templateName: "base") }"#)
        .await;
    assert_eq!(gone.get("errors"), None, "{gone}");
    assert!(bench.graphql("query { pods { id } }").await["errors"].is_array());
}
