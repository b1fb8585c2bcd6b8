//! A HOME, a work tree and a runtime, without isolation.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::process::{Mark, ProcessRef, descendants, marked_tree};
use foundry_sandbox::wire::{Forward, INSTANCE_VARIABLE, Start};
use foundry_sandbox::{Presence, RuntimeKey, SandboxName};

use crate::caller::{Caller, Place};

/// Serves as the sandbox's user when the tests run as root.
pub const NOBODY: u32 = 65_534;

pub struct World {
    pub dir: tempfile::TempDir,
    pub sandbox: SandboxName,
    pub key: RuntimeKey,
    pub place: Place,
    pub runtime: Child,
    pub options: Options,
}

#[derive(Clone, Default)]
pub struct Options {
    /// Over TCP instead of a unix socket.
    pub tcp: bool,
    /// As another user than root.
    pub unprivileged: bool,
    /// A gateway for model calls.
    pub forward: Option<PathBuf>,
}

impl World {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::create_dir(dir.path().join("work")).unwrap();
        let sandbox: SandboxName = format!("rt-{}-{number}", std::process::id()).parse().unwrap();
        let key = RuntimeKey::generate(&Env::system());
        let (runtime, place) = start(dir.path(), &sandbox, "run1", &key, &options);
        Self { dir, sandbox, key, place, runtime, options }
    }

    /// Kills the runtime and starts another one.
    pub fn restart(&mut self, instance: &str) {
        self.kill();
        (self.runtime, self.place) =
            start(self.dir.path(), &self.sandbox, instance, &self.key, &self.options);
    }

    pub fn kill(&mut self) {
        self.runtime.kill().unwrap();
        self.runtime.wait().unwrap();
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub fn pid(&self) -> i32 {
        self.runtime.id().cast_signed()
    }

    pub async fn caller(&self) -> Caller {
        Caller::greet(self.place.clone(), &self.key).await
    }

    /// The processes of this sandbox whose command line holds this.
    pub fn running(&self, part: &str) -> Vec<ProcessRef> {
        let own = descendants(self.pid()).into_iter().chain(marked_tree(&Mark::of(&self.sandbox)));
        let mut found: Vec<ProcessRef> = own.filter(|p| command_line(p.pid).contains(part)).collect();
        found.sort_by_key(|p| p.pid);
        found.dedup();
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for process in descendants(self.pid()) {
            let _ = process.kill();
        }
        let _ = self.runtime.kill();
        let _ = self.runtime.wait();
        for process in marked_tree(&Mark::of(&self.sandbox)) {
            let _ = process.kill();
        }
    }
}

pub fn command_line(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn start(
    dir: &Path,
    sandbox: &SandboxName,
    instance: &str,
    key: &RuntimeKey,
    options: &Options,
) -> (Child, Place) {
    let (listener, place): (OwnedFd, Place) = if options.tcp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::Tcp(listener.local_addr().unwrap());
        (listener.into(), place)
    } else {
        let path = dir.join(format!("{instance}.sock"));
        (UnixListener::bind(&path).unwrap().into(), Place::Unix(path))
    };
    let mut program = PathBuf::from(env!("CARGO_BIN_EXE_foundry-runtime"));
    let (home, work) = (dir.join("home"), dir.join("work"));
    let mut command;
    if options.unprivileged && rustix::process::geteuid().is_root() {
        // Cargo's directory may be closed to another user.
        let copy = dir.join("foundry-runtime");
        fs::copy(&program, &copy).unwrap();
        program = copy;
        for path in [dir, &home, &work] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
    } else {
        command = Command::new(program);
    }
    let mut runtime = command
        // `kill 0` of a command must not reach the tests.
        .process_group(0)
        .args(["internal", "runtime", "--listen", "inherited"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", &home)
        .env(Mark::VARIABLE, sandbox.as_str())
        .env(INSTANCE_VARIABLE, instance)
        .current_dir(&work)
        .stdin(Stdio::piped())
        .stdout(listener)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let start = Start {
        key: key.clone(),
        sandbox: sandbox.clone(),
        instance: instance.to_owned(),
        isolated: false,
        directories: vec![work],
        forward: options.forward.clone().map(Forward::Socket),
        proxy: None,
        git: None,
    };
    let mut input = runtime.stdin.take().unwrap();
    serde_json::to_writer(&mut input, &start).unwrap();
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    (runtime, place)
}

/// Polls until `look` returns a value; panics after 20 s.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("never: {what}"))
}

pub async fn gone(what: &str, process: &ProcessRef) {
    eventually(what, async || (process.presence() != Presence::Running).then_some(())).await;
}
