//! `foundry repo overview`: the branches of a repository as stacks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;

use foundry_core::counted;
use foundry_proto::repo::v1::{
    BranchOverview, BranchSyncSource, Divergence, GetRepositoryOverviewRequest, PullRequestSync, Repository,
};
use foundry_service::pull_request_words;

use crate::cli::Output;
use crate::client::Gateway;
use crate::commands::{follow, names};
use crate::failure::Failure;
use crate::output;

/// Branches of one page.
const PAGE: i32 = 500;
/// Names of files in conflict that are printed for one branch.
const FILES: usize = 3;
/// Deepest indentation; what is deeper in a stack is not indented further.
const DEEPEST: usize = 40;

/// Prints the overview, with `watch` again after each change.
pub async fn run(
    gateway: &Gateway,
    output: Output,
    wanted: Option<&str>,
    watch: bool,
) -> Result<ExitCode, Failure> {
    let repository = super::resolve(gateway, wanted).await?;
    if !watch {
        once(gateway, output, &repository).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut before = String::new();
    follow::branches(gateway, &repository.repository_id, async |r, branches| {
        if output == Output::Json {
            output::line(&output::json(r)?);
            return branches.into_iter().try_for_each(|b| output::json(b).map(|text| output::line(&text)));
        }
        let text = if r.overview.as_ref().is_some_and(|o| o.computing) {
            head(r).join("\n")
        } else {
            let titles = titles(gateway, r, branches.iter().copied()).await;
            text(r, &branches, &titles)
        };
        if text != before {
            output::line(&text);
            output::line("");
            before = text;
        }
        Ok(())
    })
    .await
}

async fn once(gateway: &Gateway, output: Output, repository: &Repository) -> Result<(), Failure> {
    let (mut branches, mut page_token) = (Vec::new(), String::new());
    let repository = loop {
        let request = GetRepositoryOverviewRequest {
            repository_id: repository.repository_id.clone(),
            page_size: PAGE,
            page_token,
        };
        let page = gateway.repo().get_repository_overview(request).await?.into_inner();
        if output == Output::Json {
            output::line(&output::json(&page)?);
        }
        branches.extend(page.branches);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break page.repository.unwrap_or_default();
        }
    };
    if output == Output::Table {
        let titles = titles(gateway, &repository, &branches).await;
        output::line(&text(&repository, &branches.iter().collect::<Vec<_>>(), &titles));
    }
    Ok(())
}

/// The titles of the tasks that own branches; without them, the ids are shown alone.
async fn titles(
    gateway: &Gateway,
    repository: &Repository,
    branches: impl IntoIterator<Item = &BranchOverview>,
) -> HashMap<String, String> {
    if branches.into_iter().all(|b| b.task_id.is_empty()) {
        return HashMap::new();
    }
    names::tasks(gateway, &repository.organization_id, &repository.repository_id).await
}

fn text(repository: &Repository, branches: &[&BranchOverview], titles: &HashMap<String, String>) -> String {
    let mut lines = head(repository);
    if branches.is_empty() && repository.sync_time.is_some() {
        lines.push("no branches yet".to_owned());
    }
    for (depth, branch) in tree(branches) {
        lines.push(line(depth, branch, titles));
    }
    lines.join("\n")
}

/// How new the branches are, and what the overview lacks.
fn head(r: &Repository) -> Vec<String> {
    let sync = r.branch_sync.clone().unwrap_or_default();
    let mut first = match &sync.as_of {
        None => format!("{}  not read yet", r.name),
        Some(at) => {
            let source = match sync.source() {
                BranchSyncSource::Poll => ", polled",
                BranchSyncSource::Task => ", for a task",
                BranchSyncSource::Request => ", on request",
                BranchSyncSource::Webhook => ", announced by a webhook",
                BranchSyncSource::Unspecified => "",
            };
            format!("{}  as of {} UTC{source}", r.name, output::time(Some(at)))
        }
    };
    if let Some(since) = &sync.running_since {
        first.push_str(&format!("; being read since {} UTC", output::time(Some(since))));
    }
    if let Some(next) = &sync.next_refresh_time {
        first.push_str(&format!("; next {} UTC", output::time(Some(next))));
    }
    let mut lines = vec![output::inert(&first)];
    if let Some(stale) = &sync.stale {
        let since = output::time(stale.since_time.as_ref());
        lines.push(format!("stale since {since} UTC: {} ({})", output::inert(&stale.message), stale.reason));
    }
    lines.extend(r.pull_request_sync.as_ref().map(pull_requests));
    if let Some(overview) = &r.overview {
        if overview.computing {
            lines.push(format!("computing: {} of {} branches", overview.done, overview.total));
        }
        if let Some(left_out) = &overview.left_out {
            lines.push(format!("{} ({})", output::inert(&left_out.message), left_out.reason));
        }
    }
    lines
}

