//! One turn: reads the prompt's script, announces the plan, performs the steps one after the
//! other and keeps the plan up to date.

use std::sync::Arc;
use std::time::Duration;

use agent_client_protocol::v1::schema::{
    ContentBlock, ContentChunk, Error as RpcError, Plan, PlanEntry, PlanEntryPriority, PlanEntryStatus,
    PromptResponse, SessionNotification, SessionUpdate, StopReason, TextContent,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::options::DemoOptions;
use crate::phrases::word_groups;
use crate::session::Session;
use crate::vocabulary::{self, Script};
use crate::wire::{Outbox, OutputClosed, Requests};

/// The longest plan that is shown; a longer one is cut, and its last entry states how much is missing.
const MAX_PLAN: usize = 30;

/// Why a turn ends before its last step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnEnd {
    #[error("the turn was cancelled")]
    Cancelled,
    #[error("the agent refused")]
    Refused,
    /// The user did not permit the rest.
    #[error("the rest was not permitted")]
    Stopped,
    #[error("{0}")]
    Failed(String),
    /// The process must exit as after a crash.
    #[error("the agent crashed")]
    Crashed,
    #[error("the client is gone")]
    Unheard,
}

/// The answer to a prompt request.
pub(crate) enum Answer {
    Response(Result<PromptResponse, RpcError>),
    /// None, because the client is gone.
    None,
    /// None, because the process exits.
    Crash,
}

impl From<OutputClosed> for TurnEnd {
    fn from(_: OutputClosed) -> Self {
        Self::Unheard
    }
}

/// What a turn has done so far, for its final message.
#[derive(Default)]
pub(crate) struct Done {
    /// A description of each edit.
    pub(crate) edits: Vec<String>,
    /// How many commands were run.
    pub(crate) commands: usize,
}

/// A running turn.
pub(crate) struct Turn {
    pub(crate) session: Arc<Session>,
    pub(crate) options: Arc<DemoOptions>,
    pub(crate) outbox: Outbox,
    pub(crate) requests: Arc<Requests>,
    pub(crate) cancel: CancellationToken,
    /// Whether the client supports forms.
    pub(crate) forms: bool,
    pub(crate) pause: Duration,
    pub(crate) done: Done,
    /// A description of each attachment of the prompt.
    pub(crate) attachments: Vec<String>,
}

impl Turn {
    /// Performs a prompt and returns the answer to it.
    pub(crate) async fn perform(mut self, prompt: &str) -> Answer {
        let script = vocabulary::read(prompt);
        let reason = match self.steps(script).await {
            Ok(()) | Err(TurnEnd::Stopped) => StopReason::EndTurn,
            Err(TurnEnd::Cancelled) => StopReason::Cancelled,
            Err(TurnEnd::Refused) => StopReason::Refusal,
            Err(TurnEnd::Failed(message)) => {
                let error = RpcError::new(-32603, message).data(json!({ "agent": crate::AGENT_NAME }));
                return Answer::Response(Err(error));
            }
            Err(TurnEnd::Crashed) => return Answer::Crash,
            Err(TurnEnd::Unheard) => return Answer::None,
        };
        Answer::Response(Ok(PromptResponse::new(reason)))
    }

    async fn steps(&mut self, script: Script) -> Result<(), TurnEnd> {
        let count = script.steps.len();
        let thought = match count {
            1 => "I found one thing to do.".to_owned(),
            _ => format!("I found {count} things to do. I will do them in order."),
        };
        self.think(&thought).await?;
        if self.session.settings().thinks_twice() {
            self.think("Let me check this once more before I start.").await?;
        }
        let labels = plan_labels(&script);
        self.plan(&labels, None).await?;
        let spelled_out = script.plan.is_some();
        let mut shown = None;
        for (at, step) in script.steps.into_iter().enumerate() {
            // A plan from the prompt is spread over the steps; otherwise the steps are the plan.
            let current =
                if spelled_out { at * labels.len() / count } else { at.min(labels.len().saturating_sub(1)) };
            if shown != Some(current) {
                self.plan(&labels, Some(current)).await?;
                shown = Some(current);
            }
            self.pause = if step.slow { self.options.second / 2 } else { self.options.chunk_pause };
            self.step(step).await?;
        }
        self.plan(&labels, Some(labels.len())).await?;
        self.sum_up().await
    }

