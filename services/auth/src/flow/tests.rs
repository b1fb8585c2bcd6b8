//! Sign-ins from their beginning to the session, at providers that enforce what real ones do.

mod existing;
mod returns;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundry_core::{Env, Error, FlowId, Result};
use foundry_flow::Binding;
use foundry_flow::proofs::{self, World};
use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{
    BeginSignInRequest, BeginSignInResponse, CompleteSignInRequest, CompleteSignInResponse, ProviderProof,
    ReceiveSignInRequest,
};
use foundry_proto::common::v1::Role;
use foundry_secrets::KeySource;
use foundry_store::Store;
use foundry_testkit::{IdentityHost, Person};
use serde_json::{Value, json};

use crate::testing::{Fixture, HERE};
use crate::{ProviderConfig, flow, jobs, ops};

const CALLBACK: &str = "http://127.0.0.1:7100/auth/callback/";
/// The time of the mock clock at its start, in seconds since the epoch.
const NOW: i64 = 1_767_225_600;

/// A provider and the service that is registered there.
struct Case {
    f: Fixture,
    host: IdentityHost,
    provider: &'static str,
    /// The secrets of returns, by sign-in: what the page has that the browser came back to.
    returned: Mutex<HashMap<String, String>>,
    _secret: tempfile::TempDir,
}

fn person(id: u64, login: &str) -> Person {
    Person {
        id,
        login: login.to_owned(),
        name: format!("{login} the Person"),
        email: format!("{login}@corp.example"),
        is_verified: true,
        groups: Vec::new(),
    }
}

impl Case {
    async fn with(provider: &'static str, change: impl FnOnce(&mut ProviderConfig)) -> Self {
        let host = IdentityHost::start(&format!("{CALLBACK}{provider}"), NOW);
        let secret = tempfile::tempdir().unwrap();
        let path = secret.path().join("client.secret");
        foundry_secrets::replace_secret_file(&path, IdentityHost::CLIENT_SECRET).unwrap();
        let mut config = ProviderConfig {
            client_id: IdentityHost::CLIENT_ID.to_owned(),
            client_secret: Some(KeySource::File(path)),
            ..ProviderConfig::default()
        };
        let address = if provider == "github" { &mut config.host } else { &mut config.issuer };
        *address = host.origin();
        change(&mut config);
        let f = Fixture::with_providers([(provider, config)]).await;
        Self { f, host, provider, returned: Mutex::default(), _secret: secret }
    }

    /// At GitHub, where members of `acme` and of the team `corp/eng` may come in.
    async fn github() -> Self {
        Self::with("github", |config| {
            config.allow_organizations = vec!["acme".to_owned()];
            config.allow_teams = vec!["corp/eng".to_owned()];
        })
        .await
    }

    /// At an OpenID Connect provider, where people of `corp.example` may come in.
    async fn openid() -> Self {
        Self::with("corp", |config| config.allow_email_domains = vec!["corp.example".to_owned()]).await
    }

    fn set_up_secret(&self) -> String {
        std::fs::read_to_string(self.f.dir.path().join(crate::SET_UP_SECRET_FILE)).unwrap()
    }

    fn ask(&self) -> BeginSignInRequest {
        BeginSignInRequest {
            provider: self.provider.to_owned(),
            redirect_uri: format!("{CALLBACK}{}", self.provider),
            ..BeginSignInRequest::default()
        }
    }

    fn as_first_owner(&self) -> BeginSignInRequest {
        BeginSignInRequest {
            set_up_secret: self.set_up_secret(),
            organization_name: "home".to_owned(),
            ..self.ask()
        }
    }

    async fn begin(&self, request: BeginSignInRequest) -> Result<BeginSignInResponse> {
        ops::begin_sign_in::begin_sign_in(&self.f.auth, request).await
    }

