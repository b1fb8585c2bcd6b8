//! Opaque tokens exchanged for JWTs, and cached by their hash while they are valid.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use foundry_authn::{Authenticator, Caller};
use foundry_core::{Clock, Code, Env, Error, Tasks, Timestamp};
use foundry_proto::auth::v1::ExchangeTokenRequest;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_server::Upstream;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use tonic::Status;

use crate::session;
use forced::ForcedExchanges;

mod for_edge;
mod forced;

/// Longest opaque token that is accepted, in bytes.
const MAX_TOKEN_LEN: usize = 256;
/// A JWT with less time left is renewed in the background.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// A JWT with less time left is not sent: it must still be valid when it arrives.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(10);
/// How long a refused token is refused without asking auth again.
const REFUSED_FOR: Duration = Duration::from_secs(2);
/// Shortest time between two exchanges of a token whose roles changed.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// How long a JWT is used although a role of its user has changed since. Short, because a user who has just joined or
/// created an organization goes there at once; not zero, because auth may not have the change yet.
const OUTDATED_FOR: Duration = Duration::from_millis(100);
/// Most cached tokens; above that, unused ones are dropped.
const MAX_TOKENS: usize = 16_384;

/// The result of exchanging an opaque token.
pub(crate) struct Exchanged {
    /// The `authorization` header with the JWT.
    pub(crate) authorization: HeaderValue,
    /// The caller it stands for.
    pub(crate) caller: Caller,
    /// Its number among all exchanges, in the order in which they began.
    pub(crate) number: u64,
    expires_at: Timestamp,
    exchanged_at: Timestamp,
}

type Outcome = Result<Arc<Exchanged>, Status>;
type TokenHash = [u8; 32];

#[derive(Clone)]
enum Entry {
    Good {
        exchanged: Arc<Exchanged>,
        renewing: bool,
    },
    /// One exchange shared by all callers who wait for it; any of them drives it.
    Pending(Shared<BoxFuture<'static, Outcome>>),
    Refused(Status, Timestamp),
}

/// Exchanges opaque tokens; cloning shares it.
#[derive(Clone)]
pub(crate) struct Exchange(Arc<Inner>);

struct Inner {
    auth: AuthServiceClient<Upstream>,
    authenticator: Arc<Authenticator>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    tokens: Mutex<HashMap<TokenHash, Entry>>,
    /// How many exchanges have begun.
    begun: AtomicU64,
    forced: ForcedExchanges,
}

impl Exchange {
    pub(crate) fn new(
        auth: AuthServiceClient<Upstream>,
        authenticator: Arc<Authenticator>,
        env: &Env,
        tasks: Tasks,
    ) -> Self {
        let clock = env.clock.clone();
        let (tokens, begun, forced) = (Mutex::default(), AtomicU64::new(0), ForcedExchanges::default());
        Self(Arc::new(Inner { auth, authenticator, clock, tasks, tokens, begun, forced }))
    }

    /// Whether a bearer token is one that only the gateway accepts. The secret of a page session gets this far only
    /// from its cookie.
    pub(crate) fn is_opaque(token: &str) -> bool {
        token.starts_with("fds_") || token.starts_with("fpat_") || token.starts_with(session::SECRET)
    }

    /// Whether the token is in the cache.
    pub(crate) fn knows(&self, token: &str) -> bool {
        matches!(self.0.tokens().get(&hash(token)), Some(Entry::Good { .. }))
    }

    /// The JWT and caller that the token stands for.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` as auth returned it, or `UNAVAILABLE`.
    pub(crate) async fn exchange(&self, token: &str) -> Outcome {
        if token.len() > MAX_TOKEN_LEN {
            return Err(refused("TOKEN_MALFORMED", "the bearer token is too long"));
        }
        let key = hash(token);
        let pending = match self.look_up(key, token) {
            Ok(known) => return known,
            Err(pending) => pending,
        };
        pending.await
    }

    fn look_up(&self, key: TokenHash, token: &str) -> Result<Outcome, Shared<BoxFuture<'static, Outcome>>> {
        let now = self.0.clock.now();
        let mut tokens = self.0.tokens();
        match tokens.get_mut(&key) {
            Some(Entry::Good { exchanged, renewing }) if self.0.is_usable(exchanged, now) => {
                if !*renewing && exchanged.expires_at <= now.plus(RENEW_BEFORE) {
                    *renewing = true;
                    self.renew(key, token.to_owned());
                }
                return Ok(Ok(exchanged.clone()));
            }
            Some(Entry::Refused(status, until)) if now < *until => return Ok(Err(status.clone())),
            Some(Entry::Pending(pending)) => return Err(pending.clone()),
            _ => {}
        }
        let pending = self.clone().ask_and_remember(key, token.to_owned()).boxed().shared();
        make_room(&mut tokens, now);
        tokens.insert(key, Entry::Pending(pending.clone()));
        Err(pending)
    }

