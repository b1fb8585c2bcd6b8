//! The unprivileged users of sandboxes, where the mesh runs as root: each sandbox has one of its own for as long as its
//! directory exists. It is recorded as the owner of its HOME.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use foundry_sandbox::{Class, ProviderError, SandboxName};
use rustix::fs::{FlockOperation, flock};

use crate::layout::Layout;

/// The range of users for sandboxes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Users {
    pub first: u32,
    pub count: u32,
}

impl Users {
    /// Held from the choice of a user until the sandbox is in place. Released by the system when the process ends.
    pub fn lock(root: &Path) -> io::Result<File> {
        let directory = File::open(root)?;
        flock(&directory, FlockOperation::LockExclusive)?;
        Ok(directory)
    }

    /// A user that no sandbox below `root` has; the same one for the same name, if it is free. Users that own a process
    /// are the last choice: they may belong to another mesh on this host, with sandboxes elsewhere.
    ///
    /// # Errors
    /// `SANDBOX_USERS_TAKEN` when none is free.
    pub fn free(self, root: &Path, name: &SandboxName) -> io::Result<Result<u32, ProviderError>> {
        let (taken, running) = (taken(root)?, running()?);
        let hash = name.as_str().bytes().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        let Self { first, count } = self;
        let free =
            || (0..count).map(|n| first + (hash % count + n) % count).filter(|user| !taken.contains(user));
        let chosen = free().find(|user| !running.contains(user)).or_else(|| free().next());
        Ok(chosen.ok_or_else(|| {
            let message = format!(
                "all {count} sandbox users ({first} to {}) are in use by sandboxes of this mesh",
                first + count - 1
            );
            ProviderError::new(Class::Capacity, "SANDBOX_USERS_TAKEN", message).retryable()
        }))
    }
}

/// The owners of all processes.
fn running() -> io::Result<HashSet<u32>> {
    let mut found = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            // The process may have exited since.
            found.extend(entry.metadata().ok().map(|process| process.uid()));
        }
    }
    Ok(found)
}

/// The owners of all sandboxes. A sandbox that is being made or removed has no processes.
fn taken(root: &Path) -> io::Result<HashSet<u32>> {
    let mut found = HashSet::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.parse::<SandboxName>().ok()) else { continue };
        match fs::symlink_metadata(Layout::new(root, &name).home()) {
            Ok(home) => found.insert(home.uid()),
            // It was destroyed in the meantime.
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
    }
    Ok(found)
}
