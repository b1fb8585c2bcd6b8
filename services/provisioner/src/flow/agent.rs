//! Agents as the flows need them: installed in a sandbox, and described for a start.

use foundry_agents::{Entry, Launch, Places, Profile, launch};
use foundry_flow::StageContext;
use foundry_sandbox::AgentInstall;
use tokio::sync::watch;

use super::Halt;
use crate::domain::Sandbox;
use crate::shared::{Shared, name_of};

/// Puts an agent into a sandbox, showing what is going on, and says where it is.
///
/// # Errors
/// `AGENT_UNKNOWN`, and those of the provider.
pub async fn install(
    shared: &Shared,
    ctx: &StageContext,
    sandbox: &Sandbox,
    agent: &str,
) -> Result<Places, Halt> {
    let entry = shared.catalogue.get(agent)?;
    let what = AgentInstall {
        name: entry.name().to_owned(),
        packages: entry.packages().cloned(),
        node: entry.runs_on_node(),
    };
    let provider = shared.providers.get(&sandbox.provider)?;
    let name = name_of(&sandbox.sandbox_id)?;
    let (sender, mut words) = watch::channel(String::new());
    let progress = move |text: String| drop(sender.send(text));
    let installing = provider.install_agent(&name, &what, &progress);
    tokio::pin!(installing);
    let installed = loop {
        tokio::select! {
            installed = &mut installing => break installed?,
            Ok(()) = words.changed() => {
                let text = words.borrow_and_update().clone();
                ctx.progress(text).await;
            }
        }
    };
    Ok(Places { foundry: installed.foundry, installed: installed.installed, node: installed.node })
}

/// How an agent is started.
///
/// # Errors
/// `AGENT_UNKNOWN`, `AGENT_MODEL_MISSING`, `AGENT_MODEL_UNSUITABLE`.
pub fn launch_of<'a>(shared: &'a Shared, agent: &str) -> Result<(&'a Entry, Launch), Halt> {
    let entry = shared.catalogue.get(agent)?;
    Ok((entry, launch(entry, None, &Profile::default())?))
}
