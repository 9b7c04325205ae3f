//! Outputs as they lie in the bucket: found by LIST, described by their own metadata.

use crate::keys::parse_output_name;
use crate::store::PARALLEL_MAX;
use crate::upload::read_attributes;
use crate::{Objects, ObjectsError};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use photofinish_model::{ItemIndex, JobId, StoredOutput, Tenant};

impl Objects {
    /// Every output of a job, of all its runs, by item and, within an item, by age: the first one
    /// of a run is the one that won, if nobody kept a record.
    pub async fn stored_outputs(
        &self,
        tenant: &Tenant,
        job: &JobId,
    ) -> Result<Vec<(ItemIndex, StoredOutput)>, ObjectsError> {
        let here = self.list_here(&self.keys.job(tenant, job)).await?;
        let mut named: Vec<_> = here
            .objects
            .into_iter()
            .filter_map(|meta| Some((parse_output_name(meta.location.filename()?)?, meta)))
            .collect();
        named.sort_by(|(a, left), (b, right)| {
            let age = left.last_modified.cmp(&right.last_modified);
            a.index
                .cmp(&b.index)
                .then(age)
                .then_with(|| left.location.cmp(&right.location))
        });
        futures_util::stream::iter(named)
            .map(|(name, meta)| async move {
                let Some(head) = self.head(&meta.location).await? else {
                    return Ok(None);
                };
                let key = meta.location.to_string();
                let output = read_attributes(key, meta.size, name.run, &head.attributes);
                Ok(output.map(|output| (name.index, output)))
            })
            .buffered(PARALLEL_MAX)
            .try_filter_map(|output| async move { Ok(output) })
            .try_collect()
            .await
    }

    /// Deletes one output; again is harmless.
    pub async fn delete_output(&self, key: &str) -> Result<(), ObjectsError> {
        self.delete(&parsed(key)?).await
    }

    /// True when an output is there.
    pub async fn output_exists(&self, key: &str) -> Result<bool, ObjectsError> {
        Ok(self.head(&parsed(key)?).await?.is_some())
    }
}

/// A key as it stands in a [`StoredOutput`].
pub(crate) fn parsed(key: &str) -> Result<Path, ObjectsError> {
    Path::parse(key).map_err(|_| ObjectsError::Name(key.to_owned()))
}
