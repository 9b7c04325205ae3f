//! What an operator does.

use crate::bench::{Bench, PROGRAM, told};
use serde_json::Value;

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

pub(crate) async fn keys_are_made_listed_and_revoked(bench: &Bench) {
    let tenant = &bench.site.stack.wiring().unwrap().client.tenant;
    let made = bench
        .run(&[
            "keys",
            "create",
            tenant,
            "--description",
            "nightly",
            "--json",
        ])
        .await
        .well()
        .json();
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let with_it = || async {
        let mut command = bench.command(PROGRAM);
        command.args(["list", "--limit", "1", "--api-key", &key]);
        told(command).await
    };
    with_it().await.well();
    let listed = bench.run(&["keys", "list", tenant]).await.well();
    assert!(
        listed.out.contains("nightly") && !listed.out.contains(&key),
        "{listed:?}"
    );
    // The beginning of its id is enough to mean it.
    bench
        .run(&["keys", "revoke", tenant, "--key", &id[..12]])
        .await
        .well();
    let listed = bench
        .run(&["keys", "list", tenant, "--json"])
        .await
        .well()
        .json();
    let rows = listed["data"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == id.as_str()).unwrap();
    assert_eq!(row["revoked"], true, "{listed}");
    let refused = with_it().await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("Check PHOTOFINISH_API_KEY"),
        "{refused:?}"
    );
    let operator = bench
        .run(&["keys", "create", "--operator", "--json"])
        .await
        .well()
        .json();
    let mut command = bench.command(PROGRAM);
    command.args(["tenants", "list", "--operator-key", &text(&operator, "key")]);
    told(command).await.well();
    let audit = bench.run(&["audit", "--limit", "5"]).await.well();
    assert!(audit.out.contains("key"), "{audit:?}");
}

pub(crate) async fn refused_messages_are_shown_replayed_and_dropped(bench: &Bench) {
    bench
        .site
        .publish("job.submit", b"{not json", "m-1")
        .await
        .unwrap();
    let list = ["dead", "list", "--queue", "rejected", "--json"];
    let one = |page: &Value| page["data"].as_array().is_some_and(|rows| rows.len() == 1);
    let page = bench.until(&list, one).await;
    let id = text(&page["data"][0], "id");
    assert_eq!(text(&page["data"][0], "code"), "malformed", "{page}");
    let shown = bench.run(&["dead", "show", &id]).await.well();
    assert!(shown.out.contains("{not json"), "{shown:?}");
    // Replayed it is refused again, and lies there anew.
    bench.run(&["dead", "replay", &id]).await.well();
    let page = bench.until(&list, one).await;
    let id = text(&page["data"][0], "id");
    let asked = bench.run(&["dead", "drop", &id]).await;
    assert_eq!(asked.code, 64, "nobody can be asked: {asked:?}");
    bench.run(&["dead", "drop", &id, "--yes"]).await.well();
    let none = |page: &Value| page["data"].as_array().is_some_and(Vec::is_empty);
    bench.until(&list, none).await;
}

pub(crate) async fn tenants_are_limited(bench: &Bench) {
    let tenant = &bench.site.stack.wiring().unwrap().client.tenant;
    let set = [
        "tenants",
        "set",
        tenant,
        "--items-per-job-max",
        "2",
        "--keep-outputs",
        "30d",
        "--json",
    ];
    bench.run(&set).await.well();
    let set = [
        "tenants",
        "set",
        tenant,
        "--requests-per-s",
        "500",
        "--json",
    ];
    let shown = bench.run(&set).await.well().json();
    assert_eq!(
        shown["quotas"]["items_per_job_max"], 2,
        "what is not named stays: {shown}"
    );
    assert_eq!(shown["retention"]["outputs_s"], 30 * 86_400);
    let refused = bench.run(&["submit", "many.json"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("quota_exceeded") && refused.err.contains("tenants set"),
        "{refused:?}"
    );
}

pub(crate) async fn tenants_and_endpoints_are_paused(bench: &Bench) {
    let tenant = &bench.site.stack.wiring().unwrap().client.tenant;
    bench.run(&["tenants", "pause", tenant]).await.well();
    let page = bench.run(&["tenants", "list"]).await.well();
    assert!(page.out.contains("paused"), "{page:?}");
    bench.run(&["tenants", "resume", tenant]).await.well();
    let usage = bench
        .run(&["tenants", "usage", tenant, "--json"])
        .await
        .well()
        .json();
    assert!(usage["gpu_seconds"].as_f64() > Some(0.0), "{usage}");
    let listed = bench
        .run(&["endpoint", "list", "--json"])
        .await
        .well()
        .json();
    let id = text(&listed["data"][0], "id");
    bench.run(&["endpoint", "pause", &id]).await.well();
    bench.run(&["endpoint", "resume", &id]).await.well();
}

pub(crate) async fn what_is_deleted_is_gone(bench: &Bench) {
    let tenant = &bench.site.stack.wiring().unwrap().client.tenant;
    let done = bench
        .run(&["list", "--status", "completed", "--limit", "1", "--json"])
        .await;
    let job = text(&done.well().json()["data"][0], "id");
    bench
        .run(&["outputs", "delete", &job, "--yes"])
        .await
        .well();
    bench
        .run(&["tenants", "delete-job", tenant, &job, "--yes"])
        .await
        .well();
    let gone = bench.run(&["get", &job]).await;
    assert_eq!(gone.code, 1, "{gone:?}");
    let rebuilt = bench.run(&["rebuild", "--json"]).await.well().json();
    assert!(rebuilt["known"].as_u64() > Some(0), "{rebuilt}");
    assert_eq!(rebuilt["restored"], 0, "{rebuilt}");
    let before = bench.run(&["bucket", "lifecycle"]).await;
    assert_eq!(before.code, 1, "{before:?}");
    assert!(before.err.contains("--apply"), "{before:?}");
    let rules = bench.run(&["bucket", "lifecycle", "--apply"]).await.well();
    assert!(rules.out.contains("photofinish-rescue"), "{rules:?}");
    let doctor = bench.run(&["doctor", "--json"]).await;
    let checks = doctor.json()["checks"].as_array().unwrap().len();
    assert!(checks > 6, "{doctor:?}");
}
