//! What a worker pushed itself, because nobody came: found by LIST, read as a stream.

use crate::keys::{REPORT, parse_rescued};
use crate::store::found;
use crate::{Objects, ObjectsError};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStore};
use photofinish_contract::announcement::Announcement;
use photofinish_model::{AttemptRef, ItemIndex};
use std::collections::BTreeMap;
use std::fmt;

/// What the worker of one attempt pushed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RescueListing {
    /// Items with their sizes in bytes.
    pub files: BTreeMap<ItemIndex, u64>,
    /// Its report lies beside them.
    pub report: bool,
}

/// A rescued file as it is read.
pub struct Rescued {
    /// The size of the whole in bytes.
    pub bytes: u64,
    /// Its content.
    pub stream: BoxStream<'static, Result<Bytes, ObjectsError>>,
}

impl fmt::Debug for Rescued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rescued")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// What the workers of all attempts of an attempt's part pushed in its run, by the attempt's
    /// number: one LIST.
    pub async fn list_rescued(
        &self,
        attempt: &AttemptRef,
    ) -> Result<BTreeMap<u16, RescueListing>, ObjectsError> {
        let run = self
            .keys
            .rescue_run(&attempt.tenant, &attempt.job, attempt.run);
        let mut listed = BTreeMap::<u16, RescueListing>::new();
        for meta in self.list_below(&run).await? {
            let Some((part, number, name)) = parse_rescued(&meta.location) else {
                continue;
            };
            if part != attempt.part {
                continue;
            }
            let listing = listed.entry(number).or_default();
            match name.strip_suffix(".mp4").map(str::parse) {
                Some(Ok(index)) => {
                    listing.files.insert(index, meta.size);
                }
                Some(Err(_)) => {}
                None => listing.report |= name == REPORT,
            }
        }
        Ok(listed)
    }

    /// The content of a rescued file from a byte on; nothing when there is none. It may take long,
    /// not stall.
    pub async fn rescued_stream(
        &self,
        attempt: &AttemptRef,
        index: ItemIndex,
        from: u64,
    ) -> Result<Option<Rescued>, ObjectsError> {
        let key = self.keys.rescued(attempt, index);
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            ..GetOptions::default()
        };
        let get = self.streams.get_opts(&key, options);
        let Some(got) = found(self.call("get", &key, get).await)? else {
            return Ok(None);
        };
        let bytes = got.meta.size;
        let stream = got
            .into_stream()
            .map_err(move |source| ObjectsError::store("read", key.as_ref(), source))
            .boxed();
        Ok(Some(Rescued { bytes, stream }))
    }

    /// Deletes a rescued file; again is harmless.
    pub async fn delete_rescued(
        &self,
        attempt: &AttemptRef,
        index: ItemIndex,
    ) -> Result<(), ObjectsError> {
        self.delete(&self.keys.rescued(attempt, index)).await
    }

    /// The report that the worker put beside its files.
    pub async fn rescue_report(
        &self,
        attempt: &AttemptRef,
    ) -> Result<Option<Announcement>, ObjectsError> {
        self.document(&self.keys.report(attempt)).await
    }
}
