//! Runs, ends, requests, snapshots, system records.

use super::*;
use futures_util::{StreamExt, TryStreamExt};
use photofinish_contract::job::{Job, ViewSettings};
use photofinish_kit::{Answer, Receiver, S3Credentials};
use photofinish_model::{Code, Fault, ItemState, JobId, JobSnapshot, JobStatus};
use photofinish_objects::{
    Class, ItemFault, Lifecycle, ObjectsError, PartRecord, TenantRecord, WebhookEndpointRecord,
};

#[tokio::test]
async fn readiness_tells_a_good_bucket_from_a_bad_one() -> Outcome {
    let (server, objects) = start().await?;
    objects.check().await?;
    objects.check().await?;
    assert!(objects_at(&server, "wrong").check().await.is_err());
    server.stop().await;
    let gone = objects.check().await.unwrap_err();
    assert_eq!(gone.class(), Class::Transient, "{gone:?}");
    Ok(())
}

#[tokio::test]
async fn of_twenty_ends_one_counts_and_all_see_it() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(1);
    let racers = (0..20u32).map(|racer| {
        let (objects, mut end) = (objects.clone(), run_doc(&job, 1, 2).initial_snapshot());
        async move {
            end.status = JobStatus::Failed;
            end.error = Some(Fault::new(Code::InternalError, format!("racer {racer}")));
            objects.put_end(&end).await
        }
    });
    let ends: Vec<(JobSnapshot, bool)> = futures_util::stream::iter(racers)
        .buffer_unordered(20)
        .try_collect()
        .await?;
    assert_eq!(ends.iter().filter(|(_, mine)| *mine).count(), 1);
    assert!(ends.iter().all(|(end, _)| *end == ends[0].0));
    assert_eq!(
        objects.end(&tenant(), &job, 1).await?.as_ref(),
        Some(&ends[0].0)
    );
    Ok(())
}

#[tokio::test]
async fn a_run_keeps_its_first_plan_and_is_open_until_closed() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(2);
    assert_eq!(objects.latest_run(&tenant(), &job).await?, None);
    assert_eq!(objects.run(&tenant(), &job, 1).await?, None);
    let first = run_doc(&job, 1, 3);
    assert_eq!(objects.put_run(&first).await?, first);
    let mut again = first.clone();
    again.accepted_at = time("2026-11-22T10:00:09Z");
    assert_eq!(
        objects.put_run(&again).await?,
        first,
        "a redelivery gets the stored plan"
    );
    assert!(objects.is_open(&tenant(), &job, 1).await?);
    assert_eq!(objects.open_runs().await?, vec![(tenant(), job.clone(), 1)]);
    objects.put_run(&run_doc(&job, 2, 3)).await?;
    assert_eq!(objects.latest_run(&tenant(), &job).await?, Some(2));
    objects.close(&tenant(), &job, 1).await?;
    objects.close(&tenant(), &job, 1).await?;
    objects.put_run(&again).await?;
    assert!(
        !objects.is_open(&tenant(), &job, 1).await?,
        "a late copy opens nothing again"
    );
    assert_eq!(objects.open_runs().await?, vec![(tenant(), job, 2)]);
    Ok(())
}

#[tokio::test]
async fn requests_are_checked_against_their_hash() -> Outcome {
    let (server, objects) = start().await?;
    let job = JobId::from_random(3);
    let sha256 = objects.put_request(&tenant(), &job, &request(400)).await?;
    assert_eq!(
        objects.request(&tenant(), &job, &sha256).await?,
        Some(request(400))
    );
    assert_eq!(
        objects.request(&tenant(), &job, &"0".repeat(64)).await?,
        None
    );
    let file = server.root().join(format!(
        "{}/media/acme/{job}/_job/request-{sha256}.json",
        server.bucket()
    ));
    std::fs::write(file, b"{}")?;
    let changed = objects.request(&tenant(), &job, &sha256).await.unwrap_err();
    assert!(matches!(changed, ObjectsError::Hash { .. }), "{changed:?}");
    Ok(())
}

#[tokio::test]
async fn a_snapshot_is_rebuilt_from_the_bucket_alone() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(8);
    assert_eq!(objects.snapshot(&tenant(), &job, 1).await?, None);
    let doc = run_doc(&job, 1, 3);
    objects.put_run(&doc).await?;
    let fresh = objects.snapshot(&tenant(), &job, 1).await?;
    assert_eq!(fresh, Some(doc.initial_snapshot()));

    let body = noise(50);
    let other_run = upload(&objects, meta(&job, 9, 0, &body), &body).await?;
    let stored = upload(&objects, meta(&job, 1, 0, &body), &body).await?;
    let fault = Fault::new(Code::NotAnImage, "send a picture");
    let errors = vec![ItemFault {
        index: 2,
        fault: fault.clone(),
        evidence: "PNG?".to_owned(),
    }];
    let record = PartRecord {
        run: 1,
        part: 0,
        attempt: 2,
        errors,
    };
    objects.put_part_record(&tenant(), &job, &record).await?;
    assert_eq!(
        objects.part_records(&tenant(), &job, 1).await?,
        vec![record]
    );
    assert!(objects.part_records(&tenant(), &job, 2).await?.is_empty());

    let mut expected = doc.initial_snapshot();
    expected.status = JobStatus::Running;
    expected.items[0].state = ItemState::Stored(stored.clone());
    expected.items[2].state = ItemState::Failed(fault);
    assert_eq!(
        objects.snapshot(&tenant(), &job, 1).await?,
        Some(expected.clone())
    );

    let mut end = expected;
    end.status = JobStatus::Completed;
    end.finished_at = Some(time("2026-11-22T10:05:00Z"));
    end.usage.gpu_seconds = 12.5;
    objects.put_end(&end).await?;
    assert_eq!(
        objects.snapshot(&tenant(), &job, 1).await?,
        Some(end.clone())
    );

    let mut next = run_doc(&job, 2, 3);
    next.carried = vec![end.items[0].clone()];
    objects.put_run(&next).await?;
    let retried = objects.snapshot(&tenant(), &job, 2).await?.unwrap();
    assert_eq!(retried.items[0].state, ItemState::Stored(stored));
    assert_eq!(retried.counts().pending(), 2);
    assert!(objects.output_exists(&other_run.key).await?);

    let manifest = |run| {
        let snapshot = JobSnapshot { run, ..end.clone() };
        Job::with_outputs(&snapshot, ViewSettings::default(), |_| None)
    };
    objects.put_manifest(&tenant(), &manifest(2)).await?;
    objects.put_manifest(&tenant(), &manifest(1)).await?;
    assert_eq!(objects.manifest(&tenant(), &job).await?, Some(manifest(2)));
    Ok(())
}

