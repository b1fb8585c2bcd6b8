//! Page sessions: requests that the cookie permits, and those that it does not.

use bytes::Bytes;
use foundry_gateway::Config;
use foundry_proto::task::v1::GetTaskRequest;
use foundry_proto::task::v1::task_service_client::TaskServiceClient;
use http::{Method, Request};
use prost::Message as _;

use crate::mesh::{Mesh, Reached, bounded, framed, reason};
use crate::plain::{Answer, send_as_it_is};

const GET_TASK: &str = "/foundry.task.v1.TaskService/GetTask";
const SIGN_IN: &str = "/foundry.auth.v1.AuthService/CompleteSignIn";
const SIGN_OUT: &str = "/foundry.auth.v1.AuthService/SignOut";

/// The headers of a page's call, each of which can be changed or left out.
#[derive(Clone)]
struct Call(Vec<(&'static str, String)>);

impl Call {
    fn of_page(mesh: &Mesh) -> Self {
        let host = mesh.gateway.address.to_string();
        Self(vec![
            ("origin", format!("http://{host}")),
            ("host", host),
            ("content-type", "application/grpc-web+proto".to_owned()),
            ("sec-fetch-site", "same-origin".to_owned()),
        ])
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.retain(|(n, _)| *n != name);
        self.0.push((name, value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| *n != name);
        self
    }

    async fn send(&self, mesh: &Mesh, path: &str) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path);
        for (name, value) in &self.0 {
            request = request.header(*name, value);
        }
        send_as_it_is(mesh, request, task()).await
    }
}

fn task() -> Bytes {
    framed(&GetTaskRequest { task_id: "task_1".into() }.encode_to_vec())
}

/// A page that signed in: its calls carry cookie and key.
async fn signed_in(mesh: &Mesh) -> Call {
    let page = Call::of_page(mesh);
    let answer = page.send(mesh, SIGN_IN).await;
    let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(!cookie.is_empty(), "{:?}", answer.headers);
    page.with("cookie", cookie).with("x-foundry-session-key", answer.header("x-foundry-session-key"))
}

fn grpc_status(answer: &Answer) -> String {
    let trailers = String::from_utf8_lossy(&answer.body).into_owned();
    let header = answer.header("grpc-status").to_owned();
    if header.is_empty() && trailers.contains("grpc-status:0") { "0".to_owned() } else { header }
}

#[tokio::test]
async fn signing_in_sets_a_cookie_and_hands_the_page_its_key() {
    let mesh = Mesh::start(Reached::Remotely).await;
    let answer = Call::of_page(&mesh).send(&mesh, SIGN_IN).await;
    let port = mesh.gateway.address.port();
    assert_eq!(
        answer.header("set-cookie"),
        format!("foundry_session_{port}=fdc_page; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict")
    );
    assert_eq!(answer.header("x-foundry-session-key").len(), 43);
    assert!(answer.headers.keys().all(|n| !n.as_str().starts_with("foundry-")), "{:?}", answer.headers);
    assert!(!String::from_utf8_lossy(&answer.body).contains("foundry-"), "nor in its trailers");
}

#[tokio::test]
async fn the_cookie_with_its_key_is_a_bearer_token_and_goes_no_further() {
    for reached in [Reached::Locally, Reached::Remotely] {
        let mesh = Mesh::start(reached).await;
        let page = signed_in(&mesh).await;
        let answer = page.send(&mesh, GET_TASK).await;
        assert_eq!(grpc_status(&answer), "0", "{:?}", answer.headers);
        let seen = mesh.behind.last_headers("/GetTask");
        assert!(seen["authorization"].to_str().unwrap().starts_with("Bearer ey"));
        for name in ["cookie", "x-foundry-session-key", "origin", "sec-fetch-site"] {
            assert!(!seen.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn the_cookie_alone_is_worth_nothing() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await;
    let host = mesh.gateway.address.to_string();
    let agents = "http://127.0.0.1:9999";
    let (denied, unauthenticated) = ("7", "16");
    let cases = [
        ("without the key", page.clone().without("x-foundry-session-key"), unauthenticated),
        ("with another key", page.clone().with("x-foundry-session-key", "A".repeat(43)), unauthenticated),
        (
            "from another port",
            page.clone().with("origin", agents).with("sec-fetch-site", "same-site"),
            denied,
        ),
        ("from another port, unsaid", page.clone().with("origin", agents).without("sec-fetch-site"), denied),
        (
            "from another name",
            page.clone().with("origin", format!("http://localhost:{}", &host[10..])),
            denied,
        ),
        ("from a sandboxed frame", page.clone().with("origin", "null"), denied),
        ("from nowhere", page.clone().without("origin"), denied),
        ("from another site", page.clone().with("sec-fetch-site", "cross-site"), denied),
        ("from the address bar", page.clone().with("sec-fetch-site", "none"), denied),
        (
            "from a name that was made to point here",
            page.clone().with("host", "evil.example").with("origin", "http://evil.example"),
            denied,
        ),
        ("as text", page.clone().with("content-type", "application/grpc-web-text"), denied),
        ("with a parameter", page.clone().with("content-type", "application/grpc-web;a=b"), denied),
    ];
    for (how, call, status) in cases {
        let answer = call.send(&mesh, GET_TASK).await;
        assert_eq!(grpc_status(&answer), status, "{how}: {:?}", answer.headers);
        assert!(!answer.header("grpc-status-details-bin").is_empty(), "{how}");
    }
    assert_eq!(mesh.behind.calls("/GetTask"), 0);
    assert_eq!(mesh.behind.exchanges.load(std::sync::atomic::Ordering::SeqCst), 0, "auth was not even asked");
}

#[tokio::test]
async fn a_form_and_a_beacon_with_the_cookie_have_no_effect() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await.without("x-foundry-session-key");
    let types = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""];
    for content_type in types {
        for call in [page.clone(), page.clone().with("origin", "http://127.0.0.1:9999")] {
            let call = match content_type {
                "" => call.without("content-type"),
                it => call.with("content-type", it),
            };
            let answer = call.send(&mesh, GET_TASK).await;
            assert_eq!(answer.status, 415, "{content_type}");
        }
    }
    let upgrade = page.clone().with("connection", "Upgrade").with("upgrade", "websocket");
    let mut request = Request::builder().uri(GET_TASK);
    for (name, value) in &upgrade.without("content-type").0 {
        request = request.header(*name, value);
    }
    let answer = send_as_it_is(&mesh, request.header("sec-websocket-version", "13"), "").await;
    assert_eq!(answer.status, 415, "there are no WebSockets here");
    assert_eq!(mesh.behind.calls("/GetTask"), 0);
}

#[tokio::test]
async fn a_program_that_speaks_grpc_cannot_use_a_cookie() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await;
    let mut request = tonic::Request::new(GetTaskRequest { task_id: "task_1".into() });
    for (name, value) in page.0.iter().filter(|(n, _)| !["host", "content-type"].contains(n)) {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    let mut client = TaskServiceClient::new(mesh.gateway.remote().unwrap());
    let status = bounded(client.get_task(request)).await.unwrap_err();
    assert_eq!(reason(&status), "PAGE_REFUSED");
}

#[tokio::test]
async fn a_session_of_one_gateway_is_none_at_another_of_the_same_host() {
    let (one, other) = (Mesh::start(Reached::Locally).await, Mesh::start(Reached::Locally).await);
    let at_one = signed_in(&one).await;
    let host = other.gateway.address.to_string();
    // Cookies ignore ports, so the browser sends each gateway the cookies of both.
    let moved = at_one.with("host", host.clone()).with("origin", format!("http://{host}"));
    assert_eq!(grpc_status(&moved.send(&other, GET_TASK).await), "16");
    assert_eq!(other.behind.calls("/GetTask"), 0);
}

#[tokio::test]
async fn a_cookie_that_another_port_put_in_front_does_not_take_the_pages_place() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await;
    let own = page.0.iter().find(|(n, _)| *n == "cookie").unwrap().1.clone();
    let (name, _) = own.split_once('=').unwrap();
    let tossed = page.clone().with("cookie", format!("{name}=fdc_attacker; {own}"));
    assert_eq!(grpc_status(&tossed.send(&mesh, GET_TASK).await), "0");
    let only = page.with("cookie", format!("{name}=fdc_attacker"));
    assert_eq!(grpc_status(&only.send(&mesh, GET_TASK).await), "16");
}

#[tokio::test]
async fn a_bearer_token_wins_over_any_cookie() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await;
    let jwt = mesh.behind.jwt("crd_1");
    let program =
        page.clone().with("origin", "http://evil.example").with("authorization", format!("Bearer {jwt}"));
    assert_eq!(grpc_status(&program.send(&mesh, GET_TASK).await), "0");
    assert_eq!(mesh.behind.last_headers("/GetTask")["authorization"], format!("Bearer {jwt}"));
    let bad = page.with("authorization", "Bearer rubbish");
    assert_eq!(grpc_status(&bad.send(&mesh, GET_TASK).await), "16");
}

