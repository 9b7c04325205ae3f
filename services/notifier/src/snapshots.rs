//! What an event is told from: its job, who may want it, and whether it is new.

use crate::core::Notifier;
use crate::error::Error;
use crate::records::ENDPOINTS_OF_TENANT;
use photofinish_contract::event::EventType;
use photofinish_contract::messages::JobEvent;
use photofinish_jobstore::{Asked, JobStoreError, Logged, Telling};
use photofinish_model::JobSnapshot;
use photofinish_objects::WebhookEndpointRecord;

/// What an event is told from.
#[derive(Debug)]
pub(crate) struct Material {
    /// The job in the event's run.
    pub(crate) snapshot: JobSnapshot,
    /// The tenant's webhook endpoints.
    pub(crate) endpoints: Vec<WebhookEndpointRecord>,
    /// What became of the event in its job's log; nothing: it was not put there yet.
    pub(crate) logged: Option<Logged>,
}

impl Notifier {
    /// All that the event is told from, of Redis in one go. `job.progress` is not put into the log yet: first it is seen
    /// whether its job goes on.
    pub(crate) async fn material(&self, event: &JobEvent) -> Result<Material, Error> {
        let (tenant, ended) = (&event.tenant, event.event.is_final());
        let asked = Asked {
            log: event.event != EventType::JobProgress,
            job: !ended,
            copy: (ENDPOINTS_OF_TENANT, tenant.as_str()),
        };
        let end = async {
            if ended {
                self.objects.end(tenant, &event.job, event.run).await
            } else {
                Ok(None)
            }
        };
        let (telling, end) = tokio::join!(self.jobstore.begin_telling(event, asked), end);
        let (logged, job, copy) = match telling {
            Ok(Telling { logged, job, copy }) => (logged, job, Ok(copy)),
            Err(error) => {
                tracing::warn!(
                    job = %event.job,
                    error = photofinish_runtime::error_chain(&error),
                    "an event is told without Redis"
                );
                // What the log lacks the job's own record tells.
                let logged = asked.log.then_some(Logged::Stands);
                (logged, Ok(None), Err(error))
            }
        };
        let snapshot = if ended {
            end?
        } else if copy.is_err() {
            self.objects.snapshot(tenant, &event.job, event.run).await?
        } else {
            self.in_run(event, job).await?
        };
        Ok(Material {
            snapshot: snapshot.ok_or_else(|| Error::Missing {
                what: "the job",
                id: event.job.to_string(),
            })?,
            endpoints: self.endpoints_through(copy, tenant).await?,
            logged,
        })
    }

    /// The job in the event's run: of a final event from the run's end alone; of any other from the job store, or,
    /// when it is away, does not know the job, or knows another run of it, from the bucket.
    pub(crate) async fn snapshot(&self, event: &JobEvent) -> Result<Option<JobSnapshot>, Error> {
        let (tenant, job) = (&event.tenant, &event.job);
        if event.event.is_final() {
            return Ok(self.objects.end(tenant, job, event.run).await?);
        }
        self.in_run(event, self.jobstore.job(job).await).await
    }

    async fn in_run(
        &self,
        event: &JobEvent,
        found: Result<Option<JobSnapshot>, JobStoreError>,
    ) -> Result<Option<JobSnapshot>, Error> {
        let (tenant, job, run) = (&event.tenant, &event.job, event.run);
        let restore = match found {
            Ok(Some(found)) if found.run == run => return Ok(Some(found)),
            // A message ahead of the record moves the record forward.
            Ok(Some(found)) => found.run < run,
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%job, error = photofinish_runtime::error_chain(&error), "the job is read from the bucket");
                false
            }
        };
        let found = self.objects.snapshot(tenant, job, run).await?;
        if let Some(snapshot) = found.as_ref().filter(|_| restore) {
            // Whoever needs the record next restores it as well.
            if let Err(error) = self.jobstore.restore(snapshot).await {
                tracing::warn!(%job, error = photofinish_runtime::error_chain(&error), "restore a job");
            }
        }
        Ok(found)
    }
}
