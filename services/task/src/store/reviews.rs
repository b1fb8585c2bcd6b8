//! Tables `review_comments` and `viewed_files`: the review of the changes of a task by one user.
//!
//! Comments are removed when they are sent and when their task ends, as nothing can be sent to it any more, and with them the
//! draft of a summary; viewed files stay with the transcript of their task. All go with its repository.

use foundry_core::{Result, ReviewCommentId, TaskId, Timestamp, UserId};
use foundry_proto::task::v1::{ReviewComment, ReviewSide, ViewedFile};
use foundry_store::{Reader, RevRef, Row, Store, Table, Value, WriteSet};

use super::user_state::{self, At, Owner};

/// Comments that are not sent, by id.
pub const REVIEW_COMMENTS: Table = Table::new(
    "review_comments",
    &[
        "organization_id",
        "user_id",
        "comment_id",
        "task_id",
        "rev",
        "path",
        "side",
        "start_line",
        "end_line",
        "version",
        "since_version",
        "whole",
        "content",
        "quote",
        "lines_before",
        "lines_after",
        "text",
        "create_time",
        "update_time",
    ],
    &["organization_id", "user_id", "comment_id"],
);
/// Viewed files, by task and path.
pub const VIEWED_FILES: Table = Table::new(
    "viewed_files",
    &["organization_id", "user_id", "task_id", "path", "rev", "content", "version"],
    &["organization_id", "user_id", "task_id", "path"],
);

macro_rules! comments {
    ($rest:literal) => {
        concat!(
            "SELECT comment_id, task_id, rev, path, side, start_line, end_line, version, since_version, whole, content, quote, ",
            "lines_before, lines_after, text, ",
            "create_time, update_time FROM review_comments WHERE organization_id = $1 AND user_id = $2 AND ",
            $rest
        )
    };
}

/// Comments of a user on a task by revision, for watches.
pub const COMMENTS_BY_REV: &str = comments!("task_id = $3 AND rev > $4 ORDER BY rev LIMIT $5");
/// Viewed files of a user in a task by revision, for watches.
pub const VIEWED_BY_REV: &str = "SELECT task_id, path, rev, content, version FROM viewed_files \
     WHERE organization_id = $1 AND user_id = $2 AND task_id = $3 AND rev > $4 ORDER BY rev LIMIT $5";

/// Kind of the tombstones of the comments on a task.
pub fn comment_kind(task: &str) -> String {
    format!("comment/{task}")
}

/// Kind of the tombstones of the viewed files of a task.
pub fn viewed_kind(task: &str) -> String {
    format!("viewed/{task}")
}

const fn side_text(side: ReviewSide) -> &'static str {
    match side {
        ReviewSide::Old => "old",
        ReviewSide::New => "new",
        ReviewSide::Unspecified | ReviewSide::File => "file",
    }
}

fn side(text: &str) -> ReviewSide {
    match text {
        "old" => ReviewSide::Old,
        "new" => ReviewSide::New,
        _ => ReviewSide::File,
    }
}

/// Reads a row of [`COMMENTS_BY_REV`].
pub fn read_comment(row: &Row) -> Result<At<ReviewComment>> {
    let line = |column| Ok::<_, foundry_core::Error>(i32::try_from(row.int(column)?).unwrap_or(i32::MAX));
    let entity = ReviewComment {
        comment_id: row.text("comment_id")?.to_owned(),
        task_id: row.text("task_id")?.to_owned(),
        path: row.text("path")?.to_owned(),
        side: side(row.text("side")?).into(),
        start_line: line("start_line")?,
        end_line: line("end_line")?,
        version: row.int("version")?,
        since_version: row.int("since_version")?,
        whole: row.bool("whole")?,
        content: row.text("content")?.to_owned(),
        quote: row.text("quote")?.to_owned(),
        before: row.text("lines_before")?.to_owned(),
        after: row.text("lines_after")?.to_owned(),
        text: row.text("text")?.to_owned(),
        create_time: Some(row.time("create_time")?.to_proto()),
        update_time: Some(row.time("update_time")?.to_proto()),
    };
    Ok(At { rev: row.int("rev")?, entity })
}