#[tokio::test]
async fn whoever_saw_the_cookie_cannot_use_its_secret_as_a_bearer_token() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await;
    for shape in ["Bearer fdc_page", "bearer fdc_page", "BEARER  fdc_page", "Bearer \tfdc_page", "fdc_page"] {
        for call in [page.clone(), Call::of_page(&mesh)] {
            let answer = call.with("authorization", shape).send(&mesh, GET_TASK).await;
            assert_eq!(grpc_status(&answer), "16", "{shape:?}");
        }
    }
    let mut request = tonic::Request::new(GetTaskRequest::default());
    request.metadata_mut().insert("authorization", "Bearer fdc_page".parse().unwrap());
    let mut client = TaskServiceClient::new(mesh.gateway.local.clone());
    assert_eq!(reason(&bounded(client.get_task(request)).await.unwrap_err()), "TOKEN_MALFORMED");
    let bearer_in_cookie = page.with("cookie", "foundry_session_1=fds_1; __Host-foundry_session=fds_1");
    assert_eq!(grpc_status(&bearer_in_cookie.send(&mesh, GET_TASK).await), "16", "nor the other way round");
    assert_eq!(mesh.behind.exchanges.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_bad_cookie_does_not_keep_anybody_from_signing_in() {
    let mesh = Mesh::start(Reached::Locally).await;
    let port = mesh.gateway.address.port();
    let stale = Call::of_page(&mesh).with("cookie", format!("foundry_session_{port}=fdc_stale"));
    let answer = stale.send(&mesh, SIGN_IN).await;
    assert!(answer.header("set-cookie").contains("fdc_page"));
}

#[tokio::test]
async fn only_the_gateways_own_page_is_said_to_be_one() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = Call::of_page(&mesh);
    for other in [
        page.clone().with("origin", "http://127.0.0.1:9999").with("foundry-client-page", "own"),
        page.clone().with("origin", "http://localhost:5173").with("sec-fetch-site", "same-site"),
        page.clone().with("content-type", "application/grpc-web-text"),
        page.clone().without("origin"),
    ] {
        let answer = other.send(&mesh, SIGN_IN).await;
        assert!(!answer.headers.contains_key("set-cookie"));
        assert!(!mesh.behind.last_headers("/CompleteSignIn").contains_key("foundry-client-page"));
    }
    page.send(&mesh, SIGN_IN).await;
    assert_eq!(mesh.behind.last_headers("/CompleteSignIn")["foundry-client-page"], "own");
}

