//! Keys, retention, the log of acts: what operators do to tenants.

use crate::house::{House, OPERATOR, SOON, ask, job};
use jiff::Timestamp;
use photofinish_contract::messages::PlanMessage;
use photofinish_kit::{Method, wait_for};
use photofinish_model::{JobId, JobSnapshot, JobStatus};
use photofinish_objects::{KeyRecord, KeyScope, RunDoc};
use serde_json::{Value, json};

impl House {
    /// A call with the configured operator's key.
    pub(crate) async fn operate(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let call = self
            .call(method, &format!("/v1/admin{path}"))
            .bearer_auth(OPERATOR);
        match body {
            Some(body) => ask(call.json(&body)).await,
            None => ask(call).await,
        }
    }

    /// Changes the house's tenant.
    pub(crate) async fn limit(&self, change: Value) -> Value {
        let path = format!("/tenants/{}", self.tenant);
        let (status, shown) = self.operate(Method::PATCH, &path, Some(change)).await;
        assert_eq!(status, 200, "{shown}");
        shown
    }

    async fn acts(&self) -> Vec<String> {
        let (status, log) = self.operate(Method::GET, "/audit?limit=200", None).await;
        assert_eq!(status, 200, "{log}");
        let act = |row: &Value| row["act"].as_str().unwrap().to_owned();
        log["data"].as_array().unwrap().iter().map(act).collect()
    }

    /// A job that has ended and is closed, as the bucket and Redis know it.
    async fn ended_job(&self, id: u128) -> JobId {
        let (_, shown) = self.submit(None, &job(1)).await;
        let (PlanMessage::JobAccepted(told), _) = self.planned().await else {
            unreachable!("no job")
        };
        let at: Timestamp = "2026-11-01T10:00:00Z".parse().unwrap();
        let request = match told.request {
            photofinish_contract::messages::RequestRef::Inline(request) => *request,
            photofinish_contract::messages::RequestRef::Stored { .. } => {
                unreachable!("it is small")
            }
        };
        let job: JobId = shown["id"].as_str().unwrap().parse().unwrap();
        let doc = RunDoc {
            job: job.clone(),
            tenant: self.tenant.clone(),
            run: 1,
            plan: Vec::new(),
            forecast: photofinish_model::estimate::Forecast::default(),
            request,
            receivers: Vec::new(),
            accepted_at: at,
            deadline_at: at,
            created_at: at,
            body_sha256: format!("{id:064}"),
            carried: Vec::new(),
        };
        self.objects.put_run(&doc).await.unwrap();
        let known = self.jobstore.job(&job).await.unwrap().unwrap();
        let end = JobSnapshot {
            status: JobStatus::Failed,
            finished_at: Some(at),
            ..known
        };
        self.objects.put_end(&end).await.unwrap();
        self.objects.close(&self.tenant, &job, 1).await.unwrap();
        let _finished = self.jobstore.finish(&end).await.unwrap();
        let (_, shown) = self.get(&format!("/v1/jobs/{job}")).await;
        let manifest = serde_json::from_value(shown).unwrap();
        self.objects
            .put_manifest(&self.tenant, &manifest)
            .await
            .unwrap();
        job
    }
}

