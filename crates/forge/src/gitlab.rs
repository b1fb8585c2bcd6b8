//! GitLab.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::channel::{Channel, accepting};
use crate::pull_request::{is_program, written};
use crate::{
    Budget, Changed, Checks, Facts, Forge, ForgeErrorKind, Known, MAX_CHECK_PAGES, NewPullRequest, PAGE,
    Page, PullRequest, Remark, Result, Review, State,
};

/// What marks a merge request as not ready, at the beginning of its title.
const DRAFT: &str = "Draft: ";

/// The merge requests of a project at GitLab.
pub(crate) struct GitLab {
    channel: Channel,
    path: String,
    /// Who may push and who may not, of those that were asked for in this reading.
    members: Mutex<HashMap<u64, bool>>,
}

#[derive(Deserialize)]
struct MergeRequest {
    iid: u64,
    web_url: String,
    title: String,
    #[serde(default)]
    description: Option<String>,
    state: String,
    #[serde(default)]
    draft: bool,
    source_branch: String,
    target_branch: String,
    #[serde(default)]
    sha: Option<String>,
    source_project_id: Option<i64>,
    target_project_id: Option<i64>,
    #[serde(default)]
    reviewers: Vec<serde_json::Value>,
    #[serde(default)]
    author: Author,
}

#[derive(Serialize, Deserialize)]
struct CommitStatus {
    name: String,
    status: String,
    #[serde(default)]
    allow_failure: bool,
}

#[derive(Serialize, Deserialize)]
struct Reviewer {
    state: String,
    #[serde(default)]
    user: Author,
}

#[derive(Default, Serialize, Deserialize)]
struct Author {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    username: String,
}

#[derive(Serialize, Deserialize)]
struct Member {
    access_level: u32,
}

/// The lowest level of a member who may push.
const DEVELOPER: u32 = 30;
/// Most authors of one merge request of whom it is asked what they may do.
const MAX_ASKED: usize = 10;

/// Most pages of notes of one merge request that are read.
const MAX_NOTE_PAGES: usize = 5;

#[derive(Serialize, Deserialize)]
struct Note {
    id: u64,
    #[serde(default)]
    author: Author,
    #[serde(default, deserialize_with = "written")]
    body: String,
    #[serde(default)]
    system: bool,
    /// Whether it begins or is part of a thread that somebody can settle.
    #[serde(default)]
    resolvable: bool,
    #[serde(default)]
    resolved: bool,
    #[serde(default)]
    position: Option<Position>,
}

