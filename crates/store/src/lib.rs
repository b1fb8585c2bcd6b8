//! SQLite and PostgreSQL behind one interface: write sets with group commit, commit-ordered
//! revisions per scope, tombstones, idempotency and audit in the transaction of the change.
//!
//! A request builds a [`WriteSet`] and passes it to [`Store::commit`]; a task that the store owns commits it together
//! with all others that are queued. Reads go to a pool, or to a [`Snapshot`] where several of them must see the same
//! state. Notifications are hints; the database is the truth.

mod audit;
mod backend;
mod committed;
mod error;
mod fault;
mod hint;
mod idempotency;
mod migration;
mod plan;
mod postgres;
mod reader;
mod retention;
mod revisions;
mod row;
mod scope;
mod shape;
mod snapshot;
mod sqlite;
mod stats;
mod storage;
mod store;
mod table;
mod value;
mod verify;
mod write_set;
mod writer;

pub use audit::{AuditEntry, AuditRecord};
pub use committed::Committed;
pub use error::CommitError;
pub use fault::Fault;
pub use hint::{Hint, HintEvent, HintTransport};
pub use idempotency::{BodyHash, IdempotencyKey, Replay};
pub use migration::{Migration, Migrations};
pub use reader::Reader;
pub use row::{Row, is_damaged};
pub use scope::Scope;
pub use snapshot::{Snapshot, Tombstone};
pub use stats::Stats;
pub use storage::Storage;
pub use store::{DialectSql, Store, StoreOptions};
pub use table::Table;
pub use value::{RevRef, Value};
pub use verify::{Encoded, Reference, Unreadable, ids, missing, verify};
pub use write_set::{Guard, WriteSet};
