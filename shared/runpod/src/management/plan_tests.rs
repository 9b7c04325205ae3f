//! Laws of comparing and changing. RunPod's side of a PATCH is modelled in [`patched`].

use super::*;
use crate::management::{Endpoint, EndpointKind, FlashBoot, WorkerBounds};
use proptest::prelude::*;

fn words(max: usize) -> impl Strategy<Value = BTreeSet<String>> {
    proptest::collection::btree_set("[A-Z]{1,4}_[0-9]{2}", 0..max)
}

fn environment() -> impl Strategy<Value = Vec<(String, String, bool)>> {
    let value = "sesame-[a-z]{3}";
    proptest::collection::vec(("[A-Z_]{1,8}", value, any::<bool>()), 0..5)
}

prop_compose! {
    fn gpus()(
        pools in words(4), excluded_types in words(3), count in 1..4_u64,
        cuda_version_min in proptest::option::of("1[0-9]\\.[0-9]"),
        allowed_cuda_versions in words(3),
    ) -> GpuSpec {
        GpuSpec { pools, excluded_types, count, cuda_version_min, allowed_cuda_versions }
    }
}

fn scalings() -> impl Strategy<Value = Scaling> {
    prop_oneof![
        (1..600_u32).prop_map(|tenths| Scaling::QueueDelay(f64::from(tenths) / 10.0)),
        (1..50_u64).prop_map(Scaling::RequestCount),
    ]
}

prop_compose! {
    fn texts()(
        name in "[a-z]{1,6}", image in "[a-z]{1,6}:[0-9]", args in "[a-z ]{0,6}",
        ports in words(3), data_centers in words(3), network_volumes in words(2),
        registry in proptest::option::of("[a-z]{4}"),
    ) -> EndpointSpec {
        EndpointSpec {
            name, image, args, ports, data_centers, network_volumes, registry,
            kind: EndpointKind::Queue, disk_gb: 15, env: std::collections::BTreeMap::new(),
            gpu: None, workers: WorkerBounds { min: 0, max: 3, idle_timeout_s: None },
            scaling: Scaling::QueueDelay(4.0), execution_timeout_ms: 600_000,
            flashboot: FlashBoot::Off,
        }
    }
}

prop_compose! {
    /// A spec as the file gives it: an idle timeout just where RunPod knows one.
    fn specs()(
        texts in texts(), env in environment(), gpu in gpus(), scaling in scalings(),
        (min, max, idle) in (0..3_u64, 0..9_u64, 1..3600_u64), disk_gb in 1..99_u64,
        timeout in 5..9999_u64, flash in 0..3_usize,
    ) -> EndpointSpec {
        let env = env.into_iter().map(|(name, value, shown)| {
            (name, if shown { EnvValue::plain(value) } else { EnvValue::secret(value) })
        });
        let mut spec = EndpointSpec {
            env: env.collect(), gpu: Some(gpu), scaling, disk_gb,
            workers: WorkerBounds { min, max, idle_timeout_s: None },
            execution_timeout_ms: timeout * 1000,
            flashboot: [FlashBoot::Off, FlashBoot::On, FlashBoot::Priority][flash].clone(),
            ..texts
        };
        spec.workers.idle_timeout_s = spec.has_idle_timeout().then_some(idle);
        spec
    }
}

/// What RunPod has after a PATCH: fields that are named are replaced, `gpu` and `workers` field by
/// field, and a queue that scales by request count has no idle timeout (10 s again when it gets one).
fn patched(before: &Value, patch: &Value) -> Value {
    let mut after = before.clone();
    for (name, value) in patch.as_object().into_iter().flatten() {
        match (name.as_str(), value.as_object()) {
            ("gpu" | "workers", Some(parts)) => {
                for (part, value) in parts {
                    after[name][part] = value.clone();
                }
            }
            _ => after[name] = value.clone(),
        }
    }
    let by_count = after["scaling"]["type"] == "REQUEST_COUNT";
    if let Some(workers) = after["workers"].as_object_mut() {
        if by_count {
            workers.remove("idleTimeout");
        } else {
            workers.entry("idleTimeout").or_insert(json!(10));
        }
    }
    after["id"] = json!("ep");
    after
}

