//! Deliveries of webhooks as hosts send them, over HTTP: the payloads of GitHub, again and again, across a kill; and `curl`.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use foundry_proto::repo::v1::create_repository_webhook_request::Target;
use foundry_proto::repo::v1::{
    BranchSyncSource, CreateRepositoryWebhookRequest, ListRepositoryWebhooksRequest, Repository,
    RepositoryItem, RepositoryWebhookForge, WatchRepositoryRequest, repository_item,
};
use foundry_tests::origin::git;
use foundry_tests::seeded_rng::SeededRng;
use foundry_tests::story::{PATIENCE, await_item, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const DELIVERIES: usize = 1_000;
const SENDERS: usize = 8;

/// A delivery as it is sent.
#[derive(Clone)]
struct Sent {
    number: usize,
    event: String,
    body: String,
    signature: String,
}

fn signature(secret: &str, body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Events and payloads of GitHub, fetched by `make` with the other tools.
fn examples() -> Vec<(String, String)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tools/node_modules/@octokit/webhooks-examples/api.github.com/index.json"
    );
    let text = std::fs::read(path).expect("scripts/tools.sh checks installs the payloads of GitHub");
    let kinds: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let of_kind = |kind: &serde_json::Value| {
        let name = kind["name"].as_str().unwrap().to_owned();
        let examples = kind["examples"].as_array().unwrap().clone();
        examples.into_iter().map(move |example| (name.clone(), example.to_string())).collect::<Vec<_>>()
    };
    kinds.as_array().unwrap().iter().flat_map(of_kind).collect()
}

/// Sends a delivery; status and body of the answer, none if there was none.
fn post(host: &str, path: &str, sent: &Sent) -> Option<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(host).ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-github-event: {}\r\nx-github-delivery: delivery-{}\r\nx-hub-signature-256: {}\r\ncontent-length: {}\r\n\r\n",
        sent.event,
        sent.number,
        sent.signature,
        sent.body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(sent.body.as_bytes()).ok()?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).ok()?;
    let text = String::from_utf8(all).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

async fn webhook(caller: &Caller, repository: &Repository) -> (String, String) {
    let request = CreateRepositoryWebhookRequest {
        organization_id: caller.organization_id.clone(),
        target: Some(Target::RepositoryId(repository.repository_id.clone())),
        forge: RepositoryWebhookForge::Github.into(),
        ..Default::default()
    };
    let added = caller.repo().create_repository_webhook(request).await.unwrap().into_inner();
    (added.repository_webhook.unwrap().path, added.secret.unwrap().value)
}

/// Waits until the branches of a repository were read because of a webhook, and are so many.
async fn await_branches(caller: &Caller, id: &str, count: i32) {
    let (client, repository_id) = (caller.repo(), id.to_owned());
    let read = |r: &Repository| {
        let source = r.branch_sync.clone().unwrap_or_default().source();
        r.branch_count == count && source == BranchSyncSource::Webhook
    };
    await_item::<RepositoryItem>(
        "repository",
        move |options| {
            let (mut client, repository_id) = (client.clone(), repository_id.clone());
            Box::pin(async move {
                let request = WatchRepositoryRequest { options: Some(options), repository_id };
                Ok(client.watch_repository(request).await?.into_inner())
            })
        },
        &format!("repository/{id}"),
        |item| matches!(&item.item, Some(repository_item::Item::Repository(r)) if read(r)),
    )
    .await;
}

/// What the senders have seen.
#[derive(Default)]
struct Seen {
    next: AtomicUsize,
    refused: AtomicUsize,
    /// Attempts without an answer.
    cut: AtomicUsize,
    /// Attempts whose answer says that they were not stored in time.
    late: AtomicUsize,
    first: Mutex<Vec<usize>>,
    /// Whether the mesh has been killed and serves again.
    is_back: Mutex<bool>,
    changed: Condvar,
}

