//! Revokes what the development sign-in has left, as soon as there are identity providers: sessions and personal access
//! tokens of users without an account. A name of one's choice is no identity beside real ones.

use std::sync::Arc;

use foundry_authn::credential_key;
use foundry_core::Result;
use foundry_service::audit_as;
use foundry_store::{CommitError, WriteSet};

use crate::auth::Auth;
use crate::store::{credentials, revocations};

const BATCH: u32 = 100;

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    if auth.sign_in.providers.is_empty() {
        return Ok(());
    }
    loop {
        let left = credentials::without_account(&auth.store, BATCH).await?;
        if left.is_empty() {
            return Ok(());
        }
        let (now, mut set) = (auth.env.clock.now(), WriteSet::new());
        for (credential_id, place) in &left {
            credentials::revoke(&mut set, credential_id, now);
            revocations::add(&mut set, &credential_key(credential_id), now);
            if let Some(organization) = place {
                let session = credential_id.starts_with("crd_");
                let action = if session { "session.close" } else { "access_token.revoke" };
                set.audit(audit_as("service:auth", organization, action, credential_id, ""));
            }
        }
        match auth.store.commit(set).await {
            Ok(_) => tracing::warn!(count = left.len(), "revoked credentials of the development sign-in"),
            // The owner or another replica revoked one first: the next run handles the rest.
            Err(CommitError::GuardFailed { .. }) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}
