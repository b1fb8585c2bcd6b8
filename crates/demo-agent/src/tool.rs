//! Tool calls as the client sees them: announced, allowed or not, in progress, finished.

use agent_client_protocol::v1::schema::{
    ContentBlock, PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest,
    RequestPermissionResponse, SessionUpdate, TextContent, ToolCall, ToolCallContent, ToolCallLocation,
    ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields, ToolKind,
};
use serde_json::Value;

use crate::turn::{Turn, TurnEnd};

/// A tool call that has been announced.
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) kind: ToolKind,
    title: String,
}

/// The user's answer to a request for permission.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Granted,
    Denied,
}

/// What a finished tool call shows.
pub(crate) struct Outcome {
    pub(crate) status: ToolCallStatus,
    pub(crate) content: Vec<ToolCallContent>,
    pub(crate) raw_output: Option<Value>,
}

impl Outcome {
    pub(crate) fn completed(content: Vec<ToolCallContent>) -> Self {
        Self { status: ToolCallStatus::Completed, content, raw_output: None }
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self { status: ToolCallStatus::Failed, content: vec![text(why)], raw_output: None }
    }
}

/// Plain text inside a tool call.
pub(crate) fn text(text: impl Into<String>) -> ToolCallContent {
    ToolCallContent::from(ContentBlock::Text(TextContent::new(text)))
}

/// The name under which "always" is remembered for a kind of action.
fn kind_name(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Execute => "execute",
        ToolKind::Edit => "edit",
        ToolKind::Delete => "delete",
        ToolKind::Move => "move",
        ToolKind::Read => "read",
        _ => "other",
    }
}

impl Turn {
    /// Announces a tool call as pending.
    pub(crate) async fn announce(
        &self,
        title: String,
        kind: ToolKind,
        files: &[&str],
        input: Value,
    ) -> Result<Call, TurnEnd> {
        let id = self.session.next_call();
        let locations =
            files.iter().map(|f| ToolCallLocation::new(self.session.workspace.absolute(f))).collect();
        let call = ToolCall::new(id.clone(), title.clone())
            .kind(kind)
            .status(ToolCallStatus::Pending)
            .locations(locations)
            .raw_input(input);
        self.update(SessionUpdate::ToolCall(call)).await?;
        Ok(Call { id, kind, title })
    }

    /// Marks a tool call as in progress.
    pub(crate) async fn begin(&self, call: &Call) -> Result<(), TurnEnd> {
        let fields = ToolCallUpdateFields::new().status(ToolCallStatus::InProgress);
        self.update(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(call.id.clone(), fields))).await
    }

    /// Replaces what a running tool call shows.
    pub(crate) async fn show(&self, call: &Call, shown: String) -> Result<(), TurnEnd> {
        let fields =
            ToolCallUpdateFields::new().status(ToolCallStatus::InProgress).content(vec![text(shown)]);
        self.update(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(call.id.clone(), fields))).await
    }

    /// Finishes a tool call, also while the turn is being cancelled, so that no call stays open.
    pub(crate) async fn finish(&self, call: &Call, outcome: Outcome) -> Result<(), TurnEnd> {
        let mut fields = ToolCallUpdateFields::new().status(outcome.status);
        if !outcome.content.is_empty() {
            fields = fields.content(outcome.content);
        }
        fields.raw_output = outcome.raw_output;
        let update = ToolCallUpdate::new(call.id.clone(), fields);
        self.update_even_if_cancelled(SessionUpdate::ToolCallUpdate(update)).await
    }

    /// Asks for permission for an announced call; a call that is not permitted is finished here.
    pub(crate) async fn permitted(&self, call: &Call) -> Result<Permission, TurnEnd> {
        if self.session.is_always_allowed(kind_name(call.kind)) {
            return Ok(Permission::Granted);
        }
        let asked = self.ask(call).await;
        match &asked {
            Ok(Permission::Granted) => {}
            Ok(Permission::Denied) => self.finish(call, Outcome::failed("Not permitted.")).await?,
            Err(_) => self.finish(call, Outcome::failed("Cancelled while waiting for permission.")).await?,
        }
        asked
    }

    /// Sends the request and waits for the answer without a deadline, until the turn is cancelled.
    async fn ask(&self, call: &Call) -> Result<Permission, TurnEnd> {
        let fields = ToolCallUpdateFields::new()
            .title(call.title.clone())
            .kind(call.kind)
            .status(ToolCallStatus::Pending);
        let option = PermissionOption::new;
        let request = RequestPermissionRequest::new(
            self.session.id.clone(),
            ToolCallUpdate::new(call.id.clone(), fields),
            vec![
                option("allow_once", "Allow once", PermissionOptionKind::AllowOnce),
                option("allow_always", "Allow always", PermissionOptionKind::AllowAlways),
                option("reject_once", "Reject", PermissionOptionKind::RejectOnce),
            ],
        );
        let answer = self.request("permission", "session/request_permission", &request).await?;
        // An error or an unreadable answer counts as no permission.
        let outcome = answer
            .ok()
            .and_then(|value| serde_json::from_value::<RequestPermissionResponse>(value).ok())
            .map(|response| response.outcome);
        match outcome {
            Some(RequestPermissionOutcome::Cancelled) => Err(TurnEnd::Cancelled),
            Some(RequestPermissionOutcome::Selected(selected)) => match &*selected.option_id.0 {
                "allow_once" => Ok(Permission::Granted),
                "allow_always" => {
                    self.session.always_allow(kind_name(call.kind));
                    Ok(Permission::Granted)
                }
                _ => Ok(Permission::Denied),
            },
            _ => Ok(Permission::Denied),
        }
    }
}
