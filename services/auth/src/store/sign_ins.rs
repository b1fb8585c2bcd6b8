//! Table `sign_ins`: sign-ins at identity providers, each used once. The job `retire` removes them an hour after their end.

use foundry_core::{Result, SignInId, Timestamp};
use foundry_secrets::{Column, Sealed};
use foundry_store::{Row, Store, Table, Value, WriteSet};

use super::id;
use crate::domain::sign_in::{Purpose, SignInRow, State};

pub(crate) const TABLE: Table = Table::new(
    "sign_ins",
    &[
        "sign_in_id",
        "provider",
        "state",
        "state_hash",
        "binding_hash",
        "claim_hash",
        "purpose",
        "organization_name",
        "redirect_uri",
        "nonce",
        "verifier",
        "code",
        "tokens",
        "reason",
        "message",
        "user_id",
        "organization_id",
        "created_at",
        "expires_at",
        "return_hash",
    ],
    &["sign_in_id"],
);

/// A secret of a sign-in that is stored encrypted until its flow has used it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// What proves to the provider that the sign-in was begun here (PKCE).
    Verifier,
    /// The code that the provider gave.
    Code,
    /// The tokens for it.
    Tokens,
}

impl Held {
    fn column(self) -> &'static str {
        match self {
            Self::Verifier => "verifier",
            Self::Code => "code",
            Self::Tokens => "tokens",
        }
    }

    /// What the encryption is bound to.
    pub(crate) fn bound_to(self, id: &SignInId) -> Column<'_> {
        Column { service: crate::NAME, table: "sign_ins", row: id.as_str(), column: self.column() }
    }
}

fn read(row: &Row) -> Result<SignInRow> {
    let text = |column| row.text(column).map(str::to_owned);
    Ok(SignInRow {
        sign_in_id: id(row, "sign_in_id")?,
        provider: text("provider")?,
        state: State::parse(row.text("state")?)?,
        binding_hash: row.blob("binding_hash")?.to_vec(),
        claim_hash: row.blob("claim_hash")?.to_vec(),
        return_hash: row.opt_blob("return_hash")?.map(|hash| hash.to_vec()).unwrap_or_default(),
        purpose: Purpose::parse(row.text("purpose")?)?,
        organization_name: text("organization_name")?,
        redirect_uri: text("redirect_uri")?,
        nonce: text("nonce")?,
        reason: text("reason")?,
        message: text("message")?,
        user_id: text("user_id")?,
        organization_id: text("organization_id")?,
        expires_at: row.time("expires_at")?,
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT sign_in_id, provider, state, binding_hash, claim_hash, return_hash, purpose, organization_name, ",
            "redirect_uri, nonce, reason, message, user_id, organization_id, expires_at FROM sign_ins ",
            $rest
        )
    };
}

/// The sign-in with this id.
pub(crate) async fn find(store: &Store, id: &SignInId) -> Result<Option<SignInRow>> {
    store.query(select!("WHERE sign_in_id = $1"), &[id.into()]).await?.first().map(read).transpose()
}

/// The sign-in whose `state` has this hash.
pub(crate) async fn by_state(store: &Store, hash: [u8; 32]) -> Result<Option<SignInRow>> {
    let rows = store.query(select!("WHERE state_hash = $1"), &[Value::from(&hash[..])]).await?;
    rows.first().map(read).transpose()
}

/// A held secret, as it is stored; none once it was used.
pub(crate) async fn held(store: &Store, id: &SignInId, what: Held) -> Result<Option<Sealed>> {
    const SQL: &str = "SELECT verifier, code, tokens FROM sign_ins WHERE sign_in_id = $1";
    let rows = store.query(SQL, &[id.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(row.opt_blob(what.column())?.map(|bytes| Sealed::from_bytes(bytes.to_vec())))
}

/// Adds a sign-in that begins, with the hash of its `state` and its encrypted verifier.
pub(crate) fn insert(
    set: &mut WriteSet,
    row: &SignInRow,
    state_hash: [u8; 32],
    verifier: &Sealed,
    now: Timestamp,
) {
    let values = [
        (&row.sign_in_id).into(),
        (&row.provider).into(),
        row.state.as_str().into(),
        Value::from(&state_hash[..]),
        row.binding_hash.clone().into(),
        row.claim_hash.clone().into(),
        row.purpose.as_str().into(),
        (&row.organization_name).into(),
        (&row.redirect_uri).into(),
        (&row.nonce).into(),
        verifier.as_bytes().to_vec().into(),
        Value::Null,
        Value::Null,
        "".into(),
        "".into(),
        "".into(),
        "".into(),
        now.into(),
        row.expires_at.into(),
        Value::Null,
    ];
    set.insert(&TABLE, values);
}

/// Moves a sign-in on; fails at commit if another one has moved it.
pub(crate) fn advance(
    set: &mut WriteSet,
    id: &SignInId,
    from: State,
    to: State,
    more: &[(&'static str, Value)],
) {
    let mut changes = vec![("state", to.as_str().into())];
    changes.extend_from_slice(more);
    set.update(&TABLE, &[id.into()], &changes, &[("state", from.as_str().into())]);
}

/// Replaces what is held, in a flow that owns the sign-in.
pub(crate) fn hold(set: &mut WriteSet, id: &SignInId, changes: &[(&'static str, Value)]) {
    set.update_where(&TABLE, &[("sign_in_id", id.into())], changes);
}

/// Ends a sign-in without a session, unless it has ended already, and forgets what it held.
pub(crate) fn refuse(set: &mut WriteSet, id: &str, reason: &str, message: &str) {
    let is = [("sign_in_id", id.into()), ("state", State::Received.as_str().into())];
    let mut changes = vec![
        ("state", State::Refused.as_str().into()),
        ("reason", reason.into()),
        ("message", message.into()),
    ];
    changes.extend(forgotten());
    set.update_where(&TABLE, &is, &changes);
}

/// The columns of held secrets, emptied.
pub(crate) fn forgotten() -> [(&'static str, Value); 3] {
    ["verifier", "code", "tokens"].map(|column| (column, Value::Null))
}

/// Ids of sign-ins that ended before this time.
pub(crate) async fn ended(store: &Store, before: Timestamp, limit: u32) -> Result<Vec<SignInId>> {
    const SQL: &str = "SELECT sign_in_id FROM sign_ins WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";
    store.query(SQL, &[before.into(), limit.into()]).await?.iter().map(|row| id(row, "sign_in_id")).collect()
}

/// Removes a sign-in.
pub(crate) fn remove(set: &mut WriteSet, id: &SignInId) {
    set.delete_where(&TABLE, &[("sign_in_id", id.into())]);
}
