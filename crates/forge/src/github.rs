//! GitHub and GitHub Enterprise Server.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use octocrab::models::IssueState;
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder, params};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, etag, unusable};
use crate::pull_request::{is_program, written};
use crate::{
    Budget, Changed, Checks, Facts, Forge, ForgeError, ForgeErrorKind, Known, MAX_CHECK_PAGES, MAX_UNREAD,
    NewPullRequest, PAGE, Page, PullRequest, Remark, Result, Review, State,
};

/// The version of the API that the calls are written for.
const VERSION: (&str, &str) = ("x-github-api-version", "2022-11-28");
/// Most pages of reviews of one pull request.
const MAX_PAGES: usize = 3;

/// The pull requests of a repository at GitHub.
pub(crate) struct GitHub {
    channel: Arc<Channel>,
    owner: String,
    name: String,
}

impl GitHub {
    pub(crate) fn new(channel: Channel, path: &str) -> Self {
        let (owner, name) = path.split_once('/').unwrap_or((path, ""));
        Self { channel: Arc::new(channel), owner: owner.to_owned(), name: name.to_owned() }
    }

    /// The client of the library, whose calls go through our own.
    fn client(&self) -> Octocrab {
        let channel = Arc::clone(&self.channel);
        let service = tower::service_fn(move |request: Request<OctoBody>| {
            let channel = Arc::clone(&channel);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(|e| unusable(&e.to_string()))?.to_bytes();
                let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                let answer = channel.call(parts.method, path, headers(), body).await?;
                Ok::<_, ForgeError>(answer.map(Full::new))
            }
        });
        let builder = OctocrabBuilder::new_empty().with_service(service).with_auth(AuthState::None);
        match builder.build() {
            Ok(client) => client,
            Err(never) => match never {},
        }
    }

    fn failed(&self, e: octocrab::Error) -> ForgeError {
        match e {
            octocrab::Error::GitHub { source, .. } => {
                let parts = source.errors.iter().flatten().map(|part| match part.get("message") {
                    Some(serde_json::Value::String(text)) => text.clone(),
                    _ => part.as_str().map_or_else(|| part.to_string(), str::to_owned),
                });
                let said: Vec<String> = std::iter::once(source.message.clone()).chain(parts).collect();
                let none = HeaderMap::new();
                let headers = source.headers.as_ref().unwrap_or(&none);
                self.channel
                    .refusal(source.status_code, headers, &said.join("; "))
                    .unwrap_or_else(|| unusable("an error without a status"))
            }
            octocrab::Error::Service { source, .. } => match source.downcast_ref::<ForgeError>() {
                Some(e) => e.clone(),
                None => ForgeError::new(ForgeErrorKind::Unreachable, "the call of the API broke off"),
            },
            // Their texts may quote what the host has sent.
            other => unusable(&self.channel.redact(&other.to_string())),
        }
    }

    fn shown(&self, p: octocrab::models::pulls::PullRequest) -> PullRequest {
        let path = format!("{}/{}", self.owner, self.name);
        let full_name = p.head.repo.as_ref().and_then(|repo| repo.full_name.as_deref());
        let asked = p.requested_reviewers.as_ref().is_some_and(|r| !r.is_empty())
            || p.requested_teams.as_ref().is_some_and(|t| !t.is_empty());
        PullRequest {
            number: p.number,
            is_own: full_name.is_some_and(|name| name.eq_ignore_ascii_case(&path)),
            head: p.head.ref_field,
            head_commit: p.head.sha,
            base: p.base.ref_field,
            title: p.title.unwrap_or_default(),
            body: p.body.unwrap_or_default(),
            url: p.html_url.map(String::from).unwrap_or_default(),
            state: match p.state {
                _ if p.merged_at.is_some() || p.merged == Some(true) => State::Merged,
                Some(IssueState::Closed) => State::Closed,
                _ => State::Open,
            },
            draft: p.draft.unwrap_or_default(),
            review_requested: asked,
            author: p.user.map(|user| user.login).unwrap_or_default(),
        }
    }

    async fn found(&self, branch: &str, state: params::State) -> Result<Vec<PullRequest>> {
        let client = self.client();
        let head = format!("{}:{branch}", self.owner);
        let pulls = client.pulls(&self.owner, &self.name);
        let found = pulls.list().state(state).head(head).per_page(100).send().await;
        let found = found.map_err(|e| self.failed(e))?.items.into_iter().map(|p| self.shown(p));
        // A filter that the host does not understand, it ignores.
        Ok(found.filter(|p| p.is_own && p.head == branch).collect())
    }

    fn path(&self, rest: &str) -> String {
        format!("/repos/{}/{}/{rest}", self.owner, self.name)
    }

    async fn checks(&self, commit: &str, known: &Known, now_known: &mut Known) -> Result<Checks> {
        let (mut results, mut total) = (Vec::new(), 0);
        for page in 1..=MAX_CHECK_PAGES {
            let path = self.path(&format!("commits/{commit}/check-runs?per_page={PAGE}&page={page}"));
            let runs: CheckRuns = self.channel.remembered(&path, known, now_known).await?;
            total = runs.total_count;
            let last = runs.check_runs.len() < PAGE;
            results
                .extend(runs.check_runs.into_iter().map(|run| (run.name, passed(run.conclusion.as_deref()))));
            if last {
                break;
            }
        }
        // What is on no page that was read may still run.
        let unread = total.saturating_sub(results.len()).min(MAX_UNREAD);
        results.extend((0..unread).map(|_| (String::new(), None)));
        let (mut read, mut total) = (0, 0);
        for page in 1..=MAX_CHECK_PAGES {
            let path = self.path(&format!("commits/{commit}/status?per_page={PAGE}&page={page}"));
            let status: CombinedStatus = self.channel.remembered(&path, known, now_known).await?;
            let last = status.statuses.len() < PAGE;
            (read, total) = (read + status.statuses.len(), status.total_count);
            results.extend(status.statuses.into_iter().map(|s| {
                let passed = match s.state.as_str() {
                    "success" => Some(true),
                    "pending" => None,
                    _ => Some(false),
                };
                (s.context, passed)
            }));
            if last {
                break;
            }
        }
        let unread = total.saturating_sub(read).min(MAX_UNREAD);
        results.extend((0..unread).map(|_| (String::new(), None)));
        Ok(Checks::of(results))
    }

    async fn reviews(&self, p: &PullRequest, known: &Known, now_known: &mut Known) -> Result<Facts> {
        let mut given = Vec::new();
        for page in 1..=MAX_PAGES {
            let path = self.path(&format!("pulls/{}/reviews?per_page={PAGE}&page={page}", p.number));
            let reviews: Vec<GivenReview> = self.channel.remembered(&path, known, now_known).await?;
            let last = reviews.len() < PAGE;
            given.extend(reviews);
            if last {
                break;
            }
        }
        let path = self.path(&format!("pulls/{}/comments?sort=created&direction=desc&per_page=20", p.number));
        let mut comments: Vec<LineComment> = match self.channel.remembered(&path, known, now_known).await {
            Err(e) if matches!(e.kind(), ForgeErrorKind::Forbidden | ForgeErrorKind::NotFound) => Vec::new(),
            comments => comments?,
        };
        comments.reverse();
        Ok(reviewed(p, given, comments))
    }
}

