//! `internal runtime`: start, main loop and shutdown.

use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_sandbox::RuntimeKey;
use foundry_sandbox::wire::Start;
use rustix::net::{AddressFamily, SocketAddrAny};
use rustix::process::DumpableBehavior;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use crate::forward::Forwarder;
use crate::git_settings;
use crate::program::Places;
use crate::routes::Runtime;
use crate::say::say;
use crate::serve::Listener;
use crate::way_out::WayOut;

/// Longest first line, in bytes.
const MAX_START: u64 = 64 << 10;
/// Threads for work that blocks: reading files, opening logs.
const MAX_BLOCKING: usize = 8;
/// Threads are kept for ever: where processes are limited, a new one might be refused.
const KEEP_THREADS: Duration = Duration::from_secs(365 * 24 * 3_600);
/// Time for the remaining tasks at shutdown.
const LAST_TASKS: Duration = Duration::from_secs(6);

/// `internal runtime --listen inherited | unix:PATH | tcp:ADDRESS`. Exit code 0 after SIGTERM, 64 for wrong
/// arguments, 70 for a failure.
pub(crate) fn run(arguments: &[String]) -> i32 {
    let [flag, place] = arguments else { return 64 };
    if flag != "--listen" {
        return 64;
    }
    match start(place) {
        Ok(()) => 0,
        Err(e) => {
            say(&format!("it ended: {e}"));
            70
        }
    }
}

fn start(place: &str) -> io::Result<()> {
    // Processes of the same user can no longer trace this one, read its memory or open its descriptors.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let listener = Listening::at(place)?;
    let start = read_start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING)
        .thread_keep_alive(KEEP_THREADS)
        .build()?;
    // Agents are tied to the thread that starts them; all tasks run on this one.
    let outcome = runtime.block_on(async {
        // Starts a thread now: if the sandbox has no room for another one later, file work runs on this one.
        let _ = tokio::task::spawn_blocking(|| ()).await;
        serve(listener, start).await
    });
    runtime.shutdown_background();
    outcome
}

/// Reads the first line of standard input and replaces it by /dev/null.
fn read_start() -> io::Result<Start> {
    let mut line = String::new();
    io::stdin().lock().take(MAX_START).read_line(&mut line)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let start: Start = serde_json::from_str(&line).map_err(|e| {
        // The parser's message could quote the line, and with it the key.
        io::Error::other(format!("the first line of standard input is malformed at column {}", e.column()))
    })?;
    if RuntimeKey::parse(start.key.expose()).is_none() {
        return Err(io::Error::other("the key must be 64 hexadecimal digits"));
    }
    Ok(start)
}

/// A listener before the tokio runtime exists.
enum Listening {
    Unix(std::os::unix::net::UnixListener),
    Tcp(std::net::TcpListener),
}

impl Listening {
    fn at(place: &str) -> io::Result<Self> {
        if place == "inherited" {
            return Self::inherited();
        }
        if let Some(path) = place.strip_prefix("unix:") {
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            return Ok(Self::Unix(listener));
        }
        let address = place.strip_prefix("tcp:").and_then(|a| a.parse::<SocketAddr>().ok());
        let address = address.ok_or_else(|| io::Error::other(format!("it cannot listen at {place}")))?;
        let listener = std::net::TcpListener::bind(address)?;
        let mut out = io::stdout();
        writeln!(out, "listening on tcp:{}", listener.local_addr()?)?;
        out.flush()?;
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        Ok(Self::Tcp(listener))
    }

    /// The listener is standard output: adopting a descriptor by number needs unsafe code.
    fn inherited() -> io::Result<Self> {
        let fd: OwnedFd = io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        if !rustix::net::sockopt::socket_acceptconn(&fd)? {
            return Err(io::Error::other("standard output is not a listening socket"));
        }
        let address: SocketAddrAny = rustix::net::getsockname(&fd)?;
        match address.address_family() {
            AddressFamily::UNIX => Ok(Self::Unix(fd.into())),
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(fd.into())),
            other => {
                Err(io::Error::other(format!("it cannot listen on a socket of family {}", other.as_raw())))
            }
        }
    }

    fn ready(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(listener)?)
            }
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
        })
    }
}

async fn serve(listener: Listening, start: Start) -> io::Result<()> {
    let listener = listener.ready()?;
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let env = Env::system();
    let (tasks, mut failures) = Tasks::new();
    let forwarder = Forwarder::bind(&start, &env, &tasks).await?;
    let way_out = WayOut::bind(&start, &env, &tasks).await?;
    let places = places(&start, forwarder.as_ref())?;
    let runtime = Arc::new(Runtime::new(start, env, places, &tasks));
    let Runtime { start, places, files, .. } = &*runtime;
    if let Err(e) = git_settings::write(start, &places.home, places.model_url.as_deref(), files) {
        // All else works without them.
        say(&format!("the settings for git cannot be written: {}", e.detail));
    }
    let agents = Arc::clone(&runtime.agents);
    let calls = async {
        match forwarder {
            Some(forwarder) => forwarder.serve().await,
            None => std::future::pending().await,
        }
    };
    let outward = async {
        match way_out {
            Some(way_out) => way_out.serve().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        () = listener.serve(runtime, tasks.clone()) => Ok(()),
        () = calls => Ok(()),
        () = outward => Ok(()),
        _ = asked_to_end.recv() => Ok(()),
        Some(failure) = failures.recv() => {
            Err(io::Error::other(format!("its task {:?} panicked", failure.name)))
        }
    };
    // Connections end first, and with them commands and terminals, so that no new process is started.
    tasks.cancellation().cancel();
    agents.end_all().await;
    tasks.shutdown(LAST_TASKS).await;
    outcome
}

fn places(start: &Start, forwarder: Option<&Forwarder>) -> io::Result<Places> {
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|h| h.is_absolute());
    let home = home.ok_or_else(|| io::Error::other("HOME is not set to an absolute path"))?;
    let model_url = forwarder.map(|f| f.url().to_owned());
    Ok(Places { home, workspace: workspace(start)?, model_url })
}

/// The work tree: the first of the given directories, or else the current directory.
fn workspace(start: &Start) -> io::Result<PathBuf> {
    start.directories.first().cloned().map_or_else(std::env::current_dir, Ok)
}
