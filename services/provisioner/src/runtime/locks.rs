//! A lock per sandbox, within this process.

use std::collections::HashMap;
use std::sync::Arc;

use foundry_core::SandboxId;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The locks that are held or waited for, by sandbox.
#[derive(Default)]
pub struct Locks(std::sync::Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>);

impl Locks {
    /// Waits for the lock of a sandbox.
    pub async fn of(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        self.lock(id).lock_owned().await
    }

    /// The lock of a sandbox, unless it is taken.
    pub fn free(&self, id: &SandboxId) -> Option<OwnedMutexGuard<()>> {
        self.lock(id).try_lock_owned().ok()
    }

    fn lock(&self, id: &SandboxId) -> Arc<Mutex<()>> {
        let mut locks = foundry_core::lock(&self.0);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(id.clone()).or_default())
    }
}
