//! Repeated requests: the same id gets the first answer.

use std::time::Duration;

use foundry_authn::Caller;
use foundry_core::{Env, Error, Result, Timestamp};
use foundry_store::{BodyHash, CommitError, Committed, IdempotencyKey, Store, WriteSet};
use prost::Message;

const MAX_REQUEST_ID: usize = 128;
/// How long the answer to a command is remembered; that to a create is for good.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);

/// What makes a request the same as an earlier one.
pub(crate) struct Repeat {
    key: IdempotencyKey,
    hash: BodyHash,
}

impl Repeat {
    /// `body` is the request without its request id.
    pub(crate) fn new(
        caller: &Caller,
        organization: &str,
        method: &'static str,
        request_id: &str,
        body: &impl Message,
    ) -> Result<Self> {
        if request_id.len() > MAX_REQUEST_ID {
            return Err(Error::invalid_field("request_id", "must have at most 128 bytes"));
        }
        let key = IdempotencyKey {
            organization: organization.to_owned(),
            caller: caller.actor(),
            method,
            request_id: request_id.to_owned(),
        };
        Ok(Self { key, hash: BodyHash::of(&body.encode_to_vec()) })
    }

    /// The first answer, if the request was committed before.
    pub(crate) async fn answered<R: Message + Default>(&self, store: &Store) -> Result<Option<R>> {
        let replay = store.replay(&self.key, self.hash).await?;
        replay.map(|r| R::decode(r.response).map_err(Error::internal)).transpose()
    }

    /// The first answer and the revision of its first scope, if the request was committed before.
    pub(crate) async fn answered_at<R: Message + Default>(&self, store: &Store) -> Result<Option<(R, i64)>> {
        let replay = store.replay(&self.key, self.hash).await?;
        replay.map(|r| Ok((R::decode(r.response).map_err(Error::internal)?, r.rev))).transpose()
    }

    /// The answer of a commit: that of this attempt, or of one that ran at the same time and won.
    /// The latter may also show as a refusal, because what it did makes this one illegal.
    pub(crate) async fn answer<R: Message + Default>(
        &self,
        store: &Store,
        committed: Result<(Committed, R), CommitError>,
    ) -> Result<R> {
        match committed {
            Ok((_, response)) => Ok(response),
            Err(CommitError::Replayed { response, .. }) => R::decode(response).map_err(Error::internal),
            Err(CommitError::Refused(e)) => self.answered(store).await?.ok_or(e),
            Err(e) => Err(e.into()),
        }
    }

    /// Remembers the answer to a create, for good.
    pub(crate) fn remember_create(&self, set: &mut WriteSet, response: &impl Message) {
        set.idempotency(self.key.clone(), self.hash, response.encode_to_vec(), None);
    }

    /// Remembers the answer to a command, for a week.
    pub(crate) fn remember_command(&self, set: &mut WriteSet, response: &impl Message, env: &Env) {
        let until: Timestamp = env.clock.now().plus(REMEMBERED);
        set.idempotency(self.key.clone(), self.hash, response.encode_to_vec(), Some(until));
    }
}
