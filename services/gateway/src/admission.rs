//! Identifies the caller, as far as the edge needs it, and sets the `authorization` that the request is forwarded
//! with.

use std::sync::Arc;

use foundry_authn::{Authenticator, CLIENT_ADDRESS, CLIENT_PEER, Caller, ServiceIdentity, bearer};
use foundry_core::{Code, Error};
use foundry_edge::Token;
use foundry_proto::options::v1::Access;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tonic::Status;

use crate::caller_limits::{Account, CallerBook};
use crate::exchange::Exchange;
use crate::proxies::Sender;
use crate::routes::Route;

/// The service that needs no feed of revocations, since they are its own: it decides by itself. So rights can be taken
/// away while the feed to the gateway alone is lost.
const OWNER_OF_REVOCATIONS: &str = "auth";

/// Decides which requests get into the mesh, and on whose behalf.
pub(crate) struct Admission {
    authenticator: Arc<Authenticator>,
    exchange: Exchange,
    identity: ServiceIdentity,
}

/// How an admitted request is forwarded.
pub(crate) struct Admitted {
    /// The account whose limits apply.
    pub(crate) account: Account,
    /// The headers that identify the caller to the service.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// A caller at the edge itself.
pub(crate) struct Identified {
    /// The verified caller.
    pub(crate) caller: Caller,
    /// The credential it was identified by.
    pub(crate) token: Token,
}

impl Admission {
    pub(crate) fn new(
        authenticator: Arc<Authenticator>,
        exchange: Exchange,
        identity: ServiceIdentity,
    ) -> Self {
        Self { authenticator, exchange, identity }
    }

    /// Decides on a request by its method and token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with the reason, `PERMISSION_DENIED` for methods that are not for clients,
    /// `RESOURCE_EXHAUSTED` for an address that tries too many bad tokens, `UNAVAILABLE` for a change without the feed of
    /// revocations, unless auth decides on it.
    pub(crate) async fn admit(
        &self,
        route: &Route,
        headers: &HeaderMap,
        sender: Sender,
        callers: &CallerBook,
    ) -> Result<Admitted, Status> {
        if route.access == Access::Open {
            return self.admit_anybody(route, sender);
        }
        let (account, authorization, identified) = self.admit_caller(headers, sender, callers).await?;
        if matches!(route.access, Access::Service | Access::Unspecified) {
            let text = "only services of the mesh may call this method";
            return Err(Error::new(Code::PermissionDenied, "PERMISSION_DENIED", text).into_status());
        }
        if !route.only_reads && route.service != OWNER_OF_REVOCATIONS {
            self.authenticator.require_feed(&identified.caller)?;
        }
        Ok(Admitted { account, headers: vec![(AUTHORIZATION, authorization)] })
    }

    /// Decides on a request that the gateway serves itself.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub(crate) async fn admit_user(
        &self,
        headers: &HeaderMap,
        sender: Sender,
        callers: &CallerBook,
    ) -> Result<(Account, Identified), Status> {
        let (account, _, identified) = self.admit_caller(headers, sender, callers).await?;
        Ok((account, identified))
    }

    async fn admit_caller(
        &self,
        headers: &HeaderMap,
        sender: Sender,
        callers: &CallerBook,
    ) -> Result<(Account, HeaderValue, Identified), Status> {
        let address = Account::of_peer(sender.peer);
        let identified = self.identify(headers, &address, callers).await;
        let (authorization, identified) = identified.or_else(|status| {
            // Guessing tokens counts against the limits of the address. Our own failures do not count.
            if status.code() == tonic::Code::Unauthenticated {
                callers.charge(&address)?;
            }
            Err(status)
        })?;
        let Some(user) = identified.caller.as_user() else { return Err(from_inside().into_status()) };
        tracing::Span::current().record("caller", identified.caller.actor());
        let account = Account::User(user.user_id.as_str().into());
        Ok((account, authorization, identified))
    }

    /// For an open method: the gateway calls with its own identity and adds where the client is.
    fn admit_anybody(&self, route: &Route, sender: Sender) -> Result<Admitted, Status> {
        let client = sender.client_peer();
        let token = format!("Bearer {}", self.identity.token(route.service)?);
        let mut authorization = HeaderValue::try_from(token).map_err(|e| Status::from(Error::internal(e)))?;
        authorization.set_sensitive(true);
        let mut headers = vec![
            (AUTHORIZATION, authorization),
            (HeaderName::from_static(CLIENT_PEER), HeaderValue::from_static(client.as_str())),
        ];
        let address = sender.address().and_then(|address| HeaderValue::try_from(address.to_string()).ok());
        headers.extend(address.map(|address| (HeaderName::from_static(CLIENT_ADDRESS), address)));
        Ok(Admitted { account: Account::of_peer(sender.peer), headers })
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        address: &Account,
        callers: &CallerBook,
    ) -> Result<(HeaderValue, Identified), Status> {
        let token = bearer(headers).map_err(Error::from)?;
        if Exchange::is_opaque(token) {
            if !self.exchange.knows(token) {
                // Each unknown token causes a call to auth.
                callers.charge(address)?;
            }
            let exchanged = self.exchange.exchange(token).await?;
            let (caller, token) = (exchanged.caller.clone(), Token::Opaque(token.to_owned()));
            return Ok((exchanged.authorization.clone(), Identified { caller, token }));
        }
        let caller = self.authenticator.identify(headers).await?;
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|e| Status::from(Error::internal(e)))?;
        authorization.set_sensitive(true);
        let token = Token::Jwt { caller: caller.clone(), authorization: authorization.clone() };
        Ok((authorization, Identified { caller, token }))
    }
}

fn from_inside() -> Error {
    let text = "services of the mesh call each other directly, never through the gateway";
    Error::new(Code::PermissionDenied, "SERVICE_TOKEN_REFUSED", text)
}
