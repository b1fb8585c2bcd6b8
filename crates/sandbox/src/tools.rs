//! The pinned runtime, installed once from npm into a versioned cache directory that sandboxes mount
//! read-only. Called by a stage, never by a request.
//!
//! ```text
//! <cache>/sandbox-agent/0.4.2/sandbox-agent      the static binary
//! <cache>/sandbox-agent/.lock                    held while installing, by one process of the machine
//! <cache>/sandbox-agent/.new-<random>/           being installed; renamed when it is whole
//! <cache>/agents/<agent>-0.4.2/                  HOME in which the runtime installed a real agent
//! <cache>/agents/<agent>-0.4.2/.complete         written last
//! ```

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use foundry_core::Env;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::{AgentKind, Class, ProviderError};

/// The version of sandbox-agent everything here was written and tested against.
pub const SANDBOX_AGENT_VERSION: &str = "0.4.2";

/// npm's package and the SHA-256 of the binary in it, by platform.
const PLATFORMS: [(&str, &str, &str, &str); 2] = [
    (
        "linux",
        "x86_64",
        "@sandbox-agent/cli-linux-x64",
        "bab098abef874ade481aa7b50463662814fbf27294399f545307fedb638f029b",
    ),
    (
        "linux",
        "aarch64",
        "@sandbox-agent/cli-linux-arm64",
        "50361f87b9a6ce74bacaf07fd8f77866288bee88fc46fd1622f82f62b8f9dc5a",
    ),
];

/// How long npm may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// What an agent's installer gets of our own environment: how to reach the network, and nothing else.
const INSTALLER_ENVIRONMENT: [&str; 9] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Where the tools are and how they get there.
#[derive(Clone, Debug)]
pub struct ToolsConfig {
    /// The cache directory, shared by all sandboxes of this host.
    pub cache: PathBuf,
    /// A sandbox-agent to use instead of the pinned one.
    pub sandbox_agent: Option<PathBuf>,
    /// The npm to install with.
    pub npm: PathBuf,
}

impl ToolsConfig {
    /// The pinned version, installed with the `npm` of the search path into `cache`.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), sandbox_agent: None, npm: PathBuf::from("npm") }
    }
}

/// The tool cache.
#[derive(Clone)]
pub struct Tools {
    config: ToolsConfig,
    env: Env,
}

impl Tools {
    /// A cache at the configured place; nothing is installed yet.
    pub fn new(config: ToolsConfig, env: Env) -> Self {
        Self { config, env }
    }

    /// The cache directory.
    pub fn cache(&self) -> &Path {
        &self.config.cache
    }

    /// The runtime, if it is there.
    ///
    /// # Errors
    /// `SANDBOX_AGENT_MISSING` when neither the configured nor the installed one exists.
    pub fn sandbox_agent(&self) -> Result<PathBuf, ProviderError> {
        let path = match &self.config.sandbox_agent {
            Some(path) => path.clone(),
            None => self.versioned().join("sandbox-agent"),
        };
        if path.is_file() {
            return Ok(path);
        }
        let message = format!("there is no sandbox-agent at {}", path.display());
        Err(ProviderError::new(Class::Image, "SANDBOX_AGENT_MISSING", message))
    }