impl Seen {
    fn comes_back(&self) {
        *self.is_back.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits for the mesh after an attempt without an answer.
    fn await_the_mesh(&self) {
        self.cut.fetch_add(1, Ordering::SeqCst);
        let is_back = self.is_back.lock().unwrap();
        let waited = self.changed.wait_timeout_while(is_back, PATIENCE, |is_back| !*is_back).unwrap();
        assert!(!waited.1.timed_out(), "the mesh did not come back");
    }
}

/// Sends a delivery until it is stored, and returns the answer: an attempt without one, or with 503, is repeated, as
/// hosts let their users do.
fn store(host: &str, path: &str, sent: &Sent, seen: &Seen) -> (u16, serde_json::Value) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE * 2 {
        match post(host, path, sent) {
            // It was not stored in time, and perhaps a moment later.
            Some((503, _)) => {
                seen.late.fetch_add(1, Ordering::SeqCst);
            }
            Some(answer) => return answer,
            None => seen.await_the_mesh(),
        }
    }
    panic!("delivery {} was not stored", sent.number);
}

/// Sends what is left until nothing is, and says when half of it was sent.
fn send_all(host: &str, path: &str, all: &[Sent], seen: &Seen, half: &SyncSender<()>) {
    loop {
        let at = seen.next.fetch_add(1, Ordering::SeqCst);
        let Some(sent) = all.get(at) else { return };
        if at == all.len() / 2 {
            half.send(()).unwrap();
        }
        let (status, body) = store(host, path, sent, seen);
        match status {
            401 => {
                seen.refused.fetch_add(1, Ordering::SeqCst);
            }
            _ if body["duplicate"] == false => seen.first.lock().unwrap().push(sent.number),
            _ => assert_eq!((status, &body["duplicate"]), (200, &true.into()), "{body}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_deliveries_each_three_times_across_a_kill_are_stored_once_and_none_is_lost() {
    let settings = ["repo.poll_idle=1h", "repo.poll_active=1h"];
    let mut mesh = Mesh::start(Shape::Embedded, &settings);
    let caller = mesh.sign_in("ada").await;
    let origin = Origin::create(mesh.dir());
    let repository = register(&caller, &origin).await;
    let (path, secret) = webhook(&caller, &repository).await;
    let examples = examples();
    let once: Vec<Sent> = (0..DELIVERIES)
        .map(|number| {
            let (event, body) = examples[number % examples.len()].clone();
            let signature = signature(&secret, &body);
            Sent { number, event, body, signature }
        })
        .collect();
    let mut all: Vec<Sent> = once.iter().flat_map(|sent| (0..3).map(|_| sent.clone())).collect();
    // A tenth has the signature of another body; of each delivery at most one.
    all.iter_mut().filter(|sent| sent.number % 10 < 3).step_by(3).for_each(|sent| sent.body.push(' '));
    let mut random = SeededRng::new(11);
    for i in (1..all.len()).rev() {
        all.swap(i, usize::try_from(random.below(i as u64 + 1)).unwrap());
    }
    let (host, seen) = (mesh.url("gateway").replace("http://", ""), Seen::default());
    let (half, reached) = sync_channel(1);
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| send_all(&host, &path, &all, &seen, &half));
        }
        reached.recv().unwrap();
        mesh.crash_and_restart();
        seen.comes_back();
    });
    let first = std::mem::take(&mut *seen.first.lock().unwrap());
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), first.len(), "one delivery had its effects twice");
    let (cut, late) = (seen.cut.load(Ordering::SeqCst), seen.late.load(Ordering::SeqCst));
    assert!(cut > 0, "the kill has cut no attempt");
    assert!(first.len() + cut + late >= DELIVERIES, "{}, {cut} cut and {late} late", first.len());
    assert_eq!(seen.refused.load(Ordering::SeqCst), DELIVERIES * 3 / 10);
    for sent in &once {
        let (status, body) = store(&host, &path, sent, &seen);
        assert_eq!((status, &body["duplicate"]), (200, &true.into()), "{} was lost", sent.number);
    }
    assert_eq!(seen.cut.load(Ordering::SeqCst), cut, "no attempt is cut without a kill");
    git(origin.path(), &["branch", "pushed"]);
    let body = "{}".to_owned();
    let push =
        Sent { number: DELIVERIES, event: "push".to_owned(), signature: signature(&secret, &body), body };
    assert_eq!(store(&host, &path, &push, &seen).1["result"], "branches");
    await_branches(&caller, &repository.repository_id, 2).await;
}

