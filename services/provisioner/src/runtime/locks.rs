//! A lock per sandbox, within this process.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use foundry_core::SandboxId;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The locks.
#[derive(Default)]
pub struct Locks(std::sync::Mutex<HashMap<SandboxId, Arc<Mutex<()>>>>);

impl Locks {
    /// The lock of a sandbox, taken.
    pub async fn of(&self, id: &SandboxId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(id.clone()).or_default())
        };
        lock.lock_owned().await
    }
}
