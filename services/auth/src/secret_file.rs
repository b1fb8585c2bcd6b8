//! A secret in a 0600 file of the data directory, which no sandbox mounts, and the attempts to guess it.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_core::{Env, Error, Result, Timestamp};
use foundry_secrets::read_or_create_secret_file;
use subtle::ConstantTimeEq as _;

/// Failed attempts in [`WINDOW`] after which further wrong secrets get `LIMIT_REACHED`.
pub(crate) const MAX_FAILURES: usize = 10;
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The secret of a file.
pub(crate) struct SecretFile {
    secret: String,
    failures: Mutex<VecDeque<Timestamp>>,
}

impl SecretFile {
    /// Reads the file, or creates it with a random secret. Blocks: call it off the
    /// runtime's threads.
    pub(crate) fn load_or_create(path: &Path, env: &Env) -> Result<Self> {
        let mut bytes = [0u8; 32];
        env.random.fill(&mut bytes);
        let fresh = format!("{}\n", URL_SAFE_NO_PAD.encode(bytes));
        let secret = read_or_create_secret_file(path, &fresh)?.trim().to_owned();
        if secret.len() < 32 {
            let name = path.display().to_string();
            let text = format!("{name} cannot be used: its secret is shorter than 32 characters");
            return Err(Error::precondition("SECRET_FILE_UNUSABLE", &name, text));
        }
        Ok(Self { secret, failures: Mutex::default() })
    }

    /// Whether both hold the same secret.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.secret.as_bytes().ct_eq(other.secret.as_bytes()).into()
    }

    /// Whether this is the secret. The right one always passes, however many wrong ones came before.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` for a wrong secret after too many others.
    pub(crate) fn matches(&self, presented: &str, now: Timestamp) -> Result<bool> {
        if bool::from(presented.as_bytes().ct_eq(self.secret.as_bytes())) {
            return Ok(true);
        }
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
        Ok(false)
    }
}
