//! Table `model_totals`.

use foundry_core::{Error, OrganizationId};
use foundry_store::{Row, Store, Table, WriteSet};

/// Sums of what was used of models: a row for each organization and month, and for each task.
pub static MODEL_TOTALS: Table = Table::new(
    "model_totals",
    &["organization_id", "month", "task_id", "tokens", "cost_micros"],
    &["organization_id", "month", "task_id"],
);

const ONE: &str = "SELECT * FROM model_totals WHERE organization_id = $1 AND month = $2 AND task_id = $3";

/// What was used in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Tokens, in and out, cached ones too.
    pub tokens: i64,
    /// Millionths of the currency of the prices.
    pub cost_micros: i64,
}

fn read(row: &Row) -> Result<Total, Error> {
    Ok(Total { tokens: row.int("tokens")?, cost_micros: row.int("cost_micros")? })
}

/// What an organization used in a month, or a task since its beginning (then the month is empty).
pub async fn find(
    store: &Store,
    organization: &OrganizationId,
    month: &str,
    task: &str,
) -> Result<Option<Total>, Error> {
    store.query(ONE, &[organization.into(), month.into(), task.into()]).await?.first().map(read).transpose()
}

/// Adds to the total that was found; a conflict when another call was added since.
pub fn add(
    ws: &mut WriteSet,
    organization: &OrganizationId,
    (month, task): (&str, &str),
    before: Option<Total>,
    more: Total,
) {
    let sum = before.unwrap_or_default();
    let (tokens, cost) =
        (sum.tokens.saturating_add(more.tokens), sum.cost_micros.saturating_add(more.cost_micros));
    let key = [organization.into(), month.into(), task.into()];
    let Some(before) = before else {
        ws.insert(&MODEL_TOTALS, key.into_iter().chain([tokens.into(), cost.into()]).collect::<Vec<_>>());
        return;
    };
    let set = [("tokens", tokens.into()), ("cost_micros", cost.into())];
    let guards = [("tokens", before.tokens.into()), ("cost_micros", before.cost_micros.into())];
    ws.update(&MODEL_TOTALS, &key, &set, &guards);
}
