//! Watches a user's drafts and read marks in an organization, or the user's review of one task.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, UserId};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::WatchUserStateRequest;
use foundry_watch_hub::Granted;

use crate::context::Context;
use crate::store::user_state::Owner;
use crate::view;

/// Authorizes the watch, and sets the request's user to the caller if it names none.
///
/// # Errors
/// `NOT_FOUND` for a foreign organization or another user, `INVALID_ARGUMENT` for a service that names
/// no user.
pub async fn grant(_: &Context, caller: &Caller, request: &mut WatchUserStateRequest) -> Result<Granted> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Viewer)?;
    let user = owner(caller, &request.user_id)?;
    request.user_id = user.to_string();
    let owner = Owner { organization: organization.clone(), user };
    let view = match request.task_id.as_str() {
        "" => view::user_state::of_user(&owner),
        task => view::user_state::of_review(&owner, &task.parse()?),
    };
    Ok(Granted::of_member(view, &organization))
}

fn owner(caller: &Caller, named: &str) -> Result<UserId> {
    let Some(own) = caller.as_user() else {
        return match named {
            "" => Err(Error::invalid_field("user_id", "is required for calls by a service")),
            id => id.parse(),
        };
    };
    if named.is_empty() {
        return Ok(own.user_id.clone());
    }
    let named: UserId = named.parse()?;
    // Whether such a user exists is not revealed.
    if named == own.user_id { Ok(named) } else { Err(Error::not_found("user", named.as_str())) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use foundry_core::Code;
    use foundry_core::Tasks;
    use foundry_proto::task::v1::task_service_server::TaskService as _;
    use foundry_proto::task::v1::user_state_item::Item;
    use foundry_proto::task::v1::{MarkReadRequest, SessionState, UpdateDraftRequest, UserStateItem};
    use foundry_testkit::called_by;
    use foundry_watch::{Consumer, ConsumerConfig, State};
    use foundry_watch_hub::View as _;

    use super::*;
    use crate::ops;
    use crate::rpc::Rpc;
    use crate::testing::World;

    #[tokio::test]
    async fn shows_a_user_its_own_state_alone_and_a_service_that_of_the_user_it_names() {
        let world = World::new().await;
        let (tenant, other) = (world.tenant(Role::Member).await, world.tenant(Role::Owner).await);
        let running = world.start().await;
        let own = tenant.caller.as_user().unwrap().user_id.to_string();
        let of = |user_id: &str| WatchUserStateRequest {
            organization_id: tenant.organization.to_string(),
            user_id: user_id.into(),
            ..WatchUserStateRequest::default()
        };
        let cx = &running.cx;
        let (edge, task) = (Caller::service("gateway"), Caller::service("task"));
        for (caller, user, code) in [
            (&tenant.caller, "", None),
            (&tenant.caller, own.as_str(), None),
            (&tenant.caller, other.caller.as_user().unwrap().user_id.as_str(), Some(Code::NotFound)),
            (&tenant.caller, UserId::generate(&world.env).as_str(), Some(Code::NotFound)),
            (&tenant.caller, "me", Some(Code::InvalidArgument)),
            (&other.caller, "", Some(Code::NotFound)),
            (&edge, own.as_str(), None),
            (&task, "", Some(Code::InvalidArgument)),
        ] {
            let answer = grant(cx, caller, &mut of(user)).await;
            assert_eq!(answer.err().map(|e| e.code()), code, "{user}");
        }
        let (mut a, mut b) = (of(""), of(&own));
        let (a, b) = (grant(cx, &tenant.caller, &mut a).await, grant(cx, &edge, &mut b).await);
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.view.key(), b.view.key());
        running.stop().await;
    }
    #[tokio::test]
    async fn shows_each_draft_and_mark_as_it_is_and_drops_what_was_cleared() {
        let world = World::new().await;
        let (tenant, running) = (world.tenant(Role::Member).await, world.start().await);
        let created = running.create(&tenant, "x").await;
        let (task, session) = (created.task.unwrap().task_id, created.session.unwrap().session_id);
        running.until_session(&tenant, &task, &session, |s| s.state() == SessionState::Running).await;
        world.provisioner.say(&session, "a").await;
        running.until_session(&tenant, &task, &session, |s| s.last_offset == 2).await;
        let draft = async |text: &str| {
            let request = UpdateDraftRequest {
                organization_id: tenant.organization.to_string(),
                subject: session.clone(),
                text: text.into(),
            };
            ops::update_draft::update_draft(&running.cx, &tenant.caller, request).await.unwrap();
        };
        draft("before").await;
        let (tasks, _) = Tasks::new();
        let (cx, caller) = (running.cx.clone(), tenant.caller.clone());
        let organization_id = tenant.organization.to_string();
        let config = ConsumerConfig::new("WatchUserState");
        let mut consumer =
            Consumer::<UserStateItem>::start(&tasks, world.env.clone(), config, move |options| {
                let organization_id = organization_id.clone();
                let request =
                    WatchUserStateRequest { options: Some(options), organization_id, ..Default::default() };
                let (rpc, request) = (Rpc(Arc::clone(&cx)), called_by(&caller, request));
                async move { Ok(rpc.watch_user_state(request).await?.into_inner()) }
            });
        let mut state = State::default();
        let mut until = async |holds: &dyn Fn(Option<&Item>, Option<&Item>) -> bool| {
            let (draft, read) = (format!("draft/{session}"), format!("read/{session}"));
            loop {
                state.apply(&consumer.next().await.unwrap());
                let item = |key: &str| state.get(key).and_then(|i: &UserStateItem| i.item.as_ref());
                if holds(item(&draft), item(&read)) {
                    return;
                }
            }
        };
        until(&|d, r| matches!(d, Some(Item::Draft(d)) if d.text == "before") && r.is_none()).await;
        draft("after").await;
        let mark = MarkReadRequest { session_id: session.clone(), offset: 1 };
        ops::mark_read::mark_read(&running.cx, &tenant.caller, mark).await.unwrap();
        until(&|d, r| {
            let read = matches!(r, Some(Item::ReadMark(r)) if r.offset == 1 && r.task_id == task);
            read && matches!(d, Some(Item::Draft(d)) if d.text == "after" && d.update_time.is_some())
        })
        .await;
        draft("").await;
        until(&|d, r| d.is_none() && r.is_some()).await;
        running.stop().await;
    }
}
