//! A listener short of room.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::{Probe, bounded, client, get, limits, prompt_drain, refused};
use bytes::Bytes;
use foundry_server::Standing;
use foundry_server::testing::TestServer;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{Connection, SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Far beyond the length of a test: no connection is closed for its silence.
const PATIENT: Duration = Duration::from_secs(3_600);

type Sender = SendRequest<Full<Bytes>>;
type Driver = Connection<TokioIo<TcpStream>, Full<Bytes>, TokioExecutor>;

/// A connection over HTTP/2 that is served as long as its driver is polled.
async fn connect(server: &TestServer) -> (Sender, Driver) {
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    handshake(TokioExecutor::new(), io).await.unwrap()
}

/// Calls `GetTask` on this very connection.
async fn call(server: &TestServer, sender: &mut Sender) {
    let message = get("echo").encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0][..], &length, &message].concat();
    let request = http::Request::post(format!("{}/foundry.task.v1.TaskService/GetTask", server.url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = bounded(sender.send_request(request)).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
}

async fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // Closed or reset: gone either way.
    let _ = bounded(stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn idle_strangers_make_room_for_others_longest_first() {
    let config = limits(|l| {
        l.connections = 2;
        l.header_timeout = PATIENT;
    });
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    // One that answers pings for as long as it likes, and one that has sent half a request.
    let (_quiet, driver) = connect(&server).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    let quiet = async {
        let _ = driver.await;
    };
    let mut newcomer = client(server.remote().unwrap());
    let (answer, ()) = bounded(async { tokio::join!(newcomer.get_task(get("echo")), quiet) }).await;
    answer.unwrap();
    // The next one takes the place of the other stranger, not of the caller with a credential.
    let mut last = client(server.remote().unwrap());
    bounded(last.get_task(get("echo"))).await.unwrap();
    is_closed(&mut half).await;
    assert_eq!(refused(&server, "connections"), 2);
}

#[tokio::test]
async fn a_connection_that_has_shown_a_credential_stays_although_it_is_idle() {
    let config = limits(|l| {
        l.connections = 2;
        l.header_timeout = PATIENT;
    });
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    let (mut known, driver) = connect(&server).await;
    let rest = async {
        call(&server, &mut known).await;
        for _ in 0..3 {
            // Each takes the place of the one before it.
            let mut stranger = TcpStream::connect(server.address).await.unwrap();
            stranger.write_all(b"PRI").await.unwrap();
            let (_other, other) = connect(&server).await;
            bounded(async {
                tokio::select! { () = is_closed(&mut stranger) => {}, _ = other => panic!("the newest") }
            })
            .await;
        }
        call(&server, &mut known).await;
    };
    tokio::select! {
        () = rest => {}
        _ = driver => panic!("the caller's connection was closed"),
    }
}

#[tokio::test]
async fn connections_that_have_shown_a_credential_do_not_count_for_their_address() {
    let config = limits(|l| {
        l.connections_per_loopback_address = 1;
        l.header_timeout = PATIENT;
    });
    let server = TestServer::start_with(Probe::default().service(), config, prompt_drain()).await.unwrap();
    let (mut one, driver) = connect(&server).await;
    let rest = async {
        call(&server, &mut one).await;
        let (mut other, driver) = connect(&server).await;
        bounded(async {
            tokio::select! { () = call(&server, &mut other) => {}, _ = driver => panic!("it was closed") }
        })
        .await;
        call(&server, &mut one).await;
    };
    tokio::select! {
        () = rest => {}
        _ = driver => panic!("the first connection was closed"),
    }
}

#[tokio::test]
async fn an_address_has_so_many_connections_of_strangers_and_another_has_its_own() {
    let probe = Probe::default();
    let config = limits(|l| {
        l.connections_per_loopback_address = 2;
        l.header_timeout = PATIENT;
    });
    let service = probe.service().standing_of(|_| Standing::Anonymous);
    let server = TestServer::start_with(service, config, prompt_drain()).await.unwrap();
    let (mut one, mut other) = (client(server.remote().unwrap()), client(server.remote().unwrap()));
    let rest = async {
        probe.entered().await;
        probe.entered().await;
        let mut third = TcpStream::connect(server.address).await.unwrap();
        is_closed(&mut third).await;
        assert_eq!(refused(&server, "connections_per_loopback_address"), 1);

        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0))).unwrap();
        let mut elsewhere = socket.connect(server.address).await.unwrap();
        elsewhere.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        bounded(elsewhere.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 415"), "{}", String::from_utf8_lossy(&answer));
        probe.release();
    };
    let calls = async { tokio::join!(one.get_task(get("hang")), other.get_task(get("hang")), rest) };
    let (first, second, ()) = bounded(calls).await;
    first.unwrap();
    second.unwrap();
    assert_eq!(refused(&server, "connections_per_loopback_address"), 1, "each address has its own");
}
