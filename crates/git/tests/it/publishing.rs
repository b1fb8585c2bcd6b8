//! What is published of a work, and pushes to real remotes.

use std::time::Duration;

use foundry_git::{CommitId, Mirror, MirrorLimits, PublishSpec, Publishable, Pushed, RemoteUrl, Result};

use crate::lab::{Lab, Sandbox, branch, work};

/// A bare remote with the repository's history.
fn bare(lab: &Lab) -> std::path::PathBuf {
    lab.sh(&lab.real(), "git clone -q --bare . ../bare.git");
    lab.path("bare.git")
}

fn remote(lab: &Lab) -> RemoteUrl {
    RemoteUrl::parse(lab.path("bare.git").to_str().unwrap(), &lab.policy()).unwrap()
}

fn spec(sandbox: &Sandbox<'_>, head: &CommitId) -> PublishSpec {
    PublishSpec {
        base: sandbox.base.clone(),
        head: head.clone(),
        merged: None,
        tip: None,
        tip_of: None,
        author: ("Ada".into(), "ada@example.com".into()),
        message: "Add a parser\n".into(),
        squash: false,
        force: false,
    }
}

async fn made(sandbox: &Sandbox<'_>, spec: &PublishSpec) -> Result<Publishable> {
    sandbox.mirror.publishable(spec).await
}

fn show(sandbox: &Sandbox<'_>, commit: &CommitId, format: &str) -> String {
    sandbox.lab.sh(sandbox.mirror.dir(), &format!("git show -s --format='{format}' {commit}"))
}

fn set_hook(lab: &Lab, script: &str) {
    let hook = lab.path("bare.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
    lab.sh(&lab.path("bare.git"), "chmod +x hooks/pre-receive");
}

#[tokio::test]
async fn the_agents_commits_stay_as_they_are_and_the_rest_becomes_a_commit_of_the_user() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo b > b");
    let agent = sandbox.lab.rev(&sandbox.tree, "HEAD");
    let head = sandbox.import().await.head;
    let spec = spec(&sandbox, &head);
    let first = made(&sandbox, &spec).await.unwrap();
    assert_eq!(first.commit_count, 2);
    assert_eq!(first.commits[0].1, "Add a parser");
    assert_eq!(first.commits[1], (agent.clone(), "agent: a".into()));
    assert_eq!((first.files, first.additions, first.rewrites), (2, 2, false));
    let who = show(&sandbox, &first.commit, "%an %ae %cn %ce %P");
    assert_eq!(who, format!("Ada ada@example.com Ada ada@example.com {agent}"));
    let trees = [&first.commit, &head].map(|c| show(&sandbox, c, "%T"));
    assert_eq!(trees[0], trees[1]);
    // The same input gives the same commit, and the work itself has not changed.
    assert_eq!(made(&sandbox, &spec).await.unwrap(), first);
    let squashed = made(&sandbox, &PublishSpec { squash: true, ..spec }).await.unwrap();
    assert_eq!(squashed.commit_count, 1);
    assert_eq!(show(&sandbox, &squashed.commit, "%P %T"), format!("{} {}", sandbox.base, trees[0]));
}

#[tokio::test]
async fn work_without_a_rest_is_pushed_as_the_agent_committed_it() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("echo a > a; git add a; git commit -qm 'agent: a'");
    let head = sandbox.import().await.head;
    assert_eq!(made(&sandbox, &spec(&sandbox, &head)).await.unwrap().commit, head);
}