    /// Renews in the background, while requests are forwarded with the old JWT.
    fn renew(&self, key: TokenHash, token: String) {
        let (exchange, stop) = (self.clone(), self.0.tasks.cancellation().clone());
        self.0.tasks.spawn("token renewal", async move {
            let asked = stop.run_until_cancelled(exchange.ask(token)).await;
            match asked {
                Some(Err(status)) if status.code() != tonic::Code::Unauthenticated => {
                    // The old one is valid for a while; the next request tries again.
                    if let Some(Entry::Good { renewing, .. }) = exchange.0.tokens().get_mut(&key) {
                        *renewing = false;
                    }
                }
                Some(outcome) => exchange.remember(key, &outcome),
                None => {}
            }
        });
    }

    async fn ask_and_remember(self, key: TokenHash, token: String) -> Outcome {
        let outcome = self.ask(token).await;
        self.remember(key, &outcome);
        outcome
    }

    async fn ask(&self, token: String) -> Outcome {
        let inner = &*self.0;
        let now = inner.clock.now();
        let number = inner.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = inner.auth.clone().exchange_token(ExchangeTokenRequest { token }).await;
        let answer = answer.map_err(|status| match status.code() {
            tonic::Code::Unauthenticated => status,
            _ => {
                tracing::warn!(%status, "a token cannot be exchanged");
                let text = "tokens cannot be exchanged right now";
                Error::unavailable("TOKEN_UNVERIFIABLE", text, Duration::from_secs(1)).into_status()
            }
        })?;
        let jwt = answer.into_inner().access_token;
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {jwt}")).map_err(|e| Error::internal(e).into_status())?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization.clone())]);
        let caller = inner.authenticator.identify(&headers).await?;
        let expires_at = caller.expires_at();
        Ok(Arc::new(Exchanged { authorization, caller, number, expires_at, exchanged_at: now }))
    }

    fn remember(&self, key: TokenHash, outcome: &Outcome) {
        let mut tokens = self.0.tokens();
        match outcome {
            Ok(exchanged) => {
                if let Some(Entry::Good { exchanged: known, .. }) = tokens.get(&key)
                    && known.number > exchanged.number
                {
                    // The cached exchange began later and is more recent.
                    return;
                }
                tokens.insert(key, Entry::Good { exchanged: exchanged.clone(), renewing: false });
            }
            Err(status) if status.code() == tonic::Code::Unauthenticated => {
                let until = self.0.clock.now().plus(REFUSED_FOR);
                tokens.insert(key, Entry::Refused(status.clone(), until));
            }
            Err(_) => {
                tokens.remove(&key);
            }
        }
    }
}

impl Inner {
    fn tokens(&self) -> MutexGuard<'_, HashMap<TokenHash, Entry>> {
        // Consistent after every change, even if a holder panicked.
        foundry_core::lock(&self.tokens)
    }

    /// Valid for long enough, and nothing was revoked or granted since.
    fn is_usable(&self, exchanged: &Exchanged, now: Timestamp) -> bool {
        let fresh = now < exchanged.exchanged_at.plus(OUTDATED_FOR);
        let revocations = self.authenticator.revocations();
        let changed = exchanged.caller.as_user().is_some_and(|user| revocations.needs_renewal(user));
        exchanged.expires_at > now.plus(UNUSABLE_BEFORE) && (fresh || !changed)
    }
}

fn make_room(tokens: &mut HashMap<TokenHash, Entry>, now: Timestamp) {
    if tokens.len() < MAX_TOKENS {
        return;
    }
    tokens.retain(|_, entry| match entry {
        Entry::Good { exchanged, .. } => exchanged.expires_at > now,
        Entry::Pending(pending) => pending.peek().is_none(),
        Entry::Refused(..) => false,
    });
    if tokens.len() >= MAX_TOKENS {
        // All are in use: each can be exchanged again.
        tokens.clear();
    }
}

fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

fn refused(reason: &'static str, text: &str) -> Status {
    Error::new(Code::Unauthenticated, reason, text).next_action("sign in again").into_status()
}