    /// Shows the plan with everything before `current` done; `None` before the first step.
    async fn plan(&self, labels: &[String], current: Option<usize>) -> Result<(), TurnEnd> {
        let status = |at: usize| match current {
            Some(current) if at < current => PlanEntryStatus::Completed,
            Some(current) if at == current => PlanEntryStatus::InProgress,
            _ => PlanEntryStatus::Pending,
        };
        let entries = labels
            .iter()
            .enumerate()
            .map(|(at, label)| PlanEntry::new(label.clone(), PlanEntryPriority::Medium, status(at)))
            .collect();
        self.update(SessionUpdate::Plan(Plan::new(entries))).await
    }

    async fn sum_up(&self) -> Result<(), TurnEnd> {
        let mut parts = self.done.edits.clone();
        match self.done.commands {
            0 => {}
            1 => parts.push("one command run".to_owned()),
            n => parts.push(format!("{n} commands run")),
        }
        if parts.is_empty() {
            return Ok(());
        }
        let more = parts.len().saturating_sub(10);
        parts.truncate(10);
        if more > 0 {
            parts.push(format!("{more} more"));
        }
        self.say(&format!("Done: {}.", parts.join(", "))).await
    }

    /// Streams a message in groups of words.
    pub(crate) async fn say(&self, text: &str) -> Result<(), TurnEnd> {
        let message = self.session.next_message();
        let loud = self.session.settings().is_loud().then(|| text.to_uppercase());
        let text = loud.as_deref().unwrap_or(text);
        for (at, group) in word_groups(text).into_iter().enumerate() {
            if at > 0 {
                self.wait(self.pause).await?;
            }
            self.chunk(&message, group.to_owned()).await?;
        }
        Ok(())
    }

    /// One piece of a message.
    pub(crate) async fn chunk(&self, message: &str, text: String) -> Result<(), TurnEnd> {
        let chunk = ContentChunk::new(ContentBlock::Text(TextContent::new(text))).message_id(message);
        self.update(SessionUpdate::AgentMessageChunk(chunk)).await
    }

    /// A thought, in one piece.
    pub(crate) async fn think(&self, text: &str) -> Result<(), TurnEnd> {
        let message = self.session.next_message();
        let chunk = ContentChunk::new(ContentBlock::Text(TextContent::new(text))).message_id(&*message);
        self.update(SessionUpdate::AgentThoughtChunk(chunk)).await
    }

    /// Sends an update, unless the turn is cancelled first: a client that reads slowly cannot keep
    /// a cancelled turn alive.
    pub(crate) async fn update(&self, update: SessionUpdate) -> Result<(), TurnEnd> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(TurnEnd::Cancelled),
            sent = self.update_even_if_cancelled(update) => sent,
        }
    }

    pub(crate) async fn update_even_if_cancelled(&self, update: SessionUpdate) -> Result<(), TurnEnd> {
        let notification = SessionNotification::new(self.session.id.clone(), update);
        Ok(self.outbox.notify("session/update", &notification).await?)
    }

    /// Sends a request to the client and waits for its answer until the turn is cancelled.
    pub(crate) async fn request<P: Serialize>(
        &self,
        kind: &str,
        method: &str,
        params: &P,
    ) -> Result<Result<Value, Value>, TurnEnd> {
        let (id, answer) = self.requests.open(kind);
        let asked = async {
            self.outbox.request(&id, method, params).await?;
            answer.await.map_err(|_| TurnEnd::Unheard)
        };
        let answer = tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(TurnEnd::Cancelled),
            answer = asked => answer,
        };
        self.requests.forget(&id);
        answer
    }

    /// Waits, unless the turn is cancelled first.
    pub(crate) async fn wait(&self, time: Duration) -> Result<(), TurnEnd> {
        if time.is_zero() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(TurnEnd::Cancelled),
            () = self.options.clock.sleep(time) => Ok(()),
        }
    }
}

/// The entries of the plan: the prompt's own, or the steps themselves.
fn plan_labels(script: &Script) -> Vec<String> {
    let labels = script.plan.clone();
    let mut labels = labels.unwrap_or_else(|| script.steps.iter().map(|s| s.instruction.label()).collect());
    if labels.len() > MAX_PLAN {
        let more = labels.len() - (MAX_PLAN - 1);
        labels.truncate(MAX_PLAN - 1);
        labels.push(format!("{more} more steps"));
    }
    labels
}
