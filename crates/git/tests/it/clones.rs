//! Clones for sandboxes.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use foundry_git::{CloneSpec, CommitId, GitErrorKind, Revision};

use crate::lab::{Lab, branch, work};

fn spec(lab: &Lab, base: CommitId) -> CloneSpec {
    CloneSpec {
        base,
        branch: branch("feat/$(id);x"),
        destination: lab.path("box/tree"),
        origin: Some("https://example.com/a.git".into()),
        lfs: None,
        lfs_content: false,
        submodules_of: None,
        identity: ("Agent".into(), "agent@example.com".into()),
    }
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
        if entry.metadata().unwrap().is_dir() {
            files(&entry.path(), out);
        } else {
            out.push(entry.path());
        }
    }
}

#[tokio::test]
async fn makes_an_independent_clone_that_tells_nothing_about_the_host() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git branch other");
    let mirror = lab.mirror().await;
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    let spec = spec(&lab, base.clone());
    mirror.clone_into(&spec).await.unwrap();
    let tree = &spec.destination;
    assert!(!tree.join(".git/objects/info/alternates").exists() && !tree.join(".git/hooks").exists());
    let mut all = Vec::new();
    files(tree, &mut all);
    let host = lab.path("").display().to_string();
    for file in all {
        assert_eq!(file.metadata().unwrap().nlink(), 1, "{} is a hard link", file.display());
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains(host.trim_end_matches('/')), "{} holds a host path", file.display());
    }
    assert_eq!(lab.rev(tree, "HEAD"), base);
    assert_eq!(lab.sh(tree, "git symbolic-ref --short HEAD"), spec.branch.as_str());
    assert_eq!(lab.sh(tree, "git status --porcelain"), "");
    assert_eq!(lab.sh(tree, "git remote get-url origin"), "https://example.com/a.git");
    assert_eq!(lab.sh(tree, "git rev-parse --abbrev-ref origin/HEAD"), "origin/main");
    assert_eq!(lab.rev(tree, "origin/other"), base);
    lab.sh(tree, "git fsck --strict --no-progress && git commit -q --allow-empty -m ok");
}

#[tokio::test]
async fn clones_once_and_clears_what_a_crash_left() {
    let lab = Lab::new().await;
    let mirror = lab.mirror().await;
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    let spec = spec(&lab, base);
    std::fs::create_dir_all(lab.path("box/tree.cloning/.git")).unwrap();
    std::fs::create_dir_all(&spec.destination).unwrap();
    mirror.clone_into(&spec).await.unwrap();
    assert!(!lab.path("box/tree.cloning").exists());
    std::fs::write(spec.destination.join("agent"), "was here").unwrap();
    mirror.clone_into(&spec).await.unwrap();
    assert!(spec.destination.join("agent").exists(), "a complete clone was made again");

    let taken = CloneSpec { destination: lab.path("taken"), ..spec };
    std::fs::create_dir_all(taken.destination.join("mine")).unwrap();
    let err = mirror.clone_into(&taken).await.unwrap_err();
    assert_eq!(err.reason(), "CLONE_DESTINATION_TAKEN");
    assert!(taken.destination.join("mine").exists());
}

#[tokio::test]
async fn brings_a_base_along_that_no_branch_reaches_any_more() {
    let lab = Lab::new().await;
    let mirror = lab.mirror().await;
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    mirror.record_work(&work(), &base, &base).await.unwrap();
    lab.sh(&lab.real(), "git commit -q --amend -m rewritten");
    mirror.fetch(&lab.remote()).await.unwrap();
    let spec = spec(&lab, base.clone());
    mirror.clone_into(&spec).await.unwrap();
    assert_eq!(lab.rev(&spec.destination, "HEAD"), base);
}

#[tokio::test]
async fn runs_no_filter_and_fetches_no_submodule_of_a_hostile_tree() {
    let lab = Lab::new().await;
    let proof = lab.path("ran");
    lab.sh(
        &lab.real(),
        &format!(
            "printf '* filter=lfs\\n* filter=evil\\n' > .gitattributes
             printf '[submodule \"s\"]\\n path = s\\n url = {real}\\n' > .gitmodules
             printf '[core]\\n fsmonitor = touch {p}\\n' > .gitconfig
             git add -A; git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),s
             ln -s /tmp escape; git add escape; git commit -q -m hostile",
            real = lab.real().display(),
            p = proof.display()
        ),
    );
    let mirror = lab.mirror().await;
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    let spec = spec(&lab, base);
    mirror.clone_into(&spec).await.unwrap();
    assert_eq!(std::fs::read_dir(spec.destination.join("s")).unwrap().count(), 0);
    assert!(std::fs::symlink_metadata(spec.destination.join("escape")).unwrap().is_symlink());
    assert!(!proof.exists());
    let unknown = CommitId::parse(&"0123".repeat(10)).unwrap();
    let absent = CloneSpec { base: unknown, destination: lab.path("none"), ..spec };
    assert_eq!(mirror.clone_into(&absent).await.unwrap_err().kind(), GitErrorKind::NotFound);
    assert!(!absent.destination.exists());
}
