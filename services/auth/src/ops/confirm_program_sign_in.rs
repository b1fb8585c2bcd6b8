//! ConfirmProgramSignIn: lets a program in as the user of the page, once.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::auth::v1::{ConfirmProgramSignInRequest, ConfirmProgramSignInResponse};
use foundry_service::{audit, with_detail};
use foundry_store::WriteSet;

use super::waiting_program::{page_user, place, waiting};
use crate::auth::Auth;
use crate::domain::program::{CODE_LIFETIME, ProgramState};
use crate::domain::sign_in::{hash, new_secret};
use crate::store::program_sign_ins;

pub(crate) async fn confirm_program_sign_in(
    auth: &Auth,
    caller: &Caller,
    request: ConfirmProgramSignInRequest,
) -> Result<ConfirmProgramSignInResponse> {
    let user = page_user(auth, caller).await?;
    let code = new_secret(&auth.env);
    let decide = || async {
        let row = waiting(auth, user, &request.program_sign_in_id, &request.user_code).await?;
        let mut set = WriteSet::new();
        let mut more = vec![("user_id", user.into())];
        if row.returns() {
            let end = row.expires_at.min(auth.env.clock.now().plus(CODE_LIFETIME));
            more.extend([("code_hash", hash(&code).to_vec().into()), ("expires_at", end.into())]);
        }
        program_sign_ins::advance(&mut set, &row, ProgramState::Confirmed, &more);
        if let Some(place) = place(auth, user).await? {
            let id = row.program_sign_in_id.as_str();
            let record = audit(&place, caller, "", "program_sign_in.confirm", id, "");
            let detail = serde_json::json!({
                "program": row.program, "device": row.device, "address": row.address, "means": row.means().as_str(),
            });
            set.audit(with_detail(record, detail));
        }
        let response = ConfirmProgramSignInResponse { redirect_url: row.redirect("code", &code)? };
        Ok((set, response))
    };
    Ok(auth.store.retry_on_conflict(decide).await?.1)
}
