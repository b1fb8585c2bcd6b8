//! Encrypts credentials of older keys with the first key, so that the older keys can be removed.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Result, Tasks};
use foundry_secrets::Sealed;
use foundry_store::{Value, WriteSet};

use crate::broker;
use crate::context::Context;
use crate::store::credentials::{self, CREDENTIALS};

/// Rows per read and write, so that other writers are not held up.
const ROWS: i64 = 50;
/// Pause after a failure of the database.
const AGAIN: Duration = Duration::from_secs(60);

/// The result of a pass over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Rows that were encrypted with the first key.
    pub rows: usize,
    /// Rows that no configured key decrypts; they stay as they are.
    pub unreadable: usize,
}

/// Encrypts all rows with the first key, once; tries again while the database fails.
pub async fn at_start(cx: Arc<Context>, tasks: Tasks) {
    loop {
        match reencrypt(&cx).await {
            Ok(done) if done == Reencrypted::default() => return,
            Ok(done) => {
                let (rows, unreadable) = (done.rows, done.unreadable);
                tracing::info!(
                    rows,
                    unreadable,
                    "credentials are encrypted with the first key; if none is unreadable, the older keys can be removed"
                );
                return;
            }
            Err(e) => {
                tracing::warn!(error = %e, "credentials under an older key were not re-encrypted; retrying later");
            }
        }
        tokio::select! {
            () = tasks.cancellation().cancelled() => return,
            () = cx.env.clock.sleep(AGAIN) => {}
        }
    }
}

/// Encrypts all rows with the first key.
///
/// # Errors
/// `INTERNAL` when the database fails; rows written before that stay.
pub async fn reencrypt(cx: &Context) -> Result<Reencrypted> {
    let (mut done, mut after) = (Reencrypted::default(), String::new());
    loop {
        let found = credentials::after(&cx.store, &after, ROWS).await?;
        let (mut ws, mut changed) = (WriteSet::new(), 0);
        for credential in &found {
            let sealed = Sealed::from_bytes(credential.sealed.as_ref());
            if !cx.broker.keys.needs_reencryption(&sealed) {
                continue;
            }
            let id = credential.credential_id.as_str();
            match cx.broker.keys.reencrypt(broker::column(&credential.binding()), &sealed) {
                Ok(new) => {
                    // A row that has changed since is encrypted with the first key already.
                    let old: Value = credential.sealed.clone().into();
                    let new: Value = new.as_bytes().to_vec().into();
                    let unchanged = [("credential_id", id.into()), ("secret", old)];
                    ws.update_where(&CREDENTIALS, &unchanged, &[("secret", new)]);
                    changed += 1;
                }
                Err(e) => {
                    tracing::warn!(credential = id, error = %e, "a credential cannot be re-encrypted");
                    done.unreadable += 1;
                }
            }
        }
        if changed > 0 {
            cx.store.commit(ws).await?;
        }
        done.rows += changed;
        match found.last() {
            Some(last) if found.len() == usize::try_from(ROWS).unwrap_or(usize::MAX) => {
                last.credential_id.as_str().clone_into(&mut after);
            }
            _ => return Ok(done),
        }
    }
}
