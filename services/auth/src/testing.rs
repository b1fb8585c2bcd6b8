//! The service on a real database, without a network and with a mock clock.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_authn::{Caller, Client, ClientPeer, KeyRing, Verifier};
use foundry_core::{OrganizationId, PageRequest, Result, Tasks};
use foundry_flow::Engine;
use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{
    CompleteSignInRequest, CompleteSignInResponse, CreateAccessTokenRequest, CreateAccessTokenResponse,
    DevelopmentProof, ExchangeTokenRequest, SessionDelivery, SetMemberRequest,
};
use foundry_proto::common::v1::Role;
use foundry_server::DataDirectory;
use foundry_store::{AuditRecord, Store, StoreOptions};
use foundry_testkit::{MockClock, TestEnv, test_env};

use crate::auth::Auth;
use crate::{Config, Dependencies, ProviderConfig, jobs, ops};

pub(crate) struct Fixture {
    pub(crate) auth: Arc<Auth>,
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<MockClock>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) secret: String,
    verifier: Verifier,
    sessions: Mutex<HashMap<String, String>>,
    _data: DataDirectory,
}

/// A client on this machine that is not the gateway's page.
pub(crate) const HERE: Client = Client {
    peer: ClientPeer::Loopback,
    is_own_page: false,
    address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    agent: String::new(),
};

/// The gateway's page in Firefox.
pub(crate) fn page() -> Client {
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned();
    Client { is_own_page: true, agent, ..HERE }
}

pub(crate) fn development(secret: &str, login: &str, organization: &str) -> CompleteSignInRequest {
    let proof = DevelopmentProof {
        secret: secret.into(),
        login: login.into(),
        organization_name: organization.into(),
    };
    CompleteSignInRequest { proof: Some(Proof::Development(proof)), ..Default::default() }
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Config { development_sign_in: true, ..Config::default() }).await
    }

    pub(crate) async fn without_development() -> Self {
        Self::with(Config::default()).await
    }

    /// With these identity providers, whose documents are fetched already.
    pub(crate) async fn with_providers(
        providers: impl IntoIterator<Item = (&'static str, ProviderConfig)>,
    ) -> Self {
        let sign_in = providers.into_iter().map(|(name, config)| (name.to_owned(), config)).collect();
        let fixture = Self::with(Config { development_sign_in: true, sign_in, ..Config::default() }).await;
        jobs::refresh_providers::run(fixture.auth.clone()).await.unwrap();
        fixture
    }

    async fn with(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let TestEnv { env, clock } = test_env();
        let (tasks, _) = Tasks::new();
        let data = DataDirectory::open(dir.path()).unwrap();
        let migrations = [&crate::store::MIGRATIONS, &foundry_flow::MIGRATIONS];
        let store_url = foundry_testkit::migrated_database_url(dir.path(), "auth", async |url| {
            Store::connect(&url, &migrations, &foundry_core::Env::system(), StoreOptions::default())
                .await
                .unwrap();
        })
        .await;
        let config = Config { store_url, ..config };
        let keys_dir = dir.path().join("keys");
        let deps = Dependencies {
            env: env.clone(),
            tasks,
            data: &data,
            keys_dir,
            public_url: String::new(),
            flow_hooks: Arc::new(foundry_flow::NoHooks),
            watch_observer: Arc::new(foundry_watch::NoObserver),
        };
        let options = StoreOptions { clock: Some(env.clock.clone()), ..StoreOptions::default() };
        let (auth, _) = crate::open(config, &deps, options).await.unwrap();
        let flows = crate::flow::bindings(&auth);
        let engine =
            Engine::new(auth.store.clone(), env.clone(), flows, foundry_flow::Options::default()).unwrap();
        let secret = std::fs::read_to_string(dir.path().join(crate::development::FILE)).unwrap_or_default();
        let keys = KeyRing::new(Arc::new(auth.published.clone()), env.clock.clone());
        let verifier = Verifier::new("auth", keys, env.clock.clone());
        let secret = secret.trim().to_owned();
        Self { auth, engine, clock, dir, secret, verifier, sessions: Mutex::default(), _data: data }
    }

    pub(crate) async fn sign_in(&self, login: &str, organization: &str) -> Result<CompleteSignInResponse> {
        let request = development(&self.secret, login, organization);
        let (response, _) = ops::complete_sign_in::complete_sign_in(&self.auth, HERE, request).await?;
        let user = response.user.clone().unwrap().user_id;
        self.sessions.lock().unwrap().insert(user, response.session_token.clone());
        Ok(response)
    }

    /// The caller of an opaque token, by exchange and verification.
    pub(crate) async fn caller(&self, token: &str) -> Result<Caller> {
        let request = ExchangeTokenRequest { token: token.to_owned() };
        let answer = ops::exchange_token::exchange_token(&self.auth, request).await?;
        Ok(self.verifier.verify(&answer.access_token).await?)
    }

    /// The user with a session of the page.
    pub(crate) async fn in_the_page(&self, login: &str, organization: &str) -> Caller {
        let request = CompleteSignInRequest {
            session_delivery: SessionDelivery::Cookie.into(),
            ..development(&self.secret, login, organization)
        };
        let (_, cookie) = ops::complete_sign_in::complete_sign_in(&self.auth, page(), request).await.unwrap();
        self.caller(&cookie.unwrap().token).await.unwrap()
    }

    /// The same user with a new access token from its latest session.
    pub(crate) async fn again(&self, caller: &Caller) -> Caller {
        let user = caller.as_user().unwrap().user_id.to_string();
        let session = self.sessions.lock().unwrap()[&user].clone();
        self.caller(&session).await.unwrap()
    }

    /// Signs in as owner of a new organization, or as member of an existing one; by default the user's own.
    pub(crate) async fn member(&self, login: &str, organization: &str) -> (Caller, OrganizationId) {
        let response = self.sign_in(login, organization).await.unwrap();
        let id = response.organization.unwrap().organization_id.parse().unwrap();
        (self.caller(&response.session_token).await.unwrap(), id)
    }

    /// Signs in another user and lets `by` add it to an organization.
    pub(crate) async fn add(&self, by: &Caller, to: &OrganizationId, login: &str, role: Role) -> Caller {
        let response = self.sign_in(login, "").await.unwrap();
        let request = SetMemberRequest {
            request_id: String::new(),
            organization_id: to.to_string(),
            login: login.into(),
            role: role.into(),
        };
        ops::set_member::set_member(&self.auth, by, request).await.unwrap();
        self.caller(&response.session_token).await.unwrap()
    }

    pub(crate) async fn access_token(
        &self,
        by: &Caller,
        organization: &OrganizationId,
        lifetime: Option<Duration>,
    ) -> CreateAccessTokenResponse {
        let request = CreateAccessTokenRequest {
            request_id: String::new(),
            organization_id: organization.to_string(),
            name: "ci".into(),
            lifetime: lifetime.map(|d| d.try_into().unwrap()),
        };
        ops::create_access_token::create_access_token(&self.auth, by, request).await.unwrap()
    }

    /// Loads the current revocations into the service's copy.
    pub(crate) async fn follow(&self) {
        jobs::follow_revocations::catch_up(&self.auth, None).await.unwrap();
    }

    pub(crate) async fn audit(&self, organization: &OrganizationId) -> Vec<AuditRecord> {
        let page = PageRequest::parse(500, "").unwrap();
        let (entries, _) = self.auth.store.list_audit(organization.as_str(), &page).await.unwrap();
        entries.into_iter().map(|e| e.record).collect()
    }
}
