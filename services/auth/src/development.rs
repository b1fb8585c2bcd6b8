//! The development sign-in: a secret in a 0600 file of the data directory, which no sandbox mounts.
//! An agent on the host's loopback, without the file, cannot sign in.

use std::path::Path;

use foundry_authn::ClientPeer;
use foundry_core::{Code, Env, Error, Result, Timestamp};

use crate::secret_file::SecretFile;

/// Name of the file in the data directory.
pub(crate) const FILE: &str = "dev-sign-in.secret";

/// Checks the proofs of the development sign-in.
pub(crate) struct DevelopmentSignIn(SecretFile);

impl DevelopmentSignIn {
    /// Reads the secret file, or creates it. Blocks; call it only at startup.
    pub(crate) fn load_or_create(data_dir: &Path, env: &Env) -> Result<Self> {
        SecretFile::load_or_create(&data_dir.join(FILE), env).map(Self)
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
            .next_action("run `foundry login --device`, and type its code in a browser on that machine"));
        }
        if self.0.matches(presented, now)? {
            return Ok(());
        }
        tracing::warn!("a development sign-in with a wrong secret was refused");
        Err(Error::new(
            Code::Unauthenticated,
            "SIGN_IN_SECRET_WRONG",
            "the secret does not match this data directory",
        )
        .next_action("use `foundry login`, which reads the secret from the data directory"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret_file::{MAX_FAILURES, WINDOW};

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