    /// The runtime, installed if it is not there yet. Two processes may call this at once: one installs,
    /// the other waits for it. Dropping the future stops npm and leaves the cache as it was.
    ///
    /// # Errors
    /// `NPM_MISSING`, `NPM_INSTALL_FAILED`, `TOOL_CORRUPT`, `PLATFORM_UNSUPPORTED`, `TOOL_INSTALL_TIMEOUT`.
    pub async fn ensure_sandbox_agent(&self) -> Result<PathBuf, ProviderError> {
        if self.config.sandbox_agent.is_some() {
            return self.sandbox_agent();
        }
        if let Ok(path) = self.sandbox_agent() {
            return Ok(path);
        }
        let (_, _, package, digest) = PLATFORMS
            .into_iter()
            .find(|(os, arch, ..)| *os == std::env::consts::OS && *arch == std::env::consts::ARCH)
            .ok_or_else(|| {
                let here = format!("{} on {}", std::env::consts::ARCH, std::env::consts::OS);
                let message = format!("sandbox-agent is not pinned for {here}: configure a path to one");
                ProviderError::new(Class::Configuration, "PLATFORM_UNSUPPORTED", message)
            })?;
        let base = self.config.cache.join("sandbox-agent");
        fs::create_dir_all(&base).map_err(|e| ProviderError::io("creating the tool cache", e))?;
        let _lock = self.lock(&base.join(".lock")).await?;
        if let Ok(path) = self.sandbox_agent() {
            return Ok(path); // another process installed it while this one waited
        }
        let new = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&base)
            .map_err(|e| ProviderError::io("creating a directory in the tool cache", e))?;
        self.npm_install(new.path(), package).await?;
        let binary = new.path().join("node_modules").join(package).join("bin/sandbox-agent");
        let verified = binary.clone();
        let found = tokio::task::spawn_blocking(move || sha256(&verified))
            .await
            .map_err(|e| ProviderError::io("checking sandbox-agent", std::io::Error::other(e)))?
            .map_err(|e| ProviderError::io("checking sandbox-agent", e))?;
        if found != digest {
            let message =
                format!("the sandbox-agent that npm brought has SHA-256 {found}, pinned is {digest}");
            return Err(ProviderError::new(Class::Image, "TOOL_CORRUPT", message));
        }
        self.publish(&base, &binary).map_err(|e| ProviderError::io("publishing sandbox-agent", e))?;
        self.sandbox_agent()
    }

    /// A real agent, installed by the runtime's own installer if it is not there yet. Returns the HOME it
    /// was installed in. The installer writes absolute paths, so it works in the final place, and a mark
    /// written last tells a whole installation from a torn one.
    ///
    /// # Errors
    /// `AGENT_INSTALL_FAILED` with the installer's words, and those of [`Tools::ensure_sandbox_agent`].
    pub async fn ensure_agent(&self, agent: AgentKind) -> Result<PathBuf, ProviderError> {
        let runtime = self.ensure_sandbox_agent().await?;
        let base = self.config.cache.join("agents");
        let home = base.join(format!("{}-{SANDBOX_AGENT_VERSION}", agent.name()));
        let complete = home.join(".complete");
        if complete.exists() {
            return Ok(home);
        }
        let io = |e| ProviderError::io(format!("installing agent {agent}"), e);
        fs::create_dir_all(&base).map_err(io)?;
        let _lock = self.lock(&base.join(".lock")).await?;
        if complete.exists() {
            return Ok(home);
        }
        if home.exists() {
            fs::remove_dir_all(&home).map_err(io)?;
        }
        fs::create_dir_all(&home).map_err(io)?;
        let mut installer = tokio::process::Command::new(&runtime);
        installer.args(["install-agent", agent.slot()]).env_clear().env("HOME", &home).current_dir(&home);
        for key in INSTALLER_ENVIRONMENT {
            if let Some(value) = std::env::var_os(key) {
                installer.env(key, value);
            }
        }
        let what = format!("the installer of agent {agent}");
        let output = self.run_installer(installer, &what, &io).await?;
        if !output.status.success() {
            let said = tail(&String::from_utf8_lossy(&output.stderr), 600);
            let message = format!("{what} failed ({}): {said}", output.status);
            return Err(ProviderError::new(Class::Image, "AGENT_INSTALL_FAILED", message).retryable());
        }
        fs::write(&complete, "").map_err(io)?;
        Ok(home)
    }

    /// Runs an installer to its end or its limit; it is killed when this future is dropped.
    async fn run_installer(
        &self,
        mut command: tokio::process::Command,
        what: &str,
        not_started: impl FnOnce(std::io::Error) -> ProviderError,
    ) -> Result<std::process::Output, ProviderError> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(not_started)?;
        tokio::select! {
            output = child.wait_with_output() => output.map_err(|e| ProviderError::io(what, e)),
            () = self.env.clock.sleep(INSTALL_LIMIT) => {
                let message = format!("{what} took longer than {} s", INSTALL_LIMIT.as_secs());
                Err(ProviderError::new(Class::Timeout, "TOOL_INSTALL_TIMEOUT", message).retryable())
            }
        }
    }

    fn versioned(&self) -> PathBuf {
        self.config.cache.join("sandbox-agent").join(SANDBOX_AGENT_VERSION)
    }

    /// Moves the one file that is needed into a directory of its own and renames that into place.
    fn publish(&self, base: &Path, binary: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let whole = tempfile::Builder::new().prefix(".new-").tempdir_in(base)?;
        fs::set_permissions(whole.path(), fs::Permissions::from_mode(0o755))?;
        let target = whole.path().join("sandbox-agent");
        fs::rename(binary, &target)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
        fs::File::open(&target)?.sync_all()?;
        fs::rename(whole.path(), self.versioned())?;
        // The temporary name is gone, so there is nothing for its guard to remove.
        let _ = whole.keep();
        Ok(())
    }

    async fn npm_install(&self, prefix: &Path, package: &str) -> Result<(), ProviderError> {
        let mut npm = tokio::process::Command::new(&self.config.npm);
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error"])
            .arg("--prefix")
            .arg(prefix)
            .arg(format!("{package}@{SANDBOX_AGENT_VERSION}"))
            .current_dir(prefix);
        let program = self.config.npm.display().to_string();
        let not_started = |e: std::io::Error| {
            let message = format!(
                "sandbox-agent is installed with npm, and {program} cannot be run ({e}): install npm, or \
                 configure a path to sandbox-agent"
            );
            ProviderError::new(Class::Configuration, "NPM_MISSING", message)
        };
        let output = self.run_installer(npm, "npm", not_started).await?;
        if output.status.success() {
            return Ok(());
        }
        let said = tail(&String::from_utf8_lossy(&output.stderr), 600);
        let message =
            format!("npm install of {package}@{SANDBOX_AGENT_VERSION} failed ({}): {said}", output.status);
        Err(ProviderError::new(Class::Image, "NPM_INSTALL_FAILED", message).retryable())
    }

    /// The lock of the cache, by the operating system: it ends with its holder, however that ends.
    async fn lock(&self, path: &Path) -> Result<fs::File, ProviderError> {
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|e| ProviderError::io("opening the tool cache's lock", e))?;
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(100);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if waited < INSTALL_LIMIT => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let message = "another process has been installing sandbox-agent for minutes";
                    return Err(
                        ProviderError::new(Class::Timeout, "TOOL_INSTALL_TIMEOUT", message).retryable()
                    );
                }
                Err(e) => return Err(ProviderError::io("locking the tool cache", e.into())),
            }
            self.env.clock.sleep(step).await;
            waited += step;
        }
    }
}

