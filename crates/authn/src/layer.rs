//! The tower layer of every service: verifies the token, applies the method's policy, and leaves
//! the [`Caller`] in the request's extensions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use foundry_core::{Clock, Code, Env, Error, OrganizationId, Result, Tasks, Timestamp};
use foundry_proto::common::v1::Role;
use foundry_proto::options::v1::{Access, MethodPolicy};
use foundry_server::PeerService;
use http::{HeaderMap, Request, Response};
use tonic::body::Body;
use tonic::codegen::StdError;
use tower::Layer as _;

use crate::caller::denied;
use crate::policy::is_infrastructure;
use crate::{
    AUTH_ISSUER, Caller, IdentityLayer, KeyRing, MethodPolicies, ON_BEHALF_OF, Revocations, ServiceIdentity,
    StreamPass, TokenError, UpstreamKeys, Verifier, keep_revocations,
};

/// How long a call waits for the first snapshot of the revocations.
const FIRST_SNAPSHOT_WAIT: Duration = Duration::from_secs(3);

/// When to try again without the feed, which is opened again within two seconds of auth's return.
const RETRY_STALE: Duration = Duration::from_secs(2);

/// The caller as one word for the request log; in the extensions of requests and responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerLabel(pub Arc<str>);

/// Establishes the caller of a request and decides whether it may call the method at all.
pub struct Authenticator {
    policies: Arc<MethodPolicies>,
    verifier: Verifier,
    revocations: Revocations,
    clock: Arc<dyn Clock>,
}

impl Authenticator {
    /// An authenticator for the service of this name.
    ///
    /// # Errors
    /// `INTERNAL` when a method lacks a sound authorization entry.
    pub fn new(service: &str, keys: KeyRing, revocations: Revocations, env: &Env) -> Result<Self> {
        Ok(Self {
            policies: MethodPolicies::shared()?,
            verifier: Verifier::new(service, keys, env.clock.clone()),
            revocations,
            clock: env.clock.clone(),
        })
    }

    /// An authenticator for the service of this identity, with keys and revocations from the auth service.
    /// Users are refused as unverifiable until the first snapshot of the revocations is there.
    ///
    /// # Errors
    /// `INTERNAL` when a method lacks a sound authorization entry.
    pub fn connect<T>(identity: &ServiceIdentity, auth: T, env: &Env, tasks: &Tasks) -> Result<Arc<Self>>
    where
        T: tower::Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
        T::Future: Send + 'static,
        T::Error: Into<StdError> + Send + 'static,
    {
        let auth = IdentityLayer::new(identity.clone(), AUTH_ISSUER)?.layer(auth);
        let keys = KeyRing::new(Arc::new(UpstreamKeys::new(auth.clone())), env.clock.clone());
        let revocations = Revocations::new();
        keep_revocations(auth, revocations.clone(), env, tasks, Arc::new(foundry_watch::NoObserver));
        Ok(Arc::new(Self::new(identity.name(), keys, revocations, env)?))
    }

    /// The revocations it checks.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The methods it has policies for.
    pub fn policies(&self) -> &Arc<MethodPolicies> {
        &self.policies
    }

    /// Watches when a stream of this caller, in this organization, must end.
    pub fn stream_pass(&self, caller: Caller, organization: Option<OrganizationId>) -> StreamPass {
        StreamPass::new(caller, organization, self.revocations.clone(), self.clock.clone())
    }

    /// The caller of a method, admitted by its policy. `None` where the method is open and the request has no valid
    /// token.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with a reason of [`TokenError`], `PERMISSION_DENIED`, or `UNIMPLEMENTED`
    /// for a method that does not exist.
    pub async fn authenticate(&self, path: &str, headers: &HeaderMap) -> Result<Option<Caller>> {
        if is_infrastructure(path) {
            return Ok(None);
        }
        let Some(method) = self.policies.get(path) else {
            return Err(Error::new(Code::Unimplemented, "METHOD_UNKNOWN", "no such method"));
        };
        let Some(policy) = &method.policy else {
            return Err(denied("this method has no authorization policy"));
        };
        if policy.access == Access::Open as i32 {
            // An open method admits anonymous callers, so a bad token is treated as none.
            return Ok(self.identify(headers).await.ok());
        }
        let caller = self.identify(headers).await?;
        admit(policy, &caller)?;
        if !method.only_reads() {
            self.require_feed(&caller)?;
        }
        Ok(Some(caller))
    }

    /// Refuses what may change something while it is unknown whether the caller still may: after a minute without the
    /// feed of revocations. Reads go on until the token ends, and a service needs no feed.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub fn require_feed(&self, caller: &Caller) -> Result<()> {
        if caller.as_user().is_none() {
            return Ok(());
        }
        match self.revocations.stale_since(self.clock.now()) {
            None => Ok(()),
            Some(lost) => Err(stale(lost)),
        }
    }

    /// The caller identified by a bearer token, whatever the method.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` with a reason of [`TokenError`], or `UNAVAILABLE`.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Caller> {
        let caller = self.verifier.verify(bearer(headers)?).await?;
        if caller.as_user().is_some() && !self.revocations.is_loaded() {
            tokio::select! {
                () = self.revocations.loaded() => {}
                () = self.clock.sleep(FIRST_SNAPSHOT_WAIT) => {}
            }
        }
        let caller = self.revocations.apply(caller)?;
        let user = headers.get(ON_BEHALF_OF).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        Ok(match user {
            Some(user) => caller.acting_for(user),
            None => caller,
        })
    }
}

