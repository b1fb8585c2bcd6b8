//! Tables `repository_webhooks` and `webhook_deliveries`: the places to which hosts announce changes, their secrets
//! encrypted, and what has arrived there. A delivery is kept for [`KEPT`], by `flow/forget_deliveries.rs`.

use std::time::Duration;

use foundry_core::{
    Error, OrganizationId, PageRequest, PageToken, RepositoryId, RepositoryWebhookId, Result, Timestamp,
};
use foundry_proto::common::v1::Condition;
use foundry_service::{SecretColumn, stored_condition};
use foundry_store::{Guard, Reader, Row, Store, Table, Value, WriteSet};
use prost::Message as _;

use crate::domain::webhook::{Delivery, Forge, Outcome, Refused, Webhook};

pub const WEBHOOKS: Table = Table::new(
    "repository_webhooks",
    &[
        "webhook_id",
        "organization_id",
        "forge",
        "repository_id",
        "host",
        "create_time",
        "last_time",
        "last_event",
        "last_result",
        "notice",
        "secret",
        "refused_count",
        "refused_time",
        "refused_address",
    ],
    &["webhook_id"],
);

pub const DELIVERIES: Table = Table::new(
    "webhook_deliveries",
    &["webhook_id", "delivery_id", "event", "result", "receive_time"],
    &["webhook_id", "delivery_id"],
);

/// How long a repeated delivery is recognized.
pub const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Most webhooks of an organization.
const MAX_WEBHOOKS: i64 = 500;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT webhook_id, organization_id, forge, repository_id, host, create_time, last_time, last_event, last_result, ",
            "notice, secret, refused_count, refused_time, refused_address FROM repository_webhooks ",
            $rest
        )
    };
}

/// The secrets, to encrypt them with another key.
pub const SECRETS: SecretColumn = SecretColumn {
    service: "repo",
    table: &WEBHOOKS,
    key: "webhook_id",
    column: "secret",
    rows: select!("WHERE webhook_id > $1 ORDER BY webhook_id LIMIT $2"),
    bound_to: |row| read(row).map(|webhook| webhook.binding()),
};

/// Reads a row.
fn read(row: &Row) -> Result<Webhook> {
    let id = row.text("webhook_id")?;
    let repository_id = match row.text("repository_id")? {
        "" => None,
        id => Some(id.parse::<RepositoryId>()?),
    };
    let forge = row.text("forge")?;
    let (last, result) = (row.time("last_time")?, row.text("last_result")?);
    Ok(Webhook {
        webhook_id: id.parse()?,
        organization_id: row.text("organization_id")?.parse()?,
        forge: Forge::parse(forge)
            .ok_or_else(|| Error::internal(format!("unknown forge of a webhook: {forge}")))?,
        repository_id,
        host: row.text("host")?.to_owned(),
        create_time: row.time("create_time")?,
        last: (!result.is_empty())
            .then(|| Ok::<_, Error>((last, row.text("last_event")?.to_owned(), Outcome::parse(result))))
            .transpose()?,
        notice: stored_condition(row, "notice", id)?,
        refused: Refused {
            count: row.int("refused_count")?,
            time: row.time("refused_time")?,
            address: row.text("refused_address")?.to_owned(),
        },
        sealed: row.blob("secret")?,
    })
}

/// The webhook with this id, in any organization; the caller checks access.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn find(from: &impl Reader, id: &RepositoryWebhookId) -> Result<Option<Webhook>> {
    let rows = from.query(select!("WHERE webhook_id = $1"), &[id.as_str().into()]).await?;
    rows.first().map(read).transpose()
}

/// The ids of the webhooks of a repository.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn of_repository(from: &impl Reader, id: &RepositoryId) -> Result<Vec<String>> {
    let sql = "SELECT webhook_id FROM repository_webhooks WHERE repository_id = $1";
    let rows = from.query(sql, &[id.as_str().into()]).await?;
    rows.iter().map(|row| Ok(row.text("webhook_id")?.to_owned())).collect()
}

/// A page of an organization's webhooks, oldest first: their ids begin with the time.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn list(
    from: &impl Reader,
    organization: &OrganizationId,
    page: &PageRequest,
) -> Result<(Vec<Webhook>, Option<PageToken>)> {
    let after = page.begins_after(String::new(), |id| Some(id.to_owned()))?;
    let params = [organization.as_str().into(), after.into(), page.limit().into()];
    let sql = select!("WHERE organization_id = $1 AND webhook_id > $2 ORDER BY webhook_id LIMIT $3");
    let found = from.query(sql, &params).await?.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(found, |it| it.webhook_id.to_string()))
}

