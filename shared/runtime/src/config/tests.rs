use super::*;

const DEFAULTS: &str = r#"
[pull]
at_once_max = 16
rate_min = 4.0
enabled = true
hosts = []
[runpod]
api_key = ""
base_url = "https://api.runpod.ai/v2"
[tenants]
"#;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    pull: Pull,
    runpod: Runpod,
    tenants: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pull {
    at_once_max: u32,
    rate_min: f64,
    enabled: bool,
    hosts: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runpod {
    #[serde(deserialize_with = "de::optional_text")]
    api_key: Option<String>,
    base_url: String,
}

fn sources(env: &[(&str, &str)]) -> Sources {
    Sources {
        defaults: DEFAULTS.to_owned(),
        env: env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        aliases: vec![("RUNPOD_API_KEY".into(), "runpod.api_key".into())],
        ..Sources::default()
    }
}

#[test]
fn defaults_alone_are_enough() {
    let settings: Settings = load(&sources(&[])).unwrap();
    assert_eq!(settings.pull.at_once_max, 16);
    assert_eq!(settings.runpod.api_key, None);
}

#[test]
fn the_environment_wins_over_the_file_and_both_over_the_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(
        &file,
        "[pull]\nat_once_max = 3\nrate_min = 9\n[tenants]\nacme = 'x'",
    )
    .unwrap();
    let mut sources = sources(&[
        ("PHOTOFINISH__PULL__RATE_MIN", "2.5"),
        ("PHOTOFINISH__PULL__ENABLED", "false"),
        ("PHOTOFINISH__PULL__HOSTS", "a.example, b.example,"),
        ("PHOTOFINISH_URL", "the command line's, not ours"),
    ]);
    sources.file = Some(file);
    sources.overrides = vec![("runpod.base_url".into(), "http://127.0.0.1:8100/v2".into())];
    let settings: Settings = load(&sources).unwrap();
    assert_eq!(settings.pull.at_once_max, 3);
    assert!((settings.pull.rate_min - 2.5).abs() < f64::EPSILON);
    assert!(!settings.pull.enabled);
    assert_eq!(settings.pull.hosts, ["a.example", "b.example"]);
    assert_eq!(settings.tenants["acme"], "x");
    assert_eq!(settings.runpod.base_url, "http://127.0.0.1:8100/v2");
}

#[test]
fn a_secret_comes_from_a_file_and_stays_text() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "00123\n").unwrap();
    let path = file.to_str().unwrap();
    for env in [
        [("PHOTOFINISH__RUNPOD__API_KEY_FILE", path)],
        [("RUNPOD_API_KEY_FILE", path)],
        [("RUNPOD_API_KEY", "00123")],
    ] {
        let settings: Settings = load(&sources(&env)).unwrap();
        assert_eq!(settings.runpod.api_key.as_deref(), Some("00123"), "{env:?}");
    }
    let both = [
        ("RUNPOD_API_KEY", "alias"),
        ("PHOTOFINISH__RUNPOD__API_KEY", "explicit"),
    ];
    let settings: Settings = load(&sources(&both)).unwrap();
    assert_eq!(settings.runpod.api_key.as_deref(), Some("explicit"));
}

#[test]
fn a_key_that_is_itself_called_file_is_no_secret() {
    let env = [("PHOTOFINISH__RUNTIME__PORTS_FILE", "/nowhere/ports.json")];
    let process = load_tree(&sources(&env)).unwrap().process().unwrap();
    assert_eq!(
        process.runtime.ports_file.as_deref(),
        Some("/nowhere/ports.json")
    );
}

#[test]
fn all_errors_are_told_at_once() {
    let mut sources = sources(&[
        ("PHOTOFINISH__PULL__AT_ONCE_MAX", "many"),
        ("PHOTOFINISH__PULL__ENABLED", "perhaps"),
        ("PHOTOFINISH__PULL__SPEED", "1"),
        ("PHOTOFINISH__PULLS__RATE_MIN", "1"),
        ("PHOTOFINISH__RUNPOD__API_KEY_FILE", "/nowhere/key"),
    ]);
    sources.file = Some("/nowhere/config.toml".into());
    let ConfigErrors(errors) = load::<Settings>(&sources).unwrap_err();
    assert_eq!(errors.len(), 6, "{errors:#?}");
    let told = errors.join("\n");
    for part in [
        "pull.at_once_max: a whole",
        "pull.enabled: true or",
        "pull.speed: unknown",
        "pulls: unknown",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn what_only_the_type_knows_is_told_with_its_path() {
    let env = [("PHOTOFINISH__PULL__AT_ONCE_MAX", "-1")];
    let told = load::<Settings>(&sources(&env)).unwrap_err().to_string();
    assert!(told.contains("pull.at_once_max"), "{told}");
}

#[test]
fn shown_settings_hide_secrets() {
    let env = [
        ("RUNPOD_API_KEY", "rp_very_secret"),
        (
            "PHOTOFINISH__RUNPOD__BASE_URL",
            "https://user:hunter2@host/v2?x=1",
        ),
    ];
    let shown = load_tree(&sources(&env)).unwrap().shown();
    assert!(
        !shown.contains("rp_very_secret") && !shown.contains("hunter2"),
        "{shown}"
    );
    assert!(shown.contains("https://(hidden)@host/v2?x=1") && shown.contains("at_once_max"));
}

#[test]
fn hiding_follows_names_at_any_depth() {
    let tree = serde_json::json!({
        "a": {"db_password": "x", "token_ttl_s": 5, "signing_keys": ["k1"], "client_secret": ""},
        "hosts": ["amqp://u:p@h:1/v", "plain@text"], "secrets": {"one": "x"},
    });
    let expected = serde_json::json!({
        "a": {"db_password": "(hidden)", "token_ttl_s": 5, "signing_keys": "(hidden)", "client_secret": ""},
        "hosts": ["amqp://(hidden)@h:1/v", "plain@text"], "secrets": {"one": "(hidden)"},
    });
    assert_eq!(hidden(&tree), expected);
}
