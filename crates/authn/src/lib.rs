//! Who calls, and what the caller may do: tokens, their verification in every service, and the tower layers that apply
//! both. No request is trusted because of where it came from.
//!
//! - [`Signer`] mints tokens, [`Verifier`] checks them against the [`KeyRing`].
//! - [`Revocations`] is the set of credentials and memberships to refuse, kept by a watch on the auth service.
//! - [`AuthnLayer`] applies each method's policy (a method option) and leaves a [`Caller`] in the
//!   request's extensions; handlers ask it [`Caller::require`].
//! - [`StreamPass`] ends an open stream when its credential or membership is gone.
//! - [`ServiceIdentity`] and [`IdentityLayer`] are how one service calls another.

mod caller;
mod claims;
mod client;
mod error;
mod feed;
mod identity;
mod keys;
mod layer;
mod peer;
mod policy;
mod revocations;
mod session;
mod sign;
mod stream;
mod upstream;
mod verify;

pub use caller::{Caller, Membership, UserCaller};
pub use claims::{AUTH_ISSUER, Claims, LEEWAY, TOKEN_LIFETIME, TokenKind, USER_AUDIENCE, role_name};
pub use client::{IdentityLayer, IdentityService, ON_BEHALF_OF};
pub use error::TokenError;
pub use feed::keep_revocations;
pub use identity::{ServiceIdentity, read_public_keys};
pub use keys::{KeyRing, KeySource, StaticKeys};
pub use layer::{Authenticator, AuthnLayer, AuthnService, CallerLabel, bearer};
pub use peer::{CLIENT_PEER, ClientPeer};
pub use policy::{Method, MethodPolicies, services};
pub use revocations::{Revocations, credential_key, membership_key, role_key};
pub use session::{CLIENT_ADDRESS, CLIENT_PAGE, Client, OWN_PAGE, SESSION_CLEAR, SESSION_SET, SessionCookie};
pub use sign::{Signer, key_id};
pub use stream::{StreamNotice, StreamPass};
pub use upstream::UpstreamKeys;
pub use verify::Verifier;
