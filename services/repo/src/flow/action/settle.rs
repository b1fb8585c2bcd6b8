//! Finds out whether a push has arrived whose job has ended without knowing, and records it.

use std::collections::HashMap;
use std::time::Duration;

use foundry_core::Result;
use foundry_flow::{Flow, Outcome, Stage, StageContext, stage};
use foundry_git::CommitId;
use foundry_proto::repo::v1::JobBranchState;
use foundry_store::{Scope, Value, WriteSet};

use super::{Failed, Loaded, MAY_HAVE, failed, load, push, record, stopped};
use crate::broker;
use crate::context::Context;
use crate::flow::pushing::{ASK, ASKED};
use crate::store::jobs;

/// Key and subject are the job's id.
pub static SETTLE: Flow<Context> = Flow::new(
    "repository_action_outcome",
    &[Stage::new("asking", Duration::from_secs(15 * 60), ASK, |cx, flow| stage(settle(cx, flow)))],
)
.concurrency(2);

async fn settle(cx: &Context, flow: &StageContext) -> Result<Outcome> {
    let mut loaded = match load(cx, flow).await? {
        Ok(loaded) => loaded,
        Err(_) => return Ok(Outcome::done()),
    };
    let todo = loaded.job.branches.iter().filter(|b| b.state() == JobBranchState::Pushing).count();
    let before = loaded.job.branches.clone();
    let mut ws = WriteSet::new();
    if todo > 0 {
        let remote = broker::remote(cx, &loaded.repository).await?;
        let asked = tokio::select! {
            asked = asked(&mut loaded, &remote) => asked,
            () = flow.cancellation().cancelled() => return Ok(stopped()),
        };
        let all = match asked {
            Ok(all) => all,
            Err(e) => {
                // A credential that was withdrawn may be replaced.
                return Ok(match failed(cx, &remote, e, WriteSet::new()).await? {
                    Outcome::Fail { reason, message, .. } => Outcome::retry(reason, message),
                    other => other,
                });
            }
        };
        if !all && flow.attempt() < ASKED {
            return Ok(Outcome::retry("PUSH_NOT_ARRIVED", "the remote does not have the new commits yet"));
        }
        ws = loaded.recorded();
        push::audited(&mut ws, &loaded, &flow.flow().user_id, &before);
        remote.learned(cx, &mut ws, Ok(())).await?;
    }
    let pushed = loaded.job.branches.iter().filter(|b| b.state() == JobBranchState::Pushed).count();
    if pushed > 0 {
        record::arrived(cx, flow, &loaded, &mut ws).await?;
        explained(&loaded, &mut ws, pushed);
    }
    Ok(Outcome::done().recording(ws))
}

/// Marks what the remote has, and returns whether that is everything.
async fn asked(loaded: &mut Loaded, remote: &broker::Remote) -> Result<bool, Failed> {
    loaded.mirror.fetch(&remote.url).await?;
    let listed = loaded.mirror.branches().await?.items;
    let at: HashMap<String, CommitId> = listed.into_iter().map(|b| (b.name.to_string(), b.commit)).collect();
    let todo = push::intents(&loaded.job.branches)?;
    let found: Vec<Option<CommitId>> =
        todo.iter().map(|(_, push)| at.get(push.branch.as_str()).cloned()).collect();
    let only_ours = loaded.makes_commits();
    push::have_arrived(&loaded.mirror, &mut loaded.job.branches, (&todo, only_ours), &found).await
}

/// What the job says of its end is true from now on.
fn explained(loaded: &Loaded, ws: &mut WriteSet, pushed: usize) {
    let job = &loaded.job;
    let pushed = if pushed == 1 { "1 branch".to_owned() } else { format!("{pushed} branches") };
    let mut condition = job.condition.clone();
    if !condition.message.contains(MAY_HAVE) {
        return;
    }
    condition.message =
        condition.message.replace(MAY_HAVE, &format!("; the remote has the new commits of {pushed}"));
    "undo the job to bring the branches back".clone_into(&mut condition.next_action);
    let rev = ws.scope(Scope::organization(&job.organization_id));
    let end = job.end_time.map_or(Value::Null, Value::from);
    jobs::set_state(ws, rev, job.job_id.as_str(), job.state, &condition, end);
}
