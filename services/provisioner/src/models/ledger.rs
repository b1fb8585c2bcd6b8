//! The gateway's ledger: the session behind a token, and where usage and conditions are recorded.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use foundry_core::{Error, ModelProviderId, SessionId};
use foundry_model_gateway::{
    Access, ConditionKind, Credential, Kind, Ledger, McpAccess, McpRefused, ModelCondition, ModelPrice,
    OriginAccess, OriginRefused, Owner, Refused, SandboxProof, Usage,
};
use foundry_proto::provisioner::v1::{ModelProviderKind, ModelUsage};
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use foundry_sandbox::key::same;
use foundry_store::WriteSet;
use http::HeaderName;
use tokio::sync::Mutex;
use tonic::{Status, Streaming};

use super::mcp::McpClients;
use super::{condition, limits, origin};
use crate::domain::model_limit::month;
use crate::domain::{Sandbox, Session, SessionState};
use crate::profiles::{ModelAccess, ModelCredential, provider_of};
use crate::shared::Shared;
use crate::store::model_totals::Total;
use crate::store::{model_totals, model_usage, model_waits, sandboxes, sessions};

/// Most tokens, and most millionths of cost, that are counted for one call.
const MAX_OF_A_CALL: u64 = 1_000_000_000_000;

/// The gateway's ledger over the service's tables.
pub struct SessionLedger {
    shared: Weak<Shared>,
    servers: McpClients,
    /// All calls of an organization change the same sums: taking turns is faster than conflicts.
    counting: Mutex<()>,
}

impl SessionLedger {
    /// A ledger that does not keep the service alive.
    pub fn new(shared: &Arc<Shared>, servers: McpClients) -> Self {
        Self { shared: Arc::downgrade(shared), servers, counting: Mutex::new(()) }
    }

    fn shared(&self) -> Result<Arc<Shared>, Refused> {
        self.shared.upgrade().ok_or_else(|| Refused::Unavailable("the service is stopping".to_owned()))
    }
}

#[async_trait]
impl Ledger for SessionLedger {
    async fn access(&self, token: &str, proof: Option<&SandboxProof>) -> Result<Access, Refused> {
        let shared = self.shared()?;
        let unavailable = |e: Error| Refused::Unavailable(e.to_string());
        let (session, _) =
            session_of(&shared, token, proof).await.map_err(unavailable)?.ok_or(Refused::Token)?;
        let Ok(id) = session.model_provider_id.parse::<ModelProviderId>() else { return Err(Refused::Token) };
        let owner = owner(&session);
        let provider = provider_of(&shared, &session.organization_id, &id).await.map_err(unavailable)?;
        let Some(provider) = provider else { return Err(gone(&shared, &owner).await) };
        let model = ModelAccess::of(&shared, &provider).map_err(unavailable)?;
        let wait = model_waits::find(&shared.store, id.as_str()).await.map_err(unavailable)?;
        // The first turn after a wait is let through, to try the quota.
        let held_until = wait.filter(|w| w.first_turn.is_empty()).map(|w| w.until);
        let limits = limits::of_task(&shared, &session.organization_id, &session.task_id);
        let limits = limits.await.map_err(unavailable)?;
        Ok(Access { held_until, limits, ..access(owner, model).map_err(unavailable)? })
    }

    async fn mcp(
        &self,
        token: &str,
        proof: Option<&SandboxProof>,
        name: &str,
    ) -> Result<McpAccess, McpRefused> {
        let stops = |_| McpRefused::Unavailable("the service is stopping".to_owned());
        let shared = self.shared().map_err(stops)?;
        self.servers.access(&shared, token, proof, name).await
    }

    async fn mcp_client(&self, access: &McpAccess) -> Result<reqwest::Client, McpRefused> {
        let stops = |_| McpRefused::Unavailable("the service is stopping".to_owned());
        let shared = self.shared().map_err(stops)?;
        self.servers.client(&shared, access).await
    }

    async fn origin(&self, token: &str, proof: Option<&SandboxProof>) -> Result<OriginAccess, OriginRefused> {
        let stops = |_| OriginRefused::Unavailable("the service is stopping".to_owned());
        let shared = self.shared().map_err(stops)?;
        origin::access(&shared, token, proof).await
    }

    async fn fetch(&self, request: ServeFetchRequest) -> Result<Streaming<ServeFetchResponse>, Status> {
        let shared = self.shared().map_err(|_| stopping())?;
        origin::fetch(&shared, request).await
    }

    async fn used(&self, access: &Access, usage: Usage) {
        let Ok(shared) = self.shared() else { return };
        let _one = self.counting.lock().await;
        if let Err(e) = count(&shared, access, &usage).await {
            tracing::warn!(session = access.owner.session, error = %e, "a model call was not counted");
        }
    }

    async fn condition(&self, access: &Access, condition: ModelCondition) {
        let Ok(shared) = self.shared() else { return };
        if let Err(e) = condition::record(&shared, &access.owner, &condition).await {
            let reason = condition.reason();
            tracing::warn!(session = access.owner.session, reason, error = %e, "the refusal of a model call was not recorded");
        }
    }
}

fn stopping() -> Status {
    Error::unavailable("DRAINING", "the service is stopping", Duration::from_secs(1)).into_status()
}

