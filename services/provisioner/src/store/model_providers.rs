//! Table `model_providers`.

use foundry_core::{Error, ModelProviderId, OrganizationId};
use foundry_proto::provisioner::v1 as proto;
use foundry_store::{Guard, RevRef, Row, Scope, Store, Table, Value, WriteSet, is_damaged};
use prost::Message as _;

use super::id;
use crate::domain::ModelProvider;

/// A row for each model provider of an organization; its key is encrypted.
pub static MODEL_PROVIDERS: Table = Table::new(
    "model_providers",
    &["model_provider_id", "organization_id", "name", "view", "secrets", "rev"],
    &["model_provider_id"],
);

const BY_ID: &str = "SELECT * FROM model_providers WHERE model_provider_id = $1";
const BY_NAME: &str = "SELECT * FROM model_providers WHERE organization_id = $1 AND name = $2";
const LIST: &str =
    "SELECT * FROM model_providers WHERE organization_id = $1 AND name > $2 ORDER BY name LIMIT $3";
/// Kind of its tombstones.
const KIND: &str = "model_provider";

fn read(row: &Row) -> Result<ModelProvider, Error> {
    let rev = row.int("rev")?;
    Ok(ModelProvider {
        model_provider_id: id(row.text("model_provider_id")?)?,
        organization_id: Some(id(row.text("organization_id")?)?),
        view: proto::ModelProvider { rev, ..decoded(row)? },
        sealed: row.opt_blob("secrets")?,
    })
}

/// The view of a row, which names its own id.
pub fn decoded(row: &Row) -> Result<proto::ModelProvider, Error> {
    let id = row.text("model_provider_id")?;
    row.own_message("view", |view: proto::ModelProvider| (view.model_provider_id == id).then_some(view))
}

/// The same for lists, which show of one that cannot be decoded its id and name.
fn listed(row: &Row) -> Result<ModelProvider, Error> {
    let provider_id = row.text("model_provider_id")?;
    match decoded(row) {
        Err(e) if is_damaged(&e) => {}
        _ => return read(row),
    }
    Ok(ModelProvider {
        model_provider_id: id(provider_id)?,
        organization_id: Some(id(row.text("organization_id")?)?),
        view: proto::ModelProvider {
            model_provider_id: provider_id.to_owned(),
            organization_id: row.text("organization_id")?.to_owned(),
            name: row.text("name")?.to_owned(),
            rev: row.int("rev")?,
            ..proto::ModelProvider::default()
        },
        sealed: None,
    })
}

fn scope(ws: &mut WriteSet, organization: &OrganizationId) -> RevRef {
    ws.scope(Scope::organization(organization))
}

/// Adds a model provider of an organization.
pub fn insert(ws: &mut WriteSet, organization: &OrganizationId, provider: &ModelProvider) {
    let rev = scope(ws, organization);
    ws.insert(
        &MODEL_PROVIDERS,
        [
            (&provider.model_provider_id).into(),
            organization.into(),
            provider.view.name.as_str().into(),
            provider.view.encode_to_vec().into(),
            provider.sealed.clone().into(),
            rev.into(),
        ],
    );
}

/// Changes a model provider that is as it was loaded; anything else is a conflict.
pub fn update(ws: &mut WriteSet, organization: &OrganizationId, loaded_rev: i64, provider: &ModelProvider) {
    let rev = scope(ws, organization);
    let set = [
        ("name", provider.view.name.as_str().into()),
        ("view", provider.view.encode_to_vec().into()),
        ("secrets", provider.sealed.clone().into()),
        ("rev", rev.into()),
    ];
    let key = [(&provider.model_provider_id).into()];
    ws.update(&MODEL_PROVIDERS, &key, &set, &[("rev", loaded_rev.into())]);
}

/// Deletes a model provider that is as it was loaded; anything else is a conflict.
pub fn delete(ws: &mut WriteSet, organization: &OrganizationId, provider: &ModelProvider) {
    let rev = scope(ws, organization);
    let key = [(&provider.model_provider_id).into()];
    ws.delete(&MODEL_PROVIDERS, &key, &[("rev", provider.view.rev.into())]);
    ws.tombstone(rev, KIND, provider.model_provider_id.as_str());
}

/// Guards the write set: the model provider must exist when it is committed.
pub fn must_exist(ws: &mut WriteSet, organization: &OrganizationId, id: &str) {
    let is = [("model_provider_id", Value::from(id)), ("organization_id", organization.into())];
    ws.guard(Guard::exists(&MODEL_PROVIDERS, &is));
}

/// The stored model provider with this id, in any organization; the caller checks access.
pub async fn find(store: &Store, id: &ModelProviderId) -> Result<Option<ModelProvider>, Error> {
    store.query(BY_ID, &[id.into()]).await?.first().map(read).transpose()
}

/// The model provider of an organization with a name.
pub async fn find_by_name(
    store: &Store,
    organization: &OrganizationId,
    name: &str,
) -> Result<Option<ModelProvider>, Error> {
    store.query(BY_NAME, &[organization.into(), name.into()]).await?.first().map(read).transpose()
}

/// Model providers of an organization by name, from after the given one on.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    after: &str,
    limit: u32,
) -> Result<Vec<ModelProvider>, Error> {
    store.query(LIST, &[organization.into(), after.into(), limit.into()]).await?.iter().map(listed).collect()
}
