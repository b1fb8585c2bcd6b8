//! Preparing an agent to be started in a sandbox: its packages are in the host's tool cache, which every sandbox can
//! read.

use std::path::{Path, PathBuf};

use foundry_sandbox::{AgentInstall, Class, InstalledAgent, Progress, ProviderError};
use foundry_tool_cache::{Cause, ToolError};

use crate::{LocalProvider, Record, bwrap};

impl LocalProvider {
    pub(crate) async fn install(
        &self,
        record: &Record,
        agent: &AgentInstall,
        progress: &Progress,
    ) -> Result<InstalledAgent, ProviderError> {
        let progress = |text: &str| progress(text.to_owned());
        let mut installed = InstalledAgent { foundry: self.foundry_inside(record), ..Default::default() };
        if agent.node {
            let node = self.tools.ensure_node(progress).await.map_err(refused)?;
            installed.node = self.tool_inside(record, &node);
        }
        if let Some(packages) = &agent.packages {
            let tool = self.tools.ensure(packages, progress).await.map_err(refused)?;
            installed.installed = self.tool_inside(record, &tool.dir);
        }
        Ok(installed)
    }

    /// A path of the tool cache as the sandbox sees it.
    fn tool_inside(&self, record: &Record, path: &Path) -> PathBuf {
        match path.strip_prefix(self.tools.dir()) {
            Ok(relative) if record.isolation.is_bubblewrap() => Path::new(bwrap::TOOLS).join(relative),
            _ => path.to_owned(),
        }
    }
}

fn refused(e: ToolError) -> ProviderError {
    let class = match e.cause {
        Cause::Configuration => Class::Configuration,
        Cause::Image => Class::Image,
        Cause::Capacity => Class::Capacity,
        Cause::Timeout => Class::Timeout,
        Cause::Host => Class::Provider,
    };
    let error = ProviderError::new(class, e.reason, e.message.clone());
    if e.retryable { error.retryable().caused_by(e) } else { error.caused_by(e) }
}
