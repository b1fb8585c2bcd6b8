//! Model providers and agent profiles: their secrets, those of the environment, and what a session is started with.

mod access;
mod catalogue;
mod choice;
mod environment;
mod probe;
mod reencrypt;
mod set_up;
mod vault;

pub use access::{ModelAccess, ModelCredential};
pub use catalogue::check_agent;
pub use choice::{Choice, choose};
pub use environment::{EnvironmentKeys, MODEL_VARIABLES};
pub use probe::{ModelFinding, ModelProbe, Probed};
pub use reencrypt::SECRETS;
pub use set_up::{SetUp, mcp_server, set_up};
pub use vault::{open, seal};

use std::sync::Arc;

use foundry_core::{Error, ModelProviderId, OrganizationId};
use foundry_secrets::Keys;
use tokio::sync::Semaphore;

use crate::domain::ModelProvider;
use crate::shared::Shared;
use crate::store::model_providers;

/// Tests of model providers that may run at the same time.
pub const CONCURRENT_TESTS: usize = 4;

/// What operations and flows need for model providers and profiles besides the database.
pub struct Profiles {
    /// The keys that encrypt secrets.
    pub keys: Keys,
    /// The model providers of the environment.
    pub environment: EnvironmentKeys,
    /// Calls a model provider.
    pub probe: Arc<dyn ModelProbe>,
    /// Permits for tests of model providers.
    pub tests: Semaphore,
}

impl Profiles {
    /// Made of these parts.
    pub fn new(keys: Keys, environment: EnvironmentKeys, probe: Arc<dyn ModelProbe>) -> Self {
        Self { keys, environment, probe, tests: Semaphore::new(CONCURRENT_TESTS) }
    }
}

/// The model provider with this id, if the organization may use it: its own, or one of the environment.
pub async fn provider_of(
    shared: &Shared,
    organization: &OrganizationId,
    id: &ModelProviderId,
) -> Result<Option<ModelProvider>, Error> {
    if let Some(found) = shared.profiles.environment.find(id) {
        return Ok(Some(found.clone()));
    }
    let found = model_providers::find(&shared.store, id).await?;
    Ok(found.filter(|provider| provider.organization_id.as_ref() == Some(organization)))
}
