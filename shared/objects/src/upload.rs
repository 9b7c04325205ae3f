//! An output on its way into the bucket, in one pass and in bounded memory.
//!
//! What is written goes straight out: nothing is gathered but a few pieces. Up to
//! [`WHOLE_BYTES_MAX`] it is one PUT; a larger one goes in parts of [`PART_BYTES`]. The last piece is
//! let out only when the whole has the announced length and SHA-256, so what is not finished is
//! not there, and readers never see a part of it.
//!
//! A PUT that breaks costs what it carried: [`OutputUpload::rewind`] says from where to write
//! again. The id of an upload in parts is the caller's to keep until it is finished or aborted.

use crate::put::Flow;
use crate::{Objects, ObjectsError};
use bytes::Bytes;
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path;
use object_store::signer::{HeaderMap, HeaderValue};
use object_store::{Attribute, Attributes, PutMultipartOptions};
use photofinish_contract::job::OUTPUT_CONTENT_TYPE;
use photofinish_model::{ItemIndex, JobId, OutputSource, StoredOutput, Tenant};
use reqwest::header::{CONTENT_TYPE, HeaderName};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The largest output that goes in one PUT, in bytes.
pub const WHOLE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of one part of a larger one.
pub const PART_BYTES: u64 = 64 * 1024 * 1024;
/// Parts that wait for their answers, beside the one that is written.
const PARTS_ANSWERING_MAX: usize = 1;

/// What is known of an output before its first byte is written.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputMeta {
    /// Whose job it is.
    pub tenant: Tenant,
    /// The job.
    pub job: JobId,
    /// The run.
    pub run: u32,
    /// The item's place in the request.
    pub index: ItemIndex,
    /// The client's id of the item.
    pub item: String,
    /// The attempt that made it.
    pub attempt: u16,
    /// Its SHA-256 as announced, 64 hexadecimal digits; checked.
    pub sha256: String,
    /// Its size in bytes as announced; checked.
    pub bytes: u64,
    /// Its length in seconds.
    pub duration_s: f64,
    /// How it comes.
    pub source: OutputSource,
}

/// An output on its way. Finish it or abort it; one that is dropped aborts in the background as
/// far as it can.
#[derive(Debug)]
pub struct OutputUpload {
    objects: Objects,
    key: Path,
    meta: OutputMeta,
    written: u64,
    hash: Sha256,
    /// The last piece, which waits for the hash.
    held: Option<Bytes>,
    /// The PUT that is being written.
    flow: Option<Flow>,
    /// Where each PUT began whose answer has not come, the oldest first.
    unanswered: VecDeque<Mark>,
    parts: Option<Parts>,
}

/// A place in an output.
#[derive(Debug, Clone)]
struct Mark {
    part: usize,
    at: u64,
    hash: Sha256,
}

#[derive(Debug)]
struct Parts {
    store: Arc<AmazonS3>,
    id: String,
    /// ETags of what has arrived, by part.
    arrived: Vec<Option<String>>,
    answering: JoinSet<Result<(usize, String), ObjectsError>>,
}

impl Objects {
    /// An upload of which nothing is sent yet.
    pub fn begin_output(&self, meta: OutputMeta) -> OutputUpload {
        let run = (&meta.tenant, &meta.job, meta.run);
        let key = self.keys.output(run, meta.index, &meta.item, &meta.sha256);
        OutputUpload {
            objects: self.clone(),
            key,
            meta,
            written: 0,
            hash: Sha256::new(),
            held: None,
            flow: None,
            unanswered: VecDeque::new(),
            parts: None,
        }
    }

    /// Aborts an upload in parts that somebody left behind; one that is not there counts as aborted.
    pub async fn abort_upload(&self, key: &str, id: &str) -> Result<(), ObjectsError> {
        let key = crate::outputs::parsed(key)?;
        let store = self.slow();
        let id = id.to_owned();
        crate::store::found(
            self.call("abort", &key, store.abort_multipart(&key, &id))
                .await,
        )
        .map(|_| ())
    }
}

