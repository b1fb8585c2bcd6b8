//! One small call to a model provider, behind a trait.

use async_trait::async_trait;
use foundry_core::Error;
use foundry_proto::provisioner::v1::ModelTestResult;

use super::ModelAccess;

/// Makes one small call to a model provider.
#[async_trait]
pub trait ModelProbe: Send + Sync {
    /// Calls it with this model, or with one of its own choice. The caller sets the time limit and drops the call
    /// then.
    ///
    /// # Errors
    /// When the call cannot be made at all for a reason on our side; failures of the provider are a finding.
    async fn probe(&self, access: &ModelAccess, model: Option<&str>) -> Result<Probed, Error>;
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What is wrong, if anything.
    pub finding: ModelFinding,
    /// The model that was asked; empty when the call failed before that.
    pub model: String,
    /// The provider's message, for people; may be empty. The caller masks secrets in it.
    pub detail: String,
}

/// What is wrong with a model provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFinding {
    /// Nothing: the model answered.
    Answered,
    /// The host's name cannot be resolved.
    Name,
    /// The host cannot be reached, or does not answer in time.
    Host,
    /// The TLS handshake failed.
    Tls,
    /// The credential is missing or was refused.
    Key,
    /// There is no such model for this credential.
    Model,
    /// A rate limit or quota is used up.
    Quota,
    /// The server does not speak the API.
    Api,
    /// The provider answers with an error, or breaks off.
    Failing,
}

impl ModelFinding {
    /// As on the wire.
    pub const fn to_proto(self) -> ModelTestResult {
        match self {
            Self::Answered => ModelTestResult::Ok,
            Self::Name => ModelTestResult::Name,
            Self::Host => ModelTestResult::Host,
            Self::Tls => ModelTestResult::Tls,
            Self::Key => ModelTestResult::Key,
            Self::Model => ModelTestResult::Model,
            Self::Quota => ModelTestResult::Quota,
            Self::Api => ModelTestResult::Api,
            Self::Failing => ModelTestResult::Failing,
        }
    }

    /// The meaning for people, and the next action; the latter is empty when none is needed.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Answered => ("the model answered", ""),
            Self::Name => ("the host name cannot be resolved", "check the base URL and DNS"),
            Self::Host => (
                "the host does not respond",
                "check the base URL, firewall and proxy, and that the server is running",
            ),
            Self::Tls => (
                "a TLS connection to the host cannot be established",
                "check the base URL; for a private certificate authority, set provisioner.network.ca_file",
            ),
            Self::Key => {
                ("the credential is missing or was rejected", "set a valid key with `foundry model update`")
            }
            Self::Model => {
                ("the model does not exist or is not allowed", "choose another model, or correct its name")
            }
            Self::Quota => ("a rate limit or quota is exhausted", "wait, or raise the limit at the provider"),
            Self::Api => (
                "the server that responds does not provide this kind of API",
                "check the base URL's path and the provider kind",
            ),
            Self::Failing => {
                ("the provider failed", "try again later; if it persists, check the provider and the model")
            }
        }
    }
}
