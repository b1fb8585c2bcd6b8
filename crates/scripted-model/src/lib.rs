//! A model that does what its prompt says: it stands in for every provider in tests with real agents.
//!
//! It serves OpenAI's chat completions and responses, Anthropic's messages and Gemini's
//! `generateContent`, streaming and not. The newest prompt holds a [`Script`] between `<script>` and
//! `</script>`; the results of tools since then tell how far it has gone, so the server keeps no
//! state of a conversation and an agent may be started again in the middle. Steps are abstract
//! (`run`, `write`) and become calls of whatever tools the agent offers. Errors, silence, cut and
//! slow streams come from the script or from the handle, there for one key alone, so that tests
//! share a model without harming each other. Every request is recorded.
//!
//! Part of the test kit; nothing that is shipped depends on it.

mod api;
mod fault;
mod frame;
mod model;
mod offer;
mod record;
mod route;
mod schema;
mod script;
mod serve;
mod span;
mod state;
mod turn;
mod usage;

pub use api::Api;
pub use fault::Fault;
pub use model::{Control, ScriptedModel};
pub use record::{Outcome, RecordedRequest};
pub use script::{Script, Step};
pub use state::Times;
pub use usage::Usage;
