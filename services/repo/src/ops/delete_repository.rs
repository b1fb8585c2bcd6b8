//! Schedules the deletion of a repository and its mirror.

use foundry_authn::Caller;
use foundry_core::{Error, FlowId, Result};
use foundry_flow::NewFlow;
use foundry_proto::common::v1::{Condition, Role};
use foundry_proto::repo::v1::{DeleteRepositoryRequest, DeleteRepositoryResponse};
use foundry_server::RequestContext;
use foundry_service::{RequestKey, audit};
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::repository::{Repository, State};
use crate::flow::{delete, sync};
use crate::store::clones;
use crate::store::repositories;

/// How many of the tasks that use a repository a refusal names.
const NAMED: usize = 5;

/// Marks the repository, cancels its synchronization and schedules the deletion. Refused while a sandbox has a clone of
/// it, unless `force` is set: what an agent does after the deletion can no longer be imported.
///
/// # Errors
/// `FAILED_PRECONDITION` `REPOSITORY_IN_USE`, `NOT_FOUND`.
pub async fn delete_repository(
    cx: &Context,
    caller: &Caller,
    request: DeleteRepositoryRequest,
) -> Result<DeleteRepositoryResponse> {
    let first = cx.repository(caller, &request.repository_id, Role::Admin).await?;
    let key = RequestKey::new(
        first.organization_id.as_str(),
        caller,
        "DeleteRepository",
        &request.request_id,
        &request,
    )?;
    if let Some((answer, _)) = key.first_answer::<DeleteRepositoryResponse>(&cx.store).await? {
        return Ok(answer);
    }
    let decided = cx
        .store
        .retry_on_conflict(|| async {
            let mut repository = cx.repository(caller, &request.repository_id, Role::Admin).await?;
            let id = repository.repository_id.to_string();
            let mut ws = WriteSet::new();
            if !request.force && repository.state != State::Deleting {
                let mark = clones::mark(&cx.store, &repository.repository_id).await?;
                let tasks = clones::tasks_of(&cx.store, &repository.repository_id).await?;
                if !tasks.is_empty() {
                    return Err(in_use(&repository, &tasks));
                }
                clones::none_since(&mut ws, &repository.repository_id, &mark);
            }
            let rev = ws.scope(Scope::organization(&repository.organization_id));
            repository.state = State::Deleting;
            repository.condition = Condition { waiting_on: "deletion".to_owned(), ..Condition::default() };
            let set = vec![
                ("state", repository.state.as_str().into()),
                ("condition", repositories::condition(&repository.condition)),
            ];
            repositories::update(&mut ws, rev, &repository, set);
            for flow in foundry_flow::unfinished(&cx.store, &sync::SYNC, &id).await? {
                foundry_flow::request_cancel(&mut ws, &flow);
            }
            // After a failed deletion, a new request starts another one.
            if foundry_flow::unfinished(&cx.store, &delete::DELETE, &id).await?.is_empty() {
                let flow = NewFlow::new(&delete::DELETE, FlowId::generate(&cx.env), &id, &id)
                    .organization(&repository.organization_id)
                    .on_behalf_of(caller.actor())
                    .traced(RequestContext::current_traceparent());
                foundry_flow::enqueue(&mut ws, flow);
            }
            ws.audit(audit(
                &repository.organization_id,
                caller,
                "",
                "repository.delete",
                &id,
                &request.request_id,
            ));
            let answer = DeleteRepositoryResponse { repository: Some(repository.to_proto()) };
            key.remember(&mut ws, &answer, &cx.env);
            Ok((ws, answer))
        })
        .await;
    Ok(key.settle(&cx.store, None, decided).await?.0)
}

/// The refusal, with the first of the tasks by their ids.
fn in_use(repository: &Repository, tasks: &[String]) -> Error {
    let mut named = tasks[..tasks.len().min(NAMED)].join(", ");
    if tasks.len() > NAMED {
        named.push_str(&format!(" and {} more", tasks.len() - NAMED));
    }
    let whose = if tasks.len() == 1 { "task has" } else { "tasks have" };
    Error::precondition(
        "REPOSITORY_IN_USE",
        repository.repository_id.as_str(),
        format!("{} {whose} a sandbox with a clone of {}: {named}", tasks.len(), repository.name),
    )
    .next_action(
        "save what you need (`foundry task diff --patch`), and archive or kill these tasks first; or set `force` \
         (`foundry repo remove --force`), which loses what their agents do from then on",
    )
}

#[cfg(test)]
mod tests {
    use foundry_authn::Caller;
    use foundry_core::{SandboxId, TaskId};
    use foundry_proto::repo::v1::{GetCloneSourceRequest, ReleaseCloneRequest};
    use foundry_store::DialectSql;

    use super::*;
    use crate::ops::get_clone_source::get_clone_source;
    use crate::ops::release_clone::release_clone;
    use crate::testing::Fixture;

    /// Clones the repository into a new sandbox of a new task.
    async fn cloned(f: &Fixture, repository_id: &str) -> (SandboxId, TaskId) {
        let (sandbox, task) = (SandboxId::generate(&f.env.env), TaskId::generate(&f.env.env));
        let request = GetCloneSourceRequest {
            organization_id: f.organization.to_string(),
            repository_id: repository_id.to_owned(),
            task_id: task.to_string(),
            sandbox_id: sandbox.to_string(),
            ..GetCloneSourceRequest::default()
        };
        // A stage that is repeated asks again.
        for _ in 0..2 {
            get_clone_source(&f.cx, &Caller::service("provisioner"), request.clone()).await.unwrap();
        }
        (sandbox, task)
    }