impl OutputUpload {
    /// The key that the output will have.
    pub fn key(&self) -> &str {
        self.key.as_ref()
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// True for one that goes in parts: [`OutputUpload::begin_parts`] comes before its first byte.
    pub fn in_parts(&self) -> bool {
        self.meta.bytes > WHOLE_BYTES_MAX
    }

    /// Begins an upload in parts; gives its id.
    pub async fn begin_parts(&mut self) -> Result<String, ObjectsError> {
        if let Some(parts) = &self.parts {
            return Ok(parts.id.clone());
        }
        let options = PutMultipartOptions::from(attributes(&self.meta));
        let store = self.objects.slow();
        let begin = store.create_multipart_opts(&self.key, options);
        let id = self.objects.call("begin", &self.key, begin).await?;
        let count = usize::try_from(self.meta.bytes.div_ceil(PART_BYTES)).unwrap_or(usize::MAX);
        self.parts = Some(Parts {
            store: store.clone(),
            id: id.clone(),
            arrived: vec![None; count],
            answering: JoinSet::new(),
        });
        Ok(id)
    }

    /// Takes the next bytes; waits while those before are on their way.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), ObjectsError> {
        if chunk.len() as u64 > self.meta.bytes - self.written {
            return Err(self.wrong_length(self.written + chunk.len() as u64));
        }
        while !chunk.is_empty() {
            if self.flow.is_none() {
                self.open().await?;
            }
            let room = self.flow.as_ref().map_or(0, Flow::left);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let piece = chunk.split_to(chunk.len().min(room));
            self.hash.update(&piece);
            self.written += piece.len() as u64;
            if self.written == self.meta.bytes {
                self.held = Some(piece);
            } else {
                self.send(piece).await?;
            }
        }
        Ok(())
    }

    /// Lets the last piece out and makes the output appear, whole, if it has the announced length
    /// and hash.
    pub async fn finish(&mut self) -> Result<StoredOutput, ObjectsError> {
        if self.written != self.meta.bytes {
            return Err(self.wrong_length(self.written));
        }
        if hex::encode(self.hash.clone().finalize()) != self.meta.sha256 {
            return Err(ObjectsError::OutputHash {
                key: self.key.to_string(),
            });
        }
        // Only then: one whose last call is tried again has all its parts.
        if self.meta.bytes == 0 {
            self.open().await?;
        }
        if let Some(last) = self.held.take() {
            self.send(last).await?;
        }
        self.close_flow().await?;
        self.complete().await?;
        metrics::counter!("photofinish_objects_output_bytes_total").increment(self.written);
        Ok(StoredOutput {
            key: self.key.to_string(),
            bytes: self.meta.bytes,
            sha256: self.meta.sha256.clone(),
            duration_s: self.meta.duration_s,
            run: self.meta.run,
            attempt: self.meta.attempt,
            source: self.meta.source,
        })
    }

    /// Goes back to where the oldest PUT began that has not arrived; what was written from there
    /// on is to be written again.
    pub async fn rewind(&mut self) {
        self.flow = None;
        self.held = None;
        if let Some(parts) = &mut self.parts {
            parts.answering.shutdown().await;
        }
        if let Some(mark) = self.unanswered.front() {
            self.written = mark.at;
            self.hash = mark.hash.clone();
        }
        self.unanswered.clear();
    }

    /// Gives up: what was sent so far is deleted. An error means that parts may be left.
    pub async fn abort(mut self) -> Result<(), ObjectsError> {
        self.flow = None;
        match self.parts.take() {
            Some(parts) => abort_parts(&self.objects, parts, &self.key).await,
            None => Ok(()),
        }
    }

    async fn open(&mut self) -> Result<(), ObjectsError> {
        let mark = Mark {
            part: usize::try_from(self.written / PART_BYTES).unwrap_or(usize::MAX),
            at: self.written,
            hash: self.hash.clone(),
        };
        let flow = if self.in_parts() {
            self.begin_parts().await?;
            let Some(parts) = &self.parts else {
                return Ok(());
            };
            let query = [
                ("partNumber", (mark.part + 1).to_string()),
                ("uploadId", parts.id.clone()),
            ];
            let bytes = PART_BYTES.min(self.meta.bytes - self.written);
            self.objects
                .flow(&self.key, &query, HeaderMap::new(), bytes)
                .await?
        } else {
            let mut headers = headers(&self.meta)?;
            headers.extend(self.objects.encryption.clone());
            self.objects
                .flow(&self.key, &[], headers, self.meta.bytes)
                .await?
        };
        self.flow = Some(flow);
        self.unanswered.push_back(mark);
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<(), ObjectsError> {
        let Some(flow) = &mut self.flow else {
            return Ok(());
        };
        flow.send(piece).await?;
        // The last one is closed when the output is finished.
        if flow.left() == 0 && self.written < self.meta.bytes {
            self.close_flow().await?;
        }
        Ok(())
    }

    /// Everything of a PUT was sent. A part's answer is waited for beside the next one.
    async fn close_flow(&mut self) -> Result<(), ObjectsError> {
        let Some(flow) = self.flow.take() else {
            return Ok(());
        };
        let Some(parts) = &mut self.parts else {
            flow.finish().await?;
            self.unanswered.clear();
            return Ok(());
        };
        let part = self.unanswered.back().map_or(0, |mark| mark.part);
        parts
            .answering
            .spawn(async move { flow.finish().await.map(|tag| (part, tag)) });
        while parts.answering.len() > PARTS_ANSWERING_MAX {
            arrive(parts, &mut self.unanswered).await?;
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), ObjectsError> {
        let Some(parts) = &mut self.parts else {
            return Ok(());
        };
        while !parts.answering.is_empty() {
            arrive(parts, &mut self.unanswered).await?;
        }
        let tags = parts.arrived.iter().flatten();
        let ids = tags.map(|tag| PartId {
            content_id: tag.clone(),
        });
        let ids: Vec<PartId> = ids.collect();
        debug_assert_eq!(ids.len(), parts.arrived.len());
        let (store, id) = (parts.store.clone(), parts.id.clone());
        let complete = store.complete_multipart(&self.key, &id, ids);
        self.objects
            .slow_call("complete", &self.key, complete)
            .await?;
        self.parts = None;
        Ok(())
    }

    fn wrong_length(&self, got: u64) -> ObjectsError {
        ObjectsError::Length {
            key: self.key.to_string(),
            expected: self.meta.bytes,
            got,
        }
    }
}

impl Drop for OutputUpload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        // Nobody can wait here. Without a runtime whoever keeps its id aborts it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (objects, key) = (self.objects.clone(), self.key.clone());
            runtime.spawn(async move {
                let _told = abort_parts(&objects, parts, &key).await;
            });
        }
    }
}

