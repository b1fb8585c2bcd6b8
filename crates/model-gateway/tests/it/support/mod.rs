//! A provider that answers as a test scripts it, a ledger that records, and a gateway between them.

pub mod ledger;
pub mod upstream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Env, SystemRandom, Tasks};
use foundry_http_client::{NetworkSettings, http_client};
use foundry_model_gateway::{Access, Body, Credential, Gateway, Kind, Owner, Secret, Settings};
use foundry_testkit::MockClock;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};

pub use ledger::TestLedger;
pub use upstream::{Reply, Upstream};

pub const TOKEN: &str = "fmt_sandbox_token_0123456789";
pub const KEY: &str = "sk-real-key-9876543210";
pub const SILENCE: Duration = Duration::from_secs(300);

pub struct Setup {
    pub gateway: Gateway,
    pub ledger: Arc<TestLedger>,
    pub upstream: Upstream,
    pub clock: Arc<MockClock>,
    pub tasks: Tasks,
}

pub fn access(kind: Kind, base: &str) -> Access {
    Access {
        kind,
        base_url: base.parse().unwrap(),
        headers: Vec::new(),
        credential: Credential::Key(Secret::new(KEY)),
        models: Vec::new(),
        owner: Owner { session: "session_1".to_owned(), task: "task_1".to_owned(), ..Owner::default() },
        held_until: None,
        limits: Vec::new(),
        prices: Vec::new(),
    }
}

impl Setup {
    pub async fn new(kind: Kind) -> Self {
        Self::with(kind, |_| {}).await
    }

    /// With an access changed by the test.
    pub async fn with(kind: Kind, change: impl FnOnce(&mut Access)) -> Self {
        let (tasks, _) = Tasks::new();
        let upstream = Upstream::start(&tasks).await;
        let mut access = access(kind, &upstream.base());
        change(&mut access);
        let ledger = Arc::new(TestLedger::new(access));
        let clock = Arc::new(MockClock::default());
        let env = Env { clock: clock.clone(), random: Arc::new(SystemRandom) };
        let settings = Settings { silence: SILENCE, drain: Duration::ZERO, ..Settings::default() };
        let client = http_client(&NetworkSettings::default()).unwrap();
        let gateway = Gateway::new(ledger.clone(), client, settings, env, tasks.clone());
        Self { gateway, ledger, upstream, clock, tasks }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        within(self.gateway.handle(request)).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Response<Body> {
        self.send(post(path, body)).await
    }
}

/// A call as an agent makes it.
pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let body = body.into();
    Request::post(path)
        .header("x-api-key", TOKEN)
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .body(Full::new(body))
        .unwrap()
}

pub async fn text(response: Response<Body>) -> String {
    String::from_utf8(body(response).await.to_vec()).unwrap()
}

pub async fn body(response: Response<Body>) -> Bytes {
    within(response.into_body().collect()).await.unwrap().to_bytes()
}

/// The next piece of an unfinished answer.
pub async fn piece(body: &mut Body) -> String {
    let frame = within(body.frame()).await.expect("the answer has ended").expect("the answer was cut");
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

/// No test waits for ever.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened for 20 s")
}

pub fn header<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}
