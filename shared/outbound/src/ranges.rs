//! Which addresses are nobody's business: special ranges of IPv4 and IPv6 by name. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Denied IPv4 ranges: network, prefix length, name.
const V4: [(Ipv4Addr, u32, &str); 16] = [
    (Ipv4Addr::new(169, 254, 169, 254), 32, "metadata"),
    (Ipv4Addr::UNSPECIFIED, 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved or broadcast"),
];

/// Denied IPv6 ranges inside and outside of global unicast; what carries an IPv4 address is handled before.
const V6: [(Ipv6Addr, u32, &str); 10] = [
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (
        Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
        7,
        "unique local",
    ),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0),
        23,
        "protocol assignments",
    ),
    (
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0),
        32,
        "documentation",
    ),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (
        Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0),
        20,
        "documentation",
    ),
];

/// The name of the special range an address lies in; `None` for an ordinary public address.
pub(crate) fn special(addr: IpAddr) -> Option<&'static str> {
    match addr {
        IpAddr::V4(addr) => special_v4(addr),
        IpAddr::V6(addr) => special_v6(addr),
    }
}

/// The address a packet would really go to: an IPv4 address carried in an IPv6 one is taken out.
pub(crate) fn effective(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => carried(v6).map_or(addr, IpAddr::V4),
    }
}

fn special_v4(addr: Ipv4Addr) -> Option<&'static str> {
    let bits = addr.to_bits();
    let inside = |(net, length, _): &&(Ipv4Addr, u32, &str)| {
        (bits ^ net.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
    };
    V4.iter().find(inside).map(|(_, _, name)| *name)
}

fn special_v6(addr: Ipv6Addr) -> Option<&'static str> {
    let bits = addr.to_bits();
    let inside = |(net, length, _): &&(Ipv6Addr, u32, &str)| {
        (bits ^ net.to_bits())
            .checked_shr(128 - length)
            .unwrap_or(0)
            == 0
    };
    if let Some((_, _, name)) = V6.iter().find(inside) {
        return Some(name);
    }
    if let Some(v4) = carried(addr) {
        return special_v4(v4);
    }
    // Only 2000::/3 is global unicast: everything else is special, whatever its name will be.
    (addr.segments()[0] >> 13 != 1).then_some("not global unicast")
}

/// IPv4-mapped (`::ffff:a.b.c.d`), IPv4-translated (`::ffff:0:a.b.c.d`), IPv4-compatible (`::a.b.c.d`) and NAT64
/// (`64:ff9b::a.b.c.d`).
fn carried(addr: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = addr.segments();
    let prefix = [s[0], s[1], s[2], s[3], s[4], s[5]];
    let carries = [
        [0, 0, 0, 0, 0, 0xffff],
        [0, 0, 0, 0, 0xffff, 0],
        [0, 0, 0, 0, 0, 0],
        [0x64, 0xff9b, 0, 0, 0, 0],
    ]
    .contains(&prefix);
    let special = addr.is_loopback() || addr.is_unspecified();
    (carries && !special).then(|| Ipv4Addr::from_bits(u32::from(s[6]) << 16 | u32::from(s[7])))
}