/// What two webhooks of an organization must not share: the repository, or else the host.
fn target(it: &Webhook) -> [(&'static str, Value); 3] {
    [
        ("organization_id", it.organization_id.as_str().into()),
        ("repository_id", it.repository_id.as_ref().map_or("", RepositoryId::as_str).into()),
        ("host", it.host.as_str().into()),
    ]
}

/// The id of the webhook that there is for the target of a new one.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn of_target(from: &impl Reader, new: &Webhook) -> Result<Option<String>> {
    let sql = "SELECT webhook_id FROM repository_webhooks \
               WHERE organization_id = $1 AND repository_id = $2 AND host = $3 ORDER BY webhook_id LIMIT 1";
    let rows = from.query(sql, &target(new).map(|(_, value)| value)).await?;
    rows.first().map(|row| Ok(row.text("webhook_id")?.to_owned())).transpose()
}

/// Adds a webhook; refused when the organization has 500, a conflict when there is one for its target.
pub fn insert(ws: &mut WriteSet, it: &Webhook) {
    let ours = [("organization_id", it.organization_id.as_str().into())];
    ws.guard(Guard::count_below(&WEBHOOKS, &ours, MAX_WEBHOOKS, "repository_webhooks"));
    ws.guard(Guard::absent(&WEBHOOKS, &target(it)));
    let values: Vec<Value> = vec![
        it.webhook_id.as_str().into(),
        it.organization_id.as_str().into(),
        it.forge.as_str().into(),
        it.repository_id.as_ref().map_or("", RepositoryId::as_str).into(),
        it.host.as_str().into(),
        it.create_time.into(),
        0.into(),
        "".into(),
        "".into(),
        it.notice.encode_to_vec().into(),
        it.sealed.clone().into(),
        it.refused.count.into(),
        it.refused.time.into(),
        it.refused.address.as_str().into(),
    ];
    ws.insert(&WEBHOOKS, values);
}

/// Deletes a webhook; anything else than one row is a conflict. Its deliveries go with their time.
pub fn delete(ws: &mut WriteSet, id: &RepositoryWebhookId) {
    ws.delete(&WEBHOOKS, &[id.as_str().into()], &[]);
}

/// What followed from a delivery that has arrived before.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn received(
    from: &impl Reader,
    id: &RepositoryWebhookId,
    delivery: &str,
) -> Result<Option<Outcome>> {
    let sql = "SELECT result FROM webhook_deliveries WHERE webhook_id = $1 AND delivery_id = $2";
    let rows = from.query(sql, &[id.as_str().into(), delivery.into()]).await?;
    rows.first().map(|row| Ok(Outcome::parse(row.text("result")?))).transpose()
}

/// Adds a delivery, as the newest one of a webhook that must still be there; one that is stored is a conflict.
pub fn receive(
    ws: &mut WriteSet,
    id: &RepositoryWebhookId,
    delivery: &Delivery,
    outcome: Outcome,
    notice: Option<&Condition>,
    now: Timestamp,
) {
    let key = [("webhook_id", Value::from(id.as_str()))];
    ws.guard(Guard::exists(&WEBHOOKS, &key));
    let (event, result) = (delivery.event.as_str(), outcome.as_str());
    let values: Vec<Value> =
        vec![id.as_str().into(), delivery.id.as_str().into(), event.into(), result.into(), now.into()];
    ws.insert(&DELIVERIES, values);
    let mut set: Vec<(&'static str, Value)> =
        vec![("last_time", now.into()), ("last_event", event.into()), ("last_result", result.into())];
    set.extend(notice.map(|notice| ("notice", notice.encode_to_vec().into())));
    ws.update_where(&WEBHOOKS, &key, &set);
}

/// Shows a delivery that has no id as the newest one of a webhook. As it cannot be recognized, nothing else is kept of it.
pub fn malformed(ws: &mut WriteSet, id: &RepositoryWebhookId, event: &str, now: Timestamp) {
    let (key, result) = ([("webhook_id", Value::from(id.as_str()))], Outcome::Unreadable.as_str());
    let set = [("last_time", now.into()), ("last_event", event.into()), ("last_result", result.into())];
    ws.update_where(&WEBHOOKS, &key, &set);
}

/// Adds refused deliveries to those of a webhook; a conflict when others were added since it was read.
pub fn refuse(ws: &mut WriteSet, webhook: &Webhook, more: i64, address: &str, now: Timestamp) {
    let key = [
        ("webhook_id", Value::from(webhook.webhook_id.as_str())),
        ("refused_count", webhook.refused.count.into()),
    ];
    let count = webhook.refused.count.saturating_add(more);
    let set =
        [("refused_count", count.into()), ("refused_time", now.into()), ("refused_address", address.into())];
    ws.guard(Guard::exists(&WEBHOOKS, &key));
    ws.update_where(&WEBHOOKS, &key, &set);
}

/// Deletes the deliveries of before a time; returns how many there were.
///
/// # Errors
/// `INTERNAL` when the database fails.
pub async fn forget(store: &Store, before: Timestamp) -> Result<u64> {
    const SQL: &str = "DELETE FROM webhook_deliveries WHERE (webhook_id, delivery_id) IN \
         (SELECT webhook_id, delivery_id FROM webhook_deliveries WHERE receive_time < $1 ORDER BY receive_time LIMIT $2) \
         RETURNING 1 AS gone";
    store.delete_in_chunks(SQL, &[before.into()]).await
}