/// How the reviews stand, and what was written in them and on lines. An approval settles what its author wrote before, a
/// dismissal what the review says.
fn reviewed(p: &PullRequest, given: Vec<GivenReview>, comments: Vec<LineComment>) -> Facts {
    let name = |user: &Option<Reviewer>| user.as_ref().map(|user| user.login.clone()).unwrap_or_default();
    let said: Vec<(String, Option<bool>)> =
        given.iter().filter_map(|review| Some((name(&review.user), review.said()?))).collect();
    let wanting = Review::wanting(&said);
    let all = given.iter().map(|review| (name(&review.user), review.said().flatten())).collect::<Vec<_>>();
    let approvals = Review::approvals(all.iter().map(|(who, said)| (who.as_str(), *said)));
    let is_trusted = |user: &Option<Reviewer>, association: Option<&str>| {
        let is_person = user.as_ref().is_some_and(Reviewer::is_person);
        may_write(association) && is_person && !name(user).eq_ignore_ascii_case(&p.author)
    };
    // A review that was not read is newer than what was.
    let place =
        |id: Option<u64>| given.iter().position(|review| Some(review.id) == id).unwrap_or(given.len());
    let is_open = |who: &str, at: usize| {
        let dismissed = given.get(at).is_some_and(|review| review.state == "DISMISSED");
        !dismissed && approvals.get(who).is_none_or(|approval| at >= *approval)
    };
    let mut written = Vec::new();
    for (at, review) in given.iter().enumerate() {
        let who = name(&review.user);
        // What stands beside an approval asks for nothing.
        let asks = matches!(review.state.as_str(), "CHANGES_REQUESTED" | "COMMENTED") && is_open(&who, at);
        if asks {
            let trusted = is_trusted(&review.user, review.author_association.as_deref());
            let remark = Remark::new(&who, &review.body, "", None).wanting(wanting.contains(&who));
            written.push((at, remark.known_as(format!("review {}", review.id), trusted)));
        }
    }
    for c in comments {
        let (who, at) = (name(&c.user), place(c.pull_request_review_id));
        if is_open(&who, at) {
            let trusted = is_trusted(&c.user, c.author_association.as_deref());
            let remark = Remark::new(&who, &c.body, &c.path, c.line);
            let remark = remark.wanting(wanting.contains(&who));
            written.push((at, remark.known_as(format!("comment {}", c.id), trusted)));
        }
    }
    written.sort_by_key(|(at, _)| *at);
    let trusts = |review: &GivenReview| is_trusted(&review.user, review.author_association.as_deref());
    let trusted_changes_requested =
        given.iter().any(|review| wanting.contains(&name(&review.user)) && trusts(review));
    let (remarks, remarks_left_out) = Remark::newest(written.into_iter().map(|(_, remark)| remark).collect());
    let review = Review::of(said, p.review_requested);
    Facts { review, trusted_changes_requested, remarks, remarks_left_out, ..Facts::default() }
}