/// Reads a row of [`VIEWED_BY_REV`].
pub fn read_viewed(row: &Row) -> Result<At<ViewedFile>> {
    let entity = ViewedFile {
        task_id: row.text("task_id")?.to_owned(),
        path: row.text("path")?.to_owned(),
        content: row.text("content")?.to_owned(),
        version: row.int("version")?,
    };
    Ok(At { rev: row.int("rev")?, entity })
}

/// A comment of a user.
pub async fn comment(
    from: &impl Reader,
    owner: &Owner,
    id: &ReviewCommentId,
) -> Result<Option<At<ReviewComment>>> {
    const SQL: &str = comments!("comment_id = $3");
    from.query(SQL, &owned(owner, id)).await?.first().map(read_comment).transpose()
}

/// The comments of a user on a task, by file and line.
pub async fn comments(from: &impl Reader, owner: &Owner, task: &TaskId) -> Result<Vec<At<ReviewComment>>> {
    const SQL: &str = comments!("task_id = $3 ORDER BY path, start_line, create_time, comment_id");
    from.query(SQL, &owned(owner, task)).await?.iter().map(read_comment).collect()
}

/// A viewed file of a user.
pub async fn viewed(
    from: &impl Reader,
    owner: &Owner,
    task: &TaskId,
    path: &str,
) -> Result<Option<At<ViewedFile>>> {
    const SQL: &str = "SELECT task_id, path, rev, content, version FROM viewed_files \
         WHERE organization_id = $1 AND user_id = $2 AND task_id = $3 AND path = $4";
    let params = [(&owner.organization).into(), (&owner.user).into(), task.into(), path.into()];
    from.query(SQL, &params).await?.first().map(read_viewed).transpose()
}

/// The files that a user has viewed in a task, the newest marks first.
pub async fn all_viewed(
    from: &impl Reader,
    owner: &Owner,
    task: &TaskId,
    limit: u32,
) -> Result<Vec<ViewedFile>> {
    const SQL: &str = "SELECT task_id, path, rev, content, version FROM viewed_files \
         WHERE organization_id = $1 AND user_id = $2 AND task_id = $3 ORDER BY rev DESC LIMIT $4";
    let params = [(&owner.organization).into(), (&owner.user).into(), task.into(), limit.into()];
    from.query(SQL, &params).await?.iter().map(|row| Ok(read_viewed(row)?.entity)).collect()
}

fn owned(owner: &Owner, last: impl Into<Value>) -> [Value; 3] {
    [(&owner.organization).into(), (&owner.user).into(), last.into()]
}

/// Adds a comment; a taken id is a conflict.
pub fn add_comment(ws: &mut WriteSet, rev: RevRef, owner: &Owner, c: &ReviewComment, now: Timestamp) {
    let [organization, user, id] = owned(owner, c.comment_id.as_str());
    let values: Vec<Value> = vec![
        organization,
        user,
        id,
        c.task_id.as_str().into(),
        rev.into(),
        c.path.as_str().into(),
        side_text(c.side()).into(),
        i64::from(c.start_line).into(),
        i64::from(c.end_line).into(),
        c.version.into(),
        c.since_version.into(),
        c.whole.into(),
        c.content.as_str().into(),
        c.quote.as_str().into(),
        c.before.as_str().into(),
        c.after.as_str().into(),
        c.text.as_str().into(),
        now.into(),
        now.into(),
    ];
    ws.insert(&REVIEW_COMMENTS, values);
}

/// Replaces the text of a comment; fails if it is no longer the one that was read.
pub fn change_comment(
    ws: &mut WriteSet,
    rev: RevRef,
    owner: &Owner,
    before: &At<ReviewComment>,
    text: &str,
    now: Timestamp,
) {
    let set = [("rev", rev.into()), ("text", text.into()), ("update_time", now.into())];
    let key = owned(owner, before.entity.comment_id.as_str());
    ws.update(&REVIEW_COMMENTS, &key, &set, &[("rev", before.rev.into())]);
}

/// Removes a comment and leaves a tombstone; fails if it is no longer the one that was read.
pub fn remove_comment(ws: &mut WriteSet, rev: RevRef, owner: &Owner, before: &At<ReviewComment>) {
    let id = before.entity.comment_id.as_str();
    ws.delete(&REVIEW_COMMENTS, &owned(owner, id), &[("rev", before.rev.into())]);
    ws.tombstone(rev, &comment_kind(&before.entity.task_id), id);
}

