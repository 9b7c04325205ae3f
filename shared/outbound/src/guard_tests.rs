use super::*;

#[path = "refused_addresses.rs"]
mod refused_addresses;
use refused_addresses::REFUSED;

#[test]
fn every_spelling_of_a_special_address_is_refused() {
    let guard = Guard::default();
    for (text, range) in REFUSED {
        assert_eq!(
            guard.check_text(text),
            Err(Refused::Address(range)),
            "{text}"
        );
    }
}

#[test]
fn what_is_no_plain_http_url_is_refused() {
    let guard = Guard::default();
    for (text, why) in [
        ("ftp://example.com/", Refused::Scheme("ftp".into())),
        ("file:///etc/passwd", Refused::Scheme("file".into())),
        ("gopher://example.com/", Refused::Scheme("gopher".into())),
        ("data:text/plain,x", Refused::Scheme("data".into())),
        ("http://user@example.com/", Refused::Credentials),
        ("http://user:password@example.com/", Refused::Credentials),
        ("http://example.com@127.0.0.1/", Refused::Credentials),
        ("//example.com/", Refused::NotAUrl),
        ("example.com", Refused::NotAUrl),
        ("http://", Refused::NotAUrl),
        ("http://[fe80::1%25eth0]/", Refused::NotAUrl),
        ("http://256.256.256.256/", Refused::NotAUrl),
        ("", Refused::NotAUrl),
    ] {
        assert_eq!(guard.check_text(text), Err(why), "{text}");
    }
}

#[test]
fn public_addresses_and_names_pass() {
    let guard = Guard::default();
    for text in [
        "http://93.184.216.34/",
        "https://1.1.1.1/",
        "http://172.32.0.1/",
        "http://100.128.0.1/",
        "http://11.0.0.1/",
        "http://[2606:2800:220:1:248:1893:25c8:1946]/",
        "http://[64:ff9b::1.1.1.1]/",
        "http://[::ffff:1.1.1.1]/",
        "https://example.com/a%20b?q=1",
        "https://localhost.example.com/",
        "https://127.0.0.1.nip.io/",
    ] {
        assert!(guard.check_text(text).is_ok(), "{text}");
    }
}

#[test]
fn an_allowed_network_passes_in_every_spelling_and_nothing_else_does() {
    let guard = Guard::new(Policy::from_texts(&["127.0.0.0/8", " 10.1.0.0/16", "::1"]).unwrap());
    for text in [
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.1.2.3/",
        "http://localhost/",
    ] {
        assert!(guard.check_text(text).is_ok(), "{text}");
    }
    for text in [
        "http://10.2.0.1/",
        "http://[fd00::1]/",
        "http://169.254.169.254/",
    ] {
        assert!(guard.check_text(text).is_err(), "{text}");
    }
}

#[test]
fn one_refused_address_refuses_the_name() {
    let guard = Guard::default();
    let addrs = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<IpAddr>>()
    };
    assert!(
        guard
            .check_all(addrs(&["1.1.1.1", "2606:4700::1111"]))
            .is_ok()
    );
    assert!(guard.check_all(addrs(&["1.1.1.1", "10.0.0.1"])).is_err());
}

#[test]
fn wrong_networks_are_all_named() {
    let wrong = Policy::from_texts(&["10.0.0.0/33", "1.2.3.4", "home"]).unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}
