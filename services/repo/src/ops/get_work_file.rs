//! Returns one file in the tree of a work: a bounded read of one object of the mirror.

use bytes::Bytes;
use foundry_authn::Caller;
use foundry_core::{Error, Result};
use foundry_git::{EntryKind, GitError, GitErrorKind, ObjectKind, RepoPath};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetWorkFileRequest, GetWorkFileResponse};

use crate::context::Context;
use crate::view;

/// Largest content that is returned, in bytes.
const MAX_CONTENT: u64 = 1 << 20;
/// Bytes at the beginning of a content that are examined to distinguish text from binary.
const SNIFFED: usize = 8 << 10;

/// Reads the file as the readable commit has it: the raw object, through no filter and no conversion.
/// The content of a symbolic link is its target, which is not followed.
///
/// # Errors
/// `NOT_FOUND` for the work or the file, `INVALID_ARGUMENT` for a path that leaves the tree or is that of
/// a directory or submodule (`PATH_WRONG_KIND`).
pub async fn get_work_file(
    cx: &Context,
    caller: &Caller,
    request: GetWorkFileRequest,
) -> Result<GetWorkFileResponse> {
    let work = cx.work(caller, &request.task_id, Role::Viewer).await?;
    let path = RepoPath::parse(&request.path)
        .map_err(|e| Error::invalid_field("path", e.to_string()).caused_by(e))?;
    let commit = work.readable_commit()?;
    let _turn = cx.reads.acquire().await.map_err(Error::internal)?;
    let mirror = cx.mirror_of(&work).await?;
    let found = mirror.entry(&commit, &path).await.map_err(|e| absent(e, &request.path))?;
    if matches!(found.kind, EntryKind::Directory | EntryKind::Submodule) {
        return Err(GitError::new(
            GitErrorKind::Invalid,
            "PATH_WRONG_KIND",
            format!("{path} is a directory or a submodule"),
        )
        .into());
    }
    let answer = GetWorkFileResponse {
        entry: Some(view::tree::entry(&found)),
        content: Bytes::new(),
        binary: false,
        too_large: true,
        version: work.version,
    };
    if found.size.is_none_or(|size| size > MAX_CONTENT) {
        return Ok(answer);
    }
    let object = mirror.object(&found.object).await?;
    if object.kind != ObjectKind::Blob {
        return Err(Error::internal(format!("{path} in {commit} is not a blob")));
    }
    let binary = object.bytes.iter().take(SNIFFED).any(|b| *b == 0);
    Ok(GetWorkFileResponse { content: object.bytes, binary, too_large: false, ..answer })
}

/// A path that is not in the tree means an absent file.
fn absent(e: GitError, path: &str) -> Error {
    if e.reason() == "PATH_NOT_FOUND" { Error::not_found("file", path) } else { e.into() }
}

#[cfg(test)]
mod tests {
    use foundry_core::{Code, TaskId};
    use foundry_proto::repo::v1::{ListWorkTreeRequest, TreeEntryKind};

    use super::*;
    use crate::ops::{import_work, list_work_tree};
    use crate::testing::{Fixture, git, stream};

    /// A fixture with the work of a task whose tree this shell script has changed.
    async fn made(script: &str) -> (Fixture, TaskId) {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let tree = f.path().join("tree");
        git(f.path(), &["clone", "-q", f.origin.to_str().unwrap(), "tree"]);
        let base = git(&tree, &["rev-parse", "HEAD"]);
        let status =
            std::process::Command::new("sh").args(["-ec", script]).current_dir(&tree).status().unwrap();
        assert!(status.success(), "{script}");
        git(&tree, &["add", "-A"]);
        git(&tree, &["update-index", "--add", "--cacheinfo", &format!("160000,{base},sub")]);
        git(&tree, &["commit", "-q", "-m", "work"]);
        let head = git(&tree, &["rev-parse", "HEAD"]);
        let reference = format!("refs/foundry/work/{task}");
        git(&tree, &["update-ref", &reference, &head]);
        git(&tree, &["bundle", "create", "-q", "../work.bundle", &format!("^{base}"), &reference]);
        let bundle = std::fs::read(f.path().join("work.bundle")).unwrap();
        let parts = f.handed_over(&repository, &task, &base, &head, bundle);
        import_work::import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        (f, task)
    }

