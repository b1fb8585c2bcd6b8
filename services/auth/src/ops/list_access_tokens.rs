//! ListAccessTokens: the caller's own tokens, newest first, including revoked ones.

use foundry_authn::Caller;
use foundry_core::{AccessTokenId, PageRequest, PageToken, Result};
use foundry_proto::auth::v1::{ListAccessTokensRequest, ListAccessTokensResponse};

use super::reach;
use crate::auth::Auth;
use crate::store::credentials::{self, Token};

pub(crate) async fn list_access_tokens(
    auth: &Auth,
    caller: &Caller,
    request: ListAccessTokensRequest,
) -> Result<ListAccessTokensResponse> {
    let user = caller.require_user()?;
    let page = PageRequest::parse(request.page_size, &request.page_token)?;
    let token = |text: &str| text.parse::<AccessTokenId>().ok().map(|id| id.to_string());
    let before = page.begins_after(String::new(), token)?;
    let only = reach(user);
    let found = credentials::tokens_of(&auth.store, &user.user_id, &only, &before, page.limit()).await?;
    let (found, next) = page.cut(found, |t| t.token_id.to_string());
    Ok(ListAccessTokensResponse {
        access_tokens: found.iter().map(Token::message).collect(),
        next_page_token: PageToken::encode_next(next),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn pages_newest_first_through_the_callers_own() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let (bob, bobs) = f.member("bob", "").await;
        f.access_token(&bob, &bobs, None).await;
        let mut made = Vec::new();
        for _ in 0..3 {
            f.clock.advance(Duration::from_secs(1));
            made.insert(0, f.access_token(&alice, &acme, None).await.access_token.unwrap());
        }
        let request = |page_token| ListAccessTokensRequest { page_size: 2, page_token };
        let first = list_access_tokens(&f.auth, &alice, request(String::new())).await.unwrap();
        let rest = list_access_tokens(&f.auth, &alice, request(first.next_page_token)).await.unwrap();
        let seen: Vec<_> = first.access_tokens.into_iter().chain(rest.access_tokens).collect();
        assert_eq!(seen, made);
        assert_eq!(rest.next_page_token, "");
    }
}
