//! Table `model_waits`.

use foundry_core::{Error, Timestamp};
use foundry_store::{Row, Store, Table, WriteSet};

/// A row for each model provider whose quota is used up until a known time.
pub static MODEL_WAITS: Table = Table::new(
    "model_waits",
    &["model_provider_id", "until_time", "words", "first_turn"],
    &["model_provider_id"],
);

const BY_ID: &str = "SELECT * FROM model_waits WHERE model_provider_id = $1";

/// A model provider whose quota is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelWait {
    /// The model provider's id.
    pub provider: String,
    /// When the quota is available again; once a first turn was let through, how long its answer is waited for.
    pub until: Timestamp,
    /// The provider's message, for people.
    pub words: String,
    /// The turn that was let through first, to try the quota; empty before `until`.
    pub first_turn: String,
}

fn read(row: &Row) -> Result<ModelWait, Error> {
    Ok(ModelWait {
        provider: row.text("model_provider_id")?.to_owned(),
        until: row.time("until_time")?,
        words: row.text("words")?.to_owned(),
        first_turn: row.text("first_turn")?.to_owned(),
    })
}

/// The wait for a model provider, if its quota is used up.
pub async fn find(store: &Store, provider: &str) -> Result<Option<ModelWait>, Error> {
    store.query(BY_ID, &[provider.into()]).await?.first().map(read).transpose()
}

/// Begins a wait, or changes the one that was found; a conflict when it changed since.
pub fn put(ws: &mut WriteSet, found: Option<&ModelWait>, wait: &ModelWait) {
    let Some(found) = found else {
        let row = [
            wait.provider.as_str().into(),
            wait.until.into(),
            wait.words.as_str().into(),
            wait.first_turn.as_str().into(),
        ];
        ws.insert(&MODEL_WAITS, row);
        return;
    };
    let set = [
        ("until_time", wait.until.into()),
        ("words", wait.words.as_str().into()),
        ("first_turn", wait.first_turn.as_str().into()),
    ];
    let guards = [("until_time", found.until.into()), ("first_turn", found.first_turn.as_str().into())];
    ws.update(&MODEL_WAITS, &[found.provider.as_str().into()], &set, &guards);
}

/// Ends a wait; nothing happens when there is none.
pub fn end(ws: &mut WriteSet, provider: &str) {
    ws.delete_where(&MODEL_WAITS, &[("model_provider_id", provider.into())]);
}
