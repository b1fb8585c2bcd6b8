//! What a work has merged from the repository's own branches is not counted as its own.

use foundry_git::{CommitId, FetchReport, MergedBase};

use crate::lab::{Lab, Sandbox};

/// A repository with a branch `develop` that has 30 files more than `main`.
async fn with_develop() -> Lab {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git checkout -q -b develop; for n in $(seq 30); do echo $n > new$n; done; git add -A; git commit -q -m more
         git checkout -q main",
    );
    lab
}

async fn separated(s: &Sandbox<'_>, head: &CommitId) -> Option<MergedBase> {
    s.mirror.merged_base(&s.base, head, &[], &[], None).await.unwrap()
}

async fn own_files(s: &Sandbox<'_>, merged: &MergedBase, head: &CommitId) -> Vec<String> {
    let changes = s.mirror.diff_stat(&merged.commit, head).await.unwrap();
    changes.iter().map(|c| c.path.to_string()).collect()
}

fn from(merged: &MergedBase) -> Vec<(String, u64)> {
    merged.merged.iter().map(|m| (m.branch.to_string(), m.files)).collect()
}

#[tokio::test]
async fn a_merge_a_rebase_and_a_fast_forward_leave_only_the_works_own_files() {
    let lab = with_develop().await;
    let develop = lab.rev(&lab.real(), "develop");
    let ways = [
        "echo mine >> text; git commit -q -am mine; git merge -q --no-edit origin/develop",
        "git reset -q --hard; echo mine >> text; git commit -q -am mine; git rebase -q origin/develop",
        "git merge -q --ff-only origin/develop; echo mine >> text",
    ];
    for way in ways {
        let s = lab.sandbox().await;
        s.sh(way);
        let imported = s.import().await;
        assert_eq!(imported.changes.len(), 31);
        let merged = separated(&s, &imported.head).await.unwrap();
        assert_eq!(from(&merged), [("develop".to_owned(), 30)], "{way}");
        assert_eq!(merged.merged[0].commit, develop);
        assert_eq!(own_files(&s, &merged, &imported.head).await, ["text"], "{way}");
        std::fs::remove_dir_all(&s.tree).unwrap();
        std::fs::remove_dir_all(s.mirror.dir()).unwrap();
    }
}

#[tokio::test]
async fn a_base_and_a_branch_that_both_went_on_are_merged_first() {
    let lab = with_develop().await;
    lab.sh(&lab.real(), "echo later > later; git add later; git commit -q -m later");
    let s = lab.sandbox().await;
    s.sh("git merge -q --no-edit origin/develop; echo mine > mine");
    let imported = s.import().await;
    let merged = separated(&s, &imported.head).await.unwrap();
    assert_eq!(from(&merged), [("develop".to_owned(), 30)]);
    assert_eq!(own_files(&s, &merged, &imported.head).await, ["mine"]);
}

#[tokio::test]
async fn a_work_that_merged_nothing_or_what_conflicts_with_its_base_counts_whole() {
    let lab = with_develop().await;
    lab.sh(
        &lab.real(),
        "git checkout -q develop; sed -i s/one/theirs/ text; git commit -q -am theirs
         git checkout -q main; sed -i s/one/ours/ text; git commit -q -am ours",
    );
    let s = lab.sandbox().await;
    s.sh("echo x > x; git add x; git commit -q -m x");
    assert_eq!(separated(&s, &s.import().await.head).await, None);
    s.sh("git merge -q -X ours --no-edit origin/develop");
    assert_eq!(separated(&s, &s.import().await.head).await, None);
    assert_eq!(separated(&s, &s.base.clone()).await, None);
}

#[tokio::test]
async fn commits_of_the_agent_are_its_own_also_when_a_branch_contains_them() {
    let lab = with_develop().await;
    let s = lab.sandbox().await;
    s.sh("echo mine > mine; git add mine; GIT_COMMITTER_EMAIL=agent@foundry.invalid git commit -q -m mine");
    let head = s.import().await.head;
    lab.sh(
        &lab.real(),
        &format!("git fetch -q {} HEAD; git merge -q --no-ff --no-edit FETCH_HEAD", s.tree.display()),
    );
    let _: FetchReport = s.mirror.fetch(&lab.remote()).await.unwrap();
    assert_eq!(separated(&s, &head).await, None);
}

#[tokio::test]
async fn what_was_merged_stays_merged_when_its_branch_is_deleted_or_rewritten() {
    let lab = with_develop().await;
    let s = lab.sandbox().await;
    s.sh("git merge -q --no-ff --no-edit origin/develop; echo mine > mine");
    let head = s.import().await.head;
    let known: Vec<_> =
        separated(&s, &head).await.unwrap().merged.into_iter().map(|m| (m.branch, m.commit)).collect();
    let tip = lab.rev(&lab.real(), "develop");
    for change in ["git branch -q -D develop", "git branch -q develop; git commit -q --allow-empty -m on"] {
        lab.sh(&lab.real(), change);
        let _: FetchReport = s.mirror.fetch(&lab.remote()).await.unwrap();
        s.sh("echo more >> mine");
        let head = s.import().await.head;
        assert_eq!(separated(&s, &head).await, None, "nothing but the record knows it: {change}");
        let merged = s.mirror.merged_base(&s.base, &head, &known, &[], None).await.unwrap().unwrap();
        assert_eq!((from(&merged), &merged.merged[0].commit), (vec![("develop".to_owned(), 30)], &tip));
        assert_eq!(own_files(&s, &merged, &head).await, ["mine"]);
    }
    // A work that has dropped the merge has merged nothing.
    s.sh(&format!("git reset -q --hard {}; echo mine > mine", s.base));
    let head = s.import().await.head;
    assert_eq!(s.mirror.merged_base(&s.base, &head, &known, &[], None).await.unwrap(), None);
}
