//! The work job: hands the agent's changes to the repo service. The sandbox itself commits its tree and makes the
//! bundle; the host never runs git in a tree that an agent can write.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Error, SandboxId, Timestamp};
use foundry_flow::{
    Flow, FlowStatus, NewFlow, Outcome, Stage, StageContext, Transition, enqueue, stage, unfinished,
};
use foundry_git::{
    CommitId, Notice, NoticeKind, WORK_BUNDLE_SCRIPT, WorkBundle, WorkBundleExit, WorkBundleOutput, WorkName,
};
use foundry_proto::common::v1::{Condition, WorkNotice, WorkNoticeKind, WorkNotices};
use foundry_proto::repo::v1::{
    GetWorkRequest, GetWorkResponse, ImportWorkHeader, ImportWorkRequest, Work, WorkState,
    import_work_request::Part,
};
use foundry_runtime_client::ExecSpec;
use foundry_sandbox::{Class, ProviderError};
use foundry_store::WriteSet;
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::sync::OwnedMutexGuard;

use super::sandbox::ready_key;
use super::{StageError, UNTIL_DONE};
use crate::domain::{Sandbox, SandboxState, Session};
use crate::shared::{Shared, facts_of};
use crate::store::{Set, condition_value, sandboxes};

/// Hands over work.
pub static WORK: Flow<Shared> = Flow::new(
    "work",
    &[Stage::new("hand_over", Duration::from_secs(300), UNTIL_DONE, |shared, ctx| {
        stage(hand_over_newest(shared, ctx))
    })],
)
.concurrency(8);

/// How long to wait after a tool call for further ones.
pub const DEBOUNCE: Duration = Duration::from_secs(2);
/// The job checks a sandbox that is not ready again after this time, in case its signal was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(600);
/// Pause after a script that did not end in time.
const AFTER_TIMEOUT: Duration = Duration::from_secs(300);
const CHUNK: usize = 256 << 10;
/// How long the script may run.
const SCRIPT: Duration = Duration::from_secs(120);
/// How long the last hand-over waits to hear whether an earlier bundle was refused.
const LOOK_UP: Duration = Duration::from_secs(3);
/// The bundle, below the sandbox's HOME.
const BUNDLE: &str = ".foundry/work.bundle";

/// Adds a hand-over of what is in the session's sandbox, at once or after a while.
///
/// # Errors
/// Never in practice.
pub fn enqueue_for(
    ws: &mut WriteSet,
    shared: &Shared,
    session: &Session,
    after: Option<Duration>,
) -> Result<(), Error> {
    let flow_id = shared.flow_id();
    let mut flow = NewFlow::new(&WORK, flow_id.clone(), flow_id.as_str(), session.sandbox_id.as_str())
        .organization(&session.organization_id);
    if let Some(after) = after {
        flow = flow.after(after);
    }
    enqueue(ws, flow);
    Ok(())
}

/// Hands over the work in the sandbox, unless a newer job will.
async fn hand_over_newest(shared: &Arc<Shared>, ctx: &StageContext) -> Result<Outcome, StageError> {
    let id: SandboxId = ctx.subject_id().parse()?;
    let Some(sandbox) = sandboxes::find(&shared.store, &id).await? else {
        return Ok(Outcome::done());
    };
    match sandbox.state {
        SandboxState::Ready => {}
        // Destroying saves the work itself.
        SandboxState::Destroying | SandboxState::Destroyed => return Ok(Outcome::done()),
        state => {
            let message = format!("waiting for the sandbox, which is {}", state.as_str());
            let again = ctx.env().clock.now().plus(LOOK_AGAIN);
            return Ok(Outcome::wait(ready_key(&id), message).until(again));
        }
    }
    // A job that failed or would have to wait leaves the work to a newer one, so that jobs neither pile up nor take
    // the slots of other sandboxes.
    let turn = shared.work_locks.free(&id);
    if turn.is_none() || ctx.flow().failures > 0 {
        let waiting = unfinished(&shared.store, &WORK, id.as_str()).await?;
        if waiting.iter().any(|flow| flow > ctx.flow_id()) {
            return Ok(Outcome::done());
        }
    }
    let Some(turn) = turn else {
        let message = "waiting for an earlier delivery of work from this sandbox";
        let again = ctx.env().clock.now().plus(DEBOUNCE);
        return Ok(Outcome::wait(ready_key(&id), message).until(again));
    };
    match hand_over(shared, &sandbox, turn, Some(ctx.flow().started_time)).await {
        // The next tool call or the end of the turn adds another job before that.
        Err(StageError::Provider(e)) if e.reason == "WORK_BUNDLE_TIMEOUT" => {
            Ok(Outcome::retry(e.reason, e.message).no_sooner_than(AFTER_TIMEOUT))
        }
        handed => handed.map(|()| Outcome::done()),
    }
}

