//! A client of the runtime, written against the wire types alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use foundry_core::Env;
use foundry_sandbox::RuntimeKey;
use foundry_sandbox::key::{nonce, same};
use foundry_sandbox::wire::{Greeting, Hello, Problem, SCHEME, VERSION};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

#[derive(Clone, Debug)]
pub enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Place {
    pub async fn connect(&self) -> Box<dyn Stream> {
        match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await.unwrap()),
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await.unwrap()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Caller {
    pub place: Place,
    pub authorization: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    #[track_caller]
    pub fn ok<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub fn raw(&self) -> &[u8] {
        assert!(self.status.is_success(), "{} {}", self.status, String::from_utf8_lossy(&self.body));
        &self.body
    }

    /// Status, type and detail of a failure.
    #[track_caller]
    pub fn problem(&self) -> (u16, String, String) {
        assert!(!self.status.is_success(), "{}", String::from_utf8_lossy(&self.body));
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        (self.status.as_u16(), problem.r#type, problem.detail)
    }

    #[track_caller]
    pub fn is(&self, status: u16, kind: &str) -> String {
        let (found, name, detail) = self.problem();
        assert_eq!((found, name.as_str()), (status, kind), "{detail}");
        detail
    }

    #[track_caller]
    pub fn number(&self, header: &str) -> u64 {
        self.headers[header].to_str().unwrap().parse().unwrap()
    }
}

impl Caller {
    /// Says hello and checks the runtime's proof.
    pub async fn greet(place: Place, key: &RuntimeKey) -> Self {
        let number = nonce(&Env::system());
        let hello = Self::hello(&place, &number).await;
        assert!(
            same(&hello.proof, &key.runtime_proof(&number, &hello.nonce)),
            "the proof does not fit the key"
        );
        assert_eq!(hello.version, VERSION);
        let proof = key.client_proof(&number, &hello.nonce);
        Self { place, authorization: format!("{SCHEME} {number}.{proof}") }
    }

    pub async fn hello(place: &Place, number: &str) -> Hello {
        let caller = Self { place: place.clone(), authorization: String::new() };
        caller.post("/v1/hello", &Greeting { nonce: number.to_owned() }).await.ok()
    }

    pub async fn call(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let stream = self.place.connect().await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut request = Request::builder().method(method).uri(path).header("host", "sandbox");
        if !self.authorization.is_empty() {
            request = request.header("authorization", &self.authorization);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: head.status, headers: head.headers, body }
        };
        let mut answer = std::pin::pin!(answer);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut answer => answer,
            end = &mut connection => {
                // The response may have arrived before the connection closed.
                end.unwrap();
                answer.await
            }
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Bytes::new()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        self.call("POST", path, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn put(&self, path: &str, body: &impl Serialize) -> Answer {
        self.call("PUT", path, serde_json::to_vec(body).unwrap()).await
    }

    pub async fn tell(&self, acp: &str, message: &Value) -> Answer {
        self.post(&format!("/v1/agents/{acp}/messages"), message).await
    }
}