/// Whether an author who stands like this to the repository may write to it: others who have an account can review too.
fn may_write(association: Option<&str>) -> bool {
    matches!(association, Some("OWNER" | "MEMBER" | "COLLABORATOR"))
}

/// Whether a check with this conclusion has passed; `None` = it has not ended.
fn passed(conclusion: Option<&str>) -> Option<bool> {
    conclusion.map(|conclusion| matches!(conclusion, "success" | "neutral" | "skipped"))
}

pub(crate) fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (ACCEPT, HeaderValue::from_static("application/vnd.github+json")),
        (HeaderName::from_static(VERSION.0), HeaderValue::from_static(VERSION.1)),
    ])
}

#[derive(Serialize, Deserialize)]
struct CheckRuns {
    total_count: usize,
    check_runs: Vec<CheckRun>,
}

#[derive(Serialize, Deserialize)]
struct CheckRun {
    name: String,
    conclusion: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct CombinedStatus {
    #[serde(default)]
    total_count: usize,
    statuses: Vec<CommitStatus>,
}

#[derive(Serialize, Deserialize)]
struct CommitStatus {
    state: String,
    context: String,
}

#[derive(Serialize, Deserialize)]
struct GivenReview {
    id: u64,
    user: Option<Reviewer>,
    author_association: Option<String>,
    state: String,
    #[serde(default, deserialize_with = "written")]
    body: String,
}

impl GivenReview {
    /// Whether it approves, or takes an earlier word back; a comment does neither.
    fn said(&self) -> Option<Option<bool>> {
        match self.state.as_str() {
            "APPROVED" => Some(Some(true)),
            "CHANGES_REQUESTED" => Some(Some(false)),
            "DISMISSED" => Some(None),
            _ => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct LineComment {
    id: u64,
    #[serde(default)]
    pull_request_review_id: Option<u64>,
    user: Option<Reviewer>,
    author_association: Option<String>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default, deserialize_with = "written")]
    body: String,
}

#[derive(Serialize, Deserialize)]
struct Reviewer {
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

impl Reviewer {
    fn is_person(&self) -> bool {
        self.kind != "Bot" && !is_program(&self.login)
    }
}

#[async_trait]
impl Forge for GitHub {
    async fn find(&self, branch: &str) -> Result<Vec<PullRequest>> {
        self.found(branch, params::State::Open).await
    }

