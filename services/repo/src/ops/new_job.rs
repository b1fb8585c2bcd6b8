//! The writes that begin a job, for the ops that need one.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, JobId, Result, TaskId};
use foundry_flow::{Flow, NewFlow};
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::JobBranch;
use foundry_server::RequestContext;
use foundry_store::{Guard, Scope, WriteSet};

use crate::context::Context;
use crate::domain::job::{Job, Kind, State};
use crate::domain::repository::{Repository, State as RepositoryState};
use crate::flow::publish;
use crate::store::jobs;
use crate::store::repositories::REPOSITORIES;

/// Most unfinished jobs of a repository.
const MAX_OPEN: i64 = 100;

/// What a new job is about.
pub struct NewJob {
    pub kind: Kind,
    /// The task whose work is concerned, if there is one.
    pub task_id: Option<TaskId>,
    /// The branches that the job names.
    pub branches: Vec<JobBranch>,
    /// Further branches that it may change: jobs on them run one after another.
    pub others: Vec<String>,
}

/// Adds a job in state queued and its flow.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` for too many unfinished jobs.
pub async fn begin(
    cx: &Context,
    caller: &Caller,
    ws: &mut WriteSet,
    repository: &Repository,
    (new, flow): (NewJob, &'static Flow<Context>),
) -> Result<Job> {
    let open = jobs::open(&cx.store, &repository.repository_id).await?;
    if open >= MAX_OPEN {
        let (open, most) = (open.unsigned_abs(), MAX_OPEN.unsigned_abs());
        return Err(Error::quota("unfinished jobs", repository.repository_id.as_str(), open, most)
            .next_action("wait for jobs of the repository to end, or cancel some"));
    }
    let (job_id, flow_id) = (JobId::generate(&cx.env), FlowId::generate(&cx.env));
    let now = cx.env.clock.now();
    let job = Job {
        job_id: job_id.clone(),
        organization_id: repository.organization_id.clone(),
        repository_id: repository.repository_id.clone(),
        task_id: new.task_id,
        flow_id: flow_id.clone(),
        rev: 0,
        created_rev: 0,
        state: State::Queued,
        condition: Condition {
            waiting_on: "a worker".to_owned(),
            since_time: Some(now.to_proto()),
            ..Condition::default()
        },
        branches: new.branches,
        planned_from: String::new(),
        kind: new.kind,
        created_by: caller.actor(),
        create_time: now,
        end_time: None,
    };
    let rev = ws.scope(Scope::organization(&job.organization_id));
    // Its deletion may begin at the same moment, and would not see this job.
    let id = ("repository_id", job.repository_id.as_str().into());
    let deleting = ("state", RepositoryState::Deleting.as_str().into());
    ws.guard(Guard::exists(&REPOSITORIES, std::slice::from_ref(&id)));
    ws.guard(Guard::absent(&REPOSITORIES, &[id, deleting]));
    jobs::insert(ws, rev, &job, &new.others);
    for old in jobs::outdated(&cx.store, &job.repository_id).await? {
        jobs::remove(ws, rev, &old);
    }
    let flow = NewFlow::new(flow, flow_id, job_id.as_str(), job_id.as_str())
        .organization(&job.organization_id)
        .on_behalf_of(caller.actor())
        .traced(RequestContext::current_traceparent())
        .input(&publish::Input::of(&job))?;
    foundry_flow::enqueue(ws, flow);
    Ok(job)
}
