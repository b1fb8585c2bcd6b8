//! Bundles as hostile sandboxes hand them over: a typed error, no ref moved, no object kept.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use foundry_git::{
    Git, GitError, GitErrorKind, ImportLimits, Mirror, MirrorLimits, RepoPath, Revision, WorkName,
};

use crate::lab::{Lab, Sandbox, work};
use crate::mirrors::plant_dotdot;

async fn refuses(s: &Sandbox<'_>, kind: GitErrorKind) -> GitError {
    let (refs, objects) = (s.refs(), s.objects());
    let err = s.try_import().await.unwrap_err();
    assert_eq!(err.kind(), kind, "{err:?} {}", err.stderr());
    assert_eq!((s.refs(), s.objects()), (refs, objects));
    assert!(!s.mirror.dir().join("foundry-quarantine").exists());
    err
}

#[tokio::test]
async fn imports_again_with_the_same_answer_and_follows_later_turns() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo one > new");
    let first = s.import().await;
    assert_eq!(s.try_import().await.unwrap(), first);
    assert_eq!(s.mirror.resolve(&Revision::Work(work())).await.unwrap(), first.head);
    assert_eq!(s.mirror.resolve(&Revision::Base(work())).await.unwrap(), s.base);
    s.sh("echo two >> new; seq 1 5000 > long");
    let second = s.import().await;
    assert_eq!(second.changes.len(), 2);
    // The sandbox is deleted; everything is read from the mirror.
    std::fs::remove_dir_all(&s.tree).unwrap();
    std::fs::remove_file(s.bundle()).unwrap();
    let path = RepoPath::parse("new").unwrap();
    assert_eq!(s.mirror.read_file(&second.head, &path).await.unwrap().bytes, "one\ntwo\n");
    lab.sh(s.mirror.dir(), "git fsck --strict --no-progress");
}

#[tokio::test]
async fn refuses_other_refs_than_the_one_expected() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo x > x; git add x; git commit -q -m x; git update-ref refs/foundry/work/task_1 HEAD
          git update-ref refs/foundry/work/task_2 HEAD");
    let bundle = s.bundle().display().to_string();
    let base = s.base.as_str();
    for refs in
        ["refs/heads/foundry/work", "HEAD", "refs/foundry/work/task_2", "refs/foundry/work/task_1 HEAD"]
    {
        s.sh(&format!("git bundle create -q {bundle} {refs} ^{base}"));
        let err = refuses(&s, GitErrorKind::Corrupt).await;
        assert_eq!(err.reason(), "BUNDLE_REFUSED", "{refs}");
    }
    s.sh(&format!("git bundle create -q {bundle} refs/foundry/work/task_1 ^{base}"));
    s.try_import().await.unwrap();
    let other = WorkName::parse("task_3").unwrap();
    let err =
        s.mirror.import_bundle(&other, &s.bundle(), &s.base, &ImportLimits::default()).await.unwrap_err();
    assert_eq!(err.reason(), "BUNDLE_REFUSED");
}

#[tokio::test]
async fn refuses_damaged_truncated_and_foreign_files() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("seq 1 3000 > numbers; head -c 20000 /dev/urandom > noise");
    s.hand_over();
    let good = std::fs::read(s.bundle()).unwrap();
    let header_end = good.windows(2).position(|w| w == b"\n\n").unwrap() + 2;
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    let with_prerequisite =
        |line: &str| [format!("# v2 git bundle\n{line}\n").as_bytes(), &good[16..]].concat();
    let hostile = [
        Vec::new(),
        b"# v2 git bundle".to_vec(),
        b"# v9 git bundle\n\n".to_vec(),
        b"# v3 git bundle\n@filter=blob:none\n\n".to_vec(),
        b"# v2 git bundle\n\n".to_vec(),
        vec![b'-'; 2 << 20],
        good[..header_end].to_vec(),
        good[..good.len() - 1].to_vec(),
        good[..good.len() / 2].to_vec(),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
        flipped(header_end + 5),
        with_prerequisite("-0123"),
        with_prerequisite(&format!("-{} gone", "01".repeat(20))),
    ];
    for bytes in hostile {
        std::fs::write(s.bundle(), bytes).unwrap();
        refuses(&s, GitErrorKind::Corrupt).await;
    }
    std::fs::write(s.bundle(), &good).unwrap();
    s.try_import().await.unwrap();
}

#[tokio::test]
async fn refuses_links_directories_and_pipes_in_place_of_the_bundle() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo x > x");
    s.hand_over();
    std::fs::rename(s.bundle(), lab.path("elsewhere")).unwrap();
    symlink(lab.path("elsewhere"), s.bundle()).unwrap();
    refuses(&s, GitErrorKind::Corrupt).await;
    std::fs::remove_file(s.bundle()).unwrap();
    lab.sh(&lab.path(""), "mkfifo work.bundle");
    refuses(&s, GitErrorKind::Corrupt).await;
    std::fs::remove_file(s.bundle()).unwrap();
    std::fs::create_dir(s.bundle()).unwrap();
    refuses(&s, GitErrorKind::Corrupt).await;
}