/// Hands over the work in a sandbox now; the caller holds the sandbox's lock. When a hand-over began after `wanted`,
/// the time of the request, nothing is done. Without such a time it is the last hand-over, which sends once more what
/// the repo service has refused.
///
/// # Errors
/// Those of the runtime, the script and the repo service.
pub async fn hand_over(
    shared: &Shared,
    sandbox: &Sandbox,
    _turn: OwnedMutexGuard<()>,
    wanted: Option<Timestamp>,
) -> Result<(), StageError> {
    let began = shared.env.clock.now();
    if let Some(wanted) = wanted
        && let Some(now) = sandboxes::find(&shared.store, &sandbox.sandbox_id).await?
        && now.work_time > wanted
        // A time in the future was written before the clock was set back.
        && now.work_time <= began
    {
        return Ok(());
    }
    let (head, notices) = bundle(shared, sandbox).await?;
    let sandbox =
        sandboxes::find(&shared.store, &sandbox.sandbox_id).await?.unwrap_or_else(|| sandbox.clone());
    let mut set: Set =
        vec![("work_time", began.into()), ("work_not_saved", condition_value(&Condition::default()))];
    if !is_known(&sandbox, &head, &notices) || (wanted.is_none() && is_refused(shared, &sandbox).await) {
        let file = shared.bundles.join(format!("{}.bundle", sandbox.sandbox_id));
        let size = if head == sandbox.base_commit {
            0
        } else {
            shared
                .client(&sandbox)?
                .sandbox()
                .take_file(BUNDLE, &file, shared.config.max_bundle_bytes)
                .await?
        };
        let header = header(&sandbox, &head, size, &notices, began);
        let imported = import(shared, header, &file).await;
        if size > 0
            && let Err(e) = tokio::fs::remove_file(&file).await
        {
            tracing::warn!(file = %file.display(), error = %e, "a bundle was left behind");
        }
        imported?;
        set.push(("work_head", head.into()));
        set.push(("work_sent_time", began.into()));
        set.push(("work_notices", notices.encode_to_vec().into()));
    }
    let mut ws = WriteSet::new();
    sandboxes::update_work(&mut ws, &sandbox.organization_id, sandbox.sandbox_id.as_str(), set);
    shared.store.commit(ws).await.map_err(Error::from)?;
    Ok(())
}

/// Whether the repo service has this work with these notices already.
fn is_known(sandbox: &Sandbox, head: &str, notices: &WorkNotices) -> bool {
    let sent = sandbox.work_sent_time != Timestamp::default();
    sent && head == sandbox.work_head && *notices == sandbox.work_notices
}

/// Whether the repo service has refused the newest bundle after it had received it. Without an answer it has not, so
/// that a sandbox whose work is saved does not wait for the repo service.
async fn is_refused(shared: &Shared, sandbox: &Sandbox) -> bool {
    let request = GetWorkRequest { task_id: sandbox.task_id.clone() };
    let mut repo = shared.repo.clone();
    let answer = tokio::select! {
        biased;
        answer = repo.get_work(request) => answer.map(tonic::Response::into_inner),
        () = shared.env.clock.sleep(LOOK_UP) => Err(tonic::Status::deadline_exceeded("no answer in time")),
    };
    if let Err(status) = &answer {
        tracing::warn!(sandbox = %sandbox.sandbox_id, %status, "it is unknown whether the work was refused");
    }
    lacks(answer)
}

