//! Keys whose quota is used up: no call goes out while the reset is known and far; then a single one goes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foundry_core::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::access::Access;

/// A provider and key, without the key itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyName([u8; 32]);

impl KeyName {
    pub(crate) fn of(access: &Access) -> Self {
        let mut hash = Sha256::new();
        let place = access.base_url.as_str();
        for part in std::iter::once(place.into()).chain(access.secrets()) {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

#[derive(Default)]
struct Keys {
    held: HashMap<KeyName, Held>,
    /// How often providers were released, and the count at each provider's last release.
    count: u64,
    let_go: HashMap<String, u64>,
}

struct Held {
    provider: String,
    until: Timestamp,
    /// The probing call while it is in progress; its sender is dropped when the call ends.
    first: Option<watch::Receiver<()>>,
}

/// The keys that are held back.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Keys>>);

/// Whether a call may go out.
pub(crate) enum Admission {
    /// It may; the guard is set when it goes first.
    Go(Option<First>),
    /// Not before this time.
    Held(Timestamp),
    /// Another call goes first; wait for its end.
    Wait(watch::Receiver<()>),
}

/// The call that goes first after the reset. If it is dropped without a result, the next one goes first.
pub(crate) struct First {
    gate: Gate,
    key: KeyName,
    _ended: watch::Sender<()>,
}

impl Gate {
    pub(crate) fn admit(&self, key: KeyName, now: Timestamp) -> Admission {
        let mut keys = self.lock();
        let Some(held) = keys.held.get_mut(&key) else { return Admission::Go(None) };
        if held.until > now {
            return Admission::Held(held.until);
        }
        if let Some(first) = &held.first {
            return Admission::Wait(first.clone());
        }
        let (ended, first) = watch::channel(());
        held.first = Some(first);
        Admission::Go(Some(First { gate: self.clone(), key, _ended: ended }))
    }

    /// Allows no call before this time. `provider` is the name by which [`Gate::let_go`] finds the key.
    pub(crate) fn hold(&self, key: KeyName, provider: &str, until: Timestamp) {
        let mut keys = self.lock();
        let first = keys.held.remove(&key).and_then(|held| held.first);
        keys.held.insert(key, Held { provider: provider.to_owned(), until, first });
    }

    /// Whether the gate holds a quota of this key.
    pub(crate) fn knows(&self, key: KeyName) -> bool {
        self.lock().held.contains_key(&key)
    }

    /// Releases the key after a successful call, once the reset has come. A call that began before the quota was used
    /// up shows nothing about it. Returns whether the key was held.
    pub(crate) fn release(&self, key: KeyName, now: Timestamp) -> bool {
        let mut keys = self.lock();
        let due = keys.held.get(&key).is_some_and(|held| held.until <= now);
        due && keys.held.remove(&key).is_some()
    }

    /// Allows calls with the keys of a provider at once, as a user requested.
    pub(crate) fn let_go(&self, provider: &str) {
        let mut keys = self.lock();
        keys.held.retain(|_, held| held.provider != provider);
        keys.count += 1;
        let count = keys.count;
        keys.let_go.insert(provider.to_owned(), count);
    }

    /// How often providers were released so far.
    pub(crate) fn count(&self) -> u64 {
        self.lock().count
    }

    /// Whether a provider was released since [`Gate::count`] had this value.
    pub(crate) fn was_let_go(&self, provider: &str, since: u64) -> bool {
        self.lock().let_go.get(provider).is_some_and(|at| *at > since)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Keys> {
        // The map is whole after every change, so a panic leaves it usable.
        foundry_core::lock(&self.0)
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(held) = self.gate.lock().held.get_mut(&self.key) {
            held.first = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyName = KeyName([1; 32]);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn holds_until_the_time_and_then_lets_one_go_first() {
        let gate = Gate::default();
        assert!(matches!(gate.admit(KEY, at(0)), Admission::Go(None)));
        gate.hold(KEY, "p", at(100));
        assert!(matches!(gate.admit(KEY, at(99)), Admission::Held(until) if until == at(100)));
        assert!(matches!(gate.admit(KeyName([2; 32]), at(99)), Admission::Go(None)));
        let Admission::Go(Some(first)) = gate.admit(KEY, at(100)) else { panic!("nobody goes first") };
        let Admission::Wait(mut end) = gate.admit(KEY, at(100)) else { panic!("two go first") };
        assert!(gate.release(KEY, at(100)));
        drop(first);
        assert!(futures::executor::block_on(end.changed()).is_err());
        assert!(matches!(gate.admit(KEY, at(100)), Admission::Go(None)));
    }

    #[test]
    fn lets_the_next_one_go_first_when_the_first_one_learned_nothing() {
        let gate = Gate::default();
        gate.hold(KEY, "p", at(100));
        drop(gate.admit(KEY, at(100)));
        assert!(matches!(gate.admit(KEY, at(101)), Admission::Go(Some(_))));
    }

    #[test]
    fn holds_again_when_the_first_one_is_refused() {
        let gate = Gate::default();
        gate.hold(KEY, "p", at(100));
        let Admission::Go(Some(first)) = gate.admit(KEY, at(100)) else { panic!("nobody goes first") };
        gate.hold(KEY, "p", at(500));
        drop(first);
        assert!(matches!(gate.admit(KEY, at(101)), Admission::Held(until) if until == at(500)));
    }

    #[test]
    fn a_call_from_before_releases_nothing_and_a_person_does() {
        let gate = Gate::default();
        gate.hold(KEY, "p", at(100));
        assert!(!gate.release(KEY, at(99)), "what began before shows nothing");
        gate.let_go("other");
        assert!(gate.knows(KEY));
        gate.let_go("p");
        assert!(matches!(gate.admit(KEY, at(99)), Admission::Go(None)));
    }
}
