//! Keeps a comment on the changes of a task.

use foundry_authn::Caller;
use foundry_core::{Error, Result, ReviewCommentId};
use foundry_proto::common::v1::Role;
use foundry_proto::repo::v1::{GetWorkFileRequest, GetWorkPatchRequest};
use foundry_proto::task::v1::{PutReviewCommentRequest, PutReviewCommentResponse, ReviewComment, ReviewSide};
use foundry_store::{CommitError, Guard, WriteSet};

use super::placing;
use crate::context::Context;
use crate::domain::review::{Lines, MAX_COMMENTS, MAX_LINES};
use crate::domain::validate;
use crate::store::reviews::{self, REVIEW_COMMENTS};
use crate::store::user_state::Owner;
use crate::view::files::file_change;

/// How often it is decided when the same comment is written from several places at once.
const MAX_DECISIONS: u32 = 10;

/// A new comment is placed by one read of the file's patch, and quotes its lines. Of an existing one only the text changes;
/// the same text writes nothing.
///
/// # Errors
/// `INVALID_ARGUMENT`; `NOT_FOUND` for the task and an `existing` comment that is gone, and `PATH_NOT_FOUND` for the file; `FAILED_PRECONDITION` `REVIEW_FILE_CHANGED`,
/// `REVIEW_LINES_NOT_SHOWN` or `REVIEW_WITHOUT_LINES`, and for an ended task; `RESOURCE_EXHAUSTED` for a 201st comment;
/// `UNAVAILABLE` `REPO_UNAVAILABLE`.
pub async fn put_review_comment(
    cx: &Context,
    caller: &Caller,
    request: PutReviewCommentRequest,
) -> Result<PutReviewCommentResponse> {
    let found = cx.task(caller, &request.task_id, Role::Member).await?;
    found.task.require_active()?;
    found.require_repository()?;
    let owner = Owner::of(found.task.organization_id.clone(), caller)?;
    let id: ReviewCommentId = request.comment_id.parse()?;
    validate::comment("text", &request.text)?;
    let (mut made, mut tries) = (None, 0);
    loop {
        tries += 1;
        let now = cx.env.clock.now();
        let mut ws = WriteSet::new();
        let rev = ws.scope(owner.scope());
        let before = reviews::comment(&cx.store, &owner, &id).await?;
        let comment = if let Some(before) = before {
            if before.entity.task_id != request.task_id {
                return Err(Error::invalid_field("comment_id", "is the id of a comment on another task"));
            }
            if before.entity.text == request.text {
                return Ok(PutReviewCommentResponse { comment: Some(before.entity), rev: before.rev });
            }
            reviews::change_comment(&mut ws, rev, &owner, &before, &request.text, now);
            let (text, update_time) = (request.text.clone(), Some(now.to_proto()));
            ReviewComment { text, update_time, ..before.entity }
        } else {
            if request.existing {
                return Err(Error::not_found("review comment", &request.comment_id)
                    .next_action("it was sent or removed; make a new comment on the lines as they are now"));
            }
            if made.is_none() {
                made = Some(place(cx, &request).await?);
            }
            let time = Some(now.to_proto());
            let placed = made.clone().unwrap_or_default();
            let comment = ReviewComment { create_time: time, update_time: time, ..placed };
            let of = [
                ("organization_id", (&owner.organization).into()),
                ("user_id", (&owner.user).into()),
                ("task_id", request.task_id.as_str().into()),
            ];
            ws.guard(Guard::count_below(&REVIEW_COMMENTS, &of, MAX_COMMENTS, "review_comments"));
            reviews::add_comment(&mut ws, rev, &owner, &comment, now);
            comment
        };
        match cx.store.commit(ws).await {
            Ok(committed) => {
                return Ok(PutReviewCommentResponse { comment: Some(comment), rev: committed.rev(rev) });
            }
            Err(CommitError::LimitReached { .. }) => return Err(full(&request.task_id)),
            Err(e) if e.is_concurrent_change() && tries < MAX_DECISIONS => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn full(task: &str) -> Error {
    let maximum = u64::try_from(MAX_COMMENTS).unwrap_or_default();
    Error::quota("review_comments", task, maximum, maximum).next_action("send the review, then go on")
}

/// The new comment at its place, with the lines that are there.
async fn place(cx: &Context, request: &PutReviewCommentRequest) -> Result<ReviewComment> {
    let (side, start_line, end_line) = lines_of(request)?;
    validate::review_path("path", &request.path)?;
    let read = GetWorkPatchRequest {
        task_id: request.task_id.clone(),
        path: request.path.clone(),
        version: 0,
        whole: request.whole,
        since_version: request.since_version,
        old_path: request.old_path.clone(),
    };
    let mut comment = ReviewComment {
        comment_id: request.comment_id.clone(),
        task_id: request.task_id.clone(),
        path: request.path.clone(),
        side: side.into(),
        start_line,
        end_line,
        since_version: request.since_version,
        whole: request.whole,
        text: request.text.clone(),
        ..ReviewComment::default()
    };
    let answer = match placing::patch(cx, read).await {
        Ok(answer) => answer,
        Err(e) if e.code == tonic::Code::NotFound => {
            // A file that did not change has no lines here, and can be commented on as a whole.
            let read = GetWorkFileRequest { task_id: request.task_id.clone(), path: request.path.clone() };
            let file = cx.read_repo(cx.repo.clone().get_work_file(read)).await;
            let file = file.map_err(|e| e.of_path(&request.task_id, "file", &request.path))?;
            if side != ReviewSide::File {
                return Err(without_lines(&request.path));
            }
            return Ok(ReviewComment { version: file.version, ..comment });
        }
        Err(e) => return Err(e.of_changes(&request.task_id)),
    };
    comment.version = answer.version;
    comment.content = answer.change.map(|c| file_change(c, answer.version).content).unwrap_or_default();
    if !request.content.is_empty() && request.content != comment.content {
        let text = format!("{:?} has changed since it was shown", request.path);
        return Err(Error::precondition("REVIEW_FILE_CHANGED", &request.task_id, text)
            .next_action("look at the lines as they are now, and write the comment again"));
    }
    if side != ReviewSide::File {
        let lines = Lines::of_patch(&answer.patch);
        if lines.is_empty() {
            return Err(without_lines(&request.path));
        }
        lines.quote(&mut comment).ok_or_else(|| {
            let text = format!("not all of these lines are in the patch of {:?}", request.path);
            Error::precondition("REVIEW_LINES_NOT_SHOWN", &request.task_id, text)
                .next_action("comment on lines of the patch, or on the file")
        })?;
    }
    Ok(comment)
}

fn without_lines(path: &str) -> Error {
    let text = format!("{path:?} has no lines to comment on: it is unchanged, binary or too large");
    Error::precondition("REVIEW_WITHOUT_LINES", path, text).next_action("comment on the file")
}

/// Side and range of a new comment.
fn lines_of(request: &PutReviewCommentRequest) -> Result<(ReviewSide, i32, i32)> {
    let (start, end) = (request.start_line, request.end_line);
    match request.side() {
        ReviewSide::Unspecified => Err(Error::invalid_field("side", "is required")),
        ReviewSide::File if start == 0 && end == 0 => Ok((ReviewSide::File, 0, 0)),
        ReviewSide::File => Err(Error::invalid_field("start_line", "must be 0 for a comment on the file")),
        side => {
            let end = if end == 0 { start } else { end };
            if start < 1 || end < start {
                return Err(Error::invalid_field(
                    "start_line",
                    "must be at least 1, and not after the last line",
                ));
            }
            if end - start >= MAX_LINES {
                let says = format!("must be at most {} lines after the first", MAX_LINES - 1);
                return Err(Error::invalid_field("end_line", says));
            }
            Ok((side, start, end))
        }
    }
}
