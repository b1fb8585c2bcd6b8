//! Directory listings, file contents and objects.

use foundry_git::{CommitId, EntryKind, GitErrorKind, ObjectId, ObjectKind, RepoPath, Revision};

use crate::lab::{Lab, branch};

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text).unwrap()
}

#[tokio::test]
async fn lists_a_directory_page_by_page() {
    let lab = Lab::new().await;
    lab.sh(&lab.real(), "chmod +x run.sh; ln -s ../../etc/passwd escape; git add -A; git commit -q -m more");
    let mirror = lab.mirror().await;
    let head = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    let (mut all, mut offset) = (Vec::new(), Some(0));
    while let Some(from) = offset {
        let page = mirror.list_tree(&head, None, from, 3).await.unwrap();
        assert_eq!(page.total, 9);
        all.extend(page.entries);
        offset = page.next_offset;
    }
    let kinds: Vec<_> = all.iter().map(|e| (e.path.to_string(), e.kind)).collect();
    assert_eq!(kinds.len(), 9);
    let order = |(path, kind): &(String, EntryKind)| (*kind != EntryKind::Directory, path.clone());
    assert!(kinds.is_sorted_by_key(order), "directories first, then by name: {kinds:?}");
    assert!(kinds.contains(&("dir".into(), EntryKind::Directory)));
    assert!(kinds.contains(&("run.sh".into(), EntryKind::Executable)));
    assert!(kinds.contains(&("escape".into(), EntryKind::Symlink)));
    let inner = mirror.list_tree(&head, Some(&path("dir")), 0, 10).await.unwrap();
    assert_eq!((inner.entries[0].path.to_string().as_str(), inner.entries[0].size), ("dir/inner", Some(2)));
    assert!(mirror.list_tree(&head, None, 100, 10).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn reads_files_and_never_follows_a_link() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "ln -s /etc/passwd escape; ln -s dir loop; printf x > \"$(printf 'a\\nb\\351')\"; printf y > ./-c
         git add -A; git commit -q -m more",
    );
    let mirror = lab.mirror().await;
    let head = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    let read = async |text: &str| mirror.read_file(&head, &path(text)).await;
    assert_eq!(read("plain").await.unwrap().bytes, "no newline");
    assert!(read("blob").await.unwrap().binary && !read("plain").await.unwrap().binary);
    let link = read("escape").await.unwrap();
    assert_eq!((link.kind, link.bytes.as_ref()), (EntryKind::Symlink, b"/etc/passwd".as_ref()));
    assert_eq!(read("a\nb\\xe9").await.unwrap().bytes, "x");
    assert_eq!(read("-c").await.unwrap().bytes, "y");
    for absent in ["loop/inner", "absent", "plain/x", ".git/config"] {
        assert_eq!(read(absent).await.unwrap_err().kind(), GitErrorKind::NotFound, "{absent}");
    }
    assert_eq!(read("dir").await.unwrap_err().reason(), "PATH_WRONG_KIND");
    let file = mirror.list_tree(&head, Some(&path("plain")), 0, 1).await.unwrap_err();
    assert_eq!(file.reason(), "PATH_WRONG_KIND");
}

#[tokio::test]
async fn reads_objects_by_id_within_the_limit() {
    let lab = Lab::new().await;
    lab.sh(
        &lab.real(),
        "head -c 1048576 /dev/zero > fits; head -c 1048577 /dev/zero > over; git add -A; git commit -q -m big",
    );
    let mirror = lab.mirror().await;
    let head = mirror.resolve(&Revision::Branch(branch("main"))).await.unwrap();
    assert_eq!(mirror.read_file(&head, &path("fits")).await.unwrap().bytes.len(), 1 << 20);
    assert_eq!(mirror.read_file(&head, &path("over")).await.unwrap_err().kind(), GitErrorKind::TooLarge);
    let over = ObjectId::parse(&lab.sh(&lab.real(), "git rev-parse main:over")).unwrap();
    assert_eq!(mirror.object(&over).await.unwrap_err().kind(), GitErrorKind::TooLarge);
    let commit = mirror.object(&head.to_object()).await.unwrap();
    assert_eq!(commit.kind, ObjectKind::Commit);
    assert!(commit.bytes.ends_with(b"\n\nbig\n"));
    let absent = ObjectId::parse(&"0123".repeat(10)).unwrap();
    assert_eq!(mirror.object(&absent).await.unwrap_err().reason(), "OBJECT_NOT_FOUND");
    let absent = CommitId::parse(&"0123".repeat(10)).unwrap();
    assert_eq!(mirror.list_tree(&absent, None, 0, 1).await.unwrap_err().kind(), GitErrorKind::NotFound);
    assert_eq!(mirror.read_file(&absent, &path("x")).await.unwrap_err().kind(), GitErrorKind::NotFound);
}
