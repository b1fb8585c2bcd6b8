//! Table `messages`: the queue of each session, and the whole texts. A delivered message keeps its row.

use foundry_core::{MessageId, Result, TaskId};
use foundry_proto::common::v1::{Attachment, UserMessage};
use foundry_service::readable;
use foundry_store::{Reader, RevRef, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::session::{Message, MessageState};

pub const MESSAGES: Table = Table::new(
    "messages",
    &[
        "message_id",
        "session_id",
        "task_id",
        "position",
        "state",
        "rev",
        "created_by",
        "create_time",
        "preview",
        "text_size",
        "text",
        "attachments",
    ],
    &["message_id"],
);

/// Messages of a session by revision, for watches; includes those that left the queue.
pub const BY_REV: &str = "SELECT message_id, session_id, task_id, position, state, rev, created_by, create_time, \
     preview, text_size, attachments FROM messages WHERE session_id = $1 AND rev > $2 ORDER BY rev LIMIT $3";

const OPEN: &str = "SELECT message_id, session_id, task_id, position, state, rev, created_by, create_time, preview, \
     text_size, attachments FROM messages WHERE task_id = $1 AND state IN ('queued', 'delivering') ORDER BY position";

/// Reads a row without its text. Files that cannot be decoded are left out; see [`Said::damaged`].
pub fn read(row: &Row) -> Result<Message> {
    Ok(Message {
        message_id: row.text("message_id")?.parse()?,
        session_id: row.text("session_id")?.parse()?,
        task_id: row.text("task_id")?.parse()?,
        position: row.int("position")?,
        state: MessageState::parse(row.text("state")?)?,
        created_by: row.text("created_by")?.to_owned(),
        create_time: row.time("create_time")?,
        preview: row.text("preview")?.to_owned(),
        text_size: row.int("text_size")?,
        attachments: files(row)?.unwrap_or_default(),
    })
}

/// The queued messages of a task, in delivery order.
pub async fn open(from: &impl Reader, task: &TaskId) -> Result<Vec<Message>> {
    from.query(OPEN, &[task.into()]).await?.iter().map(read).collect()
}

/// The task of a message.
pub async fn task_of(store: &Store, message: &MessageId) -> Result<Option<TaskId>> {
    const SQL: &str = "SELECT task_id FROM messages WHERE message_id = $1";
    let rows = store.query(SQL, &[message.into()]).await?;
    rows.first().map(|r| r.text("task_id")?.parse()).transpose()
}

/// A message with its whole text.
pub async fn find(store: &Store, message: &MessageId) -> Result<Option<(Message, String)>> {
    const SQL: &str = "SELECT message_id, session_id, task_id, position, state, rev, created_by, create_time, \
         preview, text_size, attachments, text FROM messages WHERE message_id = $1";
    let rows = store.query(SQL, &[message.into()]).await?;
    rows.first().map(|r| Ok((read(r)?, r.text("text")?.to_owned()))).transpose()
}

/// What a person sent in a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The whole text; empty for a message with files alone.
    pub text: String,
    /// Id of the user who sent it.
    pub user: String,
    /// The files sent with it.
    pub attachments: Vec<Attachment>,
    /// Whether its files cannot be decoded: the agent must not get it without them.
    pub damaged: bool,
}

/// The whole text of a message, its files and who sent it.
pub async fn said(store: &Store, message: &str) -> Result<Option<Said>> {
    const SQL: &str = "SELECT message_id, text, created_by, attachments FROM messages WHERE message_id = $1";
    let rows = store.query(SQL, &[message.into()]).await?;
    let said = |r: &Row| {
        let (text, user, files) = (r.text("text")?.to_owned(), r.text("created_by")?.to_owned(), files(r)?);
        Ok(Said { text, user, damaged: files.is_none(), attachments: files.unwrap_or_default() })
    };
    rows.first().map(said).transpose()
}

/// The files column holds an encoded wire message of its own; none when it cannot be decoded.
fn files(row: &Row) -> Result<Option<Vec<Attachment>>> {
    let message = readable::<UserMessage>(row, "attachments", row.text("message_id")?)?;
    Ok(message.map(|message| message.attachments))
}

fn encoded(files: &[Attachment]) -> Value {
    UserMessage { attachments: files.to_vec(), ..UserMessage::default() }.encode_to_vec().into()
}

/// Adds a message to its queue.
pub fn insert(ws: &mut WriteSet, rev: RevRef, m: &Message, text: &str) {
    let values: Vec<Value> = vec![
        (&m.message_id).into(),
        (&m.session_id).into(),
        (&m.task_id).into(),
        m.position.into(),
        m.state.as_str().into(),
        rev.into(),
        m.created_by.as_str().into(),
        m.create_time.into(),
        m.preview.as_str().into(),
        m.text_size.into(),
        text.into(),
        encoded(&m.attachments),
    ];
    ws.insert(&MESSAGES, values);
}

/// Writes the delivery state of a message.
pub fn update_state(ws: &mut WriteSet, rev: RevRef, m: &Message) {
    let set = [("state", m.state.as_str().into()), ("rev", rev.into())];
    ws.update(&MESSAGES, &[(&m.message_id).into()], &set, &[]);
}

/// Writes a changed place in the queue.
pub fn update_position(ws: &mut WriteSet, rev: RevRef, m: &Message) {
    let set = [("position", m.position.into()), ("rev", rev.into())];
    ws.update(&MESSAGES, &[(&m.message_id).into()], &set, &[]);
}

/// Writes a changed text and files.
pub fn update_text(ws: &mut WriteSet, rev: RevRef, m: &Message, text: &str) {
    let set = [
        ("preview", m.preview.as_str().into()),
        ("text_size", m.text_size.into()),
        ("text", text.into()),
        ("attachments", encoded(&m.attachments)),
        ("rev", rev.into()),
    ];
    ws.update(&MESSAGES, &[(&m.message_id).into()], &set, &[]);
}
