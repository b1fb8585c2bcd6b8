//! What the streams of the edge share.

use std::sync::Arc;

use foundry_core::{Env, Tasks};
use foundry_watch::{Drain, Observer};

use super::streams::Streams;
use super::watchers::Watchers;
use crate::catch_up::{Budgets, Starts};
use crate::host::Routes;
use crate::owners::Owners;
use crate::permission::Tokens;
use crate::topic::Topics;

/// What all streams share.
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) tasks: Tasks,
    pub(crate) owners: Arc<Owners>,
    pub(crate) topics: Topics,
    pub(crate) starts: Starts,
    pub(crate) budgets: Budgets,
    pub(crate) watchers: Watchers,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) streams: Streams,
    pub(crate) drain: Drain,
    pub(crate) routes: Arc<dyn Routes>,
    pub(crate) observer: Arc<dyn Observer>,
}
