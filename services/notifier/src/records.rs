//! The operator's records, read through Redis' 30 s copies: tenants and webhook endpoints.
//!
//! Guarantee: a copy saves a read of the bucket and nothing more; with Redis away the bucket is read. The copy of all
//! endpoints of a tenant has the sum of their versions as its version, which grows with every change.

use crate::core::Notifier;
use crate::error::Error;
use photofinish_model::Tenant;
use photofinish_objects::{TenantRecord, WebhookEndpointRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The kind of copy that holds all endpoints of a tenant, as a JSON array of [`WebhookEndpointRecord`].
pub(crate) const ENDPOINTS_OF_TENANT: &str = "webhook_endpoints";
/// Times that a record is read again and changed when somebody else changed it meanwhile.
const CHANGE_TRIES_MAX: u32 = 5;

impl Notifier {
    /// A tenant.
    pub(crate) async fn tenant(&self, tenant: &Tenant) -> Result<Option<TenantRecord>, Error> {
        let (kind, id) = (TenantRecord::KIND, tenant.as_str());
        self.through_copy(kind, id, async || {
            Ok(self.objects.system_get(kind, id).await?)
        })
        .await
    }

    /// A webhook endpoint; nothing when it was deleted.
    pub(crate) async fn endpoint(
        &self,
        tenant: &Tenant,
        id: &str,
    ) -> Result<Option<WebhookEndpointRecord>, Error> {
        let (kind, id) = (
            WebhookEndpointRecord::KIND,
            WebhookEndpointRecord::record_id(tenant, id),
        );
        let record: Option<WebhookEndpointRecord> = self
            .through_copy(kind, &id, async || {
                Ok(self.objects.system_get(kind, &id).await?)
            })
            .await?;
        Ok(record.filter(|record| !record.deleted))
    }

    /// All webhook endpoints of a tenant, those deleted and disabled too.
    pub(crate) async fn endpoints(
        &self,
        tenant: &Tenant,
    ) -> Result<Vec<WebhookEndpointRecord>, Error> {
        let id = tenant.as_str();
        let records = self.through_copy(ENDPOINTS_OF_TENANT, id, async || self.list(tenant).await);
        Ok(records.await?.unwrap_or_default())
    }

    /// Disables an endpoint: the next version of its record says so.
    pub(crate) async fn disable(&self, tenant: &Tenant, id: &str) -> Result<(), Error> {
        let kind = WebhookEndpointRecord::KIND;
        let id = WebhookEndpointRecord::record_id(tenant, id);
        for _ in 0..CHANGE_TRIES_MAX {
            let found: Option<(u64, WebhookEndpointRecord)> =
                self.objects.system_get(kind, &id).await?;
            let Some((version, record)) = found.filter(|(_, record)| record.enabled) else {
                return Ok(());
            };
            let record = WebhookEndpointRecord {
                enabled: false,
                ..record
            };
            match self
                .objects
                .system_put(kind, &id, Some(version), &record)
                .await
            {
                Ok(version) => {
                    self.keep_copy(kind, &id, version, Some(&record)).await;
                    if let Some((version, all)) = self.list(tenant).await? {
                        let (kind, id) = (ENDPOINTS_OF_TENANT, tenant.as_str());
                        self.keep_copy(kind, id, version, Some(&all)).await;
                    }
                    return Ok(());
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Missing {
            what: "a version that is ours to write",
            id,
        })
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> Result<Option<(u64, Vec<WebhookEndpointRecord>)>, Error> {
        let kind = WebhookEndpointRecord::KIND;
        let rows: Vec<(String, u64, WebhookEndpointRecord)> =
            self.objects.system_list(kind, tenant.as_str()).await?;
        let version = rows.iter().map(|(_, version, _)| version).sum();
        let records = rows.into_iter().map(|(_, _, record)| record).collect();
        Ok((version > 0).then_some((version, records)))
    }

    async fn through_copy<T: Serialize + DeserializeOwned>(
        &self,
        kind: &str,
        id: &str,
        read: impl AsyncFnOnce() -> Result<Option<(u64, T)>, Error>,
    ) -> Result<Option<T>, Error> {
        let copied = match self.jobstore.cached_system(kind, id).await {
            Ok(copied) => copied,
            Err(error) => {
                tracing::debug!(
                    kind,
                    id,
                    error = photofinish_runtime::error_chain(&error),
                    "no copies: the bucket is read"
                );
                return Ok(read().await?.map(|(_, record)| record));
            }
        };
        match copied.map(|copy| copy.json.map(|json| serde_json::from_str(&json))) {
            Some(None) => return Ok(None),
            Some(Some(Ok(record))) => return Ok(Some(record)),
            // A copy that this version cannot read is as good as none.
            Some(Some(Err(_))) | None => {}
        }
        let found = read().await?;
        let (version, record) = found.map_or((0, None), |(version, one)| (version, Some(one)));
        self.keep_copy(kind, id, version, record.as_ref()).await;
        Ok(record)
    }

    /// Keeps a copy as far as it can: without one the bucket is read again.
    async fn keep_copy<T: Serialize>(
        &self,
        kind: &str,
        id: &str,
        version: u64,
        record: Option<&T>,
    ) {
        let Ok(json) = record.map(serde_json::to_string).transpose() else {
            return;
        };
        if let Err(error) = self
            .jobstore
            .cache_system(kind, id, version, json.as_deref())
            .await
        {
            tracing::debug!(
                kind,
                id,
                error = photofinish_runtime::error_chain(&error),
                "keep a copy"
            );
        }
    }
}
