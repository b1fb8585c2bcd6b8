//! Identity providers for tests: GitHub's sign-in, and a small OpenID Connect provider. They enforce what real ones do:
//! client, secret, exact redirect, PKCE with S256, codes that count once, and scopes.

#![allow(clippy::expect_used)] // a failure here is a failed test

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::GitHttp;
use crate::git_http::{Answer, Request};

/// An identity provider on a port of the loopback address. Cloning shares it.
#[derive(Clone)]
pub struct IdentityHost {
    http: GitHttp,
    shared: Arc<Shared>,
}

struct Shared {
    origin: String,
    state: Mutex<State>,
}

/// Makes an ID token of these claims in its own way.
type Forge = Arc<dyn Fn(Value) -> String + Send + Sync>;

struct State {
    redirect_uri: String,
    /// Who is signed in at the provider in the browser of the test.
    person: Person,
    /// What codes stand for.
    codes: HashMap<String, Grant>,
    /// Scopes and person of access tokens.
    tokens: HashMap<String, (String, Person)>,
    key: [u8; 32],
    key_id: String,
    forge: Option<Forge>,
    now: i64,
    count: usize,
    calls: Vec<String>,
    refuses: bool,
    takes_codes_again: bool,
    has_thin_tokens: bool,
    names_itself: bool,
}

#[derive(Clone)]
struct Grant {
    challenge: String,
    redirect_uri: String,
    nonce: String,
    scope: String,
    person: Person,
}

/// Somebody with an account at the provider.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// The immutable id: a number for GitHub.
    pub id: u64,
    /// The login, which people can change and others take over.
    pub login: String,
    /// The name for display.
    pub name: String,
    /// The main e-mail address.
    pub email: String,
    /// Whether the address is verified.
    pub is_verified: bool,
    /// Organizations, and teams as `organization/team`.
    pub groups: Vec<String>,
}

impl IdentityHost {
    /// The id of the registered application.
    pub const CLIENT_ID: &'static str = "foundry-client";
    /// The client secret of the application, searched for as a canary.
    pub const CLIENT_SECRET: &'static str = "canary-client-secret";

    /// Starts it with one application, which is registered with this redirect URI. `now` is the time of its tokens, in
    /// seconds since the epoch.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(redirect_uri: &str, now: i64) -> Self {
        let http = GitHttp::start(PathBuf::from("/nowhere"));
        let state = State {
            redirect_uri: redirect_uri.to_owned(),
            person: Person::default(),
            codes: HashMap::new(),
            tokens: HashMap::new(),
            key: [7; 32],
            key_id: "key-1".to_owned(),
            forge: None,
            now,
            count: 0,
            calls: Vec::new(),
            refuses: false,
            takes_codes_again: false,
            has_thin_tokens: false,
            names_itself: false,
        };
        let shared = Arc::new(Shared { origin: http.origin(), state: Mutex::new(state) });
        let serving = Arc::clone(&shared);
        http.serve_api("/", Arc::new(move |request| Some(serving.answer(request))));
        Self { http, shared }
    }

    /// Scheme, host and port: also its issuer.
    pub fn origin(&self) -> String {
        self.http.origin()
    }

    /// From now on, this person is signed in there.
    pub fn sign_in(&self, person: Person) {
        self.shared.state(|state| state.person = person);
    }

    /// Sets the time of its tokens, in seconds since the epoch.
    pub fn at(&self, now: i64) {
        self.shared.state(|state| state.now = now);
    }

    /// From now on, it signs with another key.
    pub fn rotate_key(&self, id: &str) {
        self.shared.state(|state| {
            state.key = [id.len().try_into().unwrap_or(9); 32];
            id.clone_into(&mut state.key_id);
        });
    }

    /// From now on, ID tokens are what this makes of their claims.
    pub fn forge_tokens(&self, forge: impl Fn(Value) -> String + Send + Sync + 'static) {
        self.shared.state(|state| state.forge = Some(Arc::new(forge)));
    }

    /// From now on, it answers every call with an error of its own.
    pub fn refuse(&self, refuses: bool) {
        self.shared.state(|state| state.refuses = refuses);
    }

    /// From now on, codes count more than once, as no real provider does: for proofs that repeat stages.
    pub fn take_codes_again(&self) {
        self.shared.state(|state| state.takes_codes_again = true);
    }

    /// From now on, ID tokens have the subject only, and name and address are in the user info.
    pub fn thin_tokens(&self) {
        self.shared.state(|state| state.has_thin_tokens = true);
    }

    /// Promises to name itself in each return, and does (RFC 9207). To be called before its documents are fetched.
    pub fn name_itself(&self) {
        self.shared.state(|state| state.names_itself = true);
    }

    /// The paths that were called so far.
    pub fn calls(&self) -> Vec<String> {
        self.shared.state(|state| state.calls.clone())
    }

    /// A token signed with its key, whatever it says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.shared.state(|state| sign(&state.key, header, claims))
    }

    /// What the browser does: goes to the address, where the person consents; returns where it is sent back to.
    ///
    /// # Errors
    /// What the provider does not accept.
    pub fn consent(&self, url: &str) -> Result<Url, String> {
        let url = Url::parse(url).map_err(|e| e.to_string())?;
        let sent: HashMap<String, String> = url.query_pairs().into_owned().collect();
        self.shared.authorize(url.path(), &sent)
    }
}

