//! Mirrors of repositories as they are found: without a commit, shallow, partial, with tags.

use foundry_git::{ChangeKind, CloneSpec, CommitId, GitErrorKind, Mirror, MirrorLimits, RemoteUrl, Revision};

use crate::lab::{Lab, Sandbox, branch, work};

/// The mirror of another directory of the lab than `real`.
async fn mirror_of(lab: &Lab, name: &str) -> foundry_git::Result<Mirror> {
    let remote = RemoteUrl::parse(lab.path(name).to_str().unwrap(), &lab.policy()).unwrap();
    Mirror::create(&lab.git, lab.path(&format!("data/{name}")), &remote, MirrorLimits::default()).await
}

/// A clone of the mirror at `base`, and what is needed to hand over its work.
async fn sandbox(lab: &Lab, mirror: Mirror, base: CommitId) -> Sandbox<'_> {
    let spec = CloneSpec {
        base: base.clone(),
        branch: branch("foundry/work"),
        destination: lab.path("sandbox"),
        origin: None,
        lfs: None,
        lfs_content: false,
        submodules_of: None,
        identity: ("Agent".into(), "agent@example.com".into()),
    };
    mirror.clone_into(&spec).await.unwrap();
    Sandbox { lab, mirror, base, tree: spec.destination }
}

fn tags(lab: &Lab, mirror: &Mirror) -> String {
    lab.sh(mirror.dir(), "git for-each-ref --format='%(refname:lstrip=2)' refs/tags").replace('\n', " ")
}

#[tokio::test]
async fn takes_the_tags_that_branches_reach_and_follows_them() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git tag -m one v1; git tag light; git commit -q --allow-empty -m second
         git checkout -q --orphan lonely; git commit -q -m lonely; git tag unreached
         git checkout -q main; git branch -q -D lonely",
    );
    let mirror = lab.mirror().await;
    assert_eq!(tags(&lab, &mirror), "light v1");
    // On a commit that the mirror has already; moved; deleted.
    lab.sh(&lab.real(), "git tag v2; git tag -f -m moved v1 main; git tag -d light");
    let report = mirror.fetch(&lab.remote()).await.unwrap();
    assert!(report.changed && report.tags == 3, "{report:?}");
    assert_eq!(tags(&lab, &mirror), "v1 v2");
    assert_eq!(lab.rev(mirror.dir(), "v1^{commit}"), lab.rev(&lab.real(), "main"));
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    lab.sh(&lab.real(), "git commit -q --allow-empty -m third");
    let sandbox = sandbox(&lab, mirror, base).await;
    assert_eq!(sandbox.sh("git describe --tags --match v2"), "v2");
}

#[tokio::test]
async fn takes_no_tag_when_there_are_too_many_and_none_that_looks_like_an_option_into_a_clone() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git tag v1; git update-ref refs/tags/--upload-pack=x main");
    let few = MirrorLimits { max_tags: 1, ..MirrorLimits::default() };
    let mirror = lab.try_mirror(few).await.unwrap();
    assert_eq!(tags(&lab, &mirror), "");
    lab.sh(&lab.real(), "git commit -q --allow-empty -m second");
    let mirror = lab.mirror().await;
    mirror.fetch(&lab.remote()).await.unwrap();
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    let sandbox = sandbox(&lab, mirror, base).await;
    assert_eq!(sandbox.sh("git tag"), "v1");
}

#[tokio::test]
async fn fetches_nothing_from_a_remote_that_has_not_changed() {
    let lab = Lab::new().await;
    let mirror = lab.mirror().await;
    assert!(!mirror.fetch(&lab.remote()).await.unwrap().changed);
    lab.sh(&lab.real(), "git tag v1");
    assert!(mirror.fetch(&lab.remote()).await.unwrap().changed, "a tag is a change");
    lab.sh(&lab.real(), "git checkout -q -b other");
    assert!(mirror.fetch(&lab.remote()).await.unwrap().changed, "another default branch is a change");
    assert_eq!(mirror.default_branch().await.unwrap(), Some(branch("other")));
    assert!(!mirror.fetch(&lab.remote()).await.unwrap().changed);
}

#[tokio::test]
async fn mirrors_a_shallow_clone_and_takes_work_that_is_based_on_it() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git commit -q --allow-empty -m second");
    lab.sh(&lab.path(""), "git clone -q --depth 1 \"file://$PWD/real\" shallow");
    let mirror = mirror_of(&lab, "shallow").await.unwrap();
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    assert_eq!(base, lab.rev(&lab.real(), "main"));
    let sandbox = sandbox(&lab, mirror, base).await;
    sandbox.sh("echo mine > new");
    let imported = sandbox.import().await;
    assert_eq!((imported.changes.len(), imported.descends_from_base), (1, true));
    lab.sh(
        &lab.path("shallow"),
        "git fetch -q --unshallow; echo more > more; git add more; git commit -q -m third",
    );
    let remote = RemoteUrl::parse(lab.path("shallow").to_str().unwrap(), &lab.policy()).unwrap();
    sandbox.mirror.fetch(&remote).await.unwrap();
    let tip = sandbox.mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    assert_eq!(tip, lab.rev(&lab.path("shallow"), "main"));
}

#[tokio::test]
async fn names_a_partial_clone_as_the_source() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git config uploadpack.allowFilter true");
    lab.sh(&lab.path(""), "git clone -q --no-checkout --filter=blob:none \"file://$PWD/real\" partial");
    let error = mirror_of(&lab, "partial").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (GitErrorKind::Partial, "REPOSITORY_PARTIAL"),
        "{}",
        error.stderr()
    );
    assert!(!error.retryable());
}