#[tokio::test]
async fn later_work_continues_what_was_published_and_a_rewritten_history_needs_force() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("echo a > a; git add a; git commit -qm 'agent: a'; echo b > b");
    let before = sandbox.import().await.head;
    let first = made(&sandbox, &spec(&sandbox, &before)).await.unwrap().commit;
    sandbox.sh("echo c > c");
    let head = sandbox.import().await.head;
    let again = |head: &CommitId| PublishSpec {
        tip: Some(first.clone()),
        tip_of: Some(before.clone()),
        ..spec(&sandbox, head)
    };
    let second = made(&sandbox, &again(&head)).await.unwrap();
    assert_eq!(show(&sandbox, &second.commit, "%P"), first.to_string());
    assert_eq!((second.commit_count, second.files, second.rewrites), (1, 1, false));
    // With commits of the agent since, both histories are kept.
    sandbox.sh("git add -A; git commit -qm 'agent: all'");
    let agent = sandbox.lab.rev(&sandbox.tree, "HEAD");
    let head = sandbox.import().await.head;
    let third = made(&sandbox, &again(&head)).await.unwrap();
    assert_eq!(show(&sandbox, &third.commit, "%P"), format!("{first} {agent}"));
    assert_eq!(show(&sandbox, &third.commit, "%T"), show(&sandbox, &head, "%T"));
    assert_eq!(sandbox.mirror.commits_since(&head, &[before.clone(), first.clone()]).await.unwrap(), 1);

    sandbox.sh("git reset -q --hard HEAD~2; echo z > z; git add z; git commit -qm other");
    let head = sandbox.import().await.head;
    let refused = made(&sandbox, &again(&head)).await.unwrap_err();
    assert_eq!(refused.reason(), "PUBLISH_NEEDS_FORCE");
    let forced = made(&sandbox, &PublishSpec { force: true, ..again(&head) }).await.unwrap();
    assert_eq!((&forced.commit, forced.rewrites), (&head, true));
    // Of what was published, only the commit that both have is not lost.
    let lost: Vec<&str> = forced.lost.iter().map(|(_, subject)| subject.as_str()).collect();
    assert_eq!((lost.as_slice(), forced.lost_count), (&["Add a parser", "agent: a"][..], 2));
    assert_eq!((second.lost, second.lost_count), (Vec::new(), 0), "nothing is replaced");
}

#[tokio::test]
async fn newer_work_on_a_restacked_branch_keeps_the_ancestry_of_what_it_has_merged() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("echo a > a; git add a; git commit -qm 'agent: a'");
    let before = sandbox.import().await.head;
    // The branch was brought onto another commit, and the work has merged a third one.
    sandbox.sh(
        "git checkout -q -b restacked; echo r > r; git add r; git commit -qm restacked; git checkout -q -",
    );
    sandbox.sh(
        "git checkout -q -b other HEAD~1; echo o > o; git add o; git commit -qm other; git checkout -q -",
    );
    sandbox.sh("git merge -q --no-edit other; git merge -q --no-edit -s ours restacked; echo b > b; git add b; git commit -qm 'agent: b'");
    let head = sandbox.import().await.head;
    let [tip, merged] = ["restacked", "other"].map(|name| lab.rev(&sandbox.tree, name));
    let spec = PublishSpec {
        tip: Some(tip.clone()),
        tip_of: Some(before),
        merged: Some(merged.clone()),
        ..spec(&sandbox, &head)
    };
    // Another history, so that the tip is no ancestor of it.
    let made = made(&sandbox, &PublishSpec { squash: true, ..spec }).await.unwrap();
    assert_eq!(show(&sandbox, &made.commit, "%P"), format!("{tip} {merged}"));
}

#[tokio::test]
async fn pushes_by_a_lease_on_the_expected_tip_and_nothing_else() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let (origin, url) = (bare(&lab), remote(&lab));
    sandbox.sh("echo a > a");
    let head = sandbox.import().await.head;
    let commit = made(&sandbox, &spec(&sandbox, &head)).await.unwrap().commit;
    let x = branch("feat/x");
    let refs = lab.sh(&origin, "git for-each-ref");
    let push =
        async |expected: Option<&CommitId>| sandbox.mirror.push_branch(&url, &x, &commit, expected).await;
    // Expected somewhere, but not there.
    let Pushed::Refused(moved) = push(Some(&sandbox.base)).await.unwrap() else { panic!("accepted") };
    assert_eq!(moved.reason, "BRANCH_MOVED");
    assert_eq!(lab.sh(&origin, "git for-each-ref"), refs);
    assert_eq!(push(None).await.unwrap(), Pushed::Accepted(String::new()));
    assert_eq!(lab.rev(&origin, "refs/heads/feat/x"), commit);
    // Once it is there, there is nothing to push.
    assert_eq!(push(None).await.unwrap(), Pushed::Accepted(String::new()));
    let tip = sandbox.mirror.remote_tip(&url, &x).await.unwrap();
    assert_eq!((tip.commit, tip.is_default), (Some(commit.clone()), false));
    let main = sandbox.mirror.remote_tip(&url, &branch("main")).await.unwrap();
    assert_eq!((main.commit, main.is_default), (Some(sandbox.base.clone()), true));
    assert_eq!(
        lab.sh(&origin, "git for-each-ref --format='%(refname)'"),
        "refs/heads/feat/x\nrefs/heads/main"
    );
}

