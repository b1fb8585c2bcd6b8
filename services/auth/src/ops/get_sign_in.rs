//! GetSignIn: how far a sign-in is, for the browser that came back.

use foundry_core::Result;
use foundry_proto::auth::v1::{GetSignInRequest, GetSignInResponse};

use crate::auth::Auth;
use crate::domain::sign_in::unknown;
use crate::store::sign_ins;

pub(crate) async fn get_sign_in(auth: &Auth, request: GetSignInRequest) -> Result<GetSignInResponse> {
    let id = request.sign_in_id.parse()?;
    let row = sign_ins::find(&auth.store, &id).await?.ok_or_else(unknown)?;
    row.check_returned(&request.return_secret)?;
    Ok(GetSignInResponse { state: row.state.message().into(), reason: row.refusal_reason().to_owned() })
}
