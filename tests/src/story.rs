//! The steps that tests share: register, create, follow, read.

use std::time::Duration;

use foundry_core::{Env, MessageId, Tasks};
use foundry_proto::common::v1::transcript_part::Body;
use foundry_proto::common::v1::{PermissionPolicy, TurnEnd};
use foundry_proto::repo::v1::{
    CreateRepositoryRequest, GetJobRequest, Job, Repository, RepositoryItem, RepositoryState,
    WatchRepositoryRequest, repository_item,
};
use foundry_proto::task::v1::{
    CreateTaskRequest, CreateTaskResponse, GetFileDiffRequest, GetTaskRequest, ListFileChangesRequest,
    ListTranscriptRequest, SendMessageRequest, Session, SessionItem, Task, TaskItem, TranscriptEntry,
    WatchSessionRequest, WatchTaskRequest, session_item, task_item,
};
use foundry_watch::{Consumer, ConsumerConfig, State};

use crate::{Caller, Origin};

/// Longest wait for any condition in a test.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Registers an origin and waits until it is mirrored.
///
/// # Panics
/// When that fails.
pub async fn register(caller: &Caller, origin: &Origin) -> Repository {
    let request = CreateRepositoryRequest {
        request_id: String::new(),
        organization_id: caller.organization_id.clone(),
        url: origin.path().display().to_string(),
        name: String::new(),
    };
    let created = caller.repo().create_repository(request).await.expect("repository").into_inner();
    await_mirror(caller, created.repository.expect("repository").repository_id).await
}

/// Waits until a repository is mirrored.
///
/// # Panics
/// When that fails.
pub async fn await_mirror(caller: &Caller, id: String) -> Repository {
    let (client, repository_id) = (caller.repo(), id.clone());
    let item = await_item::<RepositoryItem>(
        "repository",
        move |options| -> Opening {
            let (mut client, repository_id) = (client.clone(), repository_id.clone());
            Box::pin(async move {
                let request = WatchRepositoryRequest { options: Some(options), repository_id };
                Ok(client.watch_repository(request).await?.into_inner())
            })
        },
        &format!("repository/{id}"),
        |item| matches!(&item.item, Some(repository_item::Item::Repository(r)) if r.state() == RepositoryState::Ready),
    )
    .await;
    let Some(repository_item::Item::Repository(repository)) = item.item else { panic!("no repository") };
    repository
}

/// A request for a task whose agent may act without asking.
pub fn task_request(caller: &Caller, repository: &Repository, prompt: &str) -> CreateTaskRequest {
    CreateTaskRequest {
        organization_id: caller.organization_id.clone(),
        repository_id: repository.repository_id.clone(),
        prompt: prompt.to_owned(),
        permission_policy: PermissionPolicy::Allow.into(),
        ..CreateTaskRequest::default()
    }
}

/// Repeats a call while a service is unavailable because another one does not respond yet. A command needs a request
/// id, so that it takes effect once.
///
/// # Panics
/// When it is refused for another reason, or is unavailable for too long.
pub async fn until_answered<T, F>(what: &str, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let begun = std::time::Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) if status.code() == tonic::Code::Unavailable && begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(status) => panic!("{what}: {status}"),
        }
    }
}

/// Creates a task; returns it with its first session.
///
/// # Panics
/// When that fails.
pub async fn create_task(caller: &Caller, repository: &Repository, prompt: &str) -> (Task, Session) {
    // A new id for each call.
    let request_id = MessageId::generate(&Env::system()).to_string();
    let request = CreateTaskRequest { request_id, ..task_request(caller, repository, prompt) };
    let answer = until_answered("task", || {
        let (mut client, request) = (caller.task(), request.clone());
        async move { client.create_task(request).await }
    });
    let CreateTaskResponse { task, session, .. } = answer.await;
    (task.expect("task"), session.expect("session"))
}

/// Follows a watch until one of its rows meets a condition.
///
/// # Panics
/// When the watch is refused, or it takes too long; the message contains the last state of the row.
pub async fn await_item<T>(
    name: &'static str,
    open: impl Fn(foundry_proto::watch::v1::WatchOptions) -> Opening + Send + Sync + 'static,
    key: &str,
    wanted: impl Fn(&T) -> bool,
) -> T
where
    T: prost::Message + Default + Clone + std::fmt::Debug + 'static,
{
    await_item_within(PATIENCE, name, open, key, wanted).await
}

