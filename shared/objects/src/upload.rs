//! An output on its way into the bucket, in one pass and in bounded memory.
//!
//! Up to [`PART_BYTES`] it is one PUT; a larger one goes in parts, one of which is filled while
//! the one before is on its way. What is not finished is not there: readers never see a part.

use crate::{Objects, ObjectsError};
use bytes::{Bytes, BytesMut};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload,
};
use photofinish_contract::job::OUTPUT_CONTENT_TYPE;
use photofinish_model::{ItemIndex, JobId, OutputSource, StoredOutput, Tenant};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Bytes of one part, and of the largest output that goes in one PUT.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts on their way at the same time, beside the one that is filled.
const PARTS_UNDER_WAY_MAX: usize = 1;
/// An upload holds at most so many bytes, whatever the size of its output.
pub const UPLOAD_MEMORY_BYTES_MAX: usize = (PARTS_UNDER_WAY_MAX + 1) * PART_BYTES;

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
    /// Its SHA-256 as announced, 64 hexadecimal digits; the caller hashes what it writes.
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
    store: Arc<AmazonS3>,
    key: Path,
    meta: OutputMeta,
    written: u64,
    buffer: BytesMut,
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    upload: Box<dyn MultipartUpload>,
    /// Parts under way; they belong to this upload and end with it. Each gives its bytes back.
    under_way: JoinSet<object_store::Result<Bytes>>,
    /// The buffer of a part that has arrived, to be filled again. Two buffers serve a whole
    /// upload: were each part's freed, the allocator's arenas would keep one or more of them.
    spare: Option<BytesMut>,
}

impl Parts {
    /// Waits for one part, if any is under way, and keeps its buffer.
    async fn arrived(&mut self, key: &Path) -> Result<(), ObjectsError> {
        if let Some(part) = self.under_way.join_next().await {
            let bytes = sent(key, part)?;
            // Not to be had while the client still holds on to it: then a new one is made.
            self.spare = bytes.try_into_mut().ok();
        }
        Ok(())
    }

    fn empty_buffer(&mut self) -> BytesMut {
        let mut buffer = self.spare.take().unwrap_or_default();
        buffer.clear();
        buffer.reserve(PART_BYTES);
        buffer
    }
}

impl Objects {
    /// Begins an upload; nothing is sent before the first part is full.
    pub fn begin_output(&self, meta: OutputMeta) -> OutputUpload {
        let run = (&meta.tenant, &meta.job, meta.run);
        let key = self.keys.output(run, meta.index, &meta.item, &meta.sha256);
        let first = usize::try_from(meta.bytes)
            .unwrap_or(PART_BYTES)
            .min(PART_BYTES);
        OutputUpload {
            objects: self.clone(),
            store: self.store(),
            key,
            meta,
            written: 0,
            buffer: BytesMut::with_capacity(first),
            parts: None,
        }
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

    /// Takes the next bytes; waits while a part is on its way and the next one is full.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), ObjectsError> {
        self.written += chunk.len() as u64;
        if self.written > self.meta.bytes {
            return Err(self.wrong_length());
        }
        while !chunk.is_empty() {
            // A full buffer is sent only when more follows, so that the last part is never empty
            // and an output of exactly one part is one PUT.
            if self.buffer.len() == PART_BYTES {
                self.send_part().await?;
            }
            let room = PART_BYTES - self.buffer.len();
            self.buffer
                .extend_from_slice(&chunk.split_to(chunk.len().min(room)));
        }
        Ok(())
    }