impl Shared {
    fn state<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn authorize(&self, path: &str, sent: &HashMap<String, String>) -> Result<Url, String> {
        let get = |name: &str| sent.get(name).cloned().unwrap_or_default();
        if path != "/login/oauth/authorize" {
            return Err(format!("no such page: {path}"));
        }
        let expected = [
            ("client_id", IdentityHost::CLIENT_ID),
            ("response_type", "code"),
            ("code_challenge_method", "S256"),
        ];
        if let Some((name, _)) = expected.into_iter().find(|(name, value)| get(name) != *value) {
            return Err(format!("{name} is {}", get(name)));
        }
        if get("state").len() < 32 || get("code_challenge").len() != 43 {
            return Err("state or code_challenge is too short".to_owned());
        }
        self.state(|state| {
            if get("redirect_uri") != state.redirect_uri {
                return Err(format!("redirect_uri is {}", get("redirect_uri")));
            }
            state.count += 1;
            let code = format!("canary-code-{}", state.count);
            let grant = Grant {
                challenge: get("code_challenge"),
                redirect_uri: get("redirect_uri"),
                nonce: get("nonce"),
                scope: get("scope"),
                person: state.person.clone(),
            };
            state.codes.insert(code.clone(), grant);
            let mut to = Url::parse(&state.redirect_uri).map_err(|e| e.to_string())?;
            to.query_pairs_mut().append_pair("code", &code).append_pair("state", &get("state"));
            if state.names_itself {
                to.query_pairs_mut().append_pair("iss", &self.origin);
            }
            Ok(to)
        })
    }

    fn answer(&self, request: &Request) -> Answer {
        let refuses = self.state(|state| {
            state.calls.push(request.path.clone());
            state.refuses
        });
        if refuses {
            return answer(500, &json!({ "message": "out of order" }));
        }
        match request.path.as_str() {
            "/.well-known/openid-configuration" => answer(200, &self.discovery()),
            "/jwks" => answer(200, &self.keys()),
            "/me" => self.user_info(request),
            "/login/oauth/access_token" => self.exchange(request),
            "/login/oauth/authorize" => {
                let sent = url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
                match self.authorize(&request.path, &sent) {
                    Ok(to) => Answer { headers: vec![("Location", to.into())], ..answer(302, &Value::Null) },
                    Err(why) => answer(400, &json!({ "message": why })),
                }
            }
            path => match path.strip_prefix("/api/v3") {
                Some(path) => self.api(path, request),
                None => answer(404, &json!({ "message": "Not Found" })),
            },
        }
    }

