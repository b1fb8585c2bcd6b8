//! The sign-in of a program: a user confirms it in a browser, and the program gets its session once (ADR 0030).
//!
//! With a *device code* (RFC 8628 in shape) the user types a short code in any browser, and the program asks until that is
//! done. With a *loopback return* (RFC 8252) the browser on the same machine brings a code back, which counts together
//! with the program's own secret only (PKCE).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_core::{Code, Env, Error, ProgramSignInId, Result, Timestamp, UserId};
use foundry_proto::auth::v1::{LoopbackReturn, ProgramSignIn};
use url::Url;

use super::session::Means;
use super::sign_in::{hash, is_hash_of};

/// How long a user may take to confirm, and the program to get its session.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
/// How long the code counts that a browser brings back.
pub(crate) const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// The pause between two questions of a program, in seconds, and by how much it grows when one comes too soon.
pub(crate) const POLL_SECONDS: i64 = 5;
const MAX_POLL_SECONDS: i64 = 60;

/// The letters of a user code, as in RFC 8628: no digits and no vowels, so that no word comes out.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const CODE_LENGTH: usize = 8;
const MIN_STATE: usize = 32;
const MAX_STATE: usize = 128;

/// How far the sign-in of a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramState {
    /// It waits for a user.
    Begun,
    /// A user has confirmed it.
    Confirmed,
    /// A user has denied it.
    Denied,
    /// The program has its session.
    Completed,
    /// Nobody has confirmed it in time.
    Expired,
}

impl ProgramState {
    /// The text in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Confirmed => "confirmed",
            Self::Denied => "denied",
            Self::Completed => "completed",
            Self::Expired => "expired",
        }
    }

    /// From what is stored.
    ///
    /// # Errors
    /// `INTERNAL` for an unknown text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let all = [Self::Begun, Self::Confirmed, Self::Denied, Self::Completed, Self::Expired];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| Error::internal(format!("unknown state {text}")))
    }
}

/// Where the browser returns to, and with what; empty for a device code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Return {
    pub(crate) redirect_uri: String,
    pub(crate) state: String,
}

/// A stored sign-in of a program.
#[derive(Clone, Debug)]
pub(crate) struct ProgramRow {
    pub(crate) program_sign_in_id: ProgramSignInId,
    pub(crate) state: ProgramState,
    pub(crate) program: String,
    pub(crate) device: String,
    pub(crate) address: String,
    /// SHA-256 of the device code, or of the program's own secret.
    pub(crate) secret_hash: Vec<u8>,
    /// Empty with a loopback return.
    pub(crate) user_code_hash: Vec<u8>,
    pub(crate) back: Return,
    /// Of the code that the browser brings back; empty before.
    pub(crate) code_hash: Vec<u8>,
    /// Who confirmed it.
    pub(crate) user_id: Option<UserId>,
    pub(crate) poll_seconds: i64,
    pub(crate) polled_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// What a question of a program that waits comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// It came in time.
    Pending,
    /// It came too soon: the pause is longer from now on, in seconds.
    TooSoon(i64),
    /// It came too soon, and the pause is the longest already: nothing changes.
    StillTooSoon,
}

impl ProgramRow {
    /// Whether a browser on the same machine brings the answer back.
    pub(crate) fn returns(&self) -> bool {
        !self.back.redirect_uri.is_empty()
    }

    /// How its user signs in.
    pub(crate) fn means(&self) -> Means {
        if self.returns() { Means::Browser } else { Means::DeviceCode }
    }

    /// Checks that it still waits for a user.
    ///
    /// # Errors
    /// The typed refusal.
    pub(crate) fn check_waits(&self, now: Timestamp) -> Result<()> {
        match self.state {
            ProgramState::Begun => self.check_time(now),
            ProgramState::Confirmed | ProgramState::Completed => Err(used()),
            ProgramState::Denied => Err(denied()),
            ProgramState::Expired => Err(expired()),
        }
    }

    /// Checks the secrets of the program: the device code, or the code of the browser and the secret of the beginning.
    ///
    /// # Errors
    /// `SIGN_IN_UNKNOWN`, whichever of them is wrong.
    pub(crate) fn check_secrets(&self, device_code: &str, code: &str, verifier: &str) -> Result<()> {
        let good = match self.returns() {
            true => is_hash_of(&self.code_hash, code) & is_hash_of(&self.secret_hash, verifier),
            false => is_hash_of(&self.secret_hash, device_code),
        };
        if good { Ok(()) } else { Err(unknown()) }
    }

