//! Stores when credentials were last used.

use std::sync::Arc;

use foundry_core::Result;
use foundry_store::WriteSet;

use crate::auth::Auth;
use crate::store::credentials;

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    let uses = auth.uses.take();
    if uses.is_empty() {
        return Ok(());
    }
    let mut set = WriteSet::new();
    for (credential_id, at) in &uses {
        credentials::used(&mut set, credential_id, *at);
    }
    auth.store.commit(set).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use foundry_core::Timestamp;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn a_tokens_last_use_shows_to_the_minute() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, None).await;
        f.clock.advance(std::time::Duration::from_secs(90));
        f.caller(&made.secret).await.unwrap();
        run(f.auth.clone()).await.unwrap();
        let id = made.access_token.unwrap().access_token_id.parse().unwrap();
        let token = credentials::token(&f.auth.store, &id).await.unwrap().unwrap();
        assert_eq!(token.last_used_at, Some(Timestamp::from_micros(1_767_225_660_000_000)));
        f.caller(&made.secret).await.unwrap();
        assert!(f.auth.uses.take().is_empty(), "the same minute is not written again");
    }
}
