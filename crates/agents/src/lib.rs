//! The coding agents, as data: a catalogue of entries, each with how its agent is installed or found, started, and
//! given model, key and base URL.
//!
//! The built-in entries are files of this crate (`catalogue/*.toml`, `locks/*/`); an operator's own entries have the
//! same form in the configuration (`[provisioner.agents.NAME]`, [`AgentConfig`]). From an entry, a model provider and a
//! profile, [`launch`] makes everything a runtime needs to start the agent. No I/O happens here.
//!
//! ```
//! use foundry_agents::{Catalogue, ModelAccess, ModelKind, Profile, launch};
//!
//! let catalogue = Catalogue::new(Default::default())?;
//! let claude = catalogue.get("claude")?;
//! let access = ModelAccess::new(ModelKind::Anthropic, "${FOUNDRY_MODEL_URL}/anthropic", "a token");
//! let launch = launch(claude, Some(&access), &Profile::default())?;
//! assert_eq!(launch.env["ANTHROPIC_BASE_URL"], "${FOUNDRY_MODEL_URL}/anthropic");
//! # Ok::<(), foundry_agents::AgentError>(())
//! ```

mod builtin;
mod catalogue;
mod check;
mod config;
mod entry;
mod error;
mod launch;
mod model;
mod permission;
mod template;

pub use catalogue::Catalogue;
pub use config::{AgentConfig, Authenticate, Effort, KeyDelivery, Mode, Text, Wiring};
pub use entry::{Entry, Places, Source};
pub use error::AgentError;
pub use launch::{HomeFile, Launch, Profile, SessionSetting, Setting, SignIn, launch};
pub use model::{ModelAccess, ModelKind};
pub use permission::permission_once;