    /// The browser goes to the provider and is sent back.
    fn back(&self, begun: &BeginSignInResponse) -> ReceiveSignInRequest {
        let to = self.host.consent(&begun.authorization_url).unwrap();
        let get = |name: &str| to.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned());
        ReceiveSignInRequest {
            provider: self.provider.to_owned(),
            state: get("state").unwrap(),
            code: get("code").unwrap(),
            issuer: get("iss").unwrap_or_default(),
            browser_binding: begun.browser_binding.clone(),
            ..ReceiveSignInRequest::default()
        }
    }

    async fn receive(&self, request: ReceiveSignInRequest) -> Result<()> {
        let received = ops::receive_sign_in::receive_sign_in(&self.f.auth, request).await;
        self.f.engine.run_until_idle().await.unwrap();
        let received = received?;
        self.returned.lock().unwrap().insert(received.sign_in_id, received.return_secret);
        Ok(())
    }

    async fn claim(&self, sign_in_id: &str, claim: &str) -> Result<CompleteSignInResponse> {
        let returned = self.returned.lock().unwrap().get(sign_in_id).cloned().unwrap_or_default();
        self.claim_with(sign_in_id, claim, &returned).await
    }

    async fn claim_with(
        &self,
        sign_in_id: &str,
        claim: &str,
        return_secret: &str,
    ) -> Result<CompleteSignInResponse> {
        let (sign_in_id, claim) = (sign_in_id.to_owned(), claim.to_owned());
        let proof = ProviderProof { sign_in_id, claim, return_secret: return_secret.to_owned() };
        let request =
            CompleteSignInRequest { proof: Some(Proof::Provider(proof)), ..CompleteSignInRequest::default() };
        Ok(ops::complete_sign_in::complete_sign_in(&self.f.auth, HERE, request).await?.0)
    }

    /// The whole way of this person.
    async fn go(&self, who: Person, request: BeginSignInRequest) -> Result<CompleteSignInResponse> {
        self.host.sign_in(who);
        let begun = self.begin(request).await?;
        self.receive(self.back(&begun)).await?;
        self.claim(&begun.sign_in_id, &begun.claim).await
    }

    async fn set_up(&self) -> CompleteSignInResponse {
        self.go(person(1, "boss"), self.as_first_owner()).await.unwrap()
    }

    /// Ids of all rows that let somebody in.
    async fn let_in(&self) -> Vec<String> {
        let sql = "SELECT user_id AS id FROM users UNION ALL SELECT account_id FROM accounts \
                   UNION ALL SELECT credential_id FROM credentials UNION ALL SELECT user_id FROM memberships";
        let rows = self.f.auth.store.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.text("id").unwrap().to_owned()).collect()
    }
}

fn reason<T>(result: Result<T>) -> &'static str {
    result.map_or_else(|e| e.reason(), |_| "OK")
}

#[tokio::test]
async fn the_first_owner_needs_the_set_up_secret_and_the_next_ones_a_list() {
    for c in [Case::github().await, Case::openid().await] {
        let stranger = c.go(person(9, "mallory"), c.ask()).await;
        let expected = if c.provider == "github" { "NOT_ADMITTED" } else { "SET_UP_REQUIRED" };
        assert_eq!(reason(stranger), expected, "a stranger who is first gets nothing");
        let wrong = BeginSignInRequest { set_up_secret: "guess".into(), ..c.as_first_owner() };
        assert_eq!(reason(c.begin(wrong).await), "SET_UP_SECRET_WRONG");
        assert_eq!(c.let_in().await, [""; 0]);

        let owner = c.set_up().await;
        assert_eq!(owner.user.as_ref().unwrap().login, "boss");
        assert_eq!(owner.organization.as_ref().unwrap().name, "home");
        let caller = c.f.caller(&owner.session_token).await.unwrap();
        let home = owner.organization.unwrap().organization_id.parse().unwrap();
        assert_eq!(caller.role_in(&home), Some(Role::Owner));
        assert_eq!(reason(c.go(person(8, "eve"), c.as_first_owner()).await), "SET_UP_DONE");

        let mut member = person(2, "Ada-L");
        member.groups = vec!["corp/eng".to_owned()];
        let member = c.go(member, c.ask()).await.unwrap();
        let caller = c.f.caller(&member.session_token).await.unwrap();
        assert_eq!(
            (member.user.unwrap().login.as_str(), caller.role_in(&home)),
            ("ada-l", Some(Role::Member))
        );
        let actions: Vec<String> = c.f.audit(&home).await.into_iter().map(|r| r.action).collect();
        assert_eq!(actions.iter().filter(|a| *a == "sign_in.admit").count(), 2, "{actions:?}");
    }
}