#[derive(Default, Serialize, Deserialize)]
struct Position {
    #[serde(default)]
    new_path: Option<String>,
    #[serde(default)]
    new_line: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Approvals {
    #[serde(default)]
    approved_by: Vec<Approval>,
    #[serde(default)]
    approvals_left: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct Approval {
    #[serde(default)]
    user: Author,
}

impl GitLab {
    pub(crate) fn new(channel: Channel, path: &str) -> Self {
        Self { channel, path: format!("/projects/{}", encoded(path)), members: Mutex::default() }
    }

    async fn found(&self, branch: &str, state: &str) -> Result<Vec<PullRequest>> {
        let path = format!(
            "{}/merge_requests?state={state}&source_branch={}&per_page={PAGE}",
            self.path,
            encoded(branch)
        );
        let found: Vec<MergeRequest> = self.channel.json(Method::GET, &path, None).await?;
        Ok(found.into_iter().map(shown).filter(|p| p.is_own && p.head == branch).collect())
    }

    async fn statuses(
        &self,
        commit: &str,
        known: &Known,
        now_known: &mut Known,
    ) -> Result<(Vec<CommitStatus>, usize)> {
        let mut all = Vec::new();
        for page in 1..=MAX_CHECK_PAGES {
            let path =
                format!("{}/repository/commits/{commit}/statuses?per_page={PAGE}&page={page}", self.path);
            let read: Vec<CommitStatus> = match self.channel.remembered(&path, known, now_known).await {
                Err(e) if e.kind() == ForgeErrorKind::NotFound => Vec::new(),
                read => read?,
            };
            let last = read.len() < PAGE;
            all.extend(read);
            if last {
                return Ok((all, 0));
            }
        }
        // The host does not say how many there are: behind the last page there may be one that runs.
        Ok((all, 1))
    }

    /// Those of some users who may push, but no programs: the notes of a project do not say it of their authors, its
    /// members do. Each is asked for once in a reading.
    async fn trusted(&self, users: &[&Author], known: &Known, now_known: &mut Known) -> Result<Vec<u64>> {
        let (mut trusted, mut asked) = (Vec::new(), 0);
        for user in users.iter().filter(|user| user.id > 0 && !is_program(&user.username)) {
            let path = format!("{}/members/all/{}", self.path, user.id);
            let may_push = match self.member(user.id) {
                Some(may_push) => {
                    now_known.carry(&path, known);
                    may_push
                }
                None if asked >= MAX_ASKED => continue,
                None => {
                    asked += 1;
                    let may_push = match self.channel.remembered::<Member>(&path, known, now_known).await {
                        Err(e)
                            if matches!(e.kind(), ForgeErrorKind::NotFound | ForgeErrorKind::Forbidden) =>
                        {
                            false
                        }
                        member => member?.access_level >= DEVELOPER,
                    };
                    self.members.lock().unwrap_or_else(PoisonError::into_inner).insert(user.id, may_push);
                    may_push
                }
            };
            trusted.extend(may_push.then_some(user.id));
        }
        Ok(trusted)
    }

    fn member(&self, id: u64) -> Option<bool> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// The newest that people have written and not settled, the oldest first. A thread that is settled is marked so; what
    /// cannot be is settled by the approval of its author.
    async fn notes(
        &self,
        number: u64,
        approvals: &Approvals,
        known: &Known,
        now_known: &mut Known,
    ) -> Result<Vec<Note>> {
        // What the host writes about pushes is among them: of 20, those would leave few.
        let first = format!(
            "{}/merge_requests/{number}/notes?sort=desc&order_by=created_at&per_page={PAGE}",
            self.path
        );
        let mut notes: Vec<Note> = Vec::new();
        for page in 1..=MAX_NOTE_PAGES {
            let path = if page == 1 { first.clone() } else { format!("{first}&page={page}") };
            let read: Vec<Note> = match self.channel.remembered(&path, known, now_known).await {
                Err(e) if matches!(e.kind(), ForgeErrorKind::NotFound | ForgeErrorKind::Forbidden) => {
                    Vec::new()
                }
                read => read?,
            };
            let last = read.len() < PAGE;
            notes.extend(read);
            if last {
                break;
            }
        }
        let approves = |who: &str| approvals.approved_by.iter().any(|by| by.user.username == who);
        notes.retain(|note| {
            let settled = if note.resolvable { note.resolved } else { approves(&note.author.username) };
            !note.system && !settled
        });
        notes.reverse();
        Ok(notes)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn shown(m: MergeRequest) -> PullRequest {
    let title = m.title.strip_prefix(DRAFT).unwrap_or(&m.title).to_owned();
    PullRequest {
        number: m.iid,
        head: m.source_branch,
        head_commit: m.sha.unwrap_or_default(),
        is_own: m.source_project_id.is_some() && m.source_project_id == m.target_project_id,
        base: m.target_branch,
        draft: m.draft || title.len() < m.title.len(),
        title,
        body: m.description.unwrap_or_default(),
        url: m.web_url,
        state: match m.state.as_str() {
            "merged" => State::Merged,
            "closed" => State::Closed,
            _ => State::Open,
        },
        review_requested: !m.reviewers.is_empty(),
        author: m.author.username,
    }
}

fn titled(title: &str, draft: bool) -> String {
    if draft { format!("{DRAFT}{title}") } else { title.to_owned() }
}

#[async_trait]
impl Forge for GitLab {
    async fn find(&self, branch: &str) -> Result<Vec<PullRequest>> {
        self.found(branch, "opened").await
    }

    async fn find_ended(&self, branch: &str) -> Result<Vec<PullRequest>> {
        let all = self.found(branch, "all").await?;
        Ok(all.into_iter().filter(|p| p.state != State::Open).collect())
    }

    async fn create(&self, new: &NewPullRequest) -> Result<PullRequest> {
        let body = json!({
            "source_branch": new.head, "target_branch": new.base,
            "title": titled(&new.title, new.draft), "description": new.body,
        });
        let path = format!("{}/merge_requests", self.path);
        self.channel.json(Method::POST, &path, Some(&body)).await.map(shown)
    }

    async fn update(&self, number: u64, title: &str, body: &str) -> Result<PullRequest> {
        let mut new = json!({});
        if !title.is_empty() {
            let draft = self.read(number).await?.draft;
            new["title"] = titled(title, draft).into();
        }
        if !body.is_empty() {
            new["description"] = body.into();
        }
        let path = format!("{}/merge_requests/{number}", self.path);
        self.channel.json(Method::PUT, &path, Some(&new)).await.map(shown)
    }

    async fn read(&self, number: u64) -> Result<PullRequest> {
        let path = format!("{}/merge_requests/{number}", self.path);
        self.channel.json(Method::GET, &path, None).await.map(shown)
    }

    async fn facts(&self, p: &PullRequest, known: &Known) -> Result<Facts> {
        let mut now_known = Known::default();
        let commit = encoded(&p.head_commit);
        let mut denied = None;
        let statuses = self.statuses(&commit, known, &mut now_known).await;
        let (statuses, unread) = Facts::permitted(statuses, &mut denied)?;
        let results = statuses.into_iter().map(|s| {
            let passed = match s.status.as_str() {
                "success" | "skipped" | "manual" => Some(true),
                "failed" | "canceled" => Some(s.allow_failure),
                _ => None,
            };
            (s.name, passed)
        });
        let checks = Checks::of(results.chain((0..unread).map(|_| (String::new(), None))));
        let path = format!("{}/merge_requests/{}/reviewers", self.path, p.number);
        let reviewers: Vec<Reviewer> = self.channel.remembered(&path, known, &mut now_known).await?;
        let path = format!("{}/merge_requests/{}/approvals", self.path, p.number);
        let approvals: Approvals = self.channel.remembered(&path, known, &mut now_known).await?;
        let review = if reviewers.iter().any(|r| r.state == "requested_changes") {
            Review::ChangesRequested
        } else if !approvals.approved_by.is_empty() && approvals.approvals_left.unwrap_or(0) == 0 {
            Review::Approved
        } else if p.review_requested || approvals.approvals_left.unwrap_or(0) > 0 {
            Review::Required
        } else {
            Review::None
        };
        let wanting: Vec<Author> =
            reviewers.into_iter().filter(|r| r.state == "requested_changes").map(|r| r.user).collect();
        let notes = self.notes(p.number, &approvals, known, &mut now_known).await?;
        // The newest first: others who have written before leave nobody out who writes later.
        let users: Vec<&Author> = wanting.iter().chain(notes.iter().rev().map(|note| &note.author)).collect();
        let others: Vec<&Author> = users.into_iter().filter(|user| user.username != p.author).collect();
        let trusted = self.trusted(&others, known, &mut now_known).await?;
        let trusted_changes_requested = wanting.iter().any(|user| trusted.contains(&user.id));
        let remarks = notes.into_iter().map(|note| {
            let Author { id, username } = note.author;
            let place = note.position.unwrap_or_default();
            Remark::new(&username, &note.body, &place.new_path.unwrap_or_default(), place.new_line)
                .known_as(format!("note {}", note.id), trusted.contains(&id))
                .wanting(wanting.iter().any(|user| user.username == username))
        });
        let (remarks, remarks_left_out) = Remark::newest(remarks.collect());
        let known = now_known;
        Ok(Facts { checks, review, remarks, remarks_left_out, trusted_changes_requested, denied, known })
    }

    async fn changed(&self, _: &str) -> Result<Changed> {
        // A conditional call costs GitLab, and the caller, as much as any other.
        Ok(Changed { changed: true, mark: String::new() })
    }

    async fn list_open(&self, page: u32) -> Result<Page> {
        let path = format!(
            "{}/merge_requests?state=opened&order_by=updated_at&sort=desc&per_page={PAGE}&page={page}",
            self.path
        );
        let answer = self.channel.call(Method::GET, &path, accepting(), Bytes::new()).await?;
        let items: Vec<MergeRequest> = self.channel.decoded(&answer)?;
        let next = answer.headers().get("x-next-page").and_then(|v| v.to_str().ok());
        let more = next.map_or(items.len() >= PAGE, |next| !next.is_empty());
        Ok(Page { items: items.into_iter().map(shown).collect(), more })
    }

    fn budget(&self) -> Budget {
        self.channel.budget()
    }
}
