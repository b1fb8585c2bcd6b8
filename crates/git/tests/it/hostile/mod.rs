//! Hostile remotes over HTTP, and hostile repositories: each gets a typed error within bounds of time, memory and disk,
//! runs nothing, leaves nothing behind, and takes nothing from the mirror that is there.

mod contents;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foundry_git::{GitError, GitErrorKind, Mirror, MirrorLimits, RemoteUrl, UrlPolicy};
use foundry_testkit::hostile_git::{self as server, Request, Server, pack};

use crate::lab::{Lab, branch};
use crate::mirrors::plant_dotdot;

const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A server as the remote of a mirror.
trait AsRemote {
    fn remote(&self) -> RemoteUrl;

    /// A mirror of it in the lab.
    async fn mirrored(&self, lab: &Lab) -> foundry_git::Result<Mirror>;
}

impl AsRemote for Server {
    fn remote(&self) -> RemoteUrl {
        let loopback = UrlPolicy { allow_http: true, allow_private_addresses: true, ..UrlPolicy::default() };
        RemoteUrl::parse(&format!("{}/r.git", self.origin()), &loopback).unwrap()
    }

    async fn mirrored(&self, lab: &Lab) -> foundry_git::Result<Mirror> {
        Mirror::create(&lab.git, lab.path("data/m"), &self.remote(), MirrorLimits::default()).await
    }
}

/// A process that hangs is ended long before.
const PROMPT: Duration = Duration::from_secs(120);

fn brief() -> MirrorLimits {
    let short = Duration::from_secs(2);
    MirrorLimits { list_wall: short, fetch_wall: short, ..MirrorLimits::default() }
}

/// Makes a mirror of a server and returns why that fails; nothing is left of it.
async fn refused(lab: &Lab, server: &Server, limits: MirrorLimits) -> GitError {
    let (begun, dir) = (Instant::now(), lab.path("data/hostile"));
    let made = Mirror::create(&lab.git, &dir, &server.remote(), limits).await;
    let error = made.expect_err("a hostile server was mirrored");
    assert!(begun.elapsed() < PROMPT, "it took {:?}", begun.elapsed());
    assert!(!dir.exists() && !lab.path("data/hostile.creating").exists(), "something is left");
    error
}