    async fn find_ended(&self, branch: &str) -> Result<Vec<PullRequest>> {
        self.found(branch, params::State::Closed).await
    }

    async fn create(&self, new: &NewPullRequest) -> Result<PullRequest> {
        let client = self.client();
        let pulls = client.pulls(&self.owner, &self.name);
        let create = pulls.create(&new.title, &new.head, &new.base).body(new.body.as_str()).draft(new.draft);
        create.send().await.map(|p| self.shown(p)).map_err(|e| self.failed(e))
    }

    async fn update(&self, number: u64, title: &str, body: &str) -> Result<PullRequest> {
        let client = self.client();
        let pulls = client.pulls(&self.owner, &self.name);
        let mut update = pulls.update(number);
        if !title.is_empty() {
            update = update.title(title);
        }
        if !body.is_empty() {
            update = update.body(body);
        }
        update.send().await.map(|p| self.shown(p)).map_err(|e| self.failed(e))
    }

    async fn read(&self, number: u64) -> Result<PullRequest> {
        let client = self.client();
        let found = client.pulls(&self.owner, &self.name).get(number).await;
        found.map(|p| self.shown(p)).map_err(|e| self.failed(e))
    }

    async fn facts(&self, p: &PullRequest, known: &Known) -> Result<Facts> {
        let mut now_known = Known::default();
        let mut denied = None;
        let checks = match self.checks(&p.head_commit, known, &mut now_known).await {
            // The repository can be without them.
            Err(e) if e.kind() == ForgeErrorKind::NotFound => Checks::default(),
            checks => Facts::permitted(checks, &mut denied)?,
        };
        let reviewed = Facts::permitted(self.reviews(p, known, &mut now_known).await, &mut denied)?;
        Ok(Facts { checks, denied, known: now_known, ..reviewed })
    }

    async fn changed(&self, mark: &str) -> Result<Changed> {
        let mut headers = headers();
        if let (false, Ok(mark)) = (mark.is_empty(), HeaderValue::from_str(mark)) {
            headers.insert(IF_NONE_MATCH, mark);
        }
        let path = self.path("pulls?state=all&sort=updated&direction=desc&per_page=1");
        let answer = self.channel.call(Method::GET, &path, headers, Bytes::new()).await?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(Changed { changed: false, mark: mark.to_owned() });
        }
        let _: serde_json::Value = self.channel.decoded(&answer)?;
        Ok(Changed { changed: true, mark: etag(&answer) })
    }

    async fn list_open(&self, page: u32) -> Result<Page> {
        let client = self.client();
        let pulls = client.pulls(&self.owner, &self.name);
        let list = pulls
            .list()
            .state(params::State::Open)
            .sort(params::pulls::Sort::Updated)
            .direction(params::Direction::Descending)
            .per_page(100)
            .page(page);
        let found = list.send().await.map_err(|e| self.failed(e))?;
        let more = found.next.is_some();
        Ok(Page { items: found.items.into_iter().map(|p| self.shown(p)).collect(), more })
    }

    fn budget(&self) -> Budget {
        self.channel.budget()
    }
}
