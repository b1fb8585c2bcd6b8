//! The network of sandboxes: the policy on this host, and the settings that programs inside need for it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use foundry_sandbox::{Class, Isolation, Network, PROXY_PORT, ProviderError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::{IsolationMode, bwrap, java, layout::make_dir};

/// The directory of [`Shared`], as the sandbox sees it.
pub(crate) const INSIDE: &str = "/opt/foundry/network";

/// Where programs expect the system's certificates, all in one file.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Directories of `/etc` that the sandbox sees and that can hold certificates.
const CERTIFICATES: [&str; 3] = ["/etc/ssl", "/etc/pki", "/etc/ca-certificates"];

const CA: &str = "ca.pem";
const BUNDLE: &str = "ca-bundle.pem";
/// The same certificates as a store for Java.
const TRUST_STORE: &str = "ca-bundle.jks";
const SSH: &str = "ssh_config";
/// Read by every OpenSSH inside; connections to the sandbox itself need no proxy.
const SSH_CONFIG: &str = "# The only way out of this sandbox is a proxy.\n\
    Host * !localhost !127.0.0.1 !::1\n    ProxyCommand /opt/foundry/bin/foundry internal connect %h %p\n";

/// The network of new sandboxes, and why it is not the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub network: Network,
    pub note: Option<String>,
}

/// Decides by the configuration and by what works here (`own`: whether sandboxes can have networks of their own).
///
/// # Errors
/// `ISOLATION_UNAVAILABLE` when the configuration requires networks of their own and sandboxes cannot have them here.
pub(crate) fn decide(
    setting: Option<&Network>,
    mode: IsolationMode,
    isolation: &Isolation,
    own: &Result<(), String>,
) -> Result<Decided, ProviderError> {
    let obstacle = match (isolation, own) {
        (Isolation::None { reason }, _) => format!("sandboxes are not isolated here ({reason})"),
        (_, Err(reason)) => format!("bubblewrap cannot create networks here ({reason})"),
        _ => {
            return Ok(Decided { network: setting.cloned().unwrap_or_else(Network::public), note: None });
        }
    };
    match setting {
        Some(Network::Host) => Ok(Decided { network: Network::Host, note: None }),
        None if mode != IsolationMode::Require => {
            Ok(Decided { network: Network::Host, note: Some(obstacle) })
        }
        _ => {
            let wanted = setting.map_or_else(|| "public".to_owned(), Network::to_string);
            let message = format!(
                "the network policy \"{wanted}\" requires an isolated network for each sandbox, but {obstacle}; \
                 fix that, or set provisioner.local.network to \"host\""
            );
            Err(ProviderError::new(Class::Configuration, "ISOLATION_UNAVAILABLE", message))
        }
    }
}

/// Files that all sandboxes of this host share and can only read.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub directory: PathBuf,
    /// Whether the operator configured certificates.
    pub has_ca: bool,
}

impl Shared {
    /// Writes the files; `ca` are the operator's certificates.
    pub fn make(root: &Path, ca: Option<&Path>) -> io::Result<Self> {
        let directory = root.join(".network");
        make_dir(&directory, 0o755)?;
        write(&directory.join(SSH), SSH_CONFIG.as_bytes())?;
        if let Some(ca) = ca {
            let own = fs::read(ca)?;
            let mut all = BUNDLES.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
            all.push(b'\n');
            all.extend(&own);
            write(&directory.join(CA), &own)?;
            write(&directory.join(BUNDLE), &all)?;
            // A certificate that cannot be parsed is useless.
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&all).flatten().collect();
            write(&directory.join(TRUST_STORE), &java::trust_store(&certificates))?;
        }
        Ok(Self { directory, has_ca: ca.is_some() })
    }

    /// The mounts over files of the base system: the path on the host, and the path inside.
    pub fn covers(&self, network: &Network) -> Vec<(PathBuf, PathBuf)> {
        let mut covers = Vec::new();
        if network.is_own() {
            covers.push((self.directory.join(SSH), PathBuf::from("/etc/ssh/ssh_config")));
        }
        if self.has_ca {
            // A link cannot be mounted over, but its target can.
            let mut places: Vec<_> = BUNDLES.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
            places.retain(|path| CERTIFICATES.iter().any(|dir| path.starts_with(dir)));
            places.sort();
            places.dedup();
            covers.extend(places.into_iter().map(|path| (self.directory.join(BUNDLE), path)));
        }
        covers
    }

    /// The environment variables with which programs find the proxy and the certificates. `proxied`: there is a proxy.
    pub fn environment(&self, bubblewrap: bool, proxied: bool) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut set = |names: &[&str], value: &str| {
            env.extend(names.iter().map(|name| ((*name).to_owned(), value.to_owned())));
        };
        let mut java = Vec::new();
        if proxied {
            let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
            // Some programs read only one spelling.
            set(
                &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"],
                &proxy,
            );
            set(&["NO_PROXY", "no_proxy"], "localhost,127.0.0.1,::1");
            set(&["NODE_USE_ENV_PROXY"], "1");
            for scheme in ["http", "https"] {
                java.push(format!("-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort={PROXY_PORT}"));
            }
            java.push("-Dhttp.nonProxyHosts=localhost|127.*|[::1]".to_owned());
        }
        if self.has_ca {
            let directory = if bubblewrap { PathBuf::from(INSIDE) } else { self.directory.clone() };
            let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
            set(&["NODE_EXTRA_CA_CERTS"], &path(CA));
            let replacing = [
                "SSL_CERT_FILE",
                "REQUESTS_CA_BUNDLE",
                "PIP_CERT",
                "CURL_CA_BUNDLE",
                "GIT_SSL_CAINFO",
                "CARGO_HTTP_CAINFO",
            ];
            set(&replacing, &path(BUNDLE));
            let store = path(TRUST_STORE);
            // Java splits options at blanks and has no escape for them.
            if !store.contains(char::is_whitespace) {
                java.push(format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStoreType=JKS"));
            }
        }
        if !java.is_empty() {
            set(&["JAVA_TOOL_OPTIONS"], &java.join(" "));
        }
        env
    }
}

