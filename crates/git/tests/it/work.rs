//! The script that runs in a sandbox, run here on trees as agents leave them.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;

use foundry_git::{ChangeKind, FileChange, WorkBundleExit};

use crate::lab::{Lab, Sandbox};

fn paths(changes: &[FileChange]) -> Vec<String> {
    changes.iter().map(|c| c.path.to_string()).collect()
}

/// The state of the repository that an agent could notice.
fn agent_view(s: &Sandbox<'_>) -> String {
    s.sh("ls -A .git; sha1sum .git/index; cat .git/config; git rev-parse HEAD; git for-each-ref; git ls-files -s")
}

#[tokio::test]
async fn prints_the_base_and_writes_no_bundle_when_nothing_changed() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    std::fs::write(s.bundle(), "left over").unwrap();
    assert_eq!(s.hand_over(), s.base);
    assert!(!s.bundle().exists());
    // An ignored file and a touched one do not count as changes.
    s.sh("mkdir ignored; echo x > ignored/x; touch text");
    assert_eq!(s.hand_over(), s.base);
}

#[tokio::test]
async fn takes_untracked_staged_and_forced_files_and_leaves_the_repository_alone() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo u > untracked; echo s > staged; git add staged; mkdir ignored; echo f > ignored/forced
          git add -f ignored/forced; echo m >> text; git add text; echo n >> text; rm gone");
    let before = agent_view(&s);
    let imported = s.import().await;
    assert_eq!(agent_view(&s), before);
    assert_eq!(paths(&imported.changes), ["gone", "ignored/forced", "staged", "text", "untracked"]);
    assert_eq!(imported.changes[3].additions, 2, "the work tree counts, not what was staged");
    assert!(imported.descends_from_base);
    assert_eq!(s.hand_over(), imported.head, "the same tree at the same time is the same commit");
}

#[tokio::test]
async fn hangs_the_work_on_the_commits_that_the_agent_made() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo a > a; git add a; git commit -q -m 'agent commit'; echo b > b");
    let imported = s.import().await;
    assert_eq!(paths(&imported.changes), ["a", "b"]);
    let log = lab.sh(s.mirror.dir(), "git log --format=%s refs/foundry/work/task_1");
    assert_eq!(log, "Work in progress\nagent commit\nfirst commit");
    // With a clean tree the agent's own commit is the head.
    s.sh("git add b; git commit -q -m second");
    assert_eq!(s.import().await.head, lab.rev(&s.tree, "HEAD"));
    // A detached HEAD makes no difference.
    s.sh("git checkout -q --detach; echo c > c");
    assert_eq!(paths(&s.import().await.changes), ["a", "b", "c"]);
}

#[tokio::test]
async fn takes_rewritten_reset_and_orphaned_histories() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "echo 2 >> text; git commit -q -am second");
    let s = lab.sandbox().await;
    s.sh("git commit -q --amend -m amended; echo x > x");
    let amended = s.import().await;
    assert!(!amended.descends_from_base);
    assert_eq!(paths(&amended.changes), ["x"]);
    s.sh("rm x; git reset -q --hard HEAD~1");
    let reset = s.import().await;
    assert_eq!((paths(&reset.changes), reset.descends_from_base), (vec!["text".to_owned()], true));
    s.sh("git checkout -q --orphan fresh; git rm -rq --cached .; rm -rf ./*; echo only > only");
    let orphan = s.import().await;
    assert!(orphan.changes.iter().any(|c| c.path.to_string() == "only" && c.kind == ChangeKind::Added));
    s.sh("git add -A; git commit -q -m root");
    assert_eq!(s.import().await.head, lab.rev(&s.tree, "HEAD"));
}

#[tokio::test]
async fn takes_the_files_of_repositories_inside_the_tree_but_keeps_submodules() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub; git commit -q -m sub",
    );
    let s = lab.sandbox().await;
    s.sh("git init -q 'fresh crate'; echo m > 'fresh crate/main.rs'; echo target > 'fresh crate/.gitignore'
          mkdir 'fresh crate/target'; echo t > 'fresh crate/target/t'
          mkdir lib; git init -q lib/vendored
          (cd lib/vendored; echo v > v; git add v; git commit -q -m v; echo w > w)
          git init -q sub; echo i > sub/inside; (cd sub; git add -A; git commit -q -m i)
          git init -q without-files; mkdir ignored; git init -q ignored/repo; echo x > ignored/repo/x");
    let imported = s.import().await;
    assert_eq!(
        paths(&imported.changes),
        ["fresh crate/.gitignore", "fresh crate/main.rs", "lib/vendored/v", "lib/vendored/w", "sub"]
    );
    let modes: Vec<u32> = imported.changes.iter().map(|c| c.new_mode).collect();
    assert_eq!(modes, [0o100644, 0o100644, 0o100644, 0o100644, 0o160000]);
}

/// A `git` that dies as it writes the bundle, with the script, and leaves its lock file.
const DYING_GIT: &str = r#"#!/bin/sh
case " $* " in
    *' bundle create '*)
        while [ "$1" != --quiet ]; do shift; done
        : >"$2.lock"
        kill -9 $PPID
        ;;
    *) PATH=$REAL_PATH exec git "$@" ;;
esac
"#;

