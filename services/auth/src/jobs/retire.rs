//! Removes aged-out rows: revocations of which every token has expired, sign-ins that ended an hour ago and those of programs
//! that ended some minutes ago, tombstones, remembered requests.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Result;
use foundry_store::{CommitError, WriteSet};

use crate::auth::Auth;
use crate::store::{program_sign_ins, revocations, sign_ins};

const BATCH: u32 = 500;
/// How long it can be seen how a sign-in ended.
const SIGN_INS_KEPT: Duration = Duration::from_secs(3_600);
/// How long a program can see that its sign-in has expired.
const PROGRAM_SIGN_INS_KEPT: Duration = Duration::from_secs(300);
/// How long a watch can resume from an old position.
const TOMBSTONES_KEPT: Duration = Duration::from_secs(86_400);

pub(crate) async fn run(auth: Arc<Auth>) -> Result<()> {
    let now = auth.env.clock.now();
    let ended = revocations::ended(&auth.store, now, BATCH).await?;
    if !ended.is_empty() {
        let mut set = WriteSet::new();
        for entry in &ended {
            revocations::retire(&mut set, entry);
        }
        match auth.store.commit(set).await {
            Ok(_) => {}
            // One was renewed in between: the next run handles the others.
            Err(CommitError::GuardFailed { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    // All of them, however many strangers have begun.
    loop {
        let over = sign_ins::ended(&auth.store, now.minus(SIGN_INS_KEPT), BATCH).await?;
        if over.is_empty() {
            break;
        }
        let mut set = WriteSet::new();
        for id in &over {
            sign_ins::remove(&mut set, id);
        }
        auth.store.commit(set).await?;
    }
    loop {
        let overdue = program_sign_ins::overdue(&auth.store, now, BATCH).await?;
        if overdue.is_empty() {
            break;
        }
        let mut set = WriteSet::new();
        for id in &overdue {
            program_sign_ins::expire(&mut set, id);
        }
        auth.store.commit(set).await?;
    }
    loop {
        let over = program_sign_ins::ended(&auth.store, now.minus(PROGRAM_SIGN_INS_KEPT), BATCH).await?;
        if over.is_empty() {
            break;
        }
        let mut set = WriteSet::new();
        for id in &over {
            program_sign_ins::remove(&mut set, id);
        }
        auth.store.commit(set).await?;
    }
    auth.store.sweep_tombstones(now.minus(TOMBSTONES_KEPT)).await?;
    auth.store.sweep_idempotency().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn a_revocation_stays_longer_than_every_token_it_concerns_and_leaves_a_tombstone() {
        let f = Fixture::new().await;
        let (alice, acme) = f.member("alice", "acme").await;
        let all = async || revocations::all(&f.auth.store).await.unwrap().0;
        let before = all().await;
        assert_eq!(before.len(), 1);
        f.clock.advance(foundry_authn::TOKEN_LIFETIME + foundry_authn::LEEWAY * 2);
        run(f.auth.clone()).await.unwrap();
        assert_eq!(all().await, before);
        f.clock.advance(Duration::from_secs(600));
        run(f.auth.clone()).await.unwrap();
        assert_eq!(all().await, []);
        let snapshot = f.auth.store.snapshot().await.unwrap();
        let gone = snapshot.tombstones_after(&revocations::scope(), None, before[0].rev, 10).await.unwrap();
        let key = foundry_authn::role_key(&alice.as_user().unwrap().user_id, &acme);
        assert_eq!(gone.iter().map(|t| t.key.as_str()).collect::<Vec<_>>(), [key]);
    }
}
