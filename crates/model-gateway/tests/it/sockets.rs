//! The gateway behind real sockets.

// Clippy's exception for tests does not reach what the tests share.
use crate::support::{Reply, Setup, TOKEN, post, within};
use bytes::Bytes;
use foundry_core::Env;
use foundry_model_gateway::{Gateway, Kind, Listener, SandboxProof, Settings};
use foundry_sandbox::RuntimeKey;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const CALL: &str = r#"{"model":"claude-x","stream":true}"#;

fn raw(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {TOKEN}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

async fn read_until(io: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let (mut all, mut chunk) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&all).contains(end) {
        let n = within(io.read(&mut chunk)).await.unwrap();
        assert!(n > 0, "ended after {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn passes_each_event_on_as_it_comes_over_a_unix_socket() {
    let t = Setup::new(Kind::Anthropic).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sock");
    t.gateway.serve(Listener::Unix(UnixListener::bind(&path).unwrap()));
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let mut agent = UnixStream::connect(&path).await.unwrap();
    agent.write_all(raw(CALL).as_bytes()).await.unwrap();
    read_until(&mut agent, "\r\n\r\n").await;
    for n in 0..3 {
        // Sent only after the one before was read: nothing may be held back.
        let event = format!("event: ping\ndata: {n}\n\n");
        stream.send(&event);
        read_until(&mut agent, &event).await;
    }
}

#[tokio::test]
async fn ends_the_call_to_the_provider_when_the_agent_leaves_before_the_answer_and_within_it() {
    let t = Setup::new(Kind::Anthropic).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    t.gateway.serve(Listener::Tcp(listener));
    for begun in [false, true] {
        let (stream, reply) = Reply::stream();
        let (_nothing, silent) = Reply::silent();
        t.upstream.will(if begun { reply } else { silent });
        let mut agent = TcpStream::connect(address).await.unwrap();
        agent.write_all(raw(CALL).as_bytes()).await.unwrap();
        let received = t.upstream.received().await;
        if begun {
            stream.send("event: ping\ndata: 1\n\n");
            read_until(&mut agent, "data: 1").await;
        }
        drop(agent);
        // Immediate in principle; a busy machine gets more time.
        within(received.closed).await.unwrap();
    }
}

#[tokio::test]
async fn counts_an_answer_in_one_piece_though_nobody_asks_for_more_than_its_length() {
    let t = Setup::new(Kind::Anthropic).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sock");
    t.gateway.serve(Listener::Unix(UnixListener::bind(&path).unwrap()));
    let answer = r#"{"model":"c","usage":{"input_tokens":3,"output_tokens":4}}"#;
    t.upstream.will(Reply::json(200, answer));
    let mut agent = UnixStream::connect(&path).await.unwrap();
    agent.write_all(raw(r#"{"model":"c"}"#).as_bytes()).await.unwrap();
    read_until(&mut agent, answer).await;
    let used = t.ledger.next_usage().await;
    assert_eq!((used.input, used.output, used.complete), (3, 4, true));
    assert_eq!(t.ledger.next_condition().await.reason(), "MODEL_OK");
}

#[tokio::test]
async fn speaks_h2c_too() {
    let t = Setup::new(Kind::Anthropic).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    t.gateway.serve(Listener::Tcp(listener));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    t.tasks.spawn("client", async move { connection.await.unwrap() });
    t.upstream.will(Reply::json(200, "{\"ok\":1}"));
    let mut request: Request<Full<Bytes>> = post("/v1/messages", CALL);
    *request.uri_mut() = "http://gateway/v1/messages".parse().unwrap();
    let answer = within(sender.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "{\"ok\":1}");
}

#[tokio::test]
async fn stops_with_its_tasks_though_a_stream_never_ends() {
    let t = Setup::new(Kind::Anthropic).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    t.gateway.serve(Listener::Tcp(listener));
    let (stream, reply) = Reply::stream();
    t.upstream.will(reply);
    let mut agent = TcpStream::connect(address).await.unwrap();
    agent.write_all(raw(CALL).as_bytes()).await.unwrap();
    stream.send("event: ping\ndata: 1\n\n");
    read_until(&mut agent, "data: 1").await;
    t.tasks.cancellation().cancel();
    let mut rest = Vec::new();
    within(agent.read_to_end(&mut rest)).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n"), "a cut stream looks whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sandbox_that_holds_connections_open_leaves_room_for_others() {
    use std::io::BufRead as _;
    use std::os::unix::fs::PermissionsExt as _;
    const FLOOD: &str = "
import os, resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
os.setuid(64123)
kept = []
for _ in range(6000):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].settimeout(2)
    try:
        kept[-1].connect(sys.argv[1])
    except OSError:
        break
print('held', flush=True)
sys.stdin.read()
";
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: to be another user needs root");
        return;
    }
    let t = Setup::new(Kind::Anthropic).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sock");
    t.gateway.serve(Listener::Unix(UnixListener::bind(&path).unwrap()));
    for (path, mode) in [(dir.path(), 0o755), (path.as_path(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    // It has not proved its sandbox yet.
    let mut early = UnixStream::connect(&path).await.unwrap();
    let mut python = std::process::Command::new("python3");
    python.args(["-c", FLOOD]).arg(&path);
    let piped = std::process::Stdio::piped;
    let mut flood = python.stdin(piped()).stdout(piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufReader::new(flood.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let answer = r#"{"model":"c","usage":{"input_tokens":3,"output_tokens":4}}"#;
    t.upstream.will(Reply::json(200, answer));
    let served = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        // Refused for the moment while the flood fills the queue of the socket; forwarders try again too.
        let mut agent = loop {
            match UnixStream::connect(&path).await {
                Ok(agent) => break agent,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        agent.write_all(raw(r#"{"model":"c"}"#).as_bytes()).await.unwrap();
        read_until(&mut agent, answer).await
    });
    let mut served = served.await.map(drop);
    if served.is_ok() {
        t.upstream.will(Reply::json(200, answer));
        served = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            early.write_all(raw(r#"{"model":"c"}"#).as_bytes()).await.unwrap();
            read_until(&mut early, answer).await;
        })
        .await;
    }
    drop(flood.stdin.take());
    flood.wait().unwrap();
    assert!(served.is_ok(), "the other one waits");
}

#[tokio::test]
async fn neither_silent_connections_nor_those_of_another_sandbox_keep_a_call_out() {
    let t = Setup::new(Kind::Anthropic).await;
    let settings = Settings { connections: 8, ..Settings::default() };
    let client = foundry_http_client::local_client().build().unwrap();
    let gateway = Gateway::new(t.ledger.clone(), client, settings, Env::system(), t.tasks.clone());
    let key = RuntimeKey::generate(&Env::system());
    *t.ledger.runtime_key.lock().unwrap() = Some(key.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sock");
    gateway.serve(Listener::Unix(UnixListener::bind(&path).unwrap()));
    let call = |sandbox: &str| {
        let proof = SandboxProof::header_value(&key, sandbox, "run1", &"9".repeat(64));
        raw(CALL).replace("host: x", &format!("host: x\r\nx-foundry-sandbox: {proof}"))
    };
    let status = async |io: &mut UnixStream, sandbox: &str| -> String {
        io.write_all(call(sandbox).as_bytes()).await.unwrap();
        read_until(io, "\r\n").await.split(' ').nth(1).unwrap().to_owned()
    };
    // More than there is room for, none of which proves anything.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    let mut streams = Vec::new();
    let open = async |sandbox: &str| {
        let (stream, reply) = Reply::stream();
        t.upstream.will(reply);
        let mut io = UnixStream::connect(&path).await.unwrap();
        let status = status(&mut io, sandbox).await;
        (status, stream, io)
    };
    // Half of the room for one sandbox, and half of the rest for the next.
    for (sandbox, most) in [("sbx_1", 4), ("sbx_3", 2)] {
        for _ in 0..most {
            let (status, stream, io) = open(sandbox).await;
            assert_eq!(status, "200", "{sandbox}");
            streams.push((stream, io));
        }
        let (status, ..) = open(sandbox).await;
        assert_eq!(status, "503", "{sandbox} has as many as it may");
    }
    drop(streams);
    // The gateway sees the ends of connections one after the other.
    within(async { while open("sbx_1").await.0 != "200" {} }).await;
}

#[tokio::test]
async fn a_gateway_without_a_call_in_progress_ends_at_once() {
    let t = Setup::new(Kind::Anthropic).await;
    let (tasks, _) = foundry_core::Tasks::new();
    let settings = Settings { drain: std::time::Duration::from_secs(3600), ..Settings::default() };
    let client = foundry_http_client::local_client().build().unwrap();
    let gateway = Gateway::new(t.ledger.clone(), client, settings, Env::system(), tasks.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.sock");
    gateway.serve(Listener::Unix(UnixListener::bind(&path).unwrap()));
    let known = gateway.downgrade();
    drop(gateway);
    // An agent that keeps its connection open.
    let mut io = UnixStream::connect(&path).await.unwrap();
    t.upstream.will(Reply::json(200, "{}"));
    io.write_all(raw(CALL).as_bytes()).await.unwrap();
    read_until(&mut io, "{}").await;
    let ended = tasks.shutdown(std::time::Duration::from_secs(20)).await;
    assert!(ended, "left: {:?}", tasks.names());
    known.let_go("a provider of a gateway that has ended");
}
