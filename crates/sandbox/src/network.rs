//! The network policy of a sandbox as it is configured, recorded and shown, and the claim with which its runtime
//! identifies the sandbox to the mesh's proxy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::key::{RuntimeKey, same};

/// The port on a sandbox's own loopback on which its runtime accepts connections for the proxy. It is above the ports
/// that Linux assigns to outgoing connections, and no common program uses it.
pub const PROXY_PORT: u16 = 61_480;

/// The network of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Network {
    /// The network of the host, including its loopback. Also that of every sandbox from before sandboxes had networks.
    #[default]
    Host,
    /// One of its own, with a loopback; the only way out is the proxy of the mesh.
    Own {
        /// What may be reached through the proxy; everything else is refused.
        rules: Rules,
    },
}

impl Network {
    /// A network of its own with access to every public host.
    pub fn public() -> Self {
        Self::Own { rules: Rules(vec![Rule::Public]) }
    }

    /// A network of its own with access to nothing but models.
    pub fn none() -> Self {
        Self::Own { rules: Rules::default() }
    }

    /// Whether it is separate from the host's.
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. })
    }
}

impl fmt::Display for Network {
    /// In the form of the configuration: `host`, `none`, `public` or the list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Own { rules } if rules.0.is_empty() => f.write_str("none"),
            Self::Own { rules } => {
                for (i, rule) in rules.0.iter().enumerate() {
                    write!(f, "{}{rule}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// A network as an operator configures it: one word, a text with commas, or a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct NetworkSetting(pub Network);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    List(Vec<String>),
}

impl TryFrom<Written> for NetworkSetting {
    type Error = BadRule;

    fn try_from(written: Written) -> Result<Self, BadRule> {
        let words: Vec<String> = match written {
            Written::Text(text) => text.split(',').map(|w| w.trim().to_owned()).collect(),
            Written::List(list) => list,
        };
        Ok(Self(match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["host"] => Network::Host,
            ["none"] | [] => Network::none(),
            _ => Network::Own { rules: Rules(words.iter().map(|w| w.parse()).collect::<Result<_, _>>()?) },
        }))
    }
}

impl FromStr for NetworkSetting {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        Written::Text(text.to_owned()).try_into()
    }
}

impl From<NetworkSetting> for String {
    fn from(setting: NetworkSetting) -> Self {
        setting.0.to_string()
    }
}

/// The hosts that may be reached; the order does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// The kind of rule that allows this host, in lower case, at this port; none if it is not allowed.
    pub fn allow(&self, host: &str, port: u16) -> Option<Allowed> {
        self.0.iter().filter_map(|rule| rule.allows(host, port)).max()
    }
}

/// The kind of rule that allows a host; later ones allow more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// As any public host.
    Public,
    /// Its domain is listed: only public addresses, but any form of name.
    Domain,
    /// This very host is listed: private addresses, too.
    Exact,
}

/// A rule for what may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Rule {
    /// Every host with a public address.
    Public,
    /// This host, by name or address, at this port or at any.
    Host(String, Option<u16>),
    /// Every host below this domain, but not the domain itself, at this port or at any.
    Below(String, Option<u16>),
}

impl Rule {
    fn allows(&self, host: &str, port: u16) -> Option<Allowed> {
        let fits = |wanted: &Option<u16>| wanted.is_none_or(|p| p == port);
        match self {
            Self::Public => Some(Allowed::Public),
            Self::Host(name, wanted) => (name == host && fits(wanted)).then_some(Allowed::Exact),
            Self::Below(domain, wanted) => {
                let below =
                    host.strip_suffix(domain.as_str()).is_some_and(|h| h.len() > 1 && h.ends_with('.'));
                (below && fits(wanted)).then_some(Allowed::Domain)
            }
        }
    }
}

/// A text that is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a valid network rule: use `public`, `none` or `host` alone, or hosts such as `example.org`, `*.example.org`, `example.org:443`, `10.1.2.3`, `[fd00::1]:443`; never this machine"
)]
pub struct BadRule(String);

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule(text.to_owned());
        let lower = text.to_ascii_lowercase();
        if lower == "public" {
            return Ok(Self::Public);
        }
        let (host, port) = match lower.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad)?)),
            None if lower.parse::<IpAddr>().is_ok() => (lower.as_str(), None),
            None => lower.split_once(':').map_or((lower.as_str(), None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(|p| p.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(bad)).transpose()?;
        if let Ok(address) = host.parse::<IpAddr>() {
            let never = address.is_loopback() || address.is_unspecified() || address.is_multicast();
            return if never { Err(bad()) } else { Ok(Self::Host(address.to_string(), port)) };
        }
        let (below, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        let reserved = ["host", "none", "localhost"].contains(&name) || name.ends_with(".localhost");
        if !is_host_name(name) || reserved {
            return Err(bad());
        }
        Ok(if below { Self::Below(name.to_owned(), port) } else { Self::Host(name.to_owned(), port) })
    }
}

impl TryFrom<String> for Rule {
    type Error = BadRule;

    fn try_from(text: String) -> Result<Self, BadRule> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (star, host, port) = match self {
            Self::Public => return f.write_str("public"),
            Self::Host(host, port) => ("", host, port),
            Self::Below(host, port) => ("*.", host, port),
        };
        match port {
            Some(port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Some(port) => write!(f, "{star}{host}:{port}"),
            None => write!(f, "{star}{host}"),
        }
    }
}

/// Whether this text, in lower case and without a dot at the end, can be a host name. A text that a resolver could take
/// for an address in another notation (`0x7f.1`, `2130706433`) cannot.
pub fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    let number = |l: &str| {
        let hex = l.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        hex || l.bytes().all(|b| b.is_ascii_digit())
    };
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(number)
}