/// Marks a file as viewed, whatever it was marked as before.
pub fn put_viewed(ws: &mut WriteSet, rev: RevRef, owner: &Owner, file: &ViewedFile) {
    let values: Vec<Value> = vec![
        (&owner.organization).into(),
        (&owner.user).into(),
        file.task_id.as_str().into(),
        file.path.as_str().into(),
        rev.into(),
        file.content.as_str().into(),
        file.version.into(),
    ];
    ws.upsert(&VIEWED_FILES, values);
}

/// Removes the mark of a file, if there is one, and leaves a tombstone.
pub fn remove_viewed(ws: &mut WriteSet, rev: RevRef, owner: &Owner, task: &str, path: &str) {
    let key: [Value; 4] = [(&owner.organization).into(), (&owner.user).into(), task.into(), path.into()];
    ws.remove(&VIEWED_FILES, &key);
    ws.tombstone(rev, &viewed_kind(task), path);
}

/// The tasks that have ended and still have comments, or the draft of a summary.
pub async fn ended_with_comments(store: &Store, limit: u32) -> Result<Vec<TaskId>> {
    const SQL: &str = "SELECT t.task_id FROM tasks t WHERE t.lifecycle IN ('archived', 'killed') AND \
         (t.task_id IN (SELECT task_id FROM review_comments) OR \
         'review/' || t.task_id IN (SELECT subject FROM drafts WHERE subject LIKE 'review/%')) LIMIT $1";
    store.query(SQL, &[limit.into()]).await?.iter().map(|r| r.text("task_id")?.parse()).collect()
}

/// Rows that one commit removes.
const REMOVED_AT_ONCE: u32 = 500;

/// Removes the comments of all users on a task and the drafts of their summaries, and what they have viewed of it if that goes
/// `too`: step by step, so that a crash leaves the rest to the next time.
///
/// # Errors
/// When the rows cannot be read or removed.
pub async fn remove_all(store: &Store, task: &TaskId, viewed_too: bool) -> Result<()> {
    const COMMENTS: &str = "SELECT organization_id, user_id, comment_id AS gone FROM review_comments WHERE task_id = $1 LIMIT $2";
    const DRAFTS: &str =
        "SELECT organization_id, user_id, subject AS gone FROM drafts WHERE subject = $1 LIMIT $2";
    const VIEWED: &str =
        "SELECT organization_id, user_id, path AS gone FROM viewed_files WHERE task_id = $1 LIMIT $2";
    let subject = format!("review/{task}");
    let comment = |ws: &mut WriteSet, owner: &Owner, id: &str| {
        let rev = ws.scope(owner.scope());
        ws.remove(&REVIEW_COMMENTS, &owned(owner, id));
        ws.tombstone(rev, &comment_kind(task.as_str()), id);
    };
    let draft = |ws: &mut WriteSet, owner: &Owner, subject: &str| {
        user_state::remove_draft(ws, owner, subject);
    };
    let viewed = |ws: &mut WriteSet, owner: &Owner, path: &str| {
        let rev = ws.scope(owner.scope());
        remove_viewed(ws, rev, owner, task.as_str(), path);
    };
    remove_rows(store, COMMENTS, task.as_str(), comment).await?;
    remove_rows(store, DRAFTS, &subject, draft).await?;
    if viewed_too {
        remove_rows(store, VIEWED, task.as_str(), viewed).await?;
    }
    Ok(())
}

async fn remove_rows(
    store: &Store,
    sql: &'static str,
    of: &str,
    remove: impl Fn(&mut WriteSet, &Owner, &str) + Send,
) -> Result<()> {
    loop {
        let rows = store.query(sql, &[of.into(), REMOVED_AT_ONCE.into()]).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut ws = WriteSet::new();
        for row in &rows {
            let user: UserId = row.text("user_id")?.parse()?;
            let owner = Owner { organization: row.text("organization_id")?.parse()?, user };
            remove(&mut ws, &owner, row.text("gone")?);
        }
        store.commit(ws).await?;
    }
}
