//! The two routes to a worker, its exposed TCP port and RunPod's proxy, and which of them is tried
//! first.
//!
//! Nouns: a [`Place`] is one start of one worker, by RunPod's id of it; a [`Way`] is a route to it
//! that can be used now.
//!
//! Guarantee: an announced address is called only when it is a literal public address (or in a
//! network that `outbound.workers.allow` names) with a certificate to pin; the host of the proxy
//! never depends on an announcement. The route that broke last is tried last; what is remembered
//! of workers is bounded. Not for: repeating a call, which whoever makes it decides.

use photofinish_contract::announcement::{Address, Announcement};
use photofinish_outbound::{Guard, Refused, Url};
use photofinish_runpod::direct::{DirectAddress, DirectPorts};
use photofinish_runpod::port::{Port, PortError};
use photofinish_runpod::proxy::WorkerProxy;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Workers that are remembered; the oldest is forgotten first, and then called by the proxy.
const KNOWN_MAX: usize = 4096;
/// Addresses of one announcement that are looked at.
const ADDRESSES_MAX: usize = 8;

/// How a worker is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Its exposed TCP port, with pinned TLS.
    Direct,
    /// RunPod's HTTP proxy.
    Proxy,
}

impl Route {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxy => "proxy",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Direct => Self::Proxy,
            Self::Proxy => Self::Direct,
        }
    }
}

/// One start of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// RunPod's id of the worker, as RunPod told it.
    pub worker: String,
    /// What the worker calls this start of its process; empty: it has not spoken yet.
    pub boot: String,
}

/// A route that can be used now.
#[derive(Debug)]
pub struct Way {
    /// Which.
    pub route: Route,
    /// The worker's port at its end.
    pub port: Port,
}

/// Why an announced address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not `https://ip:port` and nothing else.
    #[error("not a literal https address")]
    Form,
    /// Nothing to pin.
    #[error("no SHA-256 of a certificate")]
    Fingerprint,
    /// In a network that is not called.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Unusable {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Fingerprint => "fingerprint",
            Self::Refused(_) => "address",
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    direct: Option<DirectAddress>,
    first: Route,
}

#[derive(Debug, Default)]
struct Memory {
    known: HashMap<Place, Known>,
    /// The oldest first.
    order: VecDeque<Place>,
}

/// Leads to workers.
#[derive(Debug)]
pub struct Routes {
    proxy: WorkerProxy,
    direct: DirectPorts,
    guard: Guard,
    memory: Mutex<Memory>,
}

impl Routes {
    /// Both routes; `guard` says which announced addresses may be called.
    pub fn new(proxy: WorkerProxy, direct: DirectPorts, guard: Guard) -> Self {
        Self {
            proxy,
            direct,
            guard,
            memory: Mutex::default(),
        }
    }

    /// Takes the direct address from the announcement of a worker that RunPod has named. Later
    /// announcements of the same start say nothing new.
    pub fn learn(&self, announcement: &Announcement) {
        let place = Place {
            worker: announcement.worker_id.clone(),
            boot: announcement.boot.clone(),
        };
        if self.memory().known.contains_key(&place) {
            return;
        }
        let mut direct = None;
        for address in announcement.addresses.iter().take(ADDRESSES_MAX) {
            if address.tls_sha256.is_none() {
                continue; // the proxy's, whose host we make ourselves
            }
            match usable(address, &self.guard) {
                Ok(usable) => {
                    direct = Some(usable);
                    break;
                }
                Err(why) => {
                    tracing::warn!(worker = place.worker, error = %why, "an announced address is not called");
                    let reason = why.as_str();
                    metrics::counter!("photofinish_direct_refused_total", "reason" => reason)
                        .increment(1);
                }
            }
        }
        let first = match direct {
            Some(_) => Route::Direct,
            None => Route::Proxy,
        };
        self.memory().keep(place, Known { direct, first });
    }

    /// The way to be tried first.
    pub fn way(&self, place: &Place) -> Result<Way, PortError> {
        let known = self.memory().known.get(place).copied();
        match known {
            Some(Known {
                direct: Some(address),
                first: Route::Direct,
            }) => Ok(Way {
                route: Route::Direct,
                port: self.direct.port(&address)?,
            }),
            Some(_) | None => Ok(Way {
                route: Route::Proxy,
                port: self.proxy.port(&place.worker)?,
            }),
        }
    }

    /// Something went wrong on a route. True: the route may be to blame and there is another one,
    /// which is tried first from now on.
    pub fn turn_from(&self, place: &Place, route: Route, error: &PortError) -> bool {
        if !blames_route(route, error) {
            return false;
        }
        metrics::counter!("photofinish_route_failures_total", "route" => route.as_str())
            .increment(1);
        self.prefer_other(place, route)
    }

    /// From now on this route is tried last; false: there is no other.
    pub fn prefer_other(&self, place: &Place, route: Route) -> bool {
        let mut memory = self.memory();
        match memory.known.get_mut(place) {
            Some(known) if known.direct.is_some() => {
                known.first = route.other();
                true
            }
            Some(_) | None => false,
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Plain data, whole after each line: a panic elsewhere does not spoil it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn keep(&mut self, place: Place, known: Known) {
        if self.known.insert(place.clone(), known).is_none() {
            self.order.push_back(place);
        }
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// A worker that shows its certificate has answered for itself; the proxy answers 403, 404 and
/// 5xx of its own, too.
fn blames_route(route: Route, error: &PortError) -> bool {
    match (error, route) {
        (PortError::Status(status), Route::Proxy) => matches!(status, 403 | 404 | 429 | 500..),
        (PortError::Status(_), Route::Direct) | (PortError::Range | PortError::Changed, _) => false,
        (
            PortError::WorkerId
            | PortError::Transport(_)
            | PortError::Pin(_)
            | PortError::Build(_)
            | PortError::Stalled(_)
            | PortError::Ended,
            _,
        ) => true,
    }
}

/// Reads an announced address: `https://ip:port`, its fingerprint, and whether it may be called.
/// What was checked here is what is connected to.
pub fn usable(address: &Address, guard: &Guard) -> Result<DirectAddress, Unusable> {
    let url = Url::parse(&address.url).map_err(|_| Unusable::Form)?;
    guard.check_literal(&url)?;
    let ip: IpAddr = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.into(),
        Some(url::Host::Ipv6(ip)) => ip.into(),
        Some(url::Host::Domain(_)) | None => return Err(Unusable::Form),
    };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let port = url.port_or_known_default().filter(|&port| port > 0);
    let (true, "https", Some(port)) = (bare, url.scheme(), port) else {
        return Err(Unusable::Form);
    };
    let mut certificate = [0; 32];
    let text = address.tls_sha256.as_deref().unwrap_or_default();
    hex::decode_to_slice(text, &mut certificate).map_err(|_| Unusable::Fingerprint)?;
    Ok(DirectAddress {
        addr: SocketAddr::new(ip, port),
        certificate,
    })
}

#[cfg(test)]
mod tests;
