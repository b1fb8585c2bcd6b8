//! What operations, flows and background tasks share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use foundry_agents::Catalogue;
use foundry_authn::Authenticator;
use foundry_core::{Env, Error, FlowId, SandboxId, Tasks};
use foundry_flow::Starter;
use foundry_git::Git;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_runtime_client::RuntimeClient;
use foundry_sandbox::{RuntimeFacts, SandboxName};
use foundry_server::Upstream;
use foundry_store::Store;
use foundry_watch_hub::Hub;
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::Config;
use crate::attachments::Attachments;
use crate::domain::{Sandbox, Session};
use crate::profiles::Profiles;
use crate::providers::Providers;
use crate::runtime::{Clients, Locks, Pumps, StoredOutput};

/// The service's parts; always behind an [`Arc`].
pub struct Shared {
    /// Section `provisioner` of the configuration.
    pub config: Config,
    /// Time and randomness.
    pub env: Env,
    /// The service's database.
    pub store: Store,
    /// Owner of the background tasks.
    pub tasks: Tasks,
    /// Serves the watches.
    pub hub: Hub,
    /// Verifies the tokens of callers.
    pub authenticator: Arc<Authenticator>,
    /// Client of the repo service.
    pub repo: RepoServiceClient<Upstream>,
    /// The sandbox providers.
    pub providers: Providers,
    /// The agents that can be chosen.
    pub catalogue: Catalogue,
    /// Model providers and agent profiles.
    pub profiles: Profiles,
    /// Files of messages and agents.
    pub attachments: Attachments,
    /// The model gateway; empty until it is served. Kept alive by its listener, so that it ends with its last call.
    pub model_gateway: OnceLock<foundry_model_gateway::WeakGateway>,
    /// Directory of bundles on their way to the repo service.
    pub bundles: PathBuf,
    /// Connections to runtimes.
    pub clients: Clients,
    /// The readers of the agents' logs.
    pub pumps: Pumps,
    /// How much output of agents is stored.
    pub stored_output: StoredOutput,
    /// Held during the hand-over of a sandbox's work.
    pub work_locks: Locks,
    /// Wakes the deletion of released events.
    pub reclaim_requested: Notify,
    /// Wakes the health watch.
    pub health_check_requested: Notify,
    /// Permits for listing the processes of sandboxes.
    pub listings: Semaphore,
    /// Git, detected at its first use.
    pub git: OnceCell<Git>,
    /// Starts flows with the commit that creates them.
    pub starter: Starter,
}

impl Shared {
    /// A fresh flow id.
    pub fn flow_id(&self) -> FlowId {
        FlowId::generate(&self.env)
    }

    /// Lets the model gateway call a model provider again whose quota was used up; to be called after the commit that
    /// ends the wait.
    pub fn let_go(&self, provider: &str) {
        if let Some(gateway) = self.model_gateway.get() {
            gateway.let_go(provider);
        }
    }

    /// The git of this host, detected at its first use.
    ///
    /// # Errors
    /// When there is none, or it is too old.
    pub async fn git(&self) -> Result<&Git, foundry_git::GitError> {
        self.git.get_or_try_init(Git::detect).await
    }

    /// The connection to a sandbox's runtime.
    ///
    /// # Errors
    /// `RUNTIME_ABSENT` when it has none, `PROVIDER_UNKNOWN` when its provider is not configured any more.
    pub fn client(&self, sandbox: &Sandbox) -> Result<RuntimeClient, Error> {
        let facts = facts_of(sandbox)?;
        self.clients.of(sandbox, facts, || {
            Ok(RuntimeClient::new(self.providers.get(&sandbox.provider)?.open(facts)?, self.env.clone()))
        })
    }
}

/// The facts of a sandbox's runtime.
///
/// # Errors
/// `RUNTIME_ABSENT` when it has none.
pub fn facts_of(sandbox: &Sandbox) -> Result<&RuntimeFacts, Error> {
    sandbox.facts.as_ref().ok_or_else(|| {
        let id = sandbox.sandbox_id.as_str();
        Error::precondition("RUNTIME_ABSENT", id, "the sandbox has no running runtime")
    })
}

/// A sandbox's name at its provider.
///
/// # Errors
/// Never for an id that we made.
pub fn name_of(id: &SandboxId) -> Result<SandboxName, Error> {
    Ok(id.as_str().parse::<SandboxName>()?)
}

/// A session's name at its runtime.
///
/// # Errors
/// Never for an id that we made.
pub fn acp_of(session: &Session) -> Result<foundry_sandbox::AcpId, Error> {
    Ok(session.session_id.as_str().parse::<foundry_sandbox::AcpId>()?)
}
