//! Work that is left out, and trees that have lost their history: nothing is dropped without a notice, and nothing that
//! nobody touched is listed.

use std::os::unix::fs::PermissionsExt as _;

use foundry_git::{ImportedWork, MAX_NOTICE_BYTES, MAX_NOTICES, NoticeKind, WorkBundleOutput};

use crate::lab::Lab;

fn paths(imported: &ImportedWork) -> Vec<String> {
    imported.changes.iter().map(|c| c.path.to_string()).collect()
}

#[tokio::test]
async fn a_tree_without_its_repository_is_compared_as_it_is() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "mkdir ignored; echo f > ignored/forced; git add -f ignored; git commit -q -m forced",
    );
    let s = lab.sandbox().await;
    // An earlier hand-over lists what the base has in spite of `.gitignore`.
    s.hand_over();
    let ways = [
        ("rm -rf .git", "missing"),
        ("mkdir .git", "damaged"),
        ("rm -r .git; git init -q .; git add -A; git commit -q -m again", "replaced"),
    ];
    for (way, word) in ways {
        s.sh(&format!("{way}; echo x > gone.txt; rm -f plain"));
        let imported = s.import().await;
        assert_eq!(paths(&imported), ["gone.txt", "plain"], "{way}");
        assert!(imported.descends_from_base, "{way}");
        assert_eq!(s.notices(), [format!("RepositoryLost {word}")]);
        lab.sh(s.mirror.dir(), "git fsck --strict --no-progress");
    }
    // Even below another repository, only the tree's own is used.
    lab.sh(&lab.path(""), "git init -q .");
    s.sh("rm -rf .git");
    assert_eq!(paths(&s.import().await), ["gone.txt", "plain"]);
}

#[tokio::test]
async fn a_tree_without_its_repository_keeps_its_submodules() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "for path in 'vendor/lib ü' used gone-sub; do
             git update-index --add --cacheinfo \"160000,$(git rev-parse HEAD),$path\"
         done; git commit -q -m subs",
    );
    let s = lab.sandbox().await;
    s.sh("git fetch -q .; rm -rf used; git clone -q . used; git -C used checkout -q --detach HEAD~1");
    s.hand_over();
    s.sh("rm -rf .git gone-sub; echo x > x; echo below > 'vendor/lib ü/below'");
    assert_eq!(paths(&s.import().await), ["gone-sub", "x"]);
    // The submodule's own repository was below `.git`.
    s.sh("rm -rf used/.git; echo 'gitdir: ../.git/modules/used' > used/.git");
    assert_eq!(paths(&s.import().await), ["gone-sub", "x"]);
}

#[tokio::test]
async fn a_repository_that_lost_objects_hands_over_its_tree() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo new > new; git add new; git commit -q -m one; echo more >> text; git commit -q -am two");
    for lost in ["HEAD~1", "HEAD^{tree}"] {
        s.sh(&format!("rm -f .git/objects/$(git rev-parse '{lost}' | sed 's,^..,&/,')"));
        assert_eq!(paths(&s.import().await), ["new", "text"], "{lost}");
        assert_eq!(s.notices(), ["RepositoryLost damaged"], "{lost}");
    }
}

#[tokio::test]
async fn a_linked_worktree_is_left_out_with_its_branch() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git worktree add -q .claude/worktrees/agent-1 -b wt/a1
          echo mine > .claude/worktrees/agent-1/mine; git init -q .claude/worktrees/agent-1/inner
          echo i > .claude/worktrees/agent-1/inner/i; echo x > .claude/settings");
    let imported = s.import().await;
    assert_eq!(paths(&imported), [".claude/settings"]);
    assert_eq!(s.notices(), ["LinkedWorktree wt/a1 .claude/worktrees/agent-1"]);
    s.sh("git worktree add -q --detach ../beside");
    let beside = lab.path("beside");
    assert_eq!(s.notices()[1], format!("LinkedWorktree {}", beside.display()));
    s.sh("git worktree remove --force .claude/worktrees/agent-1; git worktree remove ../beside");
    assert!(s.notices().is_empty());
}

