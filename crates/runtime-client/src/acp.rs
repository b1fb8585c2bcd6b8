//! Messages of the Agent Client Protocol to an agent. A call returns when the message is recorded and queued; the
//! agent's answer is read from the log. The caller derives request ids from the request's meaning; the runtime passes
//! each id on once, so that a repetition is harmless.

use std::fmt;
use std::time::Duration;

use foundry_sandbox::AcpId;
use foundry_sandbox::wire::{Delivered, Outcome};
use http::Method;
use serde_json::{Value, json};

use super::connection::Request;
use super::{ClientError, RuntimeClient, agent_path};

/// How long the delivery of a message may take.
const DELIVERY: Duration = Duration::from_secs(10);

/// The id of a JSON-RPC request, chosen by the caller and never used twice for different things.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RuntimeClient {
    /// Sends a request to the agent of a conversation.
    ///
    /// # Errors
    /// `agent_ended`, `log_unwritable` (then it was not passed on), `busy`, `not_found` (no agent).
    pub async fn request(
        &self,
        acp: &AcpId,
        id: &RequestId,
        method: &str,
        params: Value,
    ) -> Result<Outcome, ClientError> {
        self.post(acp, &json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await
    }

    /// Sends a prompt of one text.
    ///
    /// # Errors
    /// As [`RuntimeClient::request`].
    pub async fn prompt(
        &self,
        acp: &AcpId,
        id: &RequestId,
        session: &str,
        text: &str,
    ) -> Result<Outcome, ClientError> {
        self.prompt_with(acp, id, session, &[json!({ "type": "text", "text": text })]).await
    }

    /// Sends a prompt of content blocks, as the protocol writes them.
    ///
    /// # Errors
    /// As [`RuntimeClient::request`]; `too_large` above 8 MiB.
    pub async fn prompt_with(
        &self,
        acp: &AcpId,
        id: &RequestId,
        session: &str,
        blocks: &[Value],
    ) -> Result<Outcome, ClientError> {
        let params = json!({ "sessionId": session, "prompt": blocks });
        self.request(acp, id, "session/prompt", params).await
    }

    /// Asks the agent to stop its turn; the turn then ends with `cancelled`.
    ///
    /// # Errors
    /// As [`RuntimeClient::request`].
    pub async fn cancel(&self, acp: &AcpId, session: &str) -> Result<(), ClientError> {
        let params = json!({ "sessionId": session });
        self.post(acp, &json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": params })).await?;
        Ok(())
    }

    /// Answers a permission request: with an option, or `None` when the turn is being cancelled.
    /// A second answer to the same request is not passed on.
    ///
    /// # Errors
    /// As [`RuntimeClient::request`].
    pub async fn answer_permission(
        &self,
        acp: &AcpId,
        request: &Value,
        option: Option<&str>,
    ) -> Result<(), ClientError> {
        let outcome = match option {
            Some(option) => json!({ "outcome": "selected", "optionId": option }),
            None => json!({ "outcome": "cancelled" }),
        };
        self.answer(acp, request, &json!({ "outcome": outcome })).await
    }

    /// Answers any other request of the agent. A second answer to the same request is not passed on.
    ///
    /// # Errors
    /// As [`RuntimeClient::request`].
    pub async fn answer(&self, acp: &AcpId, request: &Value, result: &Value) -> Result<(), ClientError> {
        self.post(acp, &json!({ "jsonrpc": "2.0", "id": request, "result": result })).await?;
        Ok(())
    }

    async fn post(&self, acp: &AcpId, message: &Value) -> Result<Outcome, ClientError> {
        let path = format!("{}/messages", agent_path(acp));
        let request = Request::json(Method::POST, path, message)?.limit(DELIVERY);
        Ok(self.call::<Delivered>(request).await?.outcome)
    }
}
