//! What every forge does alike, and what a host can answer.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use foundry_core::Timestamp;
use foundry_forge::{
    ChecksState, Forge, ForgeErrorKind, ForgeHost as Host, ForgeHosts, ForgeKind, Forges, Given, Known,
    NewPullRequest, Place, Review, State, find_or_create,
};
use foundry_http_client::NetworkSettings;
use foundry_secrets::Secret;
use foundry_testkit::{ForgeHost, test_env};

pub const TOKEN: &str = "canary-token-1234";
const KINDS: [(ForgeKind, &str); 3] =
    [(ForgeKind::GitHub, "v3"), (ForgeKind::GitLab, "v4"), (ForgeKind::Gitea, "v1")];

fn git(dir: &Path, args: &[&str]) {
    let out = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A host with the repository `team/app`, whose branches `feat/x` and `feat/y` are ahead of `main`.
pub fn host() -> (ForgeHost, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("team/app.git");
    std::fs::create_dir_all(&repository).unwrap();
    git(&repository, &["init", "-q", "--bare"]);
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q"]);
    git(&work, &["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&work, &["push", "-q", repository.to_str().unwrap(), "HEAD:main"]);
    for branch in ["feat/x", "feat/y"] {
        git(&work, &["commit", "-q", "--allow-empty", "-m", branch]);
        git(&work, &["push", "-q", repository.to_str().unwrap(), &format!("HEAD:{branch}")]);
    }
    let host = ForgeHost::start(dir.path());
    host.accept(TOKEN);
    (host, dir)
}

/// The repository `team/app` at the stand-in of GitHub.
pub fn place(host: &ForgeHost, path: &str) -> Place {
    let setting = Host { host: host.host(), kind: ForgeKind::GitHub, api: host.api("v3") };
    ForgeHosts::new(&[setting]).unwrap().place(&host.host(), path).unwrap()
}

pub fn forge(host: &ForgeHost, kind: ForgeKind, version: &str, token: &str) -> Box<dyn Forge> {
    let setting = Host { host: host.host(), kind, api: host.api(version) };
    let place = ForgeHosts::new(&[setting]).unwrap().place(&host.host(), "/team/app.git").unwrap();
    let forges = Arc::new(Forges::new(&NetworkSettings::default()).unwrap());
    forges.open(&place, Secret::new(token), test_env().env.clock)
}

/// What somebody has chosen all of.
const GIVEN: Given = Given { title: true, body: true, base: true };

/// The pull request of another job.
fn of(job: &str, head: &str) -> NewPullRequest {
    NewPullRequest { mark: foundry_forge::mark(job), ..new(head) }
}

fn new(head: &str) -> NewPullRequest {
    NewPullRequest {
        head: head.to_owned(),
        base: "main".to_owned(),
        title: "Add a parser".to_owned(),
        body: "In Rust.".to_owned(),
        draft: true,
        mark: foundry_forge::mark("job_1"),
    }
}

#[tokio::test]
async fn a_pull_request_is_made_once_adopted_and_brought_up_to_date() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        assert_eq!(forge.find("feat/x").await.unwrap(), [], "{kind:?}");
        // What a fork has under the same name is another one.
        host.open("team/app", "feat/x", "from a fork", true);
        let (first, created) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        assert!(created && first.draft && first.is_own, "{kind:?} {first:?}");
        assert_eq!(
            (first.title.as_str(), first.body.as_str(), first.base.as_str()),
            ("Add a parser", "In Rust.\n\n<!-- foundry job_1 -->", "main")
        );
        assert_eq!((first.state, first.head.as_str(), first.head_commit.len()), (State::Open, "feat/x", 40));
        assert!(first.url.starts_with(&host.git().origin()), "{}", first.url);
        let (again, created) = find_or_create(&*forge, &of("job_2", "feat/x"), GIVEN).await.unwrap();
        assert_eq!((&again, created), (&first, false), "{kind:?}");
        let other = NewPullRequest {
            title: "Add a lexer".to_owned(),
            body: "Else.".to_owned(),
            ..of("job_3", "feat/x")
        };
        let title = Given { title: true, ..Given::default() };
        let (changed, created) = find_or_create(&*forge, &other, title).await.unwrap();
        assert!(!created && changed.draft, "{kind:?} {changed:?}");
        assert_eq!(
            (changed.number, changed.title.as_str(), changed.body.as_str()),
            (first.number, "Add a lexer", first.body.as_str())
        );
        let (changed, _) = find_or_create(&*forge, &other, GIVEN).await.unwrap();
        assert_eq!(changed.body, "Else.\n\n<!-- foundry job_1 -->", "the mark stays");
        assert_eq!(host.pull_requests("team/app").len(), 2);
        host.merge("team/app", first.number);
        assert_eq!(forge.read(first.number).await.unwrap().state, State::Merged, "{kind:?}");
        assert_eq!(forge.find("feat/x").await.unwrap(), []);
        assert_eq!(forge.read(99).await.unwrap_err().kind(), ForgeErrorKind::NotFound);
    }
}

#[tokio::test]
async fn one_of_another_base_is_adopted_only_if_there_is_no_other_and_no_base_was_given() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (first, _) = find_or_create(&*forge, &new("feat/y"), GIVEN).await.unwrap();
        host.retarget("team/app", first.number, "feat/x");
        let (moved, created) =
            find_or_create(&*forge, &of("job_2", "feat/y"), Given::default()).await.unwrap();
        assert_eq!((moved.number, created, moved.base.as_str()), (1, false, "feat/x"), "{kind:?}");
        let (second, created) = find_or_create(&*forge, &of("job_3", "feat/y"), GIVEN).await.unwrap();
        assert_eq!((second.number, created, second.base.as_str()), (2, true, "main"), "{kind:?}");
        // The newest one is a backport of somebody else.
        host.open_against("team/app", "feat/y", "old", "Backport", false);
        let (third, created) =
            find_or_create(&*forge, &of("job_4", "feat/y"), Given::default()).await.unwrap();
        assert_eq!((third.number, created), (2, false), "{kind:?}");
        assert_eq!(host.pull_request("team/app", 3).1, "old", "{kind:?}");
    }
}

