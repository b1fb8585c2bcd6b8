//! Connections, each counted for the sandbox that it was proved for, so that no sandbox takes them all.

use std::sync::{Arc, OnceLock};

use foundry_sandbox::{Peer, Share, Shares, Unproved};
use http::request::Parts;
use tokio::sync::Notify;

use crate::bodies::busy;
use crate::gateway::Settings;
use crate::proof::SandboxProof;
use crate::shape::Problem;

/// All connections of a listener.
#[derive(Default)]
pub(crate) struct ConnectionSlots {
    held: Shares<String>,
    /// Forwarders prove their sandbox with the first request, at once, so idle connections without a proof are the ones
    /// dropped.
    unproved: Unproved,
}

/// One connection; each of its requests carries it.
pub(crate) struct ConnectionSlot {
    held: Shares<String>,
    settings: Settings,
    /// Notified when its sandbox was proved.
    proved: Notify,
    share: OnceLock<Share<String>>,
}

impl ConnectionSlots {
    /// A new connection; the future completes when it must be dropped.
    pub(crate) fn open(
        &mut self,
        settings: &Settings,
        peer: Peer,
    ) -> (Arc<ConnectionSlot>, impl Future<Output = ()> + use<>) {
        let slot = Arc::new(ConnectionSlot {
            held: self.held.clone(),
            settings: settings.clone(),
            proved: Notify::new(),
            share: OnceLock::new(),
        });
        let (given_up, own) = (self.unproved.add(peer), Arc::clone(&slot));
        let dropped = async move {
            tokio::select! {
                biased;
                () = own.proved.notified() => {}
                _ = given_up => return,
            }
            std::future::pending().await
        };
        (slot, dropped)
    }
}

/// Counts the connection of a request whose token and proof were accepted for its sandbox, or for `session` where there
/// is no forwarder. Does nothing for requests without a connection.
pub(crate) fn take(parts: &Parts, session: &str) -> Result<(), Problem> {
    let Some(slot) = parts.extensions.get::<Arc<ConnectionSlot>>() else { return Ok(()) };
    if slot.share.get().is_some() {
        return Ok(());
    }
    let proof = SandboxProof::from_headers(&parts.headers).ok().flatten();
    let whose = proof.map_or_else(|| session.to_owned(), |proof| proof.sandbox);
    let Settings { connections: all, connections_of_sandbox: each, .. } = slot.settings;
    let share = slot.held.take(&whose, all, each);
    let share =
        share.ok_or_else(|| busy("the connection limit for this sandbox or for all sandboxes is reached"))?;
    // Of two parallel requests on one connection, the second one's share is dropped here.
    let _ = slot.share.set(share);
    slot.proved.notify_one();
    Ok(())
}
