//! What all operations share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foundry_authn::{Authenticator, Revocations};
use foundry_core::{Env, Timestamp};
use foundry_store::Store;
use foundry_watch_hub::Hub;

use crate::Config;
use crate::development::DevelopmentSignIn;
use crate::keys::PublishedKeys;
use crate::signing::SigningKeys;

/// The service behind its rpcs and jobs.
pub(crate) struct Auth {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) signing: SigningKeys,
    pub(crate) published: PublishedKeys,
    /// None where the development sign-in is not enabled.
    pub(crate) development: Option<DevelopmentSignIn>,
    pub(crate) revocations: Revocations,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) uses: RecentUses,
}

/// When credentials were last used, until a job writes it down: an exchange writes nothing.
#[derive(Default)]
pub(crate) struct RecentUses(Mutex<HashMap<String, Timestamp>>);

/// Uses remembered between two writings; more are forgotten, which costs only their time of use.
const MAX_USES: usize = 10_000;
const MINUTE: i64 = 60_000_000;

impl RecentUses {
    /// Notes a use, to the minute, unless the database knows of one in the same minute.
    pub(crate) fn note(&self, credential_id: &str, known: Option<Timestamp>, now: Timestamp) {
        let minute = Timestamp::from_micros(now.as_micros().div_euclid(MINUTE) * MINUTE);
        if known.is_some_and(|k| k >= minute) {
            return;
        }
        let mut uses = foundry_core::lock(&self.0);
        if uses.len() < MAX_USES || uses.contains_key(credential_id) {
            uses.insert(credential_id.to_owned(), minute);
        }
    }

    /// Takes all notes.
    pub(crate) fn take(&self) -> HashMap<String, Timestamp> {
        std::mem::take(&mut *foundry_core::lock(&self.0))
    }
}