#[tokio::test]
async fn refuses_trees_that_lead_out_of_the_tree() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    plant_dotdot(&lab, &s.tree, "refs/foundry/work/task_1");
    s.sh(&format!("git bundle create -q {} refs/foundry/work/task_1 ^{}", s.bundle().display(), s.base));
    let err = refuses(&s, GitErrorKind::Corrupt).await;
    assert!(err.stderr().contains("hasDotdot"), "{}", err.stderr());
}

#[tokio::test]
async fn refuses_work_whose_objects_are_missing() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    // The pack holds commit and tree and lacks the blob.
    s.sh(&format!(
        "echo secret > s; git add s; git commit -q -m s
         {{ printf '# v2 git bundle\\n%s refs/foundry/work/task_1\\n\\n' $(git rev-parse HEAD)
           {{ git rev-parse HEAD; git rev-parse 'HEAD^{{tree}}'; }} | git pack-objects -q --stdout; }} > {}",
        s.bundle().display()
    ));
    refuses(&s, GitErrorKind::Corrupt).await;
}

#[tokio::test]
async fn refuses_a_head_that_is_no_commit() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh(&format!(
        "echo b > b; blob=$(git hash-object -w b)
         {{ printf '# v2 git bundle\\n%s refs/foundry/work/task_1\\n\\n' $blob
           echo $blob | git pack-objects -q --stdout; }} > {}",
        s.bundle().display()
    ));
    refuses(&s, GitErrorKind::Corrupt).await;
}

#[tokio::test]
async fn holds_every_limit() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    // Compresses to almost nothing: only the unpacked size shows the excess.
    s.sh("head -c 9000000 /dev/zero > zeros; for i in 1 2 3 4 5; do echo $i > f$i; done");
    s.hand_over();
    let size = std::fs::metadata(s.bundle()).unwrap().len();
    let fine = ImportLimits::default();
    let before = (s.refs(), s.objects());
    for limits in [
        ImportLimits { bundle_bytes: size - 1, ..fine },
        ImportLimits { file_bytes: 8_999_999, ..fine },
        ImportLimits { total_bytes: 9_000_000, ..fine },
        ImportLimits { objects: 7, ..fine },
    ] {
        let err = s.mirror.import_bundle(&work(), &s.bundle(), &s.base, &limits).await.unwrap_err();
        assert_eq!(err.kind(), GitErrorKind::TooLarge, "{limits:?}: {err:?}");
        assert_eq!((s.refs(), s.objects()), before);
    }
    let exact = ImportLimits { bundle_bytes: size, file_bytes: 9_000_000, objects: 8, ..fine };
    s.mirror.import_bundle(&work(), &s.bundle(), &s.base, &exact).await.unwrap();
}

#[tokio::test]
async fn takes_submodules_links_and_odd_names_as_data() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module; git commit -q -m module
          mkdir module; ln -s /etc/passwd abs; ln -s ../../../etc rel
          printf x > \"$(printf 'a\\nb')\"; printf y > \"$(printf '\\377')\"");
    let changes = s.import().await.changes;
    let module = changes.iter().find(|c| c.path.to_string() == "module").unwrap();
    assert_eq!((module.new_mode, changes.len()), (0o160000, 5));
}

#[tokio::test]
async fn moves_no_ref_when_there_are_too_many_changes_to_show() {
    let lab = Lab::new().await;
    let mut s = lab.sandbox().await;
    s.sh("for i in 1 2 3; do echo $i > f$i; done");
    s.hand_over();
    let tight = MirrorLimits { max_changed_files: 2, ..MirrorLimits::default() };
    s.mirror = Mirror::open(&lab.git, s.mirror.dir(), tight).await.unwrap();
    refuses(&s, GitErrorKind::TooLarge).await;
}

#[tokio::test]
async fn what_this_host_does_to_git_is_not_taken_for_a_hostile_bundle() {
    let lab = Lab::new().await;
    let s = lab.sandbox().await;
    s.sh("echo a > a");
    s.hand_over();
    for (subcommand, fault) in [
        ("index-pack", "kill -9 $$"),
        ("index-pack", "echo 'fatal: write error: No space left on device' >&2; exit 128"),
        ("rev-list", "kill -9 $$"),
    ] {
        let program = lab.path("git-that-fails");
        let script =
            format!("#!/bin/sh\ncase \" $* \" in *' {subcommand} '*) {fault};; esac\nexec git \"$@\"\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let git = Git::at(&program).await.unwrap();
        let mirror = Mirror::open(&git, s.mirror.dir(), MirrorLimits::default()).await.unwrap();
        let err =
            mirror.import_bundle(&work(), &s.bundle(), &s.base, &ImportLimits::default()).await.unwrap_err();
        assert_eq!((err.kind(), err.reason()), (GitErrorKind::Host, "GIT_FAILED"), "{fault}: {err:?}");
    }
    s.try_import().await.unwrap();
}
