//! Configuration of the mesh: defaults, file, environment, flags, in this order.

use std::path::PathBuf;

use foundry_server::config::{AdminConfig, DrainConfig, Layers, Loaded, ServerConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

use crate::cli::{Global, ServiceName};
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
    /// Where each service listens, and what it accepts.
    pub servers: Servers,
    /// Where each service is reached from other processes.
    pub upstreams: Upstreams,
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
            servers: Servers::default(),
            upstreams: Upstreams::default(),
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

/// Where each service listens, and what it accepts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Servers {
    /// The gateway; port 7100 by default.
    pub gateway: ServerConfig,
    /// Auth; port 7101 by default.
    pub auth: ServerConfig,
    /// Repo; port 7102 by default.
    pub repo: ServerConfig,
    /// The provisioner; port 7103 by default.
    pub provisioner: ServerConfig,
    /// Task; port 7104 by default.
    pub task: ServerConfig,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            gateway: ServerConfig::on_loopback(7100),
            auth: ServerConfig::on_loopback(7101),
            repo: ServerConfig::on_loopback(7102),
            provisioner: ServerConfig::on_loopback(7103),
            task: ServerConfig::on_loopback(7104),
        }
    }
}

impl Servers {
    /// The settings of a service's listener.
    pub fn of(&self, service: ServiceName) -> &ServerConfig {
        match service {
            ServiceName::Gateway => &self.gateway,
            ServiceName::Auth => &self.auth,
            ServiceName::Repo => &self.repo,
            ServiceName::Provisioner => &self.provisioner,
            ServiceName::Task => &self.task,
        }
    }
}

/// The URLs at which other processes reach each service: `http://host:port`; empty = its `servers` address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstreams {
    /// URL of the auth service.
    pub auth: String,
    /// URL of the repo service.
    pub repo: String,
    /// URL of the provisioner.
    pub provisioner: String,
    /// URL of the task service.
    pub task: String,
}

impl MeshConfig {
    /// The URL at which other processes reach a service.
    pub fn upstream_url(&self, service: ServiceName) -> String {
        let configured = match service {
            ServiceName::Gateway => "",
            ServiceName::Auth => &self.upstreams.auth,
            ServiceName::Repo => &self.upstreams.repo,
            ServiceName::Provisioner => &self.upstreams.provisioner,
            ServiceName::Task => &self.upstreams.task,
        };
        if configured.is_empty() {
            format!("http://{}", self.servers.of(service).listen)
        } else {
            configured.to_owned()
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
    layers.load(&MeshConfig::default()).map_err(|e| Failure::new(e.to_string()).exit(2))
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
mod every_setting;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_reached_where_they_listen_unless_told_otherwise() {
        let mut config = MeshConfig::default();
        assert_eq!(config.upstream_url(ServiceName::Repo), "http://127.0.0.1:7102");
        config.upstreams.repo = "http://repo:7102".to_owned();
        assert_eq!(config.upstream_url(ServiceName::Repo), "http://repo:7102");
    }
}
