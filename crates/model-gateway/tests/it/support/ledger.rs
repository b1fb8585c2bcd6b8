use async_trait::async_trait;
use foundry_http_client::local_client;
use foundry_model_gateway::{
    Access, Ledger, McpAccess, McpRefused, ModelCondition, Refused, SandboxProof, Usage,
};
use foundry_sandbox::RuntimeKey;
use std::sync::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use super::{TOKEN, within};

pub struct TestLedger {
    access: Mutex<Access>,
    /// The key of the sandbox's runtime, where proofs are required.
    pub runtime_key: Mutex<Option<RuntimeKey>>,
    /// The MCP servers of the session.
    pub servers: Mutex<Vec<(String, McpAccess)>>,
    /// Notified when the name of an MCP server is to be resolved, which then hangs.
    pub resolving: Mutex<Option<mpsc::UnboundedSender<()>>>,
    /// Set once the model provider was deleted.
    pub gone: Mutex<bool>,
    used: (mpsc::UnboundedSender<Usage>, AsyncMutex<mpsc::UnboundedReceiver<Usage>>),
    conditions: (mpsc::UnboundedSender<ModelCondition>, AsyncMutex<mpsc::UnboundedReceiver<ModelCondition>>),
}

impl TestLedger {
    pub fn new(access: Access) -> Self {
        let channel = || {
            let (tx, rx) = mpsc::unbounded_channel();
            (tx, AsyncMutex::new(rx))
        };
        let (used, conditions) = (channel(), {
            let (tx, rx) = mpsc::unbounded_channel();
            (tx, AsyncMutex::new(rx))
        });
        Self {
            access: Mutex::new(access),
            runtime_key: Mutex::new(None),
            servers: Mutex::default(),
            resolving: Mutex::new(None),
            gone: Mutex::new(false),
            used,
            conditions,
        }
    }

    fn knows(&self, token: &str, proof: Option<&SandboxProof>) -> bool {
        let key = self.runtime_key.lock().unwrap().clone();
        let proven = key.is_none_or(|key| {
            proof.is_some_and(|p| ["sbx_1", "sbx_3"].contains(&p.sandbox.as_str()) && p.verify(&key))
        });
        token == TOKEN && proven
    }

    pub fn change(&self, change: impl FnOnce(&mut Access)) {
        change(&mut self.access.lock().unwrap());
    }

    pub async fn next_usage(&self) -> Usage {
        within(async { self.used.1.lock().await.recv().await }).await.unwrap()
    }

    pub async fn next_condition(&self) -> ModelCondition {
        within(async { self.conditions.1.lock().await.recv().await }).await.unwrap()
    }

    /// No further report has come, though the lanes are empty.
    pub async fn has_no_more(&self) -> bool {
        self.used.1.lock().await.try_recv().is_err() && self.conditions.1.lock().await.try_recv().is_err()
    }
}

#[async_trait]
impl Ledger for TestLedger {
    async fn access(&self, token: &str, proof: Option<&SandboxProof>) -> Result<Access, Refused> {
        if *self.gone.lock().unwrap() {
            return Err(Refused::ProviderGone("the model provider was deleted".to_owned()));
        }
        let known = self.knows(token, proof);
        if known { Ok(self.access.lock().unwrap().clone()) } else { Err(Refused::Token) }
    }

    async fn mcp(
        &self,
        token: &str,
        proof: Option<&SandboxProof>,
        name: &str,
    ) -> Result<McpAccess, McpRefused> {
        if !self.knows(token, proof) {
            return Err(McpRefused::Token);
        }
        let servers = self.servers.lock().unwrap();
        servers.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone()).ok_or(McpRefused::Unknown)
    }

    async fn mcp_client(&self, _: &McpAccess) -> Result<reqwest::Client, McpRefused> {
        let resolving = self.resolving.lock().unwrap().clone();
        if let Some(asked) = resolving {
            asked.send(()).unwrap();
            std::future::pending::<()>().await;
        }
        Ok(local_client().build().unwrap())
    }

    async fn used(&self, _: &Access, usage: Usage) {
        self.used.0.send(usage).unwrap();
    }

    async fn condition(&self, _: &Access, condition: ModelCondition) {
        self.conditions.0.send(condition).unwrap();
    }
}
