//! DenyProgramSignIn: the user of the page does not let a program in.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::auth::v1::{DenyProgramSignInRequest, DenyProgramSignInResponse};
use foundry_service::{audit, with_detail};
use foundry_store::WriteSet;

use super::waiting_program::{page_user, place, waiting};
use crate::auth::Auth;
use crate::domain::program::ProgramState;
use crate::store::program_sign_ins;

pub(crate) async fn deny_program_sign_in(
    auth: &Auth,
    caller: &Caller,
    request: DenyProgramSignInRequest,
) -> Result<DenyProgramSignInResponse> {
    let user = page_user(auth, caller).await?;
    let decide = || async {
        let row = waiting(auth, user, &request.program_sign_in_id, &request.user_code).await?;
        let mut set = WriteSet::new();
        program_sign_ins::advance(&mut set, &row, ProgramState::Denied, &[]);
        if let Some(place) = place(auth, user).await? {
            let id = row.program_sign_in_id.as_str();
            let record = audit(&place, caller, "", "program_sign_in.deny", id, "");
            let detail = serde_json::json!({
                "program": row.program, "device": row.device, "address": row.address,
            });
            set.audit(with_detail(record, detail));
        }
        let redirect_url = row.redirect("error", "access_denied")?;
        Ok((set, DenyProgramSignInResponse { redirect_url }))
    };
    Ok(auth.store.retry_on_conflict(decide).await?.1)
}
