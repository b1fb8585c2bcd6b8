//! CompleteProgramSignIn: opens the session of a program whose sign-in was confirmed, once; until then it says to wait.

use foundry_authn::Client;
use foundry_core::{CredentialId, ProgramSignInId, Result};
use foundry_proto::auth::v1::{CompleteProgramSignInRequest, CompleteProgramSignInResponse};
use foundry_service::audit_as;
use foundry_store::WriteSet;

use crate::auth::Auth;
use crate::domain::program::{self, Polled, ProgramRow, ProgramState, pending, seconds, too_soon};
use crate::domain::secret::{self, SecretKind};
use crate::domain::session::{Origin, SessionKind};
use crate::store::sessions::Session;
use crate::store::{accounts, organizations, program_sign_ins, users};

pub(crate) async fn complete_program_sign_in(
    auth: &Auth,
    client: &Client,
    request: CompleteProgramSignInRequest,
) -> Result<CompleteProgramSignInResponse> {
    let id: ProgramSignInId = request.program_sign_in_id.parse()?;
    let session = secret::generate(SecretKind::Session, &auth.env);
    // A refusal is decided together with what is written: that the program has asked.
    let decide = || async {
        let row = program_sign_ins::find(&auth.store, &id).await?.ok_or_else(program::unknown)?;
        row.check_secrets(&request.device_code, &request.code, &request.code_verifier)?;
        let now = auth.env.clock.now();
        let mut set = WriteSet::new();
        match row.state {
            ProgramState::Confirmed => {
                row.check_time(now)?;
                let opened = open(auth, client, &mut set, &row, &session).await?;
                Ok((set, Ok(opened)))
            }
            ProgramState::Begun => {
                row.check_time(now)?;
                let (pause, refusal) = match row.polled(now) {
                    Polled::Pending => (row.poll_seconds, pending(seconds(row.poll_seconds))),
                    Polled::TooSoon(pause) => (pause, too_soon(seconds(pause))),
                    // Not a write for each: who has a device code asks as often as it wants.
                    Polled::StillTooSoon => return Err(too_soon(seconds(row.poll_seconds))),
                };
                program_sign_ins::polled(&mut set, &row, now, pause);
                Ok((set, Err(refusal)))
            }
            ProgramState::Denied | ProgramState::Completed | ProgramState::Expired => {
                row.check_waits(now)?;
                Err(program::used())
            }
        }
    };
    auth.store.retry_on_conflict(decide).await?.1
}

/// Uses the sign-in up and adds the session.
async fn open(
    auth: &Auth,
    client: &Client,
    set: &mut WriteSet,
    row: &ProgramRow,
    secret: &str,
) -> Result<CompleteProgramSignInResponse> {
    let user_id = row.user_id.as_ref().ok_or_else(program::unknown)?;
    let user = users::by_id(&auth.store, user_id).await?.ok_or_else(program::unknown)?;
    if !auth.sign_in.providers.is_empty() && !accounts::has_one(&auth.store, user_id).await? {
        // Confirmed by a user of the development sign-in, which counts no more.
        return Err(program::unknown());
    }
    let now = auth.env.clock.now();
    let expires_at = now.plus(auth.config.session_lifetime);
    let new = Session {
        credential_id: CredentialId::generate(&auth.env),
        user_id: user_id.clone(),
        origin: Origin {
            kind: SessionKind::Program,
            means: row.means(),
            provider: String::new(),
            device: format!("{} on {}", row.program, row.device),
            address: client.address.map(|ip| ip.to_string()).unwrap_or_default(),
        },
        created_at: now,
        expires_at: Some(expires_at),
        revoked_at: None,
        last_used_at: None,
    };
    new.insert(set, secret::hash(secret));
    program_sign_ins::advance(set, row, ProgramState::Completed, &[]);
    let organization = match &user.active {
        Some(active) => organizations::by_id(&auth.store, active).await?,
        None => None,
    };
    if let Some(place) = &user.active {
        set.audit(audit_as(user_id.as_str(), place, "session.open", new.credential_id.as_str(), ""));
    }
    Ok(CompleteProgramSignInResponse {
        session_token: secret.to_owned(),
        user: Some(user.message()),
        organization: organization.map(|it| it.message()),
        expire_time: Some(expires_at.to_proto()),
    })
}

#[cfg(test)]
mod tests;
