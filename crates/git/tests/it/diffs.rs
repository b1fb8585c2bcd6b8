//! Change lists and patches, also of trees made to deceive.

use foundry_git::{ChangeKind, FileChange, GitErrorKind, Mirror, MirrorLimits, Patch, RepoPath};

use crate::lab::{Lab, snapshot};

/// Every kind of change at once: a lost newline at the end, a rename with a change, a mode, binary
/// and empty files, a directory turned into a link that leads out, and odd names.
const EVERYTHING: &str = r#"
    printf 'one\n2\nthree\nfour' > text
    printf 'no newline, still' > plain
    mv moved elsewhere
    printf '41\n' >> elsewhere
    rm gone
    chmod +x run.sh
    head -c 5000 /dev/urandom > blob
    : > empty
    rm -r dir; ln -s /etc/passwd dir
    mkdir -p deep/er; echo '*.x' > deep/er/f
    printf 'n\n' > "$(printf 'new\nline')"
    printf 'l\n' > "$(printf 'caf\351')"
    printf 'c\n' > "$(printf 'caf\303\251')"
    printf 'd\n' > "$(printf 'cafe\314\201')"
    printf 't\n' > "$(printf 'ta\tb')"
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' > pointer
    printf 'q\n' > 'quote"and\back'
    printf 'o\n' > './--option'
    printf 's\n' > 'with space '
    mkdir ignored; echo no > ignored/file
"#;

fn find<'a>(changes: &'a [FileChange], path: &str) -> &'a FileChange {
    changes.iter().find(|c| c.path.to_string() == path).unwrap_or_else(|| panic!("no {path} in {changes:#?}"))
}

fn bytes(patch: &Patch) -> Vec<u8> {
    match patch {
        Patch::Bytes(b) => b.to_vec(),
        Patch::TooLarge { size } => panic!("too large: {size}"),
    }
}

#[tokio::test]
async fn lists_every_kind_of_change_with_its_numbers() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh(EVERYTHING);
    let changes = sandbox.import().await.changes;
    let kind = |path: &str| find(&changes, path).kind;
    assert_eq!(kind("text"), ChangeKind::Modified);
    assert_eq!((find(&changes, "text").additions, find(&changes, "text").deletions), (2, 1));
    assert_eq!(kind("elsewhere"), ChangeKind::Renamed);
    assert_eq!(find(&changes, "elsewhere").old_path.as_ref().unwrap().to_string(), "moved");
    assert_eq!(kind("gone"), ChangeKind::Deleted);
    assert_eq!(kind("run.sh"), ChangeKind::ModeChanged);
    assert_eq!((find(&changes, "run.sh").old_mode, find(&changes, "run.sh").new_mode), (0o100644, 0o100755));
    assert!(find(&changes, "blob").binary);
    assert_eq!((kind("empty"), find(&changes, "empty").additions), (ChangeKind::Added, 0));
    assert_eq!((kind("dir"), find(&changes, "dir").new_mode), (ChangeKind::Added, 0o120000));
    for path in [
        "new\nline",
        "caf\\xe9",
        "caf\u{e9}",
        "cafe\u{301}",
        "ta\tb",
        "pointer",
        "quote\"and\\\\back",
        "--option",
        "with space ",
    ] {
        assert_eq!(kind(path), ChangeKind::Added, "{path}");
    }
    assert!(changes.iter().all(|c| c.patch_size > 0 && !c.path.to_string().starts_with("ignored")));
    assert!(
        changes.is_sorted_by_key(|c| c.path.as_bytes()),
        "by the bytes of their present paths: {changes:#?}"
    );
    // A stored change list is read back as it was.
    let stored = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<Vec<FileChange>>(&stored).unwrap(), changes);
}

#[tokio::test]
async fn gives_a_patch_that_turns_a_fresh_clone_into_the_work_tree() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh(EVERYTHING);
    let work = sandbox.import().await;
    let patch = sandbox.mirror.full_patch(&work.base, &work.head).await.unwrap();
    std::fs::write(lab.path("all.patch"), &patch).unwrap();
    lab.sh(
        &lab.path(""),
        "git clone -q real fresh && cd fresh && git apply --whitespace=nowarn ../all.patch",
    );
    std::fs::remove_dir_all(sandbox.tree.join("ignored")).unwrap();
    assert_eq!(snapshot(&lab.path("fresh")), snapshot(&sandbox.tree));

    let files = sandbox.mirror.file_patches(&work.base, &work.head).await.unwrap();
    let joined: Vec<u8> = files.iter().flat_map(|(_, p)| bytes(p)).collect();
    assert_eq!(joined, patch, "the files' patches together are the whole patch");
    for (change, stored) in &files {
        let read = sandbox.mirror.file_patch(&work.base, &work.head, &change.path, change.old_path.as_ref());
        assert_eq!(&read.await.unwrap(), stored, "{:?}", change.path);
        assert_eq!(stored.size(), change.patch_size);
    }
}