    /// Puts what is left and makes the output appear, whole.
    pub async fn finish(mut self) -> Result<StoredOutput, ObjectsError> {
        if self.written != self.meta.bytes {
            let error = self.wrong_length();
            self.abort().await;
            return Err(error);
        }
        let outcome = if self.parts.is_some() {
            self.complete().await
        } else {
            self.put_whole().await
        };
        if let Err(error) = outcome {
            self.abort().await;
            return Err(error);
        }
        metrics::counter!("photofinish_objects_output_bytes").increment(self.written);
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

    /// Gives up: what was sent so far is deleted as far as the bucket answers.
    pub async fn abort(mut self) {
        if let Some(parts) = self.parts.take() {
            abort_parts(parts, self.key.clone()).await;
        }
    }

    async fn put_whole(&mut self) -> Result<(), ObjectsError> {
        let payload = PutPayload::from(self.buffer.split().freeze());
        let options = PutOptions::from(attributes(&self.meta));
        let put = self.store.put_opts(&self.key, payload, options);
        self.objects.call("put", &self.key, put).await.map(|_| ())
    }

    async fn complete(&mut self) -> Result<(), ObjectsError> {
        self.send_part().await?;
        let Some(parts) = &mut self.parts else {
            return Ok(());
        };
        while !parts.under_way.is_empty() {
            parts.arrived(&self.key).await?;
        }
        self.objects
            .call("complete", &self.key, parts.upload.complete())
            .await
            .map(|_| ())
    }

    /// Sends the buffer as the next part once fewer than the limit are under way.
    async fn send_part(&mut self) -> Result<(), ObjectsError> {
        if self.parts.is_none() {
            let options = PutMultipartOptions::from(attributes(&self.meta));
            let begin = self.store.put_multipart_opts(&self.key, options);
            let upload = self.objects.call("begin", &self.key, begin).await?;
            self.parts = Some(Parts {
                upload,
                under_way: JoinSet::new(),
                spare: None,
            });
        }
        let Some(parts) = &mut self.parts else {
            return Ok(());
        };
        while parts.under_way.len() >= PARTS_UNDER_WAY_MAX {
            parts.arrived(&self.key).await?;
        }
        let full = std::mem::replace(&mut self.buffer, parts.empty_buffer()).freeze();
        let part = parts.upload.put_part(PutPayload::from(full.clone()));
        parts
            .under_way
            .spawn(async move { part.await.map(|()| full) });
        Ok(())
    }

    fn wrong_length(&self) -> ObjectsError {
        ObjectsError::Length {
            key: self.key.to_string(),
            expected: self.meta.bytes,
            got: self.written,
        }
    }
}

impl Drop for OutputUpload {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else {
            return;
        };
        // Nobody can wait here. Without a runtime only the bucket's own lifecycle rule is left.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(abort_parts(parts, self.key.clone()));
        }
    }
}

fn sent(
    key: &Path,
    part: Result<object_store::Result<Bytes>, tokio::task::JoinError>,
) -> Result<Bytes, ObjectsError> {
    part.map_err(object_store::Error::from)
        .and_then(|outcome| outcome)
        .map_err(|source| ObjectsError::store("put a part of", key.as_ref(), source))
}

/// Parts under way are stopped first: one that arrives after the abort would stay for ever.
async fn abort_parts(mut parts: Parts, key: Path) {
    parts.under_way.shutdown().await;
    if let Err(error) = parts.upload.abort().await {
        tracing::warn!(%key, %error, "abort an upload; its parts stay until the lifecycle rule");
    }
}

const SHA256: &str = "photofinish-sha256";
const BYTES: &str = "photofinish-bytes";
const DURATION: &str = "photofinish-duration";
const ATTEMPT: &str = "photofinish-attempt";
const SOURCE: &str = "photofinish-source";

fn attributes(meta: &OutputMeta) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, OUTPUT_CONTENT_TYPE.into());
    let mut metadata = |name: &'static str, value: String| {
        attributes.insert(Attribute::Metadata(Cow::Borrowed(name)), value.into());
    };
    metadata(SHA256, meta.sha256.clone());
    metadata(BYTES, meta.bytes.to_string());
    metadata(DURATION, meta.duration_s.to_string());
    metadata(ATTEMPT, meta.attempt.to_string());
    metadata(SOURCE, meta.source.as_str().to_owned());
    attributes
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
