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
pub(crate) struct Seats {
    held: Shares<String>,
    /// Forwarders prove their sandbox with the first request, at once, so idle connections without a proof are the ones
    /// dropped.
    unproved: Unproved,
}

/// One connection; each of its requests carries it.
pub(crate) struct Seat {
    held: Shares<String>,
    settings: Settings,
    /// Notified when its sandbox was proved.
    proved: Notify,
    slot: OnceLock<Share<String>>,
}

impl Seats {
    /// A new connection; the future completes when it must be dropped.
    pub(crate) fn seat(
        &mut self,
        settings: &Settings,
        peer: Peer,
    ) -> (Arc<Seat>, impl Future<Output = ()> + use<>) {
        let seat = Arc::new(Seat {
            held: self.held.clone(),
            settings: settings.clone(),
            proved: Notify::new(),
            slot: OnceLock::new(),
        });
        let (given_up, own) = (self.unproved.add(peer), Arc::clone(&seat));
        let dropped = async move {
            tokio::select! {
                biased;
                () = own.proved.notified() => {}
                _ = given_up => return,
            }
            std::future::pending().await
        };
        (seat, dropped)
    }
}

/// Counts the connection of a request whose token and proof were accepted for its sandbox, or for `session` where there
/// is no forwarder. Does nothing for requests without a connection.
pub(crate) fn take(parts: &Parts, session: &str) -> Result<(), Problem> {
    let Some(seat) = parts.extensions.get::<Arc<Seat>>() else { return Ok(()) };
    if seat.slot.get().is_some() {
        return Ok(());
    }
    let proof = SandboxProof::from_headers(&parts.headers).ok().flatten();
    let whose = proof.map_or_else(|| session.to_owned(), |proof| proof.sandbox);
    let Settings { connections: all, connections_of_sandbox: each, .. } = seat.settings;
    let slot = seat.held.take(&whose, all, each);
    let slot =
        slot.ok_or_else(|| busy("the connection limit for this sandbox or for all sandboxes is reached"))?;
    // Of two parallel requests on one connection, the second one's slot is dropped here.
    let _ = seat.slot.set(slot);
    seat.proved.notify_one();
    Ok(())
}