#[tokio::test]
async fn commits_of_other_branches_and_stashes_are_named() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git checkout -q -b theirs; echo t > t; git add t; git commit -q -m t; git checkout -q main",
    );
    let s = lab.sandbox().await;
    s.sh("git checkout -q -b other; echo w > w; git add w; git commit -q -m w; git checkout -q -
          git branch theirs origin/theirs; echo stashed >> text; git stash -q; echo again >> text; git stash -q");
    let other = lab.rev(&s.tree, "other");
    assert_eq!(s.hand_over(), s.base);
    assert_eq!(s.notices(), [format!("OtherBranch 1 other {other}"), "Stash 2".to_owned()]);
    s.sh("git merge -q other; git stash drop -q; git stash drop -q");
    assert!(s.notices().is_empty(), "merged into the work");
}

#[tokio::test]
async fn commits_on_no_branch_that_were_left_are_named_with_the_newest() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git commit -q --allow-empty -m dropped; git commit -q --amend --allow-empty -m kept; git checkout -q --detach
          git commit -q --allow-empty -m one; git commit -q --allow-empty -m two");
    assert!(s.notices().is_empty(), "they are the work");
    let newest = lab.rev(&s.tree, "HEAD");
    s.sh("git checkout -q -");
    assert_eq!(s.notices(), [format!("OtherBranch 2 {newest}")]);
    s.sh(&format!("git branch saved {newest}"));
    assert_eq!(s.notices(), [format!("OtherBranch 2 saved {newest}")], "once, under its name");
    s.sh("git merge -q saved");
    assert!(s.notices().is_empty());
    s.sh("git checkout -q --detach; git commit -q --allow-empty -m gone; git checkout -q -
          git reflog expire --expire=now --all; git gc -q --prune=now");
    assert!(s.notices().is_empty());
}

#[tokio::test]
async fn unfinished_operations_are_named_with_their_conflicts() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git checkout -q -b develop; sed -i s/two/theirs/ text; git commit -q -am theirs; git checkout -q main",
    );
    let s = lab.sandbox().await;
    s.sh("sed -i s/two/mine/ text; git commit -q -am mine");
    let ways = [
        ("git rebase -q origin/develop", "git rebase --abort", "Operation 1 rebase"),
        ("git merge -q origin/develop", "git merge --abort", "Operation 1 merge"),
        ("git cherry-pick origin/develop", "git cherry-pick --abort", "Operation 1 cherry-pick"),
        ("git bisect start -q HEAD HEAD~1", "git bisect reset", "Operation bisect"),
        ("git revert -n HEAD", "git revert --abort", "Operation revert"),
    ];
    for (begin, end, notice) in ways {
        s.sh(&format!("{begin} >/dev/null 2>&1 || :"));
        assert_eq!(s.notices(), [notice], "{begin}");
        s.import().await;
        s.sh(&format!("{end} >/dev/null 2>&1"));
        assert!(s.notices().is_empty(), "{end}");
    }
}

#[tokio::test]
async fn commits_that_a_stopped_rebase_has_not_reached_are_named() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git checkout -q -b develop; sed -i s/two/theirs/ text; git commit -q -am theirs; git checkout -q main",
    );
    let s = lab.sandbox().await;
    s.sh(
        "sed -i s/two/mine/ text; git commit -q -am mine; echo 1 > more; git add more; git commit -q -m more",
    );
    let (branch, tip) = (s.sh("git branch --show-current"), lab.rev(&s.tree, "HEAD"));
    s.sh("git rebase -q origin/develop >/dev/null 2>&1 || :");
    let left = format!("OtherBranch 1 {} {tip}", branch.trim());
    assert_eq!(s.notices(), ["Operation 1 rebase".to_owned(), left]);
    s.sh("git rebase --abort");
    assert!(s.notices().is_empty());
}

