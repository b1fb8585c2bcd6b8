//! An unreliable network: a proxy on loopback that cuts each connection after a random number of bytes, mostly inside a
//! frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::seeded_rng::SeededRng;

/// A proxy in front of one address; it stops when dropped.
pub struct FaultProxy {
    url: String,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    cuts: AtomicUsize,
}

impl FaultProxy {
    /// Starts a proxy in front of `http://host:port`. Each connection is cut after between half of `bytes` and all of
    /// them have gone to the client: in half of the cases by a reset, otherwise by an orderly end.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(target: &str, seed: u64, bytes: u64) -> Self {
        let target = target.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let shared = Arc::new(Shared::default());
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, target, Arc::clone(&shared), SeededRng::new(seed), bytes));
        Self { url, shared, _serving: serving }
    }

    /// URL of the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops cutting connections.
    pub fn stop_cutting(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
    }

    /// Number of connections that were cut.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, target: String, shared: Arc<Shared>, mut rng: SeededRng, bytes: u64) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let budget = bytes / 2 + rng.below(bytes / 2);
        let hard = rng.below(2) == 0;
        connections.spawn(carry(client, target.clone(), Arc::clone(&shared), budget, hard));
        while connections.try_join_next().is_some() {}
    }
}

/// Copies bytes both ways until one side ends or the budget is used up.
async fn carry(mut client: TcpStream, target: String, shared: Arc<Shared>, budget: u64, hard: bool) {
    let Ok(mut server) = TcpStream::connect(&target).await else { return };
    let cut = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let down = async {
            let (mut buffer, mut left) = (vec![0; 16 * 1024], budget);
            loop {
                let Ok(read @ 1..) = from_server.read(&mut buffer).await else { return false };
                let cut = left < read as u64 && !shared.stopped.load(Ordering::SeqCst);
                let passed = if cut { usize::try_from(left).unwrap_or(read) } else { read };
                if to_client.write_all(&buffer[..passed]).await.is_err() {
                    return false;
                }
                if cut {
                    return true;
                }
                left = left.saturating_sub(read as u64);
            }
        };
        tokio::select! {
            cut = down => cut,
            _ = tokio::io::copy(&mut from_client, &mut to_server) => false,
        }
    };
    if cut {
        shared.cuts.fetch_add(1, Ordering::SeqCst);
        if hard {
            // A reset: data that the client has not read yet is lost too.
            let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
        }
    }
}
