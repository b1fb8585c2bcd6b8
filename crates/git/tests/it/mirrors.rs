//! Making, opening and fetching mirrors, also of hostile remotes.

use std::path::Path;
use std::time::Duration;

use foundry_git::{Branches, Git, GitErrorKind, Mirror, MirrorLimits, RemoteUrl, Revision, UrlPolicy};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::lab::{Lab, branch, work};

fn names(branches: &Branches) -> Vec<&str> {
    branches.items.iter().map(|b| b.name.as_str()).collect()
}

#[tokio::test]
async fn mirrors_branches_with_their_tips_and_the_default_branch() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git branch dev; git checkout -q -b trunk; git commit -q --allow-empty -m 'Second  one'",
    );
    let mirror = lab.mirror().await;
    let branches = mirror.branches().await.unwrap();
    assert_eq!(names(&branches), ["dev", "main", "trunk"]);
    let trunk = &branches.items[2];
    assert_eq!(trunk.subject, "Second  one");
    assert_eq!(trunk.commit, lab.rev(&lab.real(), "trunk"));
    assert!(trunk.committed_time.as_micros() > 1_500_000_000_000_000);
    assert_eq!(mirror.default_branch().await.unwrap(), Some(branch("trunk")));
    assert_eq!(mirror.resolve(&Revision::Branch(branch("trunk"))).await.unwrap(), trunk.commit);
    let err = mirror.resolve(&Revision::Branch(branch("absent"))).await.unwrap_err();
    assert_eq!((err.kind(), err.reason()), (GitErrorKind::NotFound, "BRANCH_NOT_FOUND"));
}

#[tokio::test]
async fn follows_the_remote_and_prunes_but_keeps_work_and_bases() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "git checkout -q -b topic; echo t > t; git add t; git commit -q -m t; git checkout -q main",
    );
    let mirror = lab.mirror().await;
    let tip = mirror.resolve(&Revision::Branch(branch("topic"))).await.unwrap();
    mirror.record_work(&work(), &tip, &tip).await.unwrap();
    // The topic branch is replaced by a name below it, and main is rewritten.
    lab.sh(&lab.real(), "git branch -q -D topic; git branch topic/next; git commit -q --amend -m rewritten");
    let report = mirror.fetch(&lab.remote()).await.unwrap();
    assert_eq!((report.branches, report.skipped), (2, 0));
    assert_eq!(names(&mirror.branches().await.unwrap()), ["main", "topic/next"]);
    assert_eq!(
        mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap(),
        lab.rev(&lab.real(), "main")
    );
    lab.sh(mirror.dir(), "git gc -q --prune=now");
    mirror.collect_garbage(&[]).await.unwrap();
    assert_eq!(mirror.resolve(&Revision::Base(work())).await.unwrap(), tip);
    mirror.forget_work(&work()).await.unwrap();
    mirror.forget_work(&work()).await.unwrap();
    assert_eq!(mirror.resolve(&Revision::Work(work())).await.unwrap_err().kind(), GitErrorKind::NotFound);
}

#[tokio::test]
async fn takes_an_empty_repository_and_finds_its_first_branch_later() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "rm -rf .git && git init -q -b first .");
    let mirror = lab.mirror().await;
    assert_eq!(mirror.default_branch().await.unwrap(), None);
    assert!(mirror.branches().await.unwrap().items.is_empty());
    lab.sh(&lab.real(), "git add -A; git commit -q -m x");
    mirror.fetch(&lab.remote()).await.unwrap();
    assert_eq!(mirror.default_branch().await.unwrap(), Some(branch("first")));
}

#[tokio::test]
async fn skips_and_counts_option_like_branches_and_runs_none_of_them() {
    let lab = Lab::new().await;
    let proof = lab.path("ran");
    lab.sh(
        &lab.real(),
        &format!(
            "tip=$(git rev-parse main)
             for name in '--upload-pack=touch${{IFS}}{p}' '-x' '$(touch${{IFS}}{p})' 'a;touch${{IFS}}{p}' \"it's\"; do
                 mkdir -p \"$(dirname \".git/refs/heads/$name\")\"
                 printf '%s\\n' \"$tip\" > \".git/refs/heads/$name\"
             done
             printf '%s\\n' \"$tip\" > \".git/refs/heads/$(printf 'caf\\351')\"",
            p = proof.display()
        ),
    );
    let mirror = lab.mirror().await;
    let report = mirror.fetch(&lab.remote()).await.unwrap();
    assert_eq!((report.branches, report.skipped), (4, 3));
    let branches = mirror.branches().await.unwrap();
    assert_eq!((branches.items.len(), branches.skipped), (4, 1), "{branches:?}");
    assert!(branches.items.iter().all(|b| !b.name.as_str().starts_with('-')));
    for b in &branches.items {
        assert_eq!(mirror.resolve(&Revision::Branch(b.name.clone())).await.unwrap(), b.commit);
    }
    assert!(!proof.exists(), "a branch name was run");
}

