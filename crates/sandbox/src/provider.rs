//! The small trait behind which a sandbox is made, and what its calls take.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use crate::facts::{Allocation, ClonedRepo, Destroyed, Health, OwnedSandbox, PreparedRepo, RuntimeFacts};
use crate::{AgentInstall, InstalledAgent, LimitReport, ProviderError, Sandbox, SandboxName};

/// What `start_agent` takes.
#[derive(Clone, Debug)]
pub struct StartSpec {
    /// The sandbox.
    pub name: SandboxName,
    /// The id of this start, chosen by the caller before the call; ignored when a living runtime is adopted.
    pub runtime_instance: String,
    /// Further environment of everything inside. No secrets: the agent and its commands read it.
    pub env: BTreeMap<String, String>,
}

/// Where the work tree comes from: the caller knows mirrors and git, the provider does not.
#[async_trait]
pub trait CloneSource: Send + Sync {
    /// Makes a full clone (no hard links, no alternates) in `destination`, which does not exist yet.
    async fn clone_into(&self, destination: &Path) -> Result<ClonedRepo, ProviderError>;
}

/// Is called with what a long call does now, in words for people.
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
    /// The name users and ledger know it by.
    fn name(&self) -> &'static str;

    /// Reserves the sandbox.
    async fn allocate(&self, name: &SandboxName) -> Result<Allocation, ProviderError>;

    /// Puts the work tree into it.
    async fn prepare_repo(
        &self,
        name: &SandboxName,
        source: &dyn CloneSource,
    ) -> Result<PreparedRepo, ProviderError>;

    /// Installs one agent and says how it is started. May be called again for further agents, also while
    /// the runtime runs; one that is there already costs nothing.
    async fn install_agent(
        &self,
        name: &SandboxName,
        agent: &AgentInstall,
        progress: &Progress,
    ) -> Result<InstalledAgent, ProviderError>;

    /// Starts the runtime, or adopts the one that runs, and waits until it answers.
    async fn start_agent(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError>;

    /// Looks whether the runtime of these facts lives.
    async fn probe(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError>;

    /// The limits of the sandbox of these facts, and which it has reached. Cheap: it is asked at each look.
    async fn limits(&self, facts: &RuntimeFacts) -> Result<LimitReport, ProviderError>;

    /// Ends every process of the sandbox and removes it. Succeeds when there is none.
    async fn destroy(&self, name: &SandboxName) -> Result<Destroyed, ProviderError>;

    /// The sandboxes that exist, whether or not any ledger knows them.
    async fn list_owned(&self) -> Result<Vec<OwnedSandbox>, ProviderError>;

    /// The handle of the sandbox of these facts; nothing is sent yet.
    ///
    /// # Errors
    /// When the facts are not this provider's.
    fn open(&self, facts: &RuntimeFacts) -> Result<Arc<dyn Sandbox>, ProviderError>;
}
