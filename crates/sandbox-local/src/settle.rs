//! The isolation of new sandboxes: determined at the start, or later where the host was too slow for that.

use foundry_sandbox::{Class, Isolation, ProviderError};

use crate::{IsolationMode, LocalProvider, Settled, bwrap, network};

impl LocalProvider {
    /// Determines how new sandboxes are isolated, unless that is known.
    ///
    /// # Errors
    /// `ISOLATION_UNDECIDED` when it cannot be determined now; `ISOLATION_UNAVAILABLE` when isolation is required and
    /// does not work.
    pub async fn settle(&self) -> Result<(), ProviderError> {
        if self.settled.get().is_some() {
            return Ok(());
        }
        let config = &self.config;
        let uid = rustix::process::geteuid().is_root().then_some(config.first_uid);
        let (isolation, own_network) = match config.isolation {
            IsolationMode::Off => {
                let reason = "switched off by configuration".to_owned();
                (Isolation::None { reason: reason.clone() }, Err(reason))
            }
            _ => bwrap::detect(&config.bwrap, uid, &self.env, config.trial_limit).await?,
        };
        match (&isolation, config.isolation) {
            (Isolation::None { reason }, IsolationMode::Require) => {
                let message = format!("isolation is required and {reason}");
                return Err(ProviderError::new(Class::Configuration, "ISOLATION_UNAVAILABLE", message));
            }
            (Isolation::None { reason }, _) => {
                tracing::warn!(%reason, "sandboxes run without isolation: agents can access whatever this user can");
            }
            (Isolation::Bubblewrap { version, .. }, _) => {
                tracing::info!(%version, "sandboxes are isolated by bubblewrap");
            }
        }
        let network = network::decide(config.network.as_ref(), config.isolation, &isolation, &own_network)?;
        match &network.note {
            Some(reason) => tracing::warn!(%reason, "sandboxes have the network of this host"),
            None => tracing::info!(network = %network.network, "the network policy of new sandboxes"),
        }
        // Two callers at once determine the same.
        let _ = self.settled.set(Settled { isolation, network });
        Ok(())
    }

    /// Succeeds once it is known how new sandboxes are isolated.
    ///
    /// # Errors
    /// `ISOLATION_UNDECIDED` while it is not.
    pub fn decided(&self) -> Result<(), ProviderError> {
        self.settled().map(drop)
    }

    pub(crate) fn settled(&self) -> Result<&Settled, ProviderError> {
        self.settled.get().ok_or_else(|| {
            let program = self.config.bwrap.display();
            undecided(format!(
                "a test of {program} did not finish, so it is unknown which isolation works on this host"
            ))
        })
    }
}

pub(crate) fn undecided(message: String) -> ProviderError {
    ProviderError::new(Class::Timeout, "ISOLATION_UNDECIDED", message).retryable()
}