    /// Checks the time.
    ///
    /// # Errors
    /// `SIGN_IN_EXPIRED`.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<()> {
        if now < self.expires_at { Ok(()) } else { Err(expired()) }
    }

    /// What a question at this time comes to.
    pub(crate) fn polled(&self, now: Timestamp) -> Polled {
        let pause = seconds(self.poll_seconds);
        match self.polled_at {
            Some(last) if now < last.plus(pause) && self.poll_seconds >= MAX_POLL_SECONDS => {
                Polled::StillTooSoon
            }
            Some(last) if now < last.plus(pause) => {
                Polled::TooSoon((self.poll_seconds + POLL_SECONDS).min(MAX_POLL_SECONDS))
            }
            _ => Polled::Pending,
        }
    }

    /// Where the browser goes with these parameters; empty for a device code.
    ///
    /// # Errors
    /// `INTERNAL` when the stored address is damaged.
    pub(crate) fn redirect(&self, name: &str, value: &str) -> Result<String> {
        if !self.returns() {
            return Ok(String::new());
        }
        let mut to = Url::parse(&self.back.redirect_uri).map_err(Error::internal)?;
        to.query_pairs_mut().append_pair(name, value).append_pair("state", &self.back.state);
        Ok(to.into())
    }

    pub(crate) fn message(&self) -> ProgramSignIn {
        ProgramSignIn {
            program_sign_in_id: self.program_sign_in_id.to_string(),
            program: self.program.clone(),
            device: self.device.clone(),
            address: self.address.clone(),
            create_time: Some(self.created_at.to_proto()),
            expire_time: Some(self.expires_at.to_proto()),
        }
    }
}

/// A loopback return and the hash of the program's secret. The address is exactly one of this machine: what a browser is
/// sent to must never leave it.
///
/// # Errors
/// `INVALID_ARGUMENT` for another address, a short state, or a challenge that is no SHA-256.
pub(crate) fn parse_return(sent: &LoopbackReturn) -> Result<(Return, Vec<u8>)> {
    let port = sent.redirect_uri.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.strip_suffix('/'));
    let port = port.filter(|port| port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0'));
    if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
        let text = "must be http://127.0.0.1:PORT/ with the port on which the program listens";
        return Err(Error::invalid_field("loopback.redirect_uri", text));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let state = &sent.state;
    if !(MIN_STATE..=MAX_STATE).contains(&state.len()) || !state.bytes().all(plain) {
        let text = "must be 32 to 128 characters of A-Z, a-z, 0-9, `-` and `_`";
        return Err(Error::invalid_field("loopback.state", text));
    }
    let challenge = URL_SAFE_NO_PAD.decode(&sent.code_challenge).ok().filter(|bytes| bytes.len() == 32);
    let challenge = challenge.ok_or_else(|| {
        Error::invalid_field("loopback.code_challenge", "must be a SHA-256 in base64url without padding")
    })?;
    Ok((Return { redirect_uri: sent.redirect_uri.clone(), state: state.clone() }, challenge))
}

/// A new user code, as `BCDF-GHJK`: one of 25 billion.
pub(crate) fn new_user_code(env: &Env) -> String {
    let mut letters = String::new();
    // Bytes above the largest multiple of 20 would make some letters likelier.
    let limit = u8::MAX - u8::MAX % 20;
    while letters.len() < CODE_LENGTH {
        let mut bytes = [0u8; 2 * CODE_LENGTH];
        env.random.fill(&mut bytes);
        let fair = bytes.iter().filter(|b| **b < limit);
        letters.extend(fair.map(|b| char::from(LETTERS[usize::from(b % 20)])));
    }
    format!("{}-{}", &letters[..4], &letters[4..8])
}

/// The hash of a user code as it was typed: case, spaces and `-` do not matter.
///
/// # Errors
/// `INVALID_ARGUMENT` for a text that is no user code.
pub(crate) fn user_code_hash(typed: &str) -> Result<[u8; 32]> {
    let wrong = || {
        Error::invalid_field(
            "user_code",
            "must be the eight letters that the program shows, such as BCDF-GHJK",
        )
    };
    if typed.len() > 64 {
        return Err(wrong());
    }
    let letters: String =
        typed.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    let known = letters.bytes().all(|b| LETTERS.contains(&b));
    if letters.len() == CODE_LENGTH && known { Ok(hash(&letters)) } else { Err(wrong()) }
}

/// A pause in whole seconds.
pub(crate) fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.unsigned_abs())
}

fn refused(reason: &'static str, text: &str) -> Error {
    Error::new(Code::PermissionDenied, reason, text).next_action("begin again with `foundry login`")
}

/// There is no such sign-in, or a secret of it is wrong.
pub(crate) fn unknown() -> Error {
    refused("SIGN_IN_UNKNOWN", "there is no such sign-in of a program")
}

