//! The host and port a request asks for, as written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foundry_sandbox::is_host_name;
use http::Uri;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub host: Host,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at the end.
    Name(String),
}

impl Target {
    /// From the URI of a request. `None` for what cannot be a host name, for addresses in forms that only some programs
    /// understand, and without a port where there is no usual one.
    pub fn of(uri: &Uri, usual_port: Option<u16>) -> Option<Self> {
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let port = match (authority.port(), usual_port) {
            (Some(port), _) => Some(port.as_u16()),
            // A colon without a port number.
            (None, _) if authority.as_str().ends_with(':') => None,
            (None, usual) => usual,
        };
        let port = port.filter(|p| *p != 0)?;
        Some(Self { host: Host::parse(authority.host())?, port })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        is_host_name(&name).then_some(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Target {
    /// In the form of an authority.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_addresses_and_nothing_that_programs_read_differently() {
        for (text, wanted) in [
            ("Example.ORG:443", "example.org:443"),
            ("example.org.:443", "example.org:443"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:DB8::1]:80", "[2001:db8::1]:80"),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"),
            ("xn--bcher-kva.example:80", "xn--bcher-kva.example:80"),
        ] {
            let target = Target::of(&text.parse().unwrap(), None);
            assert_eq!(target.map(|t| t.to_string()).as_deref(), Some(wanted));
        }
        for text in [
            "example.org",
            "example.org:",
            "example.org:0",
            "2130706433:80",
            "0x7f000001:80",
            "0x7f.0.0.1:80",
            "0177.0.0.1:80",
            "127.1:80",
            "127.0.0.1.:80",
            "127.0.0.01:80",
            "user@example.org:80",
            "a..b:80",
            "-:x",
            "ex%61mple.org:80",
            "[fe80::1%25eth0]:80",
            "256.1.1.1:80",
            "a.123:80",
            "a.0x1:80",
        ] {
            let target = text.parse::<Uri>().ok().and_then(|uri| Target::of(&uri, None));
            assert_eq!(target, None, "{text}");
        }
        assert_eq!(Target::of(&"http://example.org/x".parse().unwrap(), Some(80)).unwrap().port, 80);
    }
}