#[tokio::test]
async fn system_records_grow_by_versions() -> Outcome {
    let (_server, objects) = start().await?;
    let record = |lane| {
        let at = time("2026-11-22T10:00:00Z");
        TenantRecord::new(tenant(), lane, "sealed".to_owned(), at)
    };
    let kind = TenantRecord::KIND;
    assert_eq!(
        objects.system_get::<TenantRecord>(kind, "acme").await?,
        None
    );
    assert_eq!(objects.system_put(kind, "acme", None, &record(1)).await?, 1);
    let conflict = objects
        .system_put(kind, "acme", None, &record(2))
        .await
        .unwrap_err();
    assert!(conflict.is_conflict());
    for version in 1..=11 {
        objects
            .system_put(kind, "acme", Some(version), &record(7))
            .await?;
    }
    assert_eq!(
        objects.system_get(kind, "acme").await?,
        Some((12, record(7)))
    );
    assert!(
        objects
            .system_put(kind, "../acme", None, &record(1))
            .await
            .is_err()
    );

    let endpoint = |tenant: &str, id: &str| {
        let (url, at) = ("https://example.com/hook", time("2026-11-22T10:00:00Z"));
        WebhookEndpointRecord::new(
            id.to_owned(),
            tenant.parse().unwrap(),
            url.to_owned(),
            String::new(),
            at,
        )
    };
    let kind = WebhookEndpointRecord::KIND;
    for (tenant, id) in [("acme", "whe_1"), ("acme", "whe_2"), ("other", "whe_3")] {
        let record = endpoint(tenant, id);
        let name = WebhookEndpointRecord::record_id(&record.tenant, id);
        objects.system_put(kind, &name, None, &record).await?;
    }
    let mine = objects
        .system_list::<WebhookEndpointRecord>(kind, "acme")
        .await?;
    let ids: Vec<&str> = mine.iter().map(|(id, _, _)| id.as_str()).collect();
    assert_eq!(ids, ["acme/whe_1", "acme/whe_2"]);
    assert_eq!(
        objects
            .system_list::<WebhookEndpointRecord>(kind, "")
            .await?
            .len(),
        3
    );
    Ok(())
}

/// A bucket that tells its rules, or nothing, is scripted; the tests' own has none.
#[tokio::test]
async fn the_bucket_is_asked_for_its_lifecycle() -> Outcome {
    let (_server, objects) = start().await?;
    assert_eq!(objects.lifecycle().await?, Lifecycle::Rules(Vec::new()));
    objects.check().await?;
    let now = time("2026-11-22T10:00:00Z");
    objects.try_presigned(Duration::from_mins(5), now).await?;

    let scripted = Receiver::start().await?;
    let credentials = S3Credentials::default();
    let objects = Objects::connect(&Settings {
        endpoint: scripted.url("").trim_end_matches('/').to_owned(),
        public_endpoint: String::new(),
        bucket: "media".to_owned(),
        region: credentials.region,
        access_key_id: credentials.access_key,
        secret_access_key: credentials.secret_key,
        prefix: "media".to_owned(),
        path_style: true,
        ..Settings::default()
    })?;
    let rules = "<LifecycleConfiguration><Rule><Filter><Prefix>media/</Prefix></Filter>\
        <Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>1\
        </DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>";
    scripted.script([Answer {
        body: rules.to_owned(),
        ..Answer::default()
    }]);
    let known = objects.lifecycle().await?;
    assert_eq!(known.aborts_under(&objects.uploads_prefix()), Some(1));
    assert_eq!(known.expires_under(&objects.rescue_prefix()), None);
    scripted.script([Answer {
        status: 404,
        body: "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>".to_owned(),
        ..Answer::default()
    }]);
    assert_eq!(objects.lifecycle().await?, Lifecycle::Rules(Vec::new()));
    scripted.script([Answer {
        status: 403,
        body: "<Error><Code>AccessDenied</Code></Error>".to_owned(),
        ..Answer::default()
    }]);
    let refused = objects.lifecycle().await?;
    assert!(
        matches!(&refused, Lifecycle::NotKnown(why) if why.contains("AccessDenied")),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_first_plan_of_a_first_run_counts_and_the_run_is_open() -> Outcome {
    let (_server, objects) = start().await?;
    let job = JobId::from_random(41);
    let doc = run_doc(&job, 1, 2);
    assert_eq!(objects.put_first_run(&doc).await?, (doc.clone(), true));
    assert!(objects.is_open(&tenant(), &job, 1).await?);
    // Once more, by a message that was repeated.
    let mut again = doc.clone();
    again.accepted_at = time("2026-11-22T10:00:09Z");
    assert_eq!(objects.put_first_run(&again).await?, (doc, false));
    Ok(())
}
