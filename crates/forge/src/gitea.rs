//! Gitea and Forgejo.

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use http::header::LINK;
use serde::Deserialize;
use serde_json::json;

use crate::channel::{Channel, accepting};
use crate::{
    Budget, Changed, Checks, Facts, Forge, Known, MAX_UNREAD, NewPullRequest, Page, PullRequest, Result,
    Review, State,
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
    user: Option<User>,
    state: String,
    #[serde(default)]
    dismissed: bool,
}

impl Gitea {
    pub(crate) fn new(channel: Channel, path: &str) -> Self {
        Self { channel, path: format!("/repos/{path}") }
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
        let path = format!("{}/commits/{}/status?limit={PER_PAGE}", self.path, p.head_commit);
        let status: CombinedStatus = self.channel.json(Method::GET, &path, None).await?;
        let statuses = status.statuses.unwrap_or_default();
        // Some servers do not say how many there are: behind a full page there may be one.
        let read = statuses.len();
        let unread = status.total_count.saturating_sub(read).clamp((read >= PER_PAGE).into(), MAX_UNREAD);
        let results = statuses.into_iter().map(|s| {
            let passed = match s.status.as_str() {
                "success" | "warning" | "skipped" => Some(true),
                "pending" => None,
                _ => Some(false),
            };
            (s.context, passed)
        });
        let checks = Checks::of(results.chain((0..unread).map(|_| (String::new(), None))));
        let path = format!("{}/pulls/{}/reviews?limit={PER_PAGE}", self.path, p.number);
        let reviews: Vec<GivenReview> = self.channel.json(Method::GET, &path, None).await?;
        let mut requested = p.review_requested;
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
                Some((review.user.map(|user| user.login).unwrap_or_default(), said))
            })
            .collect();
        Ok(Facts { checks, review: Review::of(given, requested), known: Known::default() })
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
