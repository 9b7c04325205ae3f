//! TLS of our own ports: a certificate and its key from files, which may be replaced at any time.
//!
//! Nouns: a [`TlsSection`] is how a port's files are written in the settings; a [`Tls`] is what a server greets with.
//!
//! Guarantee: what is served with was read whole, and the key belongs to the certificate. A file that changes is taken
//! up within [`RELOAD_EVERY`] for new connections; one that cannot be used is told, once, and the old one goes on.
//! Not for ports whose certificate nobody signs: the worker makes its own and announces it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

use crate::{Tasks, error_chain};

/// How often the files are looked at.
pub const RELOAD_EVERY: Duration = Duration::from_secs(10);
/// HTTP/2 where the client speaks it.
pub(crate) const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The section `….tls` of a port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// PEM: the certificate, then those that signed it.
    pub cert_file: String,
    /// PEM: its private key.
    pub key_file: String,
}

impl TlsSection {
    /// Reads the files of the section at `path`, such as `http.tls`; nothing when none is named. An error names the
    /// path.
    pub fn load(&self, path: &str) -> Result<Option<Tls>, String> {
        let (cert, key) = (self.cert_file.as_str(), self.key_file.as_str());
        match (cert.is_empty(), key.is_empty()) {
            (true, true) => Ok(None),
            (true, false) => Err(format!(
                "{path}.cert_file: must be set, since {path}.key_file is"
            )),
            (false, true) => Err(format!(
                "{path}.key_file: must be set, since {path}.cert_file is"
            )),
            (false, false) => Tls::load(cert.into(), key.into())
                .map(Some)
                .map_err(|error| format!("{path}: {}", error_chain(&error))),
        }
    }
}

/// A certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("find {what} in {}", .file.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// Where.
        file: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// No certificate stands in the file.
    #[error("find a certificate in {}: there is none", .0.display())]
    Empty(PathBuf),
    /// Certificate and key do not go together, or are of a kind that is not known.
    #[error("use {} with the key in {}", .cert.display(), .key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The crypto provider refuses our protocol versions.
    #[error("set TLS up")]
    Config(#[source] rustls::Error),
}

/// What a server greets with. Clones share one state.
#[derive(Debug, Clone)]
pub struct Tls {
    files: Arc<Files>,
    served: Arc<Served>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    /// What was last read, good or not.
    read: Mutex<Read>,
}

/// The bytes of both files.
#[derive(Default, PartialEq, Eq)]
struct Read {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").finish_non_exhaustive()
    }
}

/// The pair that new connections are greeted with.
#[derive(Debug)]
struct Served(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(
            &self.0.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

impl Tls {
    /// Reads both files (PEM).
    pub fn load(cert: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let files = Files {
            cert,
            key,
            read: Mutex::default(),
        };
        let read = files.read()?;
        let pair = files.pair(&read, &provider)?;
        *files.last() = read;
        let served = Arc::new(Served(RwLock::new(Arc::new(pair))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&served) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        Ok(Self {
            files: Arc::new(files),
            served,
            config: Arc::new(config),
        })
    }

    /// Takes changed files up until the process stops.
    pub fn watch(&self, tasks: &Tasks) {
        let (tls, shutdown) = (self.clone(), tasks.shutdown().clone());
        tasks.spawn_critical("tls.reload", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(RELOAD_EVERY) => {}
                    () = shutdown.wait() => return,
                }
                let cert = tls.files.cert.display().to_string();
                let result = match tls.reload() {
                    Ok(false) => continue,
                    Ok(true) => {
                        tracing::info!(cert, "a new certificate is served");
                        "ok"
                    }
                    Err(error) => {
                        let error = error_chain(&error);
                        tracing::error!(
                            cert,
                            error,
                            "take a new certificate up: the old one is still served"
                        );
                        "failed"
                    }
                };
                metrics::counter!("photofinish_tls_reloads_total", "result" => result).increment(1);
            }
        });
    }

    /// Takes the files up if they have changed; what cannot be used is told once. `true`: something new is served.
    fn reload(&self) -> Result<bool, TlsError> {
        // In the middle of being replaced, a file may be missing: it is looked at again.
        let Ok(read) = self.files.read() else {
            return Ok(false);
        };
        let mut last = self.files.last();
        if *last == read {
            return Ok(false);
        }
        let pair = self.files.pair(&read, self.config.crypto_provider());
        *last = read;
        *self
            .served
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(pair?);
        Ok(true)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

impl Files {
    fn last(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<Read, TlsError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|source| TlsError::File {
                file: file.to_path_buf(),
                source,
            })
        };
        Ok(Read {
            cert: read(&self.cert)?,
            key: read(&self.key)?,
        })
    }

    fn pair(&self, read: &Read, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&read.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|source| TlsError::Pem {
            what: "a certificate",
            file: self.cert.clone(),
            source,
        })?;
        if chain.is_empty() {
            return Err(TlsError::Empty(self.cert.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(|source| TlsError::Pem {
            what: "a private key",
            file: self.key.clone(),
            source,
        })?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, cert: &str, key: &str) -> (PathBuf, PathBuf) {
        let (cert_file, key_file) = (dir.join("tls.crt"), dir.join("tls.key"));
        std::fs::write(&cert_file, cert).unwrap();
        std::fs::write(&key_file, key).unwrap();
        (cert_file, key_file)
    }

    fn made() -> (String, String, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der = made.cert.der().to_vec();
        (made.cert.pem(), made.signing_key.serialize_pem(), der)
    }

    fn leaf(tls: &Tls) -> Vec<u8> {
        tls.served.0.read().unwrap().cert[0].to_vec()
    }

    #[test]
    fn files_that_change_are_taken_up_and_bad_ones_are_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key, first), (other, other_key, second)) = (made(), made());
        let (cert_file, key_file) = write(dir.path(), &cert, &key);
        let tls = Tls::load(cert_file, key_file.clone()).unwrap();
        assert_eq!(leaf(&tls), first);
        assert!(!tls.reload().unwrap(), "nothing has changed");
        // One of the two is not replaced yet.
        write(dir.path(), &other, &key);
        assert!(matches!(tls.reload(), Err(TlsError::Pair { .. })));
        assert!(!tls.reload().unwrap(), "told already");
        assert_eq!(leaf(&tls), first);
        std::fs::remove_file(&key_file).unwrap();
        assert!(!tls.reload().unwrap(), "it may come again");
        write(dir.path(), &other, &other_key);
        assert!(tls.reload().unwrap());
        assert_eq!(leaf(&tls), second);
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said_with_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let ((cert, key, _), (_, other_key, _)) = (made(), made());
        let told = |cert: &str, key: &str| {
            let (cert_file, key_file) = write(dir.path(), cert, key);
            let section = TlsSection {
                cert_file: cert_file.display().to_string(),
                key_file: key_file.display().to_string(),
            };
            section.load("http.tls").map(|tls| tls.is_some())
        };
        assert_eq!(told(&cert, &key), Ok(true));
        for (cert, key, wanted) in [
            ("nothing", &key, "find a certificate"),
            (&cert, &"nothing".to_owned(), "find a private key"),
            (&cert, &other_key, "keys may not be consistent"),
        ] {
            let error = told(cert, key).unwrap_err();
            assert!(
                error.starts_with("http.tls: ") && error.contains(wanted),
                "{error}"
            );
        }
        let half = TlsSection {
            key_file: "k".to_owned(),
            ..TlsSection::default()
        };
        assert!(
            half.load("http.tls")
                .unwrap_err()
                .starts_with("http.tls.cert_file")
        );
        assert!(TlsSection::default().load("http.tls").unwrap().is_none());
    }
}
