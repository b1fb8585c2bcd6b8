//! Gitea and Forgejo.

use std::sync::OnceLock;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http::header::LINK;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::channel::{Channel, accepting};
use crate::pull_request::{is_program, written};
use crate::{
    Budget, Changed, Checks, Facts, Forge, ForgeErrorKind, Known, MAX_CHECK_PAGES, MAX_UNREAD,
    NewPullRequest, Page, PullRequest, Remark, Result, Review, State,
};

/// Pull requests on a page; servers allow no more unless they are configured to.
const PER_PAGE: usize = 50;
/// Most pages that are looked through for the pull request of a branch: the API has no filter for it.
const SEARCHED: u32 = 10;
/// What marks a pull request as not ready, at the beginning of its title.
const DRAFT: &str = "WIP: ";

/// The pull requests of a repository at Gitea or Forgejo.
pub(crate) struct Gitea {
    channel: Channel,
    path: String,
    /// Those who may write to the repository, once they were asked for in this reading.
    writers: OnceLock<Vec<String>>,
}

#[derive(Deserialize)]
struct Pull {
    number: u64,
    html_url: String,
    title: String,
    #[serde(default)]
    body: Option<String>,
    state: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    merged: bool,
    head: Side,
    base: Side,
    #[serde(default)]
    requested_reviewers: Option<Vec<User>>,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    name: String,
    sha: String,
    #[serde(default)]
    repo_id: i64,
}

#[derive(Serialize, Deserialize)]
struct User {
    #[serde(default)]
    login: String,
}

#[derive(Serialize, Deserialize)]
struct CombinedStatus {
    #[serde(default)]
    statuses: Option<Vec<Status>>,
    #[serde(default)]
    total_count: usize,
}

#[derive(Serialize, Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    context: String,
}

#[derive(Serialize, Deserialize)]
struct GivenReview {
    #[serde(default)]
    id: i64,
    #[serde(default, deserialize_with = "written")]
    body: String,
    #[serde(default)]
    user: Option<User>,
    state: String,
    #[serde(default)]
    dismissed: bool,
    /// Whether it counts for the rules of the branch: its author may write to the repository, or is named in them. A comment
    /// never does.
    #[serde(default)]
    official: bool,
    /// How many comments on lines it has; older servers do not say it.
    #[serde(default)]
    comments_count: Option<u32>,
}

impl GivenReview {
    fn who(&self) -> &str {
        self.user.as_ref().map_or("", |user| user.login.as_str())
    }

    /// Whether it approves, or takes an earlier word back; a comment does neither.
    fn said(&self) -> Option<Option<bool>> {
        match self.state.as_str() {
            _ if self.dismissed => Some(None),
            "APPROVED" => Some(Some(true)),
            "REQUEST_CHANGES" => Some(Some(false)),
            _ => None,
        }
    }

    /// Whether its author has written something that may ask for something.
    fn is_written(&self) -> bool {
        let is_given = matches!(self.state.as_str(), "APPROVED" | "REQUEST_CHANGES" | "COMMENT");
        is_given && !self.dismissed && (!self.body.is_empty() || self.comments_count != Some(0))
    }
}

#[derive(Serialize, Deserialize)]
struct LineComment {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    path: String,
    #[serde(default)]
    position: Option<u32>,
    #[serde(default, deserialize_with = "written")]
    body: String,
    /// Who has settled it.
    #[serde(default)]
    resolver: Option<User>,
}

/// Most pages of reviews of one pull request.
const MAX_PAGES: usize = 6;
/// Most reviews of one pull request whose comments on lines are read: the newest.
const MAX_COMMENTED: usize = 5;

impl Gitea {
    pub(crate) fn new(channel: Channel, path: &str) -> Self {
        Self { channel, path: format!("/repos/{path}"), writers: OnceLock::new() }
    }

    async fn checks(&self, commit: &str, known: &Known, now_known: &mut Known) -> Result<Checks> {
        let (mut results, mut unread) = (Vec::new(), 0);
        for page in 1..=MAX_CHECK_PAGES {
            let path = format!("{}/commits/{commit}/status?limit={PER_PAGE}&page={page}", self.path);
            let status: CombinedStatus = self.channel.remembered(&path, known, now_known).await?;
            let statuses = status.statuses.unwrap_or_default();
            let full = statuses.len() >= PER_PAGE;
            results.extend(statuses.into_iter().map(|s| {
                let passed = match s.status.as_str() {
                    "success" | "warning" | "skipped" => Some(true),
                    "pending" => None,
                    _ => Some(false),
                };
                (s.context, passed)
            }));
            // Some servers do not say how many there are: behind a full page there may be one.
            let rest = status.total_count.saturating_sub(results.len());
            unread = rest.clamp(full.into(), MAX_UNREAD);
            if !full {
                break;
            }
            if rest == 0 && status.total_count > 0 {
                unread = 0;
                break;
            }
        }
        Ok(Checks::of(results.into_iter().chain((0..unread).map(|_| (String::new(), None)))))
    }