#[tokio::test]
async fn a_head_that_looks_like_an_option_is_passed_over_or_named() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "git update-ref refs/heads/-x main && git symbolic-ref HEAD refs/heads/-x");
    let mirror = lab.mirror().await;
    assert_eq!(mirror.default_branch().await.unwrap(), Some(branch("main")));

    lab.sh(&lab.real(), "git update-ref -d refs/heads/main");
    let error = mirror.fetch(&lab.remote()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (GitErrorKind::Invalid, "BRANCH_NAME_INVALID"));
    assert!(error.message().contains("`-x`"), "{}", error.message());
    assert!(!error.retryable());
}

#[tokio::test]
async fn runs_nothing_that_a_remote_repository_configures() {
    let lab = Lab::new().await;
    let proof = lab.path("ran");
    let evil = format!("touch {}", proof.display());
    lab.sh(
        &lab.real(),
        &format!(
            "mkdir -p .git/hooks
             git config uploadpack.packObjectsHook '{evil}'; git config core.sshCommand '{evil}'
             git config diff.external '{evil}'; git config core.fsmonitor '{evil}'
             for h in pre-receive post-checkout reference-transaction post-merge; do
                 printf '#!/bin/sh\\n{evil}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h
             done"
        ),
    );
    let mirror = lab.mirror().await;
    mirror.fetch(&lab.remote()).await.unwrap();
    assert!(!proof.exists(), "something configured in the remote was run");
}

#[tokio::test]
async fn creates_once_and_clears_what_a_crash_left() {
    let lab = Lab::new().await;
    let half = lab.path("data/mirror.creating");
    std::fs::create_dir_all(half.join("objects")).unwrap();
    std::fs::write(half.join("HEAD"), "garbage").unwrap();
    let (a, b) = tokio::join!(lab.mirror(), lab.mirror());
    assert_eq!(a.dir(), b.dir());
    assert!(!half.exists());
    // A killed git leaves its lock files; the next operation must work regardless.
    std::fs::create_dir_all(a.dir().join("objects/info")).unwrap();
    let locks = ["packed-refs.lock", "HEAD.lock", "refs/heads/main.lock", "objects/info/commit-graph.lock"];
    for name in locks.into_iter().chain(["objects/pack/tmp_pack_x"]) {
        std::fs::write(a.dir().join(name), "").unwrap();
    }
    lab.sh(&lab.real(), "git commit -q --allow-empty -m next; git branch -m other");
    a.fetch(&lab.remote()).await.unwrap();
    assert_eq!(a.default_branch().await.unwrap(), Some(branch("other")));
    assert!(!a.dir().join("objects/pack/tmp_pack_x").exists());
    let dir = a.dir().to_owned();
    let wait = MirrorLimits::default().lock_wait;
    Mirror::remove(&dir, wait).await.unwrap();
    assert!(!dir.exists());
    let gone = Mirror::open(&lab.git, &dir, MirrorLimits::default()).await.unwrap_err();
    assert_eq!(gone.reason(), "MIRROR_NOT_FOUND");
    Mirror::remove(&dir, wait).await.unwrap();
}

#[tokio::test]
async fn refuses_a_remote_that_is_absent_or_inside_the_data_directory() {
    let lab = Lab::new().await;
    let refusal = async |name: &str| {
        let remote = RemoteUrl::parse(lab.path(name).to_str().unwrap(), &lab.policy()).unwrap();
        Mirror::create(&lab.git, lab.path("data/other"), &remote, MirrorLimits::default()).await.unwrap_err()
    };
    assert_eq!(refusal("absent").await.reason(), "GIT_REMOTE_NOT_FOUND");
    std::fs::create_dir(lab.path("empty")).unwrap();
    let empty = refusal("empty").await;
    assert_eq!(empty.kind(), GitErrorKind::NotFound, "{empty:?}");
    lab.mirror().await;
    std::os::unix::fs::symlink(lab.path("data/mirror"), lab.path("link")).unwrap();
    assert_eq!(refusal("link").await.reason(), "URL_PATH_NOT_ALLOWED");
    assert!(!lab.path("data/other").exists() && !lab.path("data/other.creating").exists());
}