fn read(value: &Value) -> EndpointSpec {
    Endpoint::from_value(value).unwrap().spec
}

proptest! {
    #[test]
    fn a_patch_makes_what_is_into_what_shall_be(shall in specs(), is in specs()) {
        let before = patched(&create_body(&is), &json!({}));
        let changes = diff(&shall, &read(&before));
        let after = read(&patched(&before, &patch_body(&shall, &changes)));
        prop_assert_eq!(&after, &shall);
        prop_assert_eq!(diff(&shall, &after), vec![]);
    }

    #[test]
    fn equals_differ_in_nothing(spec in specs()) {
        let made = read(&patched(&create_body(&spec), &json!({})));
        prop_assert_eq!(&made, &spec);
        prop_assert_eq!(diff(&spec, &made), vec![]);
        prop_assert_eq!(patch_body(&spec, &[]), json!({}));
    }

    #[test]
    fn secrets_are_never_shown(shall in specs(), is in specs()) {
        let is = read(&patched(&create_body(&is), &json!({})));
        for change in diff(&shall, &is) {
            let shown = format!("{change:?} {} {}", change.from, change.to);
            let Field::Env(name) = &change.field else { continue };
            let open = shall.env.get(name).is_some_and(EnvValue::is_shown);
            prop_assert!(open || !shown.contains("sesame"), "{}", shown);
        }
        let secret = |spec: &EndpointSpec| spec.env.values().all(|value| !value.is_shown());
        if secret(&shall) {
            let shown = format!("{shall:?}");
            prop_assert!(!shown.contains("sesame"), "{}", shown);
        }
    }

    #[test]
    fn a_patch_names_nothing_that_does_not_change(shall in specs(), is in specs()) {
        let is = read(&patched(&create_body(&is), &json!({})));
        let changes = diff(&shall, &is);
        let body = patch_body(&shall, &changes);
        let fields: BTreeSet<&Field> = changes.iter().map(|change| &change.field).collect();
        prop_assert_eq!(fields.len(), changes.len(), "each setting once");
        for (name, field) in [("image", Field::Image), ("scaling", Field::Scaling),
                              ("timeout", Field::ExecutionTimeout), ("disk", Field::Disk)] {
            prop_assert_eq!(body.get(name).is_some(), fields.contains(&field), "{}", name);
        }
        let env = fields.iter().any(|field| matches!(field, Field::Env(_)));
        prop_assert_eq!(body.get("env").is_some(), env);
    }
}

fn spec() -> EndpointSpec {
    let value =
        json!({"id": "ep", "name": "worker", "image": "docker.io/o/w:1", "gpu": {"pools": ["A"]}});
    read(&value)
}

#[test]
fn each_effect_is_runpods() {
    let is = spec();
    let mut shall = is.clone();
    shall.workers.max = 5;
    shall.image = "docker.io/o/w:2".to_owned();
    shall
        .env
        .insert("BATCH_SIZE".to_owned(), EnvValue::plain("5"));
    shall.gpu = None;
    let changes = diff(&shall, &is);
    let told: Vec<String> = changes
        .iter()
        .map(|one| {
            format!(
                "{} {} {} {}",
                one.field,
                one.from,
                one.to,
                one.effect.as_str()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "compute GPU CPU recreate",
            "image docker.io/o/w:1 docker.io/o/w:2 release",
            "env.BATCH_SIZE (none) 5 release",
            "workers.max 3 5 immediate",
        ]
    );
}

#[test]
fn what_was_a_secret_stays_hidden_when_the_file_says_it_openly() {
    let mut is = spec();
    is.env
        .insert("S3_SECRET_KEY".to_owned(), EnvValue::secret("sesame"));
    is.env.insert("GONE".to_owned(), EnvValue::secret("sesame"));
    let mut shall = spec();
    shall
        .env
        .insert("S3_SECRET_KEY".to_owned(), EnvValue::plain("open"));
    let shown = format!("{:?}", diff(&shall, &is));
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn the_suffix_of_flashboot_is_no_other_name() {
    let mut is = spec();
    is.name = "worker -fb".to_owned();
    assert_eq!(diff(&spec(), &is), []);
    is.name = "worker-2".to_owned();
    assert_eq!(diff(&spec(), &is)[0].field, Field::Name);
}