/// What is answered to an accepted delivery.
fn answered(result: &str, duplicate: bool) -> (String, serde_json::Value) {
    ("200".to_owned(), serde_json::json!({ "result": result, "duplicate": duplicate }))
}

/// Runs `curl` with a signed body; the status and what was answered.
fn curl(
    mesh: &Mesh,
    url: &str,
    event: &str,
    id: &str,
    body: &str,
    secret: &str,
) -> (String, serde_json::Value) {
    let file = mesh.dir().join("body.json");
    std::fs::write(&file, body).unwrap();
    let headers = [
        "content-type: application/json".to_owned(),
        format!("x-github-event: {event}"),
        format!("x-github-delivery: {id}"),
        format!("x-hub-signature-256: {}", signature(secret, body)),
    ];
    let mut command = Command::new("curl");
    command.args(["-s", "-S", "-w", "\n%{http_code}", "--data-binary"]).arg(format!("@{}", file.display()));
    for header in &headers {
        command.args(["-H", header]);
    }
    let out = command.arg(url).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_adds_a_webhook_and_curl_delivers_to_the_printed_address() {
    let mesh = Mesh::start(Shape::Embedded, &["repo.poll_active=1h", "gateway.webhook_answer=10s"]);
    let caller = mesh.sign_in("ada").await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let origin = Origin::create(mesh.dir());
    let repository = register(&caller, &origin).await;
    let refused = mesh.cli(&["repo", "webhook", "add", "origin"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--forge github"), "{said}");
    let added = mesh.cli_ok(&["repo", "webhook", "add", "origin", "--forge", "github"]);
    let after = |label: &str| {
        let line = added.lines().find_map(|line| line.trim().strip_prefix(label)).unwrap();
        line.trim().to_owned()
    };
    let (url, secret) = (after("address"), after("secret"));
    assert!(url.starts_with(&format!("{}/webhooks/github/rwh_", mesh.url("gateway"))), "{url}");
    assert!(mesh.cli_ok(&["repo", "webhook", "list"]).contains("none yet"));

    let ping = curl(&mesh, &url, "ping", "d-0", "{\"zen\": \"Design for failure.\"}", &secret);
    assert_eq!(ping, answered("ping", false));
    git(origin.path(), &["branch", "pushed"]);
    // Over a megabyte, before which curl asks whether to go on.
    let body = format!("{{\"ref\": \"refs/heads/pushed\", \"commits\": [{}1]}}", "1, ".repeat(400_000));
    assert_eq!(curl(&mesh, &url, "push", "d-1", &body, &secret), answered("branches", false));
    await_branches(&caller, &repository.repository_id, 2).await;
    assert_eq!(curl(&mesh, &url, "push", "d-1", &body, &secret), answered("branches", true));

    let (status, wrong) = curl(&mesh, &url, "push", "d-2", "{}", "another secret");
    let (absent, unknown) = curl(&mesh, &format!("{url}x"), "push", "d-2", "{}", &secret);
    assert_eq!((status.as_str(), absent.as_str(), &wrong), ("401", "404", &unknown));
    assert_eq!(wrong["reason"], "WEBHOOK_REFUSED");
    let (status, _) = curl(&mesh, &url, "push", "d-3", &" ".repeat(4 << 20), &secret);
    assert_eq!(status, "413");

    let listed = mesh.cli_ok(&["repo", "webhook", "list"]);
    assert!(listed.contains("push") && listed.contains("branches") && !listed.contains(&secret), "{listed}");
    let request = ListRepositoryWebhooksRequest {
        organization_id: caller.organization_id.clone(),
        ..Default::default()
    };
    let listed = caller.repo().list_repository_webhooks(request).await.unwrap().into_inner();
    assert_eq!(listed.repository_webhooks.len(), 1);
    mesh.cli_ok(&["repo", "webhook", "remove", "origin"]);
    assert_eq!(curl(&mesh, &url, "push", "d-4", "{}", &secret).0, "404");
    assert!(!mesh.log().contains(&secret));
}
