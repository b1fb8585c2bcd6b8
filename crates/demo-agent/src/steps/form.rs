//! Asking the user to fill in a form, and updates about the session itself.

use agent_client_protocol::v1::schema::{
    ConfigOptionUpdate, Cost, SessionInfoUpdate, SessionUpdate, UsageUpdate,
};
use serde_json::{Value, json};

use crate::turn::{Turn, TurnEnd};

/// The size of the context window that this agent claims to have, in tokens.
const CONTEXT: u64 = 200_000;
/// The claimed price of a token, in dollars.
const PRICE: f64 = 0.000_01;

impl Turn {
    /// Requests a form with a field of every kind, and reports the values.
    pub(super) async fn form(&self) -> Result<(), TurnEnd> {
        if !self.forms {
            return self.say("This client cannot show forms.").await;
        }
        let properties = json!({
            "name": { "type": "string", "title": "Release name", "minLength": 2, "maxLength": 40 },
            "kind": { "type": "string", "title": "Kind", "oneOf": [
                { "const": "major", "title": "Major: breaking changes" },
                { "const": "minor", "title": "Minor: new features" },
                { "const": "patch", "title": "Patch: bug fixes" }], "default": "minor" },
            "reviewers": { "type": "integer", "title": "Reviewers", "minimum": 1, "maximum": 9, "default": 1 },
            "share": { "type": "number", "title": "Share of users", "description": "Between 0 and 1",
                "minimum": 0, "maximum": 1 },
            "notify": { "type": "boolean", "title": "Notify users", "default": true },
            "areas": { "type": "array", "title": "Areas", "items": { "type": "string", "enum": ["cli", "docs", "web"] } },
        });
        let schema = json!({ "type": "object", "properties": properties, "required": ["name", "kind"] });
        let message = "How should I cut the release?";
        let params = json!({ "mode": "form", "sessionId": self.session.id, "message": message, "requestedSchema": schema });
        self.elicit(&params).await
    }

    /// Requests that the user opens a web page.
    pub(super) async fn page(&self) -> Result<(), TurnEnd> {
        let params = json!({ "mode": "url", "sessionId": self.session.id, "message": "Please sign in there.",
            "elicitationId": "page-1", "url": "https://example.invalid/sign-in" });
        self.elicit(&params).await
    }

    async fn elicit(&self, params: &Value) -> Result<(), TurnEnd> {
        let answer = self.request("elicitation", "elicitation/create", params).await?;
        let answer = answer.unwrap_or_default();
        let said = match answer["action"].as_str() {
            Some("accept") => {
                let content = answer["content"].as_object().cloned().unwrap_or_default();
                let filled: Vec<String> =
                    content.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                format!("You filled in: {}.", filled.join(", "))
            }
            Some("decline") => "You declined to answer, so I will continue without it.".to_owned(),
            Some("cancel") => return Err(TurnEnd::Cancelled),
            _ => "I did not understand the answer, so I will continue without it.".to_owned(),
        };
        self.say(&said).await
    }

    /// Gives the conversation a title.
    pub(super) async fn title(&self, title: &str) -> Result<(), TurnEnd> {
        let update = SessionInfoUpdate::new().title(title.to_owned());
        self.update(SessionUpdate::SessionInfoUpdate(update)).await
    }

    /// Reports this many more tokens as used.
    pub(super) async fn use_tokens(&self, tokens: usize) -> Result<(), TurnEnd> {
        let used = self.session.use_tokens(u64::try_from(tokens).unwrap_or(u64::MAX));
        #[allow(clippy::cast_precision_loss)] // far below what a float holds exactly
        let cost = Cost::new(used as f64 * PRICE, "USD");
        let update = UsageUpdate::new(used.min(CONTEXT), CONTEXT).cost(cost);
        self.update(SessionUpdate::UsageUpdate(update)).await
    }

    /// Switches the mode and notifies the client.
    pub(super) async fn switch(&self, mode: &str) -> Result<(), TurnEnd> {
        let offered = self.session.change(|settings| settings.switch(mode).then(|| settings.offered()));
        match offered {
            Some(offered) => {
                let update = ConfigOptionUpdate::new(offered);
                self.update(SessionUpdate::ConfigOptionUpdate(update)).await
            }
            None => self.say(&format!("There is no mode {mode}.")).await,
        }
    }
}
