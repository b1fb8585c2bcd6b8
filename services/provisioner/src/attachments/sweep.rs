//! The sweep: removes files that were never stored completely, that no message uses, or that somebody removed. It
//! marks the row, deletes the bytes, then the row, so that the next sweep can continue after a crash at any point.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Error;
use foundry_store::{CommitError, WriteSet};

use crate::domain::attachment::{Attachment, AttachmentState};
use crate::shared::Shared;
use crate::store::attachments;

/// Pause between two sweeps, unless one is requested.
const PAUSE: Duration = Duration::from_secs(300);
/// Files per query.
const AT_A_TIME: u32 = 100;

/// Sweeps in rounds, until the service stops.
pub async fn sweep_again(shared: Arc<Shared>) {
    let stop = shared.tasks.cancellation().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.attachments.sweep_requested.notified() => {}
            () = shared.env.clock.sleep(PAUSE) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            swept = sweep(&shared) => if let Err(e) = swept {
                tracing::warn!(error = %e, "attachments were not swept");
            },
        }
    }
}

/// Removes what is due; returns how many files.
///
/// # Errors
/// When the database fails; a file whose bytes cannot be deleted now is left to the next sweep.
pub async fn sweep(shared: &Shared) -> Result<usize, Error> {
    let mut removed = 0;
    loop {
        let due = attachments::expired(&shared.store, shared.env.clock.now(), AT_A_TIME).await?;
        let (found, before) = (due.len(), removed);
        for file in due {
            if remove(shared, &file).await? {
                removed += 1;
            }
        }
        // Without progress the rest is left to the next sweep.
        if found < AT_A_TIME as usize || removed == before {
            return Ok(removed);
        }
    }
}

async fn remove(shared: &Shared, file: &Attachment) -> Result<bool, Error> {
    if file.state != AttachmentState::Removing {
        let mut ws = WriteSet::new();
        attachments::remove(&mut ws, file, shared.env.clock.now());
        match shared.store.commit(ws).await {
            Ok(_) => {}
            // It has been put to use since.
            Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    if let Err(e) = shared.attachments.delete(&file.organization_id, &file.attachment_id).await {
        tracing::warn!(attachment = %file.attachment_id, error = ?e, "the bytes of an attachment were not deleted");
        return Ok(false);
    }
    let mut ws = WriteSet::new();
    attachments::delete(&mut ws, &file.attachment_id);
    match shared.store.commit(ws).await {
        // Another replica has deleted it.
        Ok(_) | Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) => Ok(true),
        Err(e) => Err(e.into()),
    }
}
