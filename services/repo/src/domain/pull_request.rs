//! Pull requests: what is recorded of them, and what a request for one is checked for.

use std::time::Duration;

use foundry_core::{Error, Result, Timestamp};
use foundry_forge::{
    Budget, Checks, ChecksState as Read, Facts, Given, Known, NewPullRequest, Remark, Review, State,
};
use foundry_git::BranchName;
use foundry_proto::common::v1::{self, ChecksState, PullRequestReview, PullRequestState};
use foundry_proto::repo::v1::{
    JobBranch, PublishPullRequestRequest, PublishSettings, PullRequestSettings, PullRequestSync,
    PullRequestSyncSource,
};
use serde::{Deserialize, Serialize};

/// Longest title in characters.
const MAX_TITLE: usize = 250;
/// Longest text in bytes.
const MAX_BODY: usize = 16 << 10;
/// Longest title of another's pull request that is kept.
const SHOWN_TITLE: usize = 300;
/// Longest address of a pull request that is kept, in bytes.
const MAX_URL: usize = 2_000;

/// What the row of a repository records about reading its pull requests.
#[derive(Clone, Debug, Default)]
pub struct PullFacts {
    /// As callers see it; none before the first time.
    pub sync: Option<PullRequestSync>,
    /// When they are read next; 0 = never by itself.
    pub next: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// What the host is asked with whether anything has changed.
    pub mark: String,
    /// What the next reading is for, if it is not just due.
    pub source: String,
}

/// What a row keeps besides what is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Answers of the host with their marks.
    pub known: Known,
    /// Whether somebody was asked for a review.
    pub asked: bool,
    /// Who has opened it.
    #[serde(default)]
    pub author: String,
    /// The commit at which its checks and reviews were last read, or were to be.
    #[serde(default)]
    pub read_at: String,
    /// When that was.
    #[serde(default)]
    pub read_time: i64,
    /// Whether the credential could not read all of them then.
    #[serde(default)]
    pub denied: bool,
}

/// What pull requests are read for, as it is stored.
pub const JOB: &str = "job";
/// The host has reported a change.
pub const WEBHOOK: &str = "webhook";
/// Somebody has requested it.
pub const REQUEST: &str = "request";
/// Another credential is stored.
pub const CREDENTIAL: &str = "credential";

/// Below this part of the host's calls nothing is read by itself until there are new ones.
pub const KEPT_SHARE: u32 = 20;
/// Shortest time between two readings that a host brings about.
pub const BETWEEN_REPORTED: Duration = Duration::from_secs(2);

impl PullFacts {
    /// When to read them for this reason; none = at the time that is planned.
    pub fn wanted(&self, source: &str, now: Timestamp) -> Option<Timestamp> {
        let stale = self.sync.as_ref().and_then(|sync| sync.stale.as_ref());
        let limited = self.sync.as_ref().is_some_and(is_reserved)
            || stale.is_some_and(|stale| stale.reason == "FORGE_RATE_LIMITED");
        let waits = match source {
            // Its calls are counted by themselves.
            CREDENTIAL => false,
            WEBHOOK => limited || stale.is_some(),
            _ => limited,
        };
        if waits && self.next > now {
            return None;
        }
        let last = self.sync.as_ref().and_then(|sync| sync.as_of.as_ref()).map(Timestamp::from_proto);
        Some(match last.filter(|_| source == WEBHOOK) {
            Some(last) => now.max(last.plus(BETWEEN_REPORTED)),
            None => now,
        })
    }
}

/// Whether the calls that are left are kept for what users request.
fn is_reserved(sync: &PullRequestSync) -> bool {
    let count = |n: i32| u32::try_from(n).unwrap_or_default();
    let budget =
        Budget { limit: count(sync.api_limit), remaining: count(sync.api_remaining), ..Budget::default() };
    budget.is_below(KEPT_SHARE)
}

/// What a reading was for, for callers.
pub fn source(text: &str) -> PullRequestSyncSource {
    match text {
        JOB => PullRequestSyncSource::Job,
        WEBHOOK => PullRequestSyncSource::Webhook,
        _ => PullRequestSyncSource::Poll,
    }
}

