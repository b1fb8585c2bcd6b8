//! The commits of many branches that a base does not contain, read at once and held compactly.

use std::collections::HashMap;

use super::Mirror;
use crate::{CommitId, GitError, Result};

/// An object id of either format.
type Key = [u8; 32];

/// A graph of commits: those that a base does not contain, and the first ones behind them that it does.
#[derive(Debug, Default)]
pub struct History {
    nodes: HashMap<Key, u32>,
    ids: Vec<Key>,
    /// The parents of each commit; none for one that the base contains.
    parents: Vec<Vec<u32>>,
    inside: Vec<bool>,
    is_sha256: bool,
}

impl History {
    /// The number of a commit that is in the graph.
    pub fn find(&self, commit: &CommitId) -> Option<u32> {
        self.nodes.get(&key(commit.as_str())?).copied()
    }

    /// The commit with this number.
    ///
    /// # Errors
    /// When the graph has no such number.
    pub fn commit(&self, node: u32) -> Result<CommitId> {
        let id = self.ids.get(node as usize).map(hex::encode).unwrap_or_default();
        CommitId::parse(if self.is_sha256 { &id } else { id.get(..40).unwrap_or_default() })
    }

    /// Whether the base does not contain the commit.
    pub fn is_inside(&self, node: u32) -> bool {
        self.inside.get(node as usize).copied().unwrap_or_default()
    }

    /// Its parents, those that the base contains too.
    pub fn parents(&self, node: u32) -> &[u32] {
        self.parents.get(node as usize).map_or(&[], Vec::as_slice)
    }

    /// One more than the largest number in the graph.
    pub fn size(&self) -> usize {
        self.ids.len()
    }

    /// Adds a commit that the base does not contain.
    ///
    /// # Errors
    /// When the ids are too many for the numbers of the graph.
    pub fn add(&mut self, commit: &str, parents: &[&str]) -> Result<()> {
        let node = self.node(commit)?;
        let parents = parents.iter().map(|p| self.node(p)).collect::<Result<Vec<_>>>()?;
        let at = node as usize;
        if let (Some(p), Some(i)) = (self.parents.get_mut(at), self.inside.get_mut(at)) {
            (*p, *i) = (parents, true);
        }
        Ok(())
    }

    fn node(&mut self, commit: &str) -> Result<u32> {
        let key = key(commit).ok_or_else(|| GitError::failed("unexpected output of git rev-list"))?;
        if let Some(node) = self.nodes.get(&key) {
            return Ok(*node);
        }
        let node = u32::try_from(self.ids.len()).map_err(|_| GitError::failed("too many commits"))?;
        self.nodes.insert(key, node);
        self.ids.push(key);
        self.parents.push(Vec::new());
        self.inside.push(false);
        self.is_sha256 = commit.len() == 64;
        Ok(node)
    }
}

fn key(commit: &str) -> Option<Key> {
    let mut key = [0; 32];
    let bytes = commit.len() / 2;
    hex::decode_to_slice(commit, key.get_mut(..bytes)?).ok()?;
    Some(key)
}

impl Mirror {
    /// The commits of these histories that the base does not contain, at most `most`.
    ///
    /// # Errors
    /// `GIT_TOO_LARGE` when there are more.
    pub async fn history_without(
        &self,
        heads: &[CommitId],
        base: Option<&CommitId>,
        most: usize,
    ) -> Result<History> {
        let mut input = String::with_capacity(heads.len() * 42);
        for head in heads {
            input.push_str(head.as_str());
            input.push('\n');
        }
        if let Some(base) = base {
            input.push('^');
            input.push_str(base.as_str());
            input.push('\n');
        }
        let mut history = History::default();
        if heads.is_empty() {
            return Ok(history);
        }
        let (mut rest, mut commits) = (Vec::new(), 0usize);
        let mut sink = |piece: &[u8]| {
            rest.extend_from_slice(piece);
            let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = rest.drain(..whole).collect();
            for line in String::from_utf8_lossy(&lines).lines() {
                let mut ids = line.split(' ');
                let commit = ids.next().unwrap_or_default();
                history.add(commit, &ids.collect::<Vec<_>>())?;
                commits += 1;
            }
            if commits > most {
                return Err(GitError::too_large("commits that only branches have", commits, most as u64));
            }
            Ok(())
        };
        let limits = self.local(u64::MAX);
        self.command("rev-list")
            .args(["--parents", "--stdin"])
            .stdin(input)
            .limits(limits)
            .stream(&mut sink)
            .await?;
        Ok(history)
    }

    /// How many commits one history has that another does not.
    pub async fn count_without(&self, of: &CommitId, without: &CommitId) -> Result<u64> {
        let input = format!("{of}\n^{without}\n");
        let out = self.command("rev-list").args(["--count", "--stdin"]).stdin(input).run().await?;
        let count = String::from_utf8_lossy(&out.stdout);
        count.trim().parse().map_err(|_| GitError::failed("unexpected output of git rev-list"))
    }
}
