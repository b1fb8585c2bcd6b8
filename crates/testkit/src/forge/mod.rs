//! A forge: real Git repositories with pull requests, checks and reviews, behind the APIs of GitHub, GitLab, and Gitea.
//!
//! It keeps what it is sent, takes the commits of branches from the real repositories, and refuses what a forge refuses.
//! All three APIs show the same pull requests, below `/api/v3`, `/api/v4` and `/api/v1`.

#![allow(clippy::expect_used)] // a failure here is a failed test

mod app;
mod gitea;
mod github;
mod gitlab;
mod remarks;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

pub use app::{APP_KEY, GitHubApp};
use remarks::Remark;

use crate::GitHttp;
use crate::git_http::{Answer, Request};

/// Calls that are answered in an hour.
const LIMIT: i64 = 5_000;
/// When the next hour begins, in seconds since the epoch.
const RESET: i64 = 1_767_229_200;

/// A forge on a port of the loopback address. Cloning shares it.
#[derive(Clone)]
pub struct ForgeHost {
    git: GitHttp,
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    origin: String,
    /// Lets tokens of apps in to git.
    admits: GitHttp,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<String>,
    app: Option<GitHubApp>,
    /// Tokens of its installation, each with the names of its repositories.
    app_tokens: Vec<(String, Vec<String>)>,
    pulls: BTreeMap<String, Vec<Pull>>,
    /// By commit: name, and whether it passed, if it has ended.
    checks: HashMap<String, Vec<(String, Option<bool>)>>,
    spent: i64,
    refusals: Vec<(u16, Value)>,
    /// By a part of the path.
    refused_paths: Vec<(String, u16)>,
    breaks_off: bool,
    hangs: bool,
    ticks: u32,
    calls: Vec<String>,
    exchanges: Vec<Exchange>,
}

/// A call of the API with its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Such as `GET`.
    pub method: String,
    /// With the version in front: `/api/v3/repos/…`.
    pub path: String,
    /// Encoded, as it was sent.
    pub query: String,
    /// Null without one.
    pub body: Value,
    /// Of the answer.
    pub status: u16,
    /// Body of the answer; null when the caller knows it.
    pub answer: Value,
}

#[derive(Clone)]
struct Pull {
    number: u64,
    head: String,
    base: String,
    title: String,
    body: String,
    draft: bool,
    state: PullState,
    /// The last commit of a branch that is gone.
    head_commit: String,
    is_fork: bool,
    reviews: Vec<(String, String)>,
    remarks: Vec<Remark>,
    /// Those who may not write to the repository.
    strangers: Vec<String>,
    asked: Vec<String>,
    created: String,
    updated: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PullState {
    Open,
    Closed,
    Merged,
}

impl ForgeHost {
    /// Starts it with the repositories below a directory: `team/app.git` is the repository `team/app`.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        let git = GitHttp::start(&root);
        let shared =
            Arc::new(Shared { root, origin: git.origin(), admits: git.clone(), state: Mutex::default() });
        let serving = Arc::clone(&shared);
        git.serve_api("/api/", Arc::new(move |request| serving.answer(request)));
        Self { git, shared }
    }

    /// The host of its repositories, for fetches and pushes.
    pub fn git(&self) -> &GitHttp {
        &self.git
    }

    /// Its host with the port, as in URLs.
    pub fn host(&self) -> String {
        self.shared.origin.trim_start_matches("http://").to_owned()
    }

    /// Address of its API in the form of GitHub (`v3`), GitLab (`v4`) or Gitea (`v1`).
    pub fn api(&self, version: &str) -> String {
        format!("{}/api/{version}", self.shared.origin)
    }

    /// From now on, only this token is let in: to the API as itself, to git as the password of `x-access-token`.
    pub fn require(&self, token: &str, pair: &str) {
        self.git.require(Some(pair));
        self.state(|state| state.token = Some(token.to_owned()));
    }

