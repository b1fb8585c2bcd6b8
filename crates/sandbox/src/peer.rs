//! The peer of a socket that all sandboxes of a host share, and the share that each peer may have.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::net::UnixStream;

/// Where a connection comes from, by the kernel's data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Another user: as root, we give each sandbox a user of its own, whatever namespaces it makes.
    User(u32),
    /// Another network of our own user: without root, sandboxes cannot make namespaces, and each has one network.
    Network(String),
    /// Our own user and our own network: such sandboxes are not isolated, so the kernel cannot distinguish them either.
    Ours,
    /// A process that has exited or cannot be inspected; never a runtime.
    Unknown,
}

impl Peer {
    /// The peer of a connection.
    pub fn of(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else { return Self::Unknown };
        if credentials.uid() != rustix::process::geteuid().as_raw() {
            return Self::User(credentials.uid());
        }
        let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        match credentials.pid().and_then(|pid| network(&pid.to_string())) {
            None => Self::Unknown,
            theirs if theirs == network("self") => Self::Ours,
            Some(theirs) => Self::Network(theirs.to_string_lossy().into_owned()),
        }
    }
}

/// The number of units that each owner holds. Clones share it.
#[derive(Debug)]
pub struct Shares<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// One unit; returned on drop.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    shares: Shares<K>,
    owner: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// One more unit for `owner` out of `all`: at most `each`, and never more than half of those still free, so that a
    /// few greedy owners leave room for the others.
    pub fn take(&self, owner: &K, all: usize, each: usize) -> Option<Share<K>> {
        let mut held = self.lock();
        let own = held.get(owner).copied().unwrap_or_default();
        let others = held.values().sum::<usize>() - own;
        if own >= (all.saturating_sub(others) / 2).min(each) {
            return None;
        }
        held.insert(owner.clone(), own + 1);
        drop(held);
        Some(Share { shares: self.clone(), owner: owner.clone() })
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // The map is whole after every change, so a panic leaves it usable.
        foundry_core::lock(&self.0)
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.shares.lock();
        match held.get_mut(&self.owner) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.owner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_room_for_others_whatever_one_takes() {
        let shares = Shares::default();
        let all =
            |name: &'static str| -> Vec<_> { std::iter::from_fn(|| shares.take(&name, 16, 100)).collect() };
        let (one, two, three) = (all("one"), all("two"), all("three"));
        assert_eq!((one.len(), two.len(), three.len()), (8, 4, 2));
        drop(one);
        assert_eq!(all("four").len(), 5);
        assert!(!shares.lock().contains_key("one"), "nothing is kept of who has nothing");
        let few: Vec<_> = std::iter::from_fn(|| shares.take(&"five", 1_000, 3)).collect();
        assert_eq!(few.len(), 3);
    }

    #[tokio::test]
    async fn knows_what_is_of_our_own_user_and_network() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&one), Peer::Ours);
    }
}
