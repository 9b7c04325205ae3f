//! The bucket: settings, the client, and the few kinds of calls that everything else is made of.

use crate::error::{is_already_there, is_not_found};
use crate::keys::Keys;
use crate::known_runs::KnownRuns;
use crate::{Class, ObjectsError};
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::signer::{HeaderMap, HeaderName, HeaderValue};
use object_store::{
    Certificate, ClientOptions, GetOptions, ListResult, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload, RetryConfig,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Times a put-if-absent is tried that meets an object which is gone when it is read: S3 answers
/// 409 to one of two racers even when the other fails afterwards.
const ABSENT_TRIES_MAX: u32 = 3;
/// How long the end of an upload in parts may take.
const SLOW_TIMEOUT: Duration = Duration::from_secs(600);
/// Objects that one call reads or deletes at the same time.
pub(crate) const PARALLEL_MAX: usize = 8;

/// What lies in the object on which the bucket is tried.
pub(crate) const CHECK: &str = "put-if-absent is tried on this object";

/// Where the bucket is and who we are there.
#[derive(Clone)]
pub struct Settings {
    /// The URL of the S3 service; empty for AWS itself.
    pub endpoint: String,
    /// The same service as clients and workers reach it; empty: `endpoint`.
    pub public_endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The region.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
    /// Everything lies under it; may be empty.
    pub prefix: String,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`.
    pub path_style: bool,
    /// How the bucket is asked to encrypt what we put.
    pub encryption: Encryption,
    /// PEM: who may sign the endpoint's certificate, besides whom this machine trusts.
    pub ca_pem: Option<Vec<u8>>,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long one call may take, and how long a stream may stall.
    pub request_timeout: Duration,
}

/// Encryption at rest, by the bucket. What workers push and clients upload is put without being
/// asked for, since their addresses carry no headers: the bucket's own default holds for it
/// ([`Objects::default_encryption`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    /// As the bucket does by itself.
    #[default]
    Bucket,
    /// Under a key of the service (SSE-S3).
    Aes256,
    /// Under a key of the key management service (SSE-KMS).
    Kms {
        /// The key, its id or ARN; nothing: the account's own.
        key_id: Option<String>,
    },
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            public_endpoint: String::new(),
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            prefix: String::new(),
            path_style: true,
            encryption: Encryption::Bucket,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("objects::Settings")
            .field("endpoint", &self.endpoint)
            .field("public_endpoint", &self.public_endpoint)
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("prefix", &self.prefix)
            .field("path_style", &self.path_style)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// The bucket. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    /// Calls that are over within the request timeout.
    calls: Arc<AmazonS3>,
    /// Reads that may take long but not stall.
    pub(crate) streams: Arc<AmazonS3>,
    /// Signs for the public endpoint; never connects.
    pub(crate) signer: Arc<AmazonS3>,
    pub(crate) keys: Keys,
    pub(crate) known_runs: KnownRuns,
    /// Calls that may take minutes: S3 answers the end of an upload in parts late.
    slow: Arc<AmazonS3>,
    /// PUTs whose body goes out as it comes.
    pub(crate) http: reqwest::Client,
    /// Of those PUTs, for the bucket's encryption.
    pub(crate) encryption: HeaderMap,
    request_timeout: Duration,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Objects {
    /// Clients for the bucket. Nothing is sent: see [`Objects::check`].
    pub fn connect(settings: &Settings) -> Result<Self, ObjectsError> {
        let public = match settings.public_endpoint.as_str() {
            "" => &settings.endpoint,
            public => public,
        };
        let trusting = trusting(settings)?;
        let calls = trusting
            .clone()
            .with_connect_timeout(settings.connect_timeout)
            .with_timeout(settings.request_timeout);
        let streams = trusting
            .with_connect_timeout(settings.connect_timeout)
            .with_timeout_disabled()
            .with_read_timeout(settings.request_timeout);
        Ok(Self {
            slow: Arc::new(client(
                settings,
                &settings.endpoint,
                calls.clone().with_timeout(SLOW_TIMEOUT),
            )?),
            http: http(settings).map_err(ObjectsError::Client)?,
            encryption: encryption_headers(&settings.encryption)?,
            calls: Arc::new(client(settings, &settings.endpoint, calls.clone())?),
            streams: Arc::new(client(settings, &settings.endpoint, streams)?),
            signer: Arc::new(client(settings, public, calls)?),
            keys: Keys::new(&settings.prefix),
            known_runs: KnownRuns::default(),
            request_timeout: settings.request_timeout,
        })
    }

    /// Readiness: the bucket answers, takes our credentials and honours put-if-absent.
    pub async fn check(&self) -> Result<(), ObjectsError> {
        let key = self.keys.check();
        if self.try_create(&key, CHECK.as_bytes().to_vec()).await?
            && self.try_create(&key, Vec::new()).await?
        {
            return Err(ObjectsError::NoPutIfAbsent);
        }
        Ok(())
    }

    /// Signs for the endpoint that we use ourselves.
    pub(crate) fn store(&self) -> Arc<AmazonS3> {
        self.calls.clone()
    }

    /// The client for uploads in parts: their end takes its time.
    pub(crate) fn slow(&self) -> Arc<AmazonS3> {
        self.slow.clone()
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// One call under the request timeout.
    pub(crate) async fn call<T>(
        &self,
        doing: &'static str,
        key: &Path,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ObjectsError> {
        self.call_within(self.request_timeout, doing, key, call)
            .await
    }

    /// One call that may take minutes.
    pub(crate) async fn slow_call<T>(
        &self,
        doing: &'static str,
        key: &Path,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ObjectsError> {
        self.call_within(SLOW_TIMEOUT, doing, key, call).await
    }

    async fn call_within<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        key: &Path,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ObjectsError> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                if !is_not_found(&source) && !is_already_there(&source) {
                    metrics::counter!("photofinish_objects_errors_total", "call" => doing)
                        .increment(1);
                }
                Err(ObjectsError::store(doing, key.as_ref(), source))
            }
            Err(_elapsed) => Err(ObjectsError::Timeout {
                doing,
                key: key.to_string(),
                seconds: limit.as_secs(),
            }),
        }
    }

    /// Puts an object that must not be there; false when it is.
    pub(crate) async fn try_create(&self, key: &Path, body: Vec<u8>) -> Result<bool, ObjectsError> {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        let put = self.calls.put_opts(key, PutPayload::from(body), options);
        match self.call("put if absent", key, put).await {
            Ok(_) => Ok(true),
            Err(ObjectsError::Store { source, .. }) if is_already_there(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a document that must not be there; gives the one that counts and whether it is ours.
    pub(crate) async fn create_document<T>(
        &self,
        key: &Path,
        document: &T,
    ) -> Result<(T, bool), ObjectsError>
    where
        T: Serialize + DeserializeOwned + Clone,
    {
        let body = encode(key, document)?;
        for _ in 0..ABSENT_TRIES_MAX {
            if self.try_create(key, body.clone()).await? {
                return Ok((document.clone(), true));
            }
            if let Some(there) = self.document(key).await? {
                return Ok((there, false));
            }
        }
        let source = object_store::Error::NotFound {
            path: key.to_string(),
            source: "neither created nor there".into(),
        };
        let error = ObjectsError::store("put if absent", key.as_ref(), source);
        debug_assert_eq!(error.class(), Class::Transient);
        Err(error)
    }

    /// Puts a document, over an older one if there is one.
    pub(crate) async fn put_document<T: Serialize>(
        &self,
        key: &Path,
        document: &T,
    ) -> Result<(), ObjectsError> {
        let body = encode(key, document)?;
        self.put_bytes(key, body).await
    }

    pub(crate) async fn put_bytes(&self, key: &Path, body: Vec<u8>) -> Result<(), ObjectsError> {
        self.call("put", key, self.calls.put(key, PutPayload::from(body)))
            .await
            .map(|_| ())
    }

    /// Reads a document.
    pub(crate) async fn document<T: DeserializeOwned>(
        &self,
        key: &Path,
    ) -> Result<Option<T>, ObjectsError> {
        let Some(body) = self.bytes(key).await? else {
            return Ok(None);
        };
        decode(key, &body).map(Some)
    }

    pub(crate) async fn bytes(&self, key: &Path) -> Result<Option<bytes::Bytes>, ObjectsError> {
        let get = async { self.calls.get(key).await?.bytes().await };
        found(self.call("get", key, get).await)
    }

    /// Metadata and attributes of an object.
    pub(crate) async fn head(
        &self,
        key: &Path,
    ) -> Result<Option<object_store::GetResult>, ObjectsError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        found(
            self.call("head", key, self.calls.get_opts(key, options))
                .await,
        )
    }

    /// Deletes an object; one that is not there counts as deleted.
    pub(crate) async fn delete(&self, key: &Path) -> Result<(), ObjectsError> {
        found(self.call("delete", key, self.calls.delete(key)).await).map(|_| ())
    }

    /// Deletes objects, a few at a time.
    pub(crate) async fn delete_all(&self, keys: Vec<Path>) -> Result<(), ObjectsError> {
        futures_util::stream::iter(keys)
            .map(|key| async move { self.delete(&key).await })
            .buffer_unordered(PARALLEL_MAX)
            .try_collect()
            .await
    }

    /// What lies directly under a prefix.
    pub(crate) async fn list_here(&self, prefix: &Path) -> Result<ListResult, ObjectsError> {
        self.call("list", prefix, self.calls.list_with_delimiter(Some(prefix)))
            .await
    }

    /// Everything under a prefix, page by page; each page may stall for the request timeout.
    pub(crate) async fn list_below(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, ObjectsError> {
        self.streams
            .list(Some(prefix))
            .map_err(|source| ObjectsError::store("list", prefix.as_ref(), source))
            .try_collect()
            .await
    }
}

pub(crate) fn decode<T: DeserializeOwned>(key: &Path, body: &[u8]) -> Result<T, ObjectsError> {
    serde_json::from_slice(body).map_err(|source| ObjectsError::Document {
        key: key.to_string(),
        source,
    })
}

pub(crate) fn encode<T: Serialize>(key: &Path, document: &T) -> Result<Vec<u8>, ObjectsError> {
    serde_json::to_vec(document).map_err(|source| ObjectsError::Document {
        key: key.to_string(),
        source,
    })
}

/// Turns "not found" into nothing.
pub(crate) fn found<T>(outcome: Result<T, ObjectsError>) -> Result<Option<T>, ObjectsError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(ObjectsError::Store { source, .. }) if is_not_found(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Options under which the settings' authority may sign, too.
fn trusting(settings: &Settings) -> Result<ClientOptions, ObjectsError> {
    let Some(pem) = &settings.ca_pem else {
        return Ok(ClientOptions::new());
    };
    let certificates = Certificate::from_pem_bundle(pem).map_err(ObjectsError::Settings)?;
    Ok(certificates
        .into_iter()
        .fold(ClientOptions::new(), ClientOptions::with_root_certificate))
}

/// The client for calls of our own.
fn http(settings: &Settings) -> reqwest::Result<reqwest::Client> {
    let mut client = reqwest::Client::builder()
        .connect_timeout(settings.connect_timeout)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only();
    if let Some(pem) = &settings.ca_pem {
        client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    client.build()
}

/// What a PUT of our own says about encryption.
fn encryption_headers(encryption: &Encryption) -> Result<HeaderMap, ObjectsError> {
    let how = HeaderName::from_static("x-amz-server-side-encryption");
    let with = HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id");
    let mut headers = HeaderMap::new();
    match encryption {
        Encryption::Bucket => {}
        Encryption::Aes256 => {
            headers.insert(how, HeaderValue::from_static("AES256"));
        }
        Encryption::Kms { key_id } => {
            headers.insert(how, HeaderValue::from_static("aws:kms"));
            if let Some(key_id) = key_id {
                let key = HeaderValue::try_from(key_id.as_str());
                headers.insert(with, key.map_err(|_| ObjectsError::Name(key_id.clone()))?);
            }
        }
    }
    Ok(headers)
}

fn encrypting(
    builder: AmazonS3Builder,
    encryption: &Encryption,
) -> object_store::Result<AmazonS3Builder> {
    let how: AmazonS3ConfigKey = "aws_server_side_encryption".parse()?;
    Ok(match encryption {
        Encryption::Bucket => builder,
        Encryption::Aes256 => builder.with_config(how, "AES256"),
        Encryption::Kms { key_id: None } => builder.with_config(how, "aws:kms"),
        Encryption::Kms {
            key_id: Some(key_id),
        } => builder.with_sse_kms_encryption(key_id),
    })
}

/// A client that never tries anything twice: whoever calls owns the retry.
fn client(
    settings: &Settings,
    endpoint: &str,
    options: ClientOptions,
) -> Result<AmazonS3, ObjectsError> {
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_allow_http(endpoint.starts_with("http://"))
        .with_client_options(options.with_allow_http(endpoint.starts_with("http://")))
        .with_retry(retry);
    if !settings.access_key_id.is_empty() {
        builder = builder
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(&settings.secret_access_key);
    }
    if !endpoint.is_empty() {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    encrypting(builder, &settings.encryption)
        .and_then(AmazonS3Builder::build)
        .map_err(ObjectsError::Settings)
}