#[tokio::test]
async fn a_repository_that_was_committed_by_accident_is_handed_over_as_files() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git init -q sub; cd sub; git config user.email a@b; git config user.name n; echo s > s.txt; git add .
          git commit -q -m inside; cd ..; git add . 2>/dev/null; git commit -q -m outside");
    assert_eq!(paths(&s.import().await), ["sub/s.txt"]);
    assert_eq!(s.notices(), ["NestedRepository sub"]);
    // With a place to fetch it from, it is a submodule.
    s.sh(
        "git config -f .gitmodules submodule.sub.path sub; git config -f .gitmodules submodule.sub.url ../sub
          git add .gitmodules; git commit -q -m module",
    );
    assert_eq!(paths(&s.import().await), [".gitmodules", "sub"]);
}

#[tokio::test]
async fn submodules_that_are_not_checked_out_are_named_with_what_is_below_them() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),vendor/lib; git commit -q -m sub",
    );
    let s = lab.sandbox().await;
    assert_eq!(s.hand_over(), s.base);
    assert_eq!(s.notices(), ["SubmoduleAbsent vendor/lib"]);
    s.sh("mkdir -p vendor/lib; echo hello > vendor/lib/new.txt; echo x > x");
    assert_eq!(paths(&s.import().await), ["x"]);
    assert_eq!(s.notices(), ["SubmoduleChanged 1 vendor/lib"]);
    s.sh("rm vendor/lib/new.txt; git fetch -q .; git clone -q . vendor/lib; git -C vendor/lib checkout -q --detach
          git update-index --cacheinfo 160000,$(git -C vendor/lib rev-parse HEAD),vendor/lib; git commit -q -m moved");
    assert!(s.notices().is_empty(), "checked out as its link says");
    s.sh("echo y > vendor/lib/y; echo z >> vendor/lib/text");
    assert_eq!(s.notices(), ["SubmoduleChanged 2 vendor/lib"]);
}

#[tokio::test]
async fn files_over_the_limit_are_left_out_and_everything_else_arrives() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    // `text` is in the base, and stays as it was there; an ignored file is no part of any work.
    s.sh("mkdir -p 'out [1]' ignored; head -c 2000 /dev/zero > 'out [1]/big!'; head -c 2000 /dev/zero > ignored/big
          echo '!*' > 'out [1]/.gitignore'; head -c 1500 /dev/zero > text; head -c 1024 /dev/zero > fits; echo x > x");
    s.sh("git init -q inner; head -c 2000 /dev/zero > inner/big; echo i > inner/i");
    let limit = [("FOUNDRY_MAX_FILE", "1024".to_owned())];
    let output = s.output(&limit);
    let imported = s.try_import().await.unwrap();
    assert_eq!(paths(&imported), ["fits", "inner/i", "out [1]/.gitignore", "x"]);
    let large = output.notices.iter().filter(|n| n.kind == NoticeKind::TooLarge);
    let mut notices: Vec<_> = large.map(|n| (n.path.as_str(), n.count)).collect();
    notices.sort_unstable();
    let sizes = [("inner/big", 2000), ("out [1]/big!", 2000), ("text", 1500)];
    assert_eq!(notices, sizes, "`blob` of the base is over this limit, but nobody touched it");
}

