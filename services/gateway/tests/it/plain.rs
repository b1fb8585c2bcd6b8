//! HTTP/1.1 by hand, as browsers and forms send it.

use bytes::Bytes;
use foundry_core::Tasks;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::mesh::{Mesh, bounded};

/// A complete response.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The value of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// Sends a request to the host `localhost`.
pub async fn send(mesh: &Mesh, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
    send_as_it_is(mesh, request.header("host", "localhost"), body).await
}

/// Sends a request with its own `Host` header.
pub async fn send_as_it_is(mesh: &Mesh, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
    let stream = tokio::net::TcpStream::connect(mesh.gateway.address).await.unwrap();
    send_over(stream, request, body).await
}

/// Sends a request over a connection of the test's own.
pub async fn send_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Answer {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let (tasks, _) = Tasks::new();
    tasks.spawn("connection", async move {
        // A failure shows in the request.
        let _ = connection.await;
    });
    let request = request.body(Full::new(body.into())).unwrap();
    let answer = bounded(sender.send_request(request)).await.unwrap();
    let (parts, body) = answer.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: bounded(body.collect()).await.unwrap().to_bytes(),
    }
}
