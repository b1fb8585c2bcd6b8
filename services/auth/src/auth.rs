//! The state shared by the service's ops and jobs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use foundry_authn::{Authenticator, Revocations};
use foundry_core::{Env, Timestamp};
use foundry_store::Store;
use foundry_watch_hub::Hub;

use crate::Config;
use crate::development::DevelopmentSignIn;
use crate::domain::guesses::Guesses;
use crate::keys::PublishedKeys;
use crate::sign_in::SignIn;
use crate::signing::SigningKeys;

/// The state shared by the service's ops and jobs.
pub(crate) struct Auth {
    pub(crate) config: Config,
    pub(crate) env: Env,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) signing: SigningKeys,
    pub(crate) published: PublishedKeys,
    /// None if the development sign-in is disabled.
    pub(crate) development: Option<DevelopmentSignIn>,
    pub(crate) revocations: Revocations,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) sign_in: SignIn,
    pub(crate) uses: RecentUses,
    /// Origin of the page; empty if it is not configured.
    pub(crate) public_url: String,
    pub(crate) guesses: Guesses,
}

/// Last uses of credentials, until a job stores them. An exchange itself writes nothing.
#[derive(Default)]
pub(crate) struct RecentUses(Mutex<HashMap<String, Timestamp>>);

/// Most uses that are buffered between two runs of the job. For further ones only the time of use is lost.
const MAX_USES: usize = 10_000;
const MINUTE: i64 = 60_000_000;

impl RecentUses {
    /// Records a use, rounded down to the minute, unless the database already has one of that minute.
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

    /// Removes and returns all recorded uses.
    pub(crate) fn take(&self) -> HashMap<String, Timestamp> {
        std::mem::take(&mut *foundry_core::lock(&self.0))
    }
}