/// The sandbox that a connection to the mesh's proxy claims to come from; trusted only after [`Claim::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the claimed sandbox.
    pub sandbox: String,
    /// The instance of its runtime.
    pub instance: String,
    nonce: String,
    proof: String,
}

impl Claim {
    /// Longest line, in bytes.
    pub const MAX: usize = 512;

    /// The line, with its end, with which a runtime opens a connection.
    pub fn line(key: &RuntimeKey, sandbox: &str, instance: &str, nonce: &str) -> String {
        format!("{sandbox}.{instance}.{nonce}.{}\n", key.network_proof(sandbox, instance, nonce))
    }

    /// From a line without its end; none for anything that a runtime does not send.
    pub fn parse(line: &str) -> Option<Self> {
        let mut parts = line.rsplitn(4, '.');
        let proof = parts.next()?.to_owned();
        let (nonce, instance, sandbox) = (parts.next()?, parts.next()?, parts.next()?);
        let is_hex =
            |text: &str| (16..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        let whole = !sandbox.is_empty() && !instance.is_empty() && is_hex(nonce) && is_hex(&proof);
        whole.then(|| Self {
            sandbox: sandbox.to_owned(),
            instance: instance.to_owned(),
            nonce: nonce.to_owned(),
            proof,
        })
    }

    /// Whether it was made with this key. Takes constant time for wrong proofs.
    pub fn verify(&self, key: &RuntimeKey) -> bool {
        key.is_set() && same(&self.proof, &key.network_proof(&self.sandbox, &self.instance, &self.nonce))
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;

    use super::*;

    fn setting(json: &str) -> Result<Network, String> {
        serde_json::from_str::<NetworkSetting>(json).map(|s| s.0).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_a_policy_as_a_word_a_text_or_a_list_and_writes_it_the_same() {
        for (json, shown) in [
            (r#""public""#, "public"),
            (r#""none""#, "none"),
            ("[]", "none"),
            (r#""host""#, "host"),
            (r#"["host"]"#, "host"),
            (r#""GitHub.com, *.npmjs.org:443""#, "github.com, *.npmjs.org:443"),
            (
                r#"["public", "registry.corp", "10.1.2.3:8080", "[FD00::1]:443", "fd00::2"]"#,
                "public, registry.corp, 10.1.2.3:8080, [fd00::1]:443, fd00::2",
            ),
        ] {
            let network = setting(json).unwrap();
            assert_eq!(network.to_string(), shown);
            let again = serde_json::to_string(&NetworkSetting(network.clone())).unwrap();
            assert_eq!(setting(&again).unwrap(), network, "{again}");
            let stored = serde_json::to_string(&network).unwrap();
            assert_eq!(serde_json::from_str::<Network>(&stored).unwrap(), network);
        }
    }

    #[test]
    fn refuses_what_names_no_host_or_this_machine() {
        for bad in [
            "",
            "localhost",
            "localhost:80",
            "x.localhost",
            "127.0.0.1",
            "[::1]:80",
            "0.0.0.0",
            "a b",
            "http://a",
            "a:0",
            "a:99999",
            "a:b",
            "*",
            "*.",
            "a..b",
            "host,public",
            "none,a",
            "0x7f.1",
            "2130706433",
            "a/b",
            "[fd00::1]x",
        ] {
            let refused = setting(&format!("{bad:?}"));
            assert!(refused.is_err(), "{bad:?} is {refused:?}");
        }
    }

    #[test]
    fn a_rule_allows_its_host_and_port_and_a_domain_only_what_is_below_it() {
        let Network::Own { rules } =
            setting(r#"["*.example.org", "forge.corp:443", "api.example.org"]"#).unwrap()
        else {
            panic!("a list is a network of its own")
        };
        for (host, port, allowed) in [
            ("a.example.org", 80, Some(Allowed::Domain)),
            ("a.b.example.org", 80, Some(Allowed::Domain)),
            ("api.example.org", 80, Some(Allowed::Exact)),
            ("example.org", 80, None),
            (".example.org", 80, None),
            ("badexample.org", 80, None),
            ("example.org.evil.net", 80, None),
            ("forge.corp", 443, Some(Allowed::Exact)),
            ("forge.corp", 22, None),
        ] {
            assert_eq!(rules.allow(host, port), allowed, "{host}:{port}");
        }
    }

    #[test]
    fn facts_without_a_policy_read_host() {
        assert_eq!(Network::default(), Network::Host);
    }

    #[test]
    fn believes_the_claim_of_a_sandbox_with_its_key_and_no_other() {
        let (key, other) = (RuntimeKey::generate(&Env::system()), RuntimeKey::generate(&Env::system()));
        let line = Claim::line(&key, "sbx_1", "run1", &"0".repeat(64));
        let claim = Claim::parse(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!((claim.sandbox.as_str(), claim.instance.as_str()), ("sbx_1", "run1"));
        assert!(claim.verify(&key) && !claim.verify(&other) && !claim.verify(&RuntimeKey::default()));
        let moved = Claim { sandbox: "sbx_2".to_owned(), ..claim.clone() };
        assert!(!moved.verify(&key));
        let of_a_model_call = key.model_proof("sbx_1", "run1", &"0".repeat(64));
        assert!(!Claim { proof: of_a_model_call, ..claim }.verify(&key), "one proof serves one purpose");
        for bad in ["", "a.b.c.d", "sbx_1", "...", &line.replace("sbx_1", "")] {
            assert_eq!(Claim::parse(bad.trim_end()), None, "{bad}");
        }
    }
}
