//! How an agent reaches its model: provider kind, address, key and model id.

use std::fmt;

/// The kinds of model providers, by their API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Anthropic's Messages API.
    Anthropic,
    /// OpenAI's own API: Responses and Chat Completions.
    Openai,
    /// Chat Completions as many servers offer them; some offer Responses too.
    OpenaiCompatible,
    /// Google's `generateContent` API.
    Gemini,
}

impl ModelKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::Openai, Self::OpenaiCompatible, Self::Gemini];

    /// The name of the kind in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
            Self::OpenaiCompatible => "openai-compatible",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model provider as one sandbox sees it.
#[derive(Clone)]
pub struct ModelAccess {
    /// The provider's API.
    pub kind: ModelKind,
    /// The address before the version of the API, without a slash at the end: requests go to
    /// `<base_url>/v1/messages`, `<base_url>/v1/responses`, `<base_url>/v1/chat/completions` or
    /// `<base_url>/v1beta/models/…`. With the model gateway it begins with `${FOUNDRY_MODEL_URL}`, which the runtime
    /// replaces when it starts the agent.
    pub base_url: String,
    /// The key that the agent presents: the sandbox's token for the model gateway, or the provider's own key for an
    /// entry whose [`crate::KeyDelivery`] is `Environment`.
    pub token: String,
    /// The model; absent leaves the choice to the agent.
    pub model: Option<String>,
    /// A small model of the same provider for titles and summaries; absent leaves the choice to the agent.
    pub small_model: Option<String>,
    /// The models that the provider offers, to which the agent is restricted; empty when they are not known.
    pub models: Vec<String>,
    /// Headers that the agent adds to each request. Empty with the model gateway, which adds them itself.
    pub headers: Vec<(String, String)>,
}

impl ModelAccess {
    /// Access without a chosen model and without further headers.
    pub fn new(kind: ModelKind, base_url: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            kind,
            base_url: base_url.into(),
            token: token.into(),
            model: None,
            small_model: None,
            models: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Every model that the agent may use, without duplicates: the chosen one first.
    pub(crate) fn each_model(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for model in self.model.iter().chain(&self.small_model).chain(&self.models) {
            if !all.contains(&model.as_str()) {
                all.push(model);
            }
        }
        all
    }

    /// The models of the provider's list.
    pub(crate) fn listed_models(&self) -> Vec<&str> {
        self.models.iter().map(String::as_str).collect()
    }

    /// Sets the chosen model.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }
}

impl fmt::Debug for ModelAccess {
    /// Omits the token and the values of headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ModelAccess")
            .field("kind", &self.kind)
            .field("base_url", &self.base_url)
            .field("model", &self.model)
            .field("small_model", &self.small_model)
            .field("headers", &headers)
            .finish_non_exhaustive()
    }
}
