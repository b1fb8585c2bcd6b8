//! Files that only the work's own rules ignore are named; those that the base ignores are not.

use foundry_git::{ImportedWork, NoticeKind};

use crate::lab::{Lab, Sandbox};

fn paths(imported: &ImportedWork) -> Vec<String> {
    imported.changes.iter().map(|c| c.path.to_string()).collect()
}

fn ignored(s: &Sandbox<'_>) -> Vec<String> {
    s.notices().into_iter().filter(|notice| notice.starts_with("IgnoredByWork")).collect()
}

#[tokio::test]
async fn what_the_base_ignores_is_silent_and_what_the_work_ignores_is_named_with_its_rule() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "printf 'ignored/\\n*.log  \\n!kept.log\\n' > .gitignore; mkdir sub; printf 'out\\r\\n' > sub/.gitignore
         git add .; git commit -q -m rules",
    );
    let s = lab.sandbox().await;
    s.sh("mkdir -p ignored/deep sub/out; echo x > ignored/deep/x; echo x > sub/out/x; echo x > a.log; echo x > x");
    assert_eq!((paths(&s.import().await), ignored(&s)), (vec!["x".to_owned()], vec![]));
    // A rule of the agent's own repository, one that is added, one in a file of its own, and one that lost its exception.
    s.sh("mkdir -p build/deep new; echo s > secret.txt; echo o > build/deep/o; echo l > build/b.log
          echo k > \"$(printf 'k\\te y').key\"; echo n > new/n; echo k > kept.log
          mkdir -p .git/info; echo secret.txt > .git/info/exclude; echo n > new/.gitignore
          printf 'ignored/\\n*.log\\nbuild/\\n*.key\\n' > .gitignore");
    assert_eq!(paths(&s.import().await), [".gitignore", "new/.gitignore", "x"]);
    let expected = [
        "IgnoredByWork 3 build/deep/o .gitignore",
        "IgnoredByWork 1 new/n new/.gitignore",
        "IgnoredByWork 1 secret.txt .git/info/exclude",
    ];
    let mut named = ignored(&s);
    named[1..].sort_unstable();
    assert_eq!(named, expected);
    // The same after a commit, and no more once the rules are gone or the files are added in spite of them.
    s.sh("git add .; git commit -q -m rules; git add -f kept.log build; rm -f .git/info/exclude");
    assert_eq!(ignored(&s), ["IgnoredByWork 1 k?e y.key .gitignore", "IgnoredByWork 1 new/n new/.gitignore"]);
    assert!(paths(&s.import().await).contains(&"secret.txt".to_owned()));
}

#[tokio::test]
async fn rules_of_repositories_inside_the_tree_are_the_works_own_and_worktrees_have_their_notice() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git init -q nested; echo '*.o' > nested/.gitignore; echo o > nested/n.o; echo c > nested/n.c
          git worktree add -q wt; echo w > wt/w; mkdir cache; git init -q cache/repo; echo r > cache/repo/r
          mkdir -p .git/info; printf 'wt\\ncache\\n' > .git/info/exclude");
    let notices = s.notices();
    for expected in
        ["IgnoredByWork 1 nested/n.o nested/.gitignore", "NestedRepository nested", "LinkedWorktree wt wt"]
    {
        assert!(notices.contains(&expected.to_owned()), "{expected}: {notices:?}");
    }
    assert!(!notices.iter().any(|n| n.starts_with("IgnoredByWork") && n.contains(" wt/")), "{notices:?}");
}

#[tokio::test]
async fn without_its_repository_a_tree_is_judged_by_the_rules_that_an_earlier_hand_over_found() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("mkdir ignored build; echo x > ignored/x; echo b > build/b");
    s.hand_over();
    s.sh("printf 'ignored/\\nbuild/\\n' > .gitignore; rm -rf .git");
    assert_eq!(ignored(&s), ["IgnoredByWork 1 build/b .gitignore"]);
}

#[tokio::test]
async fn thousands_of_ignored_files_are_one_notice() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("mkdir -p node_modules/a; cd node_modules/a; seq 1 3000 | xargs touch; cd -; echo node_modules > .gitignore");
    let notices = s.output(&[]).notices;
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!((notices[0].kind, notices[0].count), (NoticeKind::IgnoredByWork, 3000));
}
