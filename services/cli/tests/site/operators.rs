//! What an operator does.

use crate::bench::{Bench, PROGRAM, SOON, told};
use photofinish_kit::wait_until;
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

pub(crate) async fn users_at_the_broker_are_made_and_taken_away(bench: &Bench) {
    // Users are the broker's: one of its own for each site.
    let tenant = format!("{}-b", bench.site.stack.wiring().unwrap().client.tenant);
    bench.run(&["tenants", "create", &tenant]).await.well();
    let words = ["tenants", "amqp-user", &tenant];
    let made = bench.run(&[&words[..], &["--json"]].concat()).await;
    let made = made.well().json();
    assert_eq!(
        (text(&made, "user").as_str(), &made["applied"]),
        (tenant.as_str(), &Value::Bool(true))
    );
    assert!(!text(&made, "password").is_empty(), "{made}");
    for _again in 0..2 {
        let removed = bench.run(&[&words[..], &["--remove"]].concat()).await;
        assert!(removed.well().out.contains("taken away"));
    }
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

pub(crate) async fn what_is_not_kept_goes_by_itself(bench: &Bench) {
    let wiring = bench.site.stack.wiring().unwrap();
    let tenant = wiring.client.tenant.as_str();
    let objects = wiring.objects().unwrap();
    let owner = tenant.parse().unwrap();
    let done = ["list", "--status", "completed", "--limit", "1", "--json"];
    let done = bench.run(&done).await.well().json();
    let job = text(&done["data"][0], "id");
    assert!(!bench.site.output_keys(&job).await.unwrap().is_empty());
    let keep = async |flag: &str| {
        bench
            .run(&["tenants", "set", tenant, flag, "1s"])
            .await
            .well()
    };
    // First its outputs go, and the job says so; then all of it.
    keep("--keep-outputs").await;
    let shown = bench
        .until(&["get", &job, "--json"], |job| {
            job["outputs_deleted_at"].is_string()
        })
        .await;
    assert!(shown["outputs"][0].get("url").is_none(), "{shown}");
    let none = || async {
        bench
            .site
            .output_keys(&job)
            .await
            .is_ok_and(|keys| keys.is_empty())
    };
    wait_until(SOON, "its outputs are gone", none)
        .await
        .unwrap();
    let dir = bench.path("too-late");
    let fetched = ["fetch", &job, "--out", dir.to_str().unwrap()];
    let fetched = bench.run(&fetched).await;
    assert_eq!(fetched.code, 1, "{fetched:?}");
    keep("--keep-jobs").await;
    let gone = || async { bench.run(&["get", &job]).await.code == 1 };
    wait_until(SOON, "the job is gone", gone).await.unwrap();
    let left = || async {
        objects
            .jobs_of(&owner)
            .await
            .is_ok_and(|jobs| jobs.is_empty())
    };
    wait_until(SOON, "nothing of any job is in the bucket", left)
        .await
        .unwrap();
}
