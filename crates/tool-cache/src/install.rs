//! One installation: made beside its place, and moved there when it is complete.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use crate::npm::{Run, megabytes, size};
use crate::packages::{expected, platform};
use crate::process::{Event, Running};
use crate::{Cause, Installed, Lock, NpmPackageSet, ToolCache, ToolError, lock};

/// How long the installed program may take to answer for the first time.
const TRY_RUN: Duration = Duration::from_secs(20);

impl ToolCache {
    fn base(&self) -> PathBuf {
        self.dir.join("npm")
    }

    /// The lock, if there is one already. None also when the operator's cannot be read, which the installation will
    /// report.
    pub(crate) fn known_lock(&self, packages: &NpmPackageSet) -> Option<String> {
        match packages.lock() {
            Lock::Text(text) => Some(text.clone().into_owned()),
            Lock::File(path) => fs::read_to_string(path).ok(),
            Lock::AtFirstInstall => fs::read_to_string(self.made_lock(packages)).ok(),
        }
    }

    fn made_lock(&self, packages: &NpmPackageSet) -> PathBuf {
        self.base().join("locks").join(format!("{}.json", packages.stamped(packages.package_json())))
    }

    pub(crate) fn whole(&self, packages: &NpmPackageSet, lock: &str) -> Option<Installed> {
        let dir = self.base().join(packages.stamped(lock));
        let program = dir.join(packages.program());
        program.is_file().then_some(Installed { dir, program })
    }

    pub(crate) async fn install(
        &self,
        packages: &NpmPackageSet,
        progress: &(impl Fn(&str) + Send + Sync),
    ) -> Result<Installed, ToolError> {
        let name = packages.name();
        let platform = platform().ok_or_else(|| {
            let here = format!("{} on {}", std::env::consts::ARCH, std::env::consts::OS);
            let message =
                format!("{name} is only available for Linux on x86-64 and ARM64; this machine is {here}");
            ToolError::new(Cause::Configuration, "PLATFORM_UNSUPPORTED", message)
        })?;
        self.make_base().map_err(|e| ToolError::io("creating the tool cache", e))?;
        let path = self.base().join(format!(".lock~{name}"));
        let waiting = || progress(&format!("npm: {name} is being installed by another process"));
        let _held = lock::take(&path, name, self.settings.limit, &self.env, waiting).await?;
        if let Some(installed) = self.installed(packages) {
            return Ok(installed); // it was installed while this one waited
        }
        self.remove_left_over(name).await?;
        let lock = match packages.lock() {
            Lock::File(path) => {
                fs::read_to_string(path).map_err(|e| unreadable(name, path, &e.to_string()))?
            }
            _ => match self.known_lock(packages) {
                Some(lock) => lock,
                None => self.make_lock(packages, progress).await?,
            },
        };
        let expected = expected(&lock, platform).map_err(|e| {
            let made = self.made_lock(packages);
            unreadable(name, if let Lock::File(path) = packages.lock() { path } else { &made }, &e)
        })?;
        progress(&format!("npm: installing {name}, {} packages", expected.len()));
        let since = self.env.clock.now();
        let new = self.directory(packages, Some(&lock))?;
        // Engines are checked against the Node that agents run on, once it is installed.
        let node = self.installed(&NpmPackageSet::node());
        let path_first = node.and_then(|node| Some(node.program.parent()?.to_owned()));
        let said = self
            .npm(Run { name, args: &["ci"], dir: new.path(), path_first, packages: expected.len() }, progress)
            .await?;
        complete(packages, &expected, new.path(), &said)?;
        self.try_run(packages, new.path()).await?;
        let place = self.base().join(packages.stamped(&lock));
        let without = packages.without.clone();
        let published = blocking("publishing a tool", move || {
            publish(new.path(), &place, &without)?;
            let size = size(&place);
            let _ = new.keep(); // the name is gone, so there is nothing to remove
            Ok(size)
        });
        let size = megabytes(published.await?);
        let seconds = self.env.clock.now().since(since).as_secs();
        progress(&format!("npm: {name} is installed, {size} MB in {seconds} s"));
        self.whole(packages, &lock).ok_or_else(|| missing(name, packages.program(), "nothing"))
    }