/// As [`await_item`], with a longer limit.
///
/// # Panics
/// As [`await_item`].
pub async fn await_item_within<T>(
    patience: Duration,
    name: &'static str,
    open: impl Fn(foundry_proto::watch::v1::WatchOptions) -> Opening + Send + Sync + 'static,
    key: &str,
    wanted: impl Fn(&T) -> bool,
) -> T
where
    T: prost::Message + Default + Clone + std::fmt::Debug + 'static,
{
    let (tasks, _failures) = Tasks::new();
    let mut watch: Consumer<T> = Consumer::start(&tasks, Env::system(), ConsumerConfig::new(name), open);
    let mut state: State<T> = State::default();
    let found = tokio::time::timeout(patience, async {
        loop {
            let event = watch.next().await.unwrap_or_else(|e| panic!("{name}: {e}"));
            state.apply(&event);
            if let Some(item) = state.get(key)
                && wanted(item)
            {
                return item.clone();
            }
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("{name} {key} is not as wanted: {:?}", state.get(key)))
}

/// The result of opening a watch.
pub type Opening =
    futures::future::BoxFuture<'static, Result<tonic::Streaming<foundry_frame::Frame>, tonic::Status>>;

/// Waits until a task meets a condition.
///
/// # Panics
/// As [`await_item`].
pub async fn await_task(caller: &Caller, task_id: &str, wanted: impl Fn(&Task) -> bool) -> Task {
    await_task_within(PATIENCE, caller, task_id, wanted).await
}

/// As [`await_task`], with a longer limit.
///
/// # Panics
/// As [`await_item`].
pub async fn await_task_within(
    patience: Duration,
    caller: &Caller,
    task_id: &str,
    wanted: impl Fn(&Task) -> bool,
) -> Task {
    let (client, id) = (caller.task(), task_id.to_owned());
    let open = move |options| -> Opening {
        let (mut client, task_id) = (client.clone(), id.clone());
        Box::pin(async move {
            let request = WatchTaskRequest { options: Some(options), task_id };
            Ok(client.watch_task(request).await?.into_inner())
        })
    };
    let item = await_item_within::<TaskItem>(
        patience,
        "task",
        open,
        &format!("task/{task_id}"),
        |item| matches!(&item.item, Some(task_item::Item::Task(task)) if wanted(task)),
    )
    .await;
    let Some(task_item::Item::Task(task)) = item.item else { panic!("no task") };
    task
}

/// Waits until a job meets a condition, also while the mesh starts again.
///
/// # Panics
/// When it takes too long.
pub async fn await_job(caller: &Caller, job_id: &str, wanted: impl Fn(&Job) -> bool) -> Job {
    let begun = std::time::Instant::now();
    loop {
        let get = || {
            let mut repo = caller.repo();
            let request = GetJobRequest { job_id: job_id.to_owned() };
            async move { repo.get_job(request).await }
        };
        let job = until_answered("the job", get).await.job.expect("job");
        if wanted(&job) {
            return job;
        }
        assert!(begun.elapsed() < PATIENCE, "{job:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a session meets a condition.
///
/// # Panics
/// As [`await_item`].
pub async fn await_session(caller: &Caller, session_id: &str, wanted: impl Fn(&Session) -> bool) -> Session {
    let (client, id) = (caller.task(), session_id.to_owned());
    let open = move |options| -> Opening {
        let (mut client, session_id) = (client.clone(), id.clone());
        Box::pin(async move {
            let request = WatchSessionRequest { options: Some(options), session_id, after_offset: i64::MAX };
            Ok(client.watch_session(request).await?.into_inner())
        })
    };
    let item = await_item::<SessionItem>(
        "session",
        open,
        &format!("session/{session_id}"),
        |item| matches!(&item.item, Some(session_item::Item::Session(session)) if wanted(session)),
    )
    .await;
    let Some(session_item::Item::Session(session)) = item.item else { panic!("no session") };
    session
}

/// The whole transcript of a session.
///
/// # Panics
/// When it cannot be read.
pub async fn transcript(caller: &Caller, session_id: &str) -> Vec<TranscriptEntry> {
    let (mut entries, mut from) = (Vec::new(), 1);
    loop {
        let request =
            ListTranscriptRequest { session_id: session_id.to_owned(), from_offset: from, page_size: 500 };
        let page = caller.task().list_transcript(request).await.expect("transcript").into_inner();
        if page.entries.is_empty() {
            return entries;
        }
        from = page.next_offset;
        entries.extend(page.entries);
    }
}

/// The ends of all turns in a transcript, in order.
pub fn turn_ends(entries: &[TranscriptEntry]) -> Vec<TurnEnd> {
    let bodies = entries.iter().filter_map(|e| e.part.as_ref()?.body.as_ref());
    bodies.filter_map(|b| if let Body::TurnEnd(end) = b { Some(end.clone()) } else { None }).collect()
}

/// Waits until this many turns of a session have ended; returns the transcript.
///
/// # Panics
/// As [`await_item`].
pub async fn await_turns(caller: &Caller, session_id: &str, turns: usize) -> Vec<TranscriptEntry> {
    let begun = std::time::Instant::now();
    let mut seen = 0;
    loop {
        await_session(caller, session_id, |s| s.last_offset > seen).await;
        let entries = transcript(caller, session_id).await;
        seen = entries.last().map_or(0, |e| e.offset);
        if turn_ends(&entries).len() >= turns {
            return entries;
        }
        assert!(begun.elapsed() < PATIENCE, "turns do not end: {entries:#?}");
    }
}

/// Checks that offsets are contiguous from 1: nothing is lost or duplicated.
///
/// # Panics
/// When they are not.
pub fn assert_contiguous(entries: &[TranscriptEntry]) {
    for (entry, expected) in entries.iter().zip(1..) {
        assert_eq!(entry.offset, expected, "a transcript entry is missing or doubled");
    }
}

/// All words of the agent, in order.
pub fn words(entries: &[TranscriptEntry]) -> String {
    let bodies = entries.iter().filter_map(|e| e.part.as_ref()?.body.as_ref());
    bodies.filter_map(|b| if let Body::AgentMessage(m) = b { Some(m.text.as_str()) } else { None }).collect()
}

/// The patches of all changed files of a task, once its changes are imported.
///
/// # Panics
/// When it cannot be read.
pub async fn patch(caller: &Caller, task_id: &str) -> Vec<u8> {
    let request = ListFileChangesRequest {
        task_id: task_id.to_owned(),
        page_size: 500,
        ..ListFileChangesRequest::default()
    };
    let listed = until_answered("changes", || {
        let (mut client, request) = (caller.task(), request.clone());
        async move { client.list_file_changes(request).await }
    });
    let listed = listed.await;
    let version = listed.changes.expect("changes").version;
    let mut patch = Vec::new();
    for file in listed.files {
        let request = GetFileDiffRequest {
            task_id: task_id.to_owned(),
            path: file.path,
            version,
            ..Default::default()
        };
        let diff = until_answered("diff", || {
            let (mut client, request) = (caller.task(), request.clone());
            async move { client.get_file_diff(request).await }
        });
        patch.extend(diff.await.patch);
    }
    patch
}

/// Reads the stored state of a task.
///
/// # Panics
/// When it cannot be read.
pub async fn get_task(caller: &Caller, task_id: &str) -> Task {
    let request = GetTaskRequest { task_id: task_id.to_owned() };
    caller.task().get_task(request).await.expect("task").into_inner().task.expect("task")
}

/// Queues a message and returns its id. If the service answers that the request conflicted, it is repeated with its id.
///
/// # Panics
/// When it is refused.
pub async fn send(caller: &Caller, session_id: &str, text: &str) -> String {
    // The id depends on the text: the same text sent twice in one session would be one message.
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(text, &mut hasher);
    let request = SendMessageRequest {
        request_id: format!("{session_id}/{:x}", std::hash::Hasher::finish(&hasher)),
        session_id: session_id.to_owned(),
        text: text.to_owned(),
        attachment_ids: Vec::new(),
    };
    let begun = std::time::Instant::now();
    loop {
        match caller.task().send_message(request.clone()).await {
            Ok(answer) => return answer.into_inner().message.expect("message").message_id,
            Err(status) if status.code() == tonic::Code::Aborted && begun.elapsed() < PATIENCE => {}
            Err(status) => panic!("the message was refused: {status}"),
        }
    }
}

/// Waits until the entries after an offset meet a condition; returns them.
///
/// # Panics
/// As [`await_item`].
pub async fn await_transcript(
    caller: &Caller,
    session_id: &str,
    after: i64,
    wanted: impl Fn(&[TranscriptEntry]) -> bool,
) -> Vec<TranscriptEntry> {
    let begun = std::time::Instant::now();
    let mut seen = after;
    loop {
        await_session(caller, session_id, |s| s.last_offset > seen).await;
        let entries = transcript(caller, session_id).await;
        seen = entries.last().map_or(0, |e| e.offset);
        let new: Vec<_> = entries.into_iter().filter(|e| e.offset > after).collect();
        if wanted(&new) {
            return new;
        }
        assert!(begun.elapsed() < PATIENCE, "the transcript is not as wanted: {new:#?}");
    }
}