    async fn get(f: &Fixture, task: &TaskId, path: &str) -> Result<GetWorkFileResponse> {
        let request = GetWorkFileRequest { task_id: task.to_string(), path: path.into() };
        get_work_file(&f.cx, &f.member, request).await
    }

    #[tokio::test]
    async fn reads_raw_bytes_whatever_the_attributes_of_the_work_say_and_follows_no_link() {
        let (f, task) = made(
            "mkdir -p dir/deep
             printf '* text eol=crlf diff=evil filter=evil ident\\n' > .gitattributes
             printf '$Id$ one\\ntwo\\n' > dir/deep/a.txt
             printf 'a\\0b' > image; printf x > run.sh; chmod +x run.sh
             ln -s /etc/passwd link; ln -s dir loop; printf dash > ./--help
             head -c 9000 /dev/zero | tr '\\0' a > late; printf '\\0' >> late",
        )
        .await;
        let text = get(&f, &task, "dir/deep/a.txt").await.unwrap();
        assert_eq!(&text.content[..], b"$Id$ one\ntwo\n");
        assert!(!text.binary && !text.too_large && text.version == 1);
        assert_eq!(&get(&f, &task, "--help").await.unwrap().content[..], b"dash");
        assert!(get(&f, &task, "image").await.unwrap().binary);
        assert!(!get(&f, &task, "late").await.unwrap().binary, "only the first 8 KiB are looked at");
        let run = get(&f, &task, "run.sh").await.unwrap().entry.unwrap();
        assert!(run.executable && run.kind() == TreeEntryKind::File && run.size == 1);
        let link = get(&f, &task, "link").await.unwrap();
        assert_eq!(link.entry.unwrap().kind(), TreeEntryKind::Symlink);
        assert_eq!(&link.content[..], b"/etc/passwd", "the link itself");
        for (path, code, reason) in [
            ("loop/deep/a.txt", Code::NotFound, "NOT_FOUND"),
            ("dir", Code::InvalidArgument, "PATH_WRONG_KIND"),
            ("sub", Code::InvalidArgument, "PATH_WRONG_KIND"),
            ("sub/x", Code::NotFound, "NOT_FOUND"),
            ("no", Code::NotFound, "NOT_FOUND"),
            ("*", Code::NotFound, "NOT_FOUND"),
            (":(top)README.md", Code::NotFound, "NOT_FOUND"),
            ("../work.bundle", Code::InvalidArgument, "INVALID_FIELD"),
            ("/etc/passwd", Code::InvalidArgument, "INVALID_FIELD"),
            ("", Code::InvalidArgument, "INVALID_FIELD"),
        ] {
            let e = get(&f, &task, path).await.unwrap_err();
            assert_eq!((e.code(), e.reason()), (code, reason), "{path}");
        }
        let request = GetWorkFileRequest { task_id: task.to_string(), path: "run.sh".into() };
        let foreign = get_work_file(&f.cx, &f.stranger, request).await.unwrap_err();
        let absent = get(&f, &TaskId::generate(&f.env.env), "run.sh").await.unwrap_err();
        assert_eq!((foreign.code(), absent.code()), (Code::NotFound, Code::NotFound));
        let tree = ListWorkTreeRequest { task_id: task.to_string(), ..Default::default() };
        let tree = list_work_tree::list_work_tree(&f.cx, &f.member, tree).await.unwrap();
        assert_eq!((tree.version, tree.entries[0].path.as_str()), (1, "dir"), "directories first");
    }

    #[tokio::test]
    async fn returns_a_file_of_one_mebibyte_and_only_the_size_of_a_larger_one() {
        let (f, task) = made(
            "head -c 1048576 /dev/zero | tr '\\0' a > fits
             head -c 1048577 /dev/zero | tr '\\0' a > over",
        )
        .await;
        let fits = get(&f, &task, "fits").await.unwrap();
        assert_eq!((fits.content.len(), fits.too_large), (1 << 20, false));
        let over = get(&f, &task, "over").await.unwrap();
        assert_eq!((over.content.len(), over.too_large), (0, true));
        assert_eq!(over.entry.unwrap().size, (1 << 20) + 1);
    }
}