    fn make_base(&self) -> io::Result<()> {
        let base = self.base();
        for dir in [&self.dir, &base, &base.join("locks")] {
            if !dir.is_dir() {
                fs::create_dir_all(dir)?;
                fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(())
    }

    /// Removes what killed installers of this tool left. The lock is held.
    async fn remove_left_over(&self, name: &str) -> Result<(), ToolError> {
        let (base, prefix) = (self.base(), format!(".new~{name}~"));
        let removed = blocking("clearing the tool cache", move || {
            for entry in fs::read_dir(base)? {
                let entry = entry?;
                if !entry.file_name().to_string_lossy().starts_with(&prefix) {
                    continue;
                }
                match fs::remove_dir_all(entry.path()) {
                    // A failed installation removes its own files, perhaps at this moment.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
            Ok(())
        });
        removed.await
    }

    /// A directory to install in, with the files that list the packages.
    fn directory(&self, packages: &NpmPackageSet, lock: Option<&str>) -> Result<Unfinished, ToolError> {
        let prefix = format!(".new~{}~", packages.name());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(self.base()).and_then(|new| {
            fs::write(new.path().join("package.json"), packages.package_json())?;
            if let Some(lock) = lock {
                fs::write(new.path().join("package-lock.json"), lock)?;
            }
            Ok(new)
        });
        Ok(Unfinished(Some(made.map_err(|e| ToolError::io("creating a directory in the tool cache", e))?)))
    }

    /// Lets npm resolve the versions of all packages, and keeps them.
    async fn make_lock(
        &self,
        packages: &NpmPackageSet,
        progress: &(impl Fn(&str) + Send + Sync),
    ) -> Result<String, ToolError> {
        let name = packages.name();
        progress(&format!("npm: finding the packages of {name}"));
        let new = self.directory(packages, None)?;
        let args = ["install", "--package-lock-only", "--omit-lockfile-registry-resolved"];
        self.npm(Run { name, args: &args, dir: new.path(), path_first: None, packages: 0 }, progress).await?;
        let (made, kept) = (new.path().join("package-lock.json"), self.made_lock(packages));
        let lock = blocking("saving a lock file", move || {
            let lock = fs::read_to_string(&made)?;
            fs::File::open(&made)?.sync_all()?;
            fs::rename(&made, &kept)?;
            drop(new);
            Ok(lock)
        });
        lock.await
    }

    /// Starts the program once, where that is configured: a binary for another libc exists and cannot run.
    async fn try_run(&self, packages: &NpmPackageSet, dir: &Path) -> Result<(), ToolError> {
        let Some(argument) = packages.try_run else { return Ok(()) };
        let mut command = Command::new(dir.join(packages.program()));
        command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut said = String::new();
        let ran = match Running::spawn(&mut command) {
            Ok(running) => {
                let hear = |event: Event<'_>| {
                    if let Event::Line(line) = event {
                        line.clone_into(&mut said);
                    }
                };
                running.run(&self.env, TRY_RUN, TRY_RUN, || 0, hear).await
            }
            Err(e) => Err(e),
        };
        let what = match ran {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => format!("it exited with {status}: {said}"),
            Ok(None) => format!("it did not finish within {} s", TRY_RUN.as_secs()),
            Err(e) => e.to_string(),
        };
        let name = packages.name();
        let message =
            format!("{name} from npm does not run on this machine (it requires glibc 2.28): {what}");
        Err(ToolError::new(Cause::Configuration, "PLATFORM_UNSUPPORTED", message))
    }
}

/// Whether everything the lock names is there, and the program.
fn complete(
    packages: &NpmPackageSet,
    expected: &BTreeSet<String>,
    dir: &Path,
    said: &str,
) -> Result<(), ToolError> {
    let lost = expected.iter().find(|path| !dir.join(path).join("package.json").is_file());
    if let Some(lost) = lost {
        return Err(missing(packages.name(), Path::new(lost), said));
    }
    if dir.join(packages.program()).is_file() {
        return Ok(());
    }
    let (name, program) = (packages.name(), packages.program().display());
    let message =
        format!("the packages of {name} do not contain {program}; set `program` to a file they contain");
    Err(ToolError::new(Cause::Configuration, "TOOL_CORRUPT", message))
}

/// The error when npm succeeded without a package: it skips an optional package that it cannot fetch, and silently one
/// with a wrong checksum.
fn missing(name: &str, path: &Path, said: &str) -> ToolError {
    let message = format!(
        "npm skipped {} of {name}: it could not be downloaded, or its checksum does not match; npm output: {said}",
        path.display()
    );
    ToolError::new(Cause::Image, "NPM_INSTALL_FAILED", message).retryable()
}

fn unreadable(name: &str, path: &Path, e: &str) -> ToolError {
    let message = format!("the lock file {} of {name} cannot be used: {e}", path.display());
    ToolError::new(Cause::Configuration, "TOOL_LOCK_UNREADABLE", message)
}

/// A directory that is removed unless it is kept; on another thread, since it may be large.
struct Unfinished(Option<TempDir>);

impl Unfinished {
    fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new(""), TempDir::path)
    }

    fn keep(mut self) -> Option<PathBuf> {
        self.0.take().map(TempDir::keep)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let dir = self.0.take();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if dir.is_some() => drop(runtime.spawn_blocking(move || drop(dir))),
            _ => {}
        }
    }
}

/// Makes everything readable for every user and durable, then moves it into place.
fn publish(new: &Path, place: &Path, without: &[String]) -> io::Result<()> {
    for path in without.iter().map(|path| new.join(path)) {
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        }
    }
    readable(new)?;
    // One sync for thousands of files: without it, a power cut could leave the final name with incomplete files.
    rustix::fs::syncfs(fs::File::open(new)?)?;
    if place.exists() {
        fs::remove_dir_all(place)?; // its program is gone, so nobody can be running it
    }
    fs::rename(new, place)?;
    place.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

/// Modes that do not depend on the umask under which npm ran.
fn readable(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            readable(&entry.path())?;
        } else if kind.is_file() {
            let old = entry.metadata()?.permissions().mode() & 0o777;
            let mode = if old & 0o100 == 0 { 0o644 } else { 0o755 };
            if mode != old {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ToolError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).and_then(|done| done).map_err(|e| ToolError::io(what, e))
}

#[cfg(test)]
mod tests;