    /// From now on, the API accepts this token, and git what it accepted before.
    pub fn accept(&self, token: &str) {
        self.state(|state| state.token = Some(token.to_owned()));
    }

    /// From now on, knows this app; its tokens are let in to git and to the API.
    pub fn install(&self, app: GitHubApp) {
        self.state(|state| state.app = Some(app));
    }

    /// Tokens that were given to the app so far.
    pub fn app_tokens(&self) -> usize {
        self.state(|state| state.app_tokens.len())
    }

    /// Takes back all tokens that were given to the app.
    pub fn revoke_app_tokens(&self) {
        self.state(|state| state.app_tokens.iter_mut().for_each(|token| *token = Default::default()));
        self.git.require(Some(""));
    }

    /// Reports a check of the commit that a branch is at now; `None` = it has not ended. The last report of a name counts.
    pub fn check(&self, repository: &str, branch: &str, name: &str, passed: Option<bool>) {
        let commit = self.shared.tip(repository, branch).unwrap_or_default();
        self.state(|state| {
            let checks = state.checks.entry(commit).or_default();
            checks.retain(|(known, _)| known != name);
            checks.push((name.to_owned(), passed));
        });
    }

    /// Adds a review: `APPROVED`, `CHANGES_REQUESTED` or `COMMENTED`.
    pub fn review(&self, repository: &str, number: u64, reviewer: &str, said: &str) {
        self.change(repository, number, |p| {
            p.asked.retain(|asked| asked != reviewer);
            p.reviews.push((reviewer.to_owned(), said.to_owned()));
        });
    }

    /// From now on, this reviewer is one who may not write to the repository.
    pub fn distrust(&self, repository: &str, number: u64, reviewer: &str) {
        self.change(repository, number, |p| p.strangers.push(reviewer.to_owned()));
    }

    /// Asks somebody for a review.
    pub fn ask(&self, repository: &str, number: u64, reviewer: &str) {
        self.change(repository, number, |p| p.asked.push(reviewer.to_owned()));
    }

    /// Merges a pull request: its base moves to its commit, and its branch is deleted.
    pub fn merge(&self, repository: &str, number: u64) {
        let path = self.shared.path(repository);
        self.change(repository, number, |p| {
            let head = tip_in(&path, &p.head).unwrap_or_default();
            git(&path, &["update-ref", &format!("refs/heads/{}", p.base), &head]);
            git(&path, &["update-ref", "-d", &format!("refs/heads/{}", p.head)]);
            (p.head_commit, p.state) = (head, PullState::Merged);
        });
    }

    /// Closes a pull request without merging it.
    pub fn close(&self, repository: &str, number: u64) {
        self.change(repository, number, |p| p.state = PullState::Closed);
    }

    /// Opens a pull request as somebody else would; a branch of a fork need not exist.
    ///
    /// # Panics
    /// When the host would refuse it.
    pub fn open(&self, repository: &str, head: &str, title: &str, is_fork: bool) -> u64 {
        self.open_against(repository, head, "main", title, is_fork)
    }

    /// The same, to be merged into another branch than `main`.
    ///
    /// # Panics
    /// When the host would refuse it.
    pub fn open_against(&self, repository: &str, head: &str, base: &str, title: &str, is_fork: bool) -> u64 {
        let tip = self.shared.tip(repository, head);
        self.state(|state| {
            let new = New { head, base, title, body: "", draft: false };
            state.add(repository, &new, tip.unwrap_or_else(|| "0".repeat(40)), is_fork)
        })
    }

    /// Numbers of the pull requests of a repository, with their titles, the oldest first.
    pub fn pull_requests(&self, repository: &str) -> Vec<(u64, String)> {
        self.state(|state| {
            let pulls = state.pulls.get(repository).into_iter().flatten();
            pulls.map(|p| (p.number, p.title.clone())).collect()
        })
    }

