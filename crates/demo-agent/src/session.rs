//! One session: its working directory, its counters, what the user always allows, and its turn.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_client_protocol::v1::schema::SessionId;
use foundry_core::lock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;
use crate::workspace::Workspace;

/// A session as `session/new` opened it.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) workspace: Workspace,
    messages: AtomicU64,
    calls: AtomicU64,
    always: Mutex<BTreeSet<&'static str>>,
    settings: Mutex<Settings>,
    used: AtomicU64,
    turn: Mutex<Option<RunningTurn>>,
}

struct RunningTurn {
    request: Value,
    cancel: CancellationToken,
}

impl Session {
    pub(crate) fn new(id: SessionId, workspace: Workspace) -> Self {
        Self {
            id,
            workspace,
            messages: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            always: Mutex::default(),
            settings: Mutex::default(),
            used: AtomicU64::new(0),
            turn: Mutex::default(),
        }
    }

    /// The id of the session's next message.
    pub(crate) fn next_message(&self) -> String {
        format!("message-{}", self.messages.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The id of the session's next tool call.
    pub(crate) fn next_call(&self) -> String {
        format!("call-{}", self.calls.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Whether the user allowed this kind of action for the rest of the session.
    pub(crate) fn is_always_allowed(&self, kind: &'static str) -> bool {
        lock(&self.always).contains(kind)
    }

    /// Records that this kind of action needs no further permission.
    pub(crate) fn always_allow(&self, kind: &'static str) {
        lock(&self.always).insert(kind);
    }

    /// The session's present settings.
    pub(crate) fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Changes the settings.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Settings) -> T) -> T {
        change(&mut lock(&self.settings))
    }

    /// Adds to the tokens that the session claims to have used; returns the total.
    pub(crate) fn use_tokens(&self, count: u64) -> u64 {
        self.used.fetch_add(count, Ordering::Relaxed).saturating_add(count)
    }

    /// Begins a turn under a prompt request's id; `None` while another turn runs.
    pub(crate) fn begin_turn(
        &self,
        request: &Value,
        parent: &CancellationToken,
    ) -> Option<CancellationToken> {
        let mut turn = lock(&self.turn);
        if turn.is_some() {
            return None;
        }
        let cancel = parent.child_token();
        *turn = Some(RunningTurn { request: request.clone(), cancel: cancel.clone() });
        Some(cancel)
    }

    /// Ends the turn, so that the next one can begin.
    pub(crate) fn end_turn(&self) {
        *lock(&self.turn) = None;
    }

    /// Cancels the running turn, if there is one.
    pub(crate) fn cancel_turn(&self) {
        if let Some(turn) = &*lock(&self.turn) {
            turn.cancel.cancel();
        }
    }

    /// Cancels the running turn if this request began it.
    pub(crate) fn cancel_request(&self, request: &Value) {
        if let Some(turn) = lock(&self.turn).as_ref().filter(|turn| turn.request == *request) {
            turn.cancel.cancel();
        }
    }
}