/// A commit on top of HEAD whose tree has an entry named `..`.
pub fn plant_dotdot(lab: &Lab, repository: &Path, to: &str) {
    let blob = lab.sh(repository, "echo pwned | git hash-object -w --stdin");
    let mut tree = b"100644 ..\0".to_vec();
    tree.extend((0..20).map(|i| u8::from_str_radix(&blob[2 * i..2 * i + 2], 16).unwrap()));
    std::fs::write(lab.path("evil-tree"), tree).unwrap();
    lab.sh(
        repository,
        &format!(
            "tree=$(git hash-object --literally -t tree -w '{}')
             git update-ref {to} $(git commit-tree -p HEAD -m evil $tree)",
            lab.path("evil-tree").display()
        ),
    );
}

#[tokio::test]
async fn refuses_objects_that_fsck_refuses() {
    let lab = Lab::new().await;
    plant_dotdot(&lab, &lab.real(), "refs/heads/evil");
    let err = lab.try_mirror(MirrorLimits::default()).await.unwrap_err();
    assert_eq!(err.kind(), GitErrorKind::Corrupt, "{err:?} {}", err.stderr());
    assert!(err.message().contains(": object "), "{err}");
    assert!(!lab.path("data/mirror").exists());
}

#[tokio::test]
async fn works_with_sha256_repositories() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "rm -rf .git && git init -q -b main --object-format=sha256 . && git add -A && git commit -q -m x",
    );
    let sandbox = lab.sandbox().await;
    assert_eq!(sandbox.base.as_str().len(), 64);
    std::fs::write(sandbox.tree.join("new"), "x\n").unwrap();
    assert_eq!(sandbox.import().await.changes.len(), 1);
}

#[tokio::test]
async fn says_when_git_is_missing_or_too_old() {
    let err = Git::at("/nonexistent/git").await.unwrap_err();
    assert_eq!(err.reason(), "GIT_NOT_INSTALLED");
    let lab = Lab::new().await;
    lab.sh(&lab.path(""), "printf '#!/bin/sh\\necho git version 2.37.9\\n' > git-old; chmod +x git-old");
    let err = Git::at(lab.path("git-old")).await.unwrap_err();
    assert_eq!(err.reason(), "GIT_TOO_OLD");
    assert!(err.message().contains("2.37") && err.message().contains("2.38"), "{}", err.message());
}

#[test]
fn takes_no_local_path_unless_configured() {
    let remote = RemoteUrl::parse("/tmp/x", &UrlPolicy::default());
    assert_eq!(remote.unwrap_err().reason(), "URL_SCHEME_NOT_ALLOWED");
}

#[tokio::test]
async fn comes_out_whole_when_dropped_at_any_moment() {
    let lab = Lab::new().await;
    for millis in [1, 4, 8, 12, 16, 24, 32, 48] {
        // Whether it ends in time does not matter; what it leaves behind does.
        let _ = tokio::time::timeout(Duration::from_millis(millis), lab.mirror()).await;
    }
    let s = lab.sandbox().await;
    s.sh("seq 1 2000 > numbers");
    s.hand_over();
    for millis in [1, 4, 8, 12, 16, 24, 32, 48] {
        let _ = tokio::time::timeout(Duration::from_millis(millis), s.try_import()).await;
        let _ = tokio::time::timeout(Duration::from_millis(millis), s.mirror.fetch(&lab.remote())).await;
    }
    assert_eq!(s.try_import().await.unwrap().changes.len(), 1);
    assert_eq!(s.mirror.fetch(&lab.remote()).await.unwrap().branches, 1);
    lab.sh(s.mirror.dir(), "git fsck --strict --no-progress");
}

/// Answers one request with a redirect and returns what was requested.
async fn redirect_once(listener: tokio::net::TcpListener, to: String) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 4096];
    let n = stream.read(&mut request).await.unwrap();
    let answer =
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&request[..n]).into_owned()
}

#[tokio::test]
async fn reaches_the_pinned_address_and_follows_no_redirect() {
    let lab = Lab::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = format!("http://127.0.0.1:{}/r/info/refs", elsewhere.local_addr().unwrap().port());
    let policy = UrlPolicy { allow_http: true, allow_private_addresses: true, ..UrlPolicy::default() };
    let remote = RemoteUrl::parse(&format!("http://localhost:{port}/r"), &policy).unwrap();
    let create = Mirror::create(&lab.git, lab.path("data/m"), &remote, MirrorLimits::default());
    let (made, request) = tokio::join!(create, redirect_once(listener, to));
    assert!(request.starts_with("GET /r/info/refs?service=git-upload-pack"), "{request}");
    let err = made.unwrap_err();
    assert_eq!(
        (err.kind(), err.reason()),
        (GitErrorKind::Protocol, "GIT_REDIRECT_REFUSED"),
        "{}",
        err.stderr()
    );
    let followed = tokio::time::timeout(Duration::from_millis(1), elsewhere.accept()).await;
    assert!(followed.is_err(), "the redirect was followed");
}
