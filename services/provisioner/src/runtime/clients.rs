//! Connections to runtimes, one per runtime.

use std::collections::HashMap;
use std::sync::Mutex;

use foundry_core::{Error, SandboxId};
use foundry_runtime_client::RuntimeClient;
use foundry_sandbox::RuntimeFacts;

use crate::domain::Sandbox;

/// The connections of this process.
#[derive(Default)]
pub struct Clients(Mutex<HashMap<SandboxId, (RuntimeFacts, RuntimeClient)>>);

impl Clients {
    /// The connection to the runtime with these facts; opened if there is none yet.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn of(
        &self,
        sandbox: &Sandbox,
        facts: &RuntimeFacts,
        open: impl FnOnce() -> Result<RuntimeClient, Error>,
    ) -> Result<RuntimeClient, Error> {
        let mut known = foundry_core::lock(&self.0);
        if let Some((of, client)) = known.get(&sandbox.sandbox_id)
            && of == facts
        {
            return Ok(client.clone());
        }
        let client = open()?;
        known.insert(sandbox.sandbox_id.clone(), (facts.clone(), client.clone()));
        Ok(client)
    }

    /// Drops the connection to a sandbox's runtime.
    pub fn forget(&self, id: &SandboxId) {
        foundry_core::lock(&self.0).remove(id);
    }
}