    #[tokio::test]
    async fn is_refused_with_the_tasks_that_have_a_clone_until_their_sandboxes_are_gone_or_with_force() {
        let f = Fixture::new().await;
        let id = f.mirrored().await.repository_id;
        let request = DeleteRepositoryRequest { repository_id: id.clone(), ..Default::default() };
        let (sandbox, task) = cloned(&f, &id).await;
        let refused = delete_repository(&f.cx, &f.member, request.clone()).await.unwrap_err();
        assert_eq!(refused.reason(), "REPOSITORY_IN_USE");
        assert!(refused.message().contains(task.as_str()), "{}", refused.message());
        for _ in 0..NAMED {
            cloned(&f, &id).await;
        }
        let refused = delete_repository(&f.cx, &f.member, request.clone()).await.unwrap_err();
        assert!(refused.message().starts_with("6 tasks have"), "{}", refused.message());
        assert!(refused.message().ends_with("and 1 more"), "{}", refused.message());

        let release = ReleaseCloneRequest { sandbox_id: sandbox.to_string() };
        release_clone(&f.cx, &Caller::service("provisioner"), release).await.unwrap();
        let refused = delete_repository(&f.cx, &f.member, request.clone()).await.unwrap_err();
        assert!(refused.message().starts_with("5 tasks have"), "{}", refused.message());
        assert!(!refused.message().contains(task.as_str()), "{}", refused.message());

        let forced = DeleteRepositoryRequest { force: true, ..request };
        delete_repository(&f.cx, &f.member, forced).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert!(repositories::find(&f.cx.store, &id.parse().unwrap()).await.unwrap().is_none());
        assert_eq!(clones::tasks_of(&f.cx.store, &id.parse().unwrap()).await.unwrap(), [""; 0]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_clone_and_a_deletion_at_the_same_moment_in_two_processes_do_not_both_succeed() {
        let f = Fixture::new().await;
        let other = f.beside().await;
        let id = f.mirrored().await.repository_id;
        let mut refused = (0, 0);
        for _ in 0..100 {
            let sandbox = SandboxId::generate(&f.env.env);
            let clone = GetCloneSourceRequest {
                organization_id: f.organization.to_string(),
                repository_id: id.clone(),
                task_id: TaskId::generate(&f.env.env).to_string(),
                sandbox_id: sandbox.to_string(),
                ..GetCloneSourceRequest::default()
            };
            let delete = DeleteRepositoryRequest { repository_id: id.clone(), ..Default::default() };
            let provisioner = Caller::service("provisioner");
            let (cloned, deleted) = tokio::join!(
                get_clone_source(&other, &provisioner, clone),
                delete_repository(&f.cx, &f.member, delete),
            );
            match (cloned, deleted) {
                (Ok(_), Err(e)) => {
                    assert_eq!(e.reason(), "REPOSITORY_IN_USE");
                    refused.0 += 1;
                }
                (Err(e), Ok(_)) => {
                    assert_eq!(e.reason(), "REPOSITORY_DELETING");
                    refused.1 += 1;
                }
                (cloned, deleted) => panic!("{cloned:?}, {:?}", deleted.map(|_| ())),
            }
            for again in ["DELETE FROM clones", "UPDATE repositories SET state = 'ready'"] {
                let sql = DialectSql { sqlite: again, postgres: again };
                f.cx.store.write(sql, &[]).await.unwrap();
            }
        }
        println!("{} deletions and {} clones were refused", refused.0, refused.1);
    }

    #[tokio::test]
    async fn no_sandbox_is_given_a_clone_of_a_repository_that_is_being_deleted() {
        let f = Fixture::new().await;
        let id = f.mirrored().await.repository_id;
        let request = DeleteRepositoryRequest { repository_id: id.clone(), ..Default::default() };
        delete_repository(&f.cx, &f.member, request).await.unwrap();
        let request = GetCloneSourceRequest {
            organization_id: f.organization.to_string(),
            repository_id: id,
            ..GetCloneSourceRequest::default()
        };
        let refused = get_clone_source(&f.cx, &f.member, request).await.unwrap_err();
        assert_eq!(refused.reason(), "REPOSITORY_DELETING");
    }

    #[tokio::test]
    async fn removes_mirror_and_rows_and_leaves_a_tombstone() {
        let f = Fixture::new().await;
        let repository = f.mirrored().await;
        let id: foundry_core::RepositoryId = repository.repository_id.parse().unwrap();
        assert!(f.cx.mirror_path(&id).exists());
        let request = DeleteRepositoryRequest {
            request_id: String::new(),
            repository_id: repository.repository_id.clone(),
            force: false,
        };
        let refused = delete_repository(&f.cx, &f.stranger, request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), foundry_core::Code::NotFound);
        delete_repository(&f.cx, &f.member, request).await.unwrap();
        f.engine.run_until_idle().await.unwrap();
        assert!(!f.cx.mirror_path(&id).exists());
        assert!(repositories::find(&f.cx.store, &id).await.unwrap().is_none());
        let scope = Scope::organization(&f.organization);
        let snapshot = f.cx.store.snapshot().await.unwrap();
        let gone = snapshot.tombstones_after(&scope, Some("repository"), 0, 10).await.unwrap();
        assert_eq!(gone.len(), 1);
    }
}