#[tokio::test]
async fn a_large_file_that_somebody_ignored_is_named_until_it_is_gone() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "printf 'target/\\n*.bin\\nout/*\\n!out/sub/\\n' >> .gitignore; mkdir web; echo dist/ > web/.gitignore
         git add web; git commit -q -am rules",
    );
    let s = lab.sandbox().await;
    let limit = [("FOUNDRY_MAX_FILE", "1024".to_owned())];
    let named = || -> Vec<String> {
        let notices = s.output(&limit).notices;
        notices.iter().map(|n| format!("{:?} {} {}", n.kind, n.count, n.path)).collect()
    };
    s.sh("mkdir -p data target/debug web/dist 'new dir' out/sub
          head -c 2000 /dev/zero | tee 'data/a b' result.bin target/debug/app web/dist/js 'new dir/c' \\
              out/direct out/sub/below > excluded");
    // What the base ignores as a directory is output; one file of a kind may be what was asked for.
    let ignored = ["LargeIgnored 2000 out/direct", "LargeIgnored 2000 result.bin"];
    let open = [
        "TooLarge 2000 data/a b",
        "TooLarge 2000 excluded",
        "TooLarge 2000 new dir/c",
        "TooLarge 2000 out/sub/below",
    ];
    let sorted = |mut found: Vec<String>| {
        found.sort_unstable();
        found
    };
    assert_eq!(sorted(named()), [&ignored[..], &open[..]].concat());
    // As advice once said: the work is as before, and so is what only the sandbox has.
    s.sh("echo '/data/' >> .gitignore; printf '/*\\n' > 'new dir/.gitignore'; mkdir -p .git/info
          echo /excluded >> .git/info/exclude; echo below > out/sub/.gitignore");
    let all = ["LargeIgnored 2000 data/a b", "LargeIgnored 2000 excluded", "LargeIgnored 2000 new dir/c"];
    assert_eq!(
        sorted(named()),
        [
            &["IgnoredByWork 1 new dir/.gitignore"],
            &all[..],
            &ignored[..1],
            &["LargeIgnored 2000 out/sub/below"],
            &ignored[1..]
        ]
        .concat()
    );
    assert_eq!(paths(&s.try_import().await.unwrap()), [".gitignore", "out/sub/.gitignore"]);
    s.sh("rm -r data excluded result.bin out 'new dir'");
    assert!(named().is_empty());
}

#[tokio::test]
async fn an_attribute_that_git_cannot_obey_costs_no_file() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo '*.txt working-tree-encoding=UTF-16' > .gitattributes; echo plain > a.txt; echo more >> text
          echo new > new.c; git init -q inner; echo '*.txt working-tree-encoding=UTF-16' > inner/.gitattributes
          echo plain > inner/b.txt; echo i > inner/i");
    let expected =
        [".gitattributes", "a.txt", "inner/.gitattributes", "inner/b.txt", "inner/i", "new.c", "text"];
    assert_eq!(paths(&s.import().await), expected);
    assert_eq!(s.notices(), ["NestedRepository inner"]);
}

#[tokio::test]
async fn an_add_that_fails_again_fails_the_hand_over() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo more >> text");
    let bin = lab.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let dies = "#!/bin/sh\ncase \" $* \" in *' add '*) exit 128 ;; esac\nPATH=$REAL_PATH exec git \"$@\"\n";
    std::fs::write(bin.join("git"), dies).unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let real = std::env::var("PATH").unwrap();
    let dying = [("REAL_PATH", real.clone()), ("PATH", format!("{}:{real}", bin.display()))];
    assert_eq!(s.run_script_with(&dying).status.code(), Some(70));
}

#[tokio::test]
async fn paths_that_git_refuses_are_named() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("mkdir 'git~1'; echo f > 'git~1/f'; echo x > x; git init -q inner; mkdir 'inner/git~1'
          echo g > 'inner/git~1/g'; echo i > inner/i");
    assert_eq!(paths(&s.import().await), ["inner/i", "x"]);
    let notices = s.notices();
    for path in ["git~1/f", "inner/git~1/g"] {
        assert!(notices.contains(&format!("Unreadable {path}")), "{path}: {notices:?}");
    }
}

#[tokio::test]
async fn a_committed_file_over_the_limit_costs_the_commits_and_not_the_tree() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("head -c 2000 /dev/zero > big; git add big; git commit -q -m big; echo more >> text; git commit -q -am more");
    let output = s.output(&[("FOUNDRY_MAX_FILE", "1024".to_owned())]);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["text"]);
    let kinds: Vec<_> = output.notices.iter().map(|n| n.kind).collect();
    assert_eq!(kinds, [NoticeKind::HistoryLeftOut, NoticeKind::TooLarge]);
    // Also when a later commit removes the file.
    s.sh("git rm -q big; git commit -q -m removed");
    let output = s.output(&[("FOUNDRY_MAX_FILE", "1024".to_owned())]);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["text"]);
    assert_eq!(output.notices.iter().map(|n| n.kind).collect::<Vec<_>>(), [NoticeKind::HistoryLeftOut]);
}

