//! The revocations in force. The feed writes them, from a watch on the auth service; every service queries them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use foundry_core::{OrganizationId, Timestamp, UserId};
use tokio::sync::watch;

use crate::{Caller, TokenError, UserCaller};

/// How long changes are accepted and streams continue without the feed.
const FEED_GRACE: Duration = Duration::from_secs(60);

/// Key of a revoked session or personal access token.
pub fn credential_key(credential_id: &str) -> String {
    format!("credential/{credential_id}")
}

/// Key of a lost membership: tokens issued before no longer give access to the organization.
pub fn membership_key(user: &UserId, organization: &OrganizationId) -> String {
    format!("membership/{user}/{organization}")
}

/// Key of a new or changed role: tokens issued before must be renewed, and streams opened by them in this organization
/// end, so that they are opened again by what holds now.
pub fn role_key(user: &UserId, organization: &OrganizationId) -> String {
    format!("role/{user}/{organization}")
}

#[derive(Default)]
struct State {
    credentials: HashSet<String>,
    /// By user id: organization id and revision.
    memberships: HashMap<String, Vec<(String, i64)>>,
    roles: HashMap<String, Vec<(String, i64)>>,
    loaded: bool,
    lost_at: Option<Timestamp>,
}

/// The revocations in force; cloning shares them.
#[derive(Clone)]
pub struct Revocations {
    state: Arc<RwLock<State>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new()
    }
}

impl Revocations {
    /// Not loaded yet: users are refused as unverifiable until the first snapshot.
    pub fn new() -> Self {
        Self { state: Arc::default(), changed: Arc::new(watch::channel(0).0) }
    }

    /// Loaded and empty, for tests and tools.
    pub fn none() -> Self {
        let it = Self::new();
        it.replace(std::iter::empty());
        it
    }

