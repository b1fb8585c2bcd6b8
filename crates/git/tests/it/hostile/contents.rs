//! Repositories whose contents are hostile, from a real `git http-backend`.

use std::path::Path;
use std::time::Instant;

use foundry_git::{CloneSpec, GitError, GitErrorKind, MirrorLimits, Revision};
use foundry_testkit::hostile_git::{self as server, Server};

use super::{AsRemote as _, PROMPT, served};
use crate::lab::{Lab, branch};

/// A tree with one entry of this name, whatever git thinks of it, as the branch `evil`.
fn plant_entry(lab: &Lab, repository: &Path, mode: &str, name: &[u8], object: &str) {
    let mut tree = [mode.as_bytes(), b" ", name, b"\0"].concat();
    tree.extend((0..20).map(|i| u8::from_str_radix(&object[2 * i..2 * i + 2], 16).unwrap()));
    std::fs::write(lab.path("tree"), tree).unwrap();
    lab.sh(
        repository,
        &format!(
            "tree=$(git hash-object --literally -t tree -w '{}')
             git update-ref refs/heads/evil $(git commit-tree -p main -m evil $tree)",
            lab.path("tree").display()
        ),
    );
}

fn blob(lab: &Lab, repository: &Path, text: &str) -> String {
    std::fs::write(lab.path("blob"), text).unwrap();
    lab.sh(repository, &format!("git hash-object -w '{}'", lab.path("blob").display()))
}

#[tokio::test]
async fn entries_that_are_a_repository_or_lead_out_of_the_tree_on_any_system_are_refused() {
    let lab = Lab::new().await;
    let root = served(&lab);
    let bare = root.join("r.git");
    let server = Server::start(move |request, out| server::honest(&root, request, out));
    let mirror = server.mirrored(&lab).await.unwrap();
    let before = super::contents(&mirror);
    let (file, link) = (blob(&lab, &bare, "x\n"), blob(&lab, &bare, "/etc"));
    let modules = |text: &str| blob(&lab, &bare, text);
    let names: [&[u8]; 13] = [
        b".git",
        b".GIT",
        b".git ",
        b".git.",
        b".git...",
        b"git~1",
        b"GIT~1",
        b".g\xe2\x80\x8cit",
        b".git::$INDEX_ALLOCATION",
        b".git\\x",
        b"..",
        b".",
        b"a/b",
    ];
    let mut all: Vec<(&str, &[u8], String)> =
        names.iter().map(|name| ("100644", *name, file.clone())).collect();
    all.push(("120000", b".gitmodules", link.clone()));
    for text in [
        "[submodule \"../../x\"]\n\tpath = x\n\turl = https://example.com/x\n",
        "[submodule \"x\"]\n\tpath = -x\n\turl = https://example.com/x\n",
        "[submodule \"x\"]\n\tpath = x\n\turl = --upload-pack=touch\n",
        "[submodule \"x\"]\n\tpath = x\n\turl = https://example.com/a%0ab\n",
        "[submodule \"x\"]\n\tpath = x\n\turl = https://example.com/x\n\tupdate = !touch canary\n",
    ] {
        all.push(("100644", b".gitmodules", modules(text)));
    }
    for (mode, name, object) in all {
        plant_entry(&lab, &bare, mode, name, &object);
        let error = mirror.fetch(&server.remote()).await;
        let shown = String::from_utf8_lossy(name).into_owned();
        let error = error.expect_err(&shown);
        assert_eq!(error.reason(), "GIT_OBJECTS_REFUSED", "{shown}: {}", error.stderr());
        assert!(error.message().contains(": object "), "{shown}: {}", error.message());
    }
    assert!(super::contents(&mirror) == before, "something of it is in the mirror");
    lab.sh(&bare, "git update-ref -d refs/heads/evil; git branch good main");
    assert_eq!(mirror.fetch(&server.remote()).await.unwrap().branches, 2);
}

fn spec(lab: &Lab, base: foundry_git::CommitId) -> CloneSpec {
    CloneSpec {
        base,
        branch: branch("foundry/work"),
        destination: lab.path("sandbox"),
        origin: None,
        lfs: None,
        lfs_content: false,
        submodules_of: None,
        identity: ("Agent".into(), "agent@example.com".into()),
    }
}