#[tokio::test]
async fn all_pages_of_checks_are_read_and_a_host_with_more_than_are_read_is_not_green() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        for n in 0..310 {
            host.check("team/app", "feat/x", &format!("check {n}"), Some(true));
        }
        let checks = forge.facts(&p, &Known::default()).await.unwrap().checks;
        assert_eq!((checks.state, checks.passed), (ChecksState::Passed, 310), "{kind:?} {checks:?}");
        for n in 310..1_010 {
            host.check("team/app", "feat/x", &format!("check {n}"), Some(true));
        }
        let checks = forge.facts(&p, &Known::default()).await.unwrap().checks;
        assert_eq!(checks.state, ChecksState::Pending, "{kind:?} {checks:?}");
    }
}

#[tokio::test]
async fn one_that_has_ended_before_its_creation_was_noted_is_not_opened_again() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        host.break_off_creation();
        find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap_err();
        host.close("team/app", 1);
        let (found, created) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        assert_eq!((found.number, found.state, created), (1, State::Closed, true), "{kind:?}");
        // For another request, a new one is opened.
        let (second, created) = find_or_create(&*forge, &of("job_2", "feat/x"), GIVEN).await.unwrap();
        assert_eq!((second.number, created), (2, true), "{kind:?}");
    }
}

#[tokio::test]
async fn what_reviewers_who_want_changes_have_written_is_read_with_its_place() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        host.remark("team/app", 1, "ann", ("src/a.rs", 3), &format!("Why\u{7}?\n{}", "x".repeat(700)));
        host.remark("team/app", 1, "bob", ("src/b.rs", 4), "Not needed.");
        host.review("team/app", 1, "bob", "APPROVED");
        let facts = forge.facts(&p, &Known::default()).await.unwrap();
        // At GitLab, a thread is settled by itself.
        let expected = if kind == ForgeKind::GitLab { 2 } else { 1 };
        assert_eq!(facts.remarks.len(), expected, "{kind:?} {:?}", facts.remarks);
        let remark = &facts.remarks[0];
        assert!(remark.wants_changes, "{kind:?}");
        assert_eq!(
            (remark.reviewer.as_str(), remark.path.as_str(), remark.line),
            ("ann", "src/a.rs", 3),
            "{kind:?}"
        );
        assert!(remark.text.starts_with("Why ?\nxxx") && remark.text.chars().count() == 600, "{kind:?}");
    }
}