#[tokio::test]
async fn build_output_beside_a_change_is_named_with_the_directory_to_ignore() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("mkdir -p web/node_modules/a web/src; cd web/node_modules/a; seq 1 1100 | xargs touch; cd -; echo s > web/src/s
          echo more >> text");
    let imported = s.import().await;
    assert_eq!(imported.changes.len(), 1102);
    assert!(paths(&imported).contains(&"text".to_owned()));
    assert_eq!(s.notices(), ["ManyFiles 1100 web/node_modules/a"]);
    // With more than an import takes, the directory is left out.
    let output = s.output(&[("FOUNDRY_MAX_FILES", "1000".to_owned())]);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["text", "web/src/s"]);
    assert_eq!(output.notices[0].detail, "left out");
}

#[tokio::test]
async fn very_many_new_files_are_left_out_beside_changes_and_additions_to_the_base() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "mkdir -p packages/a/src packages/b/src; echo a | tee packages/a/src/index.js >packages/b/src/index.js
         git add packages; git commit -q -m packages",
    );
    let s = lab.sandbox().await;
    s.sh("for n in 1 2 3 4; do mkdir -p packages/p$n/dist; (cd packages/p$n/dist; seq 1 300 | xargs touch); done
          for n in 1 2 3 4; do echo s > packages/p$n/s; done; mkdir packages/a/dist; touch packages/a/dist/d
          echo edit >> packages/a/src/index.js; echo new > packages/a/src/new.js; rm packages/b/src/index.js");
    let output = s.output(&[("FOUNDRY_MAX_FILES", "700".to_owned())]);
    let changed = paths(&s.try_import().await.unwrap());
    for path in
        ["packages/a/dist/d", "packages/a/src/index.js", "packages/a/src/new.js", "packages/b/src/index.js"]
    {
        assert!(changed.contains(&path.to_owned()), "{path}");
    }
    assert_eq!(changed.len(), 4 + 2 * 301, "no more than has to go");
    assert!(
        output
            .notices
            .iter()
            .all(|n| n.kind == NoticeKind::ManyFiles && n.count == 301 && n.detail == "left out")
    );
    assert_eq!(output.notices.len(), 2);
    // New files between those of the base go last, and leave those of the base as they are.
    s.sh("cd packages; rm -r p*; cd a/src; seq 1 800 | xargs touch");
    let output = s.output(&[("FOUNDRY_MAX_FILES", "700".to_owned())]);
    let changed = paths(&s.try_import().await.unwrap());
    assert_eq!(changed, ["packages/a/src/index.js", "packages/b/src/index.js"]);
    let left: Vec<_> = output.notices.iter().map(|n| (n.count, n.path.as_str())).collect();
    assert_eq!(left, [(1, "packages/a/dist"), (801, "packages/a/src")]);
}

#[tokio::test]
async fn a_directory_whose_name_git_would_quote_is_left_out_as_its_notice_says() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("for d in 'Ausgabe ü' \"$(printf 'a\\nb\"')\"; do mkdir \"$d\"; (cd \"$d\"; seq 1 1100 | xargs touch); done; echo x > x");
    let output = s.output(&[("FOUNDRY_MAX_FILES", "1000".to_owned())]);
    assert_eq!(paths(&s.try_import().await.unwrap()), ["x"]);
    let mut left: Vec<_> = output.notices.iter().map(|n| (n.path.as_str(), n.detail.as_str())).collect();
    left.sort_unstable();
    assert_eq!(left, [("Ausgabe ü", "left out"), ("a?b\"", "left out")]);
}

#[tokio::test]
async fn what_equals_the_checkout_is_no_change_and_other_line_endings_are_named() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git config core.autocrlf false; printf 'a\\r\\nb\\r\\n' > w.txt; cp w.txt v.txt; git add .; git commit -q -m crlf
         echo '*.txt text eol=crlf' > .gitattributes; git add .gitattributes; git commit -q -m attributes",
    );
    let s = lab.sandbox().await;
    s.sh("echo x > x; touch w.txt");
    assert_eq!(paths(&s.import().await), ["x"]);
    assert!(s.notices().is_empty());
    s.sh("printf 'a\\nb\\n' > w.txt; printf 'one\\r\\ntwo\\r\\nthree\\r\\n' > text");
    assert_eq!(paths(&s.import().await), ["text", "w.txt", "x"]);
    assert_eq!(s.notices(), ["LineEndings 2 text"]);
}

