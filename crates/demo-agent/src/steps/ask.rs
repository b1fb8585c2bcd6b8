//! Asking the user: for one instruction, or whether to continue at all.

use agent_client_protocol::v1::schema::ToolKind;
use futures::future::join_all;
use serde_json::Value;

use crate::tool::{Call, Outcome, Permission};
use crate::turn::{Turn, TurnEnd};

impl Turn {
    /// Announces a tool call, asks for permission where the prompt requires it, and marks the call as in progress.
    /// `None` when it was not permitted.
    pub(super) async fn open(
        &self,
        title: String,
        kind: ToolKind,
        files: &[&str],
        input: Value,
        ask: bool,
    ) -> Result<Option<Call>, TurnEnd> {
        let call = self.announce(title.clone(), kind, files, input).await?;
        if ask && self.permitted(&call).await? == Permission::Denied {
            self.say(&format!("Skipped: {title}.")).await?;
            return Ok(None);
        }
        self.begin(&call).await?;
        Ok(Some(call))
    }

    /// Asks whether to continue, with `count` requests open at the same time; one refusal ends the turn.
    pub(super) async fn ask_to_go_on(&self, reason: &str, count: usize) -> Result<(), TurnEnd> {
        let mut calls = Vec::with_capacity(count);
        for n in 1..=count {
            let title = match count {
                1 => format!("May I {reason}?"),
                _ => format!("May I {reason}? ({n} of {count})"),
            };
            calls.push(self.announce(title, ToolKind::Other, &[], Value::Null).await?);
        }
        let mut asked = Vec::with_capacity(count);
        for call in &calls {
            asked.push(self.permitted(call));
        }
        let mut denied = false;
        for (answer, call) in join_all(asked).await.into_iter().zip(&calls) {
            match answer? {
                Permission::Granted => self.finish(call, Outcome::completed(Vec::new())).await?,
                Permission::Denied => denied = true,
            }
        }
        if !denied {
            return Ok(());
        }
        self.say("I was not allowed to continue, so I will stop here.").await?;
        Err(TurnEnd::Stopped)
    }
}
