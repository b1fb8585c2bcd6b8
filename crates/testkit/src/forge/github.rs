//! The API of GitHub, as far as pull requests need it.

use serde_json::{Value, json};

use super::{Call, New, Pull, PullState, Remark, Said, Shared, State, paged};

/// What GitHub names an address of for each repository.
const URLS: [&str; 36] = [
    "archive",
    "assignees",
    "blobs",
    "branches",
    "collaborators",
    "comments",
    "commits",
    "compare",
    "contents",
    "contributors",
    "deployments",
    "downloads",
    "events",
    "forks",
    "git_commits",
    "git_refs",
    "git_tags",
    "hooks",
    "issue_comment",
    "issue_events",
    "issues",
    "keys",
    "labels",
    "languages",
    "merges",
    "milestones",
    "notifications",
    "pulls",
    "releases",
    "stargazers",
    "statuses",
    "subscribers",
    "subscription",
    "tags",
    "teams",
    "trees",
];
const COUNTS: [&str; 8] = [
    "forks",
    "forks_count",
    "open_issues",
    "open_issues_count",
    "size",
    "stargazers_count",
    "watchers",
    "watchers_count",
];

impl Shared {
    pub(super) fn github(&self, state: &mut State, call: &Call<'_>) -> Said {
        let rest: Vec<&str> = call.rest.iter().map(String::as_str).collect();
        match (call.method, rest.as_slice()) {
            ("GET", ["pulls"]) => self.github_list(state, call),
            ("POST", ["pulls"]) => self.github_create(state, call),
            ("GET", ["pulls", number]) => match self.found(state, call, number) {
                Some(p) => (200, self.github_pull(&call.repository, &p, true), false),
                None => not_found(),
            },
            ("PATCH", ["pulls", number]) => {
                let now = state.tick();
                let pulls = state.pulls.get_mut(&call.repository).into_iter().flatten();
                for p in pulls.filter(|p| p.number.to_string() == *number) {
                    let set = |field: &mut String, name| {
                        if call.body.get(name).is_some() {
                            call.text(name).clone_into(field);
                        }
                    };
                    set(&mut p.title, "title");
                    set(&mut p.body, "body");
                    set(&mut p.base, "base");
                    p.updated.clone_from(&now);
                }
                match self.found(state, call, number) {
                    Some(p) => (200, self.github_pull(&call.repository, &p, true), false),
                    None => not_found(),
                }
            }
            ("GET", ["pulls", number, "reviews"]) => match self.found(state, call, number) {
                Some(p) => {
                    let all =
                        p.reviews.iter().enumerate().map(|(n, (who, said))| self.review(n, who, said, &p));
                    let (page, more) =
                        paged(all.collect(), call.number("page", 1), call.number("per_page", 30));
                    (200, Value::Array(page), more)
                }
                None => not_found(),
            },
            ("GET", ["pulls", number, "comments"]) => match self.found(state, call, number) {
                Some(p) => {
                    let comments = p.remarks.iter().enumerate().rev();
                    (200, comments.map(|(n, r)| self.line_comment(n, r, &p)).collect(), false)
                }
                None => not_found(),
            },
            ("GET", ["commits", commit, "check-runs"]) => {
                let all = state.checks.get(*commit).cloned().unwrap_or_default();
                let runs: Vec<Value> = all
                    .iter()
                    .enumerate()
                    .map(|(n, (name, passed))| self.run(n, name, *passed, commit))
                    .collect();
                let total = runs.len();
                let (page, more) = paged(runs, call.number("page", 1), call.number("per_page", 30));
                (200, json!({ "total_count": total, "check_runs": page }), more)
            }
            ("GET", ["commits", commit, "status"]) => {
                let url = format!("{}/repos/{}/commits/{commit}", self.github_api(), call.repository);
                let repository = self.repository(&call.repository);
                let body = json!({
                    "state": "pending", "statuses": [], "sha": commit, "total_count": 0,
                    "repository": repository, "commit_url": url, "url": format!("{url}/status"),
                });
                (200, body, false)
            }
            _ => not_found(),
        }
    }

    fn github_list(&self, state: &mut State, call: &Call<'_>) -> Said {
        let wanted = call.query("state");
        let owner = call.repository.split('/').next().unwrap_or_default();
        let head = call.query("head").split_once(':').filter(|(of, _)| *of == owner).map(|(_, head)| head);
        let pulls = Self::listed(state, call, |p| {
            let is_open = p.state == PullState::Open;
            let fits = match wanted {
                "all" => true,
                "closed" => !is_open,
                _ => is_open,
            };
            fits && head.is_none_or(|head| p.head == head && !p.is_fork)
        });
        let (page, more) = self.page(call, pulls, call.number("per_page", 30));
        let shown = page.iter().map(|p| self.github_pull(&call.repository, p, false)).collect();
        (200, Value::Array(shown), more)
    }