#[tokio::test]
async fn keys_are_made_described_used_and_revoked_and_operators_have_them_too() {
    let house = House::open().await;
    let path = format!("/tenants/{}/keys", house.tenant);
    let wish = json!({"description": "the shop"});
    let (status, made) = house.operate(Method::POST, &path, Some(wish)).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().unwrap();
    assert_eq!(made["prefix"], key[..8]);
    let (status, _) = ask(house.call(Method::GET, "/v1/jobs").bearer_auth(key)).await;
    assert_eq!(status, 200);
    let (_, listed) = house.operate(Method::GET, &path, None).await;
    let row = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == made["id"]);
    let row = row.unwrap();
    assert_eq!(
        (&row["description"], &row["tenant"]),
        (&json!("the shop"), &json!(house.tenant))
    );
    let used: Timestamp = row["last_used_at"].as_str().unwrap().parse().unwrap();
    let created: Timestamp = row["created_at"].as_str().unwrap().parse().unwrap();
    assert!(used >= created && row.get("key").is_none());

    let (_, operator) = house.operate(Method::POST, "/operator-keys", None).await;
    let second = operator["key"].as_str().unwrap();
    let admin = |key: &str| {
        ask(house
            .call(Method::GET, "/v1/admin/tenants")
            .bearer_auth(key))
    };
    assert_eq!((admin(second).await.0, admin(key).await.0), (200, 403));
    let own = format!("/operator-keys/{}", operator["id"].as_str().unwrap());
    let foreign = format!("{path}/{}", operator["id"].as_str().unwrap());
    assert_eq!(house.operate(Method::DELETE, &foreign, None).await.0, 404);
    assert_eq!(house.operate(Method::DELETE, &own, None).await.0, 204);
    assert_eq!(admin(second).await.0, 401);

    for (body, faults) in [
        (json!({"description": 7, "colour": 1}), 2),
        (json!({"description": "x".repeat(201)}), 1),
    ] {
        let (status, problem) = house.operate(Method::POST, &path, Some(body)).await;
        let named = problem["errors"].as_array().map_or(0, Vec::len);
        assert_eq!((status, named), (422, faults), "{problem}");
    }
    let text = [&made, &operator].map(|made| made["key"].as_str().unwrap().to_owned());
    let (_, log) = house.operate(Method::GET, "/audit", None).await;
    assert!(
        text.iter().all(|key| !log.to_string().contains(key)),
        "no key in the log of acts"
    );
}

#[tokio::test]
async fn an_old_key_still_opens_and_invented_ones_ask_nobody() {
    let house = House::open().await;
    // As keys were before they had a tag.
    let old = "pf_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let record = KeyRecord {
        key_hash: hex_of(old),
        scope: KeyScope::Tenant(house.tenant.clone()),
        revoked: false,
        prefix: "pf_AAECA".to_owned(),
        description: None,
        created_at: Timestamp::UNIX_EPOCH,
    };
    let put = house
        .objects
        .system_put(KeyRecord::KIND, &record.key_hash, None, &record);
    put.await.unwrap();
    let jobs = |key: String| ask(house.call(Method::GET, "/v1/jobs").bearer_auth(key));
    assert_eq!(jobs(old.to_owned()).await.0, 200);
    let mut tampered = house.key.clone();
    tampered.replace_range(10..11, if &tampered[10..11] == "A" { "B" } else { "A" });
    assert_eq!(jobs(tampered.clone()).await.0, 401);
    let copy = house
        .jobstore
        .cached_system(KeyRecord::KIND, &hex_of(&tampered))
        .await
        .unwrap();
    assert!(copy.is_none(), "nobody was asked about it");
    // Keys without a tag can be invented: after a few in a second nobody is asked.
    let calls = (0..60u8).map(|n| {
        jobs(format!(
            "pf_{}",
            old[3..].replace("AAEC", &format!("AA{n:02}"))
        ))
    });
    let answers: Vec<u16> = futures(calls).await;
    assert!(
        answers.contains(&503) && answers.contains(&401),
        "{answers:?}"
    );
    assert_eq!(
        jobs(house.key.clone()).await.0,
        200,
        "those that are known are not held up"
    );
}

fn hex_of(key: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(key))
}

async fn futures(calls: impl Iterator<Item = impl Future<Output = (u16, Value)>>) -> Vec<u16> {
    futures_util::future::join_all(calls)
        .await
        .into_iter()
        .map(|(status, _)| status)
        .collect()
}