#[tokio::test]
async fn a_list_counts_at_each_sign_in_and_refusals_are_audited() {
    let c = Case::github().await;
    let owner = c.set_up().await;
    let home = owner.organization.unwrap().organization_id.parse().unwrap();
    let mut ada = person(2, "ada");
    ada.groups = vec!["acme".to_owned()];
    c.go(ada.clone(), c.ask()).await.unwrap();
    ada.groups.clear();
    assert_eq!(reason(c.go(ada, c.ask()).await), "NOT_ADMITTED");
    let refused: Vec<_> =
        c.f.audit(&home).await.into_iter().filter(|r| r.action == "sign_in.refuse").collect();
    assert!(refused[0].detail_json.contains("NOT_ADMITTED") && refused[0].detail_json.contains("\"2\""));
    assert!(c.go(person(1, "boss"), c.ask()).await.is_ok(), "the owner needs no list");
}

#[tokio::test]
async fn a_setting_that_names_no_organization_is_named_itself() {
    let c = Case::with("corp", |config| {
        config.allow_email_domains = vec!["corp.example".to_owned()];
        config.organization = "hoem".to_owned();
    })
    .await;
    assert_eq!(reason(c.go(person(2, "ada"), c.ask()).await), "SET_UP_REQUIRED", "first things first");
    c.set_up().await;
    let refused = c.go(person(2, "ada"), c.ask()).await.unwrap_err();
    assert_eq!(refused.reason(), "SIGN_IN_ORGANIZATION_UNKNOWN");
    assert!(refused.message().contains("auth.sign_in.corp.organization"), "{}", refused.message());
}

#[tokio::test]
async fn an_unverified_address_of_an_allowed_domain_lets_nobody_in() {
    let c = Case::openid().await;
    c.set_up().await;
    let before = c.let_in().await;
    let unverified = Person { is_verified: false, ..person(2, "ada") };
    assert_eq!(reason(c.go(unverified, c.ask()).await), "NOT_ADMITTED");
    let elsewhere = Person { email: "ada@sub.corp.example".into(), ..person(2, "ada") };
    assert_eq!(reason(c.go(elsewhere, c.ask()).await), "NOT_ADMITTED");
    assert_eq!(c.let_in().await, before);
}

#[tokio::test]
async fn a_provider_that_keeps_addresses_out_of_tokens_is_asked_for_them() {
    let c = Case::openid().await;
    c.host.thin_tokens();
    c.set_up().await;
    assert_eq!(c.go(person(2, "ada"), c.ask()).await.unwrap().user.unwrap().login, "ada");
    let unverified = Person { is_verified: false, ..person(3, "eve") };
    assert_eq!(reason(c.go(unverified, c.ask()).await), "NOT_ADMITTED");
}

#[tokio::test]
async fn a_renamed_login_keeps_the_record_and_a_reused_one_gets_nothing_of_it() {
    for c in [Case::github().await, Case::openid().await] {
        c.set_up().await;
        let with = |id, login| Person { groups: vec!["acme".into()], ..person(id, login) };
        let first = c.go(with(2, "octocat"), c.ask()).await.unwrap().user.unwrap();
        let renamed = c.go(with(2, "hubot"), c.ask()).await.unwrap().user.unwrap();
        assert_eq!((&renamed.user_id, renamed.login.as_str()), (&first.user_id, "hubot"));
        let reuser = c.go(with(3, "octocat"), c.ask()).await.unwrap().user.unwrap();
        assert_ne!(reuser.user_id, first.user_id);
        // The same address at the provider links nothing either.
        let twin = Person { email: "hubot@corp.example".into(), ..with(4, "hubot") };
        let twin = c.go(twin, c.ask()).await.unwrap().user.unwrap();
        assert_ne!(twin.user_id, first.user_id);
        assert_eq!(twin.login, "hubot-2");
        // Two browsers of one user share one record.
        let again = c.go(with(2, "hubot"), c.ask()).await.unwrap().user.unwrap();
        assert_eq!(again.user_id, first.user_id);
    }
}

