use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use foundry_sandbox::key::same;
use foundry_sandbox::wire::{AgentStart, SANDBOX_HEADER};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener};
use tokio::sync::mpsc;

use crate::talk::{Talk, scripted};
use crate::world::{Options, World, eventually};

/// Requests that reached the test's gateway.
type Asked = Arc<Mutex<Vec<(HeaderMap, String, Bytes)>>>;
/// Body of a response; it ends when the sender is dropped.
type Frames = mpsc::Receiver<Result<Frame<Bytes>, Infallible>>;

/// Serves each call with the next body and reports the end of each connection.
async fn gateway(socket: &Path, asked: Asked, mut answers: mpsc::Receiver<Frames>, ended: mpsc::Sender<()>) {
    let listener = UnixListener::bind(socket).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let answers = &mut answers;
        let frames = Arc::new(Mutex::new(answers.recv().await));
        let service = service_fn(|request: Request<Incoming>| {
            let (asked, frames) = (Arc::clone(&asked), frames.lock().unwrap().take());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let target = format!("{} {}", head.method, head.uri);
                asked.lock().unwrap().push((head.headers, target, body));
                let frames = tokio_stream::wrappers::ReceiverStream::new(frames.unwrap());
                Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
            }
        });
        let served = hyper::server::conn::http1::Builder::new();
        let _ = served.serve_connection(TokioIo::new(stream), service).await;
        let _ = ended.send(()).await;
    }
}

/// Address of the forwarder, as an agent sees it.
async fn model_url(world: &World) -> String {
    let env = BTreeMap::from([("MODEL_URL".to_owned(), "${FOUNDRY_MODEL_URL}/v1".to_owned())]);
    let start = AgentStart { env, ..scripted("run1/1") };
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &start).await;
    let said = talk.says("m1", "env MODEL_URL").await;
    let url = said.strip_prefix("env Some(\"http://").unwrap().strip_suffix("/v1\")").unwrap();
    url.to_owned()
}

#[tokio::test]
async fn a_file_for_the_agent_holds_the_address_of_the_forwarder_where_it_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(Options { forward: Some(dir.path().join("model.sock")), ..Options::default() });
    let url = model_url(&world).await;
    let place = world.home().join(".agent/config.toml");
    let put = |more: &str| format!("/v1/files?path={}{more}", place.display());
    let text = "url = \"${FOUNDRY_MODEL_URL}/openai\"\nhome = \"${HOME}\"\n";
    let caller = world.caller().await;
    caller.call("PUT", &put("&mode=600&model_url"), text).await.raw();
    let filled = text.replace("${FOUNDRY_MODEL_URL}", &format!("http://{url}"));
    assert_eq!(std::fs::read_to_string(&place).unwrap(), filled);
    caller.call("PUT", &put(""), text).await.raw();
    assert_eq!(std::fs::read_to_string(&place).unwrap(), text, "files of people stay as they are");

    let without = World::new();
    let place = format!("/v1/files?path={}&model_url", without.home().join("f").display());
    let caller = without.caller().await;
    caller.call("PUT", &place, text).await.is(422, "start_failed");
    caller.call("PUT", &place, "none").await.raw();
}

async fn read_until(stream: &mut TcpStream, all: &mut Vec<u8>, part: &str) {
    while !String::from_utf8_lossy(all).contains(part) {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "ended before {part:?}: {}", String::from_utf8_lossy(all));
        all.extend_from_slice(&buffer[..read]);
    }
}

#[tokio::test]
async fn passes_a_call_on_with_the_proof_of_its_sandbox_and_streams_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("model.sock");
    let world = World::with(Options { forward: Some(socket.clone()), ..Options::default() });
    let url = model_url(&world).await;
    let asked = Asked::default();
    let (answers, queue) = mpsc::channel(1);
    let (ended, mut end) = mpsc::channel(1);
    let test = async {
        let mut stream = TcpStream::connect(&url).await.unwrap();
        let call = format!(
            "POST /v1/messages?beta=true HTTP/1.1\r\nHost: model\r\nX-Api-Key: dummy\r\n\
             {SANDBOX_HEADER}: forged\r\nContent-Length: 4\r\n\r\nwhat"
        );
        stream.write_all(call.as_bytes()).await.unwrap();
        let (frames, body) = mpsc::channel(1);
        answers.send(body).await.unwrap();
        let mut all = Vec::new();
        // Each part arrives before the next one is sent.
        for part in ["event: one\n\n", "event: two\n\n"] {
            frames.send(Ok(Frame::data(Bytes::from(part)))).await.unwrap();
            read_until(&mut stream, &mut all, part).await;
        }
        {
            let asked = asked.lock().unwrap();
            let (headers, target, body) = &asked[0];
            assert_eq!((target.as_str(), &body[..]), ("POST /v1/messages?beta=true", b"what".as_slice()));
            assert_eq!(
                (headers["x-api-key"].as_bytes(), headers["host"].as_bytes()),
                (&b"dummy"[..], &b"model"[..])
            );
            let proofs: Vec<_> = headers.get_all(SANDBOX_HEADER).iter().collect();
            let [proof] = proofs.as_slice() else { panic!("{proofs:?}") };
            let parts: Vec<&str> = proof.to_str().unwrap().split('.').collect();
            let [sandbox, instance, number, proof] = parts.as_slice() else { panic!("{parts:?}") };
            assert_eq!((*sandbox, *instance), (world.sandbox.as_str(), "run1"));
            assert!(same(proof, &world.key.model_proof(sandbox, instance, number)));
        }
        // The caller disconnects in the middle of the response: the call to the gateway ends.
        drop(stream);
        tokio::time::timeout(Duration::from_secs(10), end.recv()).await.unwrap().unwrap();
        drop(frames);
    };
    tokio::select! {
        () = gateway(&socket, Arc::clone(&asked), queue, ended) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn holds_a_call_until_the_gateway_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("model.sock");
    let world = World::with(Options { forward: Some(socket.clone()), ..Options::default() });
    let url = model_url(&world).await;
    let mut stream = TcpStream::connect(&url).await.unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut first = [0];
    let early = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut first)).await;
    assert!(early.is_err(), "answered without a gateway");
    let asked = Asked::default();
    let (answers, queue) = mpsc::channel(1);
    let (ended, _end) = mpsc::channel(9);
    let test = async {
        let (frames, body) = mpsc::channel(1);
        answers.send(body).await.unwrap();
        frames.send(Ok(Frame::data(Bytes::from("models")))).await.unwrap();
        drop(frames);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("models"), "{text}");
        eventually("it was asked", async || (asked.lock().unwrap().len() == 1).then_some(())).await;
    };
    tokio::select! {
        () = gateway(&socket, Arc::clone(&asked), queue, ended) => {}
        () = test => {}
    }
}

#[tokio::test]
async fn a_call_that_the_gateway_drops_is_answered_with_503() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("model.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let world = World::with(Options { forward: Some(socket), ..Options::default() });
    let url = model_url(&world).await;
    let mut stream = TcpStream::connect(&url).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n").await.unwrap();
    let (upstream, _) = listener.accept().await.unwrap();
    drop(upstream);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let text = String::from_utf8(all).unwrap();
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 5"), "{text}");
}
