//! `foundry task review`: comments on the changes of a task.

use foundry_core::{Env, ReviewCommentId, counted};
use foundry_proto::task::v1::{
    DeleteReviewCommentRequest, FileChange, GetTaskRequest, GetTaskResponse, ListReviewCommentsRequest,
    ListReviewCommentsResponse, MarkFileViewedRequest, PlacedReviewComment, PutReviewCommentRequest,
    ReviewPlace, ReviewSide, SessionState, SubmitReviewRequest,
};

use super::task::changed_files;
use crate::cli::Output;
use crate::cli::review::ReviewTask;
use crate::client::{Gateway, request_id};
use crate::failure::Failure;
use crate::output;

/// Does what the options say, in their order; without any, lists.
///
/// # Errors
/// The service's error; for an option that names nothing.
pub async fn run(gateway: &Gateway, output: Output, args: ReviewTask) -> Result<(), Failure> {
    let task_id = args.task_id.as_str();
    let task = gateway.task().get_task(GetTaskRequest { task_id: task_id.to_owned() }).await?.into_inner();
    let since = args.since.as_deref().map_or(Ok(0), |since| since_version(&task, since))?;
    let lists = args.comment.is_empty() && args.remove.is_empty() && args.viewed.is_empty();
    for comment in args.comment.chunks_exact(2) {
        let (place, text) = (&comment[0], &comment[1]);
        let side = if args.old { ReviewSide::Old } else { ReviewSide::New };
        let request =
            PutReviewCommentRequest { since_version: since, ..comment_on(task_id, place, side, text) };
        let kept = gateway.task().put_review_comment(request).await?.into_inner().comment.unwrap_or_default();
        output::one(output, &kept, |kept| output::line(&kept.comment_id))?;
    }
    for comment_id in &args.remove {
        let request =
            DeleteReviewCommentRequest { task_id: task_id.to_owned(), comment_id: comment_id.to_owned() };
        gateway.task().delete_review_comment(request).await?;
    }
    if !args.viewed.is_empty() {
        let (_, files) = changed_files(gateway, task_id, false, 0).await?;
        for path in &args.viewed {
            let found = files.iter().find(|file| file.path == *path);
            let file =
                found.ok_or_else(|| Failure::new(format!("{} is no changed file", output::inert(path))))?;
            mark(gateway, task_id, path, Some(&file.content)).await?;
        }
    }
    for path in &args.unviewed {
        mark(gateway, task_id, path, None).await?;
    }
    if let Some(text) = args.send {
        return send(gateway, output, &task, args.session, text).await;
    }
    if lists && args.unviewed.is_empty() {
        list(gateway, output, task_id, since).await?;
    }
    Ok(())
}

async fn mark(gateway: &Gateway, task_id: &str, path: &str, content: Option<&str>) -> Result<(), Failure> {
    let request = MarkFileViewedRequest {
        task_id: task_id.to_owned(),
        path: path.to_owned(),
        content: content.unwrap_or_default().to_owned(),
        viewed: content.is_some(),
    };
    gateway.task().mark_file_viewed(request).await?;
    Ok(())
}

/// The version named by `--since`.
fn since_version(task: &GetTaskResponse, since: &str) -> Result<i64, Failure> {
    if since == "turn" {
        let turn = task.task.as_ref().and_then(|task| task.newest_turn.as_ref());
        return turn.map(|turn| turn.version).ok_or_else(|| Failure::new("no turn has begun yet"));
    }
    since.parse().map_err(|_| Failure::new("--since takes `turn` or the number of a version"))
}

/// A comment on `PATH`, `PATH:LINE` or `PATH:LINE-LINE`.
fn comment_on(task_id: &str, place: &str, side: ReviewSide, text: &str) -> PutReviewCommentRequest {
    let lines = place.rsplit_once(':').and_then(|(path, lines)| {
        let (start, end) = lines.split_once('-').unwrap_or((lines, lines));
        Some((path, start.parse::<i32>().ok()?, end.parse::<i32>().ok()?))
    });
    let (path, side, start_line, end_line) = match lines {
        Some((path, start, end)) => (path, side, start, end),
        None => (place, ReviewSide::File, 0, 0),
    };
    PutReviewCommentRequest {
        task_id: task_id.to_owned(),
        comment_id: ReviewCommentId::generate(&Env::system()).to_string(),
        path: path.to_owned(),
        side: side.into(),
        start_line,
        end_line,
        text: text.to_owned(),
        ..PutReviewCommentRequest::default()
    }
}

async fn send(
    gateway: &Gateway,
    output: Output,
    task: &GetTaskResponse,
    session: Option<String>,
    text: String,
) -> Result<(), Failure> {
    let mut open = task.sessions.iter().filter(|s| s.state() != SessionState::Closed);
    let session_id = match (session, open.next(), open.next()) {
        (Some(session), ..) => session,
        (None, Some(only), None) => only.session_id.clone(),
        (None, None, _) => return Err(Failure::new("the task has no open session")),
        (None, Some(_), Some(_)) => {
            return Err(Failure::new("the task has several open sessions").next("choose one with --session"));
        }
    };
    let task_id = task.task.as_ref().map(|task| task.task_id.clone()).unwrap_or_default();
    let request = SubmitReviewRequest { request_id: request_id(), task_id, session_id, text };
    let sent = gateway.task().submit_review(request).await?.into_inner();
    output::one(output, &sent, |sent| {
        let id = sent.message.as_ref().map(|m| m.message_id.as_str()).unwrap_or_default();
        output::line(&format!("{id}  {} queued", counted(sent.comment_count, "comment")));
    })
}

