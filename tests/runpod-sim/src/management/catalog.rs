//! GPU pools and the types in them: a few of RunPod's, enough to choose from.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Each pool with its types. RunPod's documents differ on where the RTX A4500 is.
pub(super) const POOLS: [(&str, &[&str]); 8] = [
    (
        "AMPERE_16",
        &[
            "NVIDIA RTX A4000",
            "NVIDIA RTX A4500",
            "NVIDIA RTX 4000 Ada Generation",
            "NVIDIA RTX 2000 Ada Generation",
        ],
    ),
    (
        "AMPERE_24",
        &["NVIDIA RTX A5000", "NVIDIA GeForce RTX 3090"],
    ),
    ("ADA_24", &["NVIDIA L4", "NVIDIA GeForce RTX 4090"]),
    ("ADA_32_PRO", &["NVIDIA GeForce RTX 5090"]),
    ("AMPERE_48", &["NVIDIA A40", "NVIDIA RTX A6000"]),
    (
        "ADA_48_PRO",
        &[
            "NVIDIA L40",
            "NVIDIA L40S",
            "NVIDIA RTX 6000 Ada Generation",
        ],
    ),
    (
        "AMPERE_80",
        &["NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"],
    ),
    ("ADA_80_PRO", &["NVIDIA H100 80GB HBM3"]),
];

/// The types of a pool.
pub(super) fn types(pool: &str) -> Option<&'static [&'static str]> {
    let found = POOLS.iter().find(|(name, _)| *name == pool);
    found.map(|(_, types)| *types)
}

/// The GPU that a worker of these pools gets: the first one that is not excluded.
pub(super) fn first_type(gpu: &Value) -> Option<&'static str> {
    let excluded = |name: &str| {
        let names = gpu["excludedTypes"].as_array().into_iter().flatten();
        names.into_iter().any(|one| one == name)
    };
    let pools = gpu["pools"].as_array()?.iter().filter_map(Value::as_str);
    let mut all = pools.flat_map(|pool| types(pool).unwrap_or_default());
    all.find(|name| !excluded(name)).copied()
}

/// `GET /v2/catalog/gpus`.
pub(super) async fn gpus() -> Response {
    let rows = POOLS.iter().flat_map(|(pool, types)| {
        let types = types.iter();
        types.map(move |id| json!({"id": id, "displayName": id, "pool": pool}))
    });
    Json(json!({"gpus": rows.collect::<Vec<_>>()})).into_response()
}
