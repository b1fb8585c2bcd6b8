//! What ops, flows and background tasks share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use foundry_agents::Catalogue;
use foundry_authn::Authenticator;
use foundry_core::{Env, Error, FlowId, SandboxId, Tasks};
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
use crate::runtime::{Clients, Locks, Pumps};

/// The service's parts; always behind an [`Arc`].
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// Time and randomness.
    pub env: Env,
    /// The database.
    pub store: Store,
    /// Background tasks.
    pub tasks: Tasks,
    /// Watches.
    pub hub: Hub,
    /// Who calls.
    pub authenticator: Arc<Authenticator>,
    /// The repo service.
    pub repo: RepoServiceClient<Upstream>,
    /// Who makes sandboxes.
    pub providers: Providers,
    /// The agents that can be chosen.
    pub catalogue: Catalogue,
    /// Model providers and agent profiles.
    pub profiles: Profiles,
    /// Files of messages and agents.
    pub attachments: Attachments,
    /// The model gateway, once it is served.
    pub model_gateway: OnceLock<foundry_model_gateway::Gateway>,
    /// Where bundles pass through.
    pub bundles: PathBuf,
    /// Connections to runtimes.
    pub clients: Clients,
    /// The readers of the agents' logs.
    pub pumps: Pumps,
    /// One hand-over of work per sandbox at a time.
    pub work_locks: Locks,
    /// Asks the health watch to look now.
    pub health_check_requested: Notify,
    /// Places for those who ask sandboxes what runs in them.
    pub listings: Semaphore,
    /// Git, found at its first use.
    pub git: OnceCell<Git>,
}

impl Shared {
    /// A fresh flow id.
    pub fn flow_id(&self) -> FlowId {
        FlowId::generate(&self.env)
    }

    /// Lets the model gateway call a model provider again whose quota is used up; for after the commit that says so.
    pub fn let_go(&self, provider: &str) {
        if let Some(gateway) = self.model_gateway.get() {
            gateway.let_go(provider);
        }
    }

    /// Git.
    ///
    /// # Errors
    /// When there is none that is new enough.
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

/// The name under which a provider knows a sandbox.
///
/// # Errors
/// Never for an id of ours.
pub fn name_of(id: &SandboxId) -> Result<SandboxName, Error> {
    Ok(id.as_str().parse::<SandboxName>()?)
}

/// The name under which a runtime knows a session.
///
/// # Errors
/// Never for an id of ours.
pub fn acp_of(session: &Session) -> Result<foundry_sandbox::AcpId, Error> {
    Ok(session.session_id.as_str().parse::<foundry_sandbox::AcpId>()?)
}
