//! Objects as files: s3s-fs in all but LIST. Its own walks the whole bucket for each question; here only the directory
//! is walked that the prefix names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
    DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, GetBucketLifecycleConfigurationInput,
    GetBucketLifecycleConfigurationOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, LifecycleRules, ListBucketsInput, ListBucketsOutput, ListObjectsInput,
    ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
    PutBucketLifecycleConfigurationInput, PutBucketLifecycleConfigurationOutput, PutObjectInput,
    PutObjectOutput, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::page::{Entry, page, page_v1};

/// Buckets as directories under `root`.
pub(super) struct Files {
    pub(super) system: FileSystem,
    pub(super) root: PathBuf,
    /// The rules of the one bucket: they are told, nothing follows them.
    pub(super) lifecycle: Mutex<Option<LifecycleRules>>,
}

impl Files {
    async fn found(&self, bucket: &str, prefix: Option<&str>) -> S3Result<BTreeMap<String, Entry>> {
        let dir = self.root.join(bucket);
        let prefix = prefix.unwrap_or_default().to_owned();
        if !dir.is_dir() {
            return Err(s3_error!(NoSuchBucket));
        }
        if prefix.split('/').any(|part| part == ".." || part == ".") {
            return Ok(BTreeMap::new());
        }
        tokio::task::spawn_blocking(move || walk(&dir, &prefix))
            .await
            .map_err(|error| s3_error!(error, InternalError))?
            .map_err(|error| s3_error!(error, InternalError))
    }
}

/// Every file whose key begins with the prefix. What goes away meanwhile is not there.
fn walk(bucket: &Path, prefix: &str) -> std::io::Result<BTreeMap<String, Entry>> {
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = BTreeMap::new();
    let mut folders = vec![(bucket.join(folder), folder.to_owned())];
    while let Some((dir, name)) = folders.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(last) = entry.file_name().into_string() else {
                continue;
            };
            let key = if name.is_empty() {
                last
            } else {
                format!("{name}/{last}")
            };
            if !(key.starts_with(prefix) || prefix.starts_with(&key)) {
                continue;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push((entry.path(), key)),
                Ok(meta) if key.starts_with(prefix) => {
                    let (bytes, modified) = (meta.len(), meta.modified()?);
                    found.insert(key, Entry { bytes, modified });
                }
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

/// The operations that are handed on as they are.
macro_rules! hand_on {
    ($($name:ident: $input:ident => $output:ident,)*) => {
        #[async_trait::async_trait]
        impl S3 for Files {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.system.$name(request).await
            })*

            async fn get_bucket_lifecycle_configuration(
                &self,
                _request: S3Request<GetBucketLifecycleConfigurationInput>,
            ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
                let rules = self.lifecycle.lock();
                let rules = rules.unwrap_or_else(PoisonError::into_inner).clone();
                if rules.is_none() {
                    return Err(s3_error!(NoSuchLifecycleConfiguration));
                }
                Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
                    rules,
                    ..GetBucketLifecycleConfigurationOutput::default()
                }))
            }

            async fn put_bucket_lifecycle_configuration(
                &self,
                request: S3Request<PutBucketLifecycleConfigurationInput>,
            ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
                // As S3 does: a body without a checksum is refused.
                if !request.headers.contains_key("content-md5") {
                    return Err(s3_error!(InvalidRequest));
                }
                let rules = request.input.lifecycle_configuration.map(|all| all.rules);
                let mut kept = self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = rules;
                Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
            }

            async fn list_objects(
                &self,
                request: S3Request<ListObjectsInput>,
            ) -> S3Result<S3Response<ListObjectsOutput>> {
                let input = request.input;
                let found = self.found(&input.bucket, input.prefix.as_deref()).await?;
                Ok(S3Response::new(page_v1(input, found)))
            }

            async fn list_objects_v2(
                &self,
                request: S3Request<ListObjectsV2Input>,
            ) -> S3Result<S3Response<ListObjectsV2Output>> {
                let input = request.input;
                let found = self.found(&input.bucket, input.prefix.as_deref()).await?;
                Ok(S3Response::new(page(input, found)))
            }
        }
    };
}

hand_on! {
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput,
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput,
    copy_object: CopyObjectInput => CopyObjectOutput,
    create_bucket: CreateBucketInput => CreateBucketOutput,
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput,
    delete_bucket: DeleteBucketInput => DeleteBucketOutput,
    delete_object: DeleteObjectInput => DeleteObjectOutput,
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput,
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput,
    get_object: GetObjectInput => GetObjectOutput,
    head_bucket: HeadBucketInput => HeadBucketOutput,
    head_object: HeadObjectInput => HeadObjectOutput,
    list_buckets: ListBucketsInput => ListBucketsOutput,
    list_parts: ListPartsInput => ListPartsOutput,
    put_object: PutObjectInput => PutObjectOutput,
    upload_part: UploadPartInput => UploadPartOutput,
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput,
}