/// Why the repo service refused the last bundle of a sandbox too, which then is not saved; waits a few seconds for the
/// import. One that takes longer goes on without the sandbox, and the task shows how it ends.
pub async fn refused_in_the_end(shared: &Shared, sandbox: &Sandbox) -> Option<String> {
    let until = shared.env.clock.now().plus(LOOK_UP);
    let mut pause = Duration::from_millis(20);
    loop {
        let request = GetWorkRequest { task_id: sandbox.task_id.clone() };
        let mut repo = shared.repo.clone();
        let answer = tokio::select! {
            biased;
            answer = repo.get_work(request) => answer.ok()?.into_inner(),
            () = shared.env.clock.sleep(LOOK_UP) => return None,
        };
        let work = answer.work?;
        match work.state() {
            WorkState::Error => return Some(refusal(&work)),
            WorkState::Importing if shared.env.clock.now() < until => {
                shared.env.clock.sleep(pause).await;
                pause *= 2;
            }
            _ => return None,
        }
    }
}

fn refusal(work: &Work) -> String {
    let why = work.condition.clone().unwrap_or_default();
    format!("the bundle was refused: {} ({})", why.message, why.reason)
}

/// Whether the answer says that the newest bundle was not imported and will not be.
fn lacks(answer: Result<GetWorkResponse, tonic::Status>) -> bool {
    match answer {
        Ok(answer) => answer.work.is_none_or(|work| work.state() == WorkState::Error),
        Err(status) => status.code() == tonic::Code::NotFound,
    }
}

/// Shows in the sandbox why its newest work is not saved. The next hand-over that succeeds clears it.
pub fn project(flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    let (Some(organization), Some(Transition::Failed | Transition::Retrying)) =
        (&flow.organization_id, &flow.transition)
    else {
        return ws;
    };
    let mut condition = super::condition(&WORK, flow);
    condition.waiting_on.clear();
    condition.attempt_time = Some(flow.status_time.to_proto());
    if flow.reason == "HANDOVER_TOO_LARGE" {
        "ask the agent to remove large files that it does not need, or to copy them to where they are kept; the next turn saves \
         the work again"
            .clone_into(&mut condition.next_action);
    } else if flow.transition == Some(Transition::Failed) {
        "the next turn saves the work again; check the sandbox if that fails too"
            .clone_into(&mut condition.next_action);
    }
    let set = vec![("work_not_saved", condition_value(&condition))];
    sandboxes::update_work(&mut ws, organization, &flow.subject_id, set);
    ws
}

/// Runs the bundle script in the sandbox and returns the head commit with its notices.
async fn bundle(shared: &Shared, sandbox: &Sandbox) -> Result<(String, WorkNotices), StageError> {
    let (client, facts) = (shared.client(sandbox)?, facts_of(sandbox)?);
    let invalid = |e: foundry_git::GitError| {
        ProviderError::new(Class::Provider, e.reason(), e.message().to_owned()).caused_by(e)
    };
    let parameters = WorkBundle {
        tree: facts.workspace.clone(),
        base: CommitId::parse(&sandbox.base_commit).map_err(invalid)?,
        work: WorkName::parse(&sandbox.task_id).map_err(invalid)?,
        bundle: facts.home.join(BUNDLE),
        // A fixed time, so that the same tree always gives the same commit.
        time: Timestamp::from_micros(sandbox.create_time.as_micros()),
        max_bytes: shared.config.max_bundle_bytes,
    };
    let spec = ExecSpec {
        argv: ["sh", "-c", WORK_BUNDLE_SCRIPT].map(str::to_owned).to_vec(),
        env: parameters.env().into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        limit: SCRIPT,
        max_output: 64 << 10,
        ..ExecSpec::default()
    };
    let output = client.exec(&spec).await?;
    if output.timed_out {
        let text = format!("bundling the work took longer than {} s", SCRIPT.as_secs());
        return Err(ProviderError::new(Class::Timeout, "WORK_BUNDLE_TIMEOUT", text).retryable().into());
    }
    let said = crate::domain::tail(output.stderr.trim(), 500).0;
    match output.exit_code.map(WorkBundleExit::from_code) {
        Some(WorkBundleExit::Done) => {
            let output = WorkBundleOutput::parse(&output.stdout).map_err(invalid)?;
            Ok((output.head.to_string(), to_proto(output.notices)))
        }
        Some(WorkBundleExit::Failed) | None => {
            let text = format!("the work could not be bundled: {said}");
            Err(ProviderError::new(Class::Provider, "WORK_BUNDLE_FAILED", text).retryable().into())
        }
        Some(_) => {
            let text = format!("the work cannot be bundled: {said}");
            Err(ProviderError::new(Class::Provider, "WORK_BUNDLE_REFUSED", text).into())
        }
    }
}