#[tokio::test]
async fn a_listed_origin_counts_and_its_cookie_is_bound_to_its_host() {
    let listed = "https://foundry.example".to_owned();
    let config = Config { allowed_origins: vec![listed.clone()], ..Config::default() };
    let mesh = Mesh::start_with(Reached::Locally, config).await;
    let page = Call::of_page(&mesh).with("host", "foundry.example").with("origin", listed);
    let answer = page.send(&mesh, SIGN_IN).await;
    let cookie = "__Host-foundry_session=fdc_page; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict; Secure";
    assert_eq!(answer.header("set-cookie"), cookie);
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let page = page
        .with("cookie", "__Host-foundry_session=fdc_page")
        .with("x-foundry-session-key", answer.header("x-foundry-session-key"));
    assert_eq!(grpc_status(&page.send(&mesh, GET_TASK).await), "0");
}

#[tokio::test]
async fn signing_out_clears_the_cookie_of_the_session_that_ended() {
    let mesh = Mesh::start(Reached::Locally).await;
    let page = signed_in(&mesh).await;
    let answer = page.send(&mesh, SIGN_OUT).await;
    let port = mesh.gateway.address.port();
    let cleared = format!("foundry_session_{port}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");
    assert_eq!(answer.header("set-cookie"), cleared);
    // A program's session is a different one.
    let program = page.with("authorization", format!("Bearer {}", mesh.behind.jwt("crd_1")));
    assert_eq!(program.send(&mesh, SIGN_OUT).await.header("set-cookie"), "");
}

#[tokio::test]
async fn no_service_but_auth_sets_cookies() {
    let mesh = Mesh::start(Reached::Locally).await;
    let answer = signed_in(&mesh).await.send(&mesh, "/foundry.task.v1.TaskService/ListTasks").await;
    assert_eq!(grpc_status(&answer), "0");
    assert!(
        !answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("x-foundry-session-key")
    );
}
