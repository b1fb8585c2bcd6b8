//! Encrypts secrets of older keys with the first key, so that the older keys can be removed.

use std::time::Duration;

use foundry_core::{Env, Result, Tasks};
use foundry_secrets::{Column, Keys, Sealed};
use foundry_store::{Row, Store, Table, Value, WriteSet};

/// Rows per read and write, so that other writers are not held up.
const ROWS: usize = 50;
/// Pause after a failure of the database.
const AGAIN: Duration = Duration::from_secs(60);

/// A column of encrypted secrets.
pub struct SecretColumn {
    /// The service that owns the table.
    pub service: &'static str,
    /// The table, with the id of its rows and the column as named below.
    pub table: &'static Table,
    /// The column with the id.
    pub key: &'static str,
    /// The column with the secret.
    pub column: &'static str,
    /// Reads the rows with a secret whose id is greater than `$1`, by id, at most `$2`.
    pub rows: &'static str,
    /// What the secret of a row is bound to, see [`Column::row`].
    pub bound_to: fn(&Row) -> Result<String>,
}

/// The result of a pass over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Rows that were encrypted with the first key.
    pub rows: usize,
    /// Rows that no configured key decrypts; they stay as they are.
    pub unreadable: usize,
}

/// Encrypts all rows with the first key, once; tries again while the database fails.
pub async fn reencrypt_at_start(
    store: Store,
    keys: Keys,
    columns: &'static [SecretColumn],
    env: Env,
    tasks: Tasks,
) {
    loop {
        match reencrypt(&store, &keys, columns).await {
            Ok(Reencrypted { rows: 0, unreadable: 0 }) => return,
            Ok(Reencrypted { rows, unreadable }) => {
                tracing::info!(
                    rows,
                    unreadable,
                    "secrets are encrypted with the first key; if none is unreadable, the older keys can be removed"
                );
                return;
            }
            Err(e) => {
                tracing::warn!(error = %e, "secrets under an older key were not re-encrypted; retrying later");
            }
        }
        tokio::select! {
            () = tasks.cancellation().cancelled() => return,
            () = env.clock.sleep(AGAIN) => {}
        }
    }
}

/// Encrypts all rows with the first key.
///
/// # Errors
/// `INTERNAL` when the database fails; rows written before that stay.
pub async fn reencrypt(store: &Store, keys: &Keys, columns: &[SecretColumn]) -> Result<Reencrypted> {
    let mut done = Reencrypted::default();
    for column in columns {
        let mut after = String::new();
        loop {
            let (seen, last) = some(store, keys, column, &after, &mut done).await?;
            let Some(last) = last.filter(|_| seen == ROWS) else { break };
            after = last;
        }
    }
    Ok(done)
}

/// Handles the next rows of a table. Returns how many there were, and the id of the last one.
async fn some(
    store: &Store,
    keys: &Keys,
    of: &SecretColumn,
    after: &str,
    done: &mut Reencrypted,
) -> Result<(usize, Option<String>)> {
    let found = store.query(of.rows, &[after.into(), i64::try_from(ROWS).unwrap_or(i64::MAX).into()]).await?;
    let (mut ws, mut changed, mut last) = (WriteSet::new(), 0, None);
    for row in &found {
        let id = row.text(of.key)?.to_owned();
        let old = row.blob(of.column)?;
        let sealed = Sealed::from_bytes(old.as_ref());
        if keys.needs_reencryption(&sealed) {
            let bound_to = (of.bound_to)(row)?;
            let column =
                Column { service: of.service, table: of.table.name(), row: &bound_to, column: of.column };
            match keys.reencrypt(column, &sealed) {
                Ok(new) => {
                    // A row that has changed since is encrypted with the first key already.
                    let new: Value = new.as_bytes().to_vec().into();
                    let unchanged = [(of.key, id.as_str().into()), (of.column, old.into())];
                    ws.update_where(of.table, &unchanged, &[(of.column, new)]);
                    changed += 1;
                }
                Err(e) => {
                    tracing::warn!(row = id, error = %e, "a secret cannot be re-encrypted");
                    done.unreadable += 1;
                }
            }
        }
        last = Some(id);
    }
    if changed > 0 {
        store.commit(ws).await?;
    }
    done.rows += changed;
    Ok((found.len(), last))
}
