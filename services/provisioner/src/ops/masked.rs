//! What updates with a field mask share.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result};
use foundry_store::AuditRecord;
use prost_types::FieldMask;

use super::audit;
use foundry_service::with_detail;

/// The fields that a mask names; `fixed` ones exist and cannot be changed.
///
/// # Errors
/// `INVALID_ARGUMENT` for a mask without fields, or with one that cannot be changed.
pub fn fields<F: Copy + PartialEq>(
    mask: Option<&FieldMask>,
    all: &[F],
    name: fn(F) -> &'static str,
    fixed: &[&str],
) -> Result<Vec<F>> {
    let refused = |text: String| Err(Error::invalid_field("update_mask", text));
    let paths = mask.map_or(&[][..], |m| m.paths.as_slice());
    let known = || all.iter().map(|f| name(*f)).collect::<Vec<_>>().join(", ");
    if paths.is_empty() {
        return refused(format!("must contain at least one of {}", known()));
    }
    let mut fields = Vec::new();
    for path in paths {
        if fixed.contains(&path.as_str()) {
            return refused(format!("contains {path}, which cannot be changed: create a new one instead"));
        }
        let Some(field) = all.iter().find(|f| name(**f) == path) else {
            return refused(format!("contains an unknown field; known fields: {}", known()));
        };
        if !fields.contains(field) {
            fields.push(*field);
        }
    }
    Ok(fields)
}

/// Refuses a change when the revision is not the one that the caller expects; 0 = any.
///
/// # Errors
/// `REVISION_CHANGED`.
pub fn check_rev(subject: &str, expected: i64, actual: i64) -> Result<()> {
    if expected == 0 || expected == actual {
        return Ok(());
    }
    let text = format!("it has been changed: its revision is {actual}, not {expected}");
    Err(Error::precondition("REVISION_CHANGED", subject, text)
        .with("rev", actual.to_string())
        .next_action("read it again, then repeat the change"))
}

/// The audit record of a change: it names the fields, not their values. `about` is action, subject and request id.
pub fn audit_of(
    organization: &OrganizationId,
    caller: &Caller,
    about: (&str, &str, &str),
    fields: &[&str],
) -> AuditRecord {
    let (action, subject, request_id) = about;
    let record = audit(organization, caller, "", action, subject, request_id);
    with_detail(record, serde_json::json!({ "fields": fields }))
}