    fn github_create(&self, state: &mut State, call: &Call<'_>) -> Said {
        let new = New {
            head: call.text("head"),
            base: call.text("base"),
            title: call.text("title"),
            body: call.text("body"),
            draft: call.body.get("draft").and_then(Value::as_bool).unwrap_or_default(),
        };
        match self.create(state, call, &new) {
            Ok(_) if std::mem::take(&mut state.breaks_off) => (0, Value::Null, false),
            Ok(number) => match self.found(state, call, &number.to_string()) {
                Some(p) => (201, self.github_pull(&call.repository, &p, true), false),
                None => not_found(),
            },
            Err(why) => {
                let error = json!({ "resource": "PullRequest", "code": "custom", "message": why });
                let docs = "https://docs.github.com/rest/pulls/pulls#create-a-pull-request";
                let body =
                    json!({ "message": "Validation Failed", "errors": [error], "documentation_url": docs });
                (422, body, false)
            }
        }
    }

    fn github_api(&self) -> String {
        format!("{}/api/v3", self.origin)
    }

    fn user(&self, login: &str) -> Value {
        let (web, api) = (&self.origin, self.github_api());
        let of = |rest: &str| format!("{api}/users/{login}{rest}");
        json!({
            "login": login, "id": 1, "node_id": "U_1", "avatar_url": format!("{web}/avatars/{login}"),
            "gravatar_id": "", "url": of(""), "html_url": format!("{web}/{login}"), "followers_url": of("/followers"),
            "following_url": of("/following{/other_user}"), "gists_url": of("/gists{/gist_id}"),
            "starred_url": of("/starred{/owner}{/repo}"), "subscriptions_url": of("/subscriptions"),
            "organizations_url": of("/orgs"), "repos_url": of("/repos"), "events_url": of("/events{/privacy}"),
            "received_events_url": of("/received_events"),
            "type": if login.ends_with("[bot]") { "Bot" } else { "User" }, "site_admin": false,
        })
    }

    fn repository(&self, path: &str) -> Value {
        let (owner, name) = path.split_once('/').unwrap_or((path, ""));
        let url = format!("{}/repos/{path}", self.github_api());
        let time = "2026-01-01T00:00:00Z";
        let mut all = json!({
            "id": 1, "node_id": "R_1", "name": name, "full_name": path, "owner": self.user(owner), "private": true,
            "html_url": format!("{}/{path}", self.origin), "url": url, "description": null, "fork": false,
            "clone_url": self.admits.url(&format!("{path}.git")), "git_url": format!("git://example.org/{path}.git"),
            "ssh_url": format!("git@example.org:{path}.git"), "svn_url": format!("{}/{path}", self.origin),
            "default_branch": "main", "homepage": null, "language": null, "mirror_url": null, "license": null,
            "pushed_at": time, "created_at": time, "updated_at": time, "archived": false, "disabled": false,
        });
        for name in URLS {
            all[format!("{name}_url")] = format!("{url}/{name}").into();
        }
        for name in ["downloads", "issues", "projects", "wiki", "pages"] {
            all[format!("has_{name}")] = true.into();
        }
        for name in COUNTS {
            all[name] = 0.into();
        }
        all
    }

