//! Deletes the events of released sessions: the task service has stored them as its transcript. Only once all are gone is
//! that noted, so that the next round goes on after a crash at any point.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Error, SessionId};
use foundry_store::{CommitError, WriteSet};

use crate::shared::Shared;
use crate::store::{events, sessions};

/// Pause between two rounds, unless one is requested.
const PAUSE: Duration = Duration::from_secs(300);
/// Sessions per query.
const AT_A_TIME: u32 = 100;

/// Deletes in rounds, the first one at once, until the service stops.
pub async fn reclaim_again(shared: Arc<Shared>) {
    let stop = shared.tasks.cancellation().clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            reclaimed = reclaim(&shared) => if let Err(e) = reclaimed {
                tracing::warn!(error = %e, "released events were not deleted; retrying");
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.reclaim_requested.notified() => {}
            () = shared.env.clock.sleep(PAUSE) => {}
        }
    }
}

/// Deletes the events of all released sessions; returns how many events.
///
/// # Errors
/// When the database fails.
pub async fn reclaim(shared: &Shared) -> Result<u64, Error> {
    let (mut gone, mut after) = (0, String::new());
    loop {
        let released = sessions::released(&shared.store, &after, AT_A_TIME).await?;
        let Some(last) = released.last() else { return Ok(gone) };
        after = last.to_string();
        for session in &released {
            gone += events::delete(&shared.store, session).await?;
            note(shared, session).await?;
        }
    }
}

async fn note(shared: &Shared, id: &SessionId) -> Result<(), Error> {
    let session = sessions::find(&shared.store, id).await;
    let mut ws = WriteSet::new();
    sessions::deleted(&mut ws, id);
    match shared.store.commit(ws).await {
        Ok(_) => {
            // One that cannot be decoded counts until the sums are read again.
            if let Ok(Some(session)) = session {
                shared.stored_output.add(&session, session.stored_bytes.saturating_neg());
            }
            Ok(())
        }
        // Another replica has noted it.
        Err(CommitError::GuardFailed { .. } | CommitError::Conflict { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
