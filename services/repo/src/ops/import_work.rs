//! Receives a bundle of the work of a task; its import follows in the background.

use std::path::{Path, PathBuf};

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, OrganizationId, Result, TaskId};
use foundry_flow::{NewFlow, Status};
use foundry_git::CommitId;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{
    ImportWorkHeader, ImportWorkRequest, ImportWorkResponse, import_work_request::Part,
};
use foundry_server::RequestContext;
use foundry_store::{Scope, WriteSet};
use futures::{Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;

use crate::context::Context;
use crate::domain::work::{State, Work};
use crate::flow::import;
use crate::store::works;

/// Largest chunk in bytes.
const MAX_CHUNK: usize = 256 << 10;

/// Keeps the bundle on disk, then writes the work's row and the import in one transaction.
///
/// # Errors
/// `INVALID_ARGUMENT` for a stream without header, of another size than announced, or over the limit; `NOT_FOUND` for
/// the repository. A stream that breaks off leaves nothing.
pub async fn import_work<S>(cx: &Context, caller: &Caller, parts: S) -> Result<ImportWorkResponse>
where
    S: Stream<Item = std::result::Result<ImportWorkRequest, tonic::Status>> + Send,
{
    let mut parts = std::pin::pin!(parts);
    let Some(Part::Header(header)) = next(&mut parts).await? else {
        return Err(Error::invalid_field("header", "must come first"));
    };
    let arrived = Arrival::check(cx, caller, header).await?;
    if arrived.unchanged {
        return record(cx, caller, &arrived, None).await;
    }
    let mut name = [0u8; 8];
    cx.env.random.fill(&mut name);
    let temporary = Temporary(cx.incoming.join(format!("{}.{}.tmp", arrived.task, hex::encode(name))));
    receive(&mut parts, &temporary.0, arrived.size).await?;
    record(cx, caller, &arrived, Some(temporary)).await
}

async fn next<S>(parts: &mut S) -> Result<Option<Part>>
where
    S: Stream<Item = std::result::Result<ImportWorkRequest, tonic::Status>> + Unpin,
{
    match parts.next().await {
        None => Ok(None),
        Some(Ok(request)) => Ok(request.part),
        Some(Err(status)) => {
            Err(Error::new(foundry_core::Code::Aborted, "STREAM_BROKEN", "the bundle did not arrive whole")
                .caused_by(status))
        }
    }
}

/// A file that is removed unless it is kept.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Already renamed, or swept at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A checked header.
struct Arrival {
    organization: OrganizationId,
    task: TaskId,
    repository: foundry_core::RepositoryId,
    base: String,
    size: u64,
    unchanged: bool,
}

impl Arrival {
    async fn check(cx: &Context, caller: &Caller, header: ImportWorkHeader) -> Result<Self> {
        let organization: OrganizationId = header.organization_id.parse()?;
        let task: TaskId = header.task_id.parse()?;
        let repository = cx.repository(caller, &header.repository_id, Role::Viewer).await?;
        if repository.organization_id != organization {
            return Err(Error::not_found("repository", repository.repository_id.as_str()));
        }
        let commit = |field: &str, text: &str| {
            CommitId::parse(text).map_err(|e| Error::invalid_field(field, e.message()))
        };
        let (base, head) = (
            commit("header.base_commit", &header.base_commit)?,
            commit("header.head_commit", &header.head_commit)?,
        );
        let size = u64::try_from(header.bundle_size).unwrap_or(u64::MAX);
        if size > cx.max_bundle_bytes {
            return Err(Error::quota("bundle size in bytes", task.as_str(), size, cx.max_bundle_bytes));
        }
        Ok(Self {
            organization,
            task,
            repository: repository.repository_id,
            unchanged: base == head,
            base: base.to_string(),
            size,
        })
    }
}

async fn receive<S>(parts: &mut S, path: &Path, size: u64) -> Result<()>
where
    S: Stream<Item = std::result::Result<ImportWorkRequest, tonic::Status>> + Unpin,
{
    let mut file = tokio::fs::File::create(path).await.map_err(Error::internal)?;
    let mut received: u64 = 0;
    while let Some(part) = next(parts).await? {
        let Part::Chunk(chunk) = part else {
            return Err(Error::invalid_field("header", "must come only once"));
        };
        received += chunk.len() as u64;
        if chunk.len() > MAX_CHUNK || received > size {
            return Err(Error::invalid_field(
                "chunk",
                "is larger than 256 KiB, or the bundle than announced",
            ));
        }
        file.write_all(&chunk).await.map_err(Error::internal)?;
    }
    if received != size {
        return Err(Error::invalid_field("chunk", format!("{received} bytes came instead of {size}")));
    }
    file.sync_all().await.map_err(Error::internal)
}

async fn record(
    cx: &Context,
    caller: &Caller,
    arrived: &Arrival,
    bundle: Option<Temporary>,
) -> Result<ImportWorkResponse> {
    let scope = Scope::organization(&arrived.organization);
    let (committed, work) = cx
        .store
        .retry_on_conflict(|| async {
            let found = works::find(&cx.store, &arrived.task).await?;
            let mut work = found.unwrap_or_else(|| new_work(arrived));
            if work.organization_id != arrived.organization || work.repository_id != arrived.repository {
                return Err(Error::not_found("task", arrived.task.as_str()));
            }
            work.base_commit.clone_from(&arrived.base);
            work.received += 1;
            let mut ws = WriteSet::new();
            let rev = ws.scope(scope.clone());
            let now = cx.env.clock.now();
            if let Some(file) = &bundle {
                // Named before the row tells of it: a crash in between leaves a file to sweep, never a row without one.
                let path = import::bundle_path(&cx.incoming, &arrived.task, work.received);
                tokio::fs::copy(&file.0, &path).await.map_err(Error::internal)?;
                tokio::fs::File::open(&path)
                    .await
                    .map_err(Error::internal)?
                    .sync_all()
                    .await
                    .map_err(Error::internal)?;
                work.state = State::Importing;
                work.condition = Condition {
                    waiting_on: "import".to_owned(),
                    since_time: Some(now.to_proto()),
                    ..Condition::default()
                };
                schedule(cx, caller, arrived, &mut ws).await?;
            } else {
                crate::store::changes::forget(&mut ws, &arrived.task, work.version);
                work.state = State::Ready;
                work.condition = Condition { since_time: Some(now.to_proto()), ..Condition::default() };
                work.head_commit.clone_from(&arrived.base);
                work.version = work.received;
                (work.files_changed, work.additions, work.deletions) = (0, 0, 0);
                work.import_time = Some(now);
            }
            works::save(&mut ws, rev, &work);
            Ok((ws, work))
        })
        .await?;
    Ok(ImportWorkResponse {
        work: Some(work.to_proto()),
        rev: committed.scope_rev(&scope).unwrap_or_default(),
    })
}

fn new_work(arrived: &Arrival) -> Work {
    Work {
        task_id: arrived.task.clone(),
        organization_id: arrived.organization.clone(),
        repository_id: arrived.repository.clone(),
        rev: 0,
        state: State::Importing,
        condition: Condition::default(),
        base_commit: arrived.base.clone(),
        head_commit: String::new(),
        version: 0,
        received: 0,
        files_changed: 0,
        additions: 0,
        deletions: 0,
        import_time: None,
    }
}

/// One import runs at a time; a running one goes on with the newer bundle by itself.
async fn schedule(cx: &Context, caller: &Caller, arrived: &Arrival, ws: &mut WriteSet) -> Result<()> {
    let flows = foundry_flow::list_by_subject(&cx.store, arrived.task.as_str()).await?;
    let ended = |s: Status| matches!(s, Status::Done | Status::Failed | Status::Cancelled);
    if flows.iter().any(|f| f.kind == import::IMPORT.kind && !ended(f.status)) {
        return Ok(());
    }
    let flow = NewFlow::new(
        &import::IMPORT,
        FlowId::generate(&cx.env),
        arrived.task.as_str(),
        arrived.task.as_str(),
    )
    .organization(&arrived.organization)
    .on_behalf_of(caller.actor())
    .traced(RequestContext::current_traceparent());
    foundry_flow::enqueue(ws, flow);
    Ok(())
}
