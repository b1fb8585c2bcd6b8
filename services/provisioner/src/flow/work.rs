//! The work job: what the agent changed goes to the repo service. The sandbox itself commits its tree
//! and makes the bundle; the host never runs git in a tree an agent can write.
//!
//! | stage     | does                                                                | limit |
//! |-----------|---------------------------------------------------------------------|-------|
//! | hand_over | bundle script in the sandbox, copy out, ImportWork at the repo service | 5 min |

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use foundry_core::{Error, SandboxId, Timestamp};
use foundry_flow::{Binding, Flow, NewFlow, Outcome, Stage, StageContext, StageSpec, enqueue};
use foundry_git::{CommitId, WORK_BUNDLE_SCRIPT, WorkBundle, WorkBundleExit, WorkName};
use foundry_proto::repo::v1::{ImportWorkHeader, ImportWorkRequest, import_work_request::Part};
use foundry_runtime_client::ExecSpec;
use foundry_sandbox::{Class, ProviderError};
use foundry_store::WriteSet;
use tokio::io::AsyncReadExt as _;

use super::sandbox::reason_of;
use super::{Halt, PATIENT, outcome};
use crate::domain::{Sandbox, SandboxState, Session};
use crate::shared::{Shared, facts_of};
use crate::store::{sandboxes, sandboxes::SANDBOXES};

/// Hands over work.
pub static WORK: Flow =
    Flow::new("work", &[StageSpec::new("hand_over", Duration::from_secs(300), PATIENT)]).concurrency(8);

/// How long the end of a tool call is waited after, for more of them.
pub const DEBOUNCE: Duration = Duration::from_secs(2);
/// Largest bundle.
const MAX_BUNDLE: u64 = 256 << 20;
const CHUNK: usize = 256 << 10;
/// How long the script may run.
const SCRIPT: Duration = Duration::from_secs(120);
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
        flow = flow.not_before(shared.env.clock.now().plus(after));
    }
    enqueue(ws, flow);
    Ok(())
}

/// The job with its code.
pub fn binding(shared: &Arc<Shared>) -> Binding {
    Binding::job(&WORK, HandOver(Arc::clone(shared)))
}

struct HandOver(Arc<Shared>);

#[async_trait]
impl Stage for HandOver {
    async fn run(&self, ctx: &StageContext) -> Outcome {
        let result = async {
            let id: SandboxId = ctx.subject_id().parse()?;
            let Some(sandbox) = sandboxes::find(&self.0.store, &id).await? else {
                return Ok(Outcome::done());
            };
            // Destroying saves the work itself, and a hand-over that began later had all of this one.
            let late = sandbox.work_time > ctx.flow().started_time;
            if sandbox.state != SandboxState::Ready || late {
                return Ok(Outcome::done());
            }
            hand_over(&self.0, &sandbox).await?;
            Ok(Outcome::done())
        };
        outcome(result.await)
    }
}

/// Hands over what is in a sandbox now. Two of these for one sandbox wait for each other.
///
/// # Errors
/// Those of the runtime, the script and the repo service.
pub async fn hand_over(shared: &Shared, sandbox: &Sandbox) -> Result<(), Halt> {
    let _turn = shared.work_locks.of(&sandbox.sandbox_id).await;
    let began = shared.env.clock.now();
    let head = bundle(shared, sandbox).await?;
    let sandbox =
        sandboxes::find(&shared.store, &sandbox.sandbox_id).await?.unwrap_or_else(|| sandbox.clone());
    if head != sandbox.work_head {
        let file = shared.bundles.join(format!("{}.bundle", sandbox.sandbox_id));
        let size = if head == sandbox.base_commit {
            0
        } else {
            shared.client(&sandbox)?.sandbox().take_file(BUNDLE, &file, MAX_BUNDLE).await?
        };
        let imported = import(shared, &sandbox, &head, &file, size).await;
        if size > 0
            && let Err(e) = tokio::fs::remove_file(&file).await
        {
            tracing::warn!(file = %file.display(), error = %e, "a bundle was left behind");
        }
        imported?;
    }
    // Not shown anywhere, so no new revision.
    let mut ws = WriteSet::new();
    ws.update(
        &SANDBOXES,
        &[(&sandbox.sandbox_id).into()],
        &[("work_time", began.into()), ("work_head", head.into())],
        &[],
    );
    shared.store.commit(ws).await.map_err(Error::from)?;
    Ok(())
}

