//! A model that follows the script in its prompt: it replaces every provider in tests with real agents.
//!
//! It serves OpenAI's Chat Completions and Responses, Anthropic's Messages and Gemini's `generateContent`, streaming
//! and not. The newest prompt contains a [`Script`] between `<script>` and `</script>`; the number of tool results
//! since then is the position in it, so the server keeps no state of a conversation and an agent may be restarted in
//! the middle. Steps are abstract (`run`, `write`) and become calls of whatever tools the agent offers. Errors,
//! silence, cut and slow streams come from the script or from the handle, where they can be set for one key alone, so
//! that tests can share a model. Every request is recorded.
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