    /// All reviews, the oldest first.
    async fn reviews(&self, number: u64, known: &Known, now_known: &mut Known) -> Result<Vec<GivenReview>> {
        let mut all = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = format!("{}/pulls/{number}/reviews?limit={PER_PAGE}&page={page}", self.path);
            let reviews: Vec<GivenReview> = self.channel.remembered(&path, known, now_known).await?;
            let last = reviews.len() < PER_PAGE;
            all.extend(reviews);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// Those who may write to the repository: a comment does not say it of its author.
    async fn writers(&self, known: &Known, now_known: &mut Known) -> Result<&[String]> {
        let path = format!("{}/assignees", self.path);
        if let Some(writers) = self.writers.get() {
            now_known.carry(&path, known);
            return Ok(writers);
        }
        let users: Vec<User> = match self.channel.remembered(&path, known, now_known).await {
            Err(e) if matches!(e.kind(), ForgeErrorKind::NotFound | ForgeErrorKind::Forbidden) => Vec::new(),
            users => users?,
        };
        Ok(self.writers.get_or_init(|| users.into_iter().map(|user| user.login).collect()))
    }

    /// What reviews say that are not settled, and what was written on lines with the newest of them.
    async fn remarks(
        &self,
        p: &PullRequest,
        (reviews, wanting): (&[GivenReview], &[String]),
        (known, now_known): (&Known, &mut Known),
    ) -> Result<(Vec<Remark>, u32)> {
        let said = reviews.iter().map(|review| (review.who(), review.said().flatten()));
        let approvals = Review::approvals(said);
        let is_open = |at: usize, review: &GivenReview| {
            review.is_written() && approvals.get(review.who()).is_none_or(|approval| at >= *approval)
        };
        let open: Vec<&GivenReview> =
            reviews.iter().enumerate().filter(|(at, review)| is_open(*at, review)).map(|(_, r)| r).collect();
        let is_other = |who: &str| who != p.author && !is_program(who);
        let unsaid = open.iter().any(|review| !review.official && is_other(review.who()));
        let writers: &[String] = if unsaid { self.writers(known, now_known).await? } else { &[] };
        let lines = open.iter().filter(|review| review.comments_count != Some(0)).count();
        let mut skipped = lines.saturating_sub(MAX_COMMENTED);
        let mut all = Vec::new();
        for review in open {
            let (who, id) = (review.who(), review.id);
            let may_write = review.official || writers.iter().any(|name| name == who);
            let (trusted, wants) = (may_write && is_other(who), wanting.iter().any(|name| name == who));
            // What stands beside an approval asks for nothing.
            if review.state != "APPROVED" {
                let remark = Remark::new(who, &review.body, "", None).wanting(wants);
                all.push(remark.known_as(format!("review {id}"), trusted));
            }
            if review.comments_count == Some(0) {
                continue;
            }
            if skipped > 0 {
                skipped -= 1;
                continue;
            }
            let path = format!("{}/pulls/{}/reviews/{id}/comments", self.path, p.number);
            let comments: Vec<LineComment> = match self.channel.remembered(&path, known, now_known).await {
                Err(e) if matches!(e.kind(), ForgeErrorKind::NotFound | ForgeErrorKind::Forbidden) => {
                    Vec::new()
                }
                comments => comments?,
            };
            all.extend(comments.iter().filter(|c| c.resolver.is_none()).map(|c| {
                let id = if c.id == 0 { String::new() } else { format!("comment {}", c.id) };
                Remark::new(who, &c.body, &c.path, c.position).known_as(id, trusted).wanting(wants)
            }));
        }
        Ok(Remark::newest(all))
    }

    async fn get(&self, number: u64) -> Result<Pull> {
        self.channel.json(Method::GET, &format!("{}/pulls/{number}", self.path), None).await
    }
}

fn shown(p: Pull) -> PullRequest {
    let title = p.title.strip_prefix(DRAFT).unwrap_or(&p.title).to_owned();
    PullRequest {
        number: p.number,
        is_own: p.head.repo_id == p.base.repo_id,
        draft: p.draft || title.len() < p.title.len(),
        title,
        head: p.head.name,
        head_commit: p.head.sha,
        base: p.base.name,
        body: p.body.unwrap_or_default(),
        url: p.html_url,
        state: match p.state.as_str() {
            _ if p.merged => State::Merged,
            "open" => State::Open,
            _ => State::Closed,
        },
        review_requested: p.requested_reviewers.is_some_and(|r| !r.is_empty()),
        author: p.user.map(|user| user.login).unwrap_or_default(),
    }
}

fn titled(title: &str, draft: bool) -> String {
    if draft { format!("{DRAFT}{title}") } else { title.to_owned() }
}

#[async_trait]
impl Forge for Gitea {
    async fn find(&self, branch: &str) -> Result<Vec<PullRequest>> {
        let mut all = Vec::new();
        for page in 1..=SEARCHED {
            let found = self.list_open(page).await?;
            all.extend(found.items.into_iter().filter(|p| p.is_own && p.head == branch));
            if !found.more {
                break;
            }
        }
        Ok(all)
    }

