//! What a provider needs in order to install an agent in a sandbox. The list of agents is data outside the provider.

use std::path::PathBuf;

use foundry_tool_cache::NpmPackageSet;
use serde::{Deserialize, Serialize};

/// An agent to be installed.
#[derive(Clone, Debug, Default)]
pub struct AgentInstall {
    /// The name of the agent for users.
    pub name: String,
    /// Its npm packages; none = it is already in the sandbox, or part of our own binary.
    pub packages: Option<NpmPackageSet>,
    /// Whether it runs on our own Node.js.
    pub node: bool,
}

/// Paths of an installed agent and its dependencies, as the sandbox sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledAgent {
    /// Our own binary.
    pub foundry: PathBuf,
    /// The directory of the packages; empty without any.
    pub installed: PathBuf,
    /// The program of Node.js; empty where it is not needed.
    pub node: PathBuf,
}