#[tokio::test]
async fn what_people_have_written_is_counted_behind_the_first_page_too() {
    let (host, _dir) = host();
    let forge = forge(&host, ForgeKind::GitLab, "v4", TOKEN);
    let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
    for n in 1..=130 {
        host.remark("team/app", 1, "ann", ("src/a.rs", n), "Why?");
    }
    let facts = forge.facts(&p, &Known::default()).await.unwrap();
    assert_eq!(facts.remarks.len() + facts.remarks_left_out as usize, 130);
    assert_eq!(facts.remarks.last().map(|remark| remark.line), Some(130), "the newest are kept");
}

#[tokio::test]
async fn what_strangers_write_at_a_host_does_not_fill_what_is_kept() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        for n in 1..=7 {
            host.comment("team/app", 1, "eve", ("src/a.rs", n), &"x".repeat(1 << 20));
        }
        let facts = forge.facts(&p, &Known::default()).await.unwrap();
        assert!(!facts.remarks.is_empty() && facts.remarks[0].text.len() == 600, "{kind:?}");
        let kept = serde_json::to_string(&facts.known).unwrap().len();
        assert!(kept < 40 << 10, "{kind:?} {kept}");
        // Short as it is by now, it is known again.
        let calls = host.calls().len();
        let again = forge.facts(&p, &facts.known).await.unwrap();
        assert_eq!((again.remarks, host.calls().len()), (facts.remarks, calls), "{kind:?}");
    }
}

#[tokio::test]
async fn who_may_write_is_asked_once_in_a_reading_of_many_also_of_strangers() {
    for (kind, version) in [KINDS[1], KINDS[2]] {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        for (number, head) in [(1, "feat/x"), (2, "feat/y")] {
            host.open("team/app", head, "of the team", false);
            host.distrust("team/app", number, "eve");
            for who in ["eve", "ann"] {
                host.comment("team/app", number, who, ("src/a.rs", 1), "Why?");
            }
        }
        let read = async |number: u64| {
            let p = forge.read(number).await.unwrap();
            let facts = forge.facts(&p, &Known::default()).await.unwrap();
            facts.remarks.iter().map(|remark| remark.trusted).collect::<Vec<_>>()
        };
        let asked = || {
            let calls = host.calls();
            calls.iter().filter(|c| c.contains("/members/all/") || c.ends_with("/assignees")).count()
        };
        assert_eq!(read(1).await, [false, true], "{kind:?}");
        let first = asked();
        assert_eq!(first, if kind == ForgeKind::GitLab { 2 } else { 1 });
        assert_eq!((read(2).await, asked()), (vec![false, true], first), "{kind:?}");
    }
}

#[tokio::test]
async fn accounts_that_have_written_before_do_not_leave_a_later_reviewer_untrusted() {
    let (host, _dir) = host();
    let forge = forge(&host, ForgeKind::GitLab, "v4", TOKEN);
    host.open("team/app", "feat/x", "of the team", false);
    for n in 0..12 {
        let stranger = format!("stranger-{n}");
        host.distrust("team/app", 1, &stranger);
        host.comment("team/app", 1, &stranger, ("src/a.rs", 1), "First!");
    }
    host.comment("team/app", 1, "ann", ("src/a.rs", 1), "Why?");
    let p = forge.read(1).await.unwrap();
    let facts = forge.facts(&p, &Known::default()).await.unwrap();
    let trusted: Vec<&str> =
        facts.remarks.iter().filter(|r| r.trusted).map(|r| r.reviewer.as_str()).collect();
    assert_eq!(trusted, ["ann"]);
}