#[tokio::test]
async fn rewritten_histories_and_repositories_inside_the_tree_are_named() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "echo 2 >> text; git commit -q -am second");
    let s = lab.sandbox().await;
    s.sh("git commit -q --amend -m amended; git init -q inner; echo i > inner/i");
    assert_eq!(s.notices(), ["HistoryRewritten", "NestedRepository inner"]);
}

#[tokio::test]
async fn files_of_lfs_that_have_no_room_are_named_and_those_of_the_remote_are_not() {
    let lab = Lab::new().await;
    let pointer =
        |n: u32| format!("version https://git-lfs.github.com/spec/v1\\noid sha256:{n:064x}\\nsize 5\\n");
    lab.sh(&lab.real(), &format!("printf '{}' > base.bin; git add -A; git commit -q -m base", pointer(1)));
    lab.sh(
        &lab.real(),
        &format!("git checkout -q -b develop; printf '{}' > theirs.bin; git add -A; git commit -q -m theirs; git checkout -q main", pointer(2)),
    );
    let s = lab.sandbox().await;
    let held =
        |n: u32| format!("mkdir -p .git/lfs/objects/00/00; printf 12345 > .git/lfs/objects/00/00/{n:064x}");
    s.sh(&format!("git merge -q origin/develop; {}; {}", held(1), held(2)));
    let notices = || s.output(&[("FOUNDRY_MAX_LFS", "1".to_owned())]).notices;
    assert_eq!(notices(), [], "they came from the remote");
    s.sh(&format!(
        "printf '{}' > 'my file.bin'; printf '{}' > absent.bin; {}; git add -A; git commit -q -m mine",
        pointer(3),
        pointer(4),
        held(3)
    ));
    let named: Vec<_> = notices().into_iter().map(|n| (n.kind, n.count, n.path)).collect();
    assert_eq!(named, [(NoticeKind::LfsObjects, 1, "my file.bin".to_owned())]);
}

#[tokio::test]
async fn an_ignored_file_of_the_base_that_came_back_is_kept_by_a_tree_without_its_repository() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "mkdir ignored; echo kept > ignored/kept; git add -f ignored/kept; git commit -q -m forced",
    );
    let s = lab.sandbox().await;
    s.sh("mv ignored/kept ../kept; echo x > x");
    assert_eq!(s.import().await.changes.len(), 2);
    s.sh("mv ../kept ignored/kept; rm -rf .git; git init -q");
    let changes = s.import().await.changes;
    assert_eq!(changes.len(), 1, "{changes:?}");
}

#[tokio::test]
async fn files_of_lfs_that_are_pointers_in_the_sandbox_are_counted() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "mkdir sub; printf '*.bin filter=lfs diff=lfs merge=lfs -text\\n' > sub/.gitattributes
         for n in 1 2; do printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 5\\n' $n > sub/$n.bin; done
         cp sub/1.bin other.bin; head -c 5000 /dev/urandom > sub/real.bin; git add -A; git commit -q -m lfs",
    );
    let s = lab.sandbox().await;
    assert_eq!(s.notices(), ["LfsPointers 2 sub/1.bin"]);
    s.sh("rm sub/.gitattributes");
    assert_eq!(s.notices(), Vec::<String>::new());
}

#[tokio::test]
async fn names_in_notices_are_data_and_bounded() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("d=$(printf 'a\\n\\tother_branch\\t1\\033[31m'); mkdir \"$d\"; git init -q \"./$d\"; echo x > \"./$d/f\"
          for n in $(seq 1 70); do git init -q n$n; echo x > n$n/f; done");
    let output = s.output(&[]);
    let (last, first) = output.notices.split_last().unwrap();
    assert_eq!(first.len(), 15);
    assert!(first.iter().all(|n| n.kind == NoticeKind::NestedRepository));
    assert_eq!((last.kind, last.count), (NoticeKind::More, 56));
}

