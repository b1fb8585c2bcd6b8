//! The kind of an IP address. An address that is not known to be public counts as not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A host of the internet, or one of the documentation ranges.
    Public,
    /// A host of a private network: allowed only when the operator named this very host.
    Private(&'static str),
    /// Never allowed, whatever the policy.
    Never(&'static str),
}

/// The kind of an address by itself; whether it belongs to this machine is checked elsewhere.
pub(crate) fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [0, ..] => Kind::Never("an address of this machine"),
        [127, ..] => Kind::Never("a loopback address"),
        [169, 254, ..] => Kind::Never("a link-local address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Kind::Private("a private address"),
        [100, 64..=127, ..] => Kind::Private("a carrier-grade NAT address"),
        [198, 18..=19, ..] => Kind::Private("a benchmarking address"),
        [192, 0, 0, _] | [192, 88, 99, _] => Kind::Never("an IETF protocol address"),
        [224..=239, ..] => Kind::Never("a multicast address"),
        [240..=255, ..] => Kind::Never("a reserved address"),
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("an address of this machine"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Never("a loopback address"),
        // A translator would reach the IPv4 address inside.
        [0, 0, 0, 0, ..] => Kind::Never("an IPv4 address in another form"),
        [0x64, 0xff9b, ..] => Kind::Never("a translated IPv4 address"),
        [0x2002, ..] => Kind::Never("a 6to4 address"),
        [0x2001, 0, ..] => Kind::Never("a Teredo address"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Kind::Public,
        [0x2001, 0..=0x01ff, ..] => Kind::Never("an IETF protocol address"),
        [0xfe80..=0xfebf, ..] => Kind::Never("a link-local address"),
        [0xfc00..=0xfdff, ..] => Kind::Private("a private address"),
        [0xff00..=0xffff, ..] => Kind::Never("a multicast address"),
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_public_private_and_forbidden_addresses_apart() {
        let table = [
            (
                "public",
                "8.8.8.8 1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 \
              169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.2.1 192.167.255.255 192.169.0.0 198.17.255.255 \
              198.20.0.0 198.51.100.7 203.0.113.9 223.255.255.255 2606:4700::1111 2001:db8::1 2001:200::1 2001:4860::8888 \
              3fff:fff::1 2a00::1",
            ),
            (
                "private",
                "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 100.127.255.255 \
              198.18.0.1 198.19.255.255 fc00::1 fd12:3456::1 fdff::1",
            ),
            (
                "never",
                "0.0.0.0 0.1.2.3 127.0.0.1 127.255.255.254 169.254.169.254 169.254.0.1 192.0.0.1 192.0.0.170 \
              192.88.99.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 :: ::1 ::2 ::127.0.0.1 ::ffff:127.0.0.1 \
              ::ffff:8.8.8.8 ::ffff:0:10.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::a00:1 2002:7f00:1:: \
              2002:a00:1::1 2001::1 2001:0:7f00:1::1 2001:20::1 2001:10::1 fe80::1 febf::1 fec0::1 ff02::1 100::1 5f00::1 \
              4000::1 1::1",
            ),
        ];
        for (wanted, addresses) in table {
            for text in addresses.split_whitespace() {
                let found = match kind(text.parse().unwrap()) {
                    Kind::Public => "public",
                    Kind::Private(_) => "private",
                    Kind::Never(_) => "never",
                };
                assert_eq!(found, wanted, "{text}");
            }
        }
    }
}