/// A pull request as callers see it.
pub fn shown(p: &foundry_forge::PullRequest, facts: &Facts) -> v1::PullRequest {
    v1::PullRequest {
        number: i64::try_from(p.number).unwrap_or(i64::MAX),
        // A page makes a link of it.
        url: if is_link(&p.url) { p.url.clone() } else { String::new() },
        title: p.title.chars().take(SHOWN_TITLE).collect(),
        branch: p.head.clone(),
        base: p.base.clone(),
        commit: p.head_commit.clone(),
        state: match p.state {
            State::Open => PullRequestState::Open,
            State::Merged => PullRequestState::Merged,
            State::Closed => PullRequestState::Closed,
        }
        .into(),
        draft: p.draft,
        review: match facts.review {
            Review::Unknown => PullRequestReview::Unspecified,
            Review::None => PullRequestReview::None,
            Review::Required => PullRequestReview::Required,
            Review::Approved => PullRequestReview::Approved,
            Review::ChangesRequested => PullRequestReview::ChangesRequested,
        }
        .into(),
        checks: Some(checks(&facts.checks)),
        remarks: facts.remarks.iter().map(remark).collect(),
        remarks_left_out: i32::try_from(facts.remarks_left_out).unwrap_or(i32::MAX),
        trusted_changes_requested: facts.trusted_changes_requested,
    }
}

/// Whether it can be made a link, and is not too long to be kept.
fn is_link(url: &str) -> bool {
    url.len() <= MAX_URL && (url.starts_with("https://") || url.starts_with("http://"))
}

/// A pull request without what reviewers have written, for branches and jobs: only tasks send that to agents.
pub fn brief(p: v1::PullRequest) -> v1::PullRequest {
    v1::PullRequest { remarks: Vec::new(), remarks_left_out: 0, ..p }
}

fn remark(remark: &Remark) -> v1::ReviewRemark {
    v1::ReviewRemark {
        reviewer: remark.reviewer.clone(),
        text: remark.text.clone(),
        path: remark.path.clone(),
        line: i32::try_from(remark.line).unwrap_or(i32::MAX),
        id: remark.id.clone(),
        trusted: remark.trusted,
        wants_changes: remark.wants_changes,
    }
}

fn checks(checks: &Checks) -> v1::PullRequestChecks {
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    v1::PullRequestChecks {
        state: match checks.state {
            Read::Unknown => ChecksState::Unspecified,
            Read::None => ChecksState::None,
            Read::Pending => ChecksState::Pending,
            Read::Failed => ChecksState::Failed,
            Read::Passed => ChecksState::Passed,
        }
        .into(),
        passed: count(checks.passed),
        failed: count(checks.failed),
        pending: count(checks.pending),
        failing: checks.failing.clone(),
    }
}

/// What the host says of its calls, in what callers see.
pub fn show_budget(sync: &mut PullRequestSync, budget: Budget) {
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    if budget.limit > 0 {
        (sync.api_limit, sync.api_remaining) = (count(budget.limit), count(budget.remaining));
        let reset = Timestamp::from_micros(budget.reset.saturating_mul(1_000_000));
        sync.api_reset_time = (budget.reset > 0).then(|| reset.to_proto());
    }
}

/// What a request asks for, checked; `usual_base` is the base if it names none.
///
/// # Errors
/// `INVALID_FIELD` for what no host takes.
pub fn settings(
    request: &PublishPullRequestRequest,
    publish: &PublishSettings,
    branch: &str,
    usual_base: &str,
) -> Result<PullRequestSettings> {
    let text = |field: &str, text: &str| {
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t' && c != '\r') {
            return Err(Error::invalid_field(field, "must not contain control characters"));
        }
        Ok(text.trim().to_owned())
    };
    let (title, body) = (text("title", &request.title)?, text("body", &request.body)?);
    if title.chars().count() > MAX_TITLE || title.contains('\n') {
        return Err(Error::invalid_field(
            "title",
            format!("must be one line of at most {MAX_TITLE} characters"),
        ));
    }
    if body.len() > MAX_BODY {
        return Err(Error::invalid_field("body", format!("must be at most {MAX_BODY} bytes")));
    }
    let base = if request.base.is_empty() { usual_base } else { &request.base };
    let base = BranchName::parse(base).map_err(|e| Error::invalid_field("base", e.to_string()))?;
    if base.as_str() == branch {
        return Err(Error::invalid_field("base", "must be another branch than the one that is published"));
    }
    let (given, base_given) = (!title.is_empty(), !request.base.is_empty());
    let title = match title.as_str() {
        "" => publish.message.lines().next().unwrap_or_default().chars().take(MAX_TITLE).collect(),
        _ => title,
    };
    Ok(PullRequestSettings { title, body, draft: request.draft, base: base.to_string(), given, base_given })
}