#[tokio::test]
async fn somebody_who_was_removed_does_not_come_back_by_a_list() {
    let c = Case::openid().await;
    let owner = c.set_up().await;
    let boss = c.f.caller(&owner.session_token).await.unwrap();
    let ada = c.go(person(2, "ada"), c.ask()).await.unwrap();
    let remove = foundry_proto::auth::v1::RemoveMemberRequest {
        request_id: String::new(),
        organization_id: owner.organization.unwrap().organization_id,
        user_id: ada.user.unwrap().user_id,
    };
    ops::remove_member::remove_member(&c.f.auth, &boss, remove).await.unwrap();
    assert_eq!(reason(c.go(person(2, "ada"), c.ask()).await), "NOT_ADMITTED");
}

#[tokio::test]
async fn what_takes_too_long_or_is_denied_ends_typed() {
    let c = Case::github().await;
    let late = c.begin(c.ask()).await.unwrap();
    let back = c.back(&late);
    c.f.clock.advance(Duration::from_secs(600));
    assert_eq!(reason(c.receive(back).await), "SIGN_IN_EXPIRED");
    let denied = c.begin(c.ask()).await.unwrap();
    let no = ReceiveSignInRequest { code: String::new(), error: "access_denied".into(), ..c.back(&denied) };
    c.receive(no).await.unwrap();
    assert_eq!(reason(c.claim(&denied.sign_in_id, &denied.claim).await), "SIGN_IN_DENIED");
    c.f.clock.advance(Duration::from_secs(7_200));
    jobs::retire::run(c.f.auth.clone()).await.unwrap();
    assert_eq!(
        reason(c.claim(&denied.sign_in_id, &denied.claim).await),
        "SIGN_IN_UNKNOWN",
        "it is forgotten"
    );
}

#[tokio::test]
async fn a_provider_that_does_not_answer_ends_the_sign_in_typed() {
    let c = Case::github().await;
    let begun = c.begin(c.as_first_owner()).await.unwrap();
    let back = c.back(&begun);
    c.host.refuse(true);
    c.receive(back).await.unwrap();
    for _ in 0..4 {
        c.f.clock.advance(Duration::from_secs(5));
        c.f.engine.run_until_idle().await.unwrap();
    }
    let refused = reason(c.claim(&begun.sign_in_id, &begun.claim).await);
    assert!(["SIGN_IN_CODE_REFUSED", "SIGN_IN_PROVIDER_UNREACHABLE"].contains(&refused), "{refused}");
}

#[tokio::test]
async fn secrets_are_stored_hashed_or_encrypted_only() {
    let c = Case::openid().await;
    let begun = c.begin(c.as_first_owner()).await.unwrap();
    let back = c.back(&begun);
    let (code, state) = (back.code.clone(), back.state.clone());
    c.receive(back).await.unwrap();
    c.claim(&begun.sign_in_id, &begun.claim).await.unwrap();
    c.f.auth.store.close().await;
    let returned = c.returned.lock().unwrap()[&begun.sign_in_id].clone();
    let canary = "canary-access-token".to_owned();
    let secrets = [code, state, begun.claim, begun.browser_binding, returned, canary];
    let set_up = c.set_up_secret();
    for entry in std::fs::read_dir(c.f.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() || path.extension().is_some_and(|e| e == "secret") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for secret in secrets.iter().map(String::as_str).chain([set_up.trim()]) {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "{} has {secret}", path.display());
        }
    }
}

/// A change of a token's header and claims.
type Change = fn(&mut Value, &mut Value);

