//! The sign-in of a program that waits for its user, as the page selects it: by the typed code, or by id where a browser
//! returns to the program. An id alone never selects one with a code: a link to it would spare its user the typing, and
//! with it the thought whether the program is theirs.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, UserId};

use crate::auth::Auth;
use crate::domain::program::{self, ProgramRow, ProgramState, page_session_required, wrong_user_code};
use crate::domain::session::SessionKind;
use crate::store::{program_sign_ins, sessions, users};

/// The user of a call by the page: no other credential confirms programs, or a stolen one could make further sessions.
pub(super) async fn page_user<'a>(auth: &Auth, caller: &'a Caller) -> Result<&'a UserId> {
    let user = caller.require_user()?;
    let session = sessions::find(&auth.store, &user.credential_id).await?;
    match session {
        Some(it) if it.origin.kind == SessionKind::Page && it.revoked_at.is_none() => Ok(&user.user_id),
        _ => Err(page_session_required()),
    }
}

/// What waits, for this user.
///
/// # Errors
/// `USER_CODE_UNKNOWN` and after some of them `LIMIT_REACHED`; the typed refusal of one that waits no longer.
pub(super) async fn waiting(auth: &Auth, user: &UserId, id: &str, user_code: &str) -> Result<ProgramRow> {
    let now = auth.env.clock.now();
    match (id.is_empty(), user_code.is_empty()) {
        (false, true) => {
            let found = program_sign_ins::find(&auth.store, &id.parse()?).await?;
            let row = found.filter(ProgramRow::returns).ok_or_else(program::unknown)?;
            row.check_waits(now)?;
            Ok(row)
        }
        (true, false) => {
            let hash = program::user_code_hash(user_code)?;
            auth.guesses.count(user, now)?;
            let found = program_sign_ins::by_user_code(&auth.store, hash).await?;
            // Whether a code was there once is nobody's to learn.
            let waits = |row: &ProgramRow| row.state == ProgramState::Begun && row.check_time(now).is_ok();
            let row = found.filter(waits).ok_or_else(wrong_user_code)?;
            auth.guesses.take_back(user, now);
            Ok(row)
        }
        _ => Err(Error::invalid_field("user_code", "must be set, or else program_sign_in_id")),
    }
}

/// Where an answer of the user is audited: a session belongs to no organization, so in the active one.
pub(super) async fn place(auth: &Auth, user: &UserId) -> Result<Option<OrganizationId>> {
    Ok(users::by_id(&auth.store, user).await?.and_then(|it| it.active))
}
