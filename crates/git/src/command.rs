//! `git` with a fixed environment and configuration: settings of the machine, the user or a repository have no effect,
//! and no operand can be taken for an option.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::process::Command;

use crate::process::{self, Input, Piped, Sink};
use crate::{GitError, GitErrorKind, Output, Result, RunLimits};

/// The oldest git that has everything used here (`http.curloptResolve`, `cat-file -z`).
const MINIMUM_VERSION: GitVersion = GitVersion { major: 2, minor: 38 };

/// Given to every command. An empty value switches the feature off.
const CONFIG: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.askPass", ""),
    ("core.fsync", "committed,reference"),
    ("credential.helper", ""),
    ("diff.external", ""),
    ("fetch.recurseSubmodules", "false"),
    ("filter.lfs.smudge", ""),
    ("filter.lfs.clean", ""),
    ("filter.lfs.process", ""),
    ("filter.lfs.required", "false"),
    ("gc.auto", "0"),
    // No remote learns who this host is in its realm of Kerberos.
    ("http.emptyAuth", "false"),
    ("http.followRedirects", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
    ("http.proxy", ""),
    ("maintenance.auto", "false"),
    ("protocol.version", "2"),
    ("submodule.recurse", "false"),
    ("transfer.fsckObjects", "true"),
];

/// Passed on from our environment when set; everything else is dropped.
const INHERITED: &[&str] = &["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

const FIXED_ENV: &[(&str, &str)] = &[
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", "/bin/false"),
    ("GIT_SSH_COMMAND", "/bin/false"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_ADVICE", "0"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
];

/// A version of git.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitVersion {
    /// The major version, such as 2 in 2.43.
    pub major: u32,
    /// The minor version, such as 43 in 2.43.
    pub minor: u32,
}

impl fmt::Display for GitVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The git program of this machine, checked once. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Git(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    /// Empty, so that git finds no `.netrc`, `.gitconfig` or cookie file.
    home: tempfile::TempDir,
    version: GitVersion,
}

impl Git {
    /// The `git` in `PATH`.
    pub async fn detect() -> Result<Self> {
        Self::at("git").await
    }

    /// A given program; an error when it does not run or is older than 2.38.
    pub async fn at(program: impl Into<PathBuf>) -> Result<Self> {
        let program = program.into();
        let inner = Inner { program: program.clone(), home: empty_home()?, version: MINIMUM_VERSION };
        let probe = Self(Arc::new(inner));
        let out = probe.command("version").run().await?;
        let version = parse_version(&out.stdout).ok_or_else(|| {
            GitError::failed("cannot read the version of git")
                .with_kind(GitErrorKind::Failed, "GIT_NOT_INSTALLED")
        })?;
        if version < MINIMUM_VERSION {
            return Err(GitError::new(
                GitErrorKind::Failed,
                "GIT_TOO_OLD",
                format!("git {version} is installed; {MINIMUM_VERSION} or newer is needed"),
            ));
        }
        Ok(Self(Arc::new(Inner { program, home: empty_home()?, version })))
    }

    /// The version found.
    pub fn version(&self) -> GitVersion {
        self.0.version
    }

    /// A subcommand to be completed and run. Allows no transport by default.
    pub fn command(&self, subcommand: &'static str) -> GitCommand {
        GitCommand {
            git: self.clone(),
            subcommand,
            git_dir: None,
            work_tree: None,
            config: Vec::new(),
            smudges: false,
            args: Vec::new(),
            operands: Vec::new(),
            paths: Vec::new(),
            env: Vec::new(),
            protocols: "",
            input: Input::Nothing,
            limits: RunLimits::default(),
        }
    }
}

fn empty_home() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("foundry-git-home-")
        .tempdir()
        .map_err(|e| GitError::io("cannot create an empty home directory", &e))
}

fn parse_version(stdout: &[u8]) -> Option<GitVersion> {
    let text = std::str::from_utf8(stdout).ok()?.trim().strip_prefix("git version ")?;
    let mut numbers = text.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some(GitVersion { major, minor })
}

/// One invocation of git.
pub struct GitCommand {
    git: Git,
    subcommand: &'static str,
    git_dir: Option<PathBuf>,
    work_tree: Option<PathBuf>,
    config: Vec<(String, String)>,
    smudges: bool,
    args: Vec<OsString>,
    operands: Vec<OsString>,
    paths: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    protocols: &'static str,
    input: Input,
    limits: RunLimits,
}

