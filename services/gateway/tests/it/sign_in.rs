//! Sign-in at providers, as the gateway serves it to browsers.

use foundry_gateway::Config;
use foundry_proto::auth::v1::{BeginSignInRequest, GetSignInRequest, ReceiveSignInRequest};
use http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use http::{Request, StatusCode};
use prost::Message;

use crate::mesh::{Mesh, Reached};
use crate::plain::{Answer, send};

const PUBLIC: &str = "http://localhost:7100";

async fn mesh() -> Mesh {
    let config = Config { public_url: PUBLIC.to_owned(), ..Config::default() };
    Mesh::start_with(Reached::Remotely, config).await
}

fn last<M: Message + Default>(mesh: &Mesh) -> Option<M> {
    mesh.behind.bodies.lock().unwrap().pop().map(|bytes| M::decode(bytes).unwrap())
}

fn said(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn begin(origin: &str) -> http::request::Builder {
    Request::post("/auth/begin/github").header("origin", origin).header("content-type", "application/json")
}

async fn back(mesh: &Mesh, address: &str, cookie: &str) -> Answer {
    send(mesh, Request::get(address).header("cookie", cookie), "").await
}

#[tokio::test]
async fn the_page_begins_and_gets_the_claim_the_browser_the_binding() {
    let mesh = mesh().await;
    let body = r#"{"set_up_secret":"s","organization":"acme"}"#;
    let answer = send(&mesh, begin(PUBLIC).header("sec-fetch-site", "same-origin"), body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let expected =
        serde_json::json!({"sign_in_id": "sgn_1", "claim": "the-claim", "url": "https://provider.example/"});
    assert_eq!(said(&answer), expected);
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    assert_eq!(cookie, "foundry_sign_in_7100=the-binding; Path=/; Max-Age=600; HttpOnly; SameSite=Lax");
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
    let sent: BeginSignInRequest = last(&mesh).unwrap();
    assert_eq!(sent.redirect_uri, "http://localhost:7100/auth/callback/github");
    assert_eq!((sent.set_up_secret.as_str(), sent.organization_name.as_str()), ("s", "acme"));
}

#[tokio::test]
async fn nobody_but_the_page_at_the_public_address_begins() {
    let mesh = mesh().await;
    for (what, request) in [
        ("no origin", Request::post("/auth/begin/github").header("content-type", "application/json")),
        ("another port", begin("http://localhost:9999")),
        ("another name", begin("http://127.0.0.1:7100")),
        ("twice", begin(PUBLIC).header("origin", PUBLIC)),
        ("cross-site", begin(PUBLIC).header("sec-fetch-site", "cross-site")),
        ("same site", begin(PUBLIC).header("sec-fetch-site", "same-site")),
        (
            "a form",
            Request::post("/auth/begin/github").header("origin", PUBLIC).header("content-type", "text/plain"),
        ),
    ] {
        let answer = send(&mesh, request, "{}").await;
        assert!(answer.status.is_client_error(), "{what}: {}", answer.status);
        assert!(!answer.headers.contains_key(SET_COOKIE), "{what}");
    }
    assert_eq!(send(&mesh, begin(PUBLIC), "{\"x\":1}").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(mesh.behind.calls("BeginSignIn"), 0);
    let without = Mesh::start(Reached::Remotely).await;
    let answer = send(&without, begin(PUBLIC), "{}").await;
    assert_eq!(said(&answer)["reason"], "PUBLIC_URL_MISSING");
}

#[tokio::test]
async fn the_way_back_is_recorded_and_leads_to_the_page_only() {
    let mesh = mesh().await;
    let address = "/auth/callback/github?code=c%2B1&state=st&iss=https%3A%2F%2Fx&return_to=//evil.example";
    let answer = back(&mesh, address, "a=b; foundry_sign_in_7100=the-binding").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.headers[LOCATION], "/sign-in?sign_in=sgn_1#return=the-return");
    let cookies: Vec<_> = answer.headers.get_all(SET_COOKIE).iter().collect();
    assert_eq!(
        cookies,
        ["foundry_sign_in_7100=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"],
        "and no session"
    );
    let asked: GetSignInRequest = last(&mesh).unwrap();
    assert_eq!((asked.sign_in_id.as_str(), asked.return_secret.as_str()), ("sgn_1", "the-return"));
    let sent: ReceiveSignInRequest = last(&mesh).unwrap();
    let expected = ReceiveSignInRequest {
        provider: "github".into(),
        state: "st".into(),
        code: "c+1".into(),
        error: String::new(),
        issuer: "https://x".into(),
        browser_binding: "the-binding".into(),
    };
    assert_eq!(sent, expected);
    assert_eq!(mesh.behind.calls("GetSignIn"), 1);
}

#[tokio::test]
async fn a_refused_way_back_is_a_reason_in_the_pages_address() {
    let mesh = mesh().await;
    for (address, location) in [
        ("/auth/callback/github?code=used&state=st", "/sign-in?refused=SIGN_IN_USED"),
        ("/auth/callback/github?code=a&state=st&state=su", "/sign-in?refused=SIGN_IN_INTERRUPTED"),
    ] {
        let answer = back(&mesh, address, "").await;
        assert_eq!(
            (answer.status, &answer.headers[LOCATION]),
            (StatusCode::SEE_OTHER, &location.parse().unwrap())
        );
    }
    assert_eq!(mesh.behind.calls("GetSignIn"), 0);
}

#[tokio::test]
async fn the_ways_are_data() {
    let mesh = mesh().await;
    let answer = send(&mesh, Request::get("/auth/ways"), "").await;
    let expected = serde_json::json!({
        "ways": [{"name": "github", "title": "GitHub", "kind": "github"}],
        "development": false, "set_up_required": true, "public_url": PUBLIC,
    });
    assert_eq!(said(&answer), expected);
}