/// The living session of a token, if the call came through the runtime of that session's own sandbox.
pub(super) async fn session_of(
    shared: &Shared,
    token: &str,
    proof: Option<&SandboxProof>,
) -> Result<Option<(Session, Sandbox)>, Error> {
    let (Some((id, _)), Some(proof)) = (token.split_once('.'), proof) else { return Ok(None) };
    let Ok(id) = id.parse::<SessionId>() else { return Ok(None) };
    let Some(session) = sessions::find(&shared.store, &id).await? else { return Ok(None) };
    let Some(sandbox) = sandboxes::find(&shared.store, &session.sandbox_id).await? else { return Ok(None) };
    let Some(facts) = sandbox.facts.as_ref().filter(|f| f.key.is_set() && !sandbox.state.is_ending()) else {
        return Ok(None);
    };
    let ours = proof.sandbox == sandbox.sandbox_id.as_str()
        && proof.instance == facts.runtime_instance
        && proof.verify(&facts.key);
    let living = !matches!(session.state, SessionState::Closed | SessionState::Error);
    let named = same(token, &facts.key.model_token(session.session_id.as_str()));
    Ok((ours && living && named).then_some((session, sandbox)))
}

/// The owner to whom the calls of a session are counted.
fn owner(session: &Session) -> Owner {
    Owner {
        organization: session.organization_id.to_string(),
        task: session.task_id.clone(),
        session: session.session_id.to_string(),
        profile: session.profile_id.clone(),
        provider: session.model_provider_id.clone(),
        turn: session.message_id.clone(),
    }
}

/// The model provider of a living session was deleted. Recorded in the session before the agent gets the refusal.
async fn gone(shared: &Shared, owner: &Owner) -> Refused {
    let words = format!("the model provider {} of this session was deleted", owner.provider);
    let kind = ConditionKind::ProviderGone;
    let seen = ModelCondition { kind, model: String::new(), words: words.clone() };
    if let Err(e) = condition::record(shared, owner, &seen).await {
        tracing::warn!(session = owner.session, error = %e, "the deletion of a model provider was not reported");
    }
    Refused::ProviderGone(words)
}

/// What the gateway needs for a call of a session.
fn access(owner: Owner, model: ModelAccess) -> Result<Access, Error> {
    let credential = match model.credential {
        None => Credential::None,
        Some(ModelCredential::Key(key)) => Credential::Key(key),
        Some(ModelCredential::Bearer(key)) => Credential::Bearer(key),
    };
    let headers = model
        .headers
        .into_iter()
        .map(|(name, value)| Ok((HeaderName::try_from(name.as_str()).map_err(Error::internal)?, value)));
    let price = |p: &foundry_proto::provisioner::v1::ModelPrice| {
        let micros = |n: i64| u64::try_from(n).unwrap_or(0);
        ModelPrice {
            model: p.model.clone(),
            input: micros(p.input_micros),
            output: micros(p.output_micros),
            cache_read: micros(p.cached_input_micros),
            cache_write: micros(p.input_micros),
        }
    };
    Ok(Access {
        kind: gateway_kind(model.kind),
        base_url: model.base_url.parse().map_err(Error::internal)?,
        headers: headers.collect::<Result<_, Error>>()?,
        credential,
        models: model.models.clone(),
        owner,
        held_until: None,
        limits: Vec::new(),
        prices: model.prices.iter().map(price).collect(),
    })
}

/// The gateway's kind of API for a provider's kind.
pub fn gateway_kind(kind: ModelProviderKind) -> Kind {
    match kind {
        ModelProviderKind::Anthropic => Kind::Anthropic,
        ModelProviderKind::Openai => Kind::OpenAi,
        ModelProviderKind::Gemini => Kind::Gemini,
        _ => Kind::OpenAiCompatible,
    }
}

/// Adds a call to the counts of its session, and to the sums of its task and organization, in one commit.
async fn count(shared: &Shared, access: &Access, usage: &Usage) -> Result<(), Error> {
    let id: SessionId = access.owner.session.parse()?;
    // No call uses more than this; a false figure must not spoil the sums.
    let number = |n: u64| i64::try_from(n.min(MAX_OF_A_CALL)).unwrap_or(0);
    let (model, _) = crate::domain::head(&usage.model, 200);
    let call = ModelUsage {
        profile_id: access.owner.profile.clone(),
        model_provider_id: access.owner.provider.clone(),
        model: model.to_owned(),
        calls: 1,
        estimated_calls: i64::from(usage.estimated),
        input_tokens: number(usage.input),
        output_tokens: number(usage.output),
        cache_read_tokens: number(usage.cache_read),
        cache_write_tokens: number(usage.cache_write),
        cost_micros: number(usage.cost_micros.unwrap_or(0)),
        ..ModelUsage::default()
    };
    let more = Total { tokens: number(usage.tokens()), cost_micros: call.cost_micros };
    let decide = || async {
        let mut ws = WriteSet::new();
        let Some(session) = sessions::find(&shared.store, &id).await? else { return Ok((ws, ())) };
        let month = month(shared.env.clock.now());
        for of in [(month.as_str(), ""), ("", session.task_id.as_str())] {
            let organization = &session.organization_id;
            let before = model_totals::find(&shared.store, organization, of.0, of.1).await?;
            model_totals::add(&mut ws, organization, of, before, more);
        }
        let before = model_usage::find(&shared.store, &id, &call.model_provider_id, &call.model).await?;
        model_usage::add(&mut ws, &session, before.as_ref(), &call);
        Ok((ws, ()))
    };
    shared.store.retry_on_conflict(decide).await?;
    Ok(())
}