/// The last `max` bytes of a text, at a character boundary, on one line.
pub(crate) fn tail(text: &str, max: usize) -> String {
    let text = text.trim();
    let mut from = text.len().saturating_sub(max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].replace('\n', " | ")
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(cache: &Path, npm: &str) -> Tools {
        let mut config = ToolsConfig::new(cache);
        config.npm = npm.into();
        Tools::new(config, Env::system())
    }

    #[tokio::test]
    async fn says_that_npm_is_missing_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let e = tools(dir.path(), "/nowhere/npm").ensure_sandbox_agent().await.unwrap_err();
        assert_eq!((e.class, e.reason), (Class::Configuration, "NPM_MISSING"));
        assert!(e.message.contains("configure a path"), "{e}");
    }

    #[tokio::test]
    async fn leaves_nothing_behind_when_npm_fails_or_brings_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let npm = dir.path().join("npm");
        // A child writes the script: were it this process, a fork of another test could hold it open
        // for writing just when it is executed.
        let script = |body: &str| {
            let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
            let args = ["-c", write, npm.to_str().unwrap(), body];
            assert!(std::process::Command::new("sh").args(args).status().unwrap().success());
        };
        let cache = dir.path().join("cache");
        let tools = tools(&cache, npm.to_str().unwrap());

        script("echo 'E404 no such package' >&2; exit 1");
        let e = tools.ensure_sandbox_agent().await.unwrap_err();
        assert_eq!((e.reason, e.retryable), ("NPM_INSTALL_FAILED", true));
        assert!(e.message.contains("E404"), "{e}");

        script(
            "for p in x64 arm64; do d=node_modules/@sandbox-agent/cli-linux-$p/bin; mkdir -p $d; echo evil > $d/sandbox-agent; done",
        );
        let e = tools.ensure_sandbox_agent().await.unwrap_err();
        assert_eq!((e.class, e.reason), (Class::Image, "TOOL_CORRUPT"));

        let left: Vec<_> = fs::read_dir(cache.join("sandbox-agent")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the lock remains: {left:?}");
    }

    #[tokio::test]
    async fn prefers_the_configured_path_and_never_runs_npm_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own-agent");
        let mut config = ToolsConfig::new(dir.path().join("cache"));
        config.npm = "/nowhere/npm".into();
        config.sandbox_agent = Some(own.clone());
        let tools = Tools::new(config, Env::system());
        assert_eq!(tools.ensure_sandbox_agent().await.unwrap_err().reason, "SANDBOX_AGENT_MISSING");
        fs::write(&own, "x").unwrap();
        assert_eq!(tools.ensure_sandbox_agent().await.unwrap(), own);
    }

    #[test]
    fn cuts_a_tail_at_a_character() {
        assert_eq!(tail("aä\nb", 3), " | b");
    }
}
