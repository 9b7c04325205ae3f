//! How many connections each address has.
//!
//! Guarantee: no address has more than its share; a place is free again when it is dropped. An IPv6 client owns the
//! whole of its network, so its address is the network's first 64 bits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The addresses that have connections.
#[derive(Debug)]
pub(super) struct Addresses {
    held: Mutex<HashMap<IpAddr, usize>>,
    per_address_max: usize,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            per_address_max,
        })
    }

    /// A place for a connection from there; none when that address has as many as it may have.
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let address = owner(from);
        let mut held = self.lock();
        let of_address = held.entry(address).or_default();
        if *of_address >= self.per_address_max {
            return None;
        }
        *of_address += 1;
        Some(Place {
            addresses: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing between lock and unlock can leave a half-written entry behind.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.addresses.lock();
        if let Some(of_address) = held.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                held.remove(&self.address);
            }
        }
    }
}

/// What one client can choose from counts as one.
fn owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_its_share_and_nothing_is_left_of_those_who_went() {
        let addresses = Addresses::new(2);
        let take = |text: &str| addresses.take(text.parse().unwrap());
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some));
        assert!(take("192.0.2.1").is_none(), "in whatever spelling");
        let other = take("192.0.2.2");
        assert!(other.is_some());
        let network = [take("2001:db8::1"), take("2001:db8::ffff:1")];
        assert!(network.iter().all(Option::is_some));
        assert!(take("2001:db8::2").is_none(), "one network, one owner");
        assert!(take("2001:db8:0:1::1").is_some());
        drop((held, network, other));
        assert!(addresses.lock().is_empty());
        assert!(take("192.0.2.1").is_some());
    }
}
