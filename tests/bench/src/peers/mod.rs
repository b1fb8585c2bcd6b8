//! Other systems that do part of the same work, in the same run: `make bench-peers` installs them. What is not installed
//! is named in the report and left out.

mod etcd;
mod nats;
mod restate;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use etcd::Etcd;
pub use nats::Nats;
pub use restate::Restate;
use tokio::net::TcpStream;

use crate::report::Report;
use crate::world::settle;

/// Longest wait until a peer accepts connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// The peers that are installed, running.
#[derive(Default)]
pub struct Peers {
    /// A key-value store with watches.
    pub etcd: Option<Etcd>,
    /// A message broker.
    pub nats: Option<Nats>,
    /// A server for durable execution.
    pub restate: Option<Restate>,
}

impl Peers {
    /// Starts what is installed: in the PATH, or below `directory` (Restate).
    pub async fn start(directory: &Path, report: &mut Report) -> Self {
        let etcd = started("etcd", Etcd::start().await, report);
        let nats = started("nats", Nats::start().await, report);
        let restate = started("restate", Restate::start(directory).await, report);
        Self { etcd, nats, restate }
    }
}

fn started<T>(name: &str, peer: Result<(T, String), String>, report: &mut Report) -> Option<T> {
    let (peer, text) = match peer {
        Ok((peer, version)) => (Some(peer), version),
        Err(why) => (None, why),
    };
    println!("{name}: {text}");
    report.result.programs.insert(name.to_owned(), text);
    peer
}

/// A running program; it is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().map(Self).map_err(|e| format!("{program}: {e}"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until the program accepts connections.
    async fn listens(&mut self, port: u16) -> Result<(), String> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("ended while starting: {status}"));
            }
            if begun.elapsed() > PATIENCE {
                return Err("does not listen".to_owned());
            }
            settle(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program in the PATH.
fn in_path(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian installs servers where the PATH of users does not lead.
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("not installed ({program}): make bench-peers"))
}

/// The first line that a program prints about its version.
fn version(program: &Path) -> Result<String, String> {
    let out = Command::new(program).arg("--version").output().map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().trim().to_owned())
}

/// Ports that are free now.
fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A directory that is removed with the peer.
fn directory() -> Result<tempfile::TempDir, String> {
    tempfile::Builder::new().prefix("foundry-peer").tempdir().map_err(|e| e.to_string())
}
