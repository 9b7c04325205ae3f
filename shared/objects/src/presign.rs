//! URLs that carry their own right, for a time. Signed for the public endpoint.

use crate::outputs::parsed;
use crate::{Objects, ObjectsError};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use object_store::signer::{Method, Signer};
use photofinish_model::{AttemptRef, ItemIndex, Tenant};
use std::time::Duration;

/// Where a client may put an input of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadTarget {
    /// A presigned PUT.
    pub put_url: String,
    /// A presigned GET: the URL to name in a job.
    pub get_url: String,
}

impl Objects {
    async fn presign(
        &self,
        method: Method,
        key: &Path,
        ttl: Duration,
    ) -> Result<String, ObjectsError> {
        let signed = self.signer.signed_url(method, key, ttl);
        self.call("sign", key, signed).await.map(String::from)
    }

    /// A presigned PUT; the PUT carries no headers but its length.
    pub(crate) async fn presign_put(
        &self,
        key: &Path,
        ttl: Duration,
    ) -> Result<String, ObjectsError> {
        self.presign(Method::PUT, key, ttl).await
    }

    /// A presigned GET of an output, and when it ends, given the time of signing.
    pub async fn presign_get(
        &self,
        key: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<(String, Timestamp), ObjectsError> {
        let url = self.presign(Method::GET, &parsed(key)?, ttl).await?;
        let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX);
        Ok((url, now.saturating_add(ttl).unwrap_or(Timestamp::MAX)))
    }

    /// A presigned PUT for one item of an attempt; the PUT carries no headers but its length.
    pub async fn presign_rescue_put(
        &self,
        attempt: &AttemptRef,
        index: ItemIndex,
        ttl: Duration,
    ) -> Result<String, ObjectsError> {
        self.presign_put(&self.keys.rescued(attempt, index), ttl)
            .await
    }

    /// A presigned PUT for the report of an attempt.
    pub async fn presign_report_put(
        &self,
        attempt: &AttemptRef,
        ttl: Duration,
    ) -> Result<String, ObjectsError> {
        self.presign_put(&self.keys.report(attempt), ttl).await
    }

    /// A presigned PUT and GET for an input of a tenant's own, under a name new at each call.
    pub async fn presign_upload_put(
        &self,
        tenant: &Tenant,
        name: &str,
        put_ttl: Duration,
        get_ttl: Duration,
    ) -> Result<UploadTarget, ObjectsError> {
        let key = self.keys.upload(tenant, name)?;
        Ok(UploadTarget {
            put_url: self.presign_put(&key, put_ttl).await?,
            get_url: self.presign(Method::GET, &key, get_ttl).await?,
        })
    }
}