impl GitCommand {
    /// The repository to work on; without it, git finds none.
    #[must_use]
    pub fn git_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.git_dir = Some(dir.as_ref().to_owned());
        self
    }

    /// The work tree. Only for trees that no agent can write yet.
    #[must_use]
    pub(crate) fn work_tree(mut self, dir: impl AsRef<Path>) -> Self {
        self.work_tree = Some(dir.as_ref().to_owned());
        self
    }

    /// A configuration value on top of the fixed ones.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Runs this program where attributes say that files are of LFS; the fixed configuration runs none.
    #[must_use]
    pub(crate) fn smudge(mut self, program: &str) -> Self {
        self.smudges = true;
        self.config("filter.lfs.smudge", program)
    }

    /// Options written in our code, never data from outside.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Operands, which may come from outside: they follow `--end-of-options`.
    #[must_use]
    pub fn operands<A: AsRef<OsStr>>(mut self, operands: impl IntoIterator<Item = A>) -> Self {
        self.operands.extend(operands.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Paths, which follow `--` and are taken literally.
    #[must_use]
    pub fn paths<A: AsRef<OsStr>>(mut self, paths: impl IntoIterator<Item = A>) -> Self {
        self.paths.extend(paths.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// The transports allowed, as in `GIT_ALLOW_PROTOCOL`.
    #[must_use]
    pub(crate) fn protocols(mut self, list: &'static str) -> Self {
        self.protocols = list;
        self
    }

    #[must_use]
    pub(crate) fn env(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((key, value.into()));
        self
    }

    #[must_use]
    pub(crate) fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Bytes for git to read from standard input; without them, standard input is empty.
    #[must_use]
    pub fn stdin(self, bytes: impl Into<Bytes>) -> Self {
        self.input(Input::Bytes(bytes.into()))
    }

    /// The limits of time, output, files and memory.
    #[must_use]
    pub fn limits(mut self, limits: RunLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs it; an exit code other than 0 is an error.
    pub async fn run(self) -> Result<Output> {
        let what = self.subcommand;
        succeeded(what, self.run_any().await?)
    }

    /// Runs it; every exit code is a result, death by a signal is an error.
    pub async fn run_any(self) -> Result<Output> {
        let mut all = BytesMut::new();
        let mut sink = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok(())
        };
        let mut out = self.start(&mut sink).await?;
        out.stdout = all.freeze();
        Ok(out)
    }

    /// Runs it and passes its output to the sink piece by piece; exit codes as in [`Self::run`].
    pub(crate) async fn stream(self, sink: &mut Sink<'_>) -> Result<()> {
        let what = self.subcommand;
        succeeded(what, self.start(sink).await?).map(drop)
    }

    /// Starts it, with the bytes as its standard input; the output is taken piece by piece. `keeps` is removed after
    /// the process has ended.
    pub(crate) fn pipe(self, input: &[u8], keeps: Option<tempfile::TempDir>) -> Result<Piped> {
        let (what, limits) = (self.subcommand, self.limits);
        self.make_home()?;
        process::pipe(what, self.build(), input, limits, keeps)
    }

    async fn start(mut self, sink: &mut Sink<'_>) -> Result<Output> {
        let (what, limits) = (self.subcommand, self.limits);
        let input = std::mem::replace(&mut self.input, Input::Nothing);
        self.make_home()?;
        process::run(what, self.build(), input, limits, sink).await
    }

    /// A cleaner of temporary files may have deleted it.
    fn make_home(&self) -> Result<()> {
        let home = self.git.0.home.path();
        if home.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(home).map_err(|e| GitError::io("cannot create an empty home directory", &e))
    }

    fn build(self) -> Command {
        let inner = &self.git.0;
        let home = inner.home.path();
        let mut c = Command::new(&inner.program);
        c.current_dir(home).env_clear();
        for key in INHERITED {
            if let Some(value) = std::env::var_os(key) {
                c.env(key, value);
            }
        }
        c.envs(FIXED_ENV.iter().copied());
        c.env("HOME", home).env("XDG_CONFIG_HOME", home).env("TMPDIR", home);
        // The empty home bounds the search for a repository when none is given.
        c.env("GIT_CEILING_DIRECTORIES", home.parent().unwrap_or(home));
        c.env("GIT_ALLOW_PROTOCOL", self.protocols);
        c.envs(self.env);
        // Even an empty program of this kind makes git run no other one.
        for (key, value) in CONFIG.iter().filter(|(key, _)| !self.smudges || *key != "filter.lfs.process") {
            c.arg("-c").arg(format!("{key}={value}"));
        }
        for (key, value) in &self.config {
            c.arg("-c").arg(format!("{key}={value}"));
        }
        for (name, dir) in [("--git-dir=", self.git_dir), ("--work-tree=", self.work_tree)] {
            if let Some(dir) = dir {
                let mut arg = OsString::from(name);
                arg.push(dir);
                c.arg(arg);
            }
        }
        c.arg(self.subcommand).args(self.args);
        if !self.operands.is_empty() {
            c.arg("--end-of-options").args(self.operands);
        }
        if !self.paths.is_empty() {
            c.arg("--").args(self.paths);
        }
        c
    }
}

fn succeeded(what: &str, out: Output) -> Result<Output> {
    match out.code {
        0 => Ok(out),
        code => Err(GitError::from_exit(what, &format!("exit {code}"), out.stderr)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_versions_of_distributions() {
        assert_eq!(parse_version(b"git version 2.47.3\n"), Some(GitVersion { major: 2, minor: 47 }));
        assert_eq!(
            parse_version(b"git version 2.39.5 (Apple Git-154)\n"),
            Some(GitVersion { major: 2, minor: 39 })
        );
        assert_eq!(parse_version(b"not git"), None);
    }

    #[tokio::test]
    async fn takes_no_operand_for_an_option_although_the_transport_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let proof = dir.path().join("ran");
        let git = Git::detect().await.unwrap();
        git.command("init").args(["--quiet", "--bare"]).operands([dir.path().join("r")]).run().await.unwrap();
        let option = format!("--upload-pack=touch {};git-upload-pack", proof.display());
        let listed = git
            .command("ls-remote")
            .protocols("file")
            .operands([OsString::from(option), dir.path().join("r").into()])
            .run()
            .await;
        assert!(listed.is_err() && !proof.exists(), "an operand was run");
    }
}
