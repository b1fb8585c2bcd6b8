//! Follows a job to its end.

use foundry_core::{Env, Tasks};
use foundry_proto::repo::v1::{
    Job, JobBranchState, JobItem, JobKind, JobState, WatchJobsRequest, job_item::Item,
};
use foundry_watch::{Consumer, ConsumerConfig, Event, Op, State};

use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

/// Follows a job until it has ended, and reports on standard error how far it is. Ctrl-C only detaches: then the job is
/// returned as it is.
///
/// # Errors
/// When the watch is refused.
pub async fn job(gateway: &Gateway, begun: &Job) -> Result<Job, Failure> {
    let tasks = super::tasks();
    let mut watch = watch(gateway, &tasks, begun);
    let key = format!("job/{}", begun.job_id);
    let (mut state, mut printed, mut newest) = (State::default(), String::new(), begun.clone());
    let mut patience = super::Patience::default();
    let ended = async {
        loop {
            let event = watch.next().await?;
            patience.saw(&event, tokio::time::Instant::now())?;
            state.apply(&event);
            let Some(JobItem { item: Some(Item::Job(job)) }) = state.get(&key) else {
                // A snapshot may be older than the job, so only its deletion counts.
                if is_deleted(&event, &key) {
                    return Err(Failure::new("the repository was removed, and the job with it").next(
                        "look at the branch at the remote: a push that had begun may have reached it",
                    ));
                }
                continue;
            };
            newest = job.clone();
            let text = in_words(job);
            if text != printed && !text.is_empty() {
                eprintln!("{}", output::inert(&text));
                printed = text;
            }
            if matches!(job.state(), JobState::Done | JobState::Failed | JobState::Cancelled) {
                return Ok(());
            }
        }
    };
    let result: Result<(), Failure> = tokio::select! {
        ended = ended => ended,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\ndetached; the job goes on: `foundry repo jobs show {}`", begun.job_id);
            Ok(())
        }
    };
    result.map(|()| newest)
}

fn is_deleted(event: &Event<JobItem>, key: &str) -> bool {
    let Event::Delta { changes, .. } = event else { return false };
    changes.iter().any(|change| change.key == key && matches!(change.op, Op::Deleted))
}

/// What an unfinished job does; empty for one that has ended.
fn in_words(job: &Job) -> String {
    let condition = job.condition.clone().unwrap_or_default();
    match job.state() {
        JobState::Queued if condition.message.is_empty() => "queued".to_owned(),
        JobState::Queued => format!("queued: {}", condition.message),
        JobState::Running => match super::next_attempt(&condition) {
            Some(next) => format!("{} ({}); {next}", condition.message, condition.reason),
            None if condition.message.is_empty() => {
                let planned = job.branches.iter().any(|b| b.state() != JobBranchState::Pending);
                let is_plan = job.publish.as_ref().is_some_and(|publish| publish.plan_only)
                    || job.action.as_ref().is_some_and(|action| action.plan_only)
                    || matches!(job.kind(), JobKind::SyncRepo | JobKind::RegisterExistingBranch);
                if planned && !is_plan { "pushing" } else { "planning" }.to_owned()
            }
            None => condition.message,
        },
        _ => String::new(),
    }
}

fn watch(gateway: &Gateway, tasks: &Tasks, job: &Job) -> Consumer<JobItem> {
    let (client, of) = (gateway.repo(), (job.organization_id.clone(), job.repository_id.clone()));
    Consumer::start(tasks, Env::system(), ConsumerConfig::new("job"), move |options| {
        let (mut client, (organization_id, repository_id)) = (client.clone(), of.clone());
        async move {
            let request = WatchJobsRequest { options: Some(options), organization_id, repository_id };
            Ok(client.watch_jobs(request).await?.into_inner())
        }
    })
}