#[tokio::test]
async fn what_is_lost_is_named_first_and_what_is_not_listed_is_counted() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("c=$(git commit-tree -p HEAD -m other 'HEAD^{tree}'); for n in $(seq 1 70); do git branch b$n $c; done
          for n in $(seq 1 20); do git worktree add -q --detach ../beside$n; done
          head -c 2000 /dev/zero > big; mkdir 'git~1'; echo f > 'git~1/f'");
    let output = s.output(&[("FOUNDRY_MAX_FILE", "1024".to_owned())]);
    let kinds: Vec<_> = output.notices.iter().map(|n| n.kind).collect();
    assert_eq!(kinds[..2], [NoticeKind::TooLarge, NoticeKind::Unreadable]);
    let of = |kind| kinds.iter().filter(|k| **k == kind).count();
    assert_eq!((of(NoticeKind::LinkedWorktree), of(NoticeKind::OtherBranch)), (15, 15));
    let last = output.notices.last().unwrap();
    assert_eq!((last.kind, last.count), (NoticeKind::More, 60));
}

#[test]
fn output_that_a_hostile_sandbox_wrote_is_cut_and_never_refused_for_its_notices() {
    let head = "ab".repeat(20);
    let long = "ü".repeat(5000);
    let hostile = [
        head.clone(),
        format!("more\t{}\t\t\t", i64::MAX),
        "rubbish".to_owned(),
        "stash\t-1\t\t\t".to_owned(),
        "stash\tmany\t\t\t".to_owned(),
        "unknown\t1\t\t\t".to_owned(),
        format!("other_branch\t3\ta\u{1b}[31m{long}\t{long}\t{long}"),
    ];
    let many = (0..100).map(|n| format!("unreadable\t0\t\t{n}{long}\t"));
    let text = hostile.into_iter().chain(many).collect::<Vec<_>>().join("\n");
    let output = WorkBundleOutput::parse(&text).unwrap();
    assert_eq!(output.head.as_str(), head);
    let first = &output.notices[0];
    assert_eq!((first.kind, first.count), (NoticeKind::OtherBranch, 3));
    assert!(first.branch.starts_with("a?[31m") && first.branch.len() <= 200 && first.path.len() <= 400);
    let size: usize = output.notices.iter().map(|n| n.branch.len() + n.path.len() + n.detail.len()).sum();
    assert!(size <= MAX_NOTICE_BYTES && output.notices.len() <= MAX_NOTICES);
    assert_eq!(output.notices.last().map(|n| (n.kind, n.count)), Some((NoticeKind::More, i64::MAX)));
    WorkBundleOutput::parse("not a commit\n").unwrap_err();
}

#[tokio::test]
async fn branches_beyond_the_limit_are_counted_in_a_notice() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git checkout -q -b side; git commit -q --allow-empty -m side; git checkout -q foundry/work
          for n in $(seq 303); do echo create refs/heads/side$n side; done | git update-ref --stdin");
    let notices = s.notices();
    assert!(notices.contains(&"OtherBranch 4 not compared".to_owned()), "{notices:?}");
}

#[tokio::test]
async fn what_a_sparse_checkout_leaves_out_is_no_removal_when_the_index_is_lost() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git sparse-checkout set --no-cone /dir/ /text; rm .git/index; echo more >> text");
    let changed = |imported: &foundry_git::ImportedWork| -> Vec<String> {
        imported.changes.iter().map(|change| change.path.to_string()).collect()
    };
    assert_eq!(changed(&s.import().await), ["text"]);
    // A flag that only the index has is known from an earlier run.
    s.sh(
        "git sparse-checkout disable; git reset -q --hard; git update-index --skip-worktree moved; rm moved",
    );
    s.hand_over();
    s.sh("echo damaged > .git/index; rm plain");
    assert_eq!(changed(&s.import().await), ["plain"]);
}

#[tokio::test]
async fn a_removed_file_is_removed_although_its_entry_claims_to_be_unchanged() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git update-index --assume-unchanged gone text; rm gone; echo more >> text");
    let paths: Vec<_> = s.import().await.changes.iter().map(|c| c.path.to_string()).collect();
    assert_eq!(paths, ["gone", "text"]);
}
