//! Where the comments of a review are in the newest changes, for the ops that show or send them.

use std::collections::BTreeMap;

use foundry_core::{Result, TaskId};
use foundry_proto::repo::v1::{GetWorkPatchRequest, GetWorkPatchResponse};
use foundry_proto::task::v1::{PlacedReviewComment, ReviewComment, ReviewPlace, ReviewSide};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::context::{Context, UpstreamError};
use crate::domain::review::Lines;

/// Patches that are read at the same time.
const AT_ONCE: usize = 4;

/// The file and the version before, which determine a patch.
type Compared = (String, i64);

/// Places comments in a version of the changes; only the patches of files that may have changed since are read.
///
/// # Errors
/// `UNAVAILABLE` `REPO_UNAVAILABLE` when one has to be read and the repo service does not answer.
pub async fn placed(
    cx: &Context,
    task: &TaskId,
    version: i64,
    comments: Vec<ReviewComment>,
) -> Result<Vec<PlacedReviewComment>> {
    let stays = |c: &ReviewComment| c.side() == ReviewSide::File || c.version == version;
    let mut wanted: Vec<Compared> =
        comments.iter().filter(|c| !stays(c)).map(|c| (c.path.clone(), c.since_version)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let read = |(path, since): Compared| async move {
        let lines = lines(cx, task, &path, since).await?;
        Ok::<_, foundry_core::Error>(((path, since), lines))
    };
    let patches: BTreeMap<Compared, Lines> =
        futures::stream::iter(wanted).map(read).buffer_unordered(AT_ONCE).try_collect().await?;
    let place = |comment: ReviewComment| {
        let found = match patches.get(&(comment.path.clone(), comment.since_version)) {
            Some(lines) if !stays(&comment) => lines.place(&comment),
            _ => (ReviewPlace::Same, comment.start_line, comment.end_line),
        };
        let (place, start_line, end_line) = found;
        PlacedReviewComment { comment: Some(comment), place: place.into(), start_line, end_line }
    };
    Ok(comments.into_iter().map(place).collect())
}

/// The lines of a file's patch; none of a file that is not among the changes any more.
async fn lines(cx: &Context, task: &TaskId, path: &str, since_version: i64) -> Result<Lines> {
    // What was merged from other branches is listed only in the second comparison.
    for whole in [false, true] {
        let request = GetWorkPatchRequest {
            task_id: task.to_string(),
            path: path.to_owned(),
            since_version,
            whole,
            ..GetWorkPatchRequest::default()
        };
        match patch(cx, request).await {
            Ok(answer) => return Ok(Lines::of_patch(&answer.patch)),
            Err(e) if e.is_transient() => return Err(e.of_repo()),
            Err(_) => {}
        }
    }
    Ok(Lines::default())
}

/// Reads the patch of a file.
///
/// # Errors
/// The repo service's own, or why it does not answer.
pub async fn patch(
    cx: &Context,
    request: GetWorkPatchRequest,
) -> Result<GetWorkPatchResponse, UpstreamError> {
    cx.read_repo(cx.repo.clone().get_work_patch(request)).await
}