#[tokio::test]
async fn attributes_submodules_links_and_settings_of_a_repository_run_nothing_in_a_mirror_or_a_clone() {
    let lab = Lab::new().await;
    let canary = lab.path("canary");
    let touch = format!("touch {}", canary.display());
    lab.sh(
        &lab.real(),
        &format!(
            "printf '* filter=evil diff=evil merge=evil export-subst ident\\n' > .gitattributes
             printf '[filter \"evil\"]\\n\\tsmudge = {touch}\\n\\tclean = {touch}\\n[diff \"evil\"]\\n\\ttextconv = {touch}\\n[core]\\n\\tfsmonitor = {touch}\\n\\thooksPath = hooks\\n\\tsshCommand = {touch}\\n' > .gitconfig
             cp .gitconfig config; mkdir -p hooks
             for hook in post-checkout reference-transaction pre-push; do printf '#!/bin/sh\\n{touch}\\n' > hooks/$hook; chmod +x hooks/$hook; done
             printf '[submodule \"x\"]\\n\\tpath = sub\\n\\turl = ext::sh -c \"{touch}\"\\n[submodule \"y\"]\\n\\tpath = up\\n\\turl = ../..\\n[submodule \"z\"]\\n\\tpath = local\\n\\turl = file:///etc\\n' > .gitmodules
             for path in sub up local; do git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),$path; done
             ln -s /etc/passwd secret; ln -s ../../.. above; ln -s .git/hooks linked
             printf '\\n*$Id$ $Format:%%H$\\n' > ident
             git add -A .gitattributes .gitconfig config hooks .gitmodules secret above linked ident; git commit -q -m evil"
        ),
    );
    let root = served(&lab);
    let server = Server::start(move |request, out| server::honest(&root, request, out));
    let mirror = server.mirrored(&lab).await.unwrap();
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    mirror.clone_into(&spec(&lab, base.clone())).await.unwrap();
    let tree = lab.path("sandbox");
    assert_eq!(std::fs::read_link(tree.join("secret")).unwrap(), Path::new("/etc/passwd"));
    assert!(std::fs::read_dir(tree.join("local")).unwrap().next().is_none(), "a submodule was fetched");
    assert!(!tree.join(".git/hooks").exists());
    let first = lab.rev(mirror.dir(), "main~1");
    mirror.full_patch(&first, &base).await.unwrap();
    mirror.diff_stat(&first, &base).await.unwrap();
    assert!(!canary.exists(), "something of the repository was run");
}

/// Makes a mirror of the repository and a clone of it, in bounded time.
async fn cloned(lab: &Lab, limits: MirrorLimits) -> Result<(), GitError> {
    let begun = Instant::now();
    let mirror = lab.try_mirror(limits).await?;
    let base = mirror.resolve(&Revision::Branch(branch("main"))).await?;
    let cloned = mirror.clone_into(&spec(lab, base)).await;
    assert!(begun.elapsed() < PROMPT, "it took {:?}", begun.elapsed());
    if cloned.is_err() {
        assert!(!lab.path("sandbox").exists() && !lab.path("sandbox.cloning").exists(), "something is left");
    }
    cloned
}

#[tokio::test]
async fn a_tree_of_few_objects_that_stands_for_very_many_files_is_not_checked_out() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "object=$(printf x | git hash-object -w --stdin); entry='100644 blob'
         for level in $(seq 10); do
             object=$(for n in 0 1 2 3 4 5 6 7 8 9; do printf '%s %s\\t%s\\n' \"$entry\" $object $n; done | git mktree)
             entry='040000 tree'
         done
         git update-ref refs/heads/main $(git commit-tree -m bomb $object)",
    );
    let error =
        cloned(&lab, MirrorLimits { checkout_files: 100_000, ..MirrorLimits::default() }).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (GitErrorKind::TooLarge, "GIT_TOO_LARGE"),
        "{}",
        error.stderr()
    );
    assert!(error.message().contains("files of the tree"), "{}", error.message());
}

#[tokio::test]
async fn files_of_few_bytes_that_stand_for_very_many_are_not_checked_out() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "head -c 20000000 /dev/zero > zeros; for n in 1 2 3 4; do cp zeros zeros$n; done; git add -A; git commit -q -m bomb",
    );
    let limits = MirrorLimits { checkout_bytes: 90 << 20, ..MirrorLimits::default() };
    let error = cloned(&lab, limits).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_TOO_LARGE", "{}", error.stderr());
    let enough = MirrorLimits { checkout_bytes: 100 << 20, ..MirrorLimits::default() };
    cloned(&lab, enough).await.unwrap();
}

#[tokio::test]
async fn a_tree_of_many_levels_and_a_long_chain_of_tags_end_in_bounded_time() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "previous=$(git rev-parse main); type=commit
         for n in $(seq 300); do
             previous=$(printf 'object %s\\ntype %s\\ntag t%s\\ntagger a <a@b.c> 1 +0000\\n\\nx\\n' $previous $type $n | git mktag); type=tag
         done
         git update-ref refs/tags/chain $previous",
    );
    cloned(&lab, MirrorLimits::default()).await.unwrap();
    lab.sh(&lab.path(""), "rm -rf data sandbox");
    lab.sh(
        &lab.real(),
        "object=$(printf x | git hash-object -w --stdin); entry='100644 blob'
         object=$(printf '%s %s\\tx\\n' \"$entry\" $object | git mktree)
         git update-ref refs/heads/main $(git commit-tree -m flat $object)",
    );
    // One line for each level: a tree that contains the one before, of 5,000.
    let script = "M 100644 inline ".to_owned() + &"d/".repeat(4_000) + "x\ndata 1\nx\n\n";
    let stream = format!(
        "commit refs/heads/main\ncommitter a <a@b.c> 1 +0000\ndata 4\ndeep\nfrom refs/heads/main^0\n{script}"
    );
    std::fs::write(lab.path("stream"), stream).unwrap();
    lab.sh(&lab.real(), "git fast-import --quiet --force < ../stream");
    let error = cloned(&lab, MirrorLimits::default()).await.unwrap_err();
    // The remote may be the one that refuses to send it.
    assert!(
        matches!(error.kind(), GitErrorKind::TooLarge | GitErrorKind::Corrupt),
        "{} {}",
        error.reason(),
        error.stderr()
    );
}