    /// Replaces the whole state by the entries of a snapshot: keys with their revisions.
    pub fn replace<'a>(&self, entries: impl IntoIterator<Item = (&'a str, i64)>) {
        self.write(|state| {
            *state = State { loaded: true, ..State::default() };
            for (key, version) in entries {
                state.add(key, version);
            }
        });
    }

    /// Adds a new or changed revocation.
    pub fn add(&self, key: &str, version: i64) {
        self.write(|state| state.add(key, version));
    }

    /// Removes a revocation; all tokens it concerned have expired.
    pub fn forget(&self, key: &str) {
        self.write(|state| state.forget(key));
    }

    /// Records that the feed is connected again.
    pub fn feed_restored(&self) {
        if self.read(|s| s.lost_at.is_some()) {
            self.write(|state| state.lost_at = None);
        }
    }

    /// Records that the feed is lost since `now`; an earlier loss is kept.
    pub fn feed_lost(&self, now: Timestamp) {
        self.write(|state| {
            state.lost_at.get_or_insert(now);
        });
    }

    /// Waits for the first snapshot.
    pub async fn loaded(&self) {
        let mut changed = self.subscribe();
        while !self.read(|s| s.loaded) {
            // The sender is a field of `self`, so this does not happen.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether a snapshot was read.
    pub fn is_loaded(&self) -> bool {
        self.read(|s| s.loaded)
    }

    /// Since when the feed is lost, once that is so long that nothing may be changed any more.
    pub fn stale_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.lost_at().filter(|lost| now.since(*lost) >= FEED_GRACE)
    }

    pub(crate) fn lost_at(&self) -> Option<Timestamp> {
        self.read(|s| s.lost_at)
    }

    pub(crate) fn grace_end(lost_at: Timestamp) -> Timestamp {
        lost_at.plus(FEED_GRACE)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether the credential is not revoked.
    pub(crate) fn allows_credential(&self, credential_id: &str) -> bool {
        self.read(|s| !s.credentials.contains(credential_id))
    }

    /// Whether the user lost this membership after its token was issued.
    pub(crate) fn left(&self, user: &UserCaller, organization: &OrganizationId) -> bool {
        self.read(|s| newer(&s.memberships, user, |o| o == organization.as_str()))
    }

    /// Whether the role of this membership changed after the user's token was issued.
    pub(crate) fn role_changed(&self, user: &UserCaller, organization: &OrganizationId) -> bool {
        self.read(|s| newer(&s.roles, user, |o| o == organization.as_str()))
    }

    /// The caller as of now: without the memberships it lost since its token was issued.
    ///
    /// # Errors
    /// [`TokenError::Revoked`] for a revoked credential or a lowered role,
    /// [`TokenError::Unverifiable`] before the first snapshot.
    pub fn apply(&self, caller: Caller) -> Result<Caller, TokenError> {
        let Some(user) = caller.as_user() else { return Ok(caller) };
        let lost = self.read(|s| {
            if !s.loaded {
                return Err(TokenError::Unverifiable("the revocations cannot be read"));
            }
            if s.credentials.contains(&user.credential_id)
                || newer(&s.roles, user, |o| user.organizations.keys().any(|k| k.as_str() == o))
            {
                return Err(TokenError::Revoked);
            }
            Ok(newer(&s.memberships, user, |o| user.organizations.keys().any(|k| k.as_str() == o)))
        })?;
        if !lost {
            return Ok(caller);
        }
        let mut user = user.clone();
        let keep: Vec<_> = user.organizations.keys().filter(|o| !self.left(&user, o)).cloned().collect();
        user.organizations.retain(|o, _| keep.contains(o));
        Ok(Caller::user(user))
    }

    /// Whether a token issued now would differ: a membership of the user changed, or its credential was revoked. A
    /// holder of tokens for callers, such as the gateway, then exchanges its credential again.
    pub fn needs_renewal(&self, user: &UserCaller) -> bool {
        self.read(|s| {
            s.credentials.contains(&user.credential_id)
                || newer(&s.memberships, user, |_| true)
                || newer(&s.roles, user, |_| true)
        })
    }

    /// Completes once [`Revocations::needs_renewal`] holds for the user. Safe to drop at any time.
    pub async fn renewal_needed(&self, user: &UserCaller) {
        let mut changed = self.subscribe();
        while !self.needs_renewal(user) {
            // The sender is a field of `self`, so this does not happen.
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        // Every change to the state leaves it whole, so a poisoned lock still guards good data.
        f(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, f: impl FnOnce(&mut State)) {
        f(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|n| *n += 1);
    }
}

/// Whether the user has an entry, newer than its token, for an organization that `of_interest` accepts.
fn newer(
    entries: &HashMap<String, Vec<(String, i64)>>,
    user: &UserCaller,
    of_interest: impl Fn(&str) -> bool,
) -> bool {
    entries
        .get(user.user_id.as_str())
        .is_some_and(|list| list.iter().any(|(o, rev)| *rev > user.revocations_rev && of_interest(o)))
}

enum Key<'a> {
    Credential(&'a str),
    Membership(&'a str, &'a str),
    Role(&'a str, &'a str),
}

impl<'a> Key<'a> {
    fn parse(key: &'a str) -> Option<Self> {
        let (kind, rest) = key.split_once('/')?;
        match kind {
            "credential" => Some(Self::Credential(rest)),
            "membership" => rest.split_once('/').map(|(u, o)| Self::Membership(u, o)),
            "role" => rest.split_once('/').map(|(u, o)| Self::Role(u, o)),
            _ => None,
        }
    }
}

impl State {
    fn add(&mut self, key: &str, version: i64) {
        match Key::parse(key) {
            Some(Key::Credential(id)) => {
                self.credentials.insert(id.to_owned());
            }
            Some(Key::Membership(u, o)) => put(&mut self.memberships, u, o, version),
            Some(Key::Role(u, o)) => put(&mut self.roles, u, o, version),
            // A newer auth service may have kinds of revocations that this version does not support.
            None => tracing::warn!(key, "unknown kind of revocation"),
        }
    }

    fn forget(&mut self, key: &str) {
        match Key::parse(key) {
            Some(Key::Credential(id)) => {
                self.credentials.remove(id);
            }
            Some(Key::Membership(u, o)) => drop_entry(&mut self.memberships, u, o),
            Some(Key::Role(u, o)) => drop_entry(&mut self.roles, u, o),
            None => {}
        }
    }
}

fn put(entries: &mut HashMap<String, Vec<(String, i64)>>, user: &str, organization: &str, version: i64) {
    let list = entries.entry(user.to_owned()).or_default();
    list.retain(|(o, _)| o != organization);
    list.push((organization.to_owned(), version));
}

fn drop_entry(entries: &mut HashMap<String, Vec<(String, i64)>>, user: &str, organization: &str) {
    if let Some(list) = entries.get_mut(user) {
        list.retain(|(o, _)| o != organization);
        if list.is_empty() {
            entries.remove(user);
        }
    }
}