fn stale(lost: Timestamp) -> Error {
    let text =
        "nothing may be changed now: whether your permissions still hold has been unknown for a minute";
    Error::unavailable("REVOCATIONS_STALE", text, RETRY_STALE)
        .with("feed_lost_time", lost.to_string())
        .next_action("retry with the same request_id; operators: check that the auth service can be reached")
}

/// The bearer token of a request.
///
/// # Errors
/// [`TokenError::Missing`], or [`TokenError::Malformed`] for anything but one bearer token.
pub fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenError::Missing)?;
    if values.next().is_some() {
        return Err(TokenError::Malformed("there are two `authorization` headers"));
    }
    let text = value.to_str().map_err(|_| TokenError::Malformed("it is not text"))?;
    let (scheme, token) = text.split_once(' ').ok_or(TokenError::Malformed("it is not a bearer token"))?;
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(token.trim())
    } else {
        Err(TokenError::Malformed("it is not a bearer token"))
    }
}

fn admit(policy: &MethodPolicy, caller: &Caller) -> Result<()> {
    if let Some(name) = caller.service_name() {
        return if policy.services.iter().any(|s| s == name) {
            Ok(())
        } else {
            Err(denied("this service may not call this method").with("service", name))
        };
    }
    match Access::try_from(policy.access) {
        Ok(Access::User | Access::Open) => Ok(()),
        Ok(Access::Member) => {
            // Only the handler knows the organization, but a caller that has the role in no organization can be refused
            // here. One without any membership gets the handler's NOT_FOUND.
            let role = Role::try_from(policy.role).unwrap_or(Role::Owner);
            let best = caller.memberships().iter().map(|m| m.role).max();
            match best {
                Some(best) if best < role => Err(crate::caller::too_small(best, role)),
                _ => Ok(()),
            }
        }
        Ok(Access::Service) => Err(denied("only services of the mesh may call this method")),
        Ok(Access::Unspecified) | Err(_) => Err(denied("this method has no authorization policy")),
    }
}

/// Refuses the token of a service on a connection that another one has proven to be its own. Users' tokens come through
/// any service that may pass them on.
fn proven(caller: Option<Caller>, peer: Option<&PeerService>) -> Result<Option<Caller>> {
    let named = caller.as_ref().and_then(Caller::service_name);
    match (named, peer) {
        (Some(named), Some(PeerService(proven))) if *named != **proven => {
            let text = "the token is that of another service than the certificate of the connection";
            Err(Error::new(Code::PermissionDenied, "CERTIFICATE_MISMATCH", text)
                .with("token", named)
                .with("certificate", &**proven))
        }
        _ => Ok(caller),
    }
}

/// Applies an [`Authenticator`] to a service's gRPC routes.
#[derive(Clone)]
pub struct AuthnLayer(Arc<Authenticator>);

impl AuthnLayer {
    /// A layer that uses this authenticator.
    pub fn new(authenticator: Arc<Authenticator>) -> Self {
        Self(authenticator)
    }
}

impl<S> tower::Layer<S> for AuthnLayer {
    type Service = AuthnService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthnService { inner, authenticator: self.0.clone() }
    }
}

/// The service made by [`AuthnLayer`].
#[derive(Clone)]
pub struct AuthnService<S> {
    inner: S,
    authenticator: Arc<Authenticator>,
}

impl<S, B> tower::Service<Request<B>> for AuthnService<S>
where
    S: tower::Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone that was polled ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let authenticator = self.authenticator.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            // A caller set by anything else than this layer must not be trusted.
            parts.extensions.remove::<Caller>();
            let caller = authenticator.authenticate(parts.uri.path(), &parts.headers).await;
            let caller = match caller.and_then(|caller| proven(caller, parts.extensions.get())) {
                Ok(caller) => caller,
                Err(e) => return Ok(e.into_status().into_http()),
            };
            let label = caller.as_ref().map(|c| CallerLabel(c.actor().into()));
            if let Some(label) = &label {
                tracing::Span::current().record("caller", &*label.0);
            }
            if let Some(caller) = caller {
                parts.extensions.insert(caller);
            }
            if let Some(label) = &label {
                parts.extensions.insert(label.clone());
            }
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            if let Some(label) = label {
                response.extensions_mut().insert(label);
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerService {
        PeerService(name.into())
    }

    #[test]
    fn the_token_of_a_service_counts_on_its_own_connection_only() {
        let gateway = || Some(Caller::service("gateway"));
        let refused = proven(gateway(), Some(&peer("task"))).unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::PermissionDenied, "CERTIFICATE_MISMATCH"));
        assert!(proven(gateway(), Some(&peer("gateway"))).unwrap().is_some());
        // Without TLS between services there is nothing to compare, and a stranger has no token.
        assert!(proven(gateway(), None).unwrap().is_some());
        assert!(proven(None, Some(&peer("task"))).unwrap().is_none());
    }
}
