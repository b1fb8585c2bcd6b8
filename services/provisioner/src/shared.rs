//! What ops, flows and background tasks share.

use std::path::PathBuf;
use std::sync::Arc;

use foundry_authn::Authenticator;
use foundry_core::{Env, Error, FlowId, SandboxId, Tasks};
use foundry_git::Git;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_sandbox::{AgentCredentials, RuntimeClient, SandboxName};
use foundry_server::Upstream;
use foundry_store::Store;
use foundry_watch::Hub;
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::Config;
use crate::domain::{Sandbox, Session};
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
    /// Model keys.
    pub credentials: AgentCredentials,
    /// Where bundles pass through.
    pub bundles: PathBuf,
    /// Connections to runtimes.
    pub clients: Clients,
    /// The readers of tap logs.
    pub pumps: Pumps,
    /// One hand-over of work per sandbox at a time.
    pub work_locks: Locks,
    /// Asks the health watch to look now.
    pub look: Notify,
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
    /// When it has none.
    pub fn client(&self, sandbox: &Sandbox) -> Result<RuntimeClient, Error> {
        self.clients.of(sandbox, &self.env)
    }

    /// Where a sandbox's HOME is on this host.
    ///
    /// # Errors
    /// When its provider is not configured any more, or keeps sandboxes elsewhere.
    pub fn host_home(&self, sandbox: &Sandbox) -> Result<PathBuf, Error> {
        let provider = self.providers.get(&sandbox.provider)?;
        provider.host_home(&name_of(&sandbox.sandbox_id)?).ok_or_else(|| {
            Error::precondition(
                "SANDBOX_REMOTE",
                sandbox.sandbox_id.as_str(),
                "its files are on another host",
            )
        })
    }
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