    /// Text, base and whether it is a draft, of one pull request.
    ///
    /// # Panics
    /// When there is none.
    pub fn pull_request(&self, repository: &str, number: u64) -> (String, String, bool) {
        self.state(|state| {
            let found = state.pulls[repository].iter().find(|p| p.number == number);
            found.map(|p| (p.body.clone(), p.base.clone(), p.draft)).expect("a pull request")
        })
    }

    /// Chooses another base for a pull request, as somebody else would.
    pub fn retarget(&self, repository: &str, number: u64, base: &str) {
        self.change(repository, number, |p| base.clone_into(&mut p.base));
    }

    /// Answers the next call of the API with this status and message.
    pub fn refuse(&self, status: u16, message: &str) {
        self.state(|state| state.refusals.push((status, json!({ "message": message }))));
    }

    /// From now on, answers calls of paths that contain this with this status.
    pub fn refuse_path(&self, part: &str, status: u16) {
        self.state(|state| state.refused_paths.push((part.to_owned(), status)));
    }

    /// Answers all paths again.
    pub fn refuse_no_path(&self) {
        self.state(|state| state.refused_paths.clear());
    }

    /// Breaks off the connection after the next creation of a pull request, without an answer.
    pub fn break_off_creation(&self) {
        self.state(|state| state.breaks_off = true);
    }

    /// Leaves this many calls of the hour.
    pub fn leave_calls(&self, remaining: i64) {
        self.state(|state| state.spent = LIMIT - remaining);
    }

    /// From now on, calls of the API get no answer, or do again.
    pub fn hang(&self, hangs: bool) {
        self.state(|state| state.hangs = hangs);
    }

    /// The calls of the API so far that counted, as `GET /path`.
    pub fn calls(&self) -> Vec<String> {
        self.state(|state| state.calls.clone())
    }

    /// The calls of the API that were answered as by the real one, with their answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.state(|state| state.exchanges.clone())
    }

    fn change(&self, repository: &str, number: u64, change: impl FnOnce(&mut Pull)) {
        self.state(|state| {
            let now = state.tick();
            let pulls = state.pulls.get_mut(repository).into_iter().flatten();
            let mut found: Vec<&mut Pull> = pulls.filter(|p| p.number == number).collect();
            let p = found.first_mut().expect("a pull request");
            change(p);
            p.updated.clone_from(&now);
        });
    }

    fn state<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct New<'a> {
    head: &'a str,
    base: &'a str,
    title: &'a str,
    body: &'a str,
    draft: bool,
}

impl State {
    /// The next second.
    fn tick(&mut self) -> String {
        self.ticks += 1;
        let (minutes, seconds) = (self.ticks / 60 % 60, self.ticks % 60);
        format!("2026-01-01T{:02}:{minutes:02}:{seconds:02}Z", self.ticks / 3600 % 24)
    }

    fn add(&mut self, repository: &str, new: &New<'_>, head_commit: String, is_fork: bool) -> u64 {
        let now = self.tick();
        let pulls = self.pulls.entry(repository.to_owned()).or_default();
        let number = pulls.len() as u64 + 1;
        pulls.push(Pull {
            number,
            head: new.head.to_owned(),
            base: new.base.to_owned(),
            title: new.title.to_owned(),
            body: new.body.to_owned(),
            draft: new.draft,
            state: PullState::Open,
            head_commit,
            is_fork,
            reviews: Vec::new(),
            remarks: Vec::new(),
            strangers: Vec::new(),
            asked: Vec::new(),
            created: now.clone(),
            updated: now,
        });
        number
    }
}

/// A call, understood.
struct Call<'a> {
    method: &'a str,
    /// `team/app`.
    repository: String,
    /// What follows the repository in the path.
    rest: Vec<String>,
    query: HashMap<String, String>,
    body: Value,
}

