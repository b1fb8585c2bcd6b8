//! Connections, each counted for the sandbox that has proved itself on it, so that one leaves room for the others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::request::Parts;
use tokio::sync::oneshot;

use crate::bodies::busy;
use crate::gateway::Settings;
use crate::proof::SandboxProof;
use crate::shape::Problem;

/// Connections that have proved nothing. Beyond these the oldest is dropped: forwarders prove themselves with the first
/// request, at once, and a client that only holds connections open cannot keep them out.
const UNPROVED: usize = 128;

/// All connections of a listener.
#[derive(Default)]
pub(crate) struct Seats {
    held: Held,
    unproved: VecDeque<Arc<Seat>>,
}

/// One connection; goes along with its requests.
pub(crate) struct Seat {
    held: Held,
    settings: Settings,
    /// Told when the connection is to be dropped.
    given_up: Mutex<Option<oneshot::Sender<()>>>,
    slot: OnceLock<Slot>,
}

impl Seats {
    /// A new connection; the other part completes when it is to be dropped.
    pub(crate) fn seat(&mut self, settings: &Settings) -> (Arc<Seat>, oneshot::Receiver<()>) {
        let (given_up, dropped) = oneshot::channel();
        let seat = Arc::new(Seat {
            held: self.held.clone(),
            settings: settings.clone(),
            given_up: Mutex::new(Some(given_up)),
            slot: OnceLock::new(),
        });
        // Those that nobody else has are over.
        self.unproved.retain(|seat| Arc::strong_count(seat) > 1 && seat.slot.get().is_none());
        if self.unproved.len() >= UNPROVED
            && let Some(oldest) = self.unproved.pop_front()
        {
            oldest.give_up();
        }
        self.unproved.push_back(Arc::clone(&seat));
        (seat, dropped)
    }
}

impl Seat {
    fn give_up(&self) {
        let sender = self.given_up.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // A connection that has ended needs no word.
            let _ = sender.send(());
        }
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
    let slot = seat.held.take(&whose, &seat.settings);
    let slot =
        slot.ok_or_else(|| busy("this sandbox, or all together, have as many connections as they may"))?;
    // Of two requests of one connection at once the second one's slot ends here.
    let _ = seat.slot.set(slot);
    Ok(())
}

/// How many connections each sandbox has.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<HashMap<String, usize>>>);

/// The right to one connection; ends when it is dropped.
struct Slot {
    held: Held,
    sandbox: String,
}

impl Held {
    fn take(&self, sandbox: &str, settings: &Settings) -> Option<Slot> {
        let mut all = self.lock();
        let own = all.get(sandbox).copied().unwrap_or_default();
        let others = all.values().sum::<usize>() - own;
        let most = (settings.connections.saturating_sub(others) / 2).min(settings.connections_of_sandbox);
        if own >= most {
            return None;
        }
        all.insert(sandbox.to_owned(), own + 1);
        drop(all);
        Some(Slot { held: self.clone(), sandbox: sandbox.to_owned() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        // No panic can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut all = self.held.lock();
        match all.get_mut(&self.sandbox) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.sandbox)),
        }
    }
}
