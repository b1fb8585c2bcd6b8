//! The interface to the gateway's owner: resolving tokens, and receiving usage and conditions.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use foundry_core::Timestamp;
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use foundry_sandbox::Network;
use foundry_secrets::Secret;
use http::HeaderName;
use tonic::{Status, Streaming};
use url::Url;

use crate::condition::ModelCondition;
use crate::proof::SandboxProof;
use crate::secret::text;

/// The gateway's owner, which holds the tokens, keys and counts. Must be quick: every call waits for `access`. `used`
/// and `condition` are called beside the streams, in order for each session.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// The access granted by this token of a sandbox. `proof` is the claim of the sandbox's forwarder, not verified yet
    /// ([`SandboxProof::verify`]).
    ///
    /// # Errors
    /// When the token is not accepted: unknown, of another sandbox, or of one that has ended.
    async fn access(&self, token: &str, proof: Option<&SandboxProof>) -> Result<Access, Refused>;

    /// The MCP server of this name that the token's session may use, looked up for every call of it and again every
    /// minute while an answer flows. Token and proof are as in [`Ledger::access`]. Resolves no names.
    ///
    /// # Errors
    /// When the token is not accepted, or its session has no such server.
    async fn mcp(
        &self,
        token: &str,
        proof: Option<&SandboxProof>,
        name: &str,
    ) -> Result<McpAccess, McpRefused>;

    /// The client for calls of an MCP server. It must follow no redirects, and connect only to where this server may be
    /// reached. Requested for every call; names may be resolved here, for as long as a call may wait for its server.
    ///
    /// # Errors
    /// When the server may not be reached, or its name cannot be resolved.
    async fn mcp_client(&self, access: &McpAccess) -> Result<reqwest::Client, McpRefused>;

    /// The repository from which the sandbox of this token may fetch. Token and proof are as in [`Ledger::access`], but the
    /// token is that of the sandbox, not of a session. Without repositories, no token is accepted.
    ///
    /// # Errors
    /// When the token is not accepted.
    async fn origin(
        &self,
        _token: &str,
        _proof: Option<&SandboxProof>,
    ) -> Result<OriginAccess, OriginRefused> {
        Err(OriginRefused::Token)
    }

    /// The response to one request of a fetch, in pieces.
    ///
    /// # Errors
    /// As the repo service refuses it.
    async fn fetch(&self, _request: ServeFetchRequest) -> Result<Streaming<ServeFetchResponse>, Status> {
        Err(foundry_git_http::absent())
    }

    /// A call was made, or broke off after the provider had counted something.
    async fn used(&self, access: &Access, usage: Usage);

    /// What a call revealed about provider, key and model.
    async fn condition(&self, access: &Access, condition: ModelCondition);
}

/// What a sandbox may fetch: one repository, as its task sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginAccess {
    /// The sandbox, to which the connection is counted.
    pub sandbox: String,
    /// The organization that the sandbox belongs to.
    pub organization: String,
    /// The only repository that it may fetch.
    pub repository: String,
    /// The task whose own work may be fetched besides what the repository's remote has.
    pub task: String,
}

/// Why a sandbox may not fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRefused {
    /// Its token is not valid here.
    Token,
    /// The token cannot be checked now. The text is for the log.
    Unavailable(String),
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not valid here; the caller gets no reason.
    Token,
    /// It cannot be checked now; the caller may try again. The text is for the log.
    Unavailable(String),
    /// It is valid, but its model provider has been deleted. The ledger has notified the session; the text is for
    /// users.
    ProviderGone(String),
}

/// An MCP server that a session's agent may use.
#[derive(Clone)]
pub struct McpAccess {
    /// Id of the session that calls are counted for.
    pub session: String,
    /// Its complete address; the agent cannot change it.
    pub url: Url,
    /// Headers of every call; their values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Whether it uses the older transport, in which a stream of events names the address for messages.
    pub events: bool,
    /// What the session's sandbox may reach, which bounds the gateway, too.
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

/// Why an MCP server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum McpRefused {
    /// The token is not valid here; the caller gets no reason.
    Token,
    /// The token's profile has no such server.
    Unknown,
    /// It may not be reached, or its name cannot be resolved. The text is for users.
    Unreachable(String),
    /// It cannot be looked up now; the caller may try again. The text is for the log.
    Unavailable(String),
}