/// Everything that a mirror has on disk but its lock and the digest of the last listing.
fn contents(mirror: &Mirror) -> Vec<(PathBuf, Vec<u8>)> {
    fn visit(dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
        for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                visit(&entry, out);
            } else if !entry.ends_with("foundry-listed") {
                out.push((entry.clone(), std::fs::read(&entry).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    visit(mirror.dir(), &mut out);
    out.sort();
    out
}

/// The bare repository of the lab, for servers.
fn served(lab: &Lab) -> PathBuf {
    lab.sh(&lab.path(""), "mkdir -p hosted && git clone -q --mirror real hosted/r.git");
    lab.path("hosted")
}

#[tokio::test]
async fn a_server_of_mere_files_is_refused_for_what_it_sends_is_not_checked() {
    let lab = Lab::new().await;
    plant_dotdot(&lab, &lab.real(), "refs/heads/evil");
    let root = served(&lab);
    lab.sh(&root.join("r.git"), "git update-server-info");
    let server = Server::start(move |request, out| server::files(&root, request, out));
    let error = refused(&lab, &server, MirrorLimits::default()).await;
    assert_eq!((error.kind(), error.reason()), (GitErrorKind::Protocol, "GIT_DUMB_HTTP_REFUSED"));
    let error = Mirror::check_remote(&lab.git, &server.remote(), MirrorLimits::default()).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_DUMB_HTTP_REFUSED");
}

#[tokio::test]
async fn a_server_that_lists_by_the_protocol_and_then_sends_mere_files_leaves_the_mirror_as_it_was() {
    let lab = Lab::new().await;
    let root = served(&lab);
    let (asked, from) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let (count, turns, hosted) = (Arc::clone(&asked), Arc::clone(&from), root.clone());
    let server = Server::start(move |request, out| {
        match count.fetch_add(1, Ordering::SeqCst) >= turns.load(Ordering::SeqCst) {
            true => server::files(&hosted, request, out),
            false => server::honest(&hosted, request, out),
        }
    });
    let mirror = server.mirrored(&lab).await.unwrap();
    let before = contents(&mirror);
    let bare = root.join("r.git");
    lab.sh(&bare, "git branch mine main");
    plant_dotdot(&lab, &bare, "refs/heads/evil");
    lab.sh(&bare, "git branch -D mine; git update-server-info");
    // A listing is two requests.
    from.store(asked.load(Ordering::SeqCst) + 2, Ordering::SeqCst);
    let error = mirror.fetch(&server.remote()).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_DUMB_HTTP_REFUSED", "{}", error.stderr());
    assert!(contents(&mirror) == before, "the mirror has changed");
    from.store(usize::MAX, Ordering::SeqCst);
    let error = mirror.fetch(&server.remote()).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_OBJECTS_REFUSED", "{}", error.stderr());
    lab.sh(&bare, "git update-ref -d refs/heads/evil; git branch good main");
    assert_eq!(mirror.fetch(&server.remote()).await.unwrap().branches, 2);
    assert!(mirror.branches().await.unwrap().items.iter().any(|b| b.name == branch("good")));
}

#[tokio::test]
async fn a_server_that_sends_a_byte_a_second_or_nothing_or_never_ends_is_given_up_at_the_limit() {
    let lab = Lab::new().await;
    let slow = Server::start(|request, out| {
        server::head(out, request)?;
        server::drip(out, server::capabilities("").as_bytes())
    });
    let silent = Server::start(|_, out| out.read(&mut [0]).map(drop));
    // It shows that it is alive, and never begins to send objects.
    let endless = Server::start(|request, out| {
        if request.target.contains("info/refs") || request.asks_for_refs() {
            return server::answer(request, out, &server::one_branch(COMMIT), b"");
        }
        server::head(out, request)?;
        out.write_all(server::line("packfile\n").as_bytes())?;
        loop {
            out.write_all(server::line(&format!("\u{2}{}\n", "working ".repeat(100))).as_bytes())?;
        }
    });
    for (what, server) in [("slow", slow), ("silent", silent), ("endless", endless)] {
        let error = refused(&lab, &server, brief()).await;
        assert_eq!((error.kind(), error.reason()), (GitErrorKind::Timeout, "GIT_TIMEOUT"), "{what}");
        assert!(error.stderr().len() <= 8 << 10, "{what}");
    }
}

#[tokio::test]
async fn an_endless_list_and_a_million_branches_are_refused_within_the_memory_of_a_list() {
    let lab = Lab::new().await;
    let endless_v2 = Server::start(|request, out| {
        if request.target.contains("info/refs") {
            return server::answer(request, out, "", b"");
        }
        server::head(out, request)?;
        for n in 0_u64.. {
            out.write_all(server::line(&format!("{COMMIT} refs/heads/{n:0>200}\n")).as_bytes())?;
        }
        Ok(())
    });
    let endless_v0 = Server::start(|request, out| {
        server::head(out, request)?;
        out.write_all(format!("{}0000", server::line("# service=git-upload-pack\n")).as_bytes())?;
        out.write_all(server::line(&format!("{COMMIT} HEAD\0 side-band-64k agent=git/evil\n")).as_bytes())?;
        for n in 0_u64.. {
            out.write_all(server::line(&format!("{COMMIT} refs/heads/{n:0>200}\n")).as_bytes())?;
        }
        Ok(())
    });
    let limits = MirrorLimits { list_memory: 48 << 20, ..MirrorLimits::default() };
    for (what, server) in [("protocol 2", endless_v2), ("protocol 0", endless_v0)] {
        let error = refused(&lab, &server, limits).await;
        assert_eq!(error.reason(), "GIT_TOO_LARGE", "{what}: {}", error.stderr());
    }
    let refs: String = (0..1_000_000).map(|n| server::line(&format!("{COMMIT} refs/heads/b{n}\n"))).collect();
    let million = Server::start(move |request, out| server::answer(request, out, &refs, b""));
    let error = refused(&lab, &million, MirrorLimits::default()).await;
    assert_eq!((error.kind(), error.reason()), (GitErrorKind::TooLarge, "GIT_TOO_LARGE"));
}

/// A server with one branch that answers every fetch with this pack.
fn sending(pack: Vec<u8>) -> Server {
    let fetched = server::packfile(&pack);
    Server::start(move |request, out| server::answer(request, out, &server::one_branch(COMMIT), &fetched))
}

#[tokio::test]
async fn packs_of_few_bytes_that_stand_for_very_many_are_refused_within_the_memory_of_a_fetch() {
    let lab = Lab::new().await;
    let limits = MirrorLimits { fetch_memory: 192 << 20, ..MirrorLimits::default() };
    for (what, pack) in [
        ("a large file", pack::large_file(300 << 20)),
        ("a file that is said to be large", pack::claimed_file(500 << 20)),
        ("a delta that repeats its base", pack::deltas(8_000, 1)),
        ("deltas of deltas", pack::deltas(64, 3)),
    ] {
        assert!(pack.len() < 1 << 20, "{what} is {} bytes", pack.len());
        let error = refused(&lab, &sending(pack), limits).await;
        assert_eq!(error.reason(), "GIT_TOO_LARGE", "{what}: {}", error.stderr());
    }
}

#[tokio::test]
async fn a_pack_without_end_is_refused_at_the_size_that_the_mirror_may_still_grow_by() {
    let lab = Lab::new().await;
    let root = served(&lab);
    let evil = Arc::new(AtomicUsize::new(0));
    let is_evil = Arc::clone(&evil);
    let server = Server::start(move |request, out| {
        if is_evil.load(Ordering::SeqCst) == 0 {
            return server::honest(&root, request, out);
        }
        if request.target.contains("info/refs") || request.asks_for_refs() {
            return server::answer(request, out, &server::one_branch(COMMIT), b"");
        }
        server::head(out, request)?;
        let ready = [server::line("acknowledgments\n"), server::line("ready\n"), "0001".to_owned()];
        out.write_all(ready.concat().as_bytes())?;
        out.write_all(server::line("packfile\n").as_bytes())?;
        let many = [b"PACK", &2_u32.to_be_bytes()[..], &20_000_u32.to_be_bytes()].concat();
        out.write_all(&server::packfile(&many)[13..many.len() + 18])?;
        let noise: Vec<u8> = (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let file = pack::stored_file(&noise);
        loop {
            out.write_all(&[format!("{:04x}\u{1}", file.len() + 5).as_bytes(), &file].concat())?;
        }
    });
    let limits = MirrorLimits { max_bytes: 20 << 20, ..MirrorLimits::default() };
    let mirror = Mirror::create(&lab.git, lab.path("data/m"), &server.remote(), limits).await.unwrap();
    let before = contents(&mirror);
    evil.store(1, Ordering::SeqCst);
    let error = mirror.fetch(&server.remote()).await.unwrap_err();
    assert_eq!(error.reason(), "GIT_TOO_LARGE", "{}", error.stderr());
    assert!(contents(&mirror) == before, "the mirror has changed, or something is left");
    evil.store(0, Ordering::SeqCst);
    mirror.fetch(&server.remote()).await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_followed_nowhere_at_any_request() {
    let lab = Lab::new().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for to in [
        format!("http://127.0.0.1:{port}/r.git"),
        format!("http://localhost:{port}/r.git"),
        format!("ftp://127.0.0.1:{port}/r.git"),
        format!("file://{}", lab.real().display()),
        "http://169.254.169.254/latest/r.git".to_owned(),
    ] {
        for (code, first) in [(301, true), (302, false), (307, false), (308, true)] {
            let to = to.clone();
            let server = Server::start(move |request: &Request, out| {
                if request.target.contains("info/refs") && !first {
                    return server::answer(request, out, "", b"");
                }
                let rest = request.target.trim_start_matches("/r.git");
                write!(
                    out,
                    "HTTP/1.1 {code} Moved\r\nLocation: {to}{rest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            });
            let error = refused(&lab, &server, brief()).await;
            assert_eq!(error.reason(), "GIT_REDIRECT_REFUSED", "{code} {}", error.stderr());
        }
    }
    assert!(elsewhere.accept().is_err(), "a redirect was followed");
}

#[tokio::test]
async fn answers_that_break_the_protocol_are_typed_errors_at_once() {
    let lab = Lab::new().await;
    let raw = |text: &'static str| Server::start(move |_, out| out.write_all(text.as_bytes()));
    let ls = |refs: &'static str| Server::start(move |request, out| server::answer(request, out, refs, b""));
    let advertised = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n";
    let headed = |rest: &'static str| {
        let text = format!("{advertised}{rest}");
        Server::start(move |_, out| out.write_all(text.as_bytes()))
    };
    for (what, server) in [
        ("nothing", raw("")),
        ("no HTTP", raw("\0\u{1}\u{2} rubbish\r\n\r\n")),
        (
            "a length that is too long",
            headed("Content-Length: 9999999\r\n\r\n001e# service=git-upload-pack\n0000"),
        ),
        (
            "a length that is too short",
            headed("Content-Length: 10\r\n\r\n001e# service=git-upload-pack\n0000"),
        ),
        ("a negative length", headed("Content-Length: -1\r\n\r\n")),
        ("two lengths", headed("Content-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg")),
        ("no lines", headed("Connection: close\r\n\r\nrubbish")),
        ("a line of no length", headed("Connection: close\r\n\r\n001e# service=git-upload-pack\n0000zzzz")),
        (
            "a line that breaks off",
            headed("Connection: close\r\n\r\n001e# service=git-upload-pack\n0000fff0x"),
        ),
        ("an error", ls("0012ERR go away\n")),
        ("a ref without an id", ls("0015refs/heads/main\n")),
        ("an id of no length", ls("0016111 refs/heads/x\n")),
        ("a failure", raw("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
        ("a body that is no gzip", headed("Content-Encoding: gzip\r\nConnection: close\r\n\r\nrubbish")),
        ("broken chunks", headed("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx")),
    ] {
        let error = refused(&lab, &server, brief()).await;
        assert_ne!(error.kind(), GitErrorKind::Timeout, "{what}: {}", error.stderr());
        assert!(!error.message().contains(lab.path("").to_str().unwrap()), "{what}: {}", error.message());
    }
}

#[tokio::test]
async fn other_places_that_a_server_offers_for_its_objects_are_not_asked() {
    let lab = Lab::new().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let place = format!("http://{}/x", elsewhere.local_addr().unwrap());
    let server = Server::start(move |request, out| {
        server::head(out, request)?;
        if request.target.contains("info/refs") {
            return out.write_all(server::capabilities("bundle-uri").as_bytes());
        }
        if request.asks_for_refs() {
            return out.write_all(format!("{}0000", server::one_branch(COMMIT)).as_bytes());
        }
        if request.body.windows(10).any(|at| at == b"bundle-uri") {
            let lines =
                ["bundle.version=1", "bundle.mode=all", &format!("bundle.x.uri={place}")].map(server::line);
            return out.write_all(format!("{}0000", lines.concat()).as_bytes());
        }
        let uris = server::line(&format!("{COMMIT} {place}\n"));
        out.write_all(format!("{}{uris}0001", server::line("packfile-uris\n")).as_bytes())?;
        out.write_all(&server::packfile(&pack::large_file(10)))
    });
    refused(&lab, &server, brief()).await;
    assert!(elsewhere.accept().is_err(), "another place was asked");
    assert!(server.targets().iter().all(|target| target.starts_with("/r.git/")), "{:?}", server.targets());
}

#[tokio::test]
async fn names_that_are_more_than_one_line_or_lead_elsewhere_are_not_taken() {
    let lab = Lab::new().await;
    let tip = lab.rev(&lab.real(), "main");
    let root = served(&lab);
    let names = [
        "x\n{id} refs/heads/forged",
        "../../config",
        "a/../b",
        "-x",
        "--upload-pack=x",
        "x.lock",
        "",
        "@{1}",
    ];
    let list: String = names
        .iter()
        .map(|name| server::line(&format!("{tip} refs/heads/{}\n", name.replace("{id}", tip.as_str()))))
        .collect();
    let list = format!("{}{list}", server::one_branch(tip.as_str()));
    let server = Server::start(move |request, out| match request.asks_for_refs() {
        true => server::answer(request, out, &list, b""),
        false => server::honest(&root, request, out),
    });
    let made = server.mirrored(&lab).await;
    // Git may refuse the whole list; what it takes has names that are branches.
    match made {
        Ok(mirror) => {
            let found = mirror.branches().await.unwrap();
            let found: Vec<_> = found.items.iter().map(|b| b.name.as_str().to_owned()).collect();
            assert_eq!(found, ["main"]);
        }
        Err(error) => assert_ne!(error.kind(), GitErrorKind::Timeout, "{}", error.stderr()),
    }
    assert!(!lab.path("data/config").exists() && !lab.path("config").exists());
}
