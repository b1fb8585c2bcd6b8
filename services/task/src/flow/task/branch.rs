//! Looks for the branch of a task that is to work on one which was not known here when it was created.

use std::time::Duration;

use foundry_core::{Result, TaskId};
use foundry_flow::{Outcome, StageContext};
use foundry_proto::repo::v1::{GetJobRequest, Job, JobKind, JobState, RunRepositoryActionRequest};
use serde::{Deserialize, Serialize};

use super::super::{call, gone, id, refused};
use super::load;
use crate::context::Context;
use crate::domain::task::Lifecycle;

/// Shortest and longest pause before the repo service is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The job of the repo service that looks for the branch.
#[derive(Serialize, Deserialize)]
struct Sought {
    job_id: String,
}

/// Has the repo service look for the branch at the remote by a job, which outlives restarts of both services. Done when it
/// is there; fails for the reason of the job. A retry of the task is another flow, and so another job.
pub(super) async fn pending(cx: &Context, ctx: &StageContext) -> Result<Outcome> {
    let task: TaskId = id(&ctx.flow().subject_id)?;
    let Some(aggregate) = load(cx, ctx, &task).await? else { return Ok(gone()) };
    if aggregate.task.lifecycle != Lifecycle::Active {
        return Ok(Outcome::fail("TASK_ENDED", "the task has been ended"));
    }
    let view = &aggregate.task.view;
    if !view.existing_branch {
        return Ok(Outcome::done());
    }
    let answer = match ctx.state::<Sought>() {
        Ok(Sought { job_id }) => {
            let request = GetJobRequest { job_id };
            call(&cx.env, cx.repo.clone().get_job(request)).await.map(|answer| answer.job)
        }
        Err(_) => {
            let request = RunRepositoryActionRequest {
                request_id: ctx.effect_name(),
                repository_id: view.repository_id.clone(),
                kind: JobKind::RegisterExistingBranch.into(),
                branch: view.branch.clone(),
                ..RunRepositoryActionRequest::default()
            };
            call(&cx.env, cx.repo.clone().run_repository_action(request)).await.map(|answer| answer.job)
        }
    };
    Ok(match answer {
        Ok(Some(job)) => outcome(cx, ctx, &view.branch, &job),
        Ok(None) => Outcome::retry("ANSWER_INCOMPLETE", "the repo service's response contains no job"),
        Err(e) if e.reason == "REPOSITORY_NOT_READY" => later(cx, ctx, e.message.clone()).because(e.reason),
        Err(e) => refused(e),
    })
}

fn outcome(cx: &Context, ctx: &StageContext, branch: &str, job: &Job) -> Outcome {
    let condition = job.condition.clone().unwrap_or_default();
    match job.state() {
        JobState::Done => Outcome::done(),
        JobState::Failed => Outcome::fail(condition.reason, condition.message),
        JobState::Cancelled => {
            Outcome::fail("CANCELLED", format!("the job that looked for the branch {branch} was cancelled"))
        }
        _ => {
            let text = format!("the branch {branch} is being looked for at the remote");
            let waits = match condition.reason.as_str() {
                "" | "WAITING" => later(cx, ctx, text),
                reason => later(cx, ctx, format!("{text}: {}", condition.message)).because(reason),
            };
            waits.with_state(&Sought { job_id: job.job_id.clone() })
        }
    }
}

/// Waits for a while: a quarter of the time that was waited so far.
fn later(cx: &Context, ctx: &StageContext, message: String) -> Outcome {
    let now = cx.env.clock.now();
    let pause = (now.since(ctx.flow().started_time) / 4).clamp(PAUSES.0, PAUSES.1);
    Outcome::wait(format!("branch/{}", ctx.flow().subject_id), message).until(now.plus(pause))
}
