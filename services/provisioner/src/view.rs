//! The views that watches show.

use foundry_core::{Error, OrganizationId};
use foundry_proto::provisioner::v1::{AgentSessionItem, SandboxItem, agent_session_item, sandbox_item};
use foundry_store::{Row, Scope};
use foundry_watch::Change;
use foundry_watch_hub::{Fingerprint, Source, TableView};

use crate::domain::{Sandbox, Session};
use crate::store::{events, sandboxes, sessions};

fn sandbox_change(row: &Row) -> Result<Change, Error> {
    let sandbox = sandboxes::shown(row)?;
    let item = SandboxItem { item: Some(sandbox_item::Item::Sandbox(sandbox.to_proto())) };
    Ok(Change::upsert(format!("sandbox/{}", sandbox.sandbox_id), sandbox.rev, &item))
}

fn session_change(row: &Row) -> Result<Change, Error> {
    let session = sessions::shown(row)?;
    let item = SandboxItem { item: Some(sandbox_item::Item::AgentSession(session.to_proto())) };
    Ok(Change::upsert(format!("session/{}", session.session_id), session.rev, &item))
}

/// The sandboxes and agent sessions of an organization.
pub fn sandboxes(organization: &OrganizationId) -> TableView {
    let fingerprint = Fingerprint::new("WatchSandboxes", 1).filter("organization", organization.as_str());
    let of = || vec![organization.into()];
    TableView::new("WatchSandboxes", Scope::organization(organization), fingerprint)
        .source(Source::new(sandboxes::CHANGED, of(), sandbox_change))
        .source(Source::new(sessions::CHANGED, of(), session_change))
}

/// One sandbox and its agent sessions.
pub fn sandbox(sandbox: &Sandbox) -> TableView {
    let fingerprint = Fingerprint::new("WatchSandbox", 1).filter("sandbox", sandbox.sandbox_id.as_str());
    let of = || vec![(&sandbox.organization_id).into(), (&sandbox.sandbox_id).into()];
    TableView::new("WatchSandbox", Scope::organization(&sandbox.organization_id), fingerprint)
        .source(Source::new(sandboxes::CHANGED_ONE, of(), sandbox_change))
        .source(Source::new(sessions::CHANGED_OF_SANDBOX, of(), session_change))
}

/// An agent session and its events after an offset; no event is conflated.
pub fn agent_session(session: &Session, after_offset: i64) -> TableView {
    let fingerprint = Fingerprint::new("WatchAgentSession", 1)
        .filter("session", session.session_id.as_str())
        .filter("after_offset", &after_offset.to_string());
    let row = |row: &Row| {
        let session = sessions::shown(row)?;
        let item =
            AgentSessionItem { item: Some(agent_session_item::Item::AgentSession(session.to_proto())) };
        Ok(Change::upsert(format!("session/{}", session.session_id), session.session_rev, &item))
    };
    let event = |row: &Row| {
        let event = events::read(row)?;
        let key = format!("event/{:012}", event.offset);
        let item = AgentSessionItem { item: Some(agent_session_item::Item::Event(event)) };
        Ok(Change::upsert(key, row.int("rev")?, &item))
    };
    let id = &session.session_id;
    TableView::new("WatchAgentSession", Scope::session(id), fingerprint)
        .source(Source::new(sessions::CHANGED_ONE, vec![id.into()], row))
        .source(Source::new(events::CHANGED, vec![id.into(), after_offset.into()], event))
        .never_conflate()
}