#[tokio::test]
async fn a_run_that_was_killed_as_it_wrote_the_bundle_does_not_stop_the_next_one() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo a > a");
    let bin = lab.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("git"), DYING_GIT).unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = std::env::var("PATH").unwrap();
    let dying = [("REAL_PATH", real.clone()), ("PATH", format!("{}:{real}", bin.display()))];
    assert_eq!(s.run_script_with(&dying).status.signal(), Some(9));
    assert!(!s.bundle().exists());
    assert_eq!(paths(&s.import().await.changes), ["a"]);
    let left = lab.sh(&lab.path(""), "ls -d work.bundle*");
    assert_eq!(left, "work.bundle", "something of the killed run, or of this one, is left");
}

#[tokio::test]
async fn obeys_no_hook_filter_or_monitor_and_sees_through_hidden_changes() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    let proof = lab.path("ran");
    s.sh(&format!(
        "git update-index --assume-unchanged text; echo hidden >> text; echo '* filter=evil' > .gitattributes
         mkdir -p .git/hooks
         for h in pre-commit post-index-change reference-transaction post-checkout; do
             printf '#!/bin/sh\\ntouch {p}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h
         done
         git config filter.evil.clean 'touch {p}; cat'; git config commit.gpgSign true
         git config gpg.program 'touch {p}'; git config core.excludesFile /nonexistent
         git config alias.add '!touch {p}'; git config core.fsmonitor 'touch {p}; false'
         rm -f {p}; git config core.bare true; rm -f {p}",
        p = proof.display()
    ));
    let imported = s.import().await;
    assert_eq!(paths(&imported.changes), [".gitattributes", "text"]);
    assert!(!proof.exists(), "something that the agent configured was run");
}

#[tokio::test]
async fn takes_changes_of_files_that_the_index_calls_absent_and_leaves_absent_ones() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "mkdir -p far/off; echo f > far/off/f; echo g > far/g; git add far; git commit -q -m far",
    );
    let s = lab.sandbox().await;
    s.sh("git update-index --skip-worktree text; echo hidden >> text");
    assert_eq!(paths(&s.import().await.changes), ["text"]);
    s.sh("git update-index --no-skip-worktree text; git checkout -q text");
    for kind in ["--no-sparse-index", "--sparse-index"] {
        s.sh(&format!("git sparse-checkout set -q --cone {kind} dir 2>/dev/null || git sparse-checkout set --cone {kind} dir"));
        assert!(!s.tree.join("far").exists());
        assert_eq!(s.hand_over(), s.base, "{kind}");
        s.sh("echo inside >> dir/inner; mkdir -p far; echo outside >> far/g; echo n > far/new");
        assert_eq!(paths(&s.import().await.changes), ["dir/inner", "far/g", "far/new"], "{kind}");
        s.sh("git checkout -q dir; rm -r far");
    }
}

#[tokio::test]
async fn goes_on_with_a_damaged_or_missing_index() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo n > n; echo rubbish > .git/index");
    assert_eq!(paths(&s.import().await.changes), ["n"]);
    s.sh("rm .git/index; : > .git/index.lock; echo o > o");
    assert_eq!(paths(&s.import().await.changes), ["n", "o"]);
}

#[tokio::test]
async fn fails_clearly_without_tree_or_parameters() {
    let lab = Lab::new().await;
    let mut s = lab.sandbox().await;
    let exit = |s: &Sandbox<'_>| WorkBundleExit::from_code(s.run_script().status.code().unwrap());
    std::fs::remove_dir_all(&s.tree).unwrap();
    assert_eq!(exit(&s), WorkBundleExit::TreeGone);
    assert!(!s.bundle().exists());
    s.tree = "relative; touch x".into();
    assert_eq!(exit(&s), WorkBundleExit::BadParameters);
}

#[tokio::test]
async fn takes_trees_with_hostile_names_for_data() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("for d in '$(touch ran)' '; touch ran;' '--prefix=x' '-n' \"$(printf 'a\\nb')\" '*'; do
             mkdir -p \"./$d\"; git init -q \"./$d\"; echo x > \"./$d/f\"
         done");
    let changes = s.import().await.changes;
    assert_eq!(changes.len(), 6, "{:?}", paths(&changes));
    assert!(!lab.path("ran").exists() && !s.tree.join("ran").exists());
}

#[tokio::test]
async fn keeps_ignored_files_and_links_of_the_base_in_a_history_without_it() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "mkdir ignored; echo k > ignored/kept; git add -f ignored/kept
         git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),sub; git commit -q -m forced",
    );
    let s = lab.sandbox().await;
    s.sh("git reset -q --mixed HEAD~1; git init -q sub; echo i > sub/inside");
    assert_eq!(s.notices(), ["SubmoduleChanged 1 sub"]);
    assert_eq!(s.hand_over(), s.base);
    // What the agent takes out of the repository itself is a change.
    s.sh("git reset -q --hard origin/main; git rm -q --cached ignored/kept; git commit -q -m 'not tracked'");
    assert_eq!(paths(&s.import().await.changes), ["ignored/kept"]);
}

#[tokio::test]
async fn leaves_out_what_is_too_large_or_has_a_bad_name_alone_and_names_it_exactly() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("head -c 9000 /dev/zero > big; git init -q dir/nested; echo small > dir/nested/big
          mkdir -p ' lead/git~1'; echo x > \"$(printf ' lead/git~1/line\\nbreak')\"");
    let output = s.output(&[("FOUNDRY_MAX_FILE", "8192".to_owned())]);
    let named: Vec<_> = output.notices.iter().map(|n| format!("{:?} {}", n.kind, n.path)).collect();
    assert_eq!(named, ["TooLarge big", "Unreadable  lead/git~1/line?break", "NestedRepository dir/nested"]);
    assert_eq!(paths(&s.try_import().await.unwrap().changes), ["dir/nested/big"]);
}
