//! A repository and the state of its mirror.

use foundry_core::{OrganizationId, RepositoryId, Timestamp};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1;

/// How far a mirror is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Registered; no mirror yet.
    Pending,
    /// Mirrored.
    Ready,
    /// Mirrored, and being brought up to date.
    Syncing,
    /// The last synchronization failed.
    Error,
    /// Being deleted.
    Deleting,
}

impl State {
    const ALL: [(Self, &'static str, v1::RepositoryState); 5] = [
        (Self::Pending, "pending", v1::RepositoryState::Pending),
        (Self::Ready, "ready", v1::RepositoryState::Ready),
        (Self::Syncing, "syncing", v1::RepositoryState::Syncing),
        (Self::Error, "error", v1::RepositoryState::Error),
        (Self::Deleting, "deleting", v1::RepositoryState::Deleting),
    ];

    /// As stored.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(s, ..)| *s == self).map_or("", |(_, text, _)| text)
    }

    /// From what is stored; unknown text of a newer binary reads as an error state.
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().find(|(_, t, _)| *t == text).map_or(Self::Error, |(s, ..)| *s)
    }

    fn to_proto(self) -> v1::RepositoryState {
        Self::ALL.iter().find(|(s, ..)| *s == self).map_or(v1::RepositoryState::Unspecified, |(.., p)| *p)
    }
}

/// A registered repository.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its id.
    pub repository_id: RepositoryId,
    /// Owner.
    pub organization_id: OrganizationId,
    /// Revision of its last change.
    pub rev: i64,
    /// Name.
    pub name: String,
    /// Where it is mirrored from.
    pub url: String,
    /// How far the mirror is.
    pub state: State,
    /// Why.
    pub condition: Condition,
    /// Branch that tasks start from; empty until mirrored.
    pub default_branch: String,
    /// Branches in the mirror.
    pub branch_count: i64,
    /// When the mirror was last brought up to date.
    pub sync_time: Option<Timestamp>,
    /// When it was registered.
    pub create_time: Timestamp,
    /// Whether another synchronization is to follow the running one.
    pub refresh_wanted: bool,
}

impl Repository {
    /// As callers see it.
    pub fn to_proto(&self) -> v1::Repository {
        v1::Repository {
            repository_id: self.repository_id.to_string(),
            organization_id: self.organization_id.to_string(),
            name: self.name.clone(),
            url: self.url.clone(),
            state: self.state.to_proto().into(),
            condition: Some(self.condition.clone()),
            default_branch: self.default_branch.clone(),
            branch_count: i32::try_from(self.branch_count).unwrap_or(i32::MAX),
            sync_time: self.sync_time.map(Timestamp::to_proto),
            create_time: Some(self.create_time.to_proto()),
        }
    }
}
