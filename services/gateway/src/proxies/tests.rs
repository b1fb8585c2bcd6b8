use super::*;

const PROXIES: [&str; 4] = ["10.1.0.0/16", "127.0.0.1", "2001:db8:5::/48", "192.0.2.7/32"];

fn trusted(networks: &[&str]) -> Result<TrustedProxies> {
    TrustedProxies::new(&networks.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
}

/// The sender of a request from this address with these headers, and whether it is secure.
fn sent_to(proxies: &TrustedProxies, from: &str, headers: &[(&str, &str)]) -> (Sender, bool) {
    let mut request = Request::builder();
    for (name, value) in headers {
        request = request.header(*name, value.as_bytes());
    }
    let mut request = request.body(()).unwrap();
    request.extensions_mut().insert(PeerAddress(from.parse().unwrap()));
    proxies.identify(&mut request, false);
    let is_secure = request.extensions().get::<Secure>().is_some();
    (Sender::take(request.extensions_mut()), is_secure)
}

fn sent(from: &str, headers: &[(&str, &str)]) -> Sender {
    sent_to(&trusted(&PROXIES).unwrap(), from, headers).0
}

/// The client that a trusted proxy named by `x-forwarded-for`.
fn named(forwarded_for: &str) -> Option<String> {
    sent("10.1.2.3:9", &[("x-forwarded-for", forwarded_for)]).address().map(|ip| ip.to_string())
}

#[test]
fn the_client_is_the_right_most_address_that_no_proxy_has() {
    for (header, client) in [
        ("198.51.100.4", "198.51.100.4"),
        ("1.1.1.1, 198.51.100.4", "198.51.100.4"),
        ("127.0.0.1, 198.51.100.4", "198.51.100.4"),
        ("garbage, 198.51.100.4", "198.51.100.4"),
        ("1.1.1.1, 198.51.100.4, 10.1.9.9, 127.0.0.1", "198.51.100.4"),
        ("198.51.100.4,\t10.1.9.9", "198.51.100.4"),
        ("198.51.100.4:4711", "198.51.100.4"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("2001:db8::9", "2001:db8::9"),
        ("2001:db8::9, 2001:db8:5::1", "2001:db8::9"),
        ("::ffff:198.51.100.4", "198.51.100.4"),
        ("198.51.100.4, ::ffff:10.1.0.1", "198.51.100.4"),
        // Proxies only: the first of them asks for itself.
        ("10.1.0.4, 10.1.0.5", "10.1.0.4"),
    ] {
        assert_eq!(named(header).as_deref(), Some(client), "{header}");
    }
    let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.4, 10.1.0.1")];
    assert_eq!(sent("10.1.2.3:9", &lines).address().unwrap().to_string(), "198.51.100.4");
}

#[test]
fn a_proxy_that_names_no_address_leaves_the_client_unknown_and_is_limited_itself() {
    for header in [
        "",
        ",",
        "198.51.100.4, ",
        "unknown",
        "198.51.100.4, unknown, 10.1.0.1",
        "198.51.100.4 10.1.0.1",
        "198.51.100.400",
        "198.51.100.4:99999",
        "[198.51.100.4]",
        "[2001:db8::9",
        "fe80::1%eth0",
        "\"198.51.100.4\"",
        "0x7f.1",
        "198.51.100.4\u{e9}",
    ] {
        let sender = sent("10.1.2.3:9", &[("x-forwarded-for", header)]);
        assert_eq!(sender.address(), None, "{header}");
        assert_eq!(sender.client_peer(), ClientPeer::Remote, "{header}");
        assert_eq!(sender.peer, Some(PeerAddress("10.1.2.3:9".parse().unwrap())), "{header}");
    }
    // The header of another kind of proxy names nobody either.
    assert_eq!(sent("10.1.2.3:9", &[("forwarded", "for=198.51.100.4")]).address(), None);
    assert_eq!(sent("10.1.2.3:9", &[("x-real-ip", "198.51.100.4")]).address(), None);
}

#[test]
fn thousands_of_addresses_are_not_read_to_their_end() {
    let many = |address: &str| vec![address; 3_000].join(",");
    assert_eq!(named(&format!("{},198.51.100.4", many("1.1.1.1"))).as_deref(), Some("198.51.100.4"));
    let proxies = format!("198.51.100.4,{}", many("10.1.0.9"));
    assert_eq!(named(&proxies).as_deref(), Some("10.1.0.9"));
}

#[test]
fn who_is_no_proxy_is_the_client_whatever_it_sends() {
    for header in ["198.51.100.4", "127.0.0.1", "10.1.0.1", "garbage"] {
        let sender = sent("203.0.113.5:9", &[("x-forwarded-for", header)]);
        assert_eq!(sender.address().unwrap().to_string(), "203.0.113.5", "{header}");
        assert_eq!(sender.peer, Some(PeerAddress("203.0.113.5:9".parse().unwrap())));
    }
    // Where no proxy is configured, it may be one.
    let sender = sent_to(&trusted(&[]).unwrap(), "127.0.0.1:9", &[("x-forwarded-for", "198.51.100.4")]).0;
    assert_eq!((sender.address(), sender.client_peer()), (None, ClientPeer::Remote));
}

#[test]
fn nobody_behind_a_proxy_is_on_this_machine() {
    for header in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1, 127.0.0.1"] {
        let sender = sent("127.0.0.1:9", &[("x-forwarded-for", header)]);
        assert_eq!(sender.client_peer(), ClientPeer::Remote, "{header}");
    }
    // Nor who sends the header itself, as a proxy does that is not configured.
    assert_eq!(sent("127.0.0.2:9", &[("x-forwarded-for", "1.1.1.1")]).client_peer(), ClientPeer::Remote);
    // Nor does a client that a proxy does not name.
    for (name, value) in [("x-forwarded-proto", "https"), ("x-forwarded-host", "foundry.example")] {
        let sender = sent("127.0.0.1:9", &[(name, value)]);
        assert_eq!((sender.address(), sender.client_peer()), (None, ClientPeer::Remote), "{name}");
    }
    assert_eq!(sent("10.1.2.3:9", &[]).address(), None);
    assert_eq!(sent("127.0.0.1:9", &[]).client_peer(), ClientPeer::Loopback);
    assert_eq!(sent("127.0.0.1:9", &[]).address().unwrap().to_string(), "127.0.0.1");
}

#[test]
fn the_scheme_is_believed_from_a_trusted_proxy_that_says_it_once() {
    let proxies = trusted(&PROXIES).unwrap();
    let is_secure = |from, headers: &[(&str, &str)]| sent_to(&proxies, from, headers).1;
    let https = ("x-forwarded-proto", "https");
    assert!(is_secure("10.1.2.3:9", &[https]));
    assert!(!is_secure("203.0.113.5:9", &[https]), "anybody can say so");
    assert!(!is_secure("10.1.2.3:9", &[https, https]));
    for other in ["http", "https, http", "HTTPS", "wss", ""] {
        assert!(!is_secure("10.1.2.3:9", &[("x-forwarded-proto", other)]), "{other}");
    }
    let mut request = Request::builder().header("x-forwarded-proto", "http").body(()).unwrap();
    request.extensions_mut().insert(PeerAddress("10.1.2.3:9".parse().unwrap()));
    proxies.identify(&mut request, true);
    assert!(request.extensions().get::<Secure>().is_none(), "the client of this proxy does not use https");
}

#[test]
fn a_network_is_exact_or_refused() {
    for good in ["10.0.0.0/8", "10.1.2.3", "10.1.2.3/32", "::1", "2001:db8::/32", "128.0.0.0/1"] {
        assert!(trusted(&[good]).is_ok(), "{good}");
    }
    for bad in [
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.1/8",
        "0.0.0.0/0",
        "::/0",
        "proxy.example",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "*",
        "::ffff:10.0.0.0/104",
        "10.1.2.3:80",
        "[::1]",
    ] {
        let refused = trusted(&[bad]).unwrap_err();
        assert!(refused.to_string().contains("network of proxies"), "{bad}: {refused}");
    }
    let inside = |network: &str, address: &str| trusted(&[network]).unwrap().trusts(address.parse().unwrap());
    assert!(inside("10.1.0.0/16", "10.1.255.255") && !inside("10.1.0.0/16", "10.2.0.0"));
    assert!(inside("10.1.0.0/16", "::ffff:10.1.0.9") && !inside("128.0.0.0/1", "::ffff"));
    assert!(inside("2001:db8::/33", "2001:db8:7fff::1") && !inside("2001:db8::/33", "2001:db8:8000::1"));
}
