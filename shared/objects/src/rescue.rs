//! What a worker pushed itself, because nobody came: found by LIST, read as a stream.

use crate::store::found;
use crate::{Objects, ObjectsError};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use photofinish_contract::announcement::Announcement;
use photofinish_model::{AttemptRef, ItemIndex};
use std::fmt;

/// A rescued file as it is read.
pub struct Rescued {
    /// Its size in bytes.
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
    /// Items that an attempt's worker pushed, with their sizes in bytes, in order.
    pub async fn list_rescued(
        &self,
        attempt: &AttemptRef,
    ) -> Result<Vec<(ItemIndex, u64)>, ObjectsError> {
        let list = self.list_here(&self.keys.rescue(attempt)).await?;
        let mut rescued: Vec<(ItemIndex, u64)> = list
            .objects
            .iter()
            .filter_map(|meta| {
                let index = meta
                    .location
                    .filename()?
                    .strip_suffix(".mp4")?
                    .parse()
                    .ok()?;
                Some((index, meta.size))
            })
            .collect();
        rescued.sort_unstable();
        Ok(rescued)
    }

    /// The content of a rescued file; nothing when there is none. It may take long, not stall.
    pub async fn rescued_stream(
        &self,
        attempt: &AttemptRef,
        index: ItemIndex,
    ) -> Result<Option<Rescued>, ObjectsError> {
        let key = self.keys.rescued(attempt, index);
        let Some(got) = found(self.call("get", &key, self.streams.get(&key)).await)? else {
            return Ok(None);
        };
        let bytes = got.meta.size;
        let stream = got
            .into_stream()
            .map_err(move |source| ObjectsError::store("read", key.as_ref(), source))
            .boxed();
        Ok(Some(Rescued { bytes, stream }))
    }

    /// The report that the worker put beside its files.
    pub async fn rescue_report(
        &self,
        attempt: &AttemptRef,
    ) -> Result<Option<Announcement>, ObjectsError> {
        self.document(&self.keys.report(attempt)).await
    }
}
