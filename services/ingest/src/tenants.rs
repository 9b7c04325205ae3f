//! Tenants: made, changed, paused.
//!
//! A pause is one record for the whole deployment: which tenants, and which lanes hold nobody else, so that those are
//! passed over whole. Whoever pauses, resumes or makes a tenant writes his own fact first and then works the lanes out
//! of all facts, so the last one to do so has seen every other's.

use crate::core::Ingest;
use crate::error::{Error, Refusal};
use crate::records::new_secret;
use photofinish_model::quota::{Quotas, Retention, paused_lanes};
use photofinish_model::{Code, Tenant};
use photofinish_objects::{LaneClaim, PausesRecord, TenantRecord};
use std::collections::{BTreeMap, HashMap};

/// Times that a lane is chosen again when somebody else took it, and that pauses are written again.
const TRIES_MAX: u32 = 20;

impl Ingest {
    /// Makes a tenant on the least used lane, with its signing secret; nothing when it is there already.
    pub(crate) async fn make_tenant(
        &self,
        tenant: &Tenant,
    ) -> Result<Option<(TenantRecord, String)>, Error> {
        self.make_tenant_with(tenant, Quotas::default(), Retention::default())
            .await
    }

    /// The same, with its limits.
    pub(crate) async fn make_tenant_with(
        &self,
        tenant: &Tenant,
        quotas: Quotas,
        retention: Retention,
    ) -> Result<Option<(TenantRecord, String)>, Error> {
        let kind = TenantRecord::KIND;
        let Some(lane) = self.claim_lane(tenant).await? else {
            return Ok(None);
        };
        let secret = new_secret();
        let sealed = self.config.sealer.seal(&secret);
        let record = TenantRecord {
            quotas,
            retention,
            ..TenantRecord::new(tenant.clone(), lane, sealed, self.now())
        };
        match self
            .objects
            .system_put(kind, tenant.as_str(), None, &record)
            .await
        {
            Ok(version) => {
                self.jobstore
                    .keep_system_copy(kind, tenant.as_str(), version, Some(&record))
                    .await;
                self.limits.forget(tenant);
                self.work_lanes_out().await?;
                Ok(Some((record, secret)))
            }
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The least used lane, claimed: of two that are made at once only one gets it. A claim whose tenant was then not
    /// made lets the lane look fuller than it is. Nothing when the tenant is there.
    async fn claim_lane(&self, tenant: &Tenant) -> Result<Option<u16>, Error> {
        let mut lane = 0;
        for _ in 0..TRIES_MAX {
            let tenants = self.tenants().await?;
            if tenants.iter().any(|record| record.tenant == *tenant) {
                return Ok(None);
            }
            let mut used = HashMap::<u16, u64>::new();
            for record in &tenants {
                *used.entry(record.lane).or_default() += 1;
            }
            let claims: Vec<(String, u64, LaneClaim)> =
                self.objects.system_list(LaneClaim::KIND, "").await?;
            let claims: HashMap<u16, u64> = claims
                .into_iter()
                .filter_map(|(lane, version, _)| Some((lane.parse().ok()?, version)))
                .collect();
            let claimed = |lane: u16| claims.get(&lane).copied().unwrap_or(0);
            let use_of = |lane: &u16| claimed(*lane).max(used.get(lane).copied().unwrap_or(0));
            lane = (0..self.config.lanes).min_by_key(use_of).unwrap_or(0);
            let expected = Some(claimed(lane)).filter(|version| *version > 0);
            let claim = LaneClaim {
                tenant: tenant.clone(),
            };
            let name = lane.to_string();
            let put = self
                .objects
                .system_put(LaneClaim::KIND, &name, expected, &claim);
            match put.await {
                Ok(_) => return Ok(Some(lane)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Lanes may be shared; only the best choice is lost.
        Ok(Some(lane))
    }

    /// Every tenant there is.
    pub(crate) async fn tenants(&self) -> Result<Vec<TenantRecord>, Error> {
        let rows: Vec<(String, u64, TenantRecord)> =
            self.objects.system_list(TenantRecord::KIND, "").await?;
        Ok(rows.into_iter().map(|(_, _, record)| record).collect())
    }

    /// What is paused, through its copy.
    pub(crate) async fn pauses(&self) -> Result<PausesRecord, Error> {
        let (kind, id) = (PausesRecord::KIND, PausesRecord::ID);
        let found = self
            .jobstore
            .system_through_copy(kind, id, async || {
                Ok::<_, Error>(self.objects.system_get(kind, id).await?)
            })
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// Pauses or resumes a tenant.
    pub(crate) async fn pause_tenant(&self, tenant: &Tenant, paused: bool) -> Result<(), Refusal> {
        self.change_pauses(|mut pauses| {
            if paused {
                pauses.tenants.insert(tenant.clone());
            } else {
                pauses.tenants.remove(tenant);
            }
            pauses
        })
        .await?;
        Ok(self.work_lanes_out().await?)
    }

    /// Writes the next version of the pauses, unless nothing changes.
    pub(crate) async fn change_pauses(
        &self,
        change: impl Fn(PausesRecord) -> PausesRecord,
    ) -> Result<(), Error> {
        for _ in 0..TRIES_MAX {
            let (version, before) = self.pauses_now().await?;
            let after = change(before.clone());
            if after == before || self.put_pauses(version, &after).await? {
                return Ok(());
            }
        }
        Err(Error::Contended("pauses"))
    }

    /// Which lanes hold nobody but paused tenants, out of all tenants and pauses.
    async fn work_lanes_out(&self) -> Result<(), Error> {
        for _ in 0..TRIES_MAX {
            let (version, before) = self.pauses_now().await?;
            if before.tenants.is_empty() && before.lanes.is_empty() {
                return Ok(());
            }
            // Listed after the pauses were read: whoever has changed anything since then conflicts.
            let tenants = self.tenants().await?.into_iter();
            let lanes: BTreeMap<Tenant, u16> = tenants
                .map(|record| (record.tenant, record.lane % self.config.lanes.max(1)))
                .collect();
            let after = PausesRecord {
                lanes: paused_lanes(&lanes, &before.tenants),
                ..before.clone()
            };
            if after == before || self.put_pauses(version, &after).await? {
                return Ok(());
            }
        }
        Err(Error::Contended("pauses"))
    }

    async fn pauses_now(&self) -> Result<(Option<u64>, PausesRecord), Error> {
        let (kind, id) = (PausesRecord::KIND, PausesRecord::ID);
        let there: Option<(u64, PausesRecord)> = self.objects.system_get(kind, id).await?;
        Ok(
            there.map_or((None, PausesRecord::default()), |(version, pauses)| {
                (Some(version), pauses)
            }),
        )
    }

    /// False: somebody else wrote this version.
    async fn put_pauses(&self, version: Option<u64>, pauses: &PausesRecord) -> Result<bool, Error> {
        let (kind, id) = (PausesRecord::KIND, PausesRecord::ID);
        match self.objects.system_put(kind, id, version, pauses).await {
            Ok(version) => {
                self.jobstore
                    .keep_system_copy(kind, id, version, Some(pauses))
                    .await;
                Ok(true)
            }
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A tenant that is there.
    pub(crate) async fn known_tenant(&self, name: &str) -> Result<TenantRecord, Refusal> {
        let unknown = || Refusal::new(404, Code::NotFound, "there is no such tenant");
        let tenant: Tenant = name.parse().map_err(|_| unknown())?;
        self.tenant_record(&tenant).await?.ok_or_else(unknown)
    }
}
