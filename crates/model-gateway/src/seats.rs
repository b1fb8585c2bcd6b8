//! Connections, each counted for the sandbox that has proved itself on it, so that one leaves room for the others.

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
    /// Forwarders prove themselves with the first request, at once: who only holds connections open keeps nobody out.
    unproved: Unproved,
}

/// One connection; goes along with its requests.
pub(crate) struct Seat {
    held: Shares<String>,
    settings: Settings,
    /// Told when it has proved whose it is.
    proved: Notify,
    slot: OnceLock<Share<String>>,
}

impl Seats {
    /// A new connection; the other part completes when it is to be dropped.
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

/// Counts the connection of a request whose token and proof were accepted for its sandbox, or for `session` where there is
/// no forwarder. Nothing for requests that came over none.
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
    // Of two requests of one connection at once the second one's slot ends here.
    let _ = seat.slot.set(slot);
    seat.proved.notify_one();
    Ok(())
}
