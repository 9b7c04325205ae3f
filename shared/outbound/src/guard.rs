//! The check itself: of a URL before anything happens, of addresses before anything is connected.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

use crate::ranges::{effective, special};

/// Which special networks are allowed after all. The default allows none.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Networks whose addresses may be called although they are special.
    pub allow: Vec<IpNet>,
}

impl Policy {
    /// Reads CIDR texts such as `10.1.0.0/16` or single addresses; names every wrong one.
    pub fn from_texts<T: AsRef<str>>(texts: &[T]) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let mut allow = Vec::new();
        for text in texts.iter().map(|text| text.as_ref().trim()) {
            match text
                .parse()
                .or_else(|_| text.parse().map(|addr: IpAddr| IpNet::from(addr)))
            {
                Ok(net) => allow.push(net),
                Err(_) => wrong.push(format!("{text}: not a network such as 10.1.0.0/16")),
            }
        }
        if wrong.is_empty() {
            Ok(Self { allow })
        } else {
            Err(wrong)
        }
    }
}

/// Why an address is not called. The text is meant for the client of the job: it names no address that only DNS knew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is no absolute URL.
    #[error("not a valid URL")]
    NotAUrl,
    /// Neither http nor https.
    #[error("the scheme {0} is not allowed; use http or https")]
    Scheme(String),
    /// User name or password in the URL.
    #[error("user name and password in a URL are not allowed")]
    Credentials,
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// An address of a special range that is not allowed.
    #[error("the address is in a range that is not called ({0})")]
    Address(&'static str),
}

impl Refused {
    /// A label for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NotAUrl => "not_a_url",
            Self::Scheme(_) => "scheme",
            Self::Credentials => "credentials",
            Self::NoHost => "no_host",
            Self::Address(_) => "address",
        }
    }
}

/// Checks against a policy. Pure: it resolves nothing.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    policy: Policy,
}

impl Guard {
    /// A guard with this policy.
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// Parses a URL and checks scheme, credentials and, when the host is an IP literal in whatever spelling, the
    /// address. A name passes: it is checked when it is resolved.
    pub fn check_text(&self, text: &str) -> Result<Url, Refused> {
        let url = Url::parse(text).map_err(|_| Refused::NotAUrl)?;
        self.check_literal(&url)?;
        Ok(url)
    }

    /// [`Guard::check_text`] for a parsed URL: what admission can know without asking DNS.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        match url.host() {
            None => Err(Refused::NoHost),
            Some(Host::Domain(name)) if is_local_name(name) => self.check_local(),
            Some(Host::Domain(_)) => Ok(()),
            Some(Host::Ipv4(addr)) => self.check_addr(IpAddr::V4(addr)),
            Some(Host::Ipv6(addr)) => self.check_addr(IpAddr::V6(addr)),
        }
    }

    /// Checks one address.
    pub fn check_addr(&self, addr: IpAddr) -> Result<(), Refused> {
        let real = effective(addr);
        let allowed = |net: &IpNet| net.contains(&addr) || net.contains(&real);
        if self.policy.allow.iter().any(allowed) {
            return Ok(());
        }
        special(addr).map_or(Ok(()), |range| Err(Refused::Address(range)))
    }

    /// Checks every address of a name: one that is refused refuses all.
    pub fn check_all(&self, addrs: impl IntoIterator<Item = IpAddr>) -> Result<(), Refused> {
        addrs.into_iter().try_for_each(|addr| self.check_addr(addr))
    }

    /// `localhost` and its kin mean loopback wherever they are resolved.
    fn check_local(&self) -> Result<(), Refused> {
        let loopback = [
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ];
        if loopback.iter().any(|addr| self.check_addr(*addr).is_ok()) {
            return Ok(());
        }
        Err(Refused::Address("loopback"))
    }
}

fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
