//! What the gateway asks of its owner: whom a token stands for, and where usage and conditions go.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use foundry_core::Timestamp;
use foundry_sandbox::Network;
use foundry_secrets::Secret;
use http::HeaderName;
use url::Url;

use crate::condition::ModelCondition;
use crate::proof::SandboxProof;
use crate::secret::text;

/// The gateway's owner, who holds the tokens, keys and counts. Must be quick: `access` is waited for by every call.
/// `used` and `condition` are called beside the streams, in order for each session.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Whom this token of a sandbox stands for. `proof` is what the sandbox's forwarder says of itself, not verified
    /// yet ([`SandboxProof::verify`]).
    ///
    /// # Errors
    /// When the token is not to be served: unknown, of another sandbox, of one that has ended.
    async fn access(&self, token: &str, proof: Option<&SandboxProof>) -> Result<Access, Refused>;

    /// The MCP server of this name that the token's session may use, asked for by every call of it and again every minute
    /// while an answer flows. Token and proof are as in [`Ledger::access`]. Resolves no names.
    ///
    /// # Errors
    /// When the token is not to be served, or there is no such server for it.
    async fn mcp(
        &self,
        token: &str,
        proof: Option<&SandboxProof>,
        name: &str,
    ) -> Result<McpAccess, McpRefused>;

    /// What calls an MCP server. It must follow no redirects, and connect only to where this server may be reached. Asked
    /// for by every call of it; names may be resolved here, for as long as the call of a server may wait.
    ///
    /// # Errors
    /// When the server may not be reached, or its name cannot be resolved.
    async fn mcp_client(&self, access: &McpAccess) -> Result<reqwest::Client, McpRefused>;

    /// A call was made, or broken off after the provider had counted something.
    async fn used(&self, access: &Access, usage: Usage);

    /// What a call showed about provider, key and model.
    async fn condition(&self, access: &Access, condition: ModelCondition);
}

/// Why a token is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not valid here; the caller does not learn why.
    Token,
    /// It cannot be checked now; the caller may try again. The text goes to the log.
    Unavailable(String),
    /// It is valid, and its model provider was deleted since. The ledger has told the session; the text is for people.
    ProviderGone(String),
}

/// An MCP server that a session's agent may use.
#[derive(Clone)]
pub struct McpAccess {
    /// The session.
    pub session: String,
    /// Its address, complete: nothing that the agent says changes it.
    pub url: Url,
    /// Headers of every call; their values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Whether it speaks the older transport, in which a stream of events says where messages are sent to.
    pub events: bool,
    /// What the session's sandbox may reach, and so the gateway for it.
    pub network: Network,
}

impl McpAccess {
    /// Every secret in it, for scrubbing.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let headers = self.headers.iter().flat_map(|(_, value)| of_header(value));
        headers.chain(of_address(&self.url))
    }
}

impl fmt::Debug for McpAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpAccess").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Why an MCP server is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpRefused {
    /// The token is not valid here; the caller does not learn why.
    Token,
    /// The token's profile has no such server.
    Unknown,
    /// It may not be reached, or its name cannot be resolved. The text is for people.
    Unreachable(String),
    /// It cannot be found out now; the caller may try again. The text goes to the log.
    Unavailable(String),
}

/// The kind of a model provider: which APIs it has and how it takes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anthropic, or a gateway that speaks its API.
    Anthropic,
    /// OpenAI itself.
    OpenAi,
    /// What speaks OpenAI's API: company gateways, Ollama, vLLM. Many of them take Anthropic's messages as well.
    OpenAiCompatible,
    /// Google's Gemini.
    Gemini,
}

/// How a provider knows its customer.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Not at all, as local models do, or by one of the extra headers.
    None,
    /// An API key, in the header of the provider's kind.
    Key(Secret),
    /// A bearer token, in `authorization`.
    Bearer(Secret),
}

/// Who a call is counted for. The gateway passes these ids on and does not look into them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The organization.
    pub organization: String,
    /// The task.
    pub task: String,
    /// The agent session.
    pub session: String,
    /// The agent profile.
    pub profile: String,
    /// The model provider.
    pub provider: String,
    /// The session's turn when the call came: what the call shows says nothing about a later one.
    pub turn: String,
}

/// What is counted by a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tokens, in and out, cached ones too.
    Tokens,
    /// Millionths of the currency of the prices.
    Micros,
}

/// A limit as it stands now. Once all of it is used no further call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose it is, for people: `task fix-the-login`, `organization acme`.
    pub scope: String,
    /// What it counts.
    pub unit: Unit,
    /// What is used of it; calls that were under way may have used more than there is.
    pub used: u64,
    /// All of it.
    pub maximum: u64,
}

/// What a model costs, in millionths of a currency for a million tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// The model's name, as in requests.
    pub model: String,
    /// Tokens read that no cache held.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
    /// Tokens read from the provider's cache.
    pub cache_read: u64,
    /// Tokens written to the provider's cache.
    pub cache_write: u64,
}

/// All that a call needs: where it goes, with which key, for whom, how much.
#[derive(Clone)]
pub struct Access {
    /// The provider's kind.
    pub kind: Kind,
    /// Where it is; may have a path and a query of its own.
    pub base_url: Url,
    /// Headers of every call; their values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
    /// The key.
    pub credential: Credential,
    /// The models that may be used; empty for any.
    pub models: Vec<String>,
    /// Who the call is counted for.
    pub owner: Owner,
    /// When the provider's quota goes on, where the ledger remembers that it is used up: the gateway itself forgets
    /// with its process.
    pub held_until: Option<Timestamp>,
    /// The limits that apply.
    pub limits: Vec<Limit>,
    /// Prices, where known.
    pub prices: Vec<ModelPrice>,
}