fn to_proto(notices: Vec<Notice>) -> WorkNotices {
    let shown = |n: Notice| WorkNotice {
        kind: kind_to_proto(n.kind).into(),
        path: n.path,
        branch: n.branch,
        count: n.count,
        detail: n.detail,
    };
    WorkNotices { notices: notices.into_iter().map(shown).collect() }
}

fn kind_to_proto(kind: NoticeKind) -> WorkNoticeKind {
    match kind {
        NoticeKind::LinkedWorktree => WorkNoticeKind::LinkedWorktree,
        NoticeKind::SubmoduleAbsent => WorkNoticeKind::SubmoduleAbsent,
        NoticeKind::SubmoduleChanged => WorkNoticeKind::SubmoduleChanged,
        NoticeKind::OtherBranch => WorkNoticeKind::OtherBranch,
        NoticeKind::Stash => WorkNoticeKind::Stash,
        NoticeKind::Unreadable => WorkNoticeKind::Unreadable,
        NoticeKind::TooLarge => WorkNoticeKind::TooLarge,
        NoticeKind::LargeIgnored => WorkNoticeKind::LargeIgnored,
        NoticeKind::OverTotal => WorkNoticeKind::OverTotal,
        NoticeKind::IgnoredByWork => WorkNoticeKind::IgnoredByWork,
        NoticeKind::LfsObjects => WorkNoticeKind::LfsObjects,
        NoticeKind::LfsPointers => WorkNoticeKind::LfsPointers,
        NoticeKind::Operation => WorkNoticeKind::Operation,
        NoticeKind::RepositoryLost => WorkNoticeKind::RepositoryLost,
        NoticeKind::NestedRepository => WorkNoticeKind::NestedRepository,
        NoticeKind::HistoryRewritten => WorkNoticeKind::HistoryRewritten,
        NoticeKind::HistoryLeftOut => WorkNoticeKind::HistoryLeftOut,
        NoticeKind::ManyFiles => WorkNoticeKind::ManyFiles,
        NoticeKind::LineEndings => WorkNoticeKind::LineEndings,
        NoticeKind::More => WorkNoticeKind::More,
    }
}

fn header(
    sandbox: &Sandbox,
    head: &str,
    size: u64,
    notices: &WorkNotices,
    began: Timestamp,
) -> ImportWorkHeader {
    ImportWorkHeader {
        organization_id: sandbox.organization_id.to_string(),
        task_id: sandbox.task_id.clone(),
        repository_id: sandbox.repository_id.clone(),
        base_commit: sandbox.base_commit.clone(),
        head_commit: head.to_owned(),
        bundle_size: i64::try_from(size).unwrap_or(i64::MAX),
        request_id: format!("{}/{head}", sandbox.sandbox_id),
        branch: sandbox.branch.clone(),
        existing_branch: sandbox.existing_branch,
        notices: notices.notices.clone(),
        hand_over_time: Some(began.to_proto()),
    }
}

