//! Where a webhook goes, and which secrets sign it.

use crate::core::Notifier;
use crate::error::Error;
use crate::handing::DISABLED;
use crate::lines::Caller;
use crate::records::record_of;
use photofinish_contract::messages::Receiver;
use photofinish_jobstore::{CachedRecord, JobStoreError};
use photofinish_model::Tenant;
use photofinish_model::webhook::{Former, signing};
use photofinish_objects::{TenantRecord, WebhookEndpointRecord};
use photofinish_outbound::Url;

/// To whom, and signed with what.
pub(crate) struct Destination {
    pub(crate) url: String,
    /// Scheme, host and port.
    pub(crate) origin: String,
    /// One or more `whsec_…`.
    pub(crate) secrets: String,
    /// Whose it is, if it is a webhook endpoint's.
    pub(crate) endpoint: Option<Box<WebhookEndpointRecord>>,
    /// Tells its receiver from others: what answers at another address is another one.
    line: String,
    /// Calls a second at most.
    calls_per_s: Option<u32>,
}

impl Destination {
    /// Who asks for a slot to call it.
    pub(crate) fn caller<'a>(&'a self, tenant: &'a Tenant, sent_away: u32) -> Caller<'a> {
        Caller {
            line: &self.line,
            tenant,
            calls_per_s: self.calls_per_s,
            sent_away,
        }
    }
}

impl Notifier {
    /// Where it goes; the inner error says why it goes nowhere.
    pub(crate) async fn destination(
        &self,
        tenant: &Tenant,
        receiver: &Receiver,
    ) -> Result<Result<Destination, String>, Error> {
        let (kind, id) = record_of(tenant, receiver);
        let copy = self.jobstore.cached_system(kind, &id).await;
        self.destination_through(copy, tenant, receiver).await
    }

    /// The same through a copy of its record ([`record_of`]) that was asked for already.
    pub(crate) async fn destination_through(
        &self,
        copy: Result<Option<CachedRecord>, JobStoreError>,
        tenant: &Tenant,
        receiver: &Receiver,
    ) -> Result<Result<Destination, String>, Error> {
        let (kind, id) = record_of(tenant, receiver);
        match receiver {
            Receiver::Endpoint { .. } => {
                match self
                    .through::<WebhookEndpointRecord>(copy, kind, &id)
                    .await?
                {
                    Some(endpoint) if !endpoint.deleted => self.destination_at(Box::new(endpoint)),
                    Some(_) | None => Ok(Err("the webhook endpoint was deleted".to_owned())),
                }
            }
            Receiver::JobUrl { url } => {
                let Some(record) = self.through::<TenantRecord>(copy, kind, &id).await? else {
                    return Ok(Err("the tenant has no signing secret".to_owned()));
                };
                // Its name, not the job's URL, which may be a secret of its own.
                let whose = tenant.as_str();
                let secrets = self.secrets(whose, &record.secret_sealed, &record.former_secrets)?;
                let origin = origin(url);
                Ok(Ok(Destination {
                    url: url.clone(),
                    line: format!("{whose} {origin}"),
                    origin,
                    secrets,
                    calls_per_s: self.config.calls_per_s,
                    endpoint: None,
                }))
            }
        }
    }

    /// The same of a webhook endpoint whose record is known.
    pub(crate) fn destination_at(
        &self,
        endpoint: Box<WebhookEndpointRecord>,
    ) -> Result<Result<Destination, String>, Error> {
        if endpoint.deleted || !endpoint.enabled {
            return Ok(Err(DISABLED.to_owned()));
        }
        let secrets = self.secrets(
            &endpoint.id,
            &endpoint.secret_sealed,
            &endpoint.former_secrets,
        )?;
        let origin = origin(&endpoint.url);
        Ok(Ok(Destination {
            url: endpoint.url.clone(),
            line: format!("{} {origin}", endpoint.id),
            origin,
            secrets,
            calls_per_s: endpoint.calls_per_s.or(self.config.calls_per_s),
            endpoint: Some(endpoint),
        }))
    }

    fn secrets(&self, whose: &str, current: &str, former: &[Former]) -> Result<String, Error> {
        let opened = signing(current, former, self.clock.now())
            .map(|sealed| self.config.sealer.open(sealed))
            .collect::<Result<Vec<String>, _>>();
        let opened = opened.map_err(|source| Error::Secret {
            whose: whose.to_owned(),
            source,
        })?;
        Ok(opened.join(" "))
    }
}

/// What is none is nobody's.
fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}
