//! Outputs that are deleted: nobody is promised them any more.

use crate::house::{House, ask};
use crate::jobs::{half_done, redis_flush};
use photofinish_contract::job::{Job, ViewSettings};
use photofinish_kit::{Method, RedisServer};
use serde_json::json;

#[tokio::test]
async fn deleted_outputs_are_gone_and_said_to_be() {
    let redis = RedisServer::start().await.unwrap();
    let house = House::with(&redis.url(), "x:", &[]).await;
    let end = half_done(&house).await;
    let (tenant, id) = (&end.tenant, &end.job);
    let manifest = Job::with_outputs(&end, ViewSettings::default(), |_| None);
    house.objects.put_manifest(tenant, &manifest).await.unwrap();
    let path = format!("/v1/jobs/{id}");
    let outputs = format!("{path}/outputs");
    let delete = || ask(house.mine(Method::DELETE, &outputs));
    let (status, early) = delete().await;
    assert_eq!((status, &early["code"]), (409, &json!("job_not_finished")));
    house.objects.close(tenant, id, 1).await.unwrap();
    for _again in 0..2 {
        assert_eq!(delete().await.0, 204);
    }

    for emptied in [false, true] {
        if emptied {
            redis_flush(&redis.url()).await.unwrap();
        }
        let (_, shown) = house.get(&path).await;
        assert!(shown["outputs_deleted_at"].is_string(), "{shown}");
        assert_eq!(shown["outputs"][0]["status"], "stored");
        assert!(shown["outputs"][0].get("url").is_none(), "{shown}");
        let (status, gone) = house.get(&format!("{outputs}/image1")).await;
        assert_eq!((status, &gone["code"]), (410, &json!("output_deleted")));
        let (status, refused) = house.post(&format!("{path}/retry"), &json!({})).await;
        assert_eq!((status, &refused["code"]), (409, &json!("output_deleted")));
    }
    assert!(
        house
            .objects
            .stored_outputs(tenant, id)
            .await
            .unwrap()
            .is_empty()
    );
    let manifest = house.objects.manifest(tenant, id).await.unwrap().unwrap();
    assert!(manifest.outputs.is_none() && manifest.outputs_deleted_at.is_some());
}
