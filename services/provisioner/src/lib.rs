//! The provisioner service: sandboxes and the agents in them.
//!
//! It owns the ledger of sandboxes, makes and destroys them through a [`foundry_sandbox::Provider`] in durable
//! stages, opens agent sessions in them, delivers prompts once, records the agents' messages from the tap log, and
//! hands their work to the repo service. Requests only write rows; flows, pumps and the health watch do the work.
//! Sandboxes outlive this process and are adopted by the next one.
//!
//! Events hold what agents wrote and did; the sender of a prompt records the user's own message.

mod attachments;
mod config;
mod domain;
mod egress;
mod flow;
mod mesh_socket;
mod models;
mod ops;
mod profiles;
mod providers;
mod rpc;
mod runtime;
mod service;
mod shared;
mod store;
#[cfg(test)]
mod testing;
mod view;

pub use config::{AttachmentSection, Config, LocalSection, OutputSection};
pub use profiles::{
    EnvironmentKeys, MODEL_VARIABLES, ModelAccess, ModelCredential, ModelFinding, ModelProbe, Probed,
};
pub use providers::{FurtherProviders, no_further_providers};
pub use service::{Dependencies, Survivors, build};
pub use store::{ENCODED, REFERENCES};
