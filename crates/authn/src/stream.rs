//! When an open stream must end. A stream is bound to its credential, not to the five minutes of the token that opened
//! it.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Clock, Code, Error, OrganizationId, Timestamp};
use foundry_watch::{AuthorizationEvent, StreamAuthorization};
use futures::StreamExt as _;
use futures::stream::BoxStream;

use crate::{Caller, Revocations, TokenError};

/// Time between the notice and the end of a stream that ends because the revocation feed is lost.
const NOTICE: Duration = Duration::from_secs(10);

/// A notice to an open stream.
#[derive(Debug)]
pub enum StreamNotice {
    /// The stream ends at this time unless the authorization is renewed.
    Expiring(Timestamp),
    /// The stream ends now, with this error.
    End(Error),
}

/// Watches when a stream of one caller must end.
pub struct StreamPass {
    caller: Caller,
    organization: Option<OrganizationId>,
    revocations: Revocations,
    clock: Arc<dyn Clock>,
    noticed: bool,
}

impl StreamPass {
    /// A pass for a stream of this caller, in an organization where it has one.
    pub fn new(
        caller: Caller,
        organization: Option<OrganizationId>,
        revocations: Revocations,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { caller, organization, revocations, clock, noticed: false }
    }

    /// The notice that is due now, if any.
    pub fn check(&mut self) -> Option<StreamNotice> {
        // A service is let in by the method option and its key; no revocation concerns it.
        let user = self.caller.as_user()?;
        if !self.revocations.allows_credential(&user.credential_id) {
            return Some(StreamNotice::End(TokenError::Revoked.into()));
        }
        if let Some(organization) = &self.organization
            && self.revocations.left(user, organization)
        {
            return Some(StreamNotice::End(membership_lost(organization)));
        }
        // The stream may show what only the former role may see. It may be opened again, with a token that has the new one.
        if let Some(organization) = &self.organization
            && self.revocations.role_changed(user, organization)
        {
            return Some(StreamNotice::End(TokenError::Revoked.into()));
        }
        let now = self.clock.now();
        let end = self.end_without_feed()?;
        if now >= end {
            return Some(StreamNotice::End(TokenError::Expired.into()));
        }
        if !self.noticed && now.plus(NOTICE) >= end {
            self.noticed = true;
            return Some(StreamNotice::Expiring(end));
        }
        None
    }

    /// Waits for the next notice. Safe to drop at any time.
    pub async fn next(&mut self) -> StreamNotice {
        loop {
            let mut changed = self.revocations.subscribe();
            if let Some(notice) = self.check() {
                return notice;
            }
            let wait = self.until_next_check();
            tokio::select! {
                // The sender lives in `revocations`.
                _ = changed.changed() => {}
                () = sleep_for(&*self.clock, wait) => {}
            }
        }
    }

    /// While the feed is lost: the end of the token, but not before the grace is over.
    fn end_without_feed(&self) -> Option<Timestamp> {
        let lost_at = self.revocations.lost_at()?;
        Some(self.caller.expires_at().max(Revocations::grace_end(lost_at)))
    }

    fn until_next_check(&self) -> Option<Duration> {
        let end = self.end_without_feed()?;
        let next = if self.noticed { end } else { end.minus(NOTICE) };
        Some(next.since(self.clock.now()))
    }
}

impl StreamAuthorization for StreamPass {
    fn caller(&self) -> Option<String> {
        self.caller.as_user().map(|u| u.user_id.to_string())
    }

    fn events(self: Box<Self>) -> BoxStream<'static, AuthorizationEvent> {
        // Nothing follows the end.
        let events = futures::stream::unfold(Some(self), |pass| async move {
            let mut pass = pass?;
            Some(match pass.next().await {
                StreamNotice::Expiring(at) => (AuthorizationEvent::Expiring(at), Some(pass)),
                StreamNotice::End(e) => (AuthorizationEvent::Ended(e.into_status()), None),
            })
        });
        events.boxed()
    }
}

async fn sleep_for(clock: &dyn Clock, wait: Option<Duration>) {
    match wait {
        Some(d) => clock.sleep(d).await,
        None => std::future::pending().await,
    }
}

fn membership_lost(organization: &OrganizationId) -> Error {
    Error::new(Code::PermissionDenied, "MEMBERSHIP_REVOKED", "you are no longer a member of the organization")
        .with("organization_id", organization.as_str())
}