#[tokio::test]
async fn every_act_is_logged_newest_first_and_every_wrong_field_is_named() {
    let house = House::open().await;
    let wrong = json!({"quotas": {"requests_per_s": 0, "jobs_waiting_max": "many", "gpu_seconds_per_day": -1.0,
        "cost_per_day_usd": [], "colour": 1}, "retention": 7, "paused": "yes", "name": "x"});
    let path = format!("/tenants/{}", house.tenant);
    let (status, problem) = house.operate(Method::PATCH, &path, Some(wrong)).await;
    let errors = problem["errors"].as_array().unwrap();
    let mut places: Vec<&str> = errors
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    places.sort_unstable();
    let expected = [
        "/name",
        "/paused",
        "/quotas/colour",
        "/quotas/cost_per_day_usd",
        "/quotas/gpu_seconds_per_day",
        "/quotas/jobs_waiting_max",
        "/quotas/requests_per_s",
        "/retention",
    ];
    assert_eq!((status, places), (422, expected.to_vec()));
    let (status, made) = house
        .operate(
            Method::POST,
            "/tenants",
            Some(json!({"id": "rich", "quotas": {"requests_per_s": 9},
            "retention": {"outputs_s": 60, "jobs_s": null}})),
        )
        .await;
    assert_eq!(
        (status, &made["quotas"]["requests_per_s"]),
        (201, &json!(9))
    );
    assert_eq!(made["retention"], json!({"outputs_s": 60, "jobs_s": null}));
    house.limit(json!({"paused": false})).await;
    let acts = house.acts().await;
    assert_eq!(
        acts[..2],
        ["tenant.change".to_owned(), "tenant.create".to_owned()]
    );
    assert_eq!(acts.len(), 4, "what was refused is no act: {acts:?}");
    let (_, page) = house.operate(Method::GET, "/audit?limit=1", None).await;
    assert_eq!(page["data"][0]["operator"], "configured");
    let next = format!(
        "/audit?limit=1&cursor={}",
        page["next_cursor"].as_str().unwrap()
    );
    let (_, second) = house.operate(Method::GET, &next, None).await;
    assert_eq!(
        (&second["data"][0]["act"], &second["data"][0]["target"]),
        (&json!("tenant.create"), &json!("rich"))
    );
    assert_eq!(
        house.operate(Method::GET, "/audit?cursor=x", None).await.0,
        422
    );
    assert_eq!(
        house.operate(Method::GET, "/tenants/nobody", None).await.0,
        404
    );
}

#[tokio::test]
async fn a_finished_job_is_deleted_whole_and_its_key_is_not_used_again_at_once() {
    let house = House::open().await;
    let running = house.submit(Some("k"), &job(1)).await.1["id"]
        .as_str()
        .unwrap()
        .to_owned();
    house.planned().await;
    let path = |job: &str| format!("/tenants/{}/jobs/{job}", house.tenant);
    assert_eq!(
        house.operate(Method::DELETE, &path(&running), None).await.0,
        409
    );
    let ended = house.ended_job(1).await;
    assert_eq!(house.get(&format!("/v1/jobs/{ended}")).await.0, 200);
    assert_eq!(
        house
            .operate(Method::DELETE, &path(ended.as_str()), None)
            .await
            .0,
        204
    );
    assert_eq!(house.get(&format!("/v1/jobs/{ended}")).await.0, 404);
    assert!(
        house
            .objects
            .jobs_of(&house.tenant)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        house
            .operate(Method::DELETE, &path(ended.as_str()), None)
            .await
            .0,
        404
    );

    let gone = JobId::derived(&house.tenant, "again");
    house.jobstore.mark_gone(&gone).await.unwrap();
    let (status, problem) = house.submit(Some("again"), &job(1)).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    assert_eq!(
        house.acts().await[..2],
        ["job.delete".to_owned(), "job.delete".to_owned()]
    );
}

