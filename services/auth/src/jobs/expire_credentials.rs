//! Revokes expired sessions and personal access tokens, so that their open streams end too.

use std::sync::Arc;

use foundry_authn::credential_key;
use foundry_core::Result;
use foundry_store::{CommitError, WriteSet};

use crate::auth::Auth;
use crate::store::{credentials, revocations};

const BATCH: u32 = 100;

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    loop {
        let now = auth.env.clock.now();
        let expired = credentials::expired(&auth.store, now, BATCH).await?;
        let mut set = WriteSet::new();
        for credential_id in &expired {
            credentials::revoke(&mut set, credential_id, now);
            revocations::add(&mut set, &credential_key(credential_id), now);
        }
        if expired.is_empty() {
            return Ok(());
        }
        match auth.store.commit(set).await {
            Ok(_) => {}
            // The owner or another replica revoked one first: the next run handles the rest.
            Err(CommitError::GuardFailed { .. }) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn an_expired_token_is_revoked_so_that_its_streams_end() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let made = f.access_token(&alice, &acme, Some(Duration::from_secs(60))).await;
        let program = f.caller(&made.secret).await.unwrap();
        run(f.auth.clone()).await.unwrap();
        f.follow().await;
        assert!(f.auth.revocations.apply(program.clone()).is_ok());
        f.clock.advance(Duration::from_secs(60));
        run(f.auth.clone()).await.unwrap();
        f.follow().await;
        assert_eq!(f.auth.revocations.apply(program).unwrap_err().reason(), "TOKEN_REVOKED");
        assert!(f.auth.revocations.apply(alice).is_ok());
    }
}
