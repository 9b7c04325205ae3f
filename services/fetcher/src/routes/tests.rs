use super::*;
use photofinish_contract::announcement::{AnnouncementKind, Spent};
use photofinish_model::Nonce;
use photofinish_outbound::Policy;
use std::time::Duration;

#[path = "../../../../shared/outbound/src/refused_addresses.rs"]
mod refused_addresses;

fn address(url: &str) -> Address {
    Address {
        url: url.to_owned(),
        tls_sha256: Some("ab".repeat(32)),
    }
}

fn routes(allow: &[&str]) -> Routes {
    photofinish_kit::install_crypto();
    let second = Duration::from_secs(1);
    let proxy = WorkerProxy::new("http://{worker}.example", second, second).unwrap();
    let guard = Guard::new(Policy::from_texts(allow).unwrap());
    Routes::new(proxy, DirectPorts::new(second, second), guard)
}

fn announcement(worker: &str, boot: &str, addresses: Vec<Address>) -> Announcement {
    Announcement {
        kind: AnnouncementKind::Started,
        run_id: "run".to_owned(),
        nonce: Nonce::from_random(1),
        worker_id: worker.to_owned(),
        boot: boot.to_owned(),
        addresses,
        outputs: Vec::new(),
        rescued: Vec::new(),
        errors: Vec::new(),
        rendering: Vec::new(),
        spent: Spent::default(),
        nothing_pushed: false,
    }
}

fn place(worker: &str, boot: &str) -> Place {
    Place {
        worker: worker.to_owned(),
        boot: boot.to_owned(),
    }
}

#[test]
fn every_spelling_of_a_special_address_is_refused_for_workers_too() {
    let (guard, routes) = (Guard::default(), routes(&[]));
    for (text, range) in refused_addresses::REFUSED {
        let secure = text
            .trim()
            .replacen("http:", "https:", 1)
            .replacen("HTTP:", "HTTPS:", 1);
        assert_eq!(
            usable(&address(&secure), &guard),
            Err(Unusable::Refused(Refused::Address(range))),
            "{secure}"
        );
        routes.learn(&announcement("w1", text, vec![address(&secure)]));
        let way = routes.way(&place("w1", text)).unwrap();
        assert_eq!(way.route, Route::Proxy, "{secure}");
    }
}

#[test]
fn an_address_is_a_literal_with_a_certificate_and_nothing_else() {
    let guard = Guard::default();
    let good = usable(&address("https://1.1.1.1:30123"), &guard).unwrap();
    assert_eq!(good.addr, "1.1.1.1:30123".parse().unwrap());
    assert_eq!(good.certificate, [0xab; 32]);
    let good = usable(&address("https://[2606:4700::1111]:443"), &guard).unwrap();
    assert_eq!(good.addr, "[2606:4700::1111]:443".parse().unwrap());
    for bad in [
        "http://1.1.1.1:80",
        "https://worker.example:443",
        "https://1.1.1.1:443/x",
        "https://1.1.1.1:443/?x",
        "https://1.1.1.1:443/#x",
        "https://1.1.1.1:0",
        "1.1.1.1:443",
        "",
    ] {
        assert_eq!(usable(&address(bad), &guard), Err(Unusable::Form), "{bad}");
    }
    let named = usable(&address("https://user@1.1.1.1:443"), &guard);
    assert_eq!(named, Err(Unusable::Refused(Refused::Credentials)));
    for fingerprint in [
        None,
        Some(String::new()),
        Some("ab".repeat(31)),
        Some("xy".repeat(32)),
    ] {
        let bad = Address {
            url: "https://1.1.1.1:443".to_owned(),
            tls_sha256: fingerprint,
        };
        assert_eq!(usable(&bad, &guard), Err(Unusable::Fingerprint));
    }
}

#[test]
fn a_network_is_allowed_by_name_only() {
    let guard = Guard::new(Policy::from_texts(&["127.0.0.0/8"]).unwrap());
    assert!(usable(&address("https://127.0.0.1:8443"), &guard).is_ok());
    assert!(usable(&address("https://10.0.0.1:8443"), &guard).is_err());
}

#[test]
fn the_route_that_broke_is_tried_last_for_that_start_of_the_worker() {
    let routes = routes(&[]);
    let proxied = Address {
        url: "https://w1-8000.proxy.runpod.net".to_owned(),
        tls_sha256: None,
    };
    let addresses = vec![address("https://1.1.1.1:443"), proxied];
    routes.learn(&announcement("w1", "b1", addresses.clone()));
    let here = place("w1", "b1");
    let first = |place: &Place| routes.way(place).unwrap().route;
    assert_eq!(first(&here), Route::Direct);
    // What the worker itself answers blames no route.
    for status in [401, 404, 410, 500] {
        assert!(!routes.turn_from(&here, Route::Direct, &PortError::Status(status)));
    }
    let broken = PortError::Stalled(Duration::ZERO);
    assert!(routes.turn_from(&here, Route::Direct, &broken));
    assert_eq!(first(&here), Route::Proxy);
    // Another pull that broke at the same time turns it no further, nor does a repeated word.
    assert!(routes.turn_from(&here, Route::Direct, &broken));
    routes.learn(&announcement("w1", "b1", addresses.clone()));
    assert_eq!(first(&here), Route::Proxy);
    assert!(!routes.turn_from(&here, Route::Proxy, &PortError::Status(410)));
    assert!(routes.turn_from(&here, Route::Proxy, &PortError::Status(502)));
    assert_eq!(first(&here), Route::Direct);
    // A new start is a new chance; a worker without an address has one route.
    routes.learn(&announcement("w1", "b2", addresses));
    assert_eq!(first(&place("w1", "b2")), Route::Direct);
    assert_eq!(first(&place("w2", "b1")), Route::Proxy);
    assert!(!routes.turn_from(&place("w2", "b1"), Route::Proxy, &broken));
}

#[test]
fn memory_is_bounded() {
    let routes = routes(&[]);
    for number in 0..KNOWN_MAX + 10 {
        let boot = number.to_string();
        routes.learn(&announcement(
            "w1",
            &boot,
            vec![address("https://1.1.1.1:443")],
        ));
    }
    let memory = routes.memory();
    assert_eq!(
        (memory.known.len(), memory.order.len()),
        (KNOWN_MAX, KNOWN_MAX)
    );
    assert!(!memory.known.contains_key(&place("w1", "0")));
    assert!(
        memory
            .known
            .contains_key(&place("w1", &(KNOWN_MAX + 9).to_string()))
    );
}
