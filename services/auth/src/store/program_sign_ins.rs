//! Table `program_sign_ins`: sign-ins of programs, each confirmed by a user and used once. The job `retire` removes them a
//! few minutes after their end.

use std::net::IpAddr;

use foundry_core::{ProgramSignInId, Result, Timestamp};
use foundry_store::{Guard, Row, Store, Table, Value, WriteSet};

use super::id;
use crate::domain::program::{ProgramRow, ProgramState, Return};

pub(crate) const TABLE: Table = Table::new(
    "program_sign_ins",
    &[
        "program_sign_in_id",
        "state",
        "program",
        "device",
        "address",
        "share",
        "network",
        "secret_hash",
        "user_code_hash",
        "redirect_uri",
        "redirect_state",
        "code_hash",
        "user_id",
        "poll_seconds",
        "polled_at",
        "created_at",
        "expires_at",
    ],
    &["program_sign_in_id"],
);

/// Most that wait from one network, where that is known.
pub(crate) const MAX_PER_NETWORK: i64 = 32;
/// Most that wait of those with a known network, and most of all others: who fills one of the two shares keeps nobody
/// of the other out. Together they bound how likely a guessed user code is one that waits.
pub(crate) const MAX_PER_SHARE: i64 = 500;

fn read(row: &Row) -> Result<ProgramRow> {
    let text = |column| row.text(column).map(str::to_owned);
    let bytes = |column| row.opt_blob(column).map(|it| it.map(|it| it.to_vec()).unwrap_or_default());
    let confirmed = !row.text("user_id")?.is_empty();
    Ok(ProgramRow {
        program_sign_in_id: id(row, "program_sign_in_id")?,
        state: ProgramState::parse(row.text("state")?)?,
        program: text("program")?,
        device: text("device")?,
        address: text("address")?,
        secret_hash: row.blob("secret_hash")?.to_vec(),
        user_code_hash: bytes("user_code_hash")?,
        back: Return { redirect_uri: text("redirect_uri")?, state: text("redirect_state")? },
        code_hash: bytes("code_hash")?,
        user_id: if confirmed { Some(id(row, "user_id")?) } else { None },
        poll_seconds: row.int("poll_seconds")?,
        polled_at: row.opt_time("polled_at")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT program_sign_in_id, state, program, device, address, secret_hash, user_code_hash, redirect_uri, ",
            "redirect_state, code_hash, user_id, poll_seconds, polled_at, created_at, expires_at FROM program_sign_ins ",
            $rest
        )
    };
}

/// The sign-in with this id.
pub(crate) async fn find(store: &Store, id: &ProgramSignInId) -> Result<Option<ProgramRow>> {
    let rows = store.query(select!("WHERE program_sign_in_id = $1"), &[id.into()]).await?;
    rows.first().map(read).transpose()
}

/// The sign-in whose user code has this hash.
pub(crate) async fn by_user_code(store: &Store, hash: [u8; 32]) -> Result<Option<ProgramRow>> {
    let rows = store.query(select!("WHERE user_code_hash = $1"), &[Value::from(&hash[..])]).await?;
    rows.first().map(read).transpose()
}

/// Adds a sign-in that begins from this network, if that is known; fails at commit if too many wait.
pub(crate) fn insert(set: &mut WriteSet, row: &ProgramRow, network: Option<IpAddr>) {
    let share = if network.is_some() { "direct" } else { "unknown" };
    let network = network.map(|it| it.to_string()).unwrap_or_default();
    let waiting: [(&'static str, Value); 2] =
        [("state", ProgramState::Begun.as_str().into()), ("share", share.into())];
    if !network.is_empty() {
        let [state, of_share] = waiting.clone();
        let from_there = [state, of_share, ("network", (&network).into())];
        set.guard(Guard::count_below(&TABLE, &from_there, MAX_PER_NETWORK, "program_sign_ins_per_network"));
    }
    set.guard(Guard::count_below(&TABLE, &waiting, MAX_PER_SHARE, "program_sign_ins"));
    let optional = |bytes: &Vec<u8>| if bytes.is_empty() { Value::Null } else { bytes.clone().into() };
    let values = [
        (&row.program_sign_in_id).into(),
        row.state.as_str().into(),
        (&row.program).into(),
        (&row.device).into(),
        (&row.address).into(),
        share.into(),
        network.into(),
        row.secret_hash.clone().into(),
        optional(&row.user_code_hash),
        (&row.back.redirect_uri).into(),
        (&row.back.state).into(),
        Value::Null,
        "".into(),
        row.poll_seconds.into(),
        Value::Null,
        row.created_at.into(),
        row.expires_at.into(),
    ];
    set.insert(&TABLE, values);
}

/// Moves a sign-in on; fails at commit if another one has moved it.
pub(crate) fn advance(
    set: &mut WriteSet,
    row: &ProgramRow,
    to: ProgramState,
    more: &[(&'static str, Value)],
) {
    let mut changes = vec![("state", to.as_str().into())];
    changes.extend_from_slice(more);
    let key = [(&row.program_sign_in_id).into()];
    set.update(&TABLE, &key, &changes, &[("state", row.state.as_str().into())]);
}

/// Notes a question of the program that came at this time, and the pause from now on.
pub(crate) fn polled(set: &mut WriteSet, row: &ProgramRow, now: Timestamp, poll_seconds: i64) {
    let is = [("program_sign_in_id", (&row.program_sign_in_id).into())];
    let changes = [("polled_at", now.into()), ("poll_seconds", poll_seconds.into())];
    set.update_where(&TABLE, &is, &changes);
}

/// Ids of sign-ins that still wait, but no longer count at this time.
pub(crate) async fn overdue(store: &Store, now: Timestamp, limit: u32) -> Result<Vec<ProgramSignInId>> {
    const SQL: &str = "SELECT program_sign_in_id FROM program_sign_ins WHERE expires_at <= $1 AND state = $2 \
         ORDER BY expires_at LIMIT $3";
    let waiting = ProgramState::Begun.as_str();
    let rows = store.query(SQL, &[now.into(), waiting.into(), limit.into()]).await?;
    rows.iter().map(|row| id(row, "program_sign_in_id")).collect()
}

/// Ends a sign-in that nobody has confirmed in time, so that it takes nobody's room any more.
pub(crate) fn expire(set: &mut WriteSet, id: &ProgramSignInId) {
    let is = [("program_sign_in_id", id.into()), ("state", ProgramState::Begun.as_str().into())];
    set.update_where(&TABLE, &is, &[("state", ProgramState::Expired.as_str().into())]);
}

/// Ids of sign-ins that ended before this time.
pub(crate) async fn ended(store: &Store, before: Timestamp, limit: u32) -> Result<Vec<ProgramSignInId>> {
    const SQL: &str =
        "SELECT program_sign_in_id FROM program_sign_ins WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2";
    let rows = store.query(SQL, &[before.into(), limit.into()]).await?;
    rows.iter().map(|row| id(row, "program_sign_in_id")).collect()
}

/// Removes a sign-in.
pub(crate) fn remove(set: &mut WriteSet, id: &ProgramSignInId) {
    set.delete_where(&TABLE, &[("program_sign_in_id", id.into())]);
}