/// The kind of a model provider: which APIs it has and how it takes its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anthropic, or a gateway that offers its API.
    Anthropic,
    /// OpenAI itself, with its Responses API.
    OpenAi,
    /// A server with OpenAI's API: company gateways, Ollama, vLLM. Many of them offer Anthropic's Messages API as well.
    OpenAiCompatible,
    /// Google's Gemini API.
    Gemini,
}

/// How the gateway authenticates to a provider.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Not at all, as with local models, or by one of the extra headers.
    None,
    /// An API key, in the header of the provider's kind.
    Key(Secret),
    /// A bearer token, in `authorization`.
    Bearer(Secret),
}

/// The owner of a call, for counting. The gateway passes these ids on without interpreting them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Id of the organization.
    pub organization: String,
    /// Id of the task.
    pub task: String,
    /// The agent session.
    pub session: String,
    /// The agent profile.
    pub profile: String,
    /// The model provider.
    pub provider: String,
    /// The session's turn when the call came; what the call reveals says nothing about a later turn.
    pub turn: String,
}

/// The unit of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tokens, in and out, cached ones too.
    Tokens,
    /// Millionths of the currency of the prices.
    Micros,
}

/// A limit with its present use. Once all of it is used, no further call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its owner, as a text for users: `task fix-the-login`, `organization acme`.
    pub scope: String,
    /// What it counts.
    pub unit: Unit,
    /// The amount used; calls in progress may exceed the maximum.
    pub used: u64,
    /// The amount at which calls stop.
    pub maximum: u64,
}

/// What a model costs, in millionths of a currency for a million tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// The model's name, as in requests.
    pub model: String,
    /// Tokens read that no cache held.
    pub input: u64,
    /// Tokens that the model generates.
    pub output: u64,
    /// Tokens read from the provider's cache.
    pub cache_read: u64,
    /// Tokens written to the provider's cache.
    pub cache_write: u64,
}

/// Everything a call needs: its destination, key, owner and limits.
#[derive(Clone)]
pub struct Access {
    /// The provider's kind.
    pub kind: Kind,
    /// The provider's address; may have a path and a query of its own.
    pub base_url: Url,
    /// Headers of every call; their values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
    /// The provider's key or token; calls carry it in place of the sandbox's token.
    pub credential: Credential,
    /// The models that may be used; empty for any.
    pub models: Vec<String>,
    /// The owner for whom the call is counted.
    pub owner: Owner,
    /// When the provider's quota is available again, if the ledger has recorded that it is used up: the gateway's own
    /// record ends with its process.
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

/// The secret parts of a header's value: all of it, and what follows a scheme such as `Bearer`.
fn of_header(value: &Secret) -> impl Iterator<Item = Cow<'_, str>> {
    let behind = text(value).split_once(' ').map(|(_, rest)| rest.trim());
    std::iter::once(text(value)).chain(behind).map(Cow::Borrowed)
}

/// The secret parts of an address, both encoded and decoded: a password, and the values of its query.
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
    /// The model that answered, or the requested one where the answer names none.
    pub model: String,
    /// Tokens read that came from no cache and were not written to one.
    pub input: u64,
    /// Tokens generated, thinking included.
    pub output: u64,
    /// Tokens read from the provider's cache.
    pub cache_read: u64,
    /// Tokens written to the provider's cache.
    pub cache_write: u64,
    /// The cost in millionths of the currency, where a price is known or the provider reports the cost.
    pub cost_micros: Option<u64>,
    /// Whether the call came to its end; if not, these are the counts so far.
    pub complete: bool,
    /// Whether the counts are estimated from the stream, because the provider reported none, or none before the call
    /// broke off.
    pub estimated: bool,
}

impl Usage {
    /// The sum of all four counts.
    pub fn tokens(&self) -> u64 {
        [self.input, self.output, self.cache_read, self.cache_write]
            .iter()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Adds the cost by the price of the requested model or of the one that answered; rounded up.
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
