//! What all commands share: idempotency by request id, optimistic concurrency, the revision in the answer.

use std::future::Future;

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId};
use foundry_service::RequestKey;
use foundry_store::{Scope, WriteSet};
use prost::Message;

use crate::shared::Shared;

/// An answer that carries the revision of its change.
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

/// The same for answers that carry the revision in their entity too.
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
    CloseAgentSessionResponse ReleaseAgentEventsResponse PutAttachmentResponse DeleteAttachmentResponse DeleteModelProviderResponse DeleteAgentProfileResponse
}

/// One command of a caller in an organization.
pub(crate) struct Command<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) organization: &'a OrganizationId,
    pub(crate) key: RequestKey,
}

impl<'a> Command<'a> {
    /// A command; `body` is the request without its request id, to recognize a repetition.
    pub(crate) fn new(
        shared: &'a Shared,
        caller: &Caller,
        organization: &'a OrganizationId,
        method: &'static str,
        request_id: &str,
        body: &impl Message,
    ) -> Result<Self, Error> {
        let key = RequestKey::new(organization.as_str(), caller, method, request_id, body)?;
        Ok(Self { shared, organization, key })
    }

    /// The first answer to a repeated command in any organization of the caller: the subject, which would name the
    /// organization, may no longer exist.
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
            if let Some((first, rev)) = command.key.first_answer(&shared.store).await? {
                return Ok(Some(at(first, rev)));
            }
        }
        Ok(None)
    }

    /// Decides and commits, and decides again when another commit got in between. A repeated request gets its first
    /// answer.
    pub(crate) async fn run<R, F, Fut>(&self, decide: F) -> Result<R, Error>
    where
        R: Answer,
        F: Fn() -> Fut,
        Fut: Future<Output = Result<(WriteSet, R), Error>>,
    {
        let store = &self.shared.store;
        if let Some((first, rev)) = self.key.first_answer(store).await? {
            return Ok(at(first, rev));
        }
        let scope = Scope::organization(self.organization);
        let committed = store
            .retry_on_conflict(|| async {
                let (mut decided, mut response) = decide().await?;
                if decided.is_empty() {
                    // Read before the content of the answer: a change that the answer does not show must have a
                    // higher revision.
                    let head = store.head(&scope).await?;
                    (decided, response) = decide().await?;
                    response.set_rev(head);
                }
                // The organization's scope comes first, because the answer carries its revision.
                let mut ws = WriteSet::new();
                if !decided.is_empty() {
                    ws.scope(scope.clone());
                }
                ws.merge(decided);
                self.key.remember(&mut ws, &response, &self.shared.env);
                Ok((ws, response))
            })
            .await;
        let (response, rev) = self.key.settle(store, Some(&scope), committed).await?;
        Ok(at(response, rev))
    }
}

/// The answer with the revision of its change; without a change (0) it keeps the one it was decided at.
fn at<R: Answer>(mut answer: R, rev: i64) -> R {
    if rev > 0 {
        answer.set_rev(rev);
    }
    answer
}

#[cfg(test)]
mod tests;
