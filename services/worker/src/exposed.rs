//! The TCP port that RunPod exposes for this worker, if it does.
//!
//! Guarantee: an address is told only when RunPod gave both halves of it and both can be read.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The worker's port in RunPod's own examples, and in ours.
const USUAL_PORT: u16 = 8000;

/// Where the world reaches the output server directly: `RUNPOD_PUBLIC_IP` and
/// `RUNPOD_TCP_PORT_{port}` for one of `ports`, or for 8000.
pub(crate) fn address(vars: &BTreeMap<String, String>, ports: [u16; 2]) -> Option<SocketAddr> {
    let ip = vars.get("RUNPOD_PUBLIC_IP")?.trim();
    let mut candidates = ports.into_iter().chain([USUAL_PORT]);
    let port = candidates.find_map(|port| vars.get(&format!("RUNPOD_TCP_PORT_{port}")))?;
    match (ip.parse::<IpAddr>(), port.trim().parse::<u16>()) {
        (Ok(ip), Ok(port)) if port > 0 => Some(SocketAddr::new(ip, port)),
        _ => {
            tracing::warn!(
                ip,
                port,
                "RunPod's public address cannot be read: not announced"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Variables after `RUNPOD_`, and the address that they make.
    type Row = (
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );

    #[test]
    fn both_halves_make_an_address() {
        let zoo: [Row; 8] = [
            (&[], None),
            (&[("PUBLIC_IP", "1.2.3.4")], None),
            (&[("TCP_PORT_8000", "30123")], None),
            (
                &[("PUBLIC_IP", "1.2.3.4"), ("TCP_PORT_8000", "30123")],
                Some("1.2.3.4:30123"),
            ),
            (
                &[
                    ("PUBLIC_IP", "1.2.3.4"),
                    ("TCP_PORT_8000", "1"),
                    ("TCP_PORT_9000", "30123"),
                ],
                Some("1.2.3.4:30123"),
            ),
            (
                &[("PUBLIC_IP", "2001:db8::1"), ("TCP_PORT_8000", "30123")],
                Some("[2001:db8::1]:30123"),
            ),
            (&[("PUBLIC_IP", "here"), ("TCP_PORT_8000", "30123")], None),
            (&[("PUBLIC_IP", "1.2.3.4"), ("TCP_PORT_8000", "0")], None),
        ];
        for (given, expected) in zoo {
            let vars = given.iter();
            let vars = vars.map(|(name, value)| (format!("RUNPOD_{name}"), (*value).to_owned()));
            let found = address(&vars.collect(), [9000, 41234]);
            let expected = expected.map(|text| text.parse::<SocketAddr>().unwrap());
            assert_eq!(found, expected, "{given:?}");
        }
    }
}
