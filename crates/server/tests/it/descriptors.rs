//! The accept loop without file descriptors. Alone in its process, since the limit is per process.

use crate::support::{Probe, bounded};
use foundry_server::testing::TestServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn the_listener_survives_running_out_of_file_descriptors() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: before.maximum }).unwrap();
    let server = TestServer::start(Probe::default().service()).await.unwrap();

    let mut hog: Vec<std::fs::File> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    // One descriptor for this side of the connection, none for the other.
    hog.pop();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    bounded(async {
        while !server.metrics.prometheus_text().contains("foundry_accept_failures_total") {
            tokio::task::yield_now().await;
        }
    })
    .await;

    drop(hog);
    let mut answer = Vec::new();
    bounded(stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 415"), "{}", String::from_utf8_lossy(&answer));
    setrlimit(Resource::Nofile, before).unwrap();
}
