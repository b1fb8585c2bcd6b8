//! Whether the disk of the database takes writes, as the last failed write or the last probe showed.

use foundry_core::Error;
use tokio::sync::watch;

use crate::{DialectSql, Fault, Store};

/// Whether the disk of a database takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// No write has failed because of the disk since the last probe.
    Writable,
    /// A write failed because the disk is full.
    Full,
    /// A write failed because the disk or the file fails.
    Failing,
}

/// What the last writes showed.
pub(crate) struct StorageState(watch::Sender<Storage>);

impl StorageState {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Storage::Writable))
    }

    /// Records a failed write; returns whether the disk is at fault. Logged once: a disk that stays full fails every write.
    pub(crate) fn failed(&self, fault: Fault, error: &sqlx::Error) -> bool {
        let storage = match fault {
            Fault::Full => Storage::Full,
            Fault::Failing | Fault::Fatal => Storage::Failing,
            Fault::Permanent | Fault::Busy | Fault::Unreachable => return false,
        };
        if self.0.send_replace(storage) != storage {
            tracing::error!(%error, "{fault}");
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn now(&self) -> Storage {
        *self.0.borrow()
    }

    fn wrote(&self) {
        if self.0.send_replace(Storage::Writable) != Storage::Writable {
            tracing::info!("the database's disk accepts writes again");
        }
    }
}

/// A probe must need room: a small row, or one that PostgreSQL can compress, would fit into a page that is there already.
const PROBE_BYTES: usize = 64 * 1024;
const PROBE: &str = "INSERT INTO store_meta (name, value) VALUES ('probe', $1) \
     ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const FORGET: &str = "DELETE FROM store_meta WHERE name = 'probe'";

impl Store {
    /// Whether the disk of the database takes writes. After a failed write only [`Store::probe`] reports it writable again:
    /// a write that succeeds may have needed no room.
    pub fn storage(&self) -> watch::Receiver<Storage> {
        self.storage_state().0.subscribe()
    }

    /// Writes and deletes a row of 64 KiB.
    ///
    /// # Errors
    /// See [`Store::write`].
    pub async fn probe(&self) -> Result<(), Error> {
        self.write(DialectSql { sqlite: PROBE, postgres: PROBE }, &[self.incompressible(PROBE_BYTES).into()])
            .await?;
        self.write(DialectSql { sqlite: FORGET, postgres: FORGET }, &[]).await?;
        self.storage_state().wrote();
        Ok(())
    }
}