/// Waits for the answer to one part.
async fn arrive(parts: &mut Parts, unanswered: &mut VecDeque<Mark>) -> Result<(), ObjectsError> {
    let Some(answer) = parts.answering.join_next().await else {
        return Ok(());
    };
    let (part, tag) = answer.map_err(|source| {
        ObjectsError::store(
            "put a part of",
            "an output",
            object_store::Error::from(source),
        )
    })??;
    if let Some(place) = parts.arrived.get_mut(part) {
        *place = Some(tag);
    }
    unanswered.retain(|mark| mark.part != part);
    Ok(())
}

/// Parts under way are stopped first: one that arrives after the abort would stay for ever.
async fn abort_parts(objects: &Objects, mut parts: Parts, key: &Path) -> Result<(), ObjectsError> {
    parts.answering.shutdown().await;
    let aborted = objects.abort_upload(key.as_ref(), &parts.id).await;
    if let Err(error) = &aborted {
        tracing::warn!(%key, %error, "abort an upload; whoever pulls it next, or the end, tries again");
    }
    aborted
}

const SHA256: &str = "photofinish-sha256";
const BYTES: &str = "photofinish-bytes";
const DURATION: &str = "photofinish-duration";
const ATTEMPT: &str = "photofinish-attempt";
const SOURCE: &str = "photofinish-source";

fn metadata_of(meta: &OutputMeta) -> [(&'static str, String); 5] {
    [
        (SHA256, meta.sha256.clone()),
        (BYTES, meta.bytes.to_string()),
        (DURATION, meta.duration_s.to_string()),
        (ATTEMPT, meta.attempt.to_string()),
        (SOURCE, meta.source.as_str().to_owned()),
    ]
}

fn attributes(meta: &OutputMeta) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, OUTPUT_CONTENT_TYPE.into());
    for (name, value) in metadata_of(meta) {
        attributes.insert(Attribute::Metadata(Cow::Borrowed(name)), value.into());
    }
    attributes
}

/// The same for a PUT of our own.
fn headers(meta: &OutputMeta) -> Result<HeaderMap, ObjectsError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OUTPUT_CONTENT_TYPE));
    for (name, value) in metadata_of(meta) {
        let name = HeaderName::try_from(format!("x-amz-meta-{name}"));
        // A worker's word may hold anything; what no header can carry is no hash.
        let value = HeaderValue::try_from(value.as_str());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(ObjectsError::Name(meta.sha256.clone()));
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// An output from its own metadata; nothing for an object that is not one of ours.
pub(crate) fn read_attributes(
    key: String,
    bytes: u64,
    run: u32,
    attributes: &Attributes,
) -> Option<StoredOutput> {
    let metadata = |name: &'static str| {
        attributes
            .get(&Attribute::Metadata(Cow::Borrowed(name)))
            .map(AsRef::<str>::as_ref)
    };
    let source = metadata(SOURCE)?;
    let source = [
        OutputSource::PulledInProgress,
        OutputSource::PulledLate,
        OutputSource::Rescued,
    ]
    .into_iter()
    .find(|known| known.as_str() == source)?;
    Some(StoredOutput {
        key,
        bytes,
        sha256: metadata(SHA256)?.to_owned(),
        duration_s: metadata(DURATION)?.parse().ok()?,
        run,
        attempt: metadata(ATTEMPT)?.parse().ok()?,
        source,
    })
}
