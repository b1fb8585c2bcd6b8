//! Connections that have not yet proved their sandbox. All sandboxes share one socket: a sandbox that holds many open
//! must not push out the connection of another, which is proved at once.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;

use crate::peer::Peer;

/// Beyond this number, the oldest connection of the sandbox with the most is dropped.
const MAX_UNPROVED: usize = 128;

/// All unproved connections of a socket, the oldest first.
#[derive(Debug, Default)]
pub struct Unproved(VecDeque<(Peer, oneshot::Sender<()>)>);

impl Unproved {
    /// Adds a connection. The receiver completes with an error when the connection must be dropped; drop the receiver
    /// once the connection is proved or closed.
    pub fn add(&mut self, peer: Peer) -> oneshot::Receiver<()> {
        let (dropped, given_up) = oneshot::channel();
        self.0.push_back((peer, dropped));
        if self.0.len() > MAX_UNPROVED {
            self.0.retain(|(_, dropped)| !dropped.is_closed());
        }
        if self.0.len() > MAX_UNPROVED {
            self.drop_one();
        }
        given_up
    }

    fn drop_one(&mut self) {
        let mut counts: HashMap<&Peer, usize> = HashMap::new();
        for (peer, _) in &self.0 {
            *counts.entry(peer).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let oldest = self.0.iter().position(|(peer, _)| counts.get(peer) == Some(&most));
        if let Some(at) = oldest {
            self.0.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_holds_many_open_pushes_out_its_own_and_no_other() {
        let mut unproved = Unproved::default();
        let mut honest = unproved.add(Peer::User(1));
        let mut flood: Vec<_> = (0..1_000).map(|_| unproved.add(Peer::User(2))).collect();
        let mut late = unproved.add(Peer::Network("net:[5]".to_owned()));
        let open = |r: &mut oneshot::Receiver<()>| r.try_recv() == Err(oneshot::error::TryRecvError::Empty);
        assert!(open(&mut honest) && open(&mut late));
        let kept = flood.iter_mut().map(open).filter(|o| *o).count();
        assert_eq!((kept, unproved.0.len()), (MAX_UNPROVED - 2, MAX_UNPROVED));
        assert!(open(&mut flood[999]), "the newest are kept");
    }

    #[test]
    fn what_is_proved_or_gone_takes_no_room() {
        let mut unproved = Unproved::default();
        let first = unproved.add(Peer::User(1));
        for _ in 0..1_000 {
            drop(unproved.add(Peer::User(1)));
        }
        let mut first = first;
        assert_eq!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }
}
