//! The small trait that providers of sandboxes implement, and the arguments of its calls.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::facts::{Allocation, ClonedRepo, Destroyed, Health, OwnedSandbox, PreparedRepo, RuntimeFacts};
use crate::{AgentInstall, InstalledAgent, LimitReport, ProviderError, Sandbox, SandboxName};

/// The arguments of `start_agent`.
#[derive(Clone, Debug)]
pub struct StartSpec {
    /// The name of the allocated sandbox.
    pub name: SandboxName,
    /// The id of this start, chosen by the caller before the call; ignored when a living runtime is adopted.
    pub runtime_instance: String,
    /// Variables added to the environment of everything inside. No secrets: the agent and its commands can read them.
    pub env: BTreeMap<String, String>,
}

/// The source of the work tree: the caller handles mirrors and git, the provider does not.
#[async_trait]
pub trait CloneSource: Send + Sync {
    /// Makes a full clone (no hard links, no alternates) in `destination`, which does not exist yet.
    async fn clone_into(&self, destination: &Path) -> Result<ClonedRepo, ProviderError>;
}

/// Called with the current step of a long call, as a text for users.
pub type Progress = dyn Fn(String) + Send + Sync;

/// The future of a [`CloneSource`] closure.
pub type CloneFuture = Pin<Box<dyn Future<Output = Result<ClonedRepo, ProviderError>> + Send>>;

#[async_trait]
impl<F> CloneSource for F
where
    F: Fn(PathBuf) -> CloneFuture + Send + Sync,
{
    async fn clone_into(&self, destination: &Path) -> Result<ClonedRepo, ProviderError> {
        self(destination.to_owned()).await
    }
}

/// Makes and unmakes sandboxes. Every call is idempotent by sandbox name: a repetition, also from
/// another process after a crash, finishes or returns what is there. Dropping a future stops the call;
/// what it left is completed by a repetition or removed by [`Provider::destroy`].
#[async_trait]
pub trait Provider: Send + Sync {
    /// The provider's name for users and in the ledger.
    fn name(&self) -> &'static str;

    /// Reserves the sandbox.
    async fn allocate(&self, name: &SandboxName) -> Result<Allocation, ProviderError>;

    /// Puts the work tree into the sandbox.
    async fn prepare_repo(
        &self,
        name: &SandboxName,
        source: &dyn CloneSource,
    ) -> Result<PreparedRepo, ProviderError>;

    /// Installs one agent and returns its paths. May be called again for further agents, also while the runtime runs;
    /// an installed one costs nothing.
    async fn install_agent(
        &self,
        name: &SandboxName,
        agent: &AgentInstall,
        progress: &Progress,
    ) -> Result<InstalledAgent, ProviderError>;

    /// Starts the runtime, or adopts the one that runs, and waits until it answers.
    async fn start_agent(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError>;

    /// Checks whether the runtime of these facts is alive.
    async fn probe(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError>;

    /// The limits of the sandbox of these facts, and which it has reached. Cheap: it is called with each probe.
    async fn limits(&self, facts: &RuntimeFacts) -> Result<LimitReport, ProviderError>;

    /// Ends every process of the sandbox and removes it. Succeeds when there is none.
    async fn destroy(&self, name: &SandboxName) -> Result<Destroyed, ProviderError>;

    /// The sandboxes that exist, whether or not a ledger has them.
    async fn list_owned(&self) -> Result<Vec<OwnedSandbox>, ProviderError>;

    /// The handle of the sandbox of these facts; nothing is sent yet.
    ///
    /// # Errors
    /// When the facts are not this provider's.
    fn open(&self, facts: &RuntimeFacts) -> Result<Arc<dyn Sandbox>, ProviderError>;
}
