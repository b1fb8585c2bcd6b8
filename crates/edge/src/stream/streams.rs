//! The open streams by name, so that a call can change the set of one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foundry_authn::UserCaller;
use foundry_core::{Code, Error, OnWake, Random, Result};
use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::subscription_set::SubscriptionSet;
use crate::permission::Credential;

/// The open streams; cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<String, Arc<Entry>>>>);

/// One open stream as the calls that change it know it.
pub(crate) struct Entry {
    user_id: String,
    credential_id: String,
    pub(crate) subscriptions: SubscriptionSet,
    pub(crate) credential: Arc<Credential>,
}

impl Streams {
    /// Names a stream of this caller, unguessably, until the answer is dropped.
    pub(crate) fn register(
        &self,
        random: &dyn Random,
        user: &UserCaller,
        subscriptions: SubscriptionSet,
        credential: Credential,
    ) -> Registered {
        let mut id = [0; 16];
        random.fill(&mut id);
        let stream_id = format!("{:032x}", u128::from_be_bytes(id));
        let entry = Arc::new(Entry {
            user_id: user.user_id.to_string(),
            credential_id: user.credential_id.clone(),
            subscriptions,
            credential: Arc::new(credential),
        });
        self.lock(|streams| streams.insert(stream_id.clone(), Arc::clone(&entry)));
        Registered { streams: self.clone(), stream_id, entry }
    }

    /// The stream of this name, if this caller opened it with this credential.
    ///
    /// # Errors
    /// `NOT_FOUND`, the same for one that is not there and one of somebody else.
    pub(crate) fn find(&self, stream_id: &str, user: &UserCaller) -> Result<Arc<Entry>> {
        let entry = self.lock(|streams| streams.get(stream_id).cloned());
        let own = |entry: &Arc<Entry>| {
            entry.user_id == user.user_id.as_str() && entry.credential_id == user.credential_id
        };
        entry.filter(own).ok_or_else(unknown)
    }

    fn lock<T>(&self, f: impl FnOnce(&mut HashMap<String, Arc<Entry>>) -> T) -> T {
        // Every change leaves it whole.
        f(&mut foundry_core::lock(&self.0))
    }
}

/// A stream that can be found.
pub(crate) struct Registered {
    streams: Streams,
    stream_id: String,
    entry: Arc<Entry>,
}

impl Registered {
    pub(crate) fn stream_id(&self) -> &str {
        &self.stream_id
    }

    pub(crate) fn subscriptions(&self) -> &SubscriptionSet {
        &self.entry.subscriptions
    }

    /// An item for each time that the set has changes to be taken.
    pub(crate) fn changes(&self) -> OnWake<BoxStream<'static, ()>> {
        let changes = futures::stream::unfold(Arc::clone(&self.entry), |entry| async move {
            entry.subscriptions.wait().await;
            Some(((), entry))
        });
        OnWake::new(changes.boxed())
    }

    pub(crate) fn credential(&self) -> &Arc<Credential> {
        &self.entry.credential
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.streams.lock(|streams| streams.remove(&self.stream_id));
    }
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "WATCH_STREAM_UNKNOWN", "there is no such open stream here")
        .next_action("call `Watch` again with the full set")
}
