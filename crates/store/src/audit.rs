//! Audit records: the actor, the action and its subject, written in the transaction of the change itself.

use foundry_core::{Error, PageRequest, PageToken, Timestamp};

use crate::{Row, Store, Table, Value};

pub(crate) const AUDIT: Table = Table::new(
    "store_audit",
    &[
        "organization_id",
        "rev",
        "ordinal",
        "at",
        "actor",
        "action",
        "subject",
        "detail_json",
        "request_id",
        "trace",
    ],
    &["organization_id", "rev", "ordinal"],
);

/// An action in an organization, for the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRecord {
    /// Id of the organization in which it happened.
    pub organization_id: String,
    /// The actor: a user, or a service acting for one.
    pub actor: String,
    /// The action, such as `task.create`.
    pub action: String,
    /// The object of the action, usually an id.
    pub subject: String,
    /// More facts, as a JSON object.
    pub detail_json: String,
    /// The request's id; may be empty.
    pub request_id: String,
    /// The W3C trace context; may be empty.
    pub trace: String,
}

/// A stored audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its position in the organization's audit order.
    pub rev: i64,
    /// Its position within the request that wrote it, from 1.
    pub ordinal: i64,
    /// When it was committed.
    pub at: Timestamp,
    /// The record as it was written.
    pub record: AuditRecord,
}

const LIST: &str = "SELECT rev, ordinal, at, actor, action, subject, detail_json, request_id, trace \
     FROM store_audit WHERE organization_id = $1 AND (rev, ordinal) < ($2, $3) \
     ORDER BY rev DESC, ordinal DESC LIMIT $4";

impl Store {
    /// An organization's audit records, newest first, and the position of the next page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list; see [`Store::query`].
    pub async fn list_audit(
        &self,
        organization_id: &str,
        page: &PageRequest,
    ) -> Result<(Vec<AuditEntry>, Option<PageToken>), Error> {
        let (rev, ordinal) = page.begins_after((i64::MAX, i64::MAX), position)?;
        let limit = Value::from(page.limit());
        let rows = self.query(LIST, &[organization_id.into(), rev.into(), ordinal.into(), limit]).await?;
        let entries = rows.iter().map(|r| entry(organization_id, r)).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(entries, |e| format!("{}.{}", e.rev, e.ordinal)))
    }
}

fn position(text: &str) -> Option<(i64, i64)> {
    let (rev, ordinal) = text.split_once('.')?;
    Some((rev.parse().ok()?, ordinal.parse().ok()?))
}

fn entry(organization_id: &str, row: &Row) -> Result<AuditEntry, Error> {
    let text = |column| row.text(column).map(str::to_owned);
    Ok(AuditEntry {
        rev: row.int("rev")?,
        ordinal: row.int("ordinal")?,
        at: row.time("at")?,
        record: AuditRecord {
            organization_id: organization_id.to_owned(),
            actor: text("actor")?,
            action: text("action")?,
            subject: text("subject")?,
            detail_json: text("detail_json")?,
            request_id: text("request_id")?,
            trace: text("trace")?,
        },
    })
}
