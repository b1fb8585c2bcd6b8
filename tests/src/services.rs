//! The services of a mesh, as the binary under test lists them in its configuration.

use std::process::Command;
use std::sync::LazyLock;

use crate::mesh::binary;

/// Where the admin listener is by default.
const ADMIN_PORT: u16 = 7109;

/// The services by name, each with the port on which it listens by default, by port, and the gateway last: the
/// order in which a mesh of several processes is started.
///
/// # Panics
/// When the binary was not built, or its configuration has no services.
pub fn services() -> &'static [(String, u16)] {
    static SERVICES: LazyLock<Vec<(String, u16)>> = LazyLock::new(|| {
        let printed = Command::new(binary()).args(["config", "--data-dir", "/"]).env_clear().output();
        let printed = printed.expect("the CLI runs");
        let services = listed_in(&String::from_utf8_lossy(&printed.stdout));
        assert!(!services.is_empty(), "no services: {}", String::from_utf8_lossy(&printed.stderr));
        services
    });
    &SERVICES
}

/// The ports on which a mesh listens by default: those of [`services`], in their order, and that of the admin listener.
pub fn default_ports() -> Vec<u16> {
    services().iter().map(|(_, port)| *port).chain([ADMIN_PORT]).collect()
}

/// The sections `servers.NAME` of a configuration.
fn listed_in(configuration: &str) -> Vec<(String, u16)> {
    let mut services: Vec<(String, u16)> = Vec::new();
    let mut section = "";
    for line in configuration.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
        } else if let Some(address) = line.strip_prefix("listen = ")
            && let Some(name) = section.strip_prefix("servers.")
        {
            let port = address.trim_matches('"').rsplit(':').next().and_then(|port| port.parse().ok());
            services.push((name.to_owned(), port.expect("an address with a port")));
        }
    }
    services.sort_by_key(|(name, port)| (name == "gateway", *port));
    services
}