/// What the requester has chosen.
pub fn given(settings: &PullRequestSettings) -> Given {
    Given { title: settings.given, body: !settings.body.is_empty(), base: settings.base_given }
}

/// What a new one is made with.
pub fn new(
    job: &str,
    settings: &PullRequestSettings,
    publish: &PublishSettings,
    branch: &JobBranch,
) -> NewPullRequest {
    let body = match settings.body.as_str() {
        "" => proposed_body(publish, branch),
        body => body.to_owned(),
    };
    NewPullRequest {
        head: branch.branch.clone(),
        base: settings.base.clone(),
        title: settings.title.clone(),
        body,
        draft: settings.draft,
        mark: foundry_forge::mark(job),
    }
}

/// The rest of the message, and the commits if they are several.
fn proposed_body(publish: &PublishSettings, branch: &JobBranch) -> String {
    let rest = publish.message.split_once('\n').map_or("", |(_, rest)| rest).trim();
    let mut body = rest.to_owned();
    if branch.commits.len() > 1 {
        if !body.is_empty() {
            body.push_str("\n\n");
        }
        let lines: Vec<String> = branch.commits.iter().rev().map(|c| format!("- {}", c.subject)).collect();
        body.push_str(&lines.join("\n"));
    }
    body
}

/// A repository whose host is no known forge.
pub fn no_forge(repository: &str, host: &str) -> Error {
    let host = if host.is_empty() { "a local path" } else { host };
    let text = format!("{host} is not known as a forge, so there is no pull request to open");
    Error::precondition("FORGE_UNKNOWN", repository, text).next_action(
        "publish the branch without a pull request, or have the operator name the host in `repo.forges`",
    )
}

/// A repository without a credential that the API of its host takes.
pub fn no_token(repository: &str, origin: &str, has_key: bool) -> Error {
    let why = if has_key { "a deploy key cannot call the API" } else { "none is stored" };
    let text = format!("the API of {origin} needs a token, and {why}");
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    let next = format!("store one with `foundry repo credential add {host} --kind token`");
    Error::precondition("FORGE_CREDENTIALS_REQUIRED", repository, text).next_action(next)
}

