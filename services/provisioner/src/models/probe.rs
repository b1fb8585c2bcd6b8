//! The test call of `TestModelProvider`.

use async_trait::async_trait;
use foundry_core::{Env, Error};
use foundry_model_gateway::{Access, Credential, Owner, ProbeStep, Secret, probe};
use http::HeaderName;

use super::ledger::gateway_kind;
use crate::profiles::{ModelAccess, ModelCredential, ModelFinding, ModelProbe, Probed};

/// Calls model providers as the model gateway does.
pub struct GatewayProbe {
    client: reqwest::Client,
    env: Env,
}

impl GatewayProbe {
    /// Calls with this client.
    pub fn new(client: reqwest::Client, env: Env) -> Self {
        Self { client, env }
    }
}

#[async_trait]
impl ModelProbe for GatewayProbe {
    async fn probe(&self, access: &ModelAccess, model: Option<&str>) -> Result<Probed, Error> {
        let Some(model) = model.or_else(|| default_model(access)) else {
            let detail = "choose a model: this kind of provider has no default".to_owned();
            return Ok(Probed { finding: ModelFinding::Model, model: String::new(), detail });
        };
        let text = |secret: &foundry_secrets::Secret| Secret::new(secret.expose_str().unwrap_or_default());
        let headers = access.headers.iter().map(|(name, value)| {
            Ok((HeaderName::try_from(name.as_str()).map_err(Error::internal)?, text(value)))
        });
        let call = Access {
            kind: gateway_kind(access.kind),
            base_url: access.base_url.parse().map_err(Error::internal)?,
            headers: headers.collect::<Result<_, Error>>()?,
            credential: match &access.credential {
                None => Credential::None,
                Some(ModelCredential::Key(key)) => Credential::Key(text(key)),
                Some(ModelCredential::Bearer(key)) => Credential::Bearer(text(key)),
            },
            models: Vec::new(),
            owner: Owner::default(),
            held_until: None,
            limits: Vec::new(),
            prices: Vec::new(),
        };
        Ok(match probe(&self.client, &self.env, &call, model).await {
            Ok(answered) => {
                Probed { finding: ModelFinding::Answered, model: answered.model, detail: String::new() }
            }
            Err(failure) => {
                let finding = match failure.what {
                    ProbeStep::Name => ModelFinding::Name,
                    ProbeStep::Host => ModelFinding::Host,
                    ProbeStep::Tls => ModelFinding::Tls,
                    ProbeStep::Key => ModelFinding::Key,
                    ProbeStep::Model => ModelFinding::Model,
                    ProbeStep::Quota => ModelFinding::Quota,
                    ProbeStep::Answer => ModelFinding::Api,
                    ProbeStep::Failing => ModelFinding::Failing,
                };
                Probed { finding, model: model.to_owned(), detail: failure.words }
            }
        })
    }
}

/// A small model that a provider of this kind is likely to offer, used when none is named.
fn default_model(access: &ModelAccess) -> Option<&'static str> {
    use foundry_proto::provisioner::v1::ModelProviderKind as Kind;
    match access.kind {
        Kind::Anthropic => Some("claude-haiku-4-5"),
        Kind::Openai => Some("gpt-5-mini"),
        Kind::Gemini => Some("gemini-2.5-flash"),
        _ => None,
    }
}
