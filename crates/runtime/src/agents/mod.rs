//! The agents of this sandbox, one process for each conversation.

mod agent;
mod input;
mod stderr;
mod tree;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use foundry_core::{SystemClock, Tasks};
use foundry_sandbox::wire::{AgentStart, AgentStarted, Agents, Outcome};
use foundry_sandbox::{AcpId, SandboxName};
use tokio::sync::oneshot;

use self::agent::{Agent, Spec};
use crate::error::{Failure, Kind};
use crate::logs::Logs;
use crate::program::{self, Places};
use crate::tap::filter::Filter;
use crate::tap::log;

/// Longest attempt and agent name, in bytes.
const MAX_NAME: usize = 256;

pub(crate) struct AllAgents {
    sandbox: SandboxName,
    instance: String,
    places: Places,
    logs: Arc<Logs>,
    tasks: Tasks,
    slots: Mutex<BTreeMap<AcpId, Arc<Slot>>>,
}

/// The agent of one conversation. Starts and ends are serialized by `turn`.
#[derive(Default)]
struct Slot {
    turn: tokio::sync::Mutex<()>,
    agent: Mutex<Option<Arc<Agent>>>,
}

impl Slot {
    fn agent(&self) -> Option<Arc<Agent>> {
        foundry_core::lock(&self.agent).clone()
    }

    fn set(&self, agent: Option<Arc<Agent>>) {
        *foundry_core::lock(&self.agent) = agent;
    }
}

impl AllAgents {
    pub fn new(
        sandbox: SandboxName,
        instance: String,
        places: Places,
        logs: Arc<Logs>,
        tasks: Tasks,
    ) -> Self {
        Self { sandbox, instance, places, logs, tasks, slots: Mutex::default() }
    }

    fn slot(&self, acp: &AcpId) -> Arc<Slot> {
        let mut slots = foundry_core::lock(&self.slots);
        Arc::clone(slots.entry(acp.clone()).or_default())
    }

    fn slots(&self) -> Vec<(AcpId, Arc<Slot>)> {
        let slots = foundry_core::lock(&self.slots);
        slots.iter().map(|(acp, slot)| (acp.clone(), Arc::clone(slot))).collect()
    }

    /// All of them, ended ones included.
    pub fn list(&self) -> Agents {
        let agents = self.slots().into_iter().filter_map(|(_, slot)| Some(slot.agent()?.status()));
        Agents { agents: agents.collect() }
    }

    /// Starts the agent of a conversation, or finds the running one of the same attempt.
    pub async fn start(self: &Arc<Self>, acp: AcpId, start: AgentStart) -> Result<AgentStarted, Failure> {
        let all = Arc::clone(self);
        // Runs to its end even when the caller disconnects.
        self.finish("start agent", async move { all.start_in_turn(acp, start).await }).await
    }

    async fn start_in_turn(&self, acp: AcpId, start: AgentStart) -> Result<AgentStarted, Failure> {
        if start.attempt.is_empty() || start.attempt.len() > MAX_NAME || start.agent.len() > MAX_NAME {
            return Err(Failure::invalid(format!(
                "the attempt must be 1 to {MAX_NAME} bytes, and the agent's name at most {MAX_NAME}"
            )));
        }
        let (argv, env) = self.places.expand_all(&start.argv, &start.env)?;
        let directory = self.places.directory(start.cwd.as_deref())?;
        program::check(&argv, &env, &directory)?;
        let slot = self.slot(&acp);
        let _turn = slot.turn.lock().await;
        if self.tasks.cancellation().is_cancelled() {
            return Err(Failure::io("starting the agent", "the runtime is shutting down"));
        }
        if let Some(old) = slot.agent() {
            if old.is_running() && old.attempt == start.attempt {
                return Ok(AgentStarted { pid: old.process.pid, log_offset: old.log_offset, started: false });
            }
            old.end().await?;
        }
        let (place, name) = (self.logs.directory(), acp.to_string());
        let opened =
            tokio::task::spawn_blocking(move || log::open(&place, &name, Box::new(SystemClock))).await;
        let (log, prompts) = opened
            .map_err(|e| Failure::io("opening the log", e))?
            .map_err(|e| Failure::new(Kind::LogUnwritable, format!("the log cannot be opened: {e}")))?;
        let offers = start.offers.into_iter().collect();
        let filter = Filter::new(log, prompts, offers, self.places.model_url.clone());
        let spec = Spec {
            acp,
            sandbox: self.sandbox.clone(),
            instance: self.instance.clone(),
            agent: start.agent,
            attempt: start.attempt,
            argv,
            env,
            directory,
        };
        let agent = Agent::start(spec, filter, &self.logs, &self.tasks)?;
        let started = AgentStarted { pid: agent.process.pid, log_offset: agent.log_offset, started: true };
        slot.set(Some(agent));
        Ok(started)
    }

    /// Records a message and queues it for the agent.
    pub fn pass_on(&self, acp: &AcpId, message: &[u8]) -> Result<Outcome, Failure> {
        let slots = foundry_core::lock(&self.slots);
        let agent = slots.get(acp).and_then(|slot| slot.agent());
        drop(slots);
        let none = || Failure::new(Kind::NotFound, format!("there is no agent for {acp}"));
        agent.ok_or_else(none)?.pass_on(message, &self.logs)
    }

    /// Ends and removes the agent of a conversation, if there is one.
    pub async fn end(self: &Arc<Self>, acp: AcpId) -> Result<(), Failure> {
        let all = Arc::clone(self);
        self.finish("end agent", async move {
            let Some(slot) = all.slots().into_iter().find_map(|(a, slot)| (a == acp).then_some(slot)) else {
                return Ok(());
            };
            let _turn = slot.turn.lock().await;
            if let Some(agent) = slot.agent() {
                agent.end().await?;
                slot.set(None);
            }
            Ok(())
        })
        .await
    }

    /// Ends all of them in parallel.
    pub async fn end_all(self: &Arc<Self>) {
        let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        for (acp, _) in self.slots() {
            let (all, done) = (Arc::clone(self), done.clone());
            self.tasks.spawn("end agent", async move {
                // The supervisor deals with a process that cannot be killed.
                let _ = all.end(acp).await;
                drop(done);
            });
        }
        drop(done);
        // Nothing is ever sent: `recv` returns when the last sender is dropped.
        let _ = all_done.recv().await;
    }

    async fn finish<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (done, outcome) = oneshot::channel();
        self.tasks.spawn(name, async move {
            // The caller may be gone.
            let _ = done.send(work.await);
        });
        outcome.await.unwrap_or_else(|_| Err(Failure::io(name, "the task panicked")))
    }
}