impl Call<'_> {
    fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.query(name).parse().unwrap_or(default)
    }

    fn text(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// What an API answers: a status, a value, and whether there is a next page.
type Said = (u16, Value, bool);

impl Shared {
    fn path(&self, repository: &str) -> PathBuf {
        self.root.join(format!("{repository}.git"))
    }

    fn tip(&self, repository: &str, branch: &str) -> Option<String> {
        tip_in(&self.path(repository), branch)
    }

    fn answer(&self, request: &Request) -> Option<Answer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.hangs {
            drop(state);
            while self.state.lock().unwrap_or_else(PoisonError::into_inner).hangs {
                std::thread::park_timeout(std::time::Duration::from_millis(20));
            }
            return None;
        }
        let authorization = request.header("authorization").unwrap_or_default();
        let sent = authorization.split_once(' ').map_or("", |(_, token)| token);
        let is_known = app::is_for_apps(request)
            || state.token.as_deref().is_none_or(|token| token == sent)
            || app::has_token(&state, sent, &request.path);
        let mut is_real = false;
        let (status, value, next) = if !is_known {
            (401, json!({ "message": format!("Bad credentials: {sent}"), "status": "401" }), false)
        } else if state.spent >= LIMIT {
            (403, json!({ "message": "API rate limit exceeded for user ID 1." }), false)
        } else if let Some((_, status)) =
            state.refused_paths.iter().find(|(part, _)| request.path.contains(part.as_str()))
        {
            (*status, json!({ "message": "not this one" }), false)
        } else if !state.refusals.is_empty() {
            let (status, body) = state.refusals.remove(0);
            (status, body, false)
        } else {
            is_real = true;
            match app::is_for_apps(request) {
                true => app::answer(&mut state, request, sent, &self.admits),
                false => self.said(&mut state, request),
            }
        };
        if status == 0 {
            return None;
        }
        let body = value.to_string();
        let mut hash = DefaultHasher::new();
        body.hash(&mut hash);
        let mark = format!("W/\"{:016x}\"", hash.finish());
        let is_same = status == 200 && request.header("if-none-match") == Some(mark.as_str());
        if !is_same {
            state.spent = (state.spent + 1).min(LIMIT);
            state.calls.push(format!("{} {}", request.method, request.path));
        }
        let mut headers = vec![
            ("x-ratelimit-limit", LIMIT.to_string()),
            ("x-ratelimit-remaining", (LIMIT - state.spent).to_string()),
            ("x-ratelimit-reset", RESET.to_string()),
        ];
        if status == 200 && request.method == "GET" {
            headers.push(("etag", mark));
        }
        if next {
            let page = |text: &str| text.strip_prefix("page=").and_then(|n| n.parse::<u32>().ok());
            let here = request.query.split('&').find_map(page).unwrap_or(1);
            let rest: Vec<&str> = request.query.split('&').filter(|part| page(part).is_none()).collect();
            let link = format!("<{}{}?{}&page={}>", self.origin, request.path, rest.join("&"), here + 1);
            headers.push(("link", format!("{link}; rel=\"next\"")));
            headers.push(("x-next-page", (here + 1).to_string()));
        }
        let (status, body, value) =
            if is_same { (304, String::new(), Value::Null) } else { (status, body, value) };
        if is_real {
            state.exchanges.push(Exchange {
                method: request.method.clone(),
                path: request.path.clone(),
                query: request.query.clone(),
                body: serde_json::from_slice(&request.body).unwrap_or_default(),
                status,
                answer: value,
            });
        }
        Some(Answer { status, headers, body })
    }

    fn said(&self, state: &mut State, request: &Request) -> Said {
        let unknown = || (404, json!({ "message": "Not Found" }), false);
        let mut parts = request.path.trim_start_matches("/api/").split('/').map(decoded);
        let version = parts.next().unwrap_or_default();
        let _ = parts.next();
        let owner = parts.next().unwrap_or_default();
        // GitLab has the whole path in one part.
        let repository =
            if owner.contains('/') { owner } else { format!("{owner}/{}", parts.next().unwrap_or_default()) };
        if repository.contains("..") || !self.path(&repository).is_dir() {
            return unknown();
        }
        let query = url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        let call = Call { method: &request.method, repository, rest: parts.collect(), query, body };
        match version.as_str() {
            "v3" => self.github(state, &call),
            "v4" => self.gitlab(state, &call),
            "v1" => self.gitea(state, &call),
            _ => unknown(),
        }
    }

    /// Creates a pull request, or says what is wrong with it.
    fn create(&self, state: &mut State, call: &Call<'_>, new: &New<'_>) -> Result<u64, String> {
        let (Some(head), Some(base)) =
            (self.tip(&call.repository, new.head), self.tip(&call.repository, new.base))
        else {
            return Err("head or base is not a branch".to_owned());
        };
        if head == base {
            return Err(format!("No commits between {} and {}", new.base, new.head));
        }
        let mut open = state.pulls.get(&call.repository).into_iter().flatten();
        if open.any(|p| p.state == PullState::Open && !p.is_fork && p.head == new.head && p.base == new.base)
        {
            let owner = call.repository.split('/').next().unwrap_or_default();
            return Err(format!("A pull request already exists for {owner}:{}.", new.head));
        }
        if new.title.is_empty() {
            return Err("title is missing".to_owned());
        }
        Ok(state.add(&call.repository, new, head, false))
    }

    /// A page of a list, with the commits that the branches are at now, and whether there is another.
    fn page(&self, call: &Call<'_>, pulls: Vec<Pull>, size: usize) -> (Vec<Pull>, bool) {
        let (mut page, more) = paged(pulls, call.number("page", 1), size);
        page.iter_mut().for_each(|p| self.follow(&call.repository, p));
        (page, more)
    }

    /// The pull requests that a list shows, the last changed first.
    fn listed(state: &mut State, call: &Call<'_>, shows: impl Fn(&Pull) -> bool) -> Vec<Pull> {
        let mut pulls: Vec<Pull> = state.pulls.get(&call.repository).cloned().unwrap_or_default();
        pulls.retain(shows);
        pulls.sort_by(|a, b| b.updated.cmp(&a.updated));
        pulls
    }

    fn found(&self, state: &State, call: &Call<'_>, number: &str) -> Option<Pull> {
        let mut found =
            state.pulls.get(&call.repository)?.iter().find(|p| p.number.to_string() == number)?.clone();
        self.follow(&call.repository, &mut found);
        Some(found)
    }

    fn follow(&self, repository: &str, p: &mut Pull) {
        if p.state == PullState::Open && !p.is_fork {
            p.head_commit = self.tip(repository, &p.head).unwrap_or_else(|| p.head_commit.clone());
        }
    }
}

/// One page of a list, and whether there is another.
fn paged<T>(mut all: Vec<T>, page: usize, size: usize) -> (Vec<T>, bool) {
    let from = page.saturating_sub(1).saturating_mul(size).min(all.len());
    let more = all.len() > from + size;
    all.drain(..from);
    all.truncate(size);
    (all, more)
}

fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

fn tip_in(path: &Path, branch: &str) -> Option<String> {
    if branch.is_empty() || branch.starts_with('-') {
        return None;
    }
    // A process for each of hundreds would be slow.
    let name = format!("refs/heads/{branch}");
    if let Ok(loose) = std::fs::read_to_string(path.join(&name)) {
        return Some(loose.trim().to_owned());
    }
    let packed = std::fs::read_to_string(path.join("packed-refs")).unwrap_or_default();
    let mut entries = packed.lines().filter_map(|line| line.split_once(' '));
    entries.find(|(_, packed)| *packed == name).map(|(tip, _)| tip.to_owned())
}

fn git(path: &Path, args: &[&str]) -> String {
    let out = Command::new("git").arg("-C").arg(path).args(args).output().expect("git");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