async fn import(shared: &Shared, header: ImportWorkHeader, file: &Path) -> Result<(), StageError> {
    let size = header.bundle_size;
    let first = ImportWorkRequest { part: Some(Part::Header(header)) };
    let bundle = match size {
        0 => None,
        _ => Some(tokio::fs::File::open(file).await.map_err(|e| ProviderError::io("reading a bundle", e))?),
    };
    let broken = Arc::new(std::sync::Mutex::new(None));
    let failure = Arc::clone(&broken);
    let chunks = futures::stream::unfold(bundle, move |file| {
        let failure = Arc::clone(&failure);
        async move {
            let mut file = file?;
            let mut chunk = Vec::with_capacity(CHUNK);
            match (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await {
                Ok(1..) => {
                    Some((ImportWorkRequest { part: Some(Part::Chunk(Bytes::from(chunk))) }, Some(file)))
                }
                Ok(0) => None,
                // The receiver refuses an incomplete bundle.
                Err(e) => {
                    *foundry_core::lock(&failure) = Some(e);
                    None
                }
            }
        }
    });
    let parts = futures::StreamExt::chain(futures::stream::iter([first]), chunks);
    match shared.repo.clone().import_work(parts).await {
        Ok(_) => Ok(()),
        Err(status) => {
            if let Some(e) = foundry_core::lock(&broken).take() {
                return Err(ProviderError::io("reading a bundle", e).retryable().into());
            }
            let reason = foundry_service::reason_of(&status);
            let message = format!("the repo service: {}", status.message());
            Err(match status.code() {
                tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::FailedPrecondition => {
                    Outcome::fail(reason, message).of_class("provider").into()
                }
                _ => Outcome::retry(reason, message).of_class("provider").into(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_flow::signal;

    use super::*;
    use crate::testing::Fixture;
    use crate::testing::agent::FakeAgent;

    const HEAD: &str = "00000000000000000000000000000000000000aa";

    /// A ready sandbox whose work was handed over as far as `HEAD`, with an agent that has done nothing since.
    async fn handed_over(f: &Fixture) -> (FakeAgent, Session) {
        let agent = FakeAgent::serve(f).await;
        agent.says(0, HEAD);
        let made = f.ensure().await;
        f.run().await;
        let session = f.made_ready(&f.session(&made).await).await;
        f.run().await;
        set(
            f,
            &session,
            vec![("work_head", HEAD.into()), ("work_sent_time", Timestamp::from_micros(1).into())],
        )
        .await;
        (agent, session)
    }

    async fn set(f: &Fixture, session: &Session, values: crate::store::Set) {
        let sandbox = f.sandbox(session.sandbox_id.as_str()).await;
        let mut ws = WriteSet::new();
        sandboxes::update(&mut ws, &sandbox, values);
        signal(&mut ws, &f.env.env, &ready_key(&session.sandbox_id));
        f.shared.store.commit(ws).await.unwrap();
    }

    async fn ask(f: &Fixture, session: &Session) {
        let mut ws = WriteSet::new();
        enqueue_for(&mut ws, &f.shared, session, None).unwrap();
        f.shared.store.commit(ws).await.unwrap();
    }

    async fn work_time(f: &Fixture, session: &Session) -> Timestamp {
        f.sandbox(session.sandbox_id.as_str()).await.work_time
    }

    async fn waiting(f: &Fixture, session: &Session) -> usize {
        unfinished(&f.shared.store, &WORK, session.sandbox_id.as_str()).await.unwrap().len()
    }

    #[tokio::test]
    async fn work_of_a_sandbox_that_died_is_handed_over_once_it_is_ready_again() {
        let f = Fixture::new().await;
        let (agent, session) = handed_over(&f).await;
        set(&f, &session, vec![("state", SandboxState::Vanished.as_str().into())]).await;
        ask(&f, &session).await;
        f.run().await;
        assert_eq!((agent.commands(), waiting(&f, &session).await), (0, 1));
        set(&f, &session, vec![("state", SandboxState::Ready.as_str().into())]).await;
        f.run().await;
        assert_eq!((agent.commands(), waiting(&f, &session).await), (1, 0));
        assert_eq!(work_time(&f, &session).await, f.env.env.clock.now());
    }

    #[tokio::test]
    async fn one_hand_over_is_enough_for_all_that_asked_before_it_began() {
        let f = Fixture::new().await;
        let (agent, session) = handed_over(&f).await;
        ask(&f, &session).await;
        ask(&f, &session).await;
        f.env.clock.advance(Duration::from_secs(1));
        f.run().await;
        assert_eq!((agent.commands(), waiting(&f, &session).await), (1, 0));
        // A clock that was set back must not let all later ones count as done.
        let ahead = f.env.env.clock.now().plus(Duration::from_secs(3600));
        set(&f, &session, vec![("work_time", ahead.into())]).await;
        ask(&f, &session).await;
        f.run().await;
        assert_eq!(agent.commands(), 2);
    }

    #[tokio::test]
    async fn a_hand_over_that_fails_is_tried_again_without_end_and_leaves_its_work_to_a_newer_one() {
        let f = Fixture::new().await;
        let (agent, session) = handed_over(&f).await;
        agent.says(70, "");
        ask(&f, &session).await;
        for _ in 0..20 {
            f.run().await;
            f.env.clock.advance(Duration::from_secs(60));
        }
        assert_eq!(waiting(&f, &session).await, 1, "given up");
        ask(&f, &session).await;
        f.run().await;
        assert_eq!(waiting(&f, &session).await, 1, "they pile up");
        agent.says(0, HEAD);
        f.env.clock.advance(Duration::from_secs(60));
        f.run().await;
        assert_eq!(waiting(&f, &session).await, 0);
        assert_ne!(work_time(&f, &session).await, Timestamp::default());
    }

    #[tokio::test]
    async fn a_hand_over_that_fails_is_shown_in_the_sandbox_until_one_succeeds() {
        let f = Fixture::new().await;
        let (agent, session) = handed_over(&f).await;
        let not_saved = async || f.sandbox(session.sandbox_id.as_str()).await.to_proto().work_not_saved;
        assert_eq!(not_saved().await, None);
        agent.says(70, "");
        ask(&f, &session).await;
        f.run().await;
        let why = not_saved().await.unwrap();
        assert_eq!((why.reason.as_str(), why.next_attempt_time.is_some()), ("WORK_BUNDLE_FAILED", true));
        agent.says(66, "");
        f.env.clock.advance(Duration::from_secs(60));
        f.run().await;
        let why = not_saved().await.unwrap();
        assert_eq!((why.reason.as_str(), why.waiting_on.as_str()), ("WORK_BUNDLE_REFUSED", ""));
        assert!(!why.next_action.is_empty());
        agent.says(0, HEAD);
        ask(&f, &session).await;
        f.run().await;
        assert_eq!(not_saved().await, None);
    }

    #[tokio::test]
    async fn refused_work_is_sent_once_more_when_its_sandbox_is_destroyed() {
        for refused in [false, true] {
            let f = Fixture::new().await;
            let (_agent, session) = handed_over(&f).await;
            set(&f, &session, vec![("base_commit", HEAD.into())]).await;
            *f.repo.refused.lock().unwrap() = refused;
            ask(&f, &session).await;
            f.run().await;
            assert_eq!(f.repo.imports().len(), 0, "as long as nothing has changed");
            let id = session.sandbox_id.to_string();
            let request = foundry_proto::provisioner::v1::DestroySandboxRequest {
                sandbox_id: id.clone(),
                ..Default::default()
            };
            crate::ops::destroy_sandbox::destroy_sandbox(&f.shared, &f.task, request).await.unwrap();
            f.run().await;
            let gone = f.sandbox(&id).await;
            assert_eq!(gone.state, SandboxState::Destroyed);
            assert_eq!(f.repo.imports().len(), usize::from(refused));
            // What is refused once more is not saved.
            assert_eq!(gone.condition.reason, if refused { "WORK_NOT_SAVED" } else { "" });
            assert_eq!(gone.condition.message.contains("the bundle was refused"), refused);
        }
    }

    #[test]
    fn the_words_name_the_limit_of_the_script() {
        assert_eq!(i64::try_from(foundry_git::MAX_WORK_FILE), Ok(foundry_service::MAX_FILE));
    }

    #[test]
    fn work_is_lacking_if_its_bundle_was_refused_or_never_came() {
        use foundry_proto::repo::v1::Work;

        let in_state = |state: WorkState| {
            let work = Work { state: state.into(), ..Work::default() };
            Ok(GetWorkResponse { work: Some(work) })
        };
        assert!(lacks(in_state(WorkState::Error)));
        assert!(lacks(Err(tonic::Status::not_found("no such work"))));
        assert!(!lacks(in_state(WorkState::Ready)));
        assert!(!lacks(in_state(WorkState::Importing)));
        assert!(!lacks(Err(tonic::Status::unavailable("away"))));
    }

    #[tokio::test]
    async fn the_same_work_is_sent_again_when_its_notices_change_and_not_otherwise() {
        let f = Fixture::new().await;
        let (_, session) = handed_over(&f).await;
        let sandbox = f.sandbox(session.sandbox_id.as_str()).await;
        let stash = || {
            to_proto(WorkBundleOutput::parse(&format!("{HEAD}\nstash\t2\t\t\t\nrubbish")).unwrap().notices)
        };
        assert!(is_known(&sandbox, HEAD, &WorkNotices::default()));
        assert!(!is_known(&sandbox, &"1".repeat(40), &WorkNotices::default()));
        assert!(!is_known(&sandbox, HEAD, &stash()));
        assert!(is_known(&Sandbox { work_notices: stash(), ..sandbox.clone() }, HEAD, &stash()));
        // An older version did not send when it began.
        let old = Sandbox { work_sent_time: Timestamp::default(), ..sandbox };
        assert!(!is_known(&old, HEAD, &WorkNotices::default()));
    }
}
