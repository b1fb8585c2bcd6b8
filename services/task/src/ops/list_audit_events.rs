//! Recorded changes of an organization.

use foundry_authn::Caller;
use foundry_core::{OrganizationId, PageRequest, PageToken, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::task::v1::{AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse};
use foundry_store::AuditEntry;

use crate::context::Context;

/// Most records examined for one page of one subject.
const LOOKED_THROUGH: usize = 5_000;

/// # Errors
/// `PERMISSION_DENIED` for less than an admin, `NOT_FOUND` for a foreign organization,
/// `INVALID_ARGUMENT` for a bad page.
pub async fn list_audit_events(
    cx: &Context,
    caller: &Caller,
    request: ListAuditEventsRequest,
) -> Result<ListAuditEventsResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let mut page = PageRequest::parse(request.page_size, &request.page_token)?;
    let wanted = page.size as usize;
    let mut events = Vec::new();
    let mut seen = 0;
    let next = loop {
        let (entries, next) = cx.store.list_audit(organization.as_str(), &page).await?;
        seen += entries.len();
        let mut full = None;
        for entry in entries {
            if !request.subject.is_empty() && entry.record.subject != request.subject {
                continue;
            }
            if events.len() == wanted {
                break;
            }
            full = Some(PageToken(format!("{}.{}", entry.rev, entry.ordinal)));
            events.push(event(entry));
        }
        // A page may hold fewer than requested; its token continues after the records examined.
        if events.len() == wanted && !request.subject.is_empty() {
            break full.or(next);
        }
        if events.len() == wanted || next.is_none() || seen >= LOOKED_THROUGH {
            break next;
        }
        page.after = next;
    };
    Ok(ListAuditEventsResponse { events, next_page_token: PageToken::encode_next(next) })
}

fn event(entry: AuditEntry) -> AuditEvent {
    let record = entry.record;
    let detail: serde_json::Value = serde_json::from_str(&record.detail_json).unwrap_or_default();
    let behalf = detail.get("on_behalf_of").and_then(serde_json::Value::as_str).unwrap_or_default();
    AuditEvent {
        sequence: entry.rev,
        create_time: Some(entry.at.to_proto()),
        actor: record.actor,
        on_behalf_of: behalf.to_owned(),
        action: record.action,
        subject: record.subject,
        detail: record.detail_json,
        request_id: record.request_id,
    }
}