/// How new the pull requests are, and how many more calls the host answers.
fn pull_requests(sync: &PullRequestSync) -> String {
    let mut parts = vec![match &sync.as_of {
        None => "pull requests not read yet".to_owned(),
        Some(at) => {
            let more = if sync.truncated { "more than " } else { "" };
            let open = counted(sync.open_count, "open pull request");
            format!("{more}{open} as of {} UTC", output::time(Some(at)))
        }
    }];
    if let Some(reading) = &sync.reading {
        let since = output::time(reading.start_time.as_ref());
        let how_far = match reading.total {
            0 => format!("{} listed", reading.done),
            total => format!("{} of {total}", reading.done),
        };
        parts.push(format!("being read since {since} UTC, {how_far}"));
    }
    if sync.unread_count > 0 {
        parts.push(format!("checks of {} not read yet", sync.unread_count));
    }
    if let Some(stale) = &sync.stale {
        let since = output::time(stale.since_time.as_ref());
        parts.push(format!("stale since {since} UTC: {} ({})", stale.message, stale.reason));
    }
    if let Some(left_out) = &sync.left_out {
        parts.push(format!("{} ({}): {}", left_out.message, left_out.reason, left_out.next_action));
    }
    if sync.api_limit > 0 {
        parts.push(format!("{} of {} calls left", sync.api_remaining, sync.api_limit));
    }
    output::inert(&parts.join("; "))
}

/// The branches in the order of the tree, each with its depth: the default branch first, then those without a parent.
fn tree<'a>(branches: &[&'a BranchOverview]) -> Vec<(usize, &'a BranchOverview)> {
    let names: BTreeSet<&str> = branches.iter().map(|b| b.name.as_str()).collect();
    let mut children: BTreeMap<&str, Vec<&BranchOverview>> = BTreeMap::new();
    let mut roots: Vec<&BranchOverview> = Vec::new();
    for branch in branches {
        match names.contains(branch.parent.as_str()) {
            true => children.entry(&branch.parent).or_default().push(branch),
            false => roots.push(branch),
        }
    }
    let by_name = |list: &mut Vec<&BranchOverview>| {
        list.sort_by(|a, b| (!a.is_default, &a.name).cmp(&(!b.is_default, &b.name)).reverse());
    };
    by_name(&mut roots);
    children.values_mut().for_each(by_name);
    let mut next: Vec<(usize, &BranchOverview)> = roots.into_iter().map(|b| (0, b)).collect();
    let mut placed = Vec::with_capacity(branches.len());
    while let Some((depth, branch)) = next.pop() {
        placed.push((depth, branch));
        let below = children.remove(branch.name.as_str()).unwrap_or_default();
        next.extend(below.into_iter().map(|b| (depth + 1, b)));
    }
    placed
}

/// So many commits are counted; it stands for that many or more.
const COUNTED: i32 = 20_000;

fn commits(count: i32) -> String {
    if count >= COUNTED { format!("{count}+") } else { count.to_string() }
}

