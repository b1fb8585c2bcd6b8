//! Keys and tokens of a mesh, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foundry_authn::{
    AUTH_ISSUER, Authenticator, Claims, KeyRing, KeySource, Revocations, ServiceIdentity, Signer, TokenKind,
    USER_AUDIENCE,
};
use foundry_core::{Error, OrganizationId, UserId};
use foundry_proto::auth::v1::SigningKey;
use foundry_testkit::{TestEnv, test_env};

/// Replaceable keys that count how often they are read.
#[derive(Default)]
pub struct CountedKeys {
    keys: std::sync::Mutex<Vec<SigningKey>>,
    pub reads: AtomicUsize,
}

impl CountedKeys {
    pub fn set(&self, keys: Vec<SigningKey>) {
        *self.keys.lock().unwrap() = keys;
    }
}

#[async_trait::async_trait]
impl KeySource for CountedKeys {
    async fn keys(&self) -> Result<Vec<SigningKey>, Error> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        Ok(self.keys.lock().unwrap().clone())
    }
}

pub struct Mesh {
    pub test: TestEnv,
    pub auth: Signer,
    pub task: ServiceIdentity,
    pub task_key: ed25519_dalek::SigningKey,
    pub source: Arc<CountedKeys>,
    pub revocations: Revocations,
    pub user: UserId,
    pub organization: OrganizationId,
}

impl Mesh {
    pub fn new() -> Self {
        let test = test_env();
        let task_key = Signer::generate_key(&test.env);
        let auth = Signer::new("auth", &Signer::generate_key(&test.env)).unwrap();
        let task = ServiceIdentity::new("task", &task_key, &test.env).unwrap();
        let source = Arc::new(CountedKeys::default());
        source.set(vec![published(&auth), task.published()]);
        let (user, organization) = (UserId::generate(&test.env), OrganizationId::generate(&test.env));
        let revocations = Revocations::none();
        Self { test, auth, task, task_key, source, revocations, user, organization }
    }

    pub fn authenticator(&self, service: &str) -> Arc<Authenticator> {
        let keys = KeyRing::new(self.source.clone(), self.test.env.clock.clone());
        Arc::new(Authenticator::new(service, keys, self.revocations.clone(), &self.test.env).unwrap())
    }

    pub fn now(&self) -> i64 {
        self.test.env.clock.now().as_micros() / 1_000_000
    }

    /// Claims of a good access token of a member.
    pub fn claims(&self) -> Claims {
        Claims {
            iss: AUTH_ISSUER.into(),
            sub: self.user.to_string(),
            aud: USER_AUDIENCE.into(),
            iat: self.now(),
            exp: self.now() + 300,
            jti: "t1".into(),
            sid: "crd_1".into(),
            rev: 5,
            orgs: [(self.organization.to_string(), "member".to_owned())].into(),
        }
    }

    pub fn token(&self) -> String {
        self.auth.mint(TokenKind::User, &self.claims()).unwrap()
    }
}

pub fn published(signer: &Signer) -> SigningKey {
    SigningKey {
        key_id: signer.key_id().into(),
        issuer: AUTH_ISSUER.into(),
        public_key: signer.public_key().to_vec().into(),
        create_time: None,
    }
}

/// The headers of a request with this token.
pub fn bearer(token: &str) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers
}