    fn discovery(&self) -> Value {
        let origin = &self.origin;
        json!({
            "issuer": origin,
            "authorization_response_iss_parameter_supported": self.state(|state| state.names_itself),
            "authorization_endpoint": format!("{origin}/login/oauth/authorize"),
            "token_endpoint": format!("{origin}/login/oauth/access_token"),
            "jwks_uri": format!("{origin}/jwks"),
            "userinfo_endpoint": format!("{origin}/me"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            // It says that it has weak ones too.
            "id_token_signing_alg_values_supported": ["EdDSA", "RS256", "HS256", "none"],
        })
    }

    fn keys(&self) -> Value {
        self.state(|state| {
            let public = SigningKey::from_bytes(&state.key).verifying_key();
            let x = URL_SAFE_NO_PAD.encode(public.as_bytes());
            json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": state.key_id, "x": x }] })
        })
    }

    fn exchange(&self, request: &Request) -> Answer {
        let sent: HashMap<String, String> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let get = |name: &str| sent.get(name).cloned().unwrap_or_default();
        let basic = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        let pair = basic.and_then(|text| STANDARD.decode(text).ok()).and_then(|b| String::from_utf8(b).ok());
        let pair = pair.unwrap_or_else(|| format!("{}:{}", get("client_id"), get("client_secret")));
        if pair != format!("{}:{}", IdentityHost::CLIENT_ID, IdentityHost::CLIENT_SECRET) {
            return answer(401, &json!({ "error": "invalid_client" }));
        }
        self.state(|state| {
            // A code counts once, whatever comes of it.
            let grant = match state.takes_codes_again {
                true => state.codes.get(&get("code")).cloned(),
                false => state.codes.remove(&get("code")),
            };
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(get("code_verifier").as_bytes()));
            let good = grant.filter(|g| g.challenge == challenge && g.redirect_uri == get("redirect_uri"));
            let Some(grant) = good else { return answer(400, &json!({ "error": "invalid_grant" })) };
            state.count += 1;
            let token = format!("canary-access-token-{}", state.count);
            let mut body = json!({ "access_token": token, "token_type": "bearer", "scope": grant.scope });
            if grant.scope.split(' ').any(|scope| scope == "openid") {
                body["id_token"] = state.id_token(&self.origin, &grant).into();
            }
            state.tokens.insert(token, (grant.scope, grant.person));
            answer(200, &body)
        })
    }

    fn user_info(&self, request: &Request) -> Answer {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let known = self.state(|state| token.and_then(|token| state.tokens.get(token).cloned()));
        let Some((_, person)) = known else { return answer(401, &json!({ "error": "invalid_token" })) };
        let mut claims = about(&person);
        claims["sub"] = person.id.to_string().into();
        answer(200, &claims)
    }

    fn api(&self, path: &str, request: &Request) -> Answer {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let known = self.state(|state| token.and_then(|token| state.tokens.get(token).cloned()));
        let Some((scope, person)) = known else {
            return answer(401, &json!({ "message": "Bad credentials" }));
        };
        let may = |name: &str| scope.split(' ').any(|scope| scope == name);
        let hidden = || answer(404, &json!({ "message": "Not Found" }));
        let active = |group: &str| match may("read:org") && person.groups.iter().any(|g| g == group) {
            true => answer(200, &json!({ "state": "active" })),
            false => hidden(),
        };
        let team = |rest: &str| {
            let (organization, rest) = rest.split_once("/teams/")?;
            let (team, login) = rest.split_once("/memberships/")?;
            (login == person.login).then(|| format!("{organization}/{team}"))
        };
        match path {
            "/user" => answer(
                200,
                &json!({ "id": person.id, "login": person.login, "name": person.name, "avatar_url": "" }),
            ),
            "/user/emails" if may("user:email") => {
                let second =
                    json!({ "email": "second@elsewhere.example", "primary": false, "verified": true });
                let main = json!({ "email": person.email, "primary": true, "verified": person.is_verified });
                answer(200, &json!([second, main]))
            }
            _ => {
                let organization = path.strip_prefix("/user/memberships/orgs/").map(str::to_owned);
                let group = organization.or_else(|| path.strip_prefix("/orgs/").and_then(team));
                group.map_or_else(hidden, |group| active(&group))
            }
        }
    }
}

impl State {
    fn id_token(&self, origin: &str, grant: &Grant) -> String {
        let mut claims = if self.has_thin_tokens { json!({}) } else { about(&grant.person) };
        for (name, value) in [
            ("iss", json!(origin)),
            ("aud", json!(IdentityHost::CLIENT_ID)),
            ("sub", json!(grant.person.id.to_string())),
            ("nonce", json!(grant.nonce)),
            ("iat", json!(self.now)),
            ("exp", json!(self.now + 300)),
        ] {
            claims[name] = value;
        }
        match &self.forge {
            Some(forge) => forge(claims),
            None => sign(&self.key, &json!({ "alg": "EdDSA", "kid": self.key_id, "typ": "JWT" }), &claims),
        }
    }
}

/// The claims about a person.
fn about(Person { login, name, email, is_verified, .. }: &Person) -> Value {
    json!({ "preferred_username": login, "name": name, "email": email, "email_verified": is_verified })
}

fn sign(key: &[u8; 32], header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = SigningKey::from_bytes(key).sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer { status, headers: Vec::new(), body: body.to_string() }
}