#[tokio::test]
async fn what_a_tenants_retention_does_not_keep_goes_by_itself() {
    let redis = photofinish_kit::Redis::fresh().unwrap();
    let soon = [("retention.sweep_every_s", "0.5")];
    let house = House::with(&redis.url, &redis.prefix, &soon).await;
    let ended = house.ended_job(1).await;
    let running = house.submit(None, &job(1)).await.1["id"]
        .as_str()
        .unwrap()
        .to_owned();
    // It ended before there was a retention: the bucket is walked for it.
    house.limit(json!({"retention": {"jobs_s": 0}})).await;
    let gone = wait_for(SOON, "the ended job is gone", || async {
        (house.get(&format!("/v1/jobs/{ended}")).await.0 == 404).then_some(())
    });
    gone.await.unwrap();
    assert!(house.jobstore.ended_is_whole(&house.tenant).await.unwrap());
    // One that ends from now on is in the index.
    let next = house.ended_job(2).await;
    house
        .jobstore
        .note_ended(&house.tenant, &next, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    let gone = wait_for(SOON, "the next one is gone", || async {
        (house.get(&format!("/v1/jobs/{next}")).await.0 == 404).then_some(())
    });
    gone.await.unwrap();
    assert_eq!(
        house.get(&format!("/v1/jobs/{running}")).await.0,
        200,
        "what runs stays"
    );
}

#[tokio::test]
async fn no_secret_of_ours_is_shown_twice_or_kept_in_clear() {
    let house = House::open().await;
    let path = format!("/tenants/{}/amqp-user", house.tenant);
    let (status, user) = house.operate(Method::POST, &path, None).await;
    assert_eq!((status, &user["applied"]), (201, &json!(true)), "{user}");
    let password = user["password"].as_str().unwrap();
    assert!(!user["definitions"].to_string().contains(password));
    let (_, log) = house.operate(Method::GET, "/audit", None).await;
    assert!(!log.to_string().contains(password));
    let (_, made) = house
        .operate(Method::POST, "/tenants", Some(json!({"id": "notifier"})))
        .await;
    assert_eq!(made["id"], "notifier");
    let (status, _) = house
        .operate(Method::POST, "/tenants/notifier/amqp-user", None)
        .await;
    assert_eq!(status, 409, "its queues would be ours");
    let taken = format!("x-{}", uuid::Uuid::new_v4().simple());
    house.make_tenant(&taken).await;
    let theirs = house.rabbit.user(&taken, "theirs", (".*", ".*", ".*"));
    theirs.await.unwrap();
    let taken = format!("/tenants/{taken}/amqp-user");
    for method in [Method::POST, Method::DELETE] {
        let (status, problem) = house.operate(method, &taken, None).await;
        assert_eq!((status, &problem["code"]), (409, &json!("not_allowed")));
    }
    assert_eq!(house.operate(Method::DELETE, &path, None).await.0, 204);
    assert_eq!(house.operate(Method::DELETE, &path, None).await.0, 204);
}

#[tokio::test]
async fn refused_submissions_are_listed_shown_replayed_and_dropped() {
    let house = House::open().await;
    house.amqp_user(house.tenant.as_str()).await;
    house
        .limit(json!({"quotas": {"items_per_job_max": 1}}))
        .await;
    for id in ["one", "two"] {
        let properties =
            json!({"user_id": house.tenant, "message_id": id, "content_type": "application/json"});
        house
            .publish("job.submit", properties, &job(2).to_string())
            .await;
    }
    let listed = wait_for(SOON, "two refused submissions", || async {
        let (status, list) = house
            .operate(Method::GET, "/parked?queue=rejected", None)
            .await;
        assert_eq!(status, 200, "{list}");
        let rows = list["data"].as_array()?.clone();
        (rows.len() == 2).then_some(rows)
    });
    let rows = listed.await.unwrap();
    let row = rows.iter().find(|row| row["message_id"] == "one").unwrap();
    assert_eq!(
        (&row["code"], &row["tenant"]),
        (&json!("quota_exceeded"), &json!(house.tenant))
    );
    let id = row["id"].as_str().unwrap();
    let (_, shown) = house
        .operate(Method::GET, &format!("/parked/{id}"), None)
        .await;
    assert_eq!(shown["body"]["operation"], "img2vid");
    house
        .limit(json!({"quotas": {"items_per_job_max": null}}))
        .await;
    assert_eq!(
        house
            .operate(Method::POST, &format!("/parked/{id}/replay"), None)
            .await
            .0,
        202
    );
    let (PlanMessage::JobAccepted(told), _) = house.planned().await else {
        unreachable!("no job")
    };
    assert_eq!(told.job, JobId::derived(&house.tenant, "one"));
    let other = rows.iter().find(|row| row["message_id"] == "two").unwrap();
    let other = other["id"].as_str().unwrap();
    assert_eq!(
        house
            .operate(Method::DELETE, &format!("/parked/{other}"), None)
            .await
            .0,
        204
    );
    assert_eq!(
        house
            .operate(Method::DELETE, &format!("/parked/{other}"), None)
            .await
            .0,
        404
    );
    let (_, all) = house.operate(Method::GET, "/parked?limit=5", None).await;
    assert_eq!(all, json!({"data": [], "next_cursor": null}));
    let (status, problem) = house
        .operate(Method::GET, "/parked?queue=nonsense&limit=0", None)
        .await;
    assert_eq!(
        (status, problem["errors"].as_array().unwrap().len()),
        (422, 2)
    );
}
