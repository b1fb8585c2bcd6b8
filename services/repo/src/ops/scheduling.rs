//! The writes that schedule a synchronization, for the ops that need one.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_flow::FlowStatus;
use foundry_server::RequestContext;
use foundry_store::{Scope, WriteSet};

use crate::context::Context;
use crate::domain::base::Refresh;
use crate::domain::repository::Repository;
use crate::domain::sync::Source;
use crate::flow::sync;
use crate::store::repositories;

/// The recorded synchronizations of a repository; at most one of them is unfinished.
pub async fn syncs(cx: &Context, repository: &Repository) -> Result<Vec<FlowStatus>> {
    let mut flows = foundry_flow::list_by_subject(&cx.store, repository.repository_id.as_str()).await?;
    flows.retain(|flow| flow.kind == sync::SYNC.kind);
    Ok(flows)
}

/// Adds what makes a synchronization begin after now; fails if the repository has changed since it was read.
pub fn refresh(
    cx: &Context,
    caller: &Caller,
    ws: &mut WriteSet,
    repository: &Repository,
    refresh: Refresh,
) -> Result<()> {
    let another = match refresh {
        Refresh::OnItsWay => return Ok(()),
        Refresh::Start => false,
        Refresh::Another => true,
    };
    // Services ask for tasks only.
    let source = if caller.service_name().is_some() { Source::Task } else { Source::Request };
    let rev = ws.scope(Scope::organization(&repository.organization_id));
    let mut set = vec![("refresh_wanted", another.into()), ("use_time", cx.env.clock.now().into())];
    if another {
        set.push(("wanted_source", source.as_str().into()));
    }
    repositories::update(ws, rev, repository, set);
    if !another {
        let on_behalf = (&*caller.actor(), &*RequestContext::current_traceparent());
        sync::enqueue(cx, ws, repository, on_behalf, source)?;
    }
    Ok(())
}
