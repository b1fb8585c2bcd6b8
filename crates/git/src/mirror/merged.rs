//! What a work has merged from other branches of the repository, so that it is not counted as the work's own.

use std::collections::HashSet;

use super::diff::empty_tree;
use super::{Mirror, Revision};
use crate::{BranchName, CommitId, GitError, GitErrorKind, Result};

/// Most merges that are followed; with more, everything counts as the work's own.
const MAX_POINTS: usize = 10;
/// Most commits at which the work's own history meets the repository's.
const MAX_BOUNDARIES: usize = 200;

/// Committers in sandboxes: agents, and the script that hands over what they have not committed.
const OWN: [&str; 2] = [crate::AGENT_EMAIL, "foundry@localhost"];

/// What came from one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// A branch that contains the commit.
    pub branch: BranchName,
    /// The newest commit of it that is part of the work.
    pub commit: CommitId,
    /// Files that came with it.
    pub files: u64,
}

/// Where a work was published. Its own commits there were made by Foundry with the user's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedWork {
    /// The branch of the remote that it was pushed to.
    pub branch: BranchName,
    /// The commit that the branch was brought to.
    pub commit: CommitId,
}

/// The base of a work together with everything that was merged into the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedBase {
    /// The commit to compare the work with.
    pub commit: CommitId,
    /// What it contains besides the base; never empty.
    pub merged: Vec<Merged>,
}