/// What a user can do about a failure of a forge; none for other reasons.
pub fn next_action(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "FORGE_UNKNOWN" => "publish the branch without a pull request",
        "FORGE_CREDENTIALS_REQUIRED" => "store a token for the host with `foundry repo credential add`",
        "FORGE_CREDENTIALS_REFUSED" => {
            "store a token that is valid, with `foundry repo credential add --replace`"
        }
        "FORGE_FORBIDDEN" => "store a token that may write pull requests, or have the host's rules changed",
        "FORGE_NOT_FOUND" => {
            "check the URL of the repository, and that its token may read and write pull requests"
        }
        "FORGE_RATE_LIMITED" => "none needed: it goes on by itself",
        "FORGE_REJECTED" => "do what the host says, then publish the pull request again",
        "FORGE_UNREACHABLE" | "FORGE_ANSWER_UNUSABLE" => "publish the pull request again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use foundry_proto::repo::v1::JobCommit;

    use super::*;

    #[test]
    fn title_and_text_are_proposed_from_the_message_and_the_commits() {
        let publish =
            PublishSettings { message: "Add a parser\n\nIn Rust.".to_owned(), ..Default::default() };
        let request = PublishPullRequestRequest::default();
        let proposed = settings(&request, &publish, "feat/x", "main").unwrap();
        assert_eq!(
            (proposed.title.as_str(), proposed.base.as_str(), proposed.given),
            ("Add a parser", "main", false)
        );
        let commit = |subject: &str| JobCommit { subject: subject.to_owned(), ..JobCommit::default() };
        let commits = vec![commit("second"), commit("first")];
        let branch = JobBranch { branch: "feat/x".to_owned(), commits, ..JobBranch::default() };
        assert_eq!(new("job_1", &proposed, &publish, &branch).body, "In Rust.\n\n- first\n- second");
        let one = JobBranch { commits: vec![commit("first")], ..branch };
        assert_eq!(new("job_1", &proposed, &publish, &one).body, "In Rust.");
    }

    #[test]
    fn what_no_host_takes_is_refused() {
        let publish = PublishSettings::default();
        let asked = |change: &dyn Fn(&mut PublishPullRequestRequest)| {
            let mut request = PublishPullRequestRequest::default();
            change(&mut request);
            settings(&request, &publish, "feat/x", "main").is_err()
        };
        assert!(asked(&|r| r.title = "x".repeat(251)));
        assert!(asked(&|r| r.title = "a\nb".to_owned()));
        assert!(asked(&|r| r.body = "x".repeat(17_000)));
        assert!(asked(&|r| r.body = "a\0".to_owned()));
        assert!(asked(&|r| r.base = "feat/x".to_owned()));
        assert!(asked(&|r| r.base = "-x".to_owned()));
        assert!(!asked(&|r| r.base = "develop".to_owned()));
    }

    #[test]
    fn what_a_host_reports_ends_no_pause_and_what_a_user_does_may() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let current = PullRequestSync { as_of: Some(at(99).to_proto()), ..Default::default() };
        let stale = |reason: &str| {
            let condition = v1::Condition { reason: reason.to_owned(), ..Default::default() };
            PullRequestSync { stale: Some(condition), ..current.clone() }
        };
        let reserved = PullRequestSync { api_limit: 100, api_remaining: 4, ..current.clone() };
        let wanted = |sync: &PullRequestSync, next: i64| {
            let facts = PullFacts { sync: Some(sync.clone()), next: at(next), ..Default::default() };
            [WEBHOOK, JOB, REQUEST, CREDENTIAL].map(|source| facts.wanted(source, at(100)))
        };
        let now = Some(at(100));
        assert_eq!(wanted(&current, 200), [Some(at(101)), now, now, now]);
        assert_eq!(wanted(&stale("FORGE_UNREACHABLE"), 200), [None, now, now, now]);
        assert_eq!(wanted(&stale("FORGE_RATE_LIMITED"), 200), [None, None, None, now]);
        assert_eq!(wanted(&reserved, 200), [None, None, None, now]);
        // A pause that is over holds nothing up.
        assert_eq!(wanted(&reserved, 0), [Some(at(101)), now, now, now]);
        assert_eq!(PullFacts::default().wanted(WEBHOOK, at(100)), now);
    }

    #[test]
    fn only_web_addresses_become_links() {
        let p = foundry_forge::PullRequest {
            number: 1,
            head: "x".to_owned(),
            head_commit: String::new(),
            is_own: true,
            base: "main".to_owned(),
            title: String::new(),
            body: String::new(),
            url: "javascript:alert(1)".to_owned(),
            state: State::Open,
            draft: false,
            review_requested: false,
            author: String::new(),
        };
        assert_eq!(shown(&p, &Facts::default()).url, "");
        let web = foundry_forge::PullRequest { url: "https://h/1".to_owned(), ..p };
        assert_eq!(shown(&web, &Facts::default()).url, "https://h/1");
        let long = foundry_forge::PullRequest { url: format!("https://h/{}", "1".repeat(2_000)), ..web };
        assert_eq!(shown(&long, &Facts::default()).url, "");
    }

    #[test]
    fn branches_and_jobs_have_pull_requests_without_what_reviewers_wrote() {
        let p = v1::PullRequest {
            number: 7,
            review: PullRequestReview::ChangesRequested.into(),
            remarks: vec![v1::ReviewRemark { text: "Why?".to_owned(), ..Default::default() }],
            remarks_left_out: 3,
            ..Default::default()
        };
        let brief = brief(p);
        assert_eq!((brief.number, brief.remarks.len(), brief.remarks_left_out), (7, 0, 0));
        assert_eq!(brief.review(), PullRequestReview::ChangesRequested);
    }
}
