//! Connections to runtimes, one per runtime.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use foundry_core::{Env, Error, SandboxId};
use foundry_sandbox::{AcpId, RuntimeClient};

use crate::domain::Sandbox;

/// The connections of this process.
#[derive(Default)]
pub struct Clients(Mutex<Known>);

#[derive(Default)]
struct Known {
    clients: HashMap<SandboxId, (String, RuntimeClient)>,
    resynced: HashSet<(String, AcpId)>,
}

impl Clients {
    /// The connection to a sandbox's runtime.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(&self, sandbox: &Sandbox, env: &Env) -> Result<RuntimeClient, Error> {
        let Some(facts) = &sandbox.facts else {
            return Err(Error::precondition(
                "RUNTIME_ABSENT",
                sandbox.sandbox_id.as_str(),
                "the sandbox has no running runtime",
            ));
        };
        let key = format!("{}:{}:{}", facts.runtime_instance, facts.pid, facts.port);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = known.clients.get(&sandbox.sandbox_id)
            && *of == key
        {
            return Ok(client.clone());
        }
        let client = RuntimeClient::new(facts, env.clone())?;
        known.clients.insert(sandbox.sandbox_id.clone(), (key, client.clone()));
        Ok(client)
    }

    /// The same, for one conversation: a half-written message that a killed predecessor of this process
    /// may have left is ended once, before anything else is said.
    ///
    /// # Errors
    /// When the sandbox has no runtime.
    pub async fn of_conversation(
        &self,
        sandbox: &Sandbox,
        acp: &AcpId,
        env: &Env,
    ) -> Result<RuntimeClient, Error> {
        let client = self.of(sandbox, env)?;
        let instance = sandbox.facts.as_ref().map(|f| f.runtime_instance.clone()).unwrap_or_default();
        let first = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.resynced.insert((format!("{}/{instance}", sandbox.sandbox_id), acp.clone()))
        };
        if first && let Err(e) = client.resync(acp).await {
            // An agent that is not started yet, or is gone, has nothing half-written.
            tracing::debug!(session = %acp, error = %e, "resync was not taken");
        }
        Ok(client)
    }

    /// Forgets a sandbox.
    pub fn forget(&self, id: &SandboxId) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clients.remove(id);
        let prefix = format!("{id}/");
        known.resynced.retain(|(of, _)| !of.starts_with(&prefix));
    }
}