/// Runs the script inside and returns the head commit.
async fn bundle(shared: &Shared, sandbox: &Sandbox) -> Result<String, Halt> {
    let (client, facts) = (shared.client(sandbox)?, facts_of(sandbox)?);
    let invalid = |e: foundry_git::GitError| {
        ProviderError::new(Class::Provider, e.reason(), e.message().to_owned()).caused_by(e)
    };
    let parameters = WorkBundle {
        tree: facts.workspace.clone(),
        base: CommitId::parse(&sandbox.base_commit).map_err(invalid)?,
        work: WorkName::parse(&sandbox.task_id).map_err(invalid)?,
        bundle: facts.home.join(BUNDLE),
        // The same tree gives the same commit at any time.
        time: Timestamp::from_micros(sandbox.create_time.as_micros()),
    };
    let spec = ExecSpec {
        argv: ["sh", "-c", WORK_BUNDLE_SCRIPT].map(str::to_owned).to_vec(),
        env: parameters.env().into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        limit: SCRIPT,
        max_output: 16 << 10,
        ..ExecSpec::default()
    };
    let output = client.exec(&spec).await?;
    if output.timed_out {
        let text = format!("the work was not bundled within {} s", SCRIPT.as_secs());
        return Err(ProviderError::new(Class::Timeout, "WORK_BUNDLE_TIMEOUT", text).retryable().into());
    }
    let said = crate::domain::tail(output.stderr.trim(), 500).0;
    match output.exit_code.map(WorkBundleExit::from_code) {
        Some(WorkBundleExit::Done) => {
            let head = CommitId::parse(output.stdout.trim()).map_err(invalid)?;
            Ok(head.to_string())
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

async fn import(shared: &Shared, sandbox: &Sandbox, head: &str, file: &Path, size: u64) -> Result<(), Halt> {
    let header = ImportWorkHeader {
        organization_id: sandbox.organization_id.to_string(),
        task_id: sandbox.task_id.clone(),
        repository_id: sandbox.repository_id.clone(),
        base_commit: sandbox.base_commit.clone(),
        head_commit: head.to_owned(),
        bundle_size: i64::try_from(size).unwrap_or(i64::MAX),
        request_id: format!("{}/{head}", sandbox.sandbox_id),
    };
    let first = ImportWorkRequest { part: Some(Part::Header(header)) };
    let bundle = match size {
        0 => None,
        _ => Some(tokio::fs::File::open(file).await.map_err(|e| ProviderError::io("reading a bundle", e))?),
    };
    let chunks = futures::stream::unfold(bundle, |file| async move {
        let mut file = file?;
        let mut chunk = Vec::with_capacity(CHUNK);
        match (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await {
            Ok(1..) => Some((ImportWorkRequest { part: Some(Part::Chunk(Bytes::from(chunk))) }, Some(file))),
            // A file that cannot be read ends early; the receiver misses bytes and refuses.
            Ok(0) | Err(_) => None,
        }
    });
    let parts = futures::StreamExt::chain(futures::stream::iter([first]), chunks);
    match shared.repo.clone().import_work(parts).await {
        Ok(_) => Ok(()),
        Err(status) => {
            let reason = reason_of(&status);
            let message = format!("provider: the repo service: {}", status.message());
            Err(match status.code() {
                tonic::Code::InvalidArgument | tonic::Code::NotFound | tonic::Code::FailedPrecondition => {
                    Outcome::fail(reason, message).into()
                }
                _ => Outcome::retry(reason, message).into(),
            })
        }
    }
}
