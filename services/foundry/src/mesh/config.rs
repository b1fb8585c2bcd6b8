//! Configuration of the mesh: defaults, file, environment, flags, in this order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foundry_server::config::{
    AdminConfig, DrainConfig, Layers, Loaded, MeshTlsFiles, ServerConfig, TelemetryConfig,
};
use serde::{Deserialize, Serialize, Serializer};

use super::services::{MeshService, SERVICES, called};
use crate::cli::Global;
use crate::failure::Failure;

/// Environment variables that are command line options, not settings of the mesh.
const OPTIONS: &[&str] = &[
    "FOUNDRY_ADDRESS",
    "FOUNDRY_TOKEN",
    "FOUNDRY_ORGANIZATION",
    "FOUNDRY_OUTPUT",
    "FOUNDRY_DATA_DIR",
    "FOUNDRY_CONFIG",
    "FOUNDRY_BIN",
    "FOUNDRY_DEMO_AGENT_SECOND_MS",
];

/// All settings of the mesh. Each section is read by one service; a process reads those of the services it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// Where each service listens, and what it accepts; by name.
    #[serde(serialize_with = "in_the_order_of_the_table")]
    pub servers: BTreeMap<String, ServerConfig>,
    /// Where each service that others call is reached from other processes, by name: `http://host:port`, or with
    /// `mesh.tls` `https://host:port`; empty = where it listens by this configuration.
    #[serde(serialize_with = "in_the_order_of_the_table")]
    pub upstreams: BTreeMap<String, String>,
    /// How services prove to each other who they are.
    pub mesh: MeshSection,
    /// Settings of the gateway.
    pub gateway: foundry_gateway::Config,
    /// Settings of the auth service.
    pub auth: foundry_auth::Config,
    /// Settings of the repo service.
    pub repo: foundry_repo::Config,
    /// Settings of the provisioner.
    pub provisioner: foundry_provisioner::Config,
    /// Settings of the task service.
    pub task: foundry_task::Config,
    /// Health, readiness and metrics of the process.
    pub admin: AdminConfig,
    /// How long each phase of a stop may take.
    pub drain: DrainConfig,
    /// Logs, traces and metrics.
    pub telemetry: TelemetryConfig,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            servers: SERVICES
                .iter()
                .map(|s| (s.name.to_owned(), ServerConfig::on_loopback(s.port)))
                .collect(),
            upstreams: called().map(|s| (s.name.to_owned(), String::new())).collect(),
            mesh: MeshSection::default(),
            gateway: foundry_gateway::Config::default(),
            // This default is for a mesh on one machine; `foundry login` reads its secret.
            auth: foundry_auth::Config { development_sign_in: true, ..foundry_auth::Config::default() },
            repo: foundry_repo::Config::default(),
            provisioner: foundry_provisioner::Config::default(),
            task: foundry_task::Config::default(),
            admin: AdminConfig::default(),
            drain: DrainConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// Section `mesh` of the configuration: what concerns connections between services.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshSection {
    /// Certificates of the services, for `foundry serve`; empty = services connect without TLS. In the names of the files
    /// `{service}` stands for the service that runs.
    pub tls: MeshTlsFiles,
}

impl MeshSection {
    /// Whether services prove who they are.
    pub fn is_proven(&self) -> bool {
        self.tls != MeshTlsFiles::default()
    }

    /// The files of one service.
    pub fn files_of(&self, service: &str) -> MeshTlsFiles {
        let of = |path: &Path| PathBuf::from(path.to_string_lossy().replace("{service}", service));
        let MeshTlsFiles { ca, certificate, key } = &self.tls;
        MeshTlsFiles { ca: of(ca), certificate: of(certificate), key: of(key) }
    }
}

fn in_the_order_of_the_table<T: Serialize, S: Serializer>(
    by_name: &BTreeMap<String, T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(SERVICES.iter().filter_map(|service| by_name.get_key_value(service.name)))
}

impl MeshConfig {
    /// Where a service listens, and what it accepts.
    pub fn server(&self, service: &MeshService) -> ServerConfig {
        let configured = self.servers.get(service.name).cloned();
        configured.unwrap_or_else(|| ServerConfig::on_loopback(service.port))
    }

    /// The URL at which other processes reach a service.
    pub fn upstream_url(&self, service: &MeshService) -> String {
        match self.upstreams.get(service.name) {
            Some(configured) if !configured.is_empty() => configured.clone(),
            _ => {
                let scheme = if self.mesh.is_proven() { "https" } else { "http" };
                format!("{scheme}://{}", self.server(service).listen)
            }
        }
    }
}

/// Merges all layers of the configuration: defaults, file, environment, `--set` flags.
///
/// # Errors
/// Unknown keys, values of the wrong type, an unreadable file (exit code 2).
pub fn load(global: &Global) -> Result<Loaded<MeshConfig>, Failure> {
    let mut layers = Layers::new().environment(std::env::vars(), OPTIONS);
    if let Some(file) = &global.config {
        layers = layers.file(file);
    }
    for setting in &global.set {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("--set {setting} is not KEY=VALUE")).exit(2))?;
        layers = layers.flag(key, value);
    }
    let loaded = layers.load(&MeshConfig::default()).map_err(|e| Failure::new(e.to_string()).exit(2))?;
    usable(&loaded.value)?;
    Ok(loaded)
}

/// Settings of two services that need each other.
fn usable(config: &MeshConfig) -> Result<(), Failure> {
    if config.auth.sign_in.is_empty() || !config.gateway.public_url.is_empty() {
        return Ok(());
    }
    let says = "`auth.sign_in` names an identity provider, and `gateway.public_url` is not set: nobody could sign in";
    Err(Failure::new(says)
        .next("set `gateway.public_url` to the address under which browsers reach the gateway, as in docs/sign-in.md")
        .exit(2))
}

/// The data directory: `--data-dir`, else `foundry` in the user's data directory.
///
/// # Errors
/// When neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn data_dir(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(dir) = &global.data_dir {
        return std::path::absolute(dir).map_err(Into::into);
    }
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")))
        .map(|base| base.join("foundry"))
        .ok_or_else(|| Failure::new("neither XDG_DATA_HOME nor HOME is set").next("pass --data-dir").exit(2))
}

#[cfg(test)]
mod every_setting_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_provider_needs_the_address_to_which_it_sends_browsers_back() {
        let mut config = MeshConfig::default();
        assert!(usable(&config).is_ok());
        config.auth.sign_in.insert("corp".to_owned(), foundry_auth::ProviderConfig::default());
        assert!(usable(&config).unwrap_err().message.contains("gateway.public_url"));
        config.gateway.public_url = "https://foundry.example".to_owned();
        assert!(usable(&config).is_ok());
    }

    #[test]
    fn services_are_reached_where_they_listen_unless_told_otherwise() {
        let mut config = MeshConfig::default();
        let repo = SERVICES.iter().find(|service| service.name == "repo").unwrap();
        assert_eq!(config.upstream_url(repo), "http://127.0.0.1:7102");
        config.upstreams.insert("repo".to_owned(), "http://repo:7102".to_owned());
        assert_eq!(config.upstream_url(repo), "http://repo:7102");
        config.upstreams.clear();
        config.mesh.tls.certificate = "/etc/{service}/{service}.pem".into();
        assert_eq!(config.upstream_url(repo), "https://127.0.0.1:7102");
        assert_eq!(config.mesh.files_of("repo").certificate, Path::new("/etc/repo/repo.pem"));
    }
}