#[tokio::test]
async fn writes_a_type_change_as_one_file_whose_patch_applies() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("rm text; ln -s plain text; rm run.sh; mkdir run.sh; echo y > run.sh/y");
    let work = sandbox.import().await;
    assert_eq!(find(&work.changes, "text").kind, ChangeKind::TypeChanged);
    let files = sandbox.mirror.file_patches(&work.base, &work.head).await.unwrap();
    let joined: Vec<u8> = files.iter().flat_map(|(_, p)| bytes(p)).collect();
    std::fs::write(lab.path("all.patch"), joined).unwrap();
    lab.sh(&lab.path(""), "git clone -q real fresh && cd fresh && git apply ../all.patch");
    assert_eq!(snapshot(&lab.path("fresh")), snapshot(&sandbox.tree));
}

#[tokio::test]
async fn lets_no_attribute_or_configuration_have_a_say() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let proof = lab.path("ran");
    sandbox.sh("printf '* diff=evil filter=evil merge=evil\ntext -diff\n' > .gitattributes; echo 2 >> text");
    let work = sandbox.import().await;
    // Even a mirror whose own configuration was tampered with runs nothing.
    let tamper = format!(
        "git config diff.external 'touch {p}'; git config diff.evil.textconv 'touch {p}'
         git config diff.evil.command 'touch {p}'; git config core.fsmonitor 'touch {p}'
         git config attr.tree refs/foundry/work/task_1; mkdir -p info; echo '.gitattributes diff=evil' > info/attributes",
        p = proof.display()
    );
    lab.sh(sandbox.mirror.dir(), &tamper);
    assert!(!sandbox.mirror.full_patch(&work.base, &work.head).await.unwrap().is_empty());
    assert!(!proof.exists(), "something configured was run");
    let changes = sandbox.mirror.diff_stat(&work.base, &work.head).await.unwrap();
    assert!(!find(&changes, "text").binary, "an attribute of the tree was obeyed");
}

#[tokio::test]
async fn says_too_large_for_one_file_and_still_lists_the_rest() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("head -c 3000000 /dev/urandom > huge; echo small > small");
    let work = sandbox.import().await;
    let huge = find(&work.changes, "huge").clone();
    assert!(huge.patch_size > 3_000_000 && huge.binary);
    let files = sandbox.mirror.file_patches(&work.base, &work.head).await.unwrap();
    assert!(matches!(&files[0].1, Patch::TooLarge { size } if *size == huge.patch_size), "{files:?}");
    assert!(matches!(&files[1].1, Patch::Bytes(b) if b.ends_with(b"+small\n")));
    let tight = MirrorLimits { max_patch_bytes: 1 << 20, max_changed_files: 1, ..MirrorLimits::default() };
    let mirror = Mirror::open(&lab.git, sandbox.mirror.dir(), tight).await.unwrap();
    assert_eq!(mirror.full_patch(&work.base, &work.head).await.unwrap_err().kind(), GitErrorKind::TooLarge);
    assert_eq!(mirror.diff_stat(&work.base, &work.head).await.unwrap_err().kind(), GitErrorKind::TooLarge);
}

#[tokio::test]
async fn takes_paths_literally() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    sandbox.sh("echo 1 > '*'; echo 2 > ':(top)x'; echo 3 > '--output=evil'");
    let work = sandbox.import().await;
    let patch = async |path: &str| {
        let path = RepoPath::parse(path).unwrap();
        sandbox.mirror.file_patch(&work.base, &work.head, &path, None).await
    };
    for (path, line) in [("*", "+1\n"), (":(top)x", "+2\n"), ("--output=evil", "+3\n")] {
        assert!(bytes(&patch(path).await.unwrap()).ends_with(line.as_bytes()), "{path}");
    }
    assert_eq!(patch("text").await.unwrap_err().reason(), "FILE_NOT_CHANGED");
}
