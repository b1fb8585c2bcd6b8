//! The environment of a proof, and the steps that all proofs share.

use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Env, Error, FlowId};
use foundry_store::{Store, WriteSet};

use crate::{Binding, Engine, FlowStatus, Options, OwnedDataDirectory, Status, request_cancel};

/// One fresh world: its database and its external effects outlive the engines that a proof kills.
#[async_trait]
pub trait World: Send + Sync {
    /// The service's store, with [`crate::MIGRATIONS`] applied.
    fn store(&self) -> &Store;
    /// Time and randomness of the service.
    fn env(&self) -> &Env;
    /// Moves the clock, and the database's clock with it.
    fn advance(&self, d: Duration);
    /// The bindings of a process that starts now.
    fn flows(&self) -> Vec<Binding>;
    /// Creates the flow, as a request would, and returns its id.
    async fn start(&self) -> Result<FlowId, Error>;
    /// The names of the external effects that exist, each as often as it exists.
    async fn effects(&self) -> Vec<String>;
    /// The projected state of the entity, without attempts, times and other traces of how it was reached.
    async fn shown(&self) -> String;
    /// Called after the death of each process, and at the end: asserts what holds whatever was interrupted.
    async fn holds(&self) {}
    /// Called whenever the flow rests unfinished: acts as the external system, for example by sending a signal that the
    /// flow waits for.
    async fn outside_acts(&self) {}
}

/// The end of a flow, compared between a disturbed and an undisturbed run.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub(super) status: Status,
    reason: String,
    effects: Vec<String>,
    shown: String,
}

impl End {
    pub(super) async fn of(world: &impl World, id: &FlowId) -> Self {
        world.holds().await;
        let flow = status(world, id).await;
        // Ids differ between two worlds.
        let mut effects: Vec<String> =
            world.effects().await.iter().map(|e| e.replace(id.as_str(), "")).collect();
        effects.sort();
        Self { status: flow.status, reason: flow.reason, effects, shown: world.shown().await }
    }
}

pub(super) async fn started(world: &impl World) -> FlowId {
    match world.start().await {
        Ok(id) => id,
        Err(e) => panic!("the flow could not be started: {e:?}"),
    }
}

pub(super) fn engine(world: &impl World, options: Options) -> Engine {
    match Engine::new(world.store().clone(), world.env().clone(), world.flows(), options) {
        Ok(engine) => engine,
        Err(e) => panic!("the engine could not be built: {e:?}"),
    }
}

/// The engine of the process after a crash.
pub(super) async fn successor(world: &impl World, options: Options) -> Engine {
    world.holds().await;
    let engine = engine(world, options);
    match engine.recover(&OwnedDataDirectory::held_by(&())).await {
        Ok(_) => engine,
        Err(e) => panic!("the engine could not recover: {e:?}"),
    }
}

pub(super) async fn status(world: &impl World, id: &FlowId) -> FlowStatus {
    match crate::find(world.store(), id).await {
        Ok(Some(status)) => status,
        other => panic!("the flow cannot be read: {other:?}"),
    }
}

pub(super) async fn cancel(store: &Store, id: &FlowId) {
    let mut ws = WriteSet::new();
    request_cancel(&mut ws, id);
    if let Err(e) = store.commit(ws).await {
        panic!("a cancel was refused: {e:?}");
    }
}

/// Runs the flow to its end under these options.
pub(super) async fn finish(world: &impl World, id: &FlowId, options: Options) -> FlowStatus {
    run(world, id, &engine(world, options)).await;
    status(world, id).await
}

/// Runs an engine until the flow has ended or the engine is dead, advancing time and the external system whenever the
/// flow rests.
pub(super) async fn run(world: &impl World, id: &FlowId, engine: &Engine) {
    for _ in 0..1_000 {
        if let Err(e) = engine.run_until_idle().await {
            panic!("the engine failed: {e:?}");
        }
        let now = status(world, id).await;
        if now.status.is_finished() || engine.has_crashed() {
            return;
        }
        world.outside_acts().await;
        world.advance(Duration::from_secs(1));
    }
    panic!("the flow did not end: {:?}", status(world, id).await);
}
