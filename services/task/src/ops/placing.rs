//! Where the comments of a review are in the newest changes, for the ops that show or send them.

use std::collections::BTreeMap;
use std::time::Duration;

use foundry_core::{Result, TaskId};
use foundry_proto::repo::v1::{GetWorkPatchRequest, GetWorkPatchResponse};
use foundry_proto::task::v1::{PlacedReviewComment, ReviewComment, ReviewPlace, ReviewSide};
use futures::StreamExt as _;

use crate::context::{Context, UpstreamError};
use crate::domain::review::Lines;
use crate::view::files::file_change;

/// Files of which patches are read at the same time.
const AT_ONCE: usize = 4;
/// How long comments are looked for in all; the place of the others is not known then.
const AT_MOST: Duration = Duration::from_secs(4);

/// The place of a comment, and its position among all.
type Found = (usize, (ReviewPlace, i32, i32));

/// A file in one comparison: path, version compared with, whether with what was merged, and whether its old side matters.
type Compared = (String, i64, bool, bool);

/// Places comments in a version of the changes; only the patches of files that may have changed since are read. Where a read
/// fails or takes too long, the place is not known.
pub async fn placed(
    cx: &Context,
    task: &TaskId,
    version: i64,
    comments: Vec<ReviewComment>,
) -> Vec<PlacedReviewComment> {
    let mut wanted: BTreeMap<Compared, Vec<(usize, ReviewComment)>> = BTreeMap::new();
    let mut places = Vec::new();
    for (at, c) in comments.iter().enumerate() {
        let stays = c.side() == ReviewSide::File || c.version == version;
        let place = if stays { ReviewPlace::Same } else { ReviewPlace::Unknown };
        places.push(if stays { (place, c.start_line, c.end_line) } else { (place, 0, 0) });
        if !stays {
            let old = c.side() == ReviewSide::Old;
            wanted.entry((c.path.clone(), c.since_version, c.whole, old)).or_default().push((at, c.clone()));
        }
    }
    let find = |(compared, on)| find(cx, task, compared, on);
    let mut files = futures::stream::iter(wanted).map(find).buffer_unordered(AT_ONCE);
    let all = async {
        while let Some(found) = files.next().await {
            for (at, place) in found {
                places[at] = place;
            }
        }
    };
    tokio::select! {
        biased;
        () = all => {}
        () = cx.env.clock.sleep(AT_MOST) => {}
    }
    drop(files);
    let place = |(comment, (place, start_line, end_line)): (_, (ReviewPlace, _, _))| PlacedReviewComment {
        comment: Some(comment),
        place: place.into(),
        start_line,
        end_line,
    };
    comments.into_iter().zip(places).map(place).collect()
}

/// Looks for the comments on a file. Lines after the change have the same numbers in all comparisons, and may be shown in
/// some of them only; those before it are of the comparison in which they were shown.
async fn find(
    cx: &Context,
    task: &TaskId,
    (path, since, whole, old): Compared,
    mut comments: Vec<(usize, ReviewComment)>,
) -> Vec<Found> {
    let mut comparisons = vec![(since, whole)];
    if !old {
        comparisons = vec![(0, whole), (0, !whole)];
        comparisons.extend((since > 0).then_some((since, whole)));
    }
    let (mut found, mut unknown) = (Vec::new(), false);
    for (since_version, whole) in comparisons {
        let request = GetWorkPatchRequest {
            task_id: task.to_string(),
            path: path.clone(),
            since_version,
            whole,
            ..GetWorkPatchRequest::default()
        };
        let answer = match patch(cx, request).await {
            Ok(answer) => answer,
            // The file is not among the changes.
            Err(e) if e.code == tonic::Code::NotFound => continue,
            Err(_) => {
                unknown = true;
                continue;
            }
        };
        let lines = Lines::of_patch(&answer.patch);
        let content = answer.change.map(|c| file_change(c, answer.version).content).unwrap_or_default();
        comments.retain(|(at, comment)| {
            let place = if !old && !content.is_empty() && content == comment.content {
                (ReviewPlace::Same, comment.start_line, comment.end_line)
            } else {
                lines.place(comment)
            };
            let is_there = place.0 != ReviewPlace::Outdated;
            found.extend(is_there.then_some((*at, place)));
            !is_there
        });
        if comments.is_empty() {
            break;
        }
    }
    let rest = if unknown { ReviewPlace::Unknown } else { ReviewPlace::Outdated };
    found.extend(comments.into_iter().map(|(at, _)| (at, (rest, 0, 0))));
    found
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
