//! The operator's records, read through Redis' 30 s copies: tenants and webhook endpoints.
//!
//! Guarantee: a copy saves a read of the bucket and nothing more; with Redis away the bucket is read. The copy of all
//! endpoints of a tenant has the sum of their versions as its version, which grows with every change.

use crate::core::Notifier;
use crate::error::Error;
use photofinish_contract::messages::{EndpointEvent, Receiver};
use photofinish_jobstore::{CachedRecord, JobStoreError};
use photofinish_model::Tenant;
use photofinish_model::webhook::{Disabling, Failing, Standing, disabling, owed};
use photofinish_objects::{Disabled, TenantRecord, WebhookEndpointRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The kind of copy that holds all endpoints of a tenant, as a JSON array of [`WebhookEndpointRecord`].
pub(crate) const ENDPOINTS_OF_TENANT: &str = "webhook_endpoints";
/// Times that a record is read again and changed when somebody else changed it meanwhile.
const CHANGE_TRIES_MAX: u32 = 5;

/// Kind and id of the record that says where a webhook goes: the endpoint's, or the tenant's, which has the secret.
pub(crate) fn record_of(tenant: &Tenant, receiver: &Receiver) -> (&'static str, String) {
    match receiver {
        Receiver::Endpoint { id } => {
            let id = WebhookEndpointRecord::record_id(tenant, id);
            (WebhookEndpointRecord::KIND, id)
        }
        Receiver::JobUrl { .. } => (TenantRecord::KIND, tenant.as_str().to_owned()),
    }
}

impl Notifier {
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
        let copy = self.jobstore.cached_system(kind, &id).await;
        let record: Option<WebhookEndpointRecord> = self.through(copy, kind, &id).await?;
        Ok(record.filter(|record| !record.deleted))
    }

    /// A record through a copy that was asked for already.
    pub(crate) async fn through<T: Serialize + DeserializeOwned>(
        &self,
        copy: Result<Option<CachedRecord>, JobStoreError>,
        kind: &str,
        id: &str,
    ) -> Result<Option<T>, Error> {
        let read = async || Ok::<_, Error>(self.objects.system_get(kind, id).await?);
        self.jobstore.system_through(copy, kind, id, read).await
    }

    /// All webhook endpoints of a tenant that were not deleted, those disabled too.
    pub(crate) async fn endpoints(
        &self,
        tenant: &Tenant,
    ) -> Result<Vec<WebhookEndpointRecord>, Error> {
        let (kind, id) = (ENDPOINTS_OF_TENANT, tenant.as_str());
        let copy = self.jobstore.cached_system(kind, id).await;
        self.endpoints_through(copy, tenant).await
    }

    /// The same through a copy that was asked for already.
    pub(crate) async fn endpoints_through(
        &self,
        copy: Result<Option<CachedRecord>, JobStoreError>,
        tenant: &Tenant,
    ) -> Result<Vec<WebhookEndpointRecord>, Error> {
        let (kind, id) = (ENDPOINTS_OF_TENANT, tenant.as_str());
        let read = async || self.list(tenant).await;
        let records = self.jobstore.system_through(copy, kind, id, read);
        Ok(records.await?.unwrap_or_default())
    }

    /// Disables an endpoint: the next version of its record says so. False when the wish is void.
    pub(crate) async fn disable(&self, event: &EndpointEvent) -> Result<bool, Error> {
        let Some(cause) = event.cause else {
            return Ok(false);
        };
        let mut done = false;
        self.change_endpoint(&event.tenant, &event.endpoint, |record| {
            let standing = Standing {
                enabled: record.enabled,
                enabled_at: record.enabled_at,
                disabled_at: record.disabled.map(|disabled| disabled.at),
            };
            let verdict = disabling(standing, event.at);
            done = verdict != Disabling::Void;
            (verdict == Disabling::Now).then_some(WebhookEndpointRecord {
                enabled: false,
                failing: None,
                disabled: Some(Disabled {
                    at: event.at,
                    cause,
                }),
                ..record
            })
        })
        .await?;
        Ok(done)
    }

    /// Keeps the streak of an endpoint in its record.
    pub(crate) async fn keep_streak(
        &self,
        endpoint: &WebhookEndpointRecord,
        failing: Option<Failing>,
    ) -> Result<(), Error> {
        self.change_endpoint(&endpoint.tenant, &endpoint.id, |record| {
            // Somebody else may have kept it meanwhile.
            (record.enabled && owed(record.failing, failing))
                .then_some(WebhookEndpointRecord { failing, ..record })
        })
        .await
    }

    /// Writes the next version of an endpoint's record, if there is one to write, and renews the copies.
    async fn change_endpoint(
        &self,
        tenant: &Tenant,
        id: &str,
        mut change: impl FnMut(WebhookEndpointRecord) -> Option<WebhookEndpointRecord>,
    ) -> Result<(), Error> {
        let kind = WebhookEndpointRecord::KIND;
        let id = WebhookEndpointRecord::record_id(tenant, id);
        for _ in 0..CHANGE_TRIES_MAX {
            let found: Option<(u64, WebhookEndpointRecord)> =
                self.objects.system_get(kind, &id).await?;
            let Some((version, record)) = found.filter(|(_, record)| !record.deleted) else {
                return Ok(());
            };
            let Some(record) = change(record) else {
                return Ok(());
            };
            let put = self.objects.system_put(kind, &id, Some(version), &record);
            match put.await {
                Ok(version) => {
                    self.jobstore
                        .keep_system_copy(kind, &id, version, Some(&record))
                        .await;
                    if let Some((version, all)) = self.list(tenant).await? {
                        let (kind, id) = (ENDPOINTS_OF_TENANT, tenant.as_str());
                        self.jobstore
                            .keep_system_copy(kind, id, version, Some(&all))
                            .await;
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
        let records = rows.into_iter().map(|(_, _, record)| record);
        let records = records.filter(|record| !record.deleted).collect();
        Ok((version > 0).then_some((version, records)))
    }
}