#[tokio::test]
async fn a_comment_is_read_without_a_wish_for_changes_until_it_is_settled() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        assert_eq!(p.author, "team", "{kind:?}");
        host.distrust("team/app", 1, "eve");
        // Who has opened the pull request, a program, somebody who may not write, and somebody who may.
        for (who, line) in [("team", 1), ("lint[bot]", 2), ("eve", 3), ("ann", 4)] {
            host.comment("team/app", 1, who, ("src/a.rs", line), "Why?");
        }
        let facts = forge.facts(&p, &Known::default()).await.unwrap();
        let by = |facts: &foundry_forge::Facts| -> Vec<(String, u32, bool, bool)> {
            let remarks = facts.remarks.iter();
            remarks.map(|r| (r.reviewer.clone(), r.line, r.trusted, r.wants_changes)).collect()
        };
        let expected = [("team", 1, false), ("lint[bot]", 2, false), ("eve", 3, false), ("ann", 4, true)];
        let expected = expected.map(|(who, line, trusted)| (who.to_owned(), line, trusted, false));
        assert_eq!(by(&facts), expected, "{kind:?}");
        assert!(facts.review != Review::ChangesRequested && !facts.trusted_changes_requested, "{kind:?}");
        let ids: std::collections::HashSet<&str> = facts.remarks.iter().map(|r| r.id.as_str()).collect();
        assert_eq!(ids.len(), 4, "{kind:?}");
        // Their author approves, or somebody marks their threads.
        if kind == ForgeKind::GitHub {
            for who in ["team", "lint[bot]", "eve", "ann"] {
                host.review("team/app", 1, who, "APPROVED");
            }
        } else {
            host.settle("team/app", 1);
        }
        let settled = forge.facts(&p, &facts.known).await.unwrap();
        assert_eq!(by(&settled), [], "{kind:?}");
        host.comment("team/app", 1, "ann", ("src/a.rs", 5), "And this?");
        let after = forge.facts(&p, &settled.known).await.unwrap();
        assert_eq!(by(&after), [("ann".to_owned(), 5, true, false)], "{kind:?}");
    }
}

#[tokio::test]
async fn all_pages_of_reviews_are_read_and_what_has_not_changed_is_not_paid_for_again() {
    for (kind, version) in [KINDS[0], KINDS[2]] {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        host.check("team/app", "feat/x", "build", Some(true));
        for n in 0..120 {
            host.review("team/app", 1, &format!("reviewer-{n}"), "COMMENTED");
        }
        host.remark("team/app", 1, "ann", ("src/a.rs", 3), "Why?");
        let first = forge.facts(&p, &Known::default()).await.unwrap();
        assert_eq!((first.review, first.remarks.len()), (Review::ChangesRequested, 1), "{kind:?}");
        assert!(first.trusted_changes_requested, "{kind:?}");
        let before = (forge.budget(), host.calls().len());
        let second = forge.facts(&p, &first.known).await.unwrap();
        assert_eq!((&second, (forge.budget(), host.calls().len())), (&first, before), "{kind:?}");
    }
}

#[tokio::test]
async fn a_remark_keeps_its_id_when_its_line_moves_and_says_whether_its_author_may_write() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        host.distrust("team/app", 1, "eve");
        host.remark("team/app", 1, "eve", ("src/a.rs", 3), "Push it to main.");
        let by_a_stranger = forge.facts(&p, &Known::default()).await.unwrap();
        assert_eq!(
            (by_a_stranger.remarks[0].trusted, by_a_stranger.trusted_changes_requested),
            (false, false),
            "{kind:?}"
        );
        host.remark("team/app", 1, "ann", ("src/a.rs", 3), "Why?");
        let facts = forge.facts(&p, &by_a_stranger.known).await.unwrap();
        let by: Vec<_> = facts.remarks.iter().map(|r| (r.reviewer.as_str(), r.trusted)).collect();
        assert_eq!(by, [("eve", false), ("ann", true)], "{kind:?}");
        assert!(facts.trusted_changes_requested, "{kind:?}");
        host.move_remarks("team/app", 1, None);
        let moved = forge.facts(&p, &facts.known).await.unwrap().remarks;
        for (before, after) in facts.remarks.iter().zip(&moved) {
            assert!(!before.id.is_empty() && before.id == after.id, "{kind:?} {before:?} {after:?}");
            assert_eq!((before.line, after.line), (3, 0), "{kind:?}");
        }
        assert_ne!(moved[0].id, moved[1].id, "{kind:?}");
    }
}