#[tokio::test]
async fn a_hook_that_declines_is_heard_and_its_output_bounded() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let (origin, url) = (bare(&lab), remote(&lab));
    sandbox.sh("echo a > a");
    let head = sandbox.import().await.head;
    let refs = lab.sh(&origin, "git for-each-ref");
    for (script, reason, word) in [
        (
            "echo 'error: GH013: Repository rule violations found for refs/heads/x.'; echo '- Push cannot contain secrets'; exit 1",
            "PUSH_SECRET_FOUND",
            "GH013: Repository rule violations",
        ),
        (
            "printf '\\033[31mno\\033[0m \\377\\376 way\\000x\\n'; yes noise | head -c 10000000 >&2; echo last; exit 1",
            "PUSH_DECLINED",
            "last",
        ),
    ] {
        set_hook(&lab, script);
        let pushed = sandbox.mirror.push_branch(&url, &branch("x"), &head, None).await.unwrap();
        let Pushed::Refused(refusal) = pushed else { panic!("accepted") };
        assert_eq!(refusal.reason, reason);
        assert!(refusal.words.contains(word) && refusal.words.len() <= 2_000, "{}", refusal.words);
        assert!(!refusal.words.chars().any(|c| c.is_control() && c != '\n'), "{:?}", refusal.words);
        assert_eq!(lab.sh(&origin, "git for-each-ref"), refs);
    }
}

#[tokio::test]
async fn a_remote_that_hangs_ends_in_bounded_time_with_all_its_processes() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let url = (bare(&lab), remote(&lab)).1;
    sandbox.sh("echo a > a");
    let head = sandbox.import().await.head;
    let mark = lab.path("pid");
    set_hook(&lab, &format!("echo $$ > {}; exec sleep 300", mark.display()));
    let limits = MirrorLimits { fetch_wall: Duration::from_millis(1_500), ..MirrorLimits::default() };
    let mirror = Mirror::open(&lab.git, sandbox.mirror.dir(), limits).await.unwrap();
    let slow = mirror.push_branch(&url, &branch("x"), &head, None).await.unwrap_err();
    assert_eq!((slow.reason(), slow.retryable()), ("GIT_TIMEOUT", true));
    let pid = std::fs::read_to_string(mark).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).ok();
    while state().is_some_and(|s| !s.contains(") Z ")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hostile_branch_name_is_data_and_other_refusals_are_typed() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let (origin, url) = (bare(&lab), remote(&lab));
    sandbox.sh("echo a > a");
    let head = sandbox.import().await.head;
    for name in ["$(id)", "a;b", "é/日本", "'\"", "x,y=z"] {
        let pushed = sandbox.mirror.push_branch(&url, &branch(name), &head, None).await.unwrap();
        assert_eq!(pushed, Pushed::Accepted(String::new()), "{name}");
        let tip = sandbox.mirror.remote_tip(&url, &branch(name)).await.unwrap();
        assert_eq!(tip.commit, Some(head.clone()), "{name}");
    }
    let Pushed::Refused(taken) =
        sandbox.mirror.push_branch(&url, &branch("main/x"), &head, None).await.unwrap()
    else {
        panic!("accepted")
    };
    assert_eq!(taken.reason, "BRANCH_CONFLICT", "{}", taken.words);
    lab.sh(&origin, "git symbolic-ref HEAD refs/heads/other");
    let tip = sandbox.mirror.remote_tip(&url, &branch("other")).await.unwrap();
    assert_eq!(tip.commit, None);
    std::fs::remove_dir_all(&origin).unwrap();
    let gone = sandbox.mirror.remote_tip(&url, &branch("x")).await.unwrap_err();
    assert_eq!(gone.reason(), "GIT_REMOTE_NOT_FOUND");
}

#[tokio::test]
async fn the_mirror_has_the_branch_and_keeps_the_published_work() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("echo a > a");
    let head = sandbox.import().await.head;
    sandbox.mirror.record_published(&branch("feat/x"), &head, (&work(), &head)).await.unwrap();
    assert_eq!(lab.rev(sandbox.mirror.dir(), "refs/heads/feat/x"), head);
    assert_eq!(lab.rev(sandbox.mirror.dir(), "refs/foundry/published/task_1"), head);
    // The remote lists what it listed before the push: the branch was deleted there.
    assert!(sandbox.mirror.fetch(&lab.remote()).await.unwrap().changed);
    assert!(!sandbox.mirror.fetch(&lab.remote()).await.unwrap().changed);
    sandbox.mirror.record_published(&branch("feat/x"), &head, (&work(), &head)).await.unwrap();
    // A branch that stands in the way is reported; the next fetch finds out what became of it.
    let clash = sandbox.mirror.record_published(&branch("feat/x/y"), &head, (&work(), &head)).await;
    assert!(clash.is_err());
}
