//! The operator's records, read through Redis' 30 s copies and written to the bucket before the call is answered.

use crate::core::Ingest;
use crate::error::{Error, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use photofinish_model::{Code, Tenant};
use photofinish_objects::{ObjectsError, TenantRecord, WebhookEndpointRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The kind of copy that holds all endpoints of a tenant; the notifier reads it.
const ENDPOINTS_OF_TENANT: &str = "webhook_endpoints";
/// Times that a record is read again and changed when somebody else changed it meanwhile.
const CHANGE_TRIES_MAX: u32 = 5;
/// A deleted endpoint is told from an unknown one for so long; then nothing of it is left.
const DELETED_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of a new signing secret.
const SECRET_BYTES: usize = 32;

impl Ingest {
    /// A tenant.
    pub(crate) async fn tenant_record(
        &self,
        tenant: &Tenant,
    ) -> Result<Option<TenantRecord>, Error> {
        let (kind, id) = (TenantRecord::KIND, tenant.as_str());
        self.jobstore
            .system_through_copy(kind, id, async || {
                Ok::<_, Error>(self.objects.system_get(kind, id).await?)
            })
            .await
    }

    /// Writes the first version of a record.
    pub(crate) async fn make_record<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        record: &T,
    ) -> Result<(), Error> {
        let version = self.objects.system_put(kind, id, None, record).await?;
        self.jobstore
            .keep_system_copy(kind, id, version, Some(record))
            .await;
        Ok(())
    }

    /// Writes the next version of a record: `change` is applied to the newest one, again when somebody else was
    /// faster. Nothing for an unknown record.
    pub(crate) async fn change_record<T: Serialize + DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
        change: impl Fn(T) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        for _ in 0..CHANGE_TRIES_MAX {
            let Some((version, record)) = self.objects.system_get::<T>(kind, id).await? else {
                return Ok(None);
            };
            let record = change(record)?;
            match self
                .objects
                .system_put(kind, id, Some(version), &record)
                .await
            {
                Ok(version) => {
                    self.jobstore
                        .keep_system_copy(kind, id, version, Some(&record))
                        .await;
                    return Ok(Some(record));
                }
                Err(ObjectsError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::new(
            503,
            Code::Unavailable,
            "somebody else keeps changing this; try again",
        ))
    }

    /// All webhook endpoints of a tenant that were not deleted.
    pub(crate) async fn endpoints(
        &self,
        tenant: &Tenant,
    ) -> Result<Vec<WebhookEndpointRecord>, Error> {
        let kind = WebhookEndpointRecord::KIND;
        let rows: Vec<(String, u64, WebhookEndpointRecord)> =
            self.objects.system_list(kind, tenant.as_str()).await?;
        Ok(rows
            .into_iter()
            .map(|(_, _, record)| record)
            .filter(|row| !row.deleted)
            .collect())
    }

    /// Renews the copy from which the notifier takes a tenant's endpoints; its version is the sum of theirs. Those
    /// that were deleted long ago are removed for good.
    pub(crate) async fn renew_endpoints_copy(&self, tenant: &Tenant) -> Result<(), Error> {
        let kind = WebhookEndpointRecord::KIND;
        let rows: Vec<(String, u64, WebhookEndpointRecord)> =
            self.objects.system_list(kind, tenant.as_str()).await?;
        let now = self.now();
        let (gone, rows): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(_, _, record)| is_long_gone(record, now));
        for (id, _, _) in &gone {
            self.objects.system_remove(kind, id).await?;
        }
        if !gone.is_empty() {
            // The sum is lower now.
            self.jobstore
                .forget_system_copy(ENDPOINTS_OF_TENANT, tenant.as_str())
                .await;
        }
        let version = rows.iter().map(|(_, version, _)| version).sum();
        let records: Vec<_> = rows
            .into_iter()
            .map(|(_, _, record)| record)
            .filter(|record| !record.deleted)
            .collect();
        self.jobstore
            .keep_system_copy(
                ENDPOINTS_OF_TENANT,
                tenant.as_str(),
                version,
                Some(&records),
            )
            .await;
        Ok(())
    }
}

/// Deleted so long ago that nobody who read it before is still about to write it.
fn is_long_gone(record: &WebhookEndpointRecord, now: Timestamp) -> bool {
    let since = record.deleted_at.unwrap_or(record.created_at);
    record.deleted && now.duration_since(since) >= DELETED_KEPT
}

/// A signing secret as Standard Webhooks has it.
pub(crate) fn new_secret() -> String {
    format!(
        "whsec_{}",
        STANDARD.encode(rand::random::<[u8; SECRET_BYTES]>())
    )
}
