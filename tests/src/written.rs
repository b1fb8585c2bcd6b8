//! What writers know that they wrote, and the history of a view that follows from it.

use std::collections::BTreeMap;

use foundry_frame::{RawBody, RawChange, RawOp};
use foundry_proto::task::v1::{
    OrganizationItem, RenameSessionRequest, TaskItem, UpdateTaskRequest, organization_item, task_item,
};
use foundry_watch::oracle::{ClientLog, History};
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Code;

use crate::Caller;
use crate::dice::Dice;
use crate::watching::{Progress, View, is_refusal};

/// An acknowledged change.
#[derive(Clone, Debug)]
pub struct Write {
    /// The revision it was acknowledged with.
    pub rev: i64,
    /// The id of the request.
    pub request_id: String,
    /// The task concerned.
    pub task: String,
    /// The session that was renamed; none = the task was.
    pub session: Option<String>,
    /// The new title or name.
    pub text: String,
}

/// Renames a task and its sessions in turn until the story is over. Each request is repeated under its id until it is
/// acknowledged, so that all that was written is known with its revision.
///
/// # Panics
/// When a request is refused.
pub async fn write(
    ada: Caller,
    task: String,
    sessions: Vec<String>,
    seed: u64,
    progress: &Progress,
) -> Vec<Write> {
    let mut writes: Vec<Write> = Vec::new();
    let mut dice = Dice::new(seed);
    while !*progress.over.borrow() {
        let n = writes.len();
        let session = (!n.is_multiple_of(3)).then(|| sessions[n % sessions.len()].clone());
        let (text, request_id) = (format!("text {n} of {task}"), format!("{task}/{n}"));
        let rev = loop {
            match rename(&ada, &task, session.as_deref(), &text, &request_id).await {
                Ok(rev) => break rev,
                Err(status) if status.code() == Code::Aborted => {}
                Err(status) => {
                    assert!(!is_refusal(&status), "{request_id}: {status}");
                    progress.back_off(&mut dice).await;
                }
            }
        };
        writes.push(Write { rev, request_id, task: task.clone(), session, text });
        progress.head.send_modify(|head| *head = rev.max(*head));
    }
    writes
}

async fn rename(
    ada: &Caller,
    task: &str,
    session: Option<&str>,
    text: &str,
    request_id: &str,
) -> Result<i64, tonic::Status> {
    let (request_id, text) = (request_id.to_owned(), text.to_owned());
    Ok(match session {
        Some(id) => {
            let request = RenameSessionRequest { request_id, session_id: id.to_owned(), name: text };
            ada.task().rename_session(request).await?.into_inner().rev
        }
        None => {
            let request = UpdateTaskRequest { request_id, task_id: task.to_owned(), title: text };
            ada.task().update_task(request).await?.into_inner().rev
        }
    })
}

/// Each version of each row that anybody was shown; none for one that is gone.
type Seen = BTreeMap<(i64, String), Option<Bytes>>;

/// The history of a view: what was written, with the contents that the watchers were shown.
///
/// A version that was written and that nobody was shown gets a content of its own, so that whoever claims to show the
/// state at a revision without it is found out.
///
/// # Panics
/// When two watchers were shown one version with different contents, or one that says other than what was written.
pub fn history(view: &View, logs: &[ClientLog], writes: &[Write]) -> History {
    let mut seen = Seen::new();
    for frame in logs.iter().flat_map(|log| &log.streams).flat_map(|stream| &stream.frames) {
        match frame.raw().expect("a frame").body {
            Some(RawBody::SnapshotChunk(chunk)) => chunk.changes.iter().for_each(|c| note(&mut seen, c)),
            Some(RawBody::Delta(delta)) => delta.changes.iter().for_each(|c| note(&mut seen, c)),
            _ => {}
        }
    }
    let mut texts: BTreeMap<&str, BTreeMap<i64, &str>> = BTreeMap::new();
    for write in writes {
        let named = write.session.as_deref().unwrap_or(&write.task);
        texts.entry(named).or_default().insert(write.rev, &write.text);
        if let Some(key) = key_in(view, write) {
            seen.entry((write.rev, key)).or_insert_with(|| Some(Bytes::from_static(b"shown to nobody")));
        }
    }
    let mut history = History::default();
    for ((rev, key), item) in seen {
        if let Some(item) = item.as_ref().filter(|item| **item != b"shown to nobody"[..]) {
            for (id, text) in names(view, item) {
                let written = texts.get(id.as_str()).and_then(|of| of.range(..=rev).next_back());
                if let Some((at, written)) = written {
                    assert_eq!(text, *written, "{key} at {rev} does not show what was written at {at}");
                }
            }
        }
        history.commit(rev, [(key, item)]);
    }
    history
}

fn note(seen: &mut Seen, change: &RawChange) {
    let item = match &change.op {
        Some(RawOp::Upsert(item)) => Some(item.clone()),
        _ => None,
    };
    let known = seen.entry((change.version, change.key.clone())).or_insert_with(|| item.clone());
    assert_eq!(*known, item, "{} at {} was shown with two contents", change.key, change.version);
}

/// The row of a view that a write changed, if it shows any.
fn key_in(view: &View, write: &Write) -> Option<String> {
    match (view, &write.session) {
        (View::Organization, _) => Some(format!("task/{}", write.task)),
        (View::Task(id), None) => (*id == write.task).then(|| format!("task/{id}")),
        (View::Task(id), Some(session)) => (*id == write.task).then(|| format!("session/{session}")),
    }
}

/// The titles and names in an item, by the id of what is called so.
fn names(view: &View, item: &Bytes) -> Vec<(String, String)> {
    if *view == View::Organization {
        let item = OrganizationItem::decode(item.clone()).expect("an item");
        let Some(organization_item::Item::Task(task)) = item.item else { return Vec::new() };
        let sessions = task.sessions.into_iter().map(|s| (s.session_id, s.name));
        return sessions.chain([(task.task_id, task.title)]).collect();
    }
    match TaskItem::decode(item.clone()).expect("an item").item {
        Some(task_item::Item::Task(task)) => vec![(task.task_id, task.title)],
        Some(task_item::Item::Session(session)) => vec![(session.session_id, session.name)],
        None => Vec::new(),
    }
}
