//! A sign-in at an identity provider: what it is for, how far it is, and what its return must show.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_core::{Code, Env, Error, Result, SignInId, Timestamp};
use foundry_proto::auth::v1::SignInState;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How long the browser may take to come back, and the page to open the session.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

/// What a sign-in is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session for somebody who may come in.
    SignIn,
    /// The first owner, who knew the set-up secret.
    SetUp,
}

impl Purpose {
    /// The text in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::SetUp => "set_up",
        }
    }

    /// From what is stored.
    ///
    /// # Errors
    /// `INTERNAL` for an unknown text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "sign_in" => Ok(Self::SignIn),
            "set_up" => Ok(Self::SetUp),
            other => Err(Error::internal(format!("unknown purpose {other}"))),
        }
    }
}

/// How far a sign-in is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The browser is at the provider.
    Begun,
    /// It has come back with a code.
    Received,
    /// The page may open the session.
    Admitted,
    /// Nobody comes in by it.
    Refused,
    /// The session was opened.
    Completed,
}

impl State {
    /// The text in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Received => "received",
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Completed => "completed",
        }
    }

    /// From what is stored.
    ///
    /// # Errors
    /// `INTERNAL` for an unknown text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let all = [Self::Begun, Self::Received, Self::Admitted, Self::Refused, Self::Completed];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| Error::internal(format!("unknown state {text}")))
    }

    /// The state as callers see it.
    pub(crate) fn message(self) -> SignInState {
        match self {
            Self::Begun => SignInState::Begun,
            Self::Received => SignInState::Received,
            Self::Admitted => SignInState::Admitted,
            Self::Refused => SignInState::Refused,
            Self::Completed => SignInState::Completed,
        }
    }
}

/// A stored sign-in, without what only the flow needs.
#[derive(Clone, Debug)]
pub(crate) struct SignInRow {
    pub(crate) sign_in_id: SignInId,
    pub(crate) provider: String,
    pub(crate) state: State,
    pub(crate) binding_hash: Vec<u8>,
    pub(crate) claim_hash: Vec<u8>,
    /// Empty until the browser has come back.
    pub(crate) return_hash: Vec<u8>,
    pub(crate) purpose: Purpose,
    /// Of the first owner's organization; else empty.
    pub(crate) organization_name: String,
    pub(crate) redirect_uri: String,
    pub(crate) nonce: String,
    /// Why it was refused.
    pub(crate) reason: String,
    pub(crate) message: String,
    /// Who was admitted, and where; else empty.
    pub(crate) user_id: String,
    pub(crate) organization_id: String,
    pub(crate) expires_at: Timestamp,
}

impl SignInRow {
    /// Checks that the browser which comes back is the one that was sent, from the provider it was sent to, in time, and
    /// for the first time.
    ///
    /// # Errors
    /// The typed refusal.
    pub(crate) fn check_return(&self, provider: &str, binding: &str, now: Timestamp) -> Result<()> {
        if self.provider != provider {
            return Err(wrong_provider());
        }
        if !is_hash_of(&self.binding_hash, binding) {
            let text = "the sign-in was begun in another browser, or its cookie is gone";
            return Err(refused("SIGN_IN_OTHER_BROWSER", text));
        }
        if self.state != State::Begun {
            return Err(used());
        }
        self.check_time(now)
    }

    /// Checks that this is the browser which came back.
    ///
    /// # Errors
    /// `SIGN_IN_UNKNOWN` for another one.
    pub(crate) fn check_returned(&self, return_secret: &str) -> Result<()> {
        if is_hash_of(&self.return_hash, return_secret) { Ok(()) } else { Err(unknown()) }
    }