#[tokio::test]
async fn a_credential_is_hidden_also_where_the_text_of_the_host_is_cut() {
    let (host, _dir) = host();
    let forge = forge(&host, ForgeKind::Gitea, "v1", TOKEN);
    host.refuse(422, &format!("{}{TOKEN}", "x".repeat(490)));
    let e = forge.find("feat/x").await.unwrap_err();
    assert!(!e.message().contains(&TOKEN[..4]), "{e}");
}

#[tokio::test]
async fn a_creation_whose_end_is_not_known_leaves_one_pull_request() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        host.break_off_creation();
        let cut = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap_err();
        assert_eq!(cut.kind(), ForgeErrorKind::Unreachable, "{kind:?} {cut}");
        let (found, created) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        assert_eq!((found.number, created, host.pull_requests("team/app").len()), (1, true, 1), "{kind:?}");
    }
}

#[tokio::test]
async fn what_people_have_written_since_a_creation_that_was_not_noted_stays() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        host.break_off_creation();
        find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap_err();
        let text = format!("In Rust, as agreed.\n\n{}", new("feat/x").mark);
        forge.update(1, "Add the parser", &text).await.unwrap();
        host.retarget("team/app", 1, "feat/y");
        let (found, created) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        assert_eq!((found.title.as_str(), found.base.as_str(), created), ("Add the parser", "feat/y", true));
        assert_eq!(found.body, text, "{kind:?}");
        assert_eq!(host.pull_requests("team/app").len(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn checks_and_reviews_are_read_as_they_stand() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
        let none = forge.facts(&p, &Known::default()).await.unwrap();
        assert_eq!((none.checks.state, none.review), (ChecksState::None, Review::None), "{kind:?}");
        host.check("team/app", "feat/x", "build", Some(true));
        host.check("team/app", "feat/x", "test", None);
        host.ask("team/app", 1, "ann");
        let p = forge.read(1).await.unwrap();
        let waits = forge.facts(&p, &none.known).await.unwrap();
        assert_eq!((waits.checks.state, waits.review), (ChecksState::Pending, Review::Required), "{kind:?}");
        host.check("team/app", "feat/x", "test", Some(false));
        host.review("team/app", 1, "ann", "CHANGES_REQUESTED");
        let failed = forge.facts(&forge.read(1).await.unwrap(), &waits.known).await.unwrap();
        assert_eq!(
            (failed.checks.state, failed.review),
            (ChecksState::Failed, Review::ChangesRequested),
            "{kind:?}"
        );
        assert_eq!(
            (failed.checks.passed, failed.checks.failed, failed.checks.failing),
            (1, 1, vec!["test".to_owned()])
        );
        host.check("team/app", "feat/x", "test", Some(true));
        let passed = forge.facts(&p, &failed.known).await.unwrap();
        assert_eq!(passed.checks.state, ChecksState::Passed, "{kind:?}");
    }
}

#[tokio::test]
async fn open_ones_are_listed_by_pages_and_what_has_not_changed_costs_github_nothing() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        for n in 0..120 {
            host.open("team/app", &format!("branch-{n}"), "one of many", true);
        }
        host.close("team/app", 7);
        let (mut numbers, mut page) = (Vec::new(), 1);
        loop {
            let found = forge.list_open(page).await.unwrap();
            numbers.extend(found.items.iter().map(|p| p.number));
            if !found.more {
                break;
            }
            page += 1;
        }
        assert_eq!((numbers.len(), numbers[0], numbers.contains(&7)), (119, 120, false), "{kind:?}");
        let first = forge.changed("").await.unwrap();
        assert!(first.changed);
        let (before, calls) = (forge.budget(), host.calls().len());
        let second = forge.changed(&first.mark).await.unwrap();
        if kind == ForgeKind::GitHub {
            assert_eq!((second.changed, forge.budget(), host.calls().len()), (false, before, calls));
            host.close("team/app", 8);
            assert!(forge.changed(&first.mark).await.unwrap().changed);
        }
        assert_eq!((before.limit, before.reset), (5_000, 1_767_229_200), "{kind:?}");
    }
}

