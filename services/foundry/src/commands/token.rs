//! `foundry token`: personal access tokens.

use std::process::ExitCode;

use foundry_proto::auth::v1::{
    AccessToken, CreateAccessTokenRequest, ListAccessTokensRequest, RevokeAccessTokenRequest,
};

use crate::cli::{Output, Token};
use crate::client::{Gateway, request_id};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Token) -> Result<ExitCode, Failure> {
    match command {
        Token::Create { name, days } => create(gateway, output, name, days).await?,
        Token::List => list(gateway, output).await?,
        Token::Revoke { token_id } => {
            let request = RevokeAccessTokenRequest { request_id: request_id(), access_token_id: token_id };
            let answer = gateway.auth().revoke_access_token(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("revoked"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(gateway: &Gateway, output: Output, name: String, days: Option<u32>) -> Result<(), Failure> {
    let lifetime = days.map(|d| prost_types::Duration { seconds: i64::from(d) * 86_400, nanos: 0 });
    let organization_id = gateway.organization().await?;
    let request = CreateAccessTokenRequest { request_id: request_id(), organization_id, name, lifetime };
    let answer = gateway.auth().create_access_token(request).await?.into_inner();
    output::one(output, &answer, |answer| {
        output::line(&answer.secret);
        eprintln!("This is the only time the secret is shown.");
    })
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let mut tokens: Vec<AccessToken> = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListAccessTokensRequest { page_size: 0, page_token };
        let page = gateway.auth().list_access_tokens(request).await?.into_inner();
        tokens.extend(page.access_tokens);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if output == Output::Json {
        return tokens.iter().try_for_each(|token| output::json(token).map(|text| output::line(&text)));
    }
    let rows = tokens.iter().map(|t| {
        let state = if t.revoke_time.is_some() { "revoked" } else { "active" };
        vec![
            t.access_token_id.clone(),
            t.name.clone(),
            state.to_owned(),
            output::time(t.create_time.as_ref()),
            output::time(t.expire_time.as_ref()),
            output::time(t.last_use_time.as_ref()),
        ]
    });
    output::table(&["id", "name", "state", "created", "expires", "last used"], rows.collect());
    Ok(())
}
