//! Model providers and agent profiles for tests.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foundry_authn::{Caller, UserCaller};
use foundry_core::{Env, Error, Timestamp, UserId};
use foundry_proto::common::v1::named_value::Content;
use foundry_proto::common::v1::{NamedValue, Role, SecretText};
use foundry_proto::provisioner::v1 as p;

use foundry_secrets::Keys;

use super::Fixture;
use crate::ops;
use crate::profiles::{EnvironmentKeys, ModelAccess, ModelFinding, ModelProbe, Probed, Profiles};

/// The model key in the fixture's environment.
pub const ENVIRONMENT_KEY: &str = "sk-ant-environment-canary-7777";

/// The fixture's profile parts, with a key in the environment, a probe that finds a refused key, and a key file in
/// `dir`.
pub async fn profiles(env: &Env, dir: &Path) -> Profiles {
    let variable = |name: &str| (name == "ANTHROPIC_API_KEY").then(|| ENVIRONMENT_KEY.to_owned());
    let keys = EnvironmentKeys::read(variable, env).unwrap();
    let own = Keys::load(&[], &dir.join("secrets.key"), env).await.unwrap();
    Profiles::new(own, keys, Arc::new(FakeProbe::default()))
}

/// Finds a refused key, and repeats it in its message as careless servers do; hangs for the model `hang`.
#[derive(Default)]
pub struct FakeProbe(Mutex<Vec<String>>);

#[async_trait]
impl ModelProbe for FakeProbe {
    async fn probe(&self, access: &ModelAccess, model: Option<&str>) -> Result<Probed, Error> {
        let model = model.unwrap_or("small").to_owned();
        self.0.lock().unwrap().push(model.clone());
        if model == "hang" {
            std::future::pending::<()>().await;
        }
        let key = access.credential.as_ref().and_then(|c| c.secret().expose_str()).unwrap_or_default();
        let headers: Vec<_> = access
            .headers
            .iter()
            .map(|(n, v)| format!("{n}={}", v.expose_str().unwrap_or_default()))
            .collect();
        let detail = format!("bad key {key} with {}", headers.join(" "));
        Ok(Probed { finding: ModelFinding::Key, model, detail })
    }
}

/// A user with a role in the fixture's organization.
pub fn user(f: &Fixture, role: Role) -> Caller {
    Caller::user(UserCaller {
        user_id: UserId::generate(&f.env.env),
        credential_id: "crd".to_owned(),
        organizations: [(f.organization.clone(), role)].into(),
        revocations_rev: 0,
        expires_at: Timestamp::from_micros(i64::MAX),
    })
}

/// A secret entry for a list of values.
pub fn secret(name: &str, value: &str) -> NamedValue {
    NamedValue { name: name.into(), content: Some(Content::Secret(SecretText { value: value.into() })) }
}

/// A model provider with a key and a secret header.
pub fn settings(name: &str, key: &str) -> p::ModelProviderSettings {
    p::ModelProviderSettings {
        name: name.to_owned(),
        kind: p::ModelProviderKind::OpenaiCompatible.into(),
        base_url: "https://gateway.example/v1".to_owned(),
        headers: vec![secret("x-tenant", "tenant-canary-4444")],
        credential: Some(p::Credential {
            secret: Some(p::credential::Secret::Key(SecretText { value: key.to_owned() })),
        }),
        ..p::ModelProviderSettings::default()
    }
}

/// A profile of the demo agent with secrets in all places.
pub fn profile_settings(name: &str, model_provider_id: &str) -> p::AgentProfileSettings {
    let stdio = p::McpStdio {
        command: "db-mcp".to_owned(),
        environment: vec![secret("DB_PASSWORD", "mcp-canary-6666")],
        ..p::McpStdio::default()
    };
    p::AgentProfileSettings {
        name: name.to_owned(),
        agent: "demo".to_owned(),
        model_provider_id: model_provider_id.to_owned(),
        environment: vec![secret("NPM_TOKEN", "environment-canary-5555")],
        mcp_servers: vec![p::McpServer {
            name: "db".to_owned(),
            transport: Some(p::mcp_server::Transport::Stdio(stdio)),
        }],
        ..p::AgentProfileSettings::default()
    }
}

impl Fixture {
    /// Adds a model provider.
    pub async fn model_provider(&self, name: &str, key: &str) -> p::ModelProvider {
        let request = p::CreateModelProviderRequest {
            organization_id: self.organization.to_string(),
            settings: Some(settings(name, key)),
            ..Default::default()
        };
        let admin = user(self, Role::Admin);
        let answer = ops::create_model_provider::create_model_provider(&self.shared, &admin, request).await;
        answer.unwrap().model_provider.unwrap()
    }

    /// Adds a profile.
    pub async fn profile(&self, settings: p::AgentProfileSettings) -> p::AgentProfile {
        let request = p::CreateAgentProfileRequest {
            organization_id: self.organization.to_string(),
            settings: Some(settings),
            ..Default::default()
        };
        let admin = user(self, Role::Admin);
        let answer = ops::create_agent_profile::create_agent_profile(&self.shared, &admin, request).await;
        answer.unwrap().profile.unwrap()
    }
}
