//! Exchanging a code for tokens (RFC 6749, RFC 7636).

use foundry_core::{Error, Result};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthorizationCode, Client, ClientSecret, ExtraTokenFields, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, StandardRevocableToken, StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use serde::{Deserialize, Serialize};

use super::http::{CallError, Http};
use super::{client_id, refused_code, unreachable};

/// What a provider answers besides the token itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WithIdToken {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

impl ExtraTokenFields for WithIdToken {}

type Answer = StandardTokenResponse<WithIdToken, BasicTokenType>;
type OAuthClient = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

/// The tokens of a sign-in. They are stored encrypted only.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Tokens {
    /// For calls of the provider as the user.
    pub(crate) access_token: String,
    /// What an OpenID Connect provider says about the user.
    pub(crate) id_token: Option<String>,
}

/// A client of the provider for one call.
pub(super) fn client(id: &str) -> OAuthClient {
    OAuthClient::new(client_id(id))
}

/// What an exchange needs.
pub(super) struct Exchange<'a> {
    pub(super) http: &'a Http,
    pub(super) client_id: &'a str,
    pub(super) secret: &'a str,
    pub(super) token: TokenUrl,
    pub(super) secret_in_body: bool,
    pub(super) code: &'a str,
    pub(super) verifier: &'a str,
    pub(super) redirect_uri: &'a str,
}

pub(super) async fn exchange(it: &Exchange<'_>) -> Result<Tokens> {
    let redirect = RedirectUrl::new(it.redirect_uri.to_owned()).map_err(Error::internal)?;
    let auth_type = if it.secret_in_body { AuthType::RequestBody } else { AuthType::BasicAuth };
    let client = client(it.client_id)
        .set_client_secret(ClientSecret::new(it.secret.to_owned()))
        .set_auth_type(auth_type)
        .set_redirect_uri(redirect)
        .set_token_uri(it.token.clone());
    let answer = client
        .exchange_code(AuthorizationCode::new(it.code.to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(it.verifier.to_owned()))
        .request_async(it.http)
        .await;
    match answer {
        Ok(answer) => Ok(Tokens {
            access_token: answer.access_token().secret().clone(),
            id_token: answer.extra_fields().id_token.clone(),
        }),
        Err(RequestTokenError::Request(e @ CallError::TooLong)) => Err(refused_code(&e.to_string())),
        Err(RequestTokenError::Request(e)) => Err(unreachable(&e.to_string())),
        Err(RequestTokenError::ServerResponse(e)) => {
            Err(refused_code(&format!("it answered {}", e.error().as_ref().escape_debug())))
        }
        // GitHub answers errors as if they were none.
        Err(RequestTokenError::Parse(_, body)) => Err(refused_code(&error_in(&body))),
        Err(RequestTokenError::Other(why)) => {
            Err(refused_code(&format!("it answered {}", why.escape_debug())))
        }
    }
}

/// The error code in an answer that is no token. The answer itself may have secrets.
fn error_in(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => format!("it answered {}", refusal.error.escape_debug()),
        Err(_) => "its answer is no token".to_owned(),
    }
}
