use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use foundry_core::Env;
use foundry_sandbox::RuntimeKey;
use foundry_sandbox::key::{nonce, same};
use foundry_sandbox::wire::SCHEME;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::caller::{Caller, Place};
use crate::world::{Options, World, eventually};

#[tokio::test]
async fn both_sides_prove_the_key_over_a_unix_socket_and_over_tcp() {
    for tcp in [false, true] {
        let world = World::with(Options { tcp, ..Options::default() });
        let caller = world.caller().await;
        let health: Value = caller.get("/v1/health").await.ok();
        assert_eq!(health, json!({"status": "ok", "instance": "run1", "sandbox": world.sandbox}));
        let number = nonce(&Env::system());
        let (one, other) =
            (Caller::hello(&world.place, &number).await, Caller::hello(&world.place, &number).await);
        assert_ne!(one.nonce, other.nonce, "a number is used once");
    }
}

#[tokio::test]
async fn refuses_every_route_without_a_proof_of_the_key() {
    let world = World::new();
    let number = nonce(&Env::system());
    let hello = Caller::hello(&world.place, &number).await;
    let other = RuntimeKey::generate(&Env::system());
    let unwritten = std::env::temp_dir().join(format!("foundry-hello-{}", std::process::id()));
    let file = format!("/v1/files?path={}", unwritten.display());
    let routes = [
        ("GET", "/v1/health"),
        ("GET", "/v1/agents"),
        ("PUT", "/v1/agents/agt_1"),
        ("DELETE", "/v1/agents/agt_1"),
        ("POST", "/v1/agents/agt_1/messages"),
        ("GET", "/v1/logs/agt_1"),
        ("POST", "/v1/exec"),
        ("GET", "/v1/processes"),
        ("GET", file.as_str()),
        ("PUT", file.as_str()),
        ("POST", "/v1/terminals"),
        ("GET", "/v1/terminals/t1/output"),
        ("GET", "/nothing"),
    ];
    for authorization in [
        String::new(),
        // Visible to anyone: the runtime's proof.
        format!("{SCHEME} {number}.{}", hello.proof),
        format!("{SCHEME} {number}.{}", other.client_proof(&number, &hello.nonce)),
        format!("{SCHEME} {}.{}", hello.nonce, world.key.client_proof(&number, &hello.nonce)),
        format!("Bearer {}", world.key.expose()),
    ] {
        let caller = Caller { place: world.place.clone(), authorization };
        for (method, path) in routes {
            caller.call(method, path, "{}").await.is(401, "unauthenticated");
        }
    }
    let nobody = Caller { place: world.place.clone(), authorization: String::new() };
    nobody.post("/v1/hello", &json!({"nonce": "short"})).await.is(400, "invalid");
    nobody.call("POST", "/v1/hello", "x".repeat(2_000)).await.is(413, "too_large");
    let caller = world.caller().await;
    caller.get("/nothing").await.is(404, "not_found");
    assert!(!unwritten.exists());
}

#[tokio::test]
async fn a_stranger_in_its_place_cannot_prove_the_key() {
    let world = World::new();
    let ours = RuntimeKey::generate(&Env::system());
    let number = nonce(&Env::system());
    let hello = Caller::hello(&world.place, &number).await;
    assert!(!same(&hello.proof, &ours.runtime_proof(&number, &hello.nonce)));
    // A relayed proof covers the nonces in one order only.
    assert!(!same(&hello.proof, &world.key.runtime_proof(&hello.nonce, &number)));
}

#[tokio::test]
async fn closes_a_connection_with_an_endless_head() {
    let world = World::new();
    let mut stream = world.place.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let endless = vec![b'x'; 1 << 16];
    // The runtime may close before all is written.
    while stream.write_all(&endless).await.is_ok() {}
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains(" 200 "));
    world.caller().await.get("/v1/health").await.ok::<Value>();
}

#[tokio::test]
async fn binds_a_tcp_port_or_a_unix_path_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let key = RuntimeKey::generate(&Env::system());
    let socket = dir.path().join("socket");
    for listen in ["tcp:127.0.0.1:0".to_owned(), format!("unix:{}", socket.display())] {
        let mut runtime = std::process::Command::new(env!("CARGO_BIN_EXE_foundry-runtime"))
            .args(["internal", "runtime", "--listen", &listen])
            .env("HOME", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let start = json!({"key": key, "sandbox": "sbx-1", "instance": "run1", "isolated": false});
        writeln!(runtime.stdin.take().unwrap(), "{start}").unwrap();
        let place = if listen.starts_with("tcp") {
            let mut said = String::new();
            BufReader::new(runtime.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
            Place::Tcp(said.trim().strip_prefix("listening on tcp:").unwrap().parse().unwrap())
        } else {
            eventually("it listens", async || UnixStream::connect(&socket).await.ok()).await;
            Place::Unix(socket.clone())
        };
        let caller = Caller::greet(place, &key).await;
        caller.get("/v1/health").await.ok::<Value>();
        runtime.kill().unwrap();
        runtime.wait().unwrap();
    }
}

#[test]
fn does_not_start_without_a_listener_and_a_valid_key() {
    let start = |listen: &str, line: &str| {
        let mut runtime = std::process::Command::new(env!("CARGO_BIN_EXE_foundry-runtime"))
            .args(["internal", "runtime", "--listen", listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may exit before it reads.
        let _ = writeln!(runtime.stdin.take().unwrap(), "{line}");
        let output = runtime.wait_with_output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("5ecre7"));
        output.status.code()
    };
    let line = r#"{"key":"5ecre7","sandbox":"sbx-1","instance":"run1","isolated":false}"#;
    assert_eq!(start("inherited", line), Some(70), "standard output is a pipe");
    assert_eq!(start("tcp:127.0.0.1:0", line), Some(70), "the key is too short");
    assert_eq!(start("tcp:127.0.0.1:0", "{\"key\":5ecre7"), Some(70));
    assert_eq!(start("nowhere", line), Some(70));
}