    fn github_pull(&self, repository: &str, p: &Pull, whole: bool) -> Value {
        let (web, api) =
            (format!("{}/{repository}", self.origin), format!("{}/repos/{repository}", self.github_api()));
        let (owner, name) = repository.split_once('/').unwrap_or((repository, ""));
        let number = p.number;
        let head_of = if p.is_fork { "somebody" } else { owner };
        let side = |of: &str, branch: &str, commit: &str| {
            json!({
                "label": format!("{of}:{branch}"), "ref": branch, "sha": commit, "user": self.user(of),
                "repo": self.repository(&format!("{of}/{name}")),
            })
        };
        let base_commit = self.tip(repository, &p.base).unwrap_or_default();
        let issue = format!("{api}/issues/{number}");
        let url = format!("{api}/pulls/{number}");
        let href = |url: &str| json!({ "href": url });
        let closed = (p.state != PullState::Open).then(|| p.updated.clone());
        let merged = (p.state == PullState::Merged).then(|| p.updated.clone());
        let mut pull = json!({
            "url": url, "id": number, "node_id": format!("PR_{number}"), "html_url": format!("{web}/pull/{number}"),
            "diff_url": format!("{web}/pull/{number}.diff"), "patch_url": format!("{web}/pull/{number}.patch"),
            "issue_url": issue, "commits_url": format!("{url}/commits"),
            "review_comments_url": format!("{url}/comments"), "review_comment_url": format!("{api}/pulls/comments{{/number}}"),
            "comments_url": format!("{issue}/comments"), "statuses_url": format!("{api}/statuses/{}", p.head_commit),
            "number": number, "state": if closed.is_none() { "open" } else { "closed" }, "locked": false,
            "title": p.title, "user": self.user(owner), "body": p.body, "labels": [], "milestone": null,
            "created_at": p.created, "updated_at": p.updated, "closed_at": closed, "merged_at": merged,
            "merge_commit_sha": merged.as_ref().map(|_| p.head_commit.clone()), "assignee": null, "assignees": [],
            "requested_reviewers": p.asked.iter().map(|who| self.user(who)).collect::<Vec<_>>(), "requested_teams": [],
            "head": side(head_of, &p.head, &p.head_commit), "base": side(owner, &p.base, &base_commit),
            "author_association": "OWNER", "auto_merge": null, "draft": p.draft, "active_lock_reason": null,
        });
        pull["_links"] = json!({
            "self": href(&url), "html": href(&format!("{web}/pull/{number}")), "issue": href(&issue),
            "comments": href(&format!("{issue}/comments")), "review_comments": href(&format!("{url}/comments")),
            "review_comment": href(&format!("{api}/pulls/comments{{/number}}")),
            "commits": href(&format!("{url}/commits")),
            "statuses": href(&format!("{api}/statuses/{}", p.head_commit)),
        });
        if whole {
            let more = json!({
                "merged": merged.is_some(), "mergeable": true, "rebaseable": true, "mergeable_state": "clean",
                "merged_by": null, "comments": 0, "review_comments": 0, "maintainer_can_modify": false, "commits": 1,
                "additions": 1, "deletions": 0, "changed_files": 1,
            });
            for (name, value) in more.as_object().into_iter().flatten() {
                pull[name] = value.clone();
            }
        }
        pull
    }

    fn review(&self, n: usize, who: &str, said: &str, p: &Pull) -> Value {
        let (web, api) = (&self.origin, self.github_api());
        let (html, url) = (format!("{web}/pull/{}#{n}", p.number), format!("{api}/pulls/{}", p.number));
        json!({
            "id": n + 1, "node_id": format!("PRR_{n}"), "user": self.user(who), "body": "", "state": said,
            "html_url": html, "pull_request_url": url, "submitted_at": p.updated, "commit_id": p.head_commit,
            "author_association": association(p, who),
            "_links": { "html": { "href": html }, "pull_request": { "href": url } },
        })
    }

    fn line_comment(&self, n: usize, r: &Remark, p: &Pull) -> Value {
        let (web, api) = (&self.origin, self.github_api());
        let (html, url) = (format!("{web}/pull/{}#c{n}", p.number), format!("{api}/pulls/{}", p.number));
        let own = format!("{api}/pulls/comments/{n}");
        json!({
            "id": n + 1, "node_id": format!("PRRC_{n}"), "pull_request_review_id": r.review + 1, "url": own,
            "diff_hunk": "@@ -1 +1 @@", "path": r.path, "line": r.line, "commit_id": p.head_commit,
            "original_commit_id": p.head_commit, "user": self.user(&r.reviewer), "body": r.text,
            "created_at": p.updated, "updated_at": p.updated, "html_url": html, "pull_request_url": url,
            "author_association": association(p, &r.reviewer),
            "_links": { "self": { "href": own }, "html": { "href": html }, "pull_request": { "href": url } },
        })
    }

    fn run(&self, n: usize, name: &str, passed: Option<bool>, commit: &str) -> Value {
        let (web, api) = (&self.origin, self.github_api());
        let conclusion = passed.map(|passed| if passed { "success" } else { "failure" });
        json!({
            "id": n + 1, "head_sha": commit, "node_id": format!("CR_{n}"), "external_id": "", "name": name,
            "url": format!("{api}/check-runs/{n}"), "html_url": format!("{web}/runs/{n}"),
            "details_url": format!("{web}/runs/{n}"), "status": if passed.is_some() { "completed" } else { "in_progress" },
            "conclusion": conclusion, "started_at": "2026-01-01T00:00:00Z",
            "completed_at": passed.map(|_| "2026-01-01T00:00:01Z"), "check_suite": { "id": 1 }, "app": null,
            "pull_requests": [],
            "output": {
                "title": null, "summary": null, "text": null, "annotations_count": 0,
                "annotations_url": format!("{api}/check-runs/{n}/annotations"),
            },
        })
    }
}

/// How somebody stands to the repository.
fn association(p: &Pull, who: &str) -> &'static str {
    if p.strangers.iter().any(|stranger| stranger == who) { "CONTRIBUTOR" } else { "MEMBER" }
}

fn not_found() -> Said {
    (
        404,
        json!({ "message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404" }),
        false,
    )
}
