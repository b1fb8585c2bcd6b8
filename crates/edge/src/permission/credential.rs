//! Whose stream it is: the credential that opened it, and the newest token behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_authn::{Authenticator, Caller, StreamPass, TokenError};
use foundry_core::{Clock, Code, Error, OrganizationId};
use http::header::HeaderValue;
use tonic::Status;

use super::authorize::{Grant, is_refusal};
use crate::host::{Token, TokenExchange};
use crate::owners::{Owners, is_final};
use crate::watch_request::WatchRequest;

/// Wait for a token that takes the newest revocations into account.
const RENEW_AGAIN: Duration = Duration::from_secs(1);

/// What tokens are renewed and judged with.
pub(crate) struct Tokens {
    pub(crate) exchange: Arc<dyn TokenExchange>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A token that takes the newest revocations into account.
pub(crate) struct Fresh {
    pub(crate) caller: Caller,
    authorization: HeaderValue,
    /// The number of its exchange, if it can be exchanged again.
    exchange: Option<u64>,
}

/// What an owner says of a watch, good for the epoch in which it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// An error ends the watch.
    pub(crate) outcome: Result<Grant, Status>,
    pub(crate) epoch: u64,
}

/// What became of a question.
pub(crate) enum Asked {
    Judged(Judgement),
    /// Refused under a token that may not say yet what the caller became just before.
    Doubtful,
    /// It must be asked again, in a while.
    Later,
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
        *foundry_core::lock(&self.token) = token;
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
    pub(crate) async fn fresh(&self) -> Result<Fresh, Status> {
        loop {
            let token = self.token();
            let opaque = match token {
                Token::Jwt { caller, authorization } => {
                    let caller =
                        self.tokens.authenticator.revocations().apply(caller).map_err(Error::from)?;
                    if self.is_outdated(&caller) {
                        // Nobody can renew it here, and it never becomes newer by itself: its caller must.
                        return Err(Error::from(TokenError::Revoked).into_status());
                    }
                    return Ok(Fresh { caller, authorization, exchange: None });
                }
                Token::Opaque(token) => token,
            };
            let exchanged = self.tokens.exchange.exchange_token(&opaque).await?;
            if !self.is_outdated(&exchanged.caller) {
                return Ok(Fresh {
                    caller: exchanged.caller,
                    authorization: exchanged.authorization,
                    exchange: Some(exchanged.number),
                });
            }
            // It was exchanged a moment before.
            self.tokens.clock.sleep(RENEW_AGAIN).await;
        }
    }

    /// How many tokens were exchanged so far: one of a later exchange knows all that is so by now.
    pub(crate) fn exchanges(&self) -> u64 {
        self.tokens.exchange.exchanges()
    }

    /// Has a token exchanged after that number, unless nobody here can renew it.
    ///
    /// # Errors
    /// As [`Credential::fresh`].
    pub(crate) async fn renew_since(&self, exchanges: u64) -> Result<(), Status> {
        match self.token() {
            Token::Opaque(token) => self.tokens.exchange.renew_since(&token, exchanges).await,
            Token::Jwt { .. } => Ok(()),
        }
    }

    /// Asks the owner of a watch under the newest token. A refusal under a token of an exchange that was counted in
    /// `doubt` is doubtful.
    pub(crate) async fn ask(&self, owners: &Owners, wanted: &WatchRequest, doubt: Option<u64>) -> Asked {
        let epoch = self.epoch();
        let (outcome, fresh) = match self.fresh().await {
            Ok(fresh) => (self.ask_under(&fresh, owners, wanted).await, Some(fresh)),
            Err(status) => (Err(status), None),
        };
        if epoch != self.epoch() {
            return Asked::Later;
        }
        let status = match outcome {
            Ok(grant) => return Asked::Judged(Judgement { outcome: Ok(grant), epoch }),
            Err(status) => status,
        };
        let exchange = fresh.as_ref().and_then(|fresh| fresh.exchange);
        if is_refusal(&status) && exchange.is_some_and(|number| doubt.is_some_and(|doubt| number <= doubt)) {
            return Asked::Doubtful;
        }
        // What the caller became while the owner answered counts, and a token that nobody here can renew.
        let is_true = !fresh.is_some_and(|fresh| self.is_outdated(&fresh.caller));
        let is_lost = status.code() == Code::Unauthenticated && !self.can_be_renewed();
        if (is_final(&status) && is_true) || is_lost {
            return Asked::Judged(Judgement { outcome: Err(status), epoch });
        }
        tracing::debug!(watch = wanted.method.name(), %status, "a watch is not allowed yet");
        Asked::Later
    }

    async fn ask_under(
        &self,
        fresh: &Fresh,
        owners: &Owners,
        wanted: &WatchRequest,
    ) -> Result<Grant, Status> {
        let grant = owners.authorize(wanted, &fresh.authorization).await?;
        // The owner may not have heard yet what is known here.
        if let Some(organization) = &grant.organization
            && self.lost(&fresh.caller, organization)
        {
            return Err(membership_lost(organization).into_status());
        }
        Ok(grant)
    }

    /// Whether a token made now would say something else.
    fn is_outdated(&self, caller: &Caller) -> bool {
        caller.as_user().is_some_and(|user| self.tokens.authenticator.revocations().needs_renewal(user))
    }

    fn token(&self) -> Token {
        foundry_core::lock(&self.token).clone()
    }

    /// Whether the caller is known to be no member.
    pub(crate) fn lost(&self, caller: &Caller, organization: &OrganizationId) -> bool {
        let now = self.tokens.authenticator.revocations().apply(caller.clone());
        now.is_ok_and(|caller| caller.role_in(organization).is_none())
    }

    fn can_be_renewed(&self) -> bool {
        matches!(self.token(), Token::Opaque(_))
    }
}

/// What ends a watch whose caller is no member any more.
pub(crate) fn membership_lost(organization: &OrganizationId) -> Error {
    Error::new(Code::PermissionDenied, "MEMBERSHIP_REVOKED", "you are no longer a member of the organization")
        .with("organization_id", organization.as_str())
}