impl Mirror {
    /// The base with what the work has merged from the mirror's branches, and from those that it had at an earlier
    /// import (`known`, branch and commit), whatever became of them; none when that is nothing, or when it cannot be
    /// separated because base and branch are in conflict. Commits made in sandboxes are the work's own, also once a
    /// branch contains them; so is what was published of the work, and what others add to the branches that have it.
    ///
    /// A work on a branch of the remote (`own`) that has taken this as it is now is compared with that: a restack, or a push
    /// by force, has made the commits of the base again, and both together would be in conflict.
    pub async fn merged_base(
        &self,
        base: &CommitId,
        head: &CommitId,
        known: &[(BranchName, CommitId)],
        published: &[PublishedWork],
        own: Option<&BranchName>,
    ) -> Result<Option<MergedBase>> {
        let known = self.present(known).await?;
        let points = self.merged_points(base, head, &known, published).await?;
        if points.is_empty() || points.len() > MAX_POINTS {
            return Ok(None);
        }
        let mut found = Vec::new();
        for point in points {
            let branch = match self.branch_with(&point, own, &known).await? {
                Some(branch) => Some(branch),
                None => self.known_with(&point, &known).await?,
            };
            found.extend(branch.map(|branch| (branch, point)));
        }
        // It takes the place of the base, so it comes first.
        found.sort_by_key(|(branch, _)| Some(branch) != own);
        let (mut commit, mut merged) = (base.clone(), Vec::new());
        for (branch, point) in found {
            let next = match merged.is_empty() && Some(&branch) == own {
                true => point.clone(),
                false => match self.merge(&commit, &point).await? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
            let files = self.diff_stat(&commit, &next).await?.len() as u64;
            merged.push(Merged { branch, commit: point, files });
            commit = next;
        }
        Ok((!merged.is_empty()).then_some(MergedBase { commit, merged }))
    }

    /// The base with these commits merged into it, one after another; none when that ends in a conflict. From the
    /// commits of [`Mirror::merged_base`] it is the same commit, whatever became of their branches; where the first of them is
    /// of the branch that the work is on, that is the base.
    pub async fn merged_base_of(&self, base: &CommitId, points: &[CommitId]) -> Result<Option<CommitId>> {
        let mut commit = base.clone();
        for point in points {
            let Some(next) = self.merge(&commit, point).await? else { return Ok(None) };
            commit = next;
        }
        Ok(Some(commit))
    }

    /// Those whose commits the mirror still has: nothing keeps one that the work has dropped.
    async fn present(&self, known: &[(BranchName, CommitId)]) -> Result<Vec<(BranchName, CommitId)>> {
        let mut present = Vec::new();
        for (branch, commit) in known {
            match self.resolve(&Revision::Commit(commit.clone())).await {
                Ok(_) => present.push((branch.clone(), commit.clone())),
                Err(e) if e.kind() == GitErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(present)
    }

    /// The branch of an earlier import that contained the commit.
    async fn known_with(
        &self,
        commit: &CommitId,
        known: &[(BranchName, CommitId)],
    ) -> Result<Option<BranchName>> {
        for (branch, tip) in known {
            if self.is_ancestor(commit, tip).await? {
                return Ok(Some(branch.clone()));
            }
        }
        Ok(None)
    }

    /// The commits of branches that the history of the work contains and its base does not, without their ancestors.
    async fn merged_points(
        &self,
        base: &CommitId,
        head: &CommitId,
        known: &[(BranchName, CommitId)],
        published: &[PublishedWork],
    ) -> Result<Vec<CommitId>> {
        let mut of_work = Vec::new();
        for published in published {
            if let Ok(tip) = self.resolve(&Revision::Branch(published.branch.clone())).await
                && self.is_ancestor(&published.commit, &tip).await?
            {
                of_work.push(format!("--exclude={}", published.branch));
            }
        }
        let listed = self
            .command("rev-list")
            .args(["--boundary", head.as_str(), "--not", base.as_str()])
            .args(of_work)
            .args(["--branches"])
            .args(known.iter().map(|(_, commit)| commit.as_str()))
            .limits(self.local(64 << 20))
            .run()
            .await?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        let mut meets: HashSet<&str> = listed.lines().filter_map(|line| line.strip_prefix('-')).collect();
        if listed.trim().is_empty() {
            meets.insert(head.as_str());
        }
        meets.remove(base.as_str());
        for published in published {
            meets.remove(published.commit.as_str());
        }
        if meets.is_empty() || meets.len() > MAX_BOUNDARIES {
            return Ok(Vec::new());
        }
        // With the base among them, its ancestors go too.
        let newest = self
            .command("merge-base")
            .args(["--independent", base.as_str()])
            .args(&meets)
            .limits(self.local(1 << 20))
            .run()
            .await?;
        let newest = String::from_utf8_lossy(&newest.stdout);
        let newest: Vec<&str> = newest.lines().filter(|id| *id != base.as_str()).collect();
        if newest.is_empty() {
            return Ok(Vec::new());
        }
        let committers = self
            .command("log")
            .args(["--no-walk=unsorted", "--format=%H %ce"])
            .args(&newest)
            .limits(self.local(1 << 20))
            .run()
            .await?;
        let committers = String::from_utf8_lossy(&committers.stdout);
        let foreign =
            committers.lines().filter_map(|line| line.split_once(' ')).filter(|(_, who)| !OWN.contains(who));
        foreign.map(|(id, _)| CommitId::parse(id)).collect()
    }

    /// The branch at a commit, or else the first one that contains it. That of the work is asked for first, and where others
    /// contain the commit too, it is theirs.
    async fn branch_with(
        &self,
        commit: &CommitId,
        own: Option<&BranchName>,
        known: &[(BranchName, CommitId)],
    ) -> Result<Option<BranchName>> {
        let mut of_own = None;
        if let Some(own) = own {
            let tip = self.resolve(&Revision::Branch(own.clone())).await.ok();
            if tip.as_ref() == Some(commit) || known.iter().any(|(b, c)| b == own && c == commit) {
                return Ok(Some(own.clone()));
            }
            if let Some(tip) = tip
                && self.is_ancestor(commit, &tip).await?
            {
                of_own = Some(own.clone());
            }
        }
        for which in ["--points-at", "--contains"] {
            let found = self
                .command("for-each-ref")
                .args(["--count=50", "--format=%(refname:lstrip=2)", which, commit.as_str(), "refs/heads/"])
                .run()
                .await?;
            let found = String::from_utf8_lossy(&found.stdout);
            let mut named = found.lines().filter_map(|name| BranchName::parse(name).ok());
            if let Some(branch) = named.find(|branch| Some(branch) != own) {
                return Ok(Some(branch));
            }
        }
        Ok(of_own)
    }

    /// A commit with the merge of two; none when they are in conflict. It has no ref: it is compared with at once.
    async fn merge(&self, ours: &CommitId, theirs: &CommitId) -> Result<Option<CommitId>> {
        if self.is_ancestor(ours, theirs).await? {
            return Ok(Some(theirs.clone()));
        }
        let merged = self
            .command("merge-tree")
            // No attribute of the work applies.
            .env("GIT_ATTR_SOURCE", empty_tree(ours))
            .args(["--write-tree", "--no-messages"])
            .operands([ours.as_str(), theirs.as_str()])
            .limits(self.local(64 << 20))
            .run_any()
            .await?;
        match merged.code {
            0 => {}
            1 => return Ok(None),
            _ => return Err(GitError::from_exit("merge-tree", "failed", merged.stderr)),
        }
        let tree = CommitId::parse(String::from_utf8_lossy(&merged.stdout).trim())?;
        let mut commit = self.command("commit-tree");
        for (name, email, date) in [
            ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE"),
            ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE"),
        ] {
            commit = commit.env(name, "Foundry").env(email, "foundry@localhost").env(date, "@0 +0000");
        }
        let commit = commit
            .args(["-p", ours.as_str(), "-p", theirs.as_str(), "-m", "Merged"])
            .operands([tree.as_str()])
            .run()
            .await?;
        let commit = CommitId::parse(String::from_utf8_lossy(&commit.stdout).trim())?;
        self.resolve(&Revision::Commit(commit)).await.map(Some)
    }
}
