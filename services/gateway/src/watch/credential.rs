//! Whose stream it is: the credential that opened it, and the newest token behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foundry_authn::{Authenticator, Caller, StreamPass};
use foundry_core::{Clock, Code, Error, OrganizationId};
use http::header::HeaderValue;
use tonic::Status;

use super::owners::{Grant, Owners, is_final};
use super::wanted::Wanted;
use crate::admission::Token;
use crate::exchange::Exchange;

/// Wait for a token that takes the newest revocations into account.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// What tokens are renewed and judged with.
pub(crate) struct Tokens {
    pub(crate) exchange: Exchange,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The credential of one stream.
pub(crate) struct Credential {
    tokens: Arc<Tokens>,
    /// The newest token that its caller has shown.
    token: Mutex<Token>,
    /// Grows with each revocation that concerns the caller; grants from before count no more.
    epoch: AtomicU64,
}

impl Credential {
    pub(crate) fn new(tokens: Arc<Tokens>, token: Token) -> Self {
        Self { tokens, token: Mutex::new(token), epoch: AtomicU64::new(0) }
    }

    /// A newer token of the same credential.
    pub(crate) fn replace(&self, token: Token) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The number of revocations that concerned the caller.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// What was granted before counts no more.
    pub(crate) fn raise_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// When the stream of this caller must end.
    pub(crate) fn pass(&self, caller: &Caller) -> StreamPass {
        self.tokens.authenticator.stream_pass(caller.clone(), None)
    }

    /// The authenticator's revocations.
    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.tokens.authenticator
    }

    /// The caller as it is now, and the token to ask with.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the credential is of no use any more, or `UNAVAILABLE`.
    pub(crate) async fn fresh(&self) -> Result<(Caller, HeaderValue), Status> {
        loop {
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let opaque = match token {
                Token::Jwt { caller, authorization } => {
                    // Nobody can renew it here. What it lost is left out, or it is refused as a whole.
                    let caller = self.tokens.authenticator.revocations().apply(caller);
                    return Ok((caller.map_err(Error::from)?, authorization));
                }
                Token::Opaque(token) => token,
            };
            let exchanged = self.tokens.exchange.exchange(&opaque).await?;
            let user = exchanged.caller.as_user();
            if !user.is_some_and(|user| self.tokens.authenticator.revocations().needs_renewal(user)) {
                return Ok((exchanged.caller.clone(), exchanged.authorization.clone()));
            }
            // It was exchanged a moment before.
            self.tokens.clock.sleep(RENEW_AGAIN).await;
        }
    }

    /// Asks the owner of a watch under the newest token; the grant is good for the epoch beside it. None = it must be
    /// asked again, in a while.
    ///
    /// # Errors
    /// What ends the watch.
    pub(crate) async fn ask(&self, owners: &Owners, wanted: &Wanted) -> Result<Option<(Grant, u64)>, Status> {
        let epoch = self.epoch();
        match self.ask_once(owners, wanted).await {
            Ok(grant) => Ok((epoch == self.epoch()).then_some((grant, epoch))),
            Err(status) if is_final(&status) => Err(status),
            // A token that nobody here can renew.
            Err(status) if status.code() == Code::Unauthenticated && !self.can_be_renewed() => Err(status),
            Err(status) => {
                tracing::debug!(watch = wanted.method.name(), %status, "a watch is not allowed yet");
                Ok(None)
            }
        }
    }

    async fn ask_once(&self, owners: &Owners, wanted: &Wanted) -> Result<Grant, Status> {
        let (caller, authorization) = self.fresh().await?;
        let grant = owners.authorize(wanted, &authorization).await?;
        // The owner may not have heard yet what is known here.
        if let Some(organization) = &grant.organization
            && self.lost(&caller, organization)
        {
            return Err(membership_lost(organization).into_status());
        }
        Ok(grant)
    }

    /// Whether the caller is known to be no member.
    pub(crate) fn lost(&self, caller: &Caller, organization: &OrganizationId) -> bool {
        let now = self.tokens.authenticator.revocations().apply(caller.clone());
        now.is_ok_and(|caller| caller.role_in(organization).is_none())
    }

    fn can_be_renewed(&self) -> bool {
        matches!(&*self.token.lock().unwrap_or_else(PoisonError::into_inner), Token::Opaque(_))
    }
}

/// What ends a watch whose caller is no member any more.
pub(crate) fn membership_lost(organization: &OrganizationId) -> Error {
    Error::new(Code::PermissionDenied, "MEMBERSHIP_REVOKED", "you are no longer a member of the organization")
        .with("organization_id", organization.as_str())
}