    /// Checks that the page which opens the session is the one that began the sign-in, and the one that its browser came
    /// back to: either alone could be somebody else, who lent another browser a cookie.
    ///
    /// # Errors
    /// The typed refusal; `UNAVAILABLE` while the user is being identified.
    pub(crate) fn check_claim(&self, claim: &str, return_secret: &str, now: Timestamp) -> Result<()> {
        let began = is_hash_of(&self.claim_hash, claim);
        let returned = is_hash_of(&self.return_hash, return_secret);
        if !(began & returned) {
            return Err(unknown());
        }
        match self.state {
            State::Completed => Err(used()),
            State::Refused => Err(self.refusal()),
            State::Begun => Err(unknown()),
            State::Received | State::Admitted => {
                self.check_time(now)?;
                if self.state == State::Admitted { Ok(()) } else { Err(pending()) }
            }
        }
    }

    fn check_time(&self, now: Timestamp) -> Result<()> {
        if now < self.expires_at {
            return Ok(());
        }
        Err(refused("SIGN_IN_EXPIRED", "the sign-in took longer than ten minutes"))
    }

    /// Why it was refused; empty while it is not.
    pub(crate) fn refusal_reason(&self) -> &'static str {
        if self.state != State::Refused {
            return "";
        }
        let known = REFUSALS.iter().find(|reason| **reason == self.reason);
        known.copied().unwrap_or("SIGN_IN_INTERRUPTED")
    }

    /// The stored refusal as an error.
    fn refusal(&self) -> Error {
        refused(self.refusal_reason(), &self.message)
    }
}

/// The reasons that a flow may refuse with. Any other end of it is an interruption.
const REFUSALS: [&str; 8] = [
    "SIGN_IN_DENIED",
    "SIGN_IN_PROVIDER_UNREACHABLE",
    "SIGN_IN_CODE_REFUSED",
    "ID_TOKEN_INVALID",
    "NOT_ADMITTED",
    "SET_UP_REQUIRED",
    "SET_UP_DONE",
    "SIGN_IN_ORGANIZATION_UNKNOWN",
];

