//! The tools of a host that come from npm: installed once, at exact versions with integrity, into a directory that
//! sandboxes mount read-only. Called by a stage, never by a request.
//!
//! ```text
//! <cache>/npm/<name>-<12 hex>/        a whole installation; the number is of its lock file's SHA-256
//! <cache>/npm/.lock~<name>            held while that tool is installed, by one process of the machine
//! <cache>/npm/.new~<name>~<random>/   being installed; renamed when it is whole
//! <cache>/npm/locks/<name>-<12 hex>.json   a lock made at the first installation, by its package.json's SHA-256
//! ```
//!
//! npm is the user's own, with the user's own settings and environment: registry, proxy, certificates, cache.

mod error;
mod install;
mod lock;
mod npm;
mod packages;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundry_core::Env;

pub use error::{Cause, ToolError};
pub use packages::{Lock, NpmPackageSet};

/// How tools are installed.
#[derive(Clone, Debug)]
pub struct NpmSettings {
    /// The npm to install with: a path, or a name in the search path.
    pub program: PathBuf,
    /// How long one installation may take, waiting for another process included.
    pub limit: Duration,
}

impl Default for NpmSettings {
    /// The `npm` of the search path, 10 minutes.
    fn default() -> Self {
        Self { program: PathBuf::from("npm"), limit: Duration::from_secs(600) }
    }
}

/// A complete tool in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its directory, readable by every user.
    pub dir: PathBuf,
    /// Its program, below that.
    pub program: PathBuf,
}

/// The tool cache. Clones share nothing but the directory; any number of processes may use it at once.
#[derive(Clone)]
pub struct ToolCache {
    dir: PathBuf,
    settings: NpmSettings,
    env: Env,
}

impl ToolCache {
    /// A cache in a directory, which is created at the first installation.
    pub fn new(dir: impl Into<PathBuf>, settings: NpmSettings, env: Env) -> Self {
        let dir = dir.into();
        // npm runs in a directory below it, where a relative path would lead elsewhere.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        Self { dir, settings, env }
    }

    /// The directory, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The tool, if it is there and complete. Reads files, does not wait.
    pub fn installed(&self, packages: &NpmPackageSet) -> Option<Installed> {
        let lock = self.known_lock(packages)?;
        self.whole(packages, &lock)
    }

    /// The tool, installed if it is not there. When several call this at once, one installs and the others wait;
    /// different tools are installed in parallel. `progress` gets a line for users at each step and every few seconds.
    /// Dropping the future kills npm and leaves the cache as it was.
    ///
    /// # Errors
    /// `NPM_MISSING`, `NPM_INSTALL_FAILED`, `TOOL_INSTALL_TIMEOUT`, `TOOL_CORRUPT`, `TOOL_LOCK_UNREADABLE`,
    /// `TOOL_CACHE_UNUSABLE`, `PLATFORM_UNSUPPORTED`, `DISK_FULL`.
    pub async fn ensure(
        &self,
        packages: &NpmPackageSet,
        progress: impl Fn(&str) + Send + Sync,
    ) -> Result<Installed, ToolError> {
        match self.installed(packages) {
            Some(installed) => Ok(installed),
            None => self.install(packages, &progress).await,
        }
    }

    /// The path of the Node binary that agents run on, installed like any tool.
    ///
    /// # Errors
    /// Those of [`ToolCache::ensure`]; `PLATFORM_UNSUPPORTED` also where the binary cannot run.
    pub async fn ensure_node(&self, progress: impl Fn(&str) + Send + Sync) -> Result<PathBuf, ToolError> {
        Ok(self.ensure(&NpmPackageSet::node(), progress).await?.program)
    }
}
