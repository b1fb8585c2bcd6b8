//! Pull requests at the hosts of repositories: GitHub, GitLab, and Gitea or Forgejo behind one small trait.
//!
//! Every call goes through [`Forges`]: one client with the operator's proxy and certificates, no redirects, bounded in
//! time and size. A host that is built in is reached only at public addresses; one that the operator names, wherever it
//! is. The credential is in one header of each call, and is taken out of every text that a host sends back.

mod app;
mod channel;
mod error;
mod gitea;
mod github;
mod gitlab;
mod host;
mod pull_request;

use std::sync::Arc;

use async_trait::async_trait;
use foundry_core::Clock;
use foundry_secrets::Secret;

pub use app::{AppInstallation, InstallationToken, is_app_key};
use channel::Channel;
pub use channel::{Budget, Forges, LONGEST_WAIT};
pub use error::{ForgeError, ForgeErrorKind};
pub use host::{ForgeHost, ForgeHosts, ForgeKind, HostError, Place};
pub use pull_request::{
    Changed, Checks, ChecksState, Facts, Given, Known, NewPullRequest, Page, PullRequest, Remark, Review,
    State,
};

/// A result with this crate's error.
pub type Result<T, E = ForgeError> = std::result::Result<T, E>;

/// Pull requests on one page of a list.
pub const PAGE: usize = 100;

/// Most checks on pages that are not read that are counted.
const MAX_UNREAD: usize = 1_000;

/// Most pages of checks of one pull request that are read.
const MAX_CHECK_PAGES: usize = 10;

/// The pull requests of one repository at its host.
#[async_trait]
pub trait Forge: Send + Sync {
    /// The open pull requests of a branch of the repository.
    async fn find(&self, branch: &str) -> Result<Vec<PullRequest>>;

    /// Pull requests of a branch of the repository that are merged or closed, as far as one call finds them.
    async fn find_ended(&self, branch: &str) -> Result<Vec<PullRequest>>;

    /// Creates a pull request. A host refuses a second open one for the same branch and base.
    async fn create(&self, new: &NewPullRequest) -> Result<PullRequest>;

    /// Gives a pull request this title and text; an empty one leaves what it has.
    async fn update(&self, number: u64, title: &str, body: &str) -> Result<PullRequest>;

    /// Reads one pull request.
    async fn read(&self, number: u64) -> Result<PullRequest>;

    /// Its checks and reviews. `known` is what the last call has returned, if it was for the same pull request.
    async fn facts(&self, pull_request: &PullRequest, known: &Known) -> Result<Facts>;

    /// Whether any pull request has changed since a call that returned `mark`. The answer may be yes although nothing
    /// has; checks and reviews do not count.
    async fn changed(&self, mark: &str) -> Result<Changed>;

    /// A page of the open pull requests, from 1, the last changed first.
    async fn list_open(&self, page: u32) -> Result<Page>;

    /// What the host has said about how many more calls it answers.
    fn budget(&self) -> Budget;
}

/// The pull request of a branch: the open one, with the title and text that were given, or a new one. May be called again
/// after a call whose end is not known: there is one pull request then, too, also if people have merged or closed it since;
/// that one is known by the mark in its text. One that has the mark is left as people have it by now.
///
/// Also returns whether it was made for what the mark names, by this call or an earlier one.
///
/// # Errors
/// What the host says.
pub async fn find_or_create(
    forge: &dyn Forge,
    new: &NewPullRequest,
    given: Given,
) -> Result<(PullRequest, bool)> {
    if let Some(found) = open(forge, new, given).await? {
        return Ok(found);
    }
    if !new.mark.is_empty() {
        let ended = forge.find_ended(&new.head).await?;
        if let Some(ended) = ended.into_iter().find(|p| is_own(p, new)) {
            return Ok((ended, true));
        }
    }
    let marked = NewPullRequest { body: marked(&new.body, &new.mark), ..new.clone() };
    match forge.create(&marked).await {
        Ok(created) => Ok((created, true)),
        // Somebody else may have been faster.
        Err(e) if e.kind() == ForgeErrorKind::Rejected => open(forge, new, given).await?.ok_or(e),
        Err(e) => Err(e),
    }
}

/// The open pull request of the branch, adopted unless an earlier call has made it.
async fn open(forge: &dyn Forge, new: &NewPullRequest, given: Given) -> Result<Option<(PullRequest, bool)>> {
    let found = forge.find(&new.head).await?;
    // It was made with what was given, and people may have written there since.
    if let Some(own) = found.iter().find(|p| is_own(p, new)) {
        return Ok(Some((own.clone(), true)));
    }
    match meant(found, new, given) {
        Some(found) => Ok(Some((adopt(forge, found, new, given).await?, false))),
        None => Ok(None),
    }
}

fn is_own(found: &PullRequest, new: &NewPullRequest) -> bool {
    !new.mark.is_empty() && found.body.contains(&new.mark)
}

/// The newest one of the same base; without one, the only one, if somebody may have chosen another base for it.
fn meant(found: Vec<PullRequest>, new: &NewPullRequest, given: Given) -> Option<PullRequest> {
    let (same, mut others): (Vec<_>, Vec<_>) = found.into_iter().partition(|p| p.base == new.base);
    let other = if given.base || others.len() > 1 { None } else { others.pop() };
    same.into_iter().max_by_key(|p| p.number).or(other)
}

/// What people have written there stays, unless something else was given.
async fn adopt(
    forge: &dyn Forge,
    found: PullRequest,
    new: &NewPullRequest,
    given: Given,
) -> Result<PullRequest> {
    let title = if given.title && new.title != found.title { new.title.as_str() } else { "" };
    let (text, mark) = unmarked(&found.body);
    let body = if given.body && new.body != text { marked(&new.body, mark) } else { String::new() };
    if title.is_empty() && body.is_empty() {
        Ok(found)
    } else {
        forge.update(found.number, title, &body).await
    }
}

/// The beginning of a mark, which Markdown does not show.
const MARK: &str = "<!-- foundry ";

/// The mark of a pull request that is created for something with this id.
pub fn mark(id: &str) -> String {
    format!("{MARK}{id} -->")
}

/// A text with a mark at its end.
fn marked(text: &str, mark: &str) -> String {
    match (text, mark) {
        (text, "") => text.to_owned(),
        ("", mark) => mark.to_owned(),
        (text, mark) => format!("{text}\n\n{mark}"),
    }
}

/// A text and its mark; empty = it has none.
pub fn unmarked(text: &str) -> (&str, &str) {
    match text.rfind(MARK) {
        Some(at) if text[at..].trim_end().ends_with("-->") => (text[..at].trim_end(), text[at..].trim_end()),
        _ => (text, ""),
    }
}

impl Forges {
    /// The forge of a repository, with the credential for it.
    pub fn open(self: &Arc<Self>, place: &Place, token: Secret, clock: Arc<dyn Clock>) -> Box<dyn Forge> {
        let channel = Channel::new(Arc::clone(self), place, token, clock);
        match place.kind {
            ForgeKind::GitHub => Box::new(github::GitHub::new(channel, &place.path)),
            ForgeKind::GitLab => Box::new(gitlab::GitLab::new(channel, &place.path)),
            ForgeKind::Gitea => Box::new(gitea::Gitea::new(channel, &place.path)),
        }
    }
}
