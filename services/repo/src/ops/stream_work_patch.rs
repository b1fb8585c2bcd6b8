//! Streams the whole patch of a work, whatever its size: made from the mirror, in the bulkhead of fetches.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Code, Error, Result};
use foundry_git::CommitId;
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{
    StreamWorkPatchRequest, StreamWorkPatchResponse, WorkPatchHeader, stream_work_patch_response::Part,
};
use futures::StreamExt as _;

use crate::context::Context;
use crate::serving::{Answers, Serving};
use crate::store::changes;

/// One header, then the patch in pieces; those of all files in the order of their list.
///
/// # Errors
/// `NOT_FOUND` for the work; `FAILED_PRECONDITION` when a newer version has replaced the requested one; `UNAVAILABLE`
/// when too many fetches and patches are being served.
pub async fn stream_work_patch(
    cx: &Context,
    caller: &Caller,
    request: StreamWorkPatchRequest,
) -> Result<Answers<StreamWorkPatchResponse>> {
    let work = cx.work(caller, &request.task_id, Role::Viewer).await?;
    if request.version != 0 && request.version != work.version {
        return Err(changes::replaced(&work.task_id, request.version, work.version));
    }
    if work.head_commit.is_empty() {
        let text = "the task's first work is being imported";
        return Err(Error::new(Code::NotFound, "WORK_NOT_FOUND", text).retry_after(Duration::from_secs(1)));
    }
    let (mut base, head) = (CommitId::parse(&work.base_commit)?, CommitId::parse(&work.head_commit)?);
    let place = cx.serving.place(&work.organization_id, None).await?;
    let mirror = cx.mirror_of(&work).await?;
    let mut files_changed = work.files_changed;
    if !work.merged_from.is_empty() {
        if request.whole {
            files_changed = i64::try_from(mirror.diff_stat(&base, &head).await?.len()).unwrap_or(i64::MAX);
        } else {
            // As the list of the work's own files, which was made when its branches were others than today's.
            let points = work.merged_from.iter().map(|merged| CommitId::parse(&merged.commit));
            let points = points.collect::<Result<Vec<_>, _>>()?;
            // The branch that the work is on, as it has taken it since, stands for the base.
            let own = work.merged_from.first().filter(|merged| work.works_on(&merged.branch));
            let start = own.and_then(|_| points.first().cloned()).unwrap_or_else(|| base.clone());
            base = mirror.merged_base_of(&start, &points).await?.unwrap_or(base);
        }
    }
    let piped = mirror.stream_patch(&base, &head, Serving::limits())?;
    let part = |part| StreamWorkPatchResponse { part: Some(part) };
    let header = WorkPatchHeader {
        version: work.version,
        base_commit: base.to_string(),
        head_commit: work.head_commit,
        files_changed,
    };
    let header = futures::stream::iter([Ok(part(Part::Header(header)))]);
    let pieces = cx.serving.answer(place, piped).map(move |piece| piece.map(|p| part(Part::Chunk(p))));
    Ok(header.chain(pieces).boxed())
}

#[cfg(test)]
mod tests {
    use foundry_core::TaskId;

    use super::*;
    use crate::ops::import_work::import_work;
    use crate::testing::{Fixture, git, stream};

    #[tokio::test]
    async fn a_file_of_any_size_is_in_the_patch_and_the_patch_gives_the_exact_tree() {
        let f = Fixture::new().await;
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        // Over the 1 MiB up to which the patch of one file is stored.
        let large: String = (0..200_000u32).map(|n| format!("{n}\n")).collect();
        let parts = f.work(&repository, &task, &[("lock.json", &large), ("README.md", "x\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let ask = |version| StreamWorkPatchRequest { task_id: task.to_string(), version, whole: false };
        let mut answers = stream_work_patch(&f.cx, &f.member, ask(1)).await.unwrap();
        let Some(Part::Header(header)) = answers.next().await.unwrap().unwrap().part else {
            panic!("no header")
        };
        assert_eq!((header.version, header.files_changed), (1, 2));
        let mut patch = Vec::new();
        while let Some(answer) = answers.next().await {
            let Some(Part::Chunk(piece)) = answer.unwrap().part else { panic!("no chunk") };
            patch.extend_from_slice(&piece);
        }
        assert!(patch.len() > 1 << 20, "{}", patch.len());
        std::fs::write(f.path().join("all.patch"), &patch).unwrap();
        git(&f.origin, &["checkout", "-q", &header.base_commit]);
        git(&f.origin, &["apply", "--index", "../all.patch"]);
        let mirror = f.cx.mirror_path(&repository.repository_id.parse().unwrap());
        let tree = git(&mirror, &["rev-parse", &format!("{}^{{tree}}", header.head_commit)]);
        assert_eq!(git(&f.origin, &["write-tree"]), tree);

        let foreign = stream_work_patch(&f.cx, &f.stranger, ask(0)).await.err().unwrap();
        assert_eq!(foreign.code(), Code::NotFound);
        let replaced = stream_work_patch(&f.cx, &f.member, ask(2)).await.err().unwrap();
        assert_eq!(replaced.reason(), "WORK_CHANGED");
    }

    async fn patch_of(f: &Fixture, task: &TaskId, whole: bool) -> (i64, Vec<String>) {
        let request = StreamWorkPatchRequest { task_id: task.to_string(), version: 0, whole };
        let mut answers = stream_work_patch(&f.cx, &f.member, request).await.unwrap();
        let (mut files, mut patch) = (-1, Vec::new());
        while let Some(answer) = answers.next().await {
            match answer.unwrap().part {
                Some(Part::Header(header)) => files = header.files_changed,
                Some(Part::Chunk(piece)) => patch.extend_from_slice(&piece),
                None => panic!("an empty answer"),
            }
        }
        let patch = String::from_utf8(patch).unwrap();
        let paths = patch.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        (files, paths.map(str::to_owned).collect())
    }

    #[tokio::test]
    async fn the_patch_stays_the_same_whatever_becomes_of_the_branches() {
        let f = Fixture::new().await;
        git(&f.origin, &["checkout", "-q", "-b", "develop"]);
        std::fs::write(f.origin.join("theirs.txt"), "theirs\n").unwrap();
        git(&f.origin, &["add", "-A"]);
        git(&f.origin, &["commit", "-q", "-m", "theirs"]);
        git(&f.origin, &["checkout", "-q", "-"]);
        let (repository, task) = (f.mirrored().await, TaskId::generate(&f.env.env));
        let parts = f.work_merging(&repository, &task, Some("develop"), &[("mine.txt", "mine\n")]);
        import_work(&f.cx, &Caller::service("provisioner"), stream(parts)).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        let own = (1, vec!["mine.txt".to_owned()]);
        let whole = (2, vec!["mine.txt".to_owned(), "theirs.txt".to_owned()]);
        let mirror = f.cx.mirror_path(&repository.repository_id.parse().unwrap());
        // As it was imported, after its branch was pushed, and after the branch that it merged was deleted.
        let (pushed, gone) = (format!("refs/foundry/work/{task}"), ["-d", "refs/heads/develop"]);
        for change in [vec![], vec!["refs/heads/feat/work", pushed.as_str()], gone.to_vec()] {
            if !change.is_empty() {
                git(&mirror, &[&["update-ref"], &change[..]].concat());
            }
            assert_eq!(patch_of(&f, &task, false).await, own, "{change:?}");
            assert_eq!(patch_of(&f, &task, true).await, whole, "{change:?}");
        }
    }
}