/// Written whole or not at all, since sandboxes may be reading the previous version.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let new = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(new, path)
}

/// The socket of the mesh's proxy as the sandbox sees it.
pub(crate) fn socket_inside(socket: &Path) -> PathBuf {
    Path::new(bwrap::MESH).join(socket.file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_policy_that_cannot_be_kept_here_and_says_why_it_is_not_the_usual_one() {
        let isolated = Isolation::Bubblewrap { version: "0.11".into(), uid: None };
        let none = Isolation::None { reason: "bubblewrap is not usable".into() };
        let (works, fails) = (Ok(()), Err("loopback: not permitted".to_owned()));
        let wanted = [
            (None, &isolated, &works, IsolationMode::Auto, Ok("public")),
            (Some(Network::none()), &isolated, &works, IsolationMode::Auto, Ok("none")),
            (Some(Network::Host), &isolated, &works, IsolationMode::Require, Ok("host")),
            (None, &isolated, &fails, IsolationMode::Auto, Ok("host")),
            (None, &isolated, &fails, IsolationMode::Require, Err("loopback")),
            (Some(Network::public()), &isolated, &fails, IsolationMode::Auto, Err("loopback")),
            (None, &none, &fails, IsolationMode::Off, Ok("host")),
            (Some(Network::Host), &none, &fails, IsolationMode::Off, Ok("host")),
            (Some(Network::public()), &none, &fails, IsolationMode::Off, Err("not isolated")),
            (Some(Network::none()), &none, &fails, IsolationMode::Auto, Err("\"none\"")),
        ];
        for (setting, isolation, own, mode, wanted) in wanted {
            match (decide(setting.as_ref(), mode, isolation, own), wanted) {
                (Ok(decided), Ok(policy)) => {
                    assert_eq!(decided.network.to_string(), policy);
                    let said = decided.note.is_some();
                    assert_eq!(said, setting.is_none() && policy == "host", "{setting:?} {isolation:?}");
                }
                (Err(e), Err(words)) => {
                    assert_eq!(e.reason, "ISOLATION_UNAVAILABLE");
                    assert!(e.message.contains(words), "{}", e.message);
                }
                (found, _) => panic!("{setting:?} {mode:?} {isolation:?} is {found:?}"),
            }
        }
    }

    #[test]
    fn tells_programs_of_the_proxy_and_of_the_operators_certificates_only_where_there_are_any() {
        let root = tempfile::tempdir().unwrap();
        let ca = root.path().join("corp.pem");
        fs::write(&ca, "CORP\n").unwrap();
        let plain = Shared::make(root.path(), None).unwrap();
        assert!(plain.environment(true, false).is_empty());
        let env = plain.environment(true, true);
        assert_eq!(env["https_proxy"], env["HTTP_PROXY"]);
        assert!(!env.contains_key("SSL_CERT_FILE"));
        let with_ca = Shared::make(root.path(), Some(&ca)).unwrap();
        let env = with_ca.environment(true, false);
        assert_eq!(env["GIT_SSL_CAINFO"], "/opt/foundry/network/ca-bundle.pem");
        assert_eq!(
            env["JAVA_TOOL_OPTIONS"],
            "-Djavax.net.ssl.trustStore=/opt/foundry/network/ca-bundle.jks -Djavax.net.ssl.trustStoreType=JKS"
        );
        assert!(!env.contains_key("HTTPS_PROXY"));
        let bundle = fs::read_to_string(with_ca.directory.join(BUNDLE)).unwrap();
        assert!(bundle.ends_with("CORP\n"));
        assert!(with_ca.covers(&Network::Host).iter().all(|(from, _)| from.ends_with(BUNDLE)));
        assert!(plain.covers(&Network::none()).iter().any(|(_, to)| to.ends_with("ssh_config")));
    }
}