    async fn find_ended(&self, branch: &str) -> Result<Vec<PullRequest>> {
        // The last changed first: one that has just ended is among them.
        let path = format!("{}/pulls?state=closed&sort=recentupdate&limit={PER_PAGE}", self.path);
        let found: Vec<Pull> = self.channel.json(Method::GET, &path, None).await?;
        Ok(found.into_iter().map(shown).filter(|p| p.is_own && p.head == branch).collect())
    }

    async fn create(&self, new: &NewPullRequest) -> Result<PullRequest> {
        let body = json!({
            "head": new.head, "base": new.base, "title": titled(&new.title, new.draft), "body": new.body,
        });
        let path = format!("{}/pulls", self.path);
        self.channel.json(Method::POST, &path, Some(&body)).await.map(shown)
    }

    async fn update(&self, number: u64, title: &str, body: &str) -> Result<PullRequest> {
        let mut new = json!({});
        if !title.is_empty() {
            let draft = shown(self.get(number).await?).draft;
            new["title"] = titled(title, draft).into();
        }
        if !body.is_empty() {
            new["body"] = body.into();
        }
        let path = format!("{}/pulls/{number}", self.path);
        self.channel.json(Method::PATCH, &path, Some(&new)).await.map(shown)
    }

    async fn read(&self, number: u64) -> Result<PullRequest> {
        self.get(number).await.map(shown)
    }

    async fn facts(&self, p: &PullRequest, known: &Known) -> Result<Facts> {
        let mut now_known = Known::default();
        let mut denied = None;
        let checks = self.checks(&p.head_commit, known, &mut now_known).await;
        let checks = Facts::permitted(checks, &mut denied)?;
        let reviews = self.reviews(p.number, known, &mut now_known).await;
        let reviews = Facts::permitted(reviews, &mut denied)?;
        let requested = p.review_requested || reviews.iter().any(|review| review.state == "REQUEST_REVIEW");
        let said: Vec<(String, Option<bool>)> = reviews
            .iter()
            .filter(|review| review.state != "REQUEST_REVIEW" || review.dismissed)
            .filter_map(|review| Some((review.who().to_owned(), review.said()?)))
            .collect();
        let wanting = Review::wanting(&said);
        let is_trusted =
            |review: &GivenReview| review.official && review.who() != p.author && !is_program(review.who());
        let trusted_changes_requested = reviews
            .iter()
            .any(|review| wanting.iter().any(|name| name == review.who()) && is_trusted(review));
        let written = (reviews.as_slice(), wanting.as_slice());
        let (remarks, remarks_left_out) = self.remarks(p, written, (known, &mut now_known)).await?;
        let (review, known) = (Review::of(said, requested), now_known);
        Ok(Facts { checks, review, remarks, remarks_left_out, trusted_changes_requested, denied, known })
    }

    async fn changed(&self, _: &str) -> Result<Changed> {
        // The API has no marks.
        Ok(Changed { changed: true, mark: String::new() })
    }

    async fn list_open(&self, page: u32) -> Result<Page> {
        let path = format!("{}/pulls?state=open&sort=recentupdate&limit={PER_PAGE}&page={page}", self.path);
        let answer = self.channel.call(Method::GET, &path, accepting(), Bytes::new()).await?;
        let items: Vec<Pull> = self.channel.decoded(&answer)?;
        let link = answer.headers().get(LINK).and_then(|v| v.to_str().ok());
        let more = link.map_or(items.len() >= PER_PAGE, |link| link.contains("rel=\"next\""));
        Ok(Page { items: items.into_iter().map(shown).collect(), more })
    }

    fn budget(&self) -> Budget {
        self.channel.budget()
    }
}
