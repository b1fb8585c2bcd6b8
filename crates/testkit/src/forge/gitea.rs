//! The API of Gitea and Forgejo, as far as pull requests need it.

use serde_json::{Value, json};

use super::{Call, New, Pull, PullState, Said, Shared, State, paged};

impl Shared {
    pub(super) fn gitea(&self, state: &mut State, call: &Call<'_>) -> Said {
        let rest: Vec<&str> = call.rest.iter().map(String::as_str).collect();
        match (call.method, rest.as_slice()) {
            ("GET", ["pulls"]) => {
                let wants_open = call.query("state") != "closed";
                let pulls = Self::listed(state, call, |p| (p.state == PullState::Open) == wants_open);
                let (page, more) = self.page(call, pulls, call.number("limit", 30).min(50));
                (200, page.iter().map(|p| self.gitea_pull(&call.repository, p)).collect(), more)
            }
            ("POST", ["pulls"]) => {
                let new = New {
                    head: call.text("head"),
                    base: call.text("base"),
                    title: call.text("title"),
                    body: call.text("body"),
                    draft: call.text("title").starts_with("WIP:"),
                };
                match self.create(state, call, &new) {
                    Ok(_) if std::mem::take(&mut state.breaks_off) => (0, Value::Null, false),
                    Ok(number) => self.gitea_found(state, call, &number.to_string(), 201),
                    Err(why) if why.contains("already exists") => {
                        (409, json!({ "message": why, "url": "" }), false)
                    }
                    Err(why) => (422, json!({ "message": why, "url": "" }), false),
                }
            }
            ("PATCH", ["pulls", number]) => {
                let now = state.tick();
                let pulls = state.pulls.get_mut(&call.repository).into_iter().flatten();
                for p in pulls.filter(|p| p.number.to_string() == *number) {
                    for (field, name) in
                        [(&mut p.title, "title"), (&mut p.body, "body"), (&mut p.base, "base")]
                    {
                        if call.body.get(name).is_some() {
                            call.text(name).clone_into(field);
                        }
                    }
                    p.draft = p.title.starts_with("WIP:");
                    p.updated.clone_from(&now);
                }
                self.gitea_found(state, call, number, 201)
            }
            ("GET", ["pulls", number]) => self.gitea_found(state, call, number, 200),
            ("GET", ["pulls", number, "reviews", rest @ ..]) => match self.found(state, call, number) {
                Some(p) => gitea_reviews(&p, rest, call),
                None => not_found(),
            },
            ("GET", ["assignees"]) => {
                let pulls = state.pulls.get(&call.repository).into_iter().flatten();
                let writers = pulls.flat_map(|p| {
                    let names = p.reviews.iter().map(|(who, _)| who);
                    names.filter(|who| !p.strangers.contains(who))
                });
                let writers: std::collections::BTreeSet<&String> = writers.collect();
                (200, writers.iter().map(|who| json!({ "login": who })).collect(), false)
            }
            ("GET", ["commits", commit, "status"]) => {
                let statuses: Vec<Value> = state
                    .checks
                    .get(*commit)
                    .into_iter()
                    .flatten()
                    .map(|(name, passed)| {
                        let status = match passed {
                            Some(true) => "success",
                            Some(false) => "failure",
                            None => "pending",
                        };
                        json!({ "context": name, "status": status })
                    })
                    .collect();
                let total = statuses.len();
                let (statuses, more) =
                    paged(statuses, call.number("page", 1), call.number("limit", 30).min(50));
                let statuses = if statuses.is_empty() { Value::Null } else { statuses.into() };
                (200, json!({ "state": "", "statuses": statuses, "sha": commit, "total_count": total }), more)
            }
            _ => not_found(),
        }
    }

    fn gitea_found(&self, state: &State, call: &Call<'_>, number: &str, status: u16) -> Said {
        match self.found(state, call, number) {
            Some(p) => (status, self.gitea_pull(&call.repository, &p), false),
            None => not_found(),
        }
    }

    fn gitea_pull(&self, repository: &str, p: &Pull) -> Value {
        let side = |branch: &str, commit: &str, id: i64| json!({ "label": branch, "ref": branch, "sha": commit, "repo_id": id });
        let base = self.tip(repository, &p.base).unwrap_or_default();
        json!({
            "id": p.number, "number": p.number, "url": format!("{}/{repository}/pulls/{}", self.origin, p.number),
            "html_url": format!("{}/{repository}/pulls/{}", self.origin, p.number), "title": p.title, "body": p.body,
            "state": if p.state == PullState::Open { "open" } else { "closed" }, "draft": p.draft,
            "merged": p.state == PullState::Merged, "head": side(&p.head, &p.head_commit, if p.is_fork { 2 } else { 1 }),
            "base": side(&p.base, &base, 1), "updated_at": p.updated,
            "user": { "login": repository.split('/').next().unwrap_or_default() },
            "requested_reviewers": p.asked.iter().map(|who| json!({ "login": who })).collect::<Vec<_>>(),
        })
    }
}

/// The reviews of a pull request, or what was written with one of them.
fn gitea_reviews(p: &Pull, rest: &[&str], call: &Call<'_>) -> Said {
    match rest {
        [] => {
            let given = p.reviews.iter().zip(1..).map(|((who, said), id): (_, usize)| {
                let state = match said.as_str() {
                    "CHANGES_REQUESTED" => "REQUEST_CHANGES",
                    "COMMENTED" => "COMMENT",
                    said => said,
                };
                let comments = p.remarks.iter().filter(|r| r.review + 1 == id).count();
                json!({
                    "id": id, "body": "", "user": { "login": who }, "state": state, "dismissed": false,
                    "stale": false, "official": state != "COMMENT" && !p.strangers.contains(who),
                    "comments_count": comments,
                })
            });
            let size = call.number("limit", 30).min(50);
            let (given, more) = paged(given.collect(), call.number("page", 1), size);
            (200, Value::Array(given), more)
        }
        [review, "comments"] => {
            let of = p.remarks.iter().zip(1..).filter(|(r, _)| (r.review + 1).to_string() == *review);
            let comments = of.map(|(r, id)| {
                let resolver = r.settled.then(|| json!({ "login": "somebody" }));
                json!({ "id": id, "path": r.path, "position": r.line, "body": r.text, "resolver": resolver })
            });
            (200, comments.collect(), false)
        }
        _ => not_found(),
    }
}

fn not_found() -> Said {
    (404, json!({ "message": "The target couldn't be found.", "url": "" }), false)
}
