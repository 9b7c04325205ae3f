//! Sockets and where they really are: port 0 is allowed everywhere.
//!
//! Guarantee: the ports file (`{"http": "127.0.0.1:1234", "admin": "127.0.0.1:1235"}`) appears whole, by rename,
//! and only when the service runs; whoever sees it can connect to every address in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listen on {addr} for {name}")]
pub struct ListenError {
    name: &'static str,
    addr: String,
    source: std::io::Error,
}

/// The named addresses of the process. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    bound: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
    file: Option<PathBuf>,
}

impl Ports {
    /// Addresses that will be written to `file`, if one is given.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self {
            bound: Arc::default(),
            file,
        }
    }

    /// Binds `addr` (`host:port`, port 0 for any free one) and remembers the real address under `name`.
    pub async fn listen(&self, name: &'static str, addr: &str) -> Result<TcpListener, ListenError> {
        let failed = |source| ListenError {
            name,
            addr: addr.to_owned(),
            source,
        };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let real = listener.local_addr().map_err(failed)?;
        self.register(name, real);
        tracing::info!(name, addr = %real, "listening");
        Ok(listener)
    }

    /// Remembers an address that was bound elsewhere.
    pub fn register(&self, name: &'static str, addr: SocketAddr) {
        self.lock().insert(name.to_owned(), addr);
    }

    /// The address bound under a name.
    pub fn get(&self, name: &str) -> Option<SocketAddr> {
        self.lock().get(name).copied()
    }

    /// Writes the ports file, if there is one, by rename.
    pub(crate) fn write(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let text = serde_json::to_string(&*self.lock())?;
        write_by_rename(file, &text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, SocketAddr>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_by_rename(file: &Path, text: &str) -> std::io::Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::write(&part, text)?;
    std::fs::rename(&part, file)
}
