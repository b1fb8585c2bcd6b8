//! Table `model_usage`.

use foundry_core::{Error, OrganizationId, SessionId};
use foundry_proto::provisioner::v1::ModelUsage;
use foundry_store::{Row, Store, Table, Value, WriteSet};

use crate::domain::Session;

/// Tokens used, a row for each session and model.
pub static MODEL_USAGE: Table = Table::new(
    "model_usage",
    &[
        "session_id",
        "model",
        "organization_id",
        "task_id",
        "profile_id",
        "model_provider_id",
        "calls",
        "input",
        "output",
        "cache_read",
        "cache_write",
        "cost_micros",
        "estimated",
    ],
    &["session_id", "model_provider_id", "model"],
);

const OF_MODEL: &str =
    "SELECT * FROM model_usage WHERE session_id = $1 AND model_provider_id = $2 AND model = $3";
const OF_TASK: &str = "SELECT * FROM model_usage WHERE organization_id = $1 AND task_id = $2 ORDER BY session_id, model LIMIT 500";
const OF_ORGANIZATION: &str = "SELECT '' AS session_id, model, '' AS task_id, '' AS profile_id, \
     model_provider_id, CAST(SUM(calls) AS BIGINT) AS calls, CAST(SUM(input) AS BIGINT) AS input, \
     CAST(SUM(output) AS BIGINT) AS output, CAST(SUM(cache_read) AS BIGINT) AS cache_read, \
     CAST(SUM(cache_write) AS BIGINT) AS cache_write, CAST(SUM(cost_micros) AS BIGINT) AS cost_micros, \
     CAST(SUM(estimated) AS BIGINT) AS estimated \
     FROM model_usage WHERE organization_id = $1 GROUP BY model_provider_id, model \
     ORDER BY model_provider_id, model LIMIT 500";

fn read(row: &Row) -> Result<ModelUsage, Error> {
    let text = |column| row.text(column).map(str::to_owned);
    Ok(ModelUsage {
        task_id: text("task_id")?,
        session_id: text("session_id")?,
        profile_id: text("profile_id")?,
        model_provider_id: text("model_provider_id")?,
        model: text("model")?,
        calls: row.int("calls")?,
        input_tokens: row.int("input")?,
        output_tokens: row.int("output")?,
        cache_read_tokens: row.int("cache_read")?,
        cache_write_tokens: row.int("cache_write")?,
        cost_micros: row.int("cost_micros")?,
        estimated_calls: row.int("estimated")?,
    })
}

/// What a session has used of a model.
pub async fn find(
    store: &Store,
    session: &SessionId,
    provider: &str,
    model: &str,
) -> Result<Option<ModelUsage>, Error> {
    store
        .query(OF_MODEL, &[session.into(), provider.into(), model.into()])
        .await?
        .first()
        .map(read)
        .transpose()
}

/// Adds a call to the stored counts, which are `before`.
pub fn add(ws: &mut WriteSet, session: &Session, before: Option<&ModelUsage>, call: &ModelUsage) {
    let sum = |of: fn(&ModelUsage) -> i64| -> Value { before.map_or(0, of).saturating_add(of(call)).into() };
    let counts = [
        ("calls", sum(|u| u.calls)),
        ("input", sum(|u| u.input_tokens)),
        ("output", sum(|u| u.output_tokens)),
        ("cache_read", sum(|u| u.cache_read_tokens)),
        ("cache_write", sum(|u| u.cache_write_tokens)),
        ("cost_micros", sum(|u| u.cost_micros)),
        ("estimated", sum(|u| u.estimated_calls)),
    ];
    let Some(before) = before else {
        let names: [Value; 6] = [
            (&session.session_id).into(),
            call.model.as_str().into(),
            (&session.organization_id).into(),
            session.task_id.as_str().into(),
            call.profile_id.as_str().into(),
            call.model_provider_id.as_str().into(),
        ];
        ws.insert(&MODEL_USAGE, names.into_iter().chain(counts.map(|(_, count)| count)).collect::<Vec<_>>());
        return;
    };
    let key =
        [(&session.session_id).into(), call.model_provider_id.as_str().into(), call.model.as_str().into()];
    // A conflict when another call was counted since.
    ws.update(&MODEL_USAGE, &key, &counts, &[("calls", before.calls.into())]);
}

/// What a task used, by session and model; without a task, what an organization used, by model provider and model.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    task_id: &str,
) -> Result<Vec<ModelUsage>, Error> {
    let rows = match task_id {
        "" => store.query(OF_ORGANIZATION, &[organization.into()]).await?,
        task => store.query(OF_TASK, &[organization.into(), task.into()]).await?,
    };
    rows.iter().map(read).collect()
}
