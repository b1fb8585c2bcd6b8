//! What the gateway provides to the edge: who owns a method, what tokens stand for, and what a caller may use.

use foundry_authn::Caller;
use foundry_core::Result;
use foundry_proto::options::v1::Access;
use http::header::HeaderValue;
use tonic::Status;

/// Which service owns a method.
pub trait Routes: Send + Sync + 'static {
    /// The name of the service (`task`; one of [`crate::Parts::upstreams`]) that owns the method of this request path
    /// (`/foundry.task.v1.TaskService/WatchTask`), and who may call that method.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for a method that no service has.
    fn owner_of(&self, path: &str) -> Result<(&'static str, Access)>;
}

/// What the caller of one request may use; dropped when the answer to that request has ended.
pub trait Allowance: Send + Sync + 'static {
    /// Charges one more request to the caller.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when the caller has used what it may.
    fn charge(&self) -> Result<()>;
}

/// What a caller showed, to be used again for as long as its stream lives.
#[derive(Clone)]
pub enum Token {
    /// A token that is exchanged again whenever that is needed.
    Opaque(String),
    /// One that nobody here can renew.
    Jwt {
        /// Whom it speaks for.
        caller: Caller,
        /// The header with it.
        authorization: HeaderValue,
    },
}

/// What an opaque token was exchanged for.
pub struct Exchanged {
    /// Whom the JWT speaks for.
    pub caller: Caller,
    /// The `authorization` header with the JWT.
    pub authorization: HeaderValue,
    /// The number of this exchange among all, in the order in which they began, from 1 on.
    pub number: u64,
}

/// Exchanges opaque tokens for JWTs, and remembers them for as long as they are good.
#[tonic::async_trait]
pub trait TokenExchange: Send + Sync + 'static {
    /// What the token stands for; the exchange may be an earlier one that is still good.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the token is of no use any more, or `UNAVAILABLE`.
    async fn exchange_token(&self, token: &str) -> Result<Exchanged, Status>;

    /// How many exchanges have begun: one with a higher number knows all that is so by now.
    fn exchanges(&self) -> u64;

    /// Completes when an exchange of this token with a number above `exchanges` is remembered.
    ///
    /// # Errors
    /// As [`TokenExchange::exchange_token`].
    async fn renew_since(&self, token: &str, exchanges: u64) -> Result<(), Status>;
}
