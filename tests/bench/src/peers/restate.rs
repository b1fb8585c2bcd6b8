//! Restate: durable execution. Its server runs the handlers of `peers/restate.mjs`, a process of Node with Restate's own
//! SDK, which is part of what an invocation costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{PATIENCE, Process, directory, free_ports, version};
use crate::load::{Operation, operation};
use crate::world::settle;

/// Longest call; none of them takes a second.
const CALL: Duration = Duration::from_secs(30);

/// The server, and the process with the handlers.
pub struct Restate {
    server: Process,
    handlers: Process,
    ingress: String,
    _data: tempfile::TempDir,
}

impl Restate {
    /// Starts both and registers the handlers; returns them with the server's version.
    ///
    /// # Errors
    /// When they are not installed in this directory, or do not start.
    pub async fn start(directory_of_peers: &Path) -> Result<(Self, String), String> {
        let missing = || "not installed (restate-server): make bench-peers".to_owned();
        let program = server_below(directory_of_peers).ok_or_else(missing)?;
        let script = directory_of_peers.join("restate.mjs");
        let (data, [ingress, admin, node, handled]) = (directory()?, free_ports()?);
        let mut handlers = Process::start(
            Command::new("node").arg(&script).arg(handled.to_string()).env("RESTATE_LOGGING", "ERROR"),
        )?;
        handlers.listens(handled).await?;
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(&program);
        command.current_dir(data.path()).arg("--base-dir").arg(data.path()).args(["--node-name", "bench"]);
        command
            .env("RESTATE_LISTEN_MODE", "tcp")
            .env("RESTATE_BIND_ADDRESS", at(node))
            .env("RESTATE_ADVERTISED_ADDRESS", format!("http://{}", at(node)))
            .env("RESTATE_INGRESS__BIND_ADDRESS", at(ingress))
            .env("RESTATE_ADMIN__BIND_ADDRESS", at(admin))
            // Its best on two processors.
            .env("RESTATE_DEFAULT_NUM_PARTITIONS", "2")
            .env("RESTATE_LOG_FILTER", "error")
            .env("RESTATE_DISABLE_TELEMETRY", "true");
        let mut server = Process::start(&mut command)?;
        server.listens(ingress).await?;
        server.listens(admin).await?;
        register(&format!("http://{}/deployments", at(admin)), &format!("http://{}", at(handled))).await?;
        let restate = Self { server, handlers, ingress: format!("http://{}", at(ingress)), _data: data };
        // What does not work is left out, rather than measured.
        post(&client()?, &format!("{}/bench/seven", restate.ingress)).await?;
        Ok((restate, version(&program)?))
    }

    /// Process ids of the server and of the handlers.
    pub fn pids(&self) -> Vec<u32> {
        vec![self.server.pid(), self.handlers.pid()]
    }

    /// Clients that call a handler, or send to it (`.../send`), each on a connection of its own.
    pub fn calls(&self, path: &'static str) -> impl AsyncFn(usize) -> Vec<Operation> {
        let url = format!("{}/bench/{path}", self.ingress);
        async move |clients: usize| {
            let client = |_| {
                let (client, url) = (client().expect("a client"), url.clone());
                operation(move |_| {
                    let (client, url) = (client.clone(), url.clone());
                    async move { post(&client, &url).await }
                })
            };
            (0..clients).map(client).collect()
        }
    }
}

/// A client for plain HTTP, with connections of its own.
fn client() -> Result<reqwest::Client, String> {
    foundry_http_client::local_client().timeout(CALL).build().map_err(|e| e.to_string())
}

/// Posts nothing and waits for the whole answer.
async fn post(client: &reqwest::Client, url: &str) -> Result<(), String> {
    let answer = client.post(url).send().await.map_err(|e| e.to_string())?;
    let status = answer.status();
    let body = answer.text().await.map_err(|e| e.to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("{status}: {body}")) }
}

/// The server's own binary. The package's command is a script that waits for it, whose processor time says nothing.
fn server_below(directory: &Path) -> Option<PathBuf> {
    let packages = std::fs::read_dir(directory.join("node_modules/@restatedev")).ok()?;
    packages.flatten().map(|package| package.path().join("bin/restate-server")).find(|file| file.is_file())
}

/// Has the server discover the handlers.
async fn register(deployments: &str, handlers: &str) -> Result<(), String> {
    let client = client()?;
    let begun = Instant::now();
    loop {
        let answer = client.post(deployments).json(&json!({ "uri": handlers })).send().await;
        let why = match answer {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(e) => e.to_string(),
        };
        // It listens before it is ready.
        if begun.elapsed() > PATIENCE {
            return Err(format!("does not register the handlers: {why}"));
        }
        settle(Duration::from_millis(200)).await;
    }
}
