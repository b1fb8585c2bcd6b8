//! What a provider has to know of an agent in order to put it into a sandbox. Which agents there are is
//! data that the provider does not know.

use std::path::PathBuf;

use foundry_tool_cache::NpmPackageSet;
use serde::{Deserialize, Serialize};

/// An agent to be installed.
#[derive(Clone, Debug, Default)]
pub struct AgentInstall {
    /// The name users know it by.
    pub name: String,
    /// The npm packages it is made of; none = it is in the sandbox already, or a part of our own binary.
    pub packages: Option<NpmPackageSet>,
    /// Whether it runs on our own Node.js.
    pub node: bool,
}

/// Where an installed agent and what it needs are, as the sandbox sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledAgent {
    /// Our own binary.
    pub foundry: PathBuf,
    /// The directory of the packages; empty without any.
    pub installed: PathBuf,
    /// The program of Node.js; empty where it is not needed.
    pub node: PathBuf,
}
