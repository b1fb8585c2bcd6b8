//! Gitea and Forgejo.

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http::header::LINK;
use serde::Deserialize;
use serde_json::json;

use crate::channel::{Channel, accepting};
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
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    name: String,
    sha: String,
    #[serde(default)]
    repo_id: i64,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    login: String,
}

#[derive(Deserialize)]
struct CombinedStatus {
    #[serde(default)]
    statuses: Option<Vec<Status>>,
    #[serde(default)]
    total_count: usize,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    context: String,
}

#[derive(Deserialize)]
struct GivenReview {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    body: String,
    #[serde(default)]
    user: Option<User>,
    state: String,
    #[serde(default)]
    dismissed: bool,
    /// Whether it counts for the rules of the branch: its author may write to the repository, or is named in them.
    #[serde(default)]
    official: bool,
}

#[derive(Deserialize)]
struct LineComment {
    #[serde(default)]
    id: i64,
    #[serde(default)]
    path: String,
    #[serde(default)]
    position: Option<u32>,
    #[serde(default)]
    body: String,
}

/// Most reviews of one pull request whose comments on lines are read: the newest.
const MAX_COMMENTED: usize = 3;

impl Gitea {
    pub(crate) fn new(channel: Channel, path: &str) -> Self {
        Self { channel, path: format!("/repos/{path}") }
    }

    async fn checks(&self, commit: &str) -> Result<Checks> {
        let (mut results, mut unread) = (Vec::new(), 0);
        for page in 1..=MAX_CHECK_PAGES {
            let path = format!("{}/commits/{commit}/status?limit={PER_PAGE}&page={page}", self.path);
            let status: CombinedStatus = self.channel.json(Method::GET, &path, None).await?;
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

    /// What reviews say, and what was written on lines with the newest of them.
    async fn remarks(&self, number: u64, reviews: Vec<(String, GivenReview)>) -> Result<(Vec<Remark>, u32)> {
        let (mut all, first) = (Vec::new(), reviews.len().saturating_sub(MAX_COMMENTED));
        for (n, (who, review)) in reviews.into_iter().enumerate() {
            let (id, trusted) = (review.id, review.official);
            all.push(Remark::new(&who, &review.body, "", None).known_as(format!("review {id}"), trusted));
            if n < first {
                continue;
            }
            let path = format!("{}/pulls/{number}/reviews/{id}/comments", self.path);
            let comments: Vec<LineComment> = match self.channel.json(Method::GET, &path, None).await {
                Err(e) if matches!(e.kind(), ForgeErrorKind::NotFound | ForgeErrorKind::Forbidden) => {
                    Vec::new()
                }
                comments => comments?,
            };
            all.extend(comments.iter().map(|c| {
                let id = if c.id == 0 { String::new() } else { format!("comment {}", c.id) };
                Remark::new(&who, &c.body, &c.path, c.position).known_as(id, trusted)
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

    async fn facts(&self, p: &PullRequest, _: &Known) -> Result<Facts> {
        let mut denied = None;
        let checks = Facts::permitted(self.checks(&p.head_commit).await, &mut denied)?;
        let path = format!("{}/pulls/{}/reviews?limit={PER_PAGE}", self.path, p.number);
        let reviews = self.channel.json(Method::GET, &path, None).await;
        let reviews: Vec<GivenReview> = Facts::permitted(reviews, &mut denied)?;
        let mut requested = p.review_requested;
        let mut said_by = Vec::new();
        let given: Vec<_> = reviews
            .into_iter()
            .filter_map(|review| {
                let said = match review.state.as_str() {
                    _ if review.dismissed => None,
                    "APPROVED" => Some(true),
                    "REQUEST_CHANGES" => Some(false),
                    "REQUEST_REVIEW" => {
                        requested = true;
                        return None;
                    }
                    _ => return None,
                };
                let who = review.user.as_ref().map(|user| user.login.clone()).unwrap_or_default();
                if said == Some(false) {
                    said_by.push((who.clone(), review));
                }
                Some((who, said))
            })
            .collect();
        let wanting = Review::wanting(&given);
        said_by.retain(|(who, ..)| wanting.contains(who));
        let trusted_changes_requested = said_by.iter().any(|(_, review)| review.official);
        let (remarks, remarks_left_out) = self.remarks(p.number, said_by).await?;
        let (review, known) = (Review::of(given, requested), Known::default());
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
