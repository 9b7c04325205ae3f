//! Plans of runs that this process has read or written a while ago, so that each is read once and
//! not once for every message about it.
//!
//! A plan is put if absent and never changes, so a copy of it cannot be wrong. It is trusted for
//! [`TRUSTED`] only: whoever deletes all of a job's data waits for so long before its id can be
//! used again. Not for ends, markers, records of the operator: they come and change.

use crate::docs::RunDoc;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A copy is trusted for so long.
const TRUSTED: Duration = Duration::from_mins(10);
/// Bytes of all copies together; held by the weights.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What a copy takes besides its JSON: a small plan takes three times as much as that in memory.
const ENTRY_BYTES: u64 = 1536;
/// For the cache's own tables: copies have about this many bytes.
const BYTES_USUAL: u64 = 4096;

#[derive(Clone)]
pub(crate) struct KnownRuns(Arc<Cache<String, Known, ByBytes>>);

#[derive(Clone)]
struct Known {
    doc: Arc<RunDoc>,
    bytes: u64,
    read_at: Instant,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<String, Known> for ByBytes {
    fn weight(&self, _key: &String, known: &Known) -> u64 {
        known.bytes
    }
}

impl Default for KnownRuns {
    fn default() -> Self {
        let usual = usize::try_from(BYTES_MAX / BYTES_USUAL).unwrap_or(usize::MAX);
        Self(Arc::new(Cache::with_weighter(usual, BYTES_MAX, ByBytes)))
    }
}

impl fmt::Debug for KnownRuns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownRuns")
            .field("bytes", &self.0.weight())
            .finish_non_exhaustive()
    }
}

impl KnownRuns {
    pub(crate) fn get(&self, key: &str) -> Option<RunDoc> {
        let known = self.0.get(key)?;
        (known.read_at.elapsed() < TRUSTED).then(|| (*known.doc).clone())
    }

    /// Keeps a plan of so many bytes as JSON.
    pub(crate) fn keep(&self, key: &str, doc: &RunDoc, bytes: usize) {
        let known = Known {
            doc: Arc::new(doc.clone()),
            bytes: ENTRY_BYTES + bytes as u64,
            read_at: Instant::now(),
        };
        self.0.insert(key.to_owned(), known);
    }
}
