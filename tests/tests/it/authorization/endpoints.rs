//! Every endpoint of plain HTTP against every caller that must not get through. They are in no descriptor: the routes of
//! the gateway are those of `services/gateway/src/{git,webhooks,sign_in,web}`, and agents reach the gateway to models by a
//! socket. Files go through rpcs only.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_tests::{Mesh, Shape};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::calls::replace;
use super::credentials::{Mint, bad, revoked};
use super::ids::{Kind, absent};
use super::rpcs::UNLIMITED;
use super::world::World;

/// An answer as it came, without the time and the id of the request.
#[derive(Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    rest: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.rest))
    }
}

/// A request, still without a credential.
#[derive(Clone)]
struct Asked {
    method: &'static str,
    path: String,
    headers: String,
    body: Vec<u8>,
}

impl Asked {
    fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), headers: String::new(), body: Vec::new() }
    }

    fn post(path: impl Into<String>, content_type: &str, body: &[u8]) -> Self {
        let headers = format!("content-type: {content_type}\r\n");
        Self { method: "POST", path: path.into(), headers, body: body.to_vec() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    fn bytes(&self, host: &str) -> Vec<u8> {
        let Self { method, path, headers, body } = self;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-request-id: matrix\r\n{headers}\
             content-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    // A server that has refused already may close before it has read everything.
    let _ = stream.write_all(request);
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let kept: Vec<_> =
        head.lines().skip(1).filter(|line| !line.to_lowercase().starts_with("date:")).collect();
    Answer { status, rest: [kept.join("\n").as_bytes(), b"\n\n", &all[end + 4..]].concat() }
}

struct Doors {
    gateway: String,
    models: PathBuf,
}

impl Doors {
    fn of(mesh: &Mesh) -> Self {
        let gateway = mesh.url("gateway").replace("http://", "");
        Self { gateway, models: mesh.data().join("provisioner/mesh/model.sock") }
    }

    fn ask(&self, asked: &Asked) -> Answer {
        exchange(TcpStream::connect(&self.gateway).unwrap(), &asked.bytes(&self.gateway))
    }

    fn ask_models(&self, asked: &Asked) -> Answer {
        exchange(UnixStream::connect(&self.models).unwrap(), &asked.bytes("models"))
    }
}

/// The requests of git for a repository.
fn git_requests(organization: &str, repository: &str) -> Vec<Asked> {
    let at = format!("/git/{organization}/{repository}");
    let kind = "application/x-git-upload-pack-request";
    vec![
        Asked::get(format!("{at}/info/refs?service=git-upload-pack")),
        Asked::get(format!("{at}/info/refs?service=git-upload-pack")).with("git-protocol", "version=2"),
        Asked::post(format!("{at}/git-upload-pack"), kind, b"0000"),
        Asked::post(format!("{at}/git-receive-pack"), "application/x-git-receive-pack-request", b"0000"),
    ]
}

fn as_git(asked: Asked, token: &str) -> Asked {
    asked.with("authorization", &format!("Basic {}", STANDARD.encode(format!("x:{token}"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_lets_in_who_is_not_there_or_elsewhere() {
    let mesh = Mesh::start(Shape::Embedded, &UNLIMITED);
    let (ada, eve) = tokio::join!(Box::pin(World::of(&mesh, "ada")), Box::pin(World::of(&mesh, "eve")));
    let (revoked_id, revoked_secret) = revoked(&ada.caller).await;
    let doors = Doors::of(&mesh);
    let mint = Mint::of(&mesh);
    let mut credentials: Vec<_> =
        bad(&mint, &ada, &revoked_id).into_iter().map(|it| (it.what, it.token)).collect();
    credentials.push(("a revoked personal access token", Some(revoked_secret)));
    let mut wrong = Vec::new();
    fetches(&doors, (&ada, &eve), &credentials, &mut wrong);
    deliveries(&doors, (&ada, &eve), &mut wrong);
    models(&doors, &eve, &credentials, &mut wrong);
    open_pages(&doors, &credentials, &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Git: a stranger's repository is answered like one that does not exist.
fn fetches(
    doors: &Doors,
    (ada, eve): (&World, &World),
    credentials: &[(&str, Option<String>)],
    wrong: &mut Vec<String>,
) {
    let (organization, repository) = (ada.id(Kind::Organization), ada.id(Kind::Repository));
    let first = || git_requests(&organization, &repository).remove(0);
    let good = doors.ask(&as_git(first(), &ada.caller.token));
    assert_eq!(good.status, 200, "{good:?}");
    for asked in git_requests(&organization, &repository) {
        for (what, token) in credentials {
            let sent = match token {
                Some(token) => as_git(asked.clone(), token),
                None => asked.clone(),
            };
            let got = doors.ask(&sent);
            // A push is refused to everybody.
            if got.status != 401 && !(asked.path.ends_with("git-receive-pack") && got.status == 403) {
                wrong.push(format!("{} {} with {what}: {got:?}", asked.method, asked.path));
            }
        }
    }
    let own = eve.id(Kind::Organization);
    let pairs = [
        // Another organization, with its repository; one that does not exist.
        ((organization.clone(), repository.clone()), (absent(&organization), absent(&repository))),
        // Another organization's repository below the own organization.
        ((own.clone(), repository.clone()), (own, absent(&repository))),
    ];
    for ((organization, repository), (no_organization, no_repository)) in pairs {
        let theirs = git_requests(&organization, &repository);
        for (theirs, nobodys) in theirs.into_iter().zip(git_requests(&no_organization, &no_repository)) {
            let foreign = doors.ask(&as_git(theirs.clone(), &eve.caller.token));
            let none = doors.ask(&as_git(nobodys, &eve.caller.token));
            let renamed = replace(&foreign.rest, organization.as_bytes(), no_organization.as_bytes());
            let renamed = replace(&renamed, repository.as_bytes(), no_repository.as_bytes());
            if foreign.status < 400 || (foreign.status, &renamed) != (none.status, &none.rest) {
                wrong.push(format!("{}: {foreign:?}, and {none:?}", theirs.path));
            }
        }
    }
}

/// Webhooks: only the webhook's own secret counts, and no token at all. An absent one is answered alike but for the status,
/// which hosts show to the owner (ADR 0025).
fn deliveries(doors: &Doors, (ada, eve): (&World, &World), wrong: &mut Vec<String>) {
    let deliver = |id: &str, secret: Option<&str>, token: Option<&str>| {
        let body = b"{\"zen\": \"Design for failure.\"}";
        let mut asked = Asked::post(format!("/webhooks/github/{id}"), "application/json", body)
            .with("x-github-event", "ping")
            .with("x-github-delivery", "matrix");
        if let Some(secret) = secret {
            let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
            let value = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
            asked = asked.with("x-hub-signature-256", &value);
        }
        if let Some(token) = token {
            asked = asked.with("authorization", &format!("Bearer {token}"));
        }
        doors.ask(&asked)
    };
    let id = ada.id(Kind::Webhook);
    let (own, other) = (ada.webhook_secret.as_str(), eve.webhook_secret.as_str());
    let refused = deliver(&id, None, None);
    for (what, secret, token) in [
        ("no signature", None, None),
        ("garbage", Some("garbage"), None),
        ("another organization's secret", Some(other), None),
        ("the owner's token", None, Some(ada.caller.token.as_str())),
    ] {
        let got = deliver(&id, secret, token);
        if got.status != 401 || got != refused {
            wrong.push(format!("a delivery with {what}: {got:?}"));
        }
        let none = deliver(&absent(&id), secret, token);
        if (none.status, &none.rest) != (404, &got.rest) {
            wrong.push(format!("a delivery with {what} to no webhook: {none:?}, not {got:?}"));
        }
    }
    let good = deliver(&id, Some(own), None);
    if good.status != 200 {
        wrong.push(format!("a good delivery: {good:?}"));
    }
}

/// The gateway to models: only the token of a running agent session counts, no user's.
fn models(doors: &Doors, eve: &World, credentials: &[(&str, Option<String>)], wrong: &mut Vec<String>) {
    let user = ("a user's token", Some(eve.caller.token.clone()));
    for (what, token) in credentials.iter().chain([&user]) {
        for path in ["/v1/messages", "/v1/chat/completions", "/v1/responses"] {
            let mut asked = Asked::post(path, "application/json", b"{\"model\": \"x\", \"messages\": []}");
            if let Some(token) = token {
                asked = asked.with("authorization", &format!("Bearer {token}")).with("x-api-key", token);
            }
            let got = doors.ask_models(&asked);
            let says_so = String::from_utf8_lossy(&got.rest).contains("MODEL_TOKEN_REFUSED");
            if got.status != 401 || !says_so {
                wrong.push(format!("the gateway to models at {path} with {what}: {got:?}"));
            }
        }
    }
}

/// What is open is open to all alike, and a sign-in begins for the page at a configured address only.
fn open_pages(doors: &Doors, credentials: &[(&str, Option<String>)], wrong: &mut Vec<String>) {
    let endpoints = [
        (Asked::get("/"), 200),
        (Asked::get("/healthz"), 200),
        (Asked::get("/auth/ways"), 200),
        (Asked::post("/auth/begin/github", "application/json", b"{}"), 409),
        (Asked::get("/auth/callback/github?code=x&state=y"), 303),
        (Asked::get("/nothing/here"), 404),
    ];
    for (asked, status) in endpoints {
        let anonymous = doors.ask(&asked);
        if anonymous.status != status {
            wrong.push(format!("{}: {anonymous:?}", asked.path));
        }
        for (what, token) in credentials {
            let Some(token) = token else { continue };
            let got = doors.ask(&asked.clone().with("authorization", &format!("Bearer {token}")));
            if got != anonymous {
                wrong.push(format!("{} with {what}: {got:?}, not {anonymous:?}", asked.path));
            }
        }
    }
}
