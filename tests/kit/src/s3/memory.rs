//! Objects in memory: for load, where the files of s3s-fs (three for each object) would be what is measured. It knows
//! what small objects need; uploads in parts it does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use s3s::dto::{
    ContentType, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
    DeletedObject, ETag, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Metadata,
    PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::page::{Entry, page};

struct Object {
    body: Bytes,
    modified: SystemTime,
    tag: u64,
    content_type: Option<ContentType>,
    metadata: Option<Metadata>,
}

impl Object {
    fn tag(&self) -> ETag {
        ETag::Strong(format!("{:032x}", self.tag))
    }
}

/// One bucket.
pub(super) struct Memory {
    bucket: String,
    objects: RwLock<BTreeMap<String, Arc<Object>>>,
    tags: AtomicU64,
}

impl Memory {
    pub(super) fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.to_owned(),
            objects: RwLock::default(),
            tags: AtomicU64::new(1),
        }
    }

    fn ours(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket {
            Ok(())
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.ours(bucket)?;
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let found = objects.get(key).cloned();
        found.ok_or_else(|| s3_error!(NoSuchKey))
    }

    fn delete(&self, key: &str) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.remove(key);
    }
}

#[async_trait::async_trait]
impl S3 for Memory {
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.ours(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.ours(&input.bucket)?;
        let mut body = Vec::new();
        if let Some(mut stream) = input.body {
            while let Some(piece) = stream
                .try_next()
                .await
                .map_err(|_| s3_error!(IncompleteBody))?
            {
                body.extend_from_slice(&piece);
            }
        }
        let whole = i64::try_from(body.len()).unwrap_or(i64::MAX);
        if input.content_length.is_some_and(|length| length != whole) {
            return Err(s3_error!(IncompleteBody));
        }
        let object = Arc::new(Object {
            body: body.into(),
            modified: SystemTime::now(),
            tag: self.tags.fetch_add(1, Ordering::Relaxed),
            content_type: input.content_type,
            metadata: input.metadata,
        });
        let tag = object.tag();
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let absent = input
            .if_none_match
            .is_some_and(|condition| condition.is_any());
        if absent && objects.contains_key(&input.key) {
            return Err(s3_error!(PreconditionFailed));
        }
        objects.insert(input.key, object);
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(tag),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.object(&input.bucket, &input.key)?;
        let bytes = object.body.len();
        let (body, range) = match input.range {
            None => (object.body.clone(), None),
            Some(range) => {
                let part = range.check(bytes as u64)?;
                let said = format!("bytes {}-{}/{bytes}", part.start, part.end - 1);
                let place = |at: u64| usize::try_from(at).unwrap_or(bytes).min(bytes);
                let body = object.body.slice(place(part.start)..place(part.end));
                (body, Some(said))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(body.len()).ok(),
            body: Some(StreamingBlob::from(Body::from(body))),
            content_range: range,
            content_type: object.content_type.clone(),
            e_tag: Some(object.tag()),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: object.metadata.clone(),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.object(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(object.body.len()).ok(),
            content_type: object.content_type.clone(),
            e_tag: Some(object.tag()),
            last_modified: Some(Timestamp::from(object.modified)),
            metadata: object.metadata.clone(),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.ours(&request.input.bucket)?;
        self.delete(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.ours(&request.input.bucket)?;
        let mut deleted = Vec::new();
        for object in request.input.delete.objects {
            self.delete(&object.key);
            deleted.push(DeletedObject {
                key: Some(object.key),
                ..DeletedObject::default()
            });
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.ours(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let found = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            let from = objects.range(prefix.clone()..);
            let under = from.take_while(|(key, _)| key.starts_with(&prefix));
            under
                .map(|(key, object)| {
                    let (bytes, modified) = (object.body.len() as u64, object.modified);
                    (key.clone(), Entry { bytes, modified })
                })
                .collect()
        };
        Ok(S3Response::new(page(input, found)))
    }
}