/// No sign-in waits for this code.
pub(crate) fn wrong_user_code() -> Error {
    Error::new(Code::NotFound, "USER_CODE_UNKNOWN", "no program waits for this code")
        .next_action("type the code that the program shows; after ten minutes, begin again there")
}

/// The sign-in of a program counts once.
pub(crate) fn used() -> Error {
    refused("SIGN_IN_USED", "this sign-in of a program was confirmed before")
}

fn denied() -> Error {
    refused("SIGN_IN_DENIED", "the sign-in was denied in the browser")
}

fn expired() -> Error {
    refused("SIGN_IN_EXPIRED", "the sign-in was not confirmed and completed in time")
}

/// Nobody has confirmed it yet.
pub(crate) fn pending(pause: Duration) -> Error {
    Error::unavailable("SIGN_IN_PENDING", "nobody has confirmed this sign-in yet", pause)
        .next_action("confirm it in a browser, at the address that the program shows")
}

/// The program asks too often.
pub(crate) fn too_soon(pause: Duration) -> Error {
    let text = "the program asks more often than it may";
    Error::new(Code::ResourceExhausted, "SIGN_IN_ASKED_TOO_SOON", text)
        .retry_after(pause)
        .next_action("wait for the time in the error between two calls")
}

/// Only the page of a signed-in user confirms programs.
pub(crate) fn page_session_required() -> Error {
    let text = "only a user who is signed in to the page can confirm or deny the sign-in of a program";
    Error::new(Code::PermissionDenied, "PAGE_SESSION_REQUIRED", text)
        .next_action("open the address that the program shows in a browser, and sign in there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> LoopbackReturn {
        LoopbackReturn {
            redirect_uri: "http://127.0.0.1:40123/".into(),
            state: "s".repeat(32),
            code_challenge: URL_SAFE_NO_PAD.encode([7; 32]),
        }
    }

    #[test]
    fn a_browser_returns_to_this_machine_and_nowhere_else() {
        assert_eq!(parse_return(&sent()).unwrap().1, [7; 32]);
        for bad in [
            "",
            "http://127.0.0.1/",
            "http://127.0.0.1:40123",
            "http://127.0.0.1:40123/x",
            "http://127.0.0.1:40123/?a=b",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:080/",
            "http://127.0.0.1:99999/",
            "http://127.0.0.1:40123@evil.example/",
            "http://127.0.0.1:+80/",
            "http://127.0.0.1.evil.example:40123/",
            "http://localhost:40123/",
            "https://127.0.0.1:40123/",
            "javascript:alert(1)",
            "//evil.example/",
        ] {
            let refused = parse_return(&LoopbackReturn { redirect_uri: bad.into(), ..sent() }).unwrap_err();
            assert_eq!(refused.violations()[0].field, "loopback.redirect_uri", "{bad}");
        }
    }

    #[test]
    fn a_return_needs_a_state_and_a_challenge() {
        for state in ["", "short", &"s".repeat(129), &format!("{}&x=y", "s".repeat(32))] {
            let refused = parse_return(&LoopbackReturn { state: state.into(), ..sent() }).unwrap_err();
            assert_eq!(refused.violations()[0].field, "loopback.state", "{state}");
        }
        for challenge in [String::new(), "plain".into(), URL_SAFE_NO_PAD.encode([7; 31])] {
            let refused = parse_return(&LoopbackReturn { code_challenge: challenge, ..sent() }).unwrap_err();
            assert_eq!(refused.violations()[0].field, "loopback.code_challenge");
        }
    }

    #[test]
    fn a_user_code_is_typed_in_any_form_and_has_no_digit_and_no_vowel() {
        let code = new_user_code(&Env::system());
        assert_eq!(code.len(), 9);
        assert!(!code.contains(['A', 'E', 'I', 'O', 'U', 'Y', '0', '1']), "{code}");
        let as_shown = user_code_hash(&code).unwrap();
        let typed = format!(" {} ", code.to_lowercase().replace('-', " "));
        assert_eq!(user_code_hash(&typed).unwrap(), as_shown);
        for bad in ["", "BCDF", "BCDF-GHJ0", "BCDF-GHJKL", "BCDF-GHJ\u{41a}", &"B".repeat(1_000)] {
            assert_eq!(user_code_hash(bad).unwrap_err().violations()[0].field, "user_code", "{bad}");
        }
    }

    #[test]
    fn all_letters_of_user_codes_are_as_likely() {
        let env = foundry_testkit::test_env().env;
        let mut counts = [0u32; 20];
        for _ in 0..2_000 {
            for letter in new_user_code(&env).bytes().filter(|b| *b != b'-') {
                counts[LETTERS.iter().position(|l| *l == letter).unwrap()] += 1;
            }
        }
        assert!(counts.iter().all(|n| (600..=1_000).contains(n)), "{counts:?}");
    }
}
