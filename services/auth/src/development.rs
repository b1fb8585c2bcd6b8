//! The development sign-in: a secret in a 0600 file of the data directory, which no sandbox mounts.
//! An agent on the host's loopback, without the file, cannot sign in.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_authn::ClientPeer;
use foundry_core::{Code, Env, Error, Result, Timestamp};
use foundry_secrets::read_or_create_secret_file;
use subtle::ConstantTimeEq as _;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "dev-sign-in.secret";

/// Failed attempts in [`WINDOW`] after which further wrong secrets get `LIMIT_REACHED`.
const MAX_FAILURES: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Checks the proofs of the development sign-in.
pub(crate) struct DevelopmentSignIn {
    secret: String,
    failures: Mutex<VecDeque<Timestamp>>,
}

impl DevelopmentSignIn {
    /// Reads the secret file, or creates it. Blocks; call it only at startup.
    pub(crate) fn load_or_create(data_dir: &Path, env: &Env) -> Result<Self> {
        let mut bytes = [0u8; 32];
        env.random.fill(&mut bytes);
        let fresh = format!("{}\n", URL_SAFE_NO_PAD.encode(bytes));
        let path = data_dir.join(FILE);
        let secret = read_or_create_secret_file(&path, &fresh)?.trim().to_owned();
        if secret.len() < 32 {
            let name = path.display().to_string();
            let text = format!("{name} cannot be used: its secret is shorter than 32 characters");
            return Err(Error::precondition("SECRET_FILE_UNUSABLE", &name, text));
        }
        Ok(Self { secret, failures: Mutex::default() })
    }

    /// Checks that the secret matches the file and that the client is on this machine. The right secret always passes:
    /// someone who cannot read the file must not be able to lock its owner out.
    pub(crate) fn examine(&self, presented: &str, peer: ClientPeer, now: Timestamp) -> Result<()> {
        if peer != ClientPeer::Loopback {
            return Err(Error::new(
                Code::PermissionDenied,
                "SIGN_IN_NOT_LOCAL",
                "development sign-in only works on the machine that runs the mesh",
            )
            .next_action("sign in on that machine, create a personal access token, and use it here"));
        }
        if bool::from(presented.as_bytes().ct_eq(self.secret.as_bytes())) {
            return Ok(());
        }
        self.note_failure(now)?;
        Err(Error::new(
            Code::Unauthenticated,
            "SIGN_IN_SECRET_WRONG",
            "the secret does not match this data directory",
        )
        .next_action("use `foundry login`, which reads the secret from the data directory"))
    }

    fn note_failure(&self, now: Timestamp) -> Result<()> {
        let mut failures = foundry_core::lock(&self.failures);
        while failures.front().is_some_and(|t| now.since(*t) >= WINDOW) {
            failures.pop_front();
        }
        if let (true, Some(oldest)) = (failures.len() >= MAX_FAILURES, failures.front()) {
            let wait = oldest.plus(WINDOW).since(now);
            let (current, maximum) = (failures.len() as u64, MAX_FAILURES as u64);
            return Err(Error::quota("failed_sign_ins_per_minute", "this machine", current, maximum)
                .retry_after(wait));
        }
        failures.push_back(now);
        tracing::warn!("a development sign-in with a wrong secret was refused");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (DevelopmentSignIn, String, foundry_testkit::TestEnv) {
        let dir = tempfile::tempdir().unwrap();
        let test = foundry_testkit::test_env();
        let it = DevelopmentSignIn::load_or_create(dir.path(), &test.env).unwrap();
        let secret = std::fs::read_to_string(dir.path().join(FILE)).unwrap().trim().to_owned();
        (it, secret, test)
    }

    fn examine(it: &DevelopmentSignIn, secret: &str, peer: ClientPeer, now: Timestamp) -> &'static str {
        it.examine(secret, peer, now).map_or_else(|e| e.reason(), |()| "OK")
    }

    #[test]
    fn takes_the_files_secret_from_this_machine_only() {
        let (it, secret, test) = made();
        let now = test.env.clock.now();
        assert_eq!(examine(&it, &secret, ClientPeer::Loopback, now), "OK");
        assert_eq!(examine(&it, &secret, ClientPeer::Remote, now), "SIGN_IN_NOT_LOCAL");
        for wrong in ["", "x", &secret[1..], &format!("{secret}x")] {
            assert_eq!(examine(&it, wrong, ClientPeer::Loopback, now), "SIGN_IN_SECRET_WRONG");
        }
    }

    #[test]
    fn stops_examining_wrong_secrets_without_locking_the_owner_out() {
        let (it, secret, test) = made();
        let now = test.env.clock.now();
        for _ in 0..MAX_FAILURES {
            assert_eq!(examine(&it, "wrong", ClientPeer::Loopback, now), "SIGN_IN_SECRET_WRONG");
        }
        assert_eq!(examine(&it, "wrong", ClientPeer::Loopback, now), "LIMIT_REACHED");
        assert_eq!(examine(&it, &secret, ClientPeer::Loopback, now), "OK");
        test.clock.advance(WINDOW);
        assert_eq!(examine(&it, "wrong", ClientPeer::Loopback, test.env.clock.now()), "SIGN_IN_SECRET_WRONG");
    }
}