async fn list(gateway: &Gateway, output: Output, task_id: &str, since: i64) -> Result<(), Failure> {
    let (_, files) = changed_files(gateway, task_id, false, since).await?;
    let request = ListReviewCommentsRequest { task_id: task_id.to_owned() };
    let review = gateway.task().list_review_comments(request).await?.into_inner();
    output::one(output, &review, |review| {
        output::table(&["viewed", "change", "comments", "file"], file_rows(&files, review));
        for placed in &review.comments {
            let comment = placed.comment.clone().unwrap_or_default();
            output::line("");
            let line = format!("{}  {}", comment.comment_id, output::inert(&place_of(placed)));
            output::line(&line);
            comment.quote.lines().for_each(|line| output::line(&format!("  > {}", output::inert(line))));
            comment.text.lines().for_each(|line| output::line(&format!("  {}", output::inert(line))));
        }
    })
}

fn file_rows(files: &[FileChange], review: &ListReviewCommentsResponse) -> Vec<Vec<String>> {
    let row = |file: &FileChange| {
        let mut seen = review.viewed_files.iter();
        let viewed = seen.any(|seen| seen.path == file.path && seen.content == file.content);
        let on_it = |p: &&PlacedReviewComment| p.comment.as_ref().is_some_and(|c| c.path == file.path);
        let comments = review.comments.iter().filter(on_it).count();
        let viewed = if viewed { "yes" } else { "" };
        vec![viewed.to_owned(), file.kind.clone(), comments.to_string(), file.path.clone()]
    };
    files.iter().map(row).collect()
}

/// Where a comment is, as in `src/a.rs:3-5 (old side)`.
fn place_of(placed: &PlacedReviewComment) -> String {
    let comment = placed.comment.clone().unwrap_or_default();
    if comment.side() == ReviewSide::File {
        return comment.path;
    }
    let (start, end) = match placed.place() {
        ReviewPlace::Outdated | ReviewPlace::Unknown => (comment.start_line, comment.end_line),
        _ => (placed.start_line, placed.end_line),
    };
    let lines = if start == end { start.to_string() } else { format!("{start}-{end}") };
    let old = if comment.side() == ReviewSide::Old { " (old side)" } else { "" };
    let outdated = match placed.place() {
        ReviewPlace::Outdated => format!(" (outdated: made on version {})", comment.version),
        ReviewPlace::Unknown => format!(" (as of version {})", comment.version),
        _ => String::new(),
    };
    format!("{}:{lines}{old}{outdated}", comment.path)
}

#[cfg(test)]
mod tests {
    use foundry_proto::task::v1::{ReviewComment, Task, Turn};

    use super::*;

    #[test]
    fn a_comment_is_on_lines_where_the_place_ends_with_some() {
        let place = |text: &str| {
            let c = comment_on("task_1", text, ReviewSide::New, "x");
            (c.path.clone(), c.side(), c.start_line, c.end_line)
        };
        assert_eq!(place("src/a.rs:3"), ("src/a.rs".into(), ReviewSide::New, 3, 3));
        assert_eq!(place("a:b:3-12"), ("a:b".into(), ReviewSide::New, 3, 12));
        assert_eq!(place("a:b"), ("a:b".into(), ReviewSide::File, 0, 0));
        assert_eq!(place("a.rs"), ("a.rs".into(), ReviewSide::File, 0, 0));
        let id = comment_on("task_1", "x", ReviewSide::New, "x").comment_id;
        assert!(id.parse::<ReviewCommentId>().is_ok(), "{id}");
    }

    #[test]
    fn since_the_turn_is_since_the_version_from_which_it_started() {
        let newest_turn = Some(Turn { version: 4, ..Turn::default() });
        let task =
            GetTaskResponse { task: Some(Task { newest_turn, ..Task::default() }), ..Default::default() };
        assert_eq!(since_version(&task, "turn").unwrap(), 4);
        assert_eq!(since_version(&task, "2").unwrap(), 2);
        assert!(since_version(&task, "yesterday").is_err());
        assert!(since_version(&GetTaskResponse::default(), "turn").is_err());
    }

    #[test]
    fn an_outdated_comment_is_listed_with_the_version_it_was_made_on() {
        let comment = ReviewComment {
            path: "a.rs".into(),
            side: ReviewSide::Old.into(),
            start_line: 3,
            end_line: 4,
            version: 2,
            ..ReviewComment::default()
        };
        let place = ReviewPlace::Outdated.into();
        let placed = PlacedReviewComment { comment: Some(comment), place, ..PlacedReviewComment::default() };
        assert_eq!(place_of(&placed), "a.rs:3-4 (old side) (outdated: made on version 2)");
        let moved =
            PlacedReviewComment { place: ReviewPlace::Moved.into(), start_line: 9, end_line: 10, ..placed };
        assert_eq!(place_of(&moved), "a.rs:9-10 (old side)");
    }
}
