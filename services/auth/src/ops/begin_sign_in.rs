//! BeginSignIn: remembers a sign-in and returns where the browser goes.

use foundry_core::{Code, Error, Result, SignInId};
use foundry_proto::auth::v1::{BeginSignInRequest, BeginSignInResponse};
use foundry_secrets::Secret;
use foundry_store::WriteSet;
use url::Url;

use crate::auth::Auth;
use crate::domain::name::parse_name;
use crate::domain::sign_in::{LIFETIME, Purpose, SignInRow, State, hash, new_secret, set_up_done};
use crate::sign_in::Request;
use crate::sign_in::config::keeps_secrets;
use crate::store::organizations;
use crate::store::sign_ins::{self, Held};

pub(crate) async fn begin_sign_in(auth: &Auth, request: BeginSignInRequest) -> Result<BeginSignInResponse> {
    let provider = auth.sign_in.provider(&request.provider)?;
    check_redirect(&request.redirect_uri)?;
    let (purpose, organization_name) = purpose(auth, &request).await?;
    let now = auth.env.clock.now();
    let [state, binding, claim, nonce, verifier] = std::array::from_fn(|_| new_secret(&auth.env));
    let asked =
        Request { state: &state, nonce: &nonce, verifier: &verifier, redirect_uri: &request.redirect_uri };
    let authorization_url = provider.authorization_url(&asked)?;
    let row = SignInRow {
        sign_in_id: SignInId::generate(&auth.env),
        provider: provider.name.clone(),
        state: State::Begun,
        binding_hash: hash(&binding).to_vec(),
        claim_hash: hash(&claim).to_vec(),
        return_hash: Vec::new(),
        purpose,
        organization_name,
        redirect_uri: request.redirect_uri,
        nonce,
        reason: String::new(),
        message: String::new(),
        user_id: String::new(),
        organization_id: String::new(),
        expires_at: now.plus(LIFETIME),
    };
    let id = &row.sign_in_id;
    let sealed = auth.sign_in.keys.seal(Held::Verifier.bound_to(id), &Secret::new(verifier))?;
    let mut set = WriteSet::new();
    sign_ins::insert(&mut set, &row, hash(&state), &sealed, now);
    auth.store.commit(set).await?;
    Ok(BeginSignInResponse {
        sign_in_id: row.sign_in_id.to_string(),
        authorization_url,
        claim,
        browser_binding: binding,
        expire_time: Some(row.expires_at.to_proto()),
    })
}

/// The set-up secret, the claim, the code and the session all pass by the address of the page.
fn check_redirect(redirect_uri: &str) -> Result<()> {
    if Url::parse(redirect_uri).is_ok_and(|url| keeps_secrets(&url)) {
        return Ok(());
    }
    let text =
        "`gateway.public_url` is an http:// address of another machine, so secrets would pass unencrypted";
    Err(Error::precondition("PUBLIC_URL_UNSAFE", "gateway.public_url", text)
        .next_action("serve the page over https, set the https:// address, and restart"))
}

/// What the sign-in is for; the set-up secret is checked before anything is remembered.
async fn purpose(auth: &Auth, request: &BeginSignInRequest) -> Result<(Purpose, String)> {
    if request.set_up_secret.is_empty() {
        return Ok((Purpose::SignIn, String::new()));
    }
    let name = parse_name("organization_name", &request.organization_name)?;
    if organizations::home(&auth.store).await?.is_some() {
        return Err(set_up_done());
    }
    let secret = auth.sign_in.set_up.secret(&auth.env).await?;
    if !secret.matches(request.set_up_secret.trim(), auth.env.clock.now())? {
        tracing::warn!("a set-up with a wrong secret was refused");
        let text = "the set-up secret does not match the one in the data directory";
        return Err(Error::new(Code::Unauthenticated, "SET_UP_SECRET_WRONG", text)
            .next_action("read it from the file `auth/set-up.secret` of the data directory"));
    }
    Ok((Purpose::SetUp, name))
}