/// The hash under which a secret of a sign-in is stored.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// A new secret of a sign-in: 256 random bits as text, which is also a verifier as PKCE wants it.
pub(crate) fn new_secret(env: &Env) -> String {
    let mut bytes = [0u8; 32];
    env.random.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether this is the hash of the secret; takes as long for a wrong one.
pub(super) fn is_hash_of(stored: &[u8], secret: &str) -> bool {
    !secret.is_empty() && bool::from(stored.ct_eq(&hash(secret)))
}

fn refused(reason: &'static str, text: &str) -> Error {
    Error::new(Code::PermissionDenied, reason, text).next_action("sign in again from the page")
}

/// The return or the page names no sign-in.
pub(crate) fn unknown() -> Error {
    refused("SIGN_IN_UNKNOWN", "there is no such sign-in")
}

/// The return came to the address of another provider, or another provider sent it.
pub(crate) fn wrong_provider() -> Error {
    refused("SIGN_IN_PROVIDER_WRONG", "the answer is not from the identity provider that was asked")
}

/// A sign-in counts once.
pub(crate) fn used() -> Error {
    refused("SIGN_IN_USED", "this sign-in has come back before")
}

/// The user is still being identified.
pub(crate) fn pending() -> Error {
    let text = "the identity provider is still being asked who signed in";
    Error::unavailable("SIGN_IN_PENDING", text, Duration::from_millis(500))
        .next_action("ask again in a moment; it ends within a minute")
}

/// Nothing lets the account in.
pub(crate) fn not_admitted() -> Error {
    let text = "this account may not sign in here";
    Error::new(Code::PermissionDenied, "NOT_ADMITTED", text)
        .next_action("ask an owner to allow it in the configuration, or sign in with another account")
}

/// The configuration lets people into an organization that is not there.
pub(crate) fn no_organization(provider: &str, name: &str) -> Error {
    let setting = format!("auth.sign_in.{provider}.organization");
    let text = format!("`{setting}` is {name}, and there is no organization of this name");
    Error::precondition("SIGN_IN_ORGANIZATION_UNKNOWN", &setting, text)
        .next_action("ask an operator to correct the setting, or an owner to create the organization")
}

/// There is nobody yet who could let others in.
pub(crate) fn set_up_required() -> Error {
    Error::new(Code::FailedPrecondition, "SET_UP_REQUIRED", "nobody has set this mesh up yet")
        .next_action("sign in with the set-up secret from the data directory first")
}

/// There is an owner already.
pub(crate) fn set_up_done() -> Error {
    Error::precondition("SET_UP_DONE", "set-up", "this mesh has an owner already")
        .next_action("sign in without the set-up secret, or ask an owner to let you in")
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;

    use super::*;

    fn row(state: State) -> SignInRow {
        SignInRow {
            sign_in_id: SignInId::generate(&Env::system()),
            provider: "github".into(),
            state,
            binding_hash: hash("binding").to_vec(),
            claim_hash: hash("claim").to_vec(),
            return_hash: if state == State::Begun { Vec::new() } else { hash("return").to_vec() },
            purpose: Purpose::SignIn,
            organization_name: String::new(),
            redirect_uri: String::new(),
            nonce: String::new(),
            reason: "NOT_ADMITTED".into(),
            message: String::new(),
            user_id: String::new(),
            organization_id: String::new(),
            expires_at: Timestamp::from_micros(1_000),
        }
    }

    #[test]
    fn a_return_counts_once_in_time_from_the_same_browser_and_the_right_provider() {
        let check = |state, provider, binding, at| {
            let checked = row(state).check_return(provider, binding, Timestamp::from_micros(at));
            checked.map_or_else(|e| e.reason(), |()| "OK")
        };
        assert_eq!(check(State::Begun, "github", "binding", 999), "OK");
        assert_eq!(check(State::Begun, "google", "binding", 999), "SIGN_IN_PROVIDER_WRONG");
        assert_eq!(check(State::Begun, "github", "other", 999), "SIGN_IN_OTHER_BROWSER");
        assert_eq!(check(State::Begun, "github", "", 999), "SIGN_IN_OTHER_BROWSER");
        assert_eq!(check(State::Begun, "github", "binding", 1_000), "SIGN_IN_EXPIRED");
        for state in [State::Received, State::Admitted, State::Refused, State::Completed] {
            assert_eq!(check(state, "github", "binding", 999), "SIGN_IN_USED", "{state:?}");
        }
    }

    #[test]
    fn only_the_page_that_began_and_was_returned_to_opens_the_session_and_only_once() {
        let check_both = |state, claim, secret| {
            let checked = row(state).check_claim(claim, secret, Timestamp::from_micros(999));
            checked.map_or_else(|e| e.reason(), |()| "OK")
        };
        let check = |state, claim| check_both(state, claim, "return");
        assert_eq!(check(State::Admitted, "claim"), "OK");
        assert_eq!(check(State::Received, "claim"), "SIGN_IN_PENDING");
        assert_eq!(check(State::Refused, "claim"), "NOT_ADMITTED");
        assert_eq!(check(State::Completed, "claim"), "SIGN_IN_USED");
        assert_eq!(check(State::Begun, "claim"), "SIGN_IN_UNKNOWN", "nobody has come back");
        for state in [State::Begun, State::Received, State::Admitted, State::Refused, State::Completed] {
            assert_eq!(check(state, "wrong"), "SIGN_IN_UNKNOWN", "{state:?}");
            assert_eq!(check(state, ""), "SIGN_IN_UNKNOWN", "{state:?}");
            for secret in ["", "wrong", "claim"] {
                assert_eq!(check_both(state, "claim", secret), "SIGN_IN_UNKNOWN", "{state:?} {secret}");
                assert_eq!(row(state).check_returned(secret).unwrap_err().reason(), "SIGN_IN_UNKNOWN");
            }
        }
    }

    #[test]
    fn what_is_stored_is_read_again() {
        for state in [State::Begun, State::Received, State::Admitted, State::Refused, State::Completed] {
            assert_eq!(State::parse(state.as_str()).unwrap(), state);
        }
        for purpose in [Purpose::SignIn, Purpose::SetUp] {
            assert_eq!(Purpose::parse(purpose.as_str()).unwrap(), purpose);
        }
    }
}
