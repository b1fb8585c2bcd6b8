//! What all commands share: idempotency by request id, optimistic concurrency, the revision in the answer.

use std::future::Future;
use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_store::{BodyHash, CommitError, IdempotencyKey, Scope, WriteSet};
use prost::Message;

use crate::shared::Shared;

/// How long the answers of commands are remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest request id.
const MAX_REQUEST_ID: usize = 200;

/// An answer that tells the revision of its change.
pub(crate) trait Answer: Message + Default + Clone {
    /// Sets the revision, known only after the commit.
    fn set_rev(&mut self, rev: i64);
}

macro_rules! answers {
    ($($name:ident)*) => {$(
        impl Answer for foundry_proto::provisioner::v1::$name {
            fn set_rev(&mut self, rev: i64) {
                self.rev = rev;
            }
        }
    )*};
}

/// The same for answers with an entity that has the revision in it too.
macro_rules! answers_with {
    ($($name:ident.$entity:ident)*) => {$(
        impl Answer for foundry_proto::provisioner::v1::$name {
            fn set_rev(&mut self, rev: i64) {
                self.rev = rev;
                if let Some(entity) = &mut self.$entity {
                    entity.rev = rev;
                }
            }
        }
    )*};
}

answers_with! {
    CreateModelProviderResponse.model_provider UpdateModelProviderResponse.model_provider
    CreateAgentProfileResponse.profile UpdateAgentProfileResponse.profile
}

answers! {
    EnsureSandboxResponse RetrySandboxResponse DestroySandboxResponse CreateAgentSessionResponse
    RetryAgentSessionResponse ResumeAgentSessionResponse PromptAgentSessionResponse CancelPromptResponse RespondToPermissionResponse
    RespondToElicitationResponse SetAgentSessionOptionResponse SetModelLimitResponse
    CloseAgentSessionResponse PutAttachmentResponse DeleteAttachmentResponse DeleteModelProviderResponse DeleteAgentProfileResponse
}

/// One command of a caller in an organization.
pub(crate) struct Command<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) organization: &'a OrganizationId,
    pub(crate) key: IdempotencyKey,
    pub(crate) hash: BodyHash,
}

impl<'a> Command<'a> {
    /// A command; `body` is the request without its request id.
    pub(crate) fn new(
        shared: &'a Shared,
        caller: &Caller,
        organization: &'a OrganizationId,
        method: &'static str,
        request_id: &str,
        body: &impl Message,
    ) -> Result<Self, Error> {
        if request_id.len() > MAX_REQUEST_ID {
            return Err(Error::invalid_field("request_id", "must be at most 200 bytes"));
        }
        let key = IdempotencyKey {
            organization: organization.to_string(),
            caller: caller.actor(),
            method,
            request_id: request_id.to_owned(),
        };
        Ok(Self { shared, organization, key, hash: BodyHash::of(&body.encode_to_vec()) })
    }

    /// The first answer of a repeated command in whichever organization of the caller it was given: for one whose
    /// subject is gone since.
    pub(crate) async fn answered<R: Answer>(
        shared: &Shared,
        caller: &Caller,
        method: &'static str,
        request_id: &str,
        body: &impl Message,
    ) -> Result<Option<R>, Error> {
        for membership in caller.memberships() {
            let organization = membership.organization_id;
            let command = Command::new(shared, caller, &organization, method, request_id, body)?;
            if let Some(replay) = shared.store.replay(&command.key, command.hash).await? {
                return answer(&replay.response, replay.rev).map(Some);
            }
        }
        Ok(None)
    }

    /// Decides and commits, deciding anew when something changed meanwhile; a repeated request gets its
    /// first answer.
    pub(crate) async fn run<R, F, Fut>(&self, decide: F) -> Result<R, Error>
    where
        R: Answer,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(WriteSet, R), Error>>,
    {
        let store = &self.shared.store;
        if let Some(replay) = store.replay(&self.key, self.hash).await? {
            return answer(&replay.response, replay.rev);
        }
        let scope = Scope::organization(self.organization);
        let committed = store
            .retry_on_conflict(|| async {
                let (mut decided, mut response) = decide().await?;
                if decided.is_empty() {
                    // Read before what the answer shows: a change that it does not show must stay news to its reader.
                    let head = store.head(&scope).await?;
                    (decided, response) = decide().await?;
                    response.set_rev(head);
                }
                // The organization's revision is the one that the answer tells: it comes first.
                let mut ws = WriteSet::new();
                if !decided.is_empty() {
                    ws.scope(scope.clone());
                }
                ws.merge(decided);
                let expires = self.shared.env.clock.now().plus(REMEMBERED);
                ws.idempotency(self.key.clone(), self.hash, response.encode_to_vec(), Some(expires));
                Ok((ws, response))
            })
            .await;
        match committed {
            Ok((committed, mut response)) => {
                if let Some(rev) = committed.scope_rev(&scope) {
                    response.set_rev(rev);
                }
                Ok(response)
            }
            Err(CommitError::Replayed { response, rev }) => answer(&response, rev),
            Err(e) => Err(e.into()),
        }
    }
}

fn answer<R: Answer>(stored: &[u8], rev: i64) -> Result<R, Error> {
    let mut response = R::decode(stored).map_err(Error::internal)?;
    // Without a change of its own the answer holds the revision it was decided at.
    if rev > 0 {
        response.set_rev(rev);
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