#[tokio::test]
async fn work_in_a_repository_without_a_commit_begins_with_nothing() {
    let lab = Lab::new().await;
    lab.sh(&lab.path(""), "git init -q -b trunk empty; git init -q blank");
    let mirror = mirror_of(&lab, "empty").await.unwrap();
    assert_eq!(mirror.default_branch().await.unwrap(), None);
    let base = mirror.empty_start().await.unwrap();
    let elsewhere = mirror_of(&lab, "blank").await.unwrap();
    assert_eq!(elsewhere.empty_start().await.unwrap(), base, "the same everywhere");
    let sandbox = sandbox(&lab, mirror, base.clone()).await;
    assert_eq!(
        sandbox.sh("git ls-files; git status --porcelain; git symbolic-ref --short HEAD"),
        "foundry/work"
    );
    sandbox.sh("echo hello > README; git add README; git commit -q -m first");
    let imported = sandbox.import().await;
    assert_eq!((imported.changes.len(), imported.changes[0].kind), (1, ChangeKind::Added));
    let patch = sandbox.mirror.full_patch(&base, &imported.head).await.unwrap();
    std::fs::write(lab.path("all.patch"), &patch).unwrap();
    lab.sh(&lab.path("empty"), "git apply --index ../all.patch && git commit -q -m first");

    // From its first commit on, it is a repository like any other.
    let remote = RemoteUrl::parse(lab.path("empty").to_str().unwrap(), &lab.policy()).unwrap();
    assert_eq!(sandbox.mirror.fetch(&remote).await.unwrap().branches, 1);
    assert_eq!(sandbox.mirror.default_branch().await.unwrap(), Some(branch("trunk")));
    assert_eq!(sandbox.mirror.resolve(&Revision::Work(work())).await.unwrap(), imported.head);
    assert_eq!(sandbox.try_import().await.unwrap(), imported);
}

#[tokio::test]
async fn a_branch_stays_itself_beside_a_tag_of_the_same_name_and_without_a_head() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git commit -q --allow-empty -m second; git tag main HEAD~1; git checkout -q --detach HEAD",
    );
    let mirror = lab.mirror().await;
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    assert_eq!(base, lab.rev(&lab.real(), "refs/heads/main"));
    assert_eq!(mirror.default_branch().await.unwrap(), Some(branch("main")));
    let sandbox = sandbox(&lab, mirror, base.clone()).await;
    assert_eq!(lab.rev(&sandbox.tree, "HEAD"), base);
    sandbox.sh("echo mine > new");
    assert_eq!(sandbox.import().await.changes.len(), 1);
}

#[tokio::test]
async fn names_the_check_that_an_old_object_fails_and_takes_it_where_that_is_allowed() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git cat-file commit HEAD | sed 's/ <owner@example.com>/ owner@example.com/' > ../old-commit
         git update-ref refs/heads/old $(git hash-object --literally -t commit -w ../old-commit)",
    );
    let old = lab.rev(&lab.real(), "old");
    let error = lab.try_mirror(MirrorLimits::default()).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_OBJECTS_REFUSED", "{}", error.stderr());
    assert!(error.message().contains(&format!("object {old}, missingEmail")), "{}", error.message());
    let create = async |checks: &[&'static str]| {
        let remote = lab.remote().allowing(checks.iter().copied());
        Mirror::create(&lab.git, lab.path("data/mirror"), &remote, MirrorLimits::default()).await
    };
    assert!(create(&["badTimezone", "x=y", ""]).await.is_err(), "another check");
    let mirror = create(&["missingEmail"]).await.unwrap();
    assert_eq!(mirror.resolve(&Revision::Branch(branch("old"))).await.unwrap(), old);
}

#[tokio::test]
async fn collects_many_packs_and_keeps_what_a_sandbox_has_started_from() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git branch topic; git commit -q --allow-empty -m tip; git branch -f topic; git reset -q --hard HEAD~1");
    let mirror = lab.mirror().await;
    let (base, gone) = (lab.rev(&lab.real(), "topic"), lab.rev(&lab.real(), "topic^{tree}"));
    assert!(!mirror.wants_collection().await.unwrap());
    // Two months pass in which the branch is deleted, and many fetches leave a pack each.
    lab.sh(&lab.real(), "git branch -q -D topic");
    mirror.fetch(&lab.remote()).await.unwrap();
    lab.sh(
        mirror.dir(),
        "for n in $(seq 51); do echo $n | git hash-object -w --stdin | git pack-objects -q objects/pack/pack; done
         find objects -type f -exec touch -d '2 months ago' {} +",
    );
    assert!(mirror.wants_collection().await.unwrap());
    mirror
        .collect_garbage(&[base.clone(), CommitId::parse(&"7".repeat(40)).unwrap(), base.clone()])
        .await
        .unwrap();
    assert!(!mirror.wants_collection().await.unwrap());
    assert_eq!(mirror.resolve(&Revision::Commit(base.clone())).await.unwrap(), base);
    assert_eq!(lab.sh(mirror.dir(), &format!("git cat-file -t {gone}")), "tree");
    lab.sh(mirror.dir(), "find objects -type f -exec touch -d '2 months ago' {} +");
    mirror.collect_garbage(&[]).await.unwrap();
    assert!(mirror.resolve(&Revision::Commit(base)).await.is_err(), "nothing reaches it any more");
}
