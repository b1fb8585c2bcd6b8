//! The writes that were acknowledged, and the history of a view that follows from them.

use std::collections::{BTreeMap, HashMap, HashSet};

use foundry_frame::{RawBody, RawChange, RawOp};
use foundry_proto::task::v1::{
    KillTaskRequest, ListAuditEventsRequest, OrganizationItem, RenameSessionRequest, TaskItem,
    UpdateTaskRequest, organization_item, task_item,
};
use foundry_proto::watch::v1::SnapshotEnd;
use foundry_watch::oracle::{ClientLog, History};
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Code;

use crate::Caller;
use crate::seeded_rng::SeededRng;
use crate::watching::{Progress, View, is_refusal};

/// An acknowledged change.
#[derive(Clone, Debug)]
pub struct Write {
    /// The revision returned with the acknowledgement.
    pub rev: i64,
    /// The id of the request.
    pub request_id: String,
    /// Id of the task.
    pub task: String,
    /// Id of the renamed session; none = the task was renamed.
    pub session: Option<String>,
    /// The new title or name.
    pub text: String,
}

/// Renames a task and its sessions in turn until the story is over. Each request is repeated with the same id until it
/// is acknowledged, so that every write that took effect is in the result with its revision.
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
    let mut rng = SeededRng::new(seed);
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
                    progress.back_off(&mut rng).await;
                }
            }
        };
        writes.push(Write { rev, request_id, task: task.clone(), session, text });
        progress.head.send_modify(|head| *head = rev.max(*head));
    }
    writes
}

/// Kills a task, so that it disappears from the summary.
///
/// # Panics
/// When that is refused.
pub async fn kill(ada: &Caller, task: &str, progress: &Progress) {
    let mut rng = SeededRng::new(0);
    let request = KillTaskRequest { request_id: format!("{task}/kill"), task_id: task.to_owned() };
    while let Err(status) = ada.task().kill_task(request.clone()).await {
        assert!(!is_refusal(&status), "{task}: {status}");
        progress.back_off(&mut rng).await;
    }
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

/// Checks that each acknowledged change has exactly one audit record, and that no two share a revision.
///
/// # Panics
/// When the check fails.
pub async fn assert_recorded_once(ada: &Caller, writes: &[Write]) {
    let (mut recorded, mut page_token) = (HashMap::<String, usize>::new(), String::new());
    loop {
        let request = ListAuditEventsRequest {
            organization_id: ada.organization_id.clone(),
            page_size: 500,
            page_token,
            ..ListAuditEventsRequest::default()
        };
        let page = ada.task().list_audit_events(request).await.expect("records").into_inner();
        page.events.into_iter().for_each(|e| *recorded.entry(e.request_id).or_default() += 1);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for write in writes {
        assert_eq!(recorded.get(&write.request_id), Some(&1), "{write:?}");
    }
    let mut revs: Vec<_> = writes.iter().map(|w| w.rev).collect();
    revs.sort_unstable();
    assert!(revs.windows(2).all(|w| w[0] < w[1]), "two changes have one revision");
}

/// Each version of each row that a watcher received; none for a deleted one.
type Seen = BTreeMap<(i64, String), Option<Bytes>>;

/// The history of a view: the writes, with the contents that the watchers received.
///
/// A version that was written but never received gets unique content, so that a watcher whose state omits it is
/// detected.
///
/// # Panics
/// When two watchers received different contents for one version, or contents other than what was written.
pub fn history(view: &View, logs: &[ClientLog], writes: &[Write]) -> History {
    let mut seen = Seen::new();
    for frame in logs.iter().flat_map(|log| &log.streams).flat_map(|stream| &stream.frames) {
        match frame.raw().expect("a frame").body {
            Some(RawBody::SnapshotChunk(chunk)) => chunk.changes.iter().for_each(|c| note(&mut seen, c)),
            Some(RawBody::Delta(delta)) => delta.changes.iter().for_each(|c| note(&mut seen, c)),
            _ => {}
        }
    }
    let left = departures(&seen, logs);
    seen.extend(left);
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

/// Rows that were already absent from a snapshot although their first received tombstone is later: a row leaves once,
/// and later changes to it produce further tombstones.
fn departures(seen: &Seen, logs: &[ClientLog]) -> Seen {
    let mut spans: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for ((rev, key), item) in seen {
        let (last_shown, first_gone) = spans.entry(key).or_insert((0, i64::MAX));
        match item {
            Some(_) => *last_shown = *rev,
            None => *first_gone = (*first_gone).min(*rev),
        }
    }
    spans.retain(|_, (_, first_gone)| *first_gone < i64::MAX);
    let mut left = Seen::new();
    let mut held: HashSet<String> = HashSet::new();
    for frame in logs.iter().flat_map(|log| &log.streams).flat_map(|stream| &stream.frames) {
        match frame.raw().expect("a frame").body {
            Some(RawBody::SnapshotBegin(_)) => held.clear(),
            Some(RawBody::SnapshotChunk(chunk)) => held.extend(chunk.changes.into_iter().map(|c| c.key)),
            Some(RawBody::SnapshotEnd(bytes)) => {
                let rev = SnapshotEnd::decode(bytes).expect("the end of a snapshot").rev;
                let within = |(last, first): &(i64, i64)| (*last + 1..*first).contains(&rev);
                let gone = spans.iter().filter(|(key, span)| within(span) && !held.contains(**key));
                left.extend(gone.map(|(key, _)| ((rev, (*key).to_owned()), None)));
            }
            _ => {}
        }
    }
    left
}

/// Number of tombstones in deltas.
///
/// # Panics
/// When a frame does not decode.
pub fn tombstones(logs: &[ClientLog]) -> usize {
    let frames = logs.iter().flat_map(|log| &log.streams).flat_map(|stream| &stream.frames);
    let gone = |change: &&RawChange| matches!(change.op, Some(RawOp::Tombstone(_)));
    frames
        .map(|frame| match frame.raw().expect("a frame").body {
            Some(RawBody::Delta(delta)) => delta.changes.iter().filter(gone).count(),
            _ => 0,
        })
        .sum()
}

fn note(seen: &mut Seen, change: &RawChange) {
    let item = match &change.op {
        Some(RawOp::Upsert(item)) => Some(item.clone()),
        _ => None,
    };
    let known = seen.entry((change.version, change.key.clone())).or_insert_with(|| item.clone());
    assert_eq!(*known, item, "{} at {} was shown with two contents", change.key, change.version);
}

/// The row of a view that a write changed, if the view shows it.
fn key_in(view: &View, write: &Write) -> Option<String> {
    match (view, &write.session) {
        (View::Organization, _) => Some(format!("task/{}", write.task)),
        (View::Task(id), None) => (*id == write.task).then(|| format!("task/{id}")),
        (View::Task(id), Some(session)) => (*id == write.task).then(|| format!("session/{session}")),
    }
}

/// The titles and names in an item, each with the id of its task or session.
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