#[tokio::test]
async fn a_token_that_proves_nothing_opens_no_session() {
    let changes: [(&str, Change); 20] = [
        ("other issuer", |_, claims| claims["iss"] = json!("https://evil.example")),
        ("other audience", |_, claims| claims["aud"] = json!("another-client")),
        ("also for others", |_, claims| claims["aud"] = json!([IdentityHost::CLIENT_ID, "another-client"])),
        ("other application", |_, claims| claims["azp"] = json!("another-client")),
        ("other nonce", |_, claims| claims["nonce"] = json!("x")),
        ("no nonce", |_, claims| drop(claims.as_object_mut().unwrap().remove("nonce"))),
        ("expired", |_, claims| claims["exp"] = json!(NOW - 3_600)),
        ("no end", |_, claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("absurd end", |_, claims| claims["exp"] = json!(i64::MAX)),
        ("far end", |_, claims| claims["exp"] = json!(NOW + 30 * 86_400)),
        ("end as text", |_, claims| claims["exp"] = json!("4102444800")),
        ("old", |_, claims| claims["iat"] = json!(NOW - 86_400)),
        ("from the future", |_, claims| claims["iat"] = json!(NOW + 3_600)),
        ("alg none", |header, _| header["alg"] = json!("none")),
        ("alg HS256", |header, _| header["alg"] = json!("HS256")),
        ("unknown kid", |header, _| header["kid"] = json!("key-2")),
        ("path as kid", |header, _| header["kid"] = json!("../../../dev/null")),
        ("jku", |header, _| header["jku"] = json!("https://evil.example/jwks")),
        ("embedded key", |header, _| header["jwk"] = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" })),
        ("crit", |header, _| header["crit"] = json!(["exp"])),
    ];
    let c = Case::openid().await;
    let refused = async |what: &str| {
        let outcome = c.go(person(1, "boss"), c.as_first_owner()).await;
        // What is too long is not read at all.
        let expected = if what == "5 MiB" { "SIGN_IN_CODE_REFUSED" } else { "ID_TOKEN_INVALID" };
        assert_eq!(reason(outcome), expected, "{what}");
        assert_eq!(c.let_in().await, [""; 0], "{what}");
    };
    let header = || json!({ "alg": "EdDSA", "kid": "key-1" });
    for (what, change) in changes {
        let signer = IdentityHost::start("http://unused", NOW);
        c.host.forge_tokens(move |mut claims| {
            let mut header = header();
            change(&mut header, &mut claims);
            // With the same key; the host itself is busy with this call.
            signer.sign(&header, &claims)
        });
        refused(what).await;
    }
    for (what, forge) in shapes() {
        c.host.forge_tokens(forge);
        refused(what).await;
    }
    let signer = IdentityHost::start("http://unused", NOW);
    c.host.forge_tokens(move |claims| signer.sign(&header(), &claims));
    assert!(
        c.go(person(1, "boss"), c.as_first_owner()).await.is_ok(),
        "the same without a change is accepted"
    );
}

/// A token made of the claims in its own way.
type Forge = fn(Value) -> String;

/// Tokens that are wrong as a whole.
fn shapes() -> Vec<(&'static str, Forge)> {
    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }
    vec![
        ("no token", |_| String::new()),
        ("no signature", |claims| {
            format!("{}.{}.", part(r#"{"alg":"EdDSA","kid":"key-1"}"#), part(&claims.to_string()))
        }),
        ("5 MiB", |claims| {
            let header = part(r#"{"alg":"EdDSA","kid":"key-1"}"#);
            format!("{header}.{}.{}", part(&claims.to_string()), "A".repeat(5 << 20))
        }),
        ("long", |claims| {
            let header = part(r#"{"alg":"EdDSA","kid":"key-1"}"#);
            format!("{header}.{}.{}", part(&claims.to_string()), "A".repeat(20 << 10))
        }),
        ("name twice", |claims| {
            let text = claims.to_string().replacen('{', r#"{"sub":"7","#, 1);
            let signed = format!("{}.{}", part(r#"{"alg":"EdDSA","kid":"key-1"}"#), part(&text));
            format!("{signed}.{}", part("not a signature"))
        }),
        ("signed by nobody", |claims| {
            let header = part(r#"{"alg":"EdDSA","kid":"key-1"}"#);
            format!("{header}.{}.{}", part(&claims.to_string()), URL_SAFE_NO_PAD.encode([1; 64]))
        }),
    ]
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_fetched_at_most_once_a_minute() {
    let c = Case::openid().await;
    c.set_up().await;
    let fetches = || c.host.calls().iter().filter(|path| *path == "/jwks").count();
    assert_eq!(fetches(), 1);
    c.host.rotate_key("key-22");
    assert_eq!(reason(c.go(person(1, "boss"), c.ask()).await), "ID_TOKEN_INVALID", "asked a moment ago");
    assert_eq!(fetches(), 1);
    c.f.clock.advance(Duration::from_secs(60));
    c.host.at(NOW + 60);
    assert_eq!(reason(c.go(person(1, "boss"), c.ask()).await), "OK");
    assert_eq!(fetches(), 2);
}

#[tokio::test]
async fn the_development_sign_in_is_off_beside_a_provider() {
    let c = Case::github().await;
    assert_eq!(reason(c.f.sign_in("alice", "").await), "SIGN_IN_DISABLED");
    let ways = ops::list_sign_in_ways::list_sign_in_ways(&c.f.auth).await.unwrap();
    assert_eq!((ways.ways.len(), ways.development, ways.set_up_required), (1, false, true));
    c.set_up().await;
    let ways = ops::list_sign_in_ways::list_sign_in_ways(&c.f.auth).await.unwrap();
    assert!(!ways.set_up_required);
}

/// A sign-in of the first owner whose code counts more than once: proofs repeat stages, and a real provider would
/// refuse the second exchange, which ends the sign-in typed.
struct Returning(Case);

#[tonic::async_trait]
impl World for Returning {
    fn store(&self) -> &Store {
        &self.0.f.auth.store
    }

    fn env(&self) -> &Env {
        &self.0.f.auth.env
    }

    fn advance(&self, d: Duration) {
        self.0.f.clock.advance(d);
    }

    fn flows(&self) -> Vec<Binding> {
        flow::bindings(&self.0.f.auth)
    }

    async fn start(&self) -> Result<FlowId, Error> {
        self.0.host.sign_in(person(1, "boss"));
        let begun = self.0.begin(self.0.as_first_owner()).await?;
        let back = self.0.back(&begun);
        ops::receive_sign_in::receive_sign_in(&self.0.f.auth, back).await?;
        let auth = &self.0.f.auth;
        let unfinished = foundry_flow::unfinished(&auth.store, &flow::sign_in::SIGN_IN, &begun.sign_in_id);
        Ok(unfinished.await?.remove(0))
    }

    async fn effects(&self) -> Vec<String> {
        let sql = "SELECT login FROM accounts ORDER BY login";
        let rows = self.0.f.auth.store.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.text("login").unwrap().to_owned()).collect()
    }

    async fn shown(&self) -> String {
        let sql = "SELECT state, reason FROM sign_ins ORDER BY sign_in_id";
        let rows = self.0.f.auth.store.query(sql, &[]).await.unwrap();
        let shown =
            rows.iter().map(|row| format!("{} {}", row.text("state").unwrap(), row.text("reason").unwrap()));
        shown.collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test]
async fn the_sign_in_passes_the_proofs_of_flows() {
    let fresh = async || {
        let case = Case::openid().await;
        case.host.take_codes_again();
        Returning(case)
    };
    let flow = &flow::sign_in::SIGN_IN;
    // All but the retry of a failed one: a refused sign-in stays refused, and the user begins another.
    let expected = &Box::pin(proofs::undisturbed(&fresh)).await;
    Box::pin(proofs::resumes_after_a_crash_at_every_point(flow, &fresh, expected)).await;
    Box::pin(proofs::survives_every_stage_run_twice(flow, &fresh, expected)).await;
    Box::pin(proofs::ends_after_a_cancel_at_every_point(flow, &fresh)).await;
    Box::pin(proofs::a_frozen_owner_writes_nothing(flow, &fresh, expected)).await;
    Box::pin(proofs::a_late_owner_does_not_disturb_the_next(flow, &fresh, expected)).await;
    Box::pin(proofs::finishes_when_all_wake_ups_are_lost(&fresh, expected)).await;
}

#[tokio::test]
async fn a_crash_between_exchange_and_record_asks_to_sign_in_again() {
    let c = Case::openid().await;
    let begun = c.begin(c.as_first_owner()).await.unwrap();
    let back = c.back(&begun);
    // As if a process had exchanged the code and died.
    let provider = c.f.auth.sign_in.provider(c.provider).unwrap();
    let _lost = provider.exchange(&back.code, "verifier that is wrong", &format!("{CALLBACK}corp")).await;
    c.receive(back).await.unwrap();
    assert_eq!(reason(c.claim(&begun.sign_in_id, &begun.claim).await), "SIGN_IN_CODE_REFUSED");
    assert!(c.set_up().await.user.is_some(), "the next one works");
}
