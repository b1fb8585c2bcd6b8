//! A sandbox provider for tests, never part of the product: it wraps another one and injects faults named by files:
//!
//! ```text
//! <stage>.hang    the call writes `<stage>.hangs` and hangs while the file exists, without an effect
//! <stage>.linger  the call takes effect, writes `<stage>.lingers` and then hangs while the file exists
//! <stage>.fail    holds a number: that many calls fail (each failure decrements it)
//! <stage>.slow    holds milliseconds by which the call is delayed
//! ```
//! Stages: `allocate`, `prepare_repo`, `install_agent`, `start_agent`, `probe`, `destroy`.
//!
//! A hanging call waits for the file's removal as an event (inotify) and polls nothing: a thousand of them cost no
//! processor time, so that a benchmark can measure the mesh at rest.

mod removals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::Env;
use foundry_sandbox::{
    AgentInstall, Allocation, Class, CloneSource, Destroyed, Health, InstalledAgent, LimitReport,
    OwnedSandbox, PreparedRepo, Progress, Provider, ProviderError, RuntimeFacts, Sandbox, SandboxName,
    StartSpec,
};
use removals::Removals;
use tokio::sync::OnceCell;

/// The provider wrapped with faults.
pub struct FaultProvider {
    inner: Arc<dyn Provider>,
    directory: PathBuf,
    /// Opened by the first call that hangs.
    removals: OnceCell<Removals>,
    env: Env,
}

impl FaultProvider {
    /// Wraps a provider; `directory` holds the files that inject faults.
    pub fn new(inner: Arc<dyn Provider>, directory: PathBuf, env: Env) -> Self {
        Self { inner, directory, removals: OnceCell::new(), env }
    }

    async fn number(&self, file: &str) -> Option<u64> {
        tokio::fs::read_to_string(self.directory.join(file)).await.ok()?.trim().parse().ok()
    }

    /// Waits until a file does not exist.
    async fn hang(&self, file: &str) -> Result<(), ProviderError> {
        let file = self.directory.join(file);
        if !tokio::fs::try_exists(&file).await.unwrap_or(false) {
            return Ok(());
        }
        let failed = |e| ProviderError::io("waiting for the removal of a file", e);
        let open = async || Removals::of(&self.directory);
        self.removals.get_or_try_init(open).await.map_err(failed)?.gone(&file).await.map_err(failed)
    }

    /// Shows a test that a call hangs.
    async fn mark(&self, file: &str) -> Result<(), ProviderError> {
        let written = tokio::fs::write(self.directory.join(file), "").await;
        written.map_err(|e| ProviderError::io("showing that a call hangs", e))
    }

    /// Hangs between a call's effect and its answer, where a file asks for it.
    async fn linger<T>(&self, stage: &str, answer: Result<T, ProviderError>) -> Result<T, ProviderError> {
        let file = format!("{stage}.linger");
        if answer.is_ok() && tokio::fs::try_exists(self.directory.join(&file)).await.unwrap_or(false) {
            self.mark(&format!("{stage}.lingers")).await?;
            self.hang(&file).await?;
        }
        answer
    }

    async fn inject_fault(&self, stage: &str) -> Result<(), ProviderError> {
        let file = format!("{stage}.hang");
        if tokio::fs::try_exists(self.directory.join(&file)).await.unwrap_or(false) {
            self.mark(&format!("{stage}.hangs")).await?;
            self.hang(&file).await?;
        }
        if let Some(millis) = self.number(&format!("{stage}.slow")).await {
            self.env.clock.sleep(Duration::from_millis(millis)).await;
        }
        let file = format!("{stage}.fail");
        match self.number(&file).await {
            Some(left @ 1..) => {
                tokio::fs::write(self.directory.join(&file), (left - 1).to_string())
                    .await
                    .map_err(|e| ProviderError::io("counting down a planted failure", e))?;
                let text = format!("planted failure of {stage}, {} left", left - 1);
                Err(ProviderError::new(Class::Provider, "PLANTED_FAILURE", text).retryable())
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Provider for FaultProvider {
    fn name(&self) -> &'static str {
        "fault"
    }

    async fn allocate(&self, name: &SandboxName) -> Result<Allocation, ProviderError> {
        self.inject_fault("allocate").await?;
        self.linger("allocate", self.inner.allocate(name).await).await
    }

    async fn prepare_repo(
        &self,
        name: &SandboxName,
        source: &dyn CloneSource,
    ) -> Result<PreparedRepo, ProviderError> {
        self.inject_fault("prepare_repo").await?;
        self.linger("prepare_repo", self.inner.prepare_repo(name, source).await).await
    }

    async fn install_agent(
        &self,
        name: &SandboxName,
        agent: &AgentInstall,
        progress: &Progress,
    ) -> Result<InstalledAgent, ProviderError> {
        self.inject_fault("install_agent").await?;
        self.linger("install_agent", self.inner.install_agent(name, agent, progress).await).await
    }

    async fn start_agent(&self, spec: &StartSpec) -> Result<RuntimeFacts, ProviderError> {
        self.inject_fault("start_agent").await?;
        self.linger("start_agent", self.inner.start_agent(spec).await).await
    }

    async fn probe(&self, facts: &RuntimeFacts) -> Result<Health, ProviderError> {
        self.inject_fault("probe").await?;
        self.linger("probe", self.inner.probe(facts).await).await
    }

    async fn limits(&self, facts: &RuntimeFacts) -> Result<LimitReport, ProviderError> {
        self.inner.limits(facts).await
    }

    async fn destroy(&self, name: &SandboxName) -> Result<Destroyed, ProviderError> {
        self.inject_fault("destroy").await?;
        self.linger("destroy", self.inner.destroy(name).await).await
    }

    async fn list_owned(&self) -> Result<Vec<OwnedSandbox>, ProviderError> {
        self.inner.list_owned().await
    }

    fn open(&self, facts: &RuntimeFacts) -> Result<Arc<dyn Sandbox>, ProviderError> {
        self.inner.open(facts)
    }
}
