//! What verifying a call costs: the layer of every service around a handler that does nothing, next to the handler alone.
//! In this process and on one thread, since a call through a socket costs many times as much.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foundry_authn::{
    AUTH_ISSUER, Authenticator, AuthnLayer, Claims, KeyRing, Revocations, Signer, StaticKeys, TokenKind,
    USER_AUDIENCE,
};
use foundry_core::{Env, OrganizationId, UserId};
use foundry_proto::auth::v1::SigningKey;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::Plan;
use crate::figures::count;
use crate::report::Report;
use crate::result::Role;

const FIGURE: &str = "authorization";
/// A method that members may call.
const METHOD: &str = "/foundry.task.v1.TaskService/ListTasks";
/// Tokens of callers who call again and again; the verifier remembers all of them.
const CALLERS: usize = 64;
/// Calls between two looks at the clock.
const BATCH: usize = 256;
/// Tokens that are verified for the first time in one slice: more than the verifier remembers.
const FRESH: usize = 4_096;

/// A service of the mesh without its handlers, and who calls it.
struct Subject {
    signer: Signer,
    env: Env,
    layer: AuthnLayer,
}

impl Subject {
    fn new() -> Self {
        let env = Env::system();
        let signer = Signer::new(AUTH_ISSUER, &Signer::generate_key(&env)).expect("a signer");
        let key = SigningKey {
            key_id: signer.key_id().to_owned(),
            issuer: AUTH_ISSUER.to_owned(),
            public_key: signer.public_key().to_vec().into(),
            create_time: None,
        };
        let keys = KeyRing::new(Arc::new(StaticKeys(vec![key])), env.clock.clone());
        let authenticator = Authenticator::new("task", keys, Revocations::none(), &env).expect("policies");
        Self { signer, env, layer: AuthnLayer::new(Arc::new(authenticator)) }
    }

    /// The `authorization` of a member who has just signed in.
    fn authorization(&self) -> String {
        let now = self.env.clock.now().as_micros() / 1_000_000;
        let claims = Claims {
            iss: AUTH_ISSUER.to_owned(),
            sub: UserId::generate(&self.env).to_string(),
            aud: USER_AUDIENCE.to_owned(),
            iat: now,
            exp: now + 300,
            jti: UserId::generate(&self.env).to_string(),
            sid: UserId::generate(&self.env).to_string(),
            rev: 1,
            orgs: [(OrganizationId::generate(&self.env).to_string(), "member".to_owned())].into(),
        };
        format!("Bearer {}", self.signer.mint(TokenKind::User, &claims).expect("a token"))
    }

    fn authorizations(&self, number: usize) -> Vec<String> {
        (0..number).map(|_| self.authorization()).collect()
    }
}

/// What the handlers behind the layer are here.
#[allow(clippy::unused_async)] // what `service_fn` takes
async fn nothing(_: Request<()>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::empty()))
}

/// Calls with these credentials in turn until the time is over, or each has been used once. Returns the calls and how long
/// they took, without the making of the requests.
async fn calls<S>(service: &S, authorizations: &[String], slice: Option<Duration>) -> (usize, Duration)
where
    S: Service<Request<()>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let (mut made, mut took, mut next) = (0, Duration::ZERO, authorizations.iter().cycle());
    while slice.map_or(made < authorizations.len(), |slice| took < slice) {
        let requests: Vec<_> = next
            .by_ref()
            .take(BATCH)
            .map(|value| Request::builder().uri(METHOD).header("authorization", value).body(()))
            .collect::<Result<_, _>>()
            .expect("a request");
        made += requests.len();
        let begun = Instant::now();
        for request in requests {
            let answered = service.clone().oneshot(request).await;
            assert!(answered.is_ok_and(|a| !a.headers().contains_key("grpc-status")), "a call is refused");
        }
        took += begun.elapsed();
    }
    (made, took)
}

/// One line: calls and how long they took.
#[derive(Default)]
struct Line {
    made: usize,
    took: Duration,
}

impl Line {
    fn add(&mut self, (made, took): (usize, Duration)) {
        self.made += made;
        self.took += took;
    }

    fn micros(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / count(self.made)
    }

    fn report(&self, report: &mut Report, role: Role, name: &str, floor: &Self) {
        let (per_second, micros) = (count(self.made) / self.took.as_secs_f64(), self.micros());
        let layer = if role == Role::Floor { f64::NAN } else { micros - floor.micros() };
        let added = if layer.is_finite() { format!("{layer:>8.2} µs for the layer") } else { String::new() };
        println!("  {name:<36} {per_second:>11.0}/s {micros:>8.2} µs {added}");
        let values = [
            ("operations", count(self.made)),
            ("burst_per_s", per_second),
            ("cpu_us", micros),
            ("layer_us", layer),
        ];
        report.result.add(FIGURE, role, "1 caller", name, &values);
    }
}

/// Measures calls with the layer and without it, in turns.
pub async fn authorization(plan: &Plan, report: &mut Report) {
    report.section("Verified calls: the layer of authorization around a handler that does nothing");
    let subject = Subject::new();
    let bare = tower::service_fn(nothing);
    let verified = subject.layer.layer(bare);
    let known = subject.authorizations(CALLERS);
    let [mut without, mut with, mut first] = [Line::default(), Line::default(), Line::default()];
    for _ in 0..plan.pairs {
        without.add(calls(&bare, &known, Some(plan.slice)).await);
        with.add(calls(&verified, &known, Some(plan.slice)).await);
        let fresh = subject.authorizations(FRESH);
        first.add(calls(&verified, &fresh, None).await);
    }
    without.report(report, Role::Floor, "without the layer", &without);
    with.report(report, Role::Mesh, "with the layer", &without);
    first.report(report, Role::Mesh, "first call with a token", &without);
}
