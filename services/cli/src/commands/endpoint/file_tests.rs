use super::*;
use serde_json::json;

const DEPLOYED: &str = include_str!("../../../../../deploy/runpod/endpoint.toml");

fn shell(name: &str) -> Option<String> {
    match name {
        "PHOTOFINISH_WORKER_IMAGE" => Some("docker.io/acme/photofinish-worker:1.2.0".to_owned()),
        "TOKEN" => Some("hunter2".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<EndpointSpec, Vec<String>> {
    EndpointFile::parse(text, &shell).map(|file| file.resolve(None))
}

#[test]
fn the_file_that_we_ship_is_the_endpoint_of_the_documents() {
    let spec = parse(DEPLOYED).unwrap();
    assert_eq!(spec.name, "api-gpu-worker");
    assert_eq!(spec.image, "docker.io/acme/photofinish-worker:1.2.0");
    assert_eq!(spec.disk_gb, 15);
    let env: Vec<(&str, &str)> = spec
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(
        env,
        [
            ("BATCH_SIZE", "5"),
            ("HTTP_PORT", "8000"),
            ("OUTPUT_DIR", "/tmp/output"),
            ("WORK_DIR", "/tmp/work")
        ]
    );
    let ports: Vec<&String> = spec.ports.iter().collect();
    assert_eq!(ports, ["8000/http", "8000/tcp"]);
    assert_eq!((spec.workers.min, spec.workers.max), (0, 3));
    assert_eq!(spec.scaling, Scaling::QueueDelay(4.0));
    assert_eq!(spec.flashboot, FlashBoot::On);
    assert!(spec.gpu.unwrap().pools.contains("AMPERE_16"));
}

#[test]
fn without_the_image_the_file_says_which_variable_is_missing() {
    let faults = EndpointFile::parse(DEPLOYED, &|_| None).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("image") && faults[0].contains("PHOTOFINISH_WORKER_IMAGE"));
}

#[test]
fn all_faults_are_named_at_once_with_line_and_key() {
    let text = r#"nmae = "worker"
image = "docker.io/OWNER/worker:TAG"
disk_gb = 0
ports = ["8000/udp", "9000/http"]
flashboot = "YES"
args = { env = "NOT_THERE" }
[env]
"2BAD" = "x"
HTTP_PORT = "8000"
COUNT = 5
[gpu]
pools = []
min_cuda_version = "12"
allowed_cuda_versions = ["12.4"]
[workers]
min = 4
max = 3
idle_timeout_s = 9999
colour = "red"
[scaling]
type = "REQUEST_COUNT"
queue_delay_s = 0.1
"#;
    let faults = parse(text).unwrap_err().join("\n");
    for part in [
        "line 1: nmae is no key",
        "name is needed",
        "line 2: image has upper case",
        "line 3: disk_gb is a whole number",
        "line 4: ports \"8000/udp\" is not a port",
        "line 4: ports lacks \"8000/http\"",
        "line 5: flashboot \"YES\" is none of OFF",
        "line 6: args comes from the environment variable NOT_THERE",
        "line 8: env.2BAD is no name",
        "line 10: env.COUNT is a text",
        "line 12: gpu.pools is needed",
        "line 13: gpu.min_cuda_version is not a version",
        "line 14: gpu.allowed_cuda_versions excludes",
        "line 16: workers.min is 4",
        "line 18: workers.idle_timeout_s is a whole number",
        "line 19: workers.colour is no key",
        "line 22: scaling.queue_delay_s is a number of seconds, at least 0.5",
        "line 22: scaling.queue_delay_s does not belong",
    ] {
        assert!(faults.contains(part), "{part}\nin\n{faults}");
    }
}

#[test]
fn syntax_is_told_with_its_line() {
    let faults = parse("name = \"worker\"\nimage = \n").unwrap_err();
    assert!(faults[0].starts_with("line 2: "), "{faults:?}");
}

const SMALL: &str = "name = \"w\"\nimage = \"o/w:1\"\n[gpu]\npools = [\"A\"]\n";

#[test]
fn a_value_from_the_shell_is_a_secret() {
    let text = format!("{SMALL}[env]\nA = {{ env = \"TOKEN\" }}\nB = \"open\"\n");
    let spec = parse(&text).unwrap();
    assert!(!spec.env["A"].is_shown() && spec.env["B"].is_shown());
    assert_eq!(spec.env["A"].expose(), "hunter2");
    assert!(!format!("{spec:?}").contains("hunter2"));
}

#[test]
fn what_is_left_out_is_runpods_default() {
    let spec = parse(SMALL).unwrap();
    assert_eq!(spec.workers.idle_timeout_s, Some(10));
    assert_eq!((spec.disk_gb, spec.execution_timeout_ms), (20, 300_000));
    assert_eq!(spec.scaling, Scaling::QueueDelay(4.0));
    let by_count = format!("{SMALL}[scaling]\ntype = \"REQUEST_COUNT\"\nrequest_count = 2\n");
    let spec = parse(&by_count).unwrap();
    assert_eq!(spec.workers.idle_timeout_s, None, "RunPod refuses one");
    assert_eq!(spec.scaling, Scaling::RequestCount(2));
}

#[test]
fn a_template_gives_what_the_file_leaves_out() {
    let template = Template::from_value(&json!({"id": "t", "name": "base", "image": "o/base:1",
        "disk": 30, "args": "serve", "env": {"A": "theirs", "B": "theirs"}, "ports": ["1/tcp"]}));
    let text = "name = \"w\"\ntemplate = \"base\"\nargs = \"\"\n[gpu]\npools = [\"A\"]\n\
                [env]\nA = \"ours\"\n";
    let file = EndpointFile::parse(text, &shell).unwrap();
    assert_eq!(file.template.as_deref(), Some("base"));
    let spec = file.resolve(template.as_ref());
    assert_eq!((spec.image.as_str(), spec.disk_gb), ("o/base:1", 30));
    assert_eq!(
        spec.args, "",
        "the file's own value wins, even an empty one"
    );
    assert_eq!(spec.env["A"].expose(), "ours");
    assert_eq!(spec.env["B"].expose(), "theirs");
}