fn line(depth: usize, b: &BranchOverview, titles: &HashMap<String, String>) -> String {
    let apart = |d: &Divergence| format!("+{} -{}", commits(d.ahead), commits(d.behind));
    let mut parts = vec![output::inert(&b.name)];
    if let Some(parent) = &b.from_parent {
        parts.push(apart(parent));
    }
    if let Some(base) = b.from_base.filter(|base| b.from_parent != Some(*base)) {
        parts.push(format!("(base {})", apart(&base)));
    }
    if let Some(c) = b.changes.filter(|c| c.files > 0) {
        parts.push(format!("{} +{}/-{}", counted(c.files, "file"), c.additions, c.deletions));
    }
    if let Some(conflicts) = &b.conflicts {
        let mut named: Vec<&str> = conflicts.files.iter().take(FILES).map(String::as_str).collect();
        if usize::try_from(conflicts.count).unwrap_or_default() > named.len() {
            named.push("…");
        }
        parts.push(format!("CONFLICTS: {}", output::inert(&named.join(", "))));
    }
    let words = [
        (b.merged, "merged"),
        (b.unpublished, "nothing published yet"),
        (b.unrelated, "unrelated"),
        (b.work_only, "only in Foundry"),
    ];
    parts.extend(words.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    if let Some(p) = &b.pull_request {
        parts.push(output::inert(&format!("{} {}", pull_request_words(p), p.url)));
    }
    if !b.task_id.is_empty() {
        let title = titles.get(&b.task_id).map(|title| format!(" {}", output::inert(title)));
        parts.push(format!("{}{}", b.task_id, title.unwrap_or_default()));
    }
    if let Some(left_out) = &b.left_out {
        parts.push(format!("{} ({})", output::inert(&left_out.message), left_out.reason));
    }
    format!("{}{}", "  ".repeat(depth.min(DEEPEST)), parts.join("  "))
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Condition;
    use foundry_proto::repo::v1::{
        BranchSync, ChangeSummary, MergeConflicts, OverviewProgress, PullRequestReading,
    };

    use super::*;

    fn branch(name: &str, parent: &str) -> BranchOverview {
        BranchOverview {
            name: name.to_owned(),
            parent: parent.to_owned(),
            from_parent: Some(Divergence { ahead: 1, behind: 0 }),
            from_base: Some(Divergence { ahead: 2, behind: 3 }),
            changes: Some(ChangeSummary { files: 1, additions: 4, deletions: 5 }),
            ..BranchOverview::default()
        }
    }

    #[test]
    fn branches_are_indented_below_their_parents_with_what_there_is_to_say() {
        let main = BranchOverview { name: "main".to_owned(), is_default: true, ..BranchOverview::default() };
        let files = vec!["a".to_owned(), "b\u{1b}[2J".to_owned()];
        let conflicts = Some(MergeConflicts { count: 5, files });
        let b = BranchOverview { conflicts, task_id: "task_1".to_owned(), ..branch("b", "a") };
        let lost = BranchOverview { unpublished: true, ..branch("z", "gone") };
        let all = [&lost, &b, &branch("a", "main"), &main];
        let repository = Repository {
            name: "widgets".to_owned(),
            branch_sync: Some(BranchSync {
                as_of: Some(prost_types::Timestamp { seconds: 1_764_070_696, nanos: 0 }),
                source: BranchSyncSource::Poll.into(),
                stale: Some(Condition {
                    reason: "GIT_TIMEOUT".to_owned(),
                    message: "git ls-remote took longer than 60 s".to_owned(),
                    since_time: Some(prost_types::Timestamp { seconds: 1_764_070_756, nanos: 0 }),
                    ..Condition::default()
                }),
                running_since: Some(prost_types::Timestamp { seconds: 1_764_070_757, nanos: 0 }),
                ..BranchSync::default()
            }),
            pull_request_sync: Some(PullRequestSync {
                as_of: Some(prost_types::Timestamp { seconds: 1_764_070_696, nanos: 0 }),
                open_count: 500,
                unread_count: 450,
                reading: Some(PullRequestReading {
                    start_time: Some(prost_types::Timestamp { seconds: 1_764_070_756, nanos: 0 }),
                    done: 3,
                    total: 50,
                }),
                ..PullRequestSync::default()
            }),
            overview: Some(OverviewProgress { computing: true, done: 3, total: 10, ..Default::default() }),
            ..Repository::default()
        };
        let titles = HashMap::from([("task_1".to_owned(), "Fix it".to_owned())]);
        let expected = "widgets  as of 2025-11-25 11:38:16 UTC, polled; being read since 2025-11-25 11:39:17 UTC\n\
            stale since 2025-11-25 11:39:16 UTC: git ls-remote took longer than 60 s (GIT_TIMEOUT)\n\
            500 open pull requests as of 2025-11-25 11:38:16 UTC; being read since 2025-11-25 11:39:16 UTC, 3 of 50; \
            checks of 450 not read yet\n\
            computing: 3 of 10 branches\n\
            main\n\
            \x20 a  +1 -0  (base +2 -3)  1 file +4/-5\n\
            \x20   b  +1 -0  (base +2 -3)  1 file +4/-5  CONFLICTS: a, b\u{fffd}[2J, …  task_1 Fix it\n\
            z  +1 -0  (base +2 -3)  1 file +4/-5  nothing published yet";
        assert_eq!(text(&repository, &all, &titles), expected);
    }
}