impl Access {
    /// The limit that is used up, if there is one.
    pub(crate) fn used_up(&self) -> Option<&Limit> {
        self.limits.iter().find(|limit| limit.used >= limit.maximum)
    }

    pub(crate) fn allows(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|m| m == model)
    }

    /// Every secret in it, for scrubbing.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let key = match &self.credential {
            Credential::None => None,
            Credential::Key(key) | Credential::Bearer(key) => Some(Cow::Borrowed(text(key))),
        };
        let headers = self.headers.iter().flat_map(|(_, value)| of_header(value));
        key.into_iter().chain(headers).chain(of_address(&self.base_url))
    }

    /// `host:port` of the provider, for texts.
    pub(crate) fn place(&self) -> String {
        place(&self.base_url)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("kind", &self.kind)
            .field("place", &self.place())
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// `host:port` of an address, for texts; without the port where it is the usual one.
pub(crate) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// What may be secret in the value of a header: all of it, and what stands behind a scheme such as `Bearer`.
fn of_header(value: &Secret) -> impl Iterator<Item = Cow<'_, str>> {
    let behind = text(value).split_once(' ').map(|(_, rest)| rest.trim());
    std::iter::once(text(value)).chain(behind).map(Cow::Borrowed)
}

/// What may be secret in an address, as it is written there and as it is meant: a password, and the values of its query.
fn of_address(url: &Url) -> impl Iterator<Item = Cow<'_, str>> {
    let values = url.query().into_iter().flat_map(|query| query.split('&'));
    let values = values.filter_map(|part| part.split_once('=')).map(|(_, value)| value);
    url.password().into_iter().chain(values).filter(|written| !written.is_empty()).flat_map(|written| {
        let meant = percent_encoding::percent_decode_str(written).decode_utf8_lossy();
        let other = (meant != written).then_some(meant);
        std::iter::once(Cow::Borrowed(written)).chain(other)
    })
}

/// What one call used. The four counts do not overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The model that answered, or that was asked for where the answer does not name one.
    pub model: String,
    /// Tokens read that came from no cache and were not written to one.
    pub input: u64,
    /// Tokens written, thinking included.
    pub output: u64,
    /// Tokens read from the provider's cache.
    pub cache_read: u64,
    /// Tokens written to the provider's cache.
    pub cache_write: u64,
    /// The cost in millionths of the currency, where a price is known or the provider names the cost.
    pub cost_micros: Option<u64>,
    /// Whether the call came to its end; if not, these are the counts so far.
    pub complete: bool,
    /// Whether the counts are guessed from what passed, since the provider did not tell them, or not before the call
    /// broke off.
    pub estimated: bool,
}

impl Usage {
    /// All tokens.
    pub fn tokens(&self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .iter()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Fills in the cost from a price of the model asked for or of the one that answered; rounded up.
    pub(crate) fn priced(mut self, prices: &[ModelPrice], asked: &str) -> Self {
        let price = prices
            .iter()
            .find(|p| p.model == asked)
            .or_else(|| prices.iter().find(|p| p.model == self.model));
        if let Some(price) = price {
            let parts = [
                (self.input, price.input),
                (self.output, price.output),
                (self.cache_read, price.cache_read),
                (self.cache_write, price.cache_write),
            ];
            let sum = parts.iter().fold(0u128, |sum, (n, p)| sum + u128::from(*n) * u128::from(*p));
            self.cost_micros = Some(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_what_the_price_of_the_asked_model_says_rounded_up() {
        let prices = [ModelPrice {
            model: "m".to_owned(),
            input: 3_000_000,
            output: 15_000_000,
            cache_read: 300_000,
            cache_write: 3_750_000,
        }];
        let usage = Usage {
            model: "m-2026".to_owned(),
            input: 1,
            output: 2,
            cache_read: 1,
            cache_write: 0,
            ..Usage::default()
        };
        assert_eq!(usage.clone().priced(&prices, "m").cost_micros, Some(34));
        assert_eq!(usage.priced(&prices, "other").cost_micros, None);
    }

    #[test]
    fn shows_no_secret_and_no_address_with_credentials() {
        let access = Access {
            kind: Kind::Anthropic,
            base_url: Url::parse("https://user:hunter2@llm.corp/x?key=hunter3").unwrap(),
            headers: vec![(HeaderName::from_static("api-key"), Secret::new("hunter4"))],
            credential: Credential::Key(Secret::new("hunter5")),
            models: Vec::new(),
            owner: Owner::default(),
            held_until: None,
            limits: Vec::new(),
            prices: Vec::new(),
        };
        let shown = format!("{access:?} {:?} {:?}", access.credential, access.headers);
        assert!(!shown.contains("hunter") && shown.contains("llm.corp"), "{shown}");
    }

    #[test]
    fn scrubs_the_credentials_of_an_address_as_written_and_as_meant() {
        let access = Access {
            kind: Kind::OpenAiCompatible,
            base_url: Url::parse("https://user:pass%2Dword@llm.corp/x?api-key=query%21key").unwrap(),
            headers: Vec::new(),
            credential: Credential::None,
            models: Vec::new(),
            owner: Owner::default(),
            held_until: None,
            limits: Vec::new(),
            prices: Vec::new(),
        };
        let said = "no pass-word pass%2Dword query!key query%21key here";
        assert_eq!(crate::classify::scrubbed(&access, said).unwrap(), "no *** *** *** *** here");
    }
}
