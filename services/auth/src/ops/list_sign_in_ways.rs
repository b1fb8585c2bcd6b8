//! ListSignInWays: how one can sign in here.

use foundry_core::Result;
use foundry_proto::auth::v1::{ListSignInWaysResponse, SignInWay, SignInWayKind};

use crate::auth::Auth;
use crate::store::organizations;

pub(crate) async fn list_sign_in_ways(auth: &Auth) -> Result<ListSignInWaysResponse> {
    let ways: Vec<SignInWay> = auth
        .sign_in
        .providers
        .values()
        .map(|provider| SignInWay {
            name: provider.name.clone(),
            title: provider.title.clone(),
            kind: if provider.is_github() { SignInWayKind::Github } else { SignInWayKind::Openid }.into(),
        })
        .collect();
    let set_up_required = !ways.is_empty() && organizations::home(&auth.store).await?.is_none();
    let public_url = auth.public_url.clone();
    Ok(ListSignInWaysResponse { ways, development: auth.development.is_some(), set_up_required, public_url })
}
