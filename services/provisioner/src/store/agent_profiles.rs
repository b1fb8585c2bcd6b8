//! Table `agent_profiles`.

use foundry_core::{Error, OrganizationId, ProfileId};
use foundry_proto::provisioner::v1 as proto;
use foundry_store::{Guard, RevRef, Row, Scope, Store, Table, Value, WriteSet, is_damaged};
use prost::Message as _;

use super::id;
use crate::domain::Profile;

/// A row for each profile of an organization.
pub static AGENT_PROFILES: Table = Table::new(
    "agent_profiles",
    &["profile_id", "organization_id", "name", "model_provider_id", "is_default", "view", "secrets", "rev"],
    &["profile_id"],
);

const BY_ID: &str = "SELECT * FROM agent_profiles WHERE profile_id = $1";
const BY_NAME: &str = "SELECT * FROM agent_profiles WHERE organization_id = $1 AND name = $2";
const DEFAULT: &str = "SELECT * FROM agent_profiles WHERE organization_id = $1 AND is_default = 1";
const USING: &str = "SELECT name FROM agent_profiles WHERE model_provider_id = $1 ORDER BY name LIMIT 20";
const LIST: &str =
    "SELECT * FROM agent_profiles WHERE organization_id = $1 AND name > $2 ORDER BY name LIMIT $3";
/// Kind of its tombstones.
const KIND: &str = "agent_profile";

fn read(row: &Row) -> Result<Profile, Error> {
    let mut view: proto::AgentProfile = decoded(row)?;
    view.rev = row.int("rev")?;
    // The column decides, so that taking the default from a profile need not rewrite its view.
    view.settings.get_or_insert_default().is_default = row.bool("is_default")?;
    Ok(Profile {
        profile_id: id(row.text("profile_id")?)?,
        organization_id: id(row.text("organization_id")?)?,
        view,
        sealed: row.opt_blob("secrets")?,
    })
}

/// The view of a row, which names its own id.
pub fn decoded(row: &Row) -> Result<proto::AgentProfile, Error> {
    let id = row.text("profile_id")?;
    row.own_message("view", |view: proto::AgentProfile| (view.profile_id == id).then_some(view))
}

/// The same for lists, which show of one that cannot be decoded its id and name.
fn listed(row: &Row) -> Result<Profile, Error> {
    let profile_id = row.text("profile_id")?;
    match decoded(row) {
        Err(e) if is_damaged(&e) => {}
        _ => return read(row),
    }
    let settings = proto::AgentProfileSettings {
        name: row.text("name")?.to_owned(),
        is_default: row.bool("is_default")?,
        ..proto::AgentProfileSettings::default()
    };
    Ok(Profile {
        profile_id: id(profile_id)?,
        organization_id: id(row.text("organization_id")?)?,
        view: proto::AgentProfile {
            profile_id: profile_id.to_owned(),
            organization_id: row.text("organization_id")?.to_owned(),
            settings: Some(settings),
            rev: row.int("rev")?,
            ..proto::AgentProfile::default()
        },
        sealed: None,
    })
}

fn scope(ws: &mut WriteSet, profile: &Profile) -> RevRef {
    ws.scope(Scope::organization(&profile.organization_id))
}

/// When this profile is to be the default, takes the default from the profile that has it.
fn take_default(ws: &mut WriteSet, rev: RevRef, profile: &Profile) {
    if profile.settings().is_default {
        let now = [("organization_id", (&profile.organization_id).into()), ("is_default", true.into())];
        ws.update_where(&AGENT_PROFILES, &now, &[("is_default", false.into()), ("rev", rev.into())]);
    }
}

/// Adds a profile.
pub fn insert(ws: &mut WriteSet, profile: &Profile) {
    let rev = scope(ws, profile);
    take_default(ws, rev, profile);
    let settings = profile.settings();
    ws.insert(
        &AGENT_PROFILES,
        [
            (&profile.profile_id).into(),
            (&profile.organization_id).into(),
            settings.name.as_str().into(),
            settings.model_provider_id.as_str().into(),
            settings.is_default.into(),
            profile.view.encode_to_vec().into(),
            profile.sealed.clone().into(),
            rev.into(),
        ],
    );
}

/// Changes a profile that is as it was loaded; anything else is a conflict. `was_default`: whether it was the default
/// when loaded.
pub fn update(ws: &mut WriteSet, loaded_rev: i64, was_default: bool, profile: &Profile) {
    let rev = scope(ws, profile);
    if !was_default {
        take_default(ws, rev, profile);
    }
    let settings = profile.settings();
    let set = [
        ("name", settings.name.as_str().into()),
        ("model_provider_id", settings.model_provider_id.as_str().into()),
        ("is_default", settings.is_default.into()),
        ("view", profile.view.encode_to_vec().into()),
        ("secrets", profile.sealed.clone().into()),
        ("rev", rev.into()),
    ];
    ws.update(&AGENT_PROFILES, &[(&profile.profile_id).into()], &set, &[("rev", loaded_rev.into())]);
}

/// Deletes a profile that is as it was loaded; anything else is a conflict.
pub fn delete(ws: &mut WriteSet, profile: &Profile) {
    let rev = scope(ws, profile);
    ws.delete(&AGENT_PROFILES, &[(&profile.profile_id).into()], &[("rev", profile.view.rev.into())]);
    ws.tombstone(rev, KIND, profile.profile_id.as_str());
}

/// Guards the write set: no profile may use the model provider when it is committed.
pub fn none_uses(ws: &mut WriteSet, model_provider_id: &str) {
    ws.guard(Guard::absent(&AGENT_PROFILES, &[("model_provider_id", Value::from(model_provider_id))]));
}

/// The profile with this id, in any organization; the caller checks access.
pub async fn find(store: &Store, id: &ProfileId) -> Result<Option<Profile>, Error> {
    store.query(BY_ID, &[id.into()]).await?.first().map(read).transpose()
}

/// The profile of an organization with a name.
pub async fn find_by_name(
    store: &Store,
    organization: &OrganizationId,
    name: &str,
) -> Result<Option<Profile>, Error> {
    store.query(BY_NAME, &[organization.into(), name.into()]).await?.first().map(read).transpose()
}

/// The default profile of an organization.
pub async fn find_default(store: &Store, organization: &OrganizationId) -> Result<Option<Profile>, Error> {
    store.query(DEFAULT, &[organization.into()]).await?.first().map(read).transpose()
}

/// Names of the profiles that use a model provider; 20 at most.
pub async fn names_using(store: &Store, model_provider_id: &str) -> Result<Vec<String>, Error> {
    let rows = store.query(USING, &[model_provider_id.into()]).await?;
    rows.iter().map(|row| row.text("name").map(str::to_owned)).collect()
}

/// Profiles of an organization by name, from after the given one on.
pub async fn list(
    store: &Store,
    organization: &OrganizationId,
    after: &str,
    limit: u32,
) -> Result<Vec<Profile>, Error> {
    store.query(LIST, &[organization.into(), after.into(), limit.into()]).await?.iter().map(listed).collect()
}