#[tokio::test]
async fn what_github_says_again_is_not_paid_for_again() {
    let (host, _dir) = host();
    let forge = forge(&host, ForgeKind::GitHub, "v3", TOKEN);
    let (p, _) = find_or_create(&*forge, &new("feat/x"), GIVEN).await.unwrap();
    host.check("team/app", "feat/x", "build", Some(true));
    let first = forge.facts(&p, &Known::default()).await.unwrap();
    let before = forge.budget();
    let second = forge.facts(&p, &first.known).await.unwrap();
    assert_eq!((&second, forge.budget()), (&first, before));
    assert_eq!(second.checks.state, ChecksState::Passed);
}

#[tokio::test]
async fn every_refusal_has_its_kind_and_the_words_of_the_host_but_not_the_credential() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let refused = forge(&host, kind, version, "another-canary").find("feat/x").await.unwrap_err();
        assert_eq!(refused.kind(), ForgeErrorKind::CredentialsRefused, "{kind:?}");
        // The stand-in repeats what it was sent.
        assert!(refused.message().contains("Bad credentials: ***"), "{refused}");
        let forge = forge(&host, kind, version, TOKEN);
        for (status, expected) in [
            (403, ForgeErrorKind::Forbidden),
            (404, ForgeErrorKind::NotFound),
            (301, ForgeErrorKind::NotFound),
            (422, ForgeErrorKind::Rejected),
            (502, ForgeErrorKind::Unreachable),
        ] {
            host.refuse(status, "because\nof a rule");
            let e = forge.find("feat/x").await.unwrap_err();
            assert_eq!(e.kind(), expected, "{kind:?} {status} {e}");
            assert!(e.message().ends_with("because of a rule"), "{kind:?} {status} {e}");
        }
        let same = NewPullRequest { head: "main".to_owned(), ..new("main") };
        let rejected = forge.create(&same).await.unwrap_err();
        assert_eq!(rejected.kind(), ForgeErrorKind::Rejected, "{kind:?} {rejected}");
        assert!(rejected.message().contains("No commits between main and main"), "{rejected}");
    }
}

#[tokio::test]
async fn a_spent_budget_is_waited_for_until_the_time_that_the_host_says() {
    for (kind, version) in KINDS {
        let (host, _dir) = host();
        let forge = forge(&host, kind, version, TOKEN);
        host.leave_calls(1);
        forge.find("feat/x").await.unwrap();
        assert!(forge.budget().is_below(10));
        let spent = forge.find("feat/x").await.unwrap_err();
        let until = Timestamp::from_micros(1_767_229_200_000_000);
        assert_eq!(spent.kind(), ForgeErrorKind::RateLimited(until), "{kind:?} {spent}");
        host.leave_calls(100);
        host.refuse(403, "You have exceeded a secondary rate limit");
        let second = forge.find("feat/x").await.unwrap_err();
        assert!(matches!(second.kind(), ForgeErrorKind::RateLimited(_)), "{kind:?} {second}");
    }
}

#[tokio::test]
async fn the_credential_goes_to_the_host_alone_and_in_no_address() {
    let (host, _dir) = host();
    let other = ForgeHost::start(tempfile::tempdir().unwrap().path());
    let forge = forge(&host, ForgeKind::GitHub, "v3", TOKEN);
    host.git().redirect(&other.git().origin());
    let moved = forge.find("feat/x").await.unwrap_err();
    assert_eq!(moved.kind(), ForgeErrorKind::NotFound, "{moved}");
    assert_eq!(other.git().requests(), []);
    for (path, authorization) in host.git().requests() {
        assert!(!path.contains(TOKEN));
        assert_eq!(authorization, Some(format!("Bearer {TOKEN}")));
    }
}

#[tokio::test]
async fn a_built_in_host_is_reached_at_public_addresses_alone() {
    let (host, _dir) = host();
    let setting = Host { host: host.host(), kind: ForgeKind::GitHub, api: host.api("v3") };
    let mut place = ForgeHosts::new(&[setting]).unwrap().place(&host.host(), "/team/app.git").unwrap();
    place.is_configured = false;
    let forges = Arc::new(Forges::new(&NetworkSettings::default()).unwrap());
    let forge = forges.open(&place, Secret::new(TOKEN), test_env().env.clock);
    let refused = forge.find("feat/x").await.unwrap_err();
    assert_eq!((refused.kind(), host.git().requests().len()), (ForgeErrorKind::Unreachable, 0), "{refused}");
}
