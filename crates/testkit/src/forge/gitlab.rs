//! The API of GitLab, as far as merge requests need it.

use serde_json::{Value, json};

use super::{Call, New, Pull, PullState, Said, Shared, State, paged};

impl Shared {
    pub(super) fn gitlab(&self, state: &mut State, call: &Call<'_>) -> Said {
        let rest: Vec<&str> = call.rest.iter().map(String::as_str).collect();
        match (call.method, rest.as_slice()) {
            ("GET", ["merge_requests"]) => {
                let head = call.query("source_branch");
                let all = call.query("state") == "all";
                let pulls = Self::listed(state, call, |p| {
                    (all || p.state == PullState::Open) && (head.is_empty() || p.head == head)
                });
                let (page, more) = self.page(call, pulls, call.number("per_page", 20));
                (200, page.iter().map(|p| self.merge_request(&call.repository, p)).collect(), more)
            }
            ("POST", ["merge_requests"]) => {
                let new = New {
                    head: call.text("source_branch"),
                    base: call.text("target_branch"),
                    title: call.text("title"),
                    body: call.text("description"),
                    draft: call.text("title").starts_with("Draft:"),
                };
                match self.create(state, call, &new) {
                    Ok(_) if std::mem::take(&mut state.breaks_off) => (0, Value::Null, false),
                    Ok(number) => self.gitlab_found(state, call, &number.to_string(), 201),
                    Err(why) => {
                        let status = if why.contains("already exists") { 409 } else { 400 };
                        (status, json!({ "message": [why] }), false)
                    }
                }
            }
            ("PUT", ["merge_requests", number]) => {
                let now = state.tick();
                let pulls = state.pulls.get_mut(&call.repository).into_iter().flatten();
                for p in pulls.filter(|p| p.number.to_string() == *number) {
                    for (field, name) in [
                        (&mut p.title, "title"),
                        (&mut p.body, "description"),
                        (&mut p.base, "target_branch"),
                    ] {
                        if call.body.get(name).is_some() {
                            call.text(name).clone_into(field);
                        }
                    }
                    p.draft = p.title.starts_with("Draft:");
                    p.updated.clone_from(&now);
                }
                self.gitlab_found(state, call, number, 200)
            }
            ("GET", ["merge_requests", number]) => self.gitlab_found(state, call, number, 200),
            ("GET", ["merge_requests", number, part]) => match self.found(state, call, number) {
                Some(p) => gitlab_part(call, &p, part),
                None => not_found(),
            },
            ("GET", ["members", "all", id]) => {
                let pulls = state.pulls.get(&call.repository).into_iter().flatten();
                let mut strangers = pulls.flat_map(|p| &p.strangers);
                if strangers.any(|name| user_id(name).to_string() == *id) {
                    not_found()
                } else {
                    (200, json!({ "id": 0, "access_level": 30 }), false)
                }
            }
            ("GET", ["repository", "commits", commit, "statuses"]) => {
                let size = call.number("per_page", 20);
                let (page, more) = paged(statuses(state, commit), call.number("page", 1), size);
                (200, page.into(), more)
            }
            _ => not_found(),
        }
    }

    fn gitlab_found(&self, state: &State, call: &Call<'_>, number: &str, status: u16) -> Said {
        match self.found(state, call, number) {
            Some(p) => (status, self.merge_request(&call.repository, &p), false),
            None => not_found(),
        }
    }

    fn merge_request(&self, repository: &str, p: &Pull) -> Value {
        let state = match p.state {
            PullState::Open => "opened",
            PullState::Closed => "closed",
            PullState::Merged => "merged",
        };
        json!({
            "id": 100 + p.number, "iid": p.number, "title": p.title, "description": p.body, "state": state,
            "draft": p.draft, "source_branch": p.head, "target_branch": p.base, "sha": p.head_commit,
            "source_project_id": if p.is_fork { 2 } else { 1 }, "target_project_id": 1, "updated_at": p.updated,
            "web_url": format!("{}/{repository}/-/merge_requests/{}", self.origin, p.number),
            "author": { "id": 1, "username": repository.split('/').next().unwrap_or_default() },
            "reviewers": p.asked.iter().map(|who| json!({ "username": who })).collect::<Vec<_>>(),
        })
    }
}

/// A number for each name.
fn user_id(name: &str) -> u64 {
    name.bytes().fold(1, |id, byte| (id * 31 + u64::from(byte)) % 1_000_003)
}

/// Reviewers, notes or approvals of a merge request.
fn gitlab_part(call: &Call, p: &Pull, part: &str) -> Said {
    match part {
        "reviewers" => {
            let given = p.reviews.iter().map(|(who, said)| {
                let said = match said.as_str() {
                    "APPROVED" => "approved",
                    "CHANGES_REQUESTED" => "requested_changes",
                    _ => "reviewed",
                };
                json!({ "user": { "id": user_id(who), "username": who }, "state": said })
            });
            (200, given.collect(), false)
        }
        "notes" => {
            let notes = p.remarks.iter().enumerate().rev().map(|(n, r)| {
                json!({
                    "id": n + 1, "author": { "id": user_id(&r.reviewer), "username": r.reviewer }, "body": r.text, "system": false,
                    "resolvable": true, "resolved": r.settled,
                    "position": { "new_path": r.path, "new_line": r.line },
                })
            });
            let size = call.number("per_page", 20);
            let (page, more) = paged(notes.collect(), call.number("page", 1), size);
            (200, Value::Array(page), more)
        }
        "approvals" => {
            let by = p.reviews.iter().filter(|(_, said)| said == "APPROVED");
            let by: Vec<Value> = by.map(|(who, _)| json!({ "user": { "username": who } })).collect();
            (200, json!({ "approved_by": by, "approvals_left": 0 }), false)
        }
        _ => not_found(),
    }
}

fn statuses(state: &State, commit: &str) -> Vec<Value> {
    let statuses = state.checks.get(commit).into_iter().flatten().map(|(name, passed)| {
        let status = match passed {
            Some(true) => "success",
            Some(false) => "failed",
            None => "running",
        };
        json!({ "name": name, "status": status, "allow_failure": false })
    });
    statuses.collect()
}

fn not_found() -> Said {
    (404, json!({ "message": "404 Not Found" }), false)
}
